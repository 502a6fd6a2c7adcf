"""Foreign ``.npz`` archives: what they hold is known, and found plausible, before a byte of it is unpacked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError, first_line
from cist_core.logits.files.limits import GENEROUS_LIMITS
from cist_core.logits.files.numpy_files import check_members

MOST_BYTES = 16 << 30
"""What the arrays that are read from one archive may take up in memory, all together."""
SUSPICIOUS_RATIO, SUSPICIOUS_BYTES = 200, 256 << 20
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class ArrayHeader:
    """What an array says of itself, checked against the size of its file.

    Attributes:
        shape: of the array.
        dtype: of its values; never objects.
        packed: bytes in the archive.
        unpacked: bytes in memory.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    packed: int
    unpacked: int


def npz_headers(path: Path) -> dict[str, ArrayHeader]:
    """Name, shape and type of every array of an archive; the arrays themselves are not unpacked.

    Raises:
        CistError: if this is no archive of plain arrays, or one promises more values than its file holds.
    """
    with _naming(path), zipfile.ZipFile(path) as archive:
        members = check_members(archive, GENEROUS_LIMITS)
        arrays = [entry for entry in members if entry.filename.endswith(".npy")]
        return {entry.filename.removesuffix(".npy"): _header(archive, entry) for entry in arrays}


def read_npz(path: Path, names: Iterable[str], *, most_bytes: int = MOST_BYTES) -> dict[str, NDArray[Any]]:
    """Some arrays of an archive.

    Args:
        path: of the archive.
        names: of the arrays; each is there (see `npz_headers`).
        most_bytes: refuse more than this, all together.

    Raises:
        CistError: as `npz_headers`, and if the arrays are too large or look like an archive made to fill the memory.
    """
    headers = npz_headers(path)
    wanted = {name: headers[name] for name in names}
    unpacked = sum(header.unpacked for header in wanted.values())
    packed = sum(header.packed for header in wanted.values())
    if unpacked > most_bytes:
        raise CistError(
            f"The arrays of {path} take {unpacked:,} bytes, and at most {most_bytes:,} are read; split the file."
        )
    if unpacked > SUSPICIOUS_BYTES and unpacked > SUSPICIOUS_RATIO * packed:
        raise CistError(
            f"{path} would grow {unpacked // max(packed, 1):,}-fold to {unpacked:,} bytes, as archives do that are "
            "made to fill the memory; if this one is not, write it uncompressed, with numpy.savez."
        )
    # NumPy leaves a file open that it cannot read, unless it is handed an open one.
    with _naming(path), path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {name: archive[f"{name}.npy"] for name in wanted}


def _header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> ArrayHeader:
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        # Files of version 3 differ from those of version 2 in the names of fields only, and no array here has fields.
        shape, _, dtype = _HEADER_READERS.get(version, np.lib.format.read_array_header_2_0)(stream)
        rest = entry.file_size - stream.tell()
    if dtype.hasobject:
        raise CistError(
            f"'{entry.filename}' holds Python objects, whose loading could run code; save numbers or text instead"
        )
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != rest:
        raise CistError(f"'{entry.filename}' promises {dtype} of shape {shape}, {size:,} bytes, but holds {rest:,}")
    return ArrayHeader(shape, dtype, entry.compress_size, size)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    # Damage can make NumPy raise anything: zlib.error, NotImplementedError, tokenize.TokenError, ...
    except Exception as error:
        raise CistError(
            f"{path} is not a readable .npz archive of plain arrays ({first_line(error)}); "
            "write it again with numpy.savez."
        ) from error
