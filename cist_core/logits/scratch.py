"""Arrays that may be larger than memory: those that are large lie in a nameless file of the cache folder.

The file has no name, so the system removes it with the last array that looks at it, and after a crash too.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cist_core.errors import CistError
from cist_core.files import own_folder

IN_MEMORY_BYTES = 32 << 20
"""What is larger goes to the disk."""

KEPT_FREE_BYTES = 256 << 20  # of the disk, for everybody else
_BLOCK = bytes(1 << 20)


def cache_dir() -> Path:
    """Where results and large arrays are kept: ``CIST_CACHE``, or a folder in the user's cache."""
    return own_folder("CIST_CACHE", "cache")


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array to be filled: in memory up to `IN_MEMORY_BYTES`, in a nameless file of the cache folder beyond.

    Raises:
        CistError: if the disk has no room for it, or the folder cannot be written to.

    Example:
        >>> scratch_array((2, 3), "float32").shape
        (2, 3)
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size <= IN_MEMORY_BYTES:
        return np.empty(shape, kind)
    folder = cache_dir() / "scratch"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_room(folder, size)
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve(file, size)
            return np.memmap(file, kind, mode="r+", shape=shape)
    except OSError as error:
        raise CistError(
            f"A large file needs room in {folder}, which cannot be used ({error.strerror or error}); "
            "make room there, or set CIST_CACHE to a folder that can be written to."
        ) from error


def has_room(folder: Path, size: int) -> bool:
    """Whether so many bytes would leave the disk of a folder some room."""
    return size <= shutil.disk_usage(folder).free - KEPT_FREE_BYTES


def require_room(folder: Path, size: int) -> None:
    """Refuse what would fill a disk.

    Args:
        folder: on that disk.
        size: in bytes.

    Raises:
        CistError: naming both sizes.
        OSError: if there is no such folder.
    """
    if not has_room(folder, size):
        free = shutil.disk_usage(folder).free
        raise CistError(
            f"This takes {size / 2**30:,.1f} GiB of disk in {folder}, which has {free / 2**30:,.1f} GiB left; "
            "make room there, or set CIST_CACHE to a folder on a larger disk."
        )


def reserve(file: IO[bytes], size: int) -> None:
    """Claim room for a file now: on a full disk this is an error, where filling a hole through the memory map is a
    signal.

    Args:
        file: what is written in it so far stays.
        size: of the whole file, in bytes.

    Raises:
        OSError: if there is no room.
    """
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError):  # Windows and macOS have none; some file systems refuse
        for done in range(file.seek(0, os.SEEK_END), size, len(_BLOCK)):
            file.write(_BLOCK[: size - done])
    file.flush()
