"""Images and labels from a NumPy archive."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np

from cist_core.data.archives import ArrayHeader, npz_headers, read_npz
from cist_core.data.collection import ONE_SET, Collection, DataDescription, Loaded
from cist_core.data.names import checked_class_names
from cist_core.errors import CistError

IMAGES, LABELS, CLASSES = ("images", "x", "X", "data"), ("labels", "y", "Y", "label", "targets", "target"), "classes"
_PREFIXES = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}


class NpzArrays(Collection):
    """``images`` (uint8, ``(N, H, W, channels)`` or ``(N, H, W)``), ``labels`` and, if there are any, ``classes``.

    ``x`` or ``data`` and ``y`` or ``targets`` are read likewise. ``train_images`` with ``train_labels``, ``val_...``
    and ``test_...`` are splits, as MedMNIST has them; so are ``x_train`` with ``y_train`` and so on, as Keras has them.
    """

    kind: ClassVar[str] = "NumPy archive"

    def __init__(self, path: Path) -> None:
        """Raises CistError if the archive is damaged, holds pickled objects, or lacks an array."""
        self.path = path
        self._headers = npz_headers(path)
        self._pairs = _pairs(path, self._headers)
        for images, labels in self._pairs.values():
            _check(path, images, self._headers[images], labels, self._headers[labels])

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._pairs)

    def describe(self) -> DataDescription:
        names = self._class_names()
        counts: dict[str, int | None] = {split: self._headers[pair[0]].shape[0] for split, pair in self._pairs.items()}
        shapes = {self._image_shape(images) for images, _ in self._pairs.values()}
        return DataDescription(
            self.kind,
            counts,
            len(names) if names is not None else self._labelled_classes(),
            names,
            shapes.pop() if len(shapes) == 1 else None,
        )

    def _image_shape(self, name: str) -> tuple[int, int, int]:
        height, width, *channels = self._headers[name].shape[1:]
        return height, width, channels[0] if channels else 1

    def read(self, split: str) -> Loaded:
        pair = self._pairs[split]
        arrays = read_npz(self.path, pair)
        images, labels = arrays[pair[0]], arrays[pair[1]]
        return (
            images if images.ndim == 4 else images[..., None],
            labels.reshape(-1).astype(np.int64),
            self._class_names(),
        )

    def _class_names(self) -> tuple[str, ...] | None:
        if CLASSES not in self._headers:
            return None
        shape = self._headers[CLASSES].shape
        if len(shape) != 1:
            raise CistError(f"Expected `classes` in {self.path} to be a list of names, but its shape is {shape}.")
        return checked_class_names(read_npz(self.path, (CLASSES,))[CLASSES].tolist(), str(self.path))

    def _labelled_classes(self) -> int | None:
        labels = read_npz(self.path, [pair[1] for pair in self._pairs.values()]).values()
        return max((int(array.max()) + 1 for array in labels if array.size), default=None)


def _pairs(path: Path, there: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The names of images and labels of each split."""
    names = set(there)
    images, labels = _first(names, IMAGES), _first(names, LABELS)
    if images and labels:
        return {ONE_SET: (images, labels)}
    pairs = {}
    for split, prefixes in _PREFIXES.items():
        for prefix in prefixes:
            # MedMNIST: train_images, train_labels. Keras: x_train, y_train.
            images_of = _first(names, [f"{prefix}_{name}" for name in IMAGES] + [f"{name}_{prefix}" for name in IMAGES])
            labels_of = _first(names, [f"{prefix}_{name}" for name in LABELS] + [f"{name}_{prefix}" for name in LABELS])
            if images_of and labels_of:
                pairs[split] = (images_of, labels_of)
    if not pairs:
        missing = "labels" if images else "images"
        raise CistError(
            f"{path} holds the arrays {sorted(names)[:20]}, but not '{missing}'; save it with `{missing}=`."
        )
    return pairs


def _first(there: set[str], names: Iterable[str]) -> str | None:
    return next((name for name in names if name in there), None)


def _check(path: Path, images: str, pixels: ArrayHeader, labels: str, numbers: ArrayHeader) -> None:
    if pixels.dtype != np.uint8 or len(pixels.shape) not in (3, 4) or 0 in pixels.shape[1:]:
        raise CistError(
            f"Expected `{images}` in {path} to be uint8 of shape (N, H, W, channels) or (N, H, W), "
            f"but it is {pixels.dtype} of shape {pixels.shape}."
        )
    if len(pixels.shape) == 4 and pixels.shape[3] > 4 and pixels.shape[1] in (1, 3):
        raise CistError(
            f"Expected `{images}` in {path} to be of shape (N, H, W, channels), but it is {pixels.shape}, channels "
            "first; save images.transpose(0, 2, 3, 1)."
        )
    # A column of labels is a list of them; MedMNIST stores one.
    flat = numbers.shape[:1] if len(numbers.shape) == 2 and numbers.shape[1] == 1 else numbers.shape
    if numbers.dtype.kind not in "iu" or len(flat) != 1:
        raise CistError(
            f"Expected `{labels}` in {path} to be whole numbers of shape (N,), "
            f"but it is {numbers.dtype} of shape {numbers.shape}."
        )
