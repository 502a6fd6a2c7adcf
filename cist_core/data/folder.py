"""A folder of images, one subfolder a class, decoded only when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cist_core.data.collection import ONE_SET, Collection, DataDescription, Loaded
from cist_core.data.decoded import DecodedImages, content_digest
from cist_core.data.inside import Inside
from cist_core.data.names import SPLIT_NAMES, checked_class_names
from cist_core.errors import CistError

if TYPE_CHECKING:
    from hashlib import _Hash

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, eq=False)
class FolderImages(DecodedImages):
    """Image files.

    Attributes:
        root: for relative names in messages and in the digest.
        paths: one file per image.
    """

    root: Path
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, index: int) -> tuple[Path | bytes, str]:
        return self.paths[index], str(self.paths[index])

    def take(self, indices: NDArray[np.integer[Any]]) -> Self:
        return replace(self, paths=tuple(self.paths[index] for index in indices))

    def digest(self) -> _Hash:
        """SHA-256 over names and bytes of the files."""
        digest = hashlib.sha256(b"folder")
        for path in self.paths:
            digest.update(path.relative_to(self.root).as_posix().encode())
            digest.update(content_digest(path, str(path)))
        return digest


class ImageFolder(Collection):
    """``root/CLASS/*.png``, one set without splits; or ``root/SPLIT/CLASS/*.png`` with `SPLIT_NAMES`.

    Classes are numbered in the order of their names.
    """

    kind: ClassVar[str] = "image folder"

    def __init__(self, root: Path) -> None:
        self.path = root
        self._folders = split_folders(root) or {ONE_SET: root}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._folders)

    def describe(self) -> DataDescription:
        counts: dict[str, int | None] = {}
        names: tuple[str, ...] = ()
        for split in self.splits:
            images, _, found = self._collect(split)
            counts[split], names = len(images), names or found
        return DataDescription(self.kind, counts, len(names), names, None)

    def read(self, split: str) -> Loaded:
        return self._collect(split)

    def _collect(self, split: str) -> tuple[FolderImages, NDArray[np.int64], tuple[str, ...]]:
        root = self._folders[split]
        classes, inside = _subfolders(root), Inside(self.path)
        if len(classes) < 2:
            raise CistError(
                f"Expected {root} to hold one subfolder of images per class, but it has {len(classes)} subfolder(s)."
            )
        names = checked_class_names((folder.name for folder in classes), str(root))
        paths: list[Path] = []
        labels: list[int] = []
        for label, folder in enumerate(classes):
            found = _images(folder)
            for path in found:
                inside.check(path, where=str(root))
            paths += found
            labels += [label] * len(found)
        return FolderImages(root, tuple(paths)), np.array(labels, np.int64), names


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of ``root`` that hold a split each; empty where it is one set."""
    return {
        SPLIT_NAMES[folder.name.lower()]: folder for folder in _subfolders(root) if folder.name.lower() in SPLIT_NAMES
    }


def _images(folder: Path) -> Sequence[Path]:
    with _listing(folder):
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise CistError(f"{folder} holds no images ({', '.join(sorted(ENDINGS))}); add some or remove the folder.")
    return found


def _subfolders(root: Path) -> list[Path]:
    with _listing(root):
        return sorted(_visible(path for path in root.iterdir() if path.is_dir()))


def _visible(paths: Iterable[Path]) -> Iterable[Path]:
    return (path for path in paths if not path.name.startswith("."))


@contextmanager
def _listing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CistError(f"The folder {folder} cannot be listed ({error.strerror}); may it be read?") from error
