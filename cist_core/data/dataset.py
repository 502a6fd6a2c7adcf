"""Images with labels, as every source of data delivers them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.data.decoded import DecodedImages
from cist_core.data.names import MOST_CLASSES, checked_class_names
from cist_core.errors import CistError

PixelArray = NDArray[np.uint8]
LabelArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images of one split.

    Attributes:
        name: of the data set, or of the file or folder.
        split: ``"train"``, ``"validation"``, ``"test"``, or ``"all"`` where the source has no splits.
        images: ``(N, H, W, channels)`` uint8, or images decoded on demand; both are read with ``images[indices]``.
        labels: ``(N,)`` int64.
        class_names: one name per class, or None where the source has none.
        source: the name or path that `load_dataset` finds it by again.
        class_map: the teacher's class for each class of the source, None for one left out; see `map_labels`.
        class_order: how the classes were numbered, as a sentence; None where the source says it itself.
        unused: arrays or columns of the source that hold neither images nor labels.
    """

    name: str
    split: str
    images: PixelArray | DecodedImages
    labels: LabelArray
    class_names: tuple[str, ...] | None
    source: str
    class_map: tuple[int | None, ...] | None = None
    class_order: str | None = None
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or len(self.labels) == 0:
            raise CistError(
                f"Expected {self.name} to hold at least one image and one label for each, "
                f"but it has {len(self.images)} images and {len(self.labels)} labels."
            )
        if self.class_names is not None:
            checked_class_names(self.class_names, self.name)
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or (self.class_names is not None and high >= len(self.class_names)):
            limit = "" if self.class_names is None else f" below its {len(self.class_names)} classes"
            raise CistError(
                f"Expected the labels of {self.name} to be 0 or more{limit}, but they run from {low} to {high}."
            )
        if high >= MOST_CLASSES:
            raise CistError(
                f"The labels of {self.name} go up to {high:,}, and at most {MOST_CLASSES:,} classes are read; "
                "are these labels?"
            )

    @property
    def num_samples(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of named classes; without names, one more than the largest label."""
        return len(self.class_names) if self.class_names is not None else int(self.labels.max()) + 1

    def take(self, indices: NDArray[np.integer[Any]], *, split: str | None = None) -> ImageDataset:
        """The samples at the given positions, under another split's name if there is one."""
        images = self.images.take(indices) if isinstance(self.images, DecodedImages) else self.images[indices]
        return replace(self, images=images, labels=self.labels[indices], split=split or self.split)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the pixels and labels in their order, whatever file or name they come under."""
        if isinstance(self.images, DecodedImages):
            digest = self.images.digest()
        else:
            digest = hashlib.sha256(f"{self.images.shape}".encode())
            for start in range(0, len(self.images), 4096):
                digest.update(np.ascontiguousarray(self.images[start : start + 4096]).data.cast("B"))
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()


def evenly_spaced(count: int, limit: int | None) -> NDArray[np.int64]:
    """Positions of at most ``limit`` of ``count`` samples, spread over all of them, so that sorted classes all appear.

    Raises:
        CistError: if ``limit`` is below 1.

    Example:
        >>> evenly_spaced(10, 4)
        array([0, 3, 6, 9])
    """
    if limit is None or limit >= count:
        return np.arange(count)
    if limit < 1:
        raise CistError(f"Expected a limit of at least 1 sample, but got {limit}.")
    return np.linspace(0, count - 1, limit).round().astype(np.int64)
