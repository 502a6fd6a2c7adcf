"""Images that lie compressed somewhere and are decoded only when asked for."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cist_core.cores import usable_cores
from cist_core.data.pictures import INTERPOLATIONS, Interpolation, decode
from cist_core.errors import CistError

if TYPE_CHECKING:
    from hashlib import _Hash

DEFAULT_SIZE = 32


@dataclass(frozen=True, eq=False, kw_only=True)
class DecodedImages(ABC):
    """Pictures that are read, cropped and scaled when they are indexed; see `cist_core.data.pictures.decode`.

    Pictures are decoded in as many threads as there are cores: Pillow works without Python's lock.

    A subclass says how many there are, where each is, and how a part of them is taken.

    Attributes:
        size: height and width of what indexing returns, in pixels.
        channels: 3 (colour) or 1 (grey).
        crop: share of the shorter side that is cut out of the centre before it is scaled.
        interpolation: of the scaling.
    """

    size: int = DEFAULT_SIZE
    channels: int = 3
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def picture(self, index: int) -> tuple[Path | bytes, str]:
        """The file of one image, or its content; and what errors call it."""

    @abstractmethod
    def take(self, indices: NDArray[np.integer[Any]]) -> Self:
        """The images at the given positions."""

    @abstractmethod
    def digest(self) -> _Hash:
        """SHA-256 of the stored images; how they are decoded is not part of it."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), self.size, self.size, self.channels)

    def __getitem__(self, indices: NDArray[np.integer[Any]] | slice) -> NDArray[np.uint8]:
        """``(len(indices), size, size, channels)`` uint8.

        Raises:
            CistError: naming the picture that cannot be decoded.
        """
        chosen = np.arange(len(self))[indices]
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)

        def decode_into(row: int, picture: Path | bytes, name: str) -> None:
            out[row] = decode(picture, name, self.size, self.channels, self.crop, self.interpolation)

        workers = max(1, min(usable_cores(), len(chosen)))
        with ThreadPoolExecutor(workers, thread_name_prefix="cist-decode") as pool:
            # As many at a time as are decoded: a picture may be hundreds of megabytes large. They are looked up here,
            # because a table of pictures is read by one thread.
            for first in range(0, len(chosen), workers):
                rows = range(first, min(first + workers, len(chosen)))
                found = [(row, *self.picture(int(chosen[row]))) for row in rows]
                for decoded in [pool.submit(decode_into, *each) for each in found]:
                    decoded.result()
        return out

    def at(self, size: int, channels: int, crop: float = 1.0, interpolation: Interpolation = "bilinear") -> Self:
        """The same images, decoded in another way.

        Raises:
            CistError: for a crop that is no share, or an unknown interpolation.
        """
        if not 0 < crop <= 1 or interpolation not in INTERPOLATIONS:
            raise CistError(
                "Expected `crop` to be above 0 and at most 1 and `interpolation` to be 'bilinear' or 'bicubic', "
                f"but got {crop:g} and '{interpolation}'."
            )
        return replace(self, size=size, channels=channels, crop=crop, interpolation=interpolation)


def content_digest(picture: Path | bytes, name: str) -> bytes:
    """SHA-256 of one picture as it is stored.

    Raises:
        CistError: if its file cannot be read.
    """
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).digest()
    try:
        with picture.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise CistError(f"{name} cannot be read ({error.strerror}); is it still there?") from error
