"""The files of MNIST and its kin: a head of sizes, then bytes."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError

MOST_BYTES = 4 << 30


def idx_file(folder: Path, name: str) -> Path | None:
    """The file of that name, unpacked or not."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def idx_shape(path: Path) -> tuple[int, ...]:
    """The sizes in the head.

    Raises:
        CistError: if this is no such file of bytes, or it promises more than there can be.
    """
    with _open(path) as stream:
        return _shape(stream, path)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The bytes in their shape.

    Raises:
        CistError: as `idx_shape`, and if the file holds fewer or more bytes than it promises.
    """
    with _open(path) as stream:
        shape = _shape(stream, path)
        size = math.prod(shape)
        try:
            content = stream.read(size + 1)
        # gzip raises EOFError, BadGzipFile and zlib.error.
        except Exception as error:
            raise CistError(f"{path} is damaged ({error}); download it again.") from error
    if len(content) != size:
        raise CistError(f"{path} promises {size:,} bytes of shape {shape}, but holds others; download it again.")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _shape(stream: BinaryIO, path: Path) -> tuple[int, ...]:
    try:
        head = stream.read(4)
        sizes = stream.read(4 * head[3]) if len(head) == 4 else b""
    except Exception as error:
        raise CistError(f"{path} is damaged ({error}); download it again.") from error
    # Two zeros, the type (8 is uint8), the rank; then the sizes.
    if len(head) != 4 or head[:3] != b"\0\0\x08" or head[3] not in (1, 3) or len(sizes) != 4 * head[3]:
        raise CistError(f"{path} is no file of images or labels in the format of MNIST; download it again.")
    shape = tuple(int.from_bytes(sizes[start : start + 4], "big") for start in range(0, len(sizes), 4))
    # Packed bytes grow a thousandfold at most.
    if math.prod(shape) > min(MOST_BYTES, path.stat().st_size * (1100 if path.suffix == ".gz" else 1)):
        raise CistError(f"{path} promises {math.prod(shape):,} bytes, more than it can hold; download it again.")
    return shape
