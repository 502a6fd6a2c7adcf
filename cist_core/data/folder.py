"""A folder of images, one subfolder a class, decoded only when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cist_core.data.collection import ONE_SET, Collection, DataDescription, Loaded
from cist_core.data.decoded import DecodedImages, content_digest
from cist_core.data.inside import Inside
from cist_core.data.names import SPLIT_NAMES, checked_class_names
from cist_core.errors import CistError
from cist_core.logits.class_order import ClassOrder, number_classes

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

    Classes are numbered over all splits by what their folders are called; see `number_classes`.
    """

    kind: ClassVar[str] = "image folder"

    def __init__(self, root: Path) -> None:
        self.path = root
        self._folders = split_folders(root) or {ONE_SET: root}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._folders)

    @cached_property
    def _classes(self) -> ClassOrder:
        """Raises CistError for fewer than two classes."""
        names: dict[str, None] = {}
        for root in self._folders.values():
            names |= dict.fromkeys(checked_class_names((folder.name for folder in _subfolders(root)), str(root)))
        if len(names) < 2:
            raise CistError(_too_few(self.path, len(names)))
        return number_classes(tuple(names), "folders")

    @property
    def class_order(self) -> str:
        return self._classes.sentence

    def describe(self) -> DataDescription:
        counts: dict[str, int | None] = {split: len(self._collect(split)[0]) for split in self.splits}
        return DataDescription(self.kind, counts, self._classes.count, self._classes.class_names, None)

    def read(self, split: str) -> Loaded:
        return *self._collect(split), self._classes.class_names

    def _collect(self, split: str) -> tuple[FolderImages, NDArray[np.int64]]:
        root, inside = self._folders[split], Inside(self.path)
        folders = sorted(_subfolders(root), key=lambda folder: self._classes.labels[folder.name])
        if not folders:
            raise CistError(_too_few(root, 0))
        paths: list[Path] = []
        labels: list[int] = []
        for folder in folders:
            found = _images(folder)
            for path in found:
                inside.check(path, where=str(root))
            paths += found
            labels += [self._classes.labels[folder.name]] * len(found)
        return FolderImages(root, tuple(paths)), np.array(labels, np.int64)


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of ``root`` that hold a split each; empty where it is one set.

    Folders called ``train`` or alike are splits where one of them holds folders; else they are classes of that name.
    """
    called = {folder: SPLIT_NAMES.get(folder.name.lower()) for folder in _subfolders(root)}
    splits = {split: folder for folder, split in called.items() if split is not None}
    return splits if any(map(_subfolders, splits.values())) else {}


def _too_few(root: Path, count: int) -> str:
    return f"Expected {root} to hold one subfolder of images per class, but it has {count} subfolder(s)."


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
