"""Images and labels from a NumPy archive."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.data.archives import ArrayHeader, npz_headers, read_npz
from cist_core.data.collection import ONE_SET, Collection, DataDescription, Loaded, naming
from cist_core.data.labelling import numbered, one_of
from cist_core.data.names import checked_class_names
from cist_core.errors import CistError
from cist_core.logits.class_order import ClassOrder
from cist_core.logits.files.names import LABEL_NAMES
from cist_core.logits.logit_set import label_numbers

IMAGES, CLASSES = ("images", "x", "data"), "classes"
_PREFIXES = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}


class NpzArrays(Collection):
    """``images`` (uint8, ``(N, H, W, channels)`` or ``(N, H, W)``), ``labels`` and, if there are any, ``classes``.

    ``x`` or ``data`` and ``y``, ``targets`` or another of `LABEL_NAMES` are read likewise. ``train_images`` with
    ``train_labels``, ``val_...`` and ``test_...`` are splits, as MedMNIST has them; so are ``x_train`` with ``y_train``
    and so on, as Keras has them. Labels are whole numbers, names or one-hot.
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

    @property
    def unused(self) -> tuple[str, ...]:
        used = {CLASSES, *(name for pair in self._pairs.values() for name in pair)}
        return tuple(name[:40] for name in self._headers if name not in used)

    @property
    def class_order(self) -> str | None:
        order = self._numbered[1]
        return None if order is None else order.sentence

    def describe(self) -> DataDescription:
        names = self._class_names()
        counts: dict[str, int | None] = {split: self._headers[pair[0]].shape[0] for split, pair in self._pairs.items()}
        shapes = {self._image_shape(images) for images, _ in self._pairs.values()}
        labels = self._numbered[0].values()
        return DataDescription(
            self.kind,
            counts,
            len(names)
            if names is not None
            else max((int(each.max()) + 1 for each in labels if each.size), default=None),
            names,
            shapes.pop() if len(shapes) == 1 else None,
        )

    def _image_shape(self, name: str) -> tuple[int, int, int]:
        height, width, *channels = self._headers[name].shape[1:]
        return height, width, channels[0] if channels else 1

    def read(self, split: str) -> Loaded:
        name = self._pairs[split][0]
        images = read_npz(self.path, (name,))[name]
        return images if images.ndim == 4 else images[..., None], self._numbered[0][split], self._class_names()

    @cached_property
    def _numbered(self) -> tuple[dict[str, NDArray[np.int64]], ClassOrder | None]:
        """The labels of each split by number, and the order of the classes where they are names without a list."""
        with naming(self.path, "an .npz archive"):
            arrays = read_npz(self.path, [pair[1] for pair in self._pairs.values()])
            raw = {split: arrays[labels] for split, (_, labels) in self._pairs.items()}
            if self._given_names() is not None or any(each.dtype.kind not in "US" for each in raw.values()):
                return {split: self._numbers(split, each) for split, each in raw.items()}, None
            words = [str(word) for each in raw.values() for word in each.reshape(-1).astype(str)]
            together, order = numbered(words, str(self.path))
            ends = np.cumsum([each.size for each in raw.values()])[:-1]
            return dict(zip(raw, np.split(together, ends), strict=True)), order

    def _numbers(self, split: str, labels: NDArray[Any]) -> NDArray[np.int64]:
        names, classes = self._given_names(), labels.shape[1] if labels.ndim == 2 else 0
        try:
            return label_numbers(labels, len(labels), len(names) if names is not None else classes, names)
        except CistError as error:
            raise CistError(f"`{self._pairs[split][1]}` in {self.path}: {error}") from error

    def _class_names(self) -> tuple[str, ...] | None:
        order = self._numbered[1]
        return self._given_names() if order is None else order.class_names

    def _given_names(self) -> tuple[str, ...] | None:
        if CLASSES not in self._headers:
            return None
        shape = self._headers[CLASSES].shape
        if len(shape) != 1:
            raise CistError(f"Expected `classes` in {self.path} to be a list of names, but its shape is {shape}.")
        return checked_class_names(read_npz(self.path, (CLASSES,))[CLASSES].tolist(), str(self.path))


def _pairs(path: Path, there: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The names of images and labels of each split."""
    names = list(there)
    images, labels = one_of(names, IMAGES), one_of(names, LABEL_NAMES)
    if images and labels:
        return {ONE_SET: (images, labels)}
    pairs = {}
    for split, prefixes in _PREFIXES.items():
        for prefix in prefixes:
            # MedMNIST: train_images, train_labels. Keras: x_train, y_train.
            images_of, labels_of = (
                one_of(names, [f"{prefix}_{name}" for name in wanted] + [f"{name}_{prefix}" for name in wanted])
                for wanted in (IMAGES, LABEL_NAMES)
            )
            if images_of and labels_of:
                pairs[split] = (images_of, labels_of)
    if not pairs:
        missing = "labels" if images else "images"
        raise CistError(
            f"{path} holds the arrays {sorted(names)[:20]}, but not '{missing}'; save it with `{missing}=`."
        )
    return pairs


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
    # A column of labels is a list of them, as MedMNIST stores one; rows are one-hot.
    rows = len(numbers.shape) == 1 or (len(numbers.shape) == 2 and numbers.shape[1] > 0)
    if numbers.dtype.kind not in "iubUSf" or not rows:
        raise CistError(
            f"Expected `{labels}` in {path} to be whole numbers or names of shape (N,), or one-hot, "
            f"but it is {numbers.dtype} of shape {numbers.shape}."
        )
