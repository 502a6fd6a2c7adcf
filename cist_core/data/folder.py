"""A folder of images, one subfolder a class, decoded only when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError

if TYPE_CHECKING:
    from hashlib import _Hash

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
DEFAULT_SIZE = 32


@dataclass(frozen=True)
class FolderImages:
    """Image files that are read, cropped and scaled when they are indexed.

    The shorter side is scaled to ``size`` (bilinear, antialiased), then the centre is cut out: photographs have no
    common size, so there is none that could be kept.

    Attributes:
        root: for relative names in messages and in the digest.
        paths: one file per image.
        size: height and width of what indexing returns, in pixels.
        channels: 3 (colour) or 1 (grey).
    """

    root: Path
    paths: tuple[Path, ...]
    size: int = DEFAULT_SIZE
    channels: int = 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.paths), self.size, self.size, self.channels)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: NDArray[np.integer[Any]] | slice) -> NDArray[np.uint8]:
        """``(len(indices), size, size, channels)`` uint8.

        Raises:
            CistError: naming the file that is not a readable image.
        """
        chosen = np.arange(len(self))[indices]
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for row, index in enumerate(chosen):
            out[row] = _decode(self.paths[index], self.size, self.channels)
        return out

    def at(self, size: int, channels: int) -> FolderImages:
        """The same files, read at another size or in another number of channels."""
        return replace(self, size=size, channels=channels)

    def take(self, indices: NDArray[np.integer[Any]]) -> FolderImages:
        """The files at the given positions."""
        return replace(self, paths=tuple(self.paths[index] for index in indices))

    def digest(self) -> _Hash:
        """SHA-256 over names and bytes of the files; the size they are read at is not part of it."""
        digest = hashlib.sha256(b"folder")
        for path in self.paths:
            digest.update(path.relative_to(self.root).as_posix().encode())
            try:
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise CistError(f"{path} cannot be read ({error.strerror}).") from error
        return digest


def find_images(root: Path, split: str) -> tuple[FolderImages, NDArray[np.int64], tuple[str, ...], str]:
    """Images, labels, class names and split of a folder.

    ``root/CLASS/*.png`` is one set without splits. ``root/test/CLASS/*.png``, ``root/train/...`` and
    ``root/validation/...`` (or ``val``) are splits, and ``split`` chooses among them. Classes are numbered in the
    order of their names.

    Raises:
        CistError: if the split or any class folder is missing, or a class folder holds no images.
    """
    splits = split_folders(root)
    if not splits:
        return *_collect(root, _subfolders(root)), "all"
    if split not in splits:
        raise CistError(f"{root} has no split '{split}'; it has: {', '.join(sorted(splits))}.")
    return *_collect(splits[split], _subfolders(splits[split])), split


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of ``root`` that hold a split each; empty where it is one set."""
    return {
        SPLIT_FOLDERS[folder.name.lower()]: folder
        for folder in _subfolders(root)
        if folder.name.lower() in SPLIT_FOLDERS
    }


def _collect(root: Path, classes: Sequence[Path]) -> tuple[FolderImages, NDArray[np.int64], tuple[str, ...]]:
    if len(classes) < 2:
        raise CistError(
            f"Expected {root} to hold one subfolder of images per class, but it has {len(classes)} subfolder(s)."
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
        if not found:
            raise CistError(f"{folder} holds no images ({', '.join(sorted(ENDINGS))}); add some or remove the folder.")
        paths += found
        labels += [label] * len(found)
    return FolderImages(root, tuple(paths)), np.array(labels, np.int64), tuple(folder.name for folder in classes)


def _subfolders(root: Path) -> list[Path]:
    return sorted(_visible(path for path in root.iterdir() if path.is_dir()))


def _visible(paths: Iterable[Path]) -> Iterable[Path]:
    return (path for path in paths if not path.name.startswith("."))


def _decode(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            # A palette with transparency has to pass through RGBA to keep its colours.
            image = upright.convert("RGBA") if "transparency" in upright.info else upright
            image = image.convert("L" if channels == 1 else "RGB")
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise CistError(f"{path} is not a readable image ({error}); replace or remove it.") from error
    return np.asarray(image, np.uint8).reshape(size, size, channels)
