"""What every kind of data on disk can say of itself, and how it is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.data.decoded import DecodedImages
from cist_core.errors import CistError, first_line

ONE_SET = "all"
Loaded = tuple[NDArray[np.uint8] | DecodedImages, NDArray[np.int64], tuple[str, ...] | None]


@dataclass(frozen=True)
class DataDescription:
    """What can be told of data without decoding their images.

    Attributes:
        kind: for people, for example ``"image folder"``.
        splits: number of images in each; None where it is not known before they are loaded. The only key is ``"all"``
            where there are no splits.
        num_classes: None where it is not known before they are loaded.
        class_names: None where there are none.
        image_shape: height, width and channels; None where images have sizes of their own.
        class_order: how the classes were numbered, as a sentence; None where the data say it themselves.
    """

    kind: str
    splits: dict[str, int | None]
    num_classes: int | None
    class_names: tuple[str, ...] | None
    image_shape: tuple[int, int, int] | None
    class_order: str | None = None


class Collection(ABC):
    """Labelled images on disk, in one split or several.

    Attributes:
        kind: for people.
        path: the file or folder.
    """

    kind: ClassVar[str]
    path: Path

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """By our names (`split_called`); ``("all",)`` where there are none."""

    @property
    def unused(self) -> tuple[str, ...]:
        """Arrays or columns that hold neither images nor labels."""
        return ()

    @property
    def class_order(self) -> str | None:
        """How the classes were numbered, as a sentence; None where the data say it themselves."""
        return None

    @abstractmethod
    def describe(self) -> DataDescription:
        """Quickly, and without decoding images."""

    @abstractmethod
    def read(self, split: str) -> Loaded:
        """Images, labels and class names of one of the splits."""

    def load(self, split: str) -> tuple[str, Loaded]:
        """The split that is loaded, and its images, labels and class names. What has no splits is loaded whole.

        Raises:
            CistError: if the split is missing or something in it cannot be read.
        """
        there = self.splits
        if there == (ONE_SET,):
            return ONE_SET, self.read(ONE_SET)
        if split not in there:
            raise CistError(f"{self.path} has no split '{split}'; it has: {', '.join(sorted(there))}.")
        return split, self.read(split)


@contextmanager
def naming(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises over a bad file into one sentence that names the file.

    Raises:
        CistError: in place of any exception.
    """
    try:
        yield
    except CistError:
        raise
    except Exception as error:
        raise CistError(f"{path} cannot be read as {kind} ({first_line(error)}); write it again.") from error
