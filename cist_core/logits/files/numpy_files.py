"""``.npy`` and ``.npz``. Headers are checked against the file before anything is allocated; nothing is unpickled."""

from __future__ import annotations

import io
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cist_core.errors import CistError
from cist_core.logits.files.arrays import StoredArray, StoredArrays, byte_count, check_numbers, shaped
from cist_core.logits.files.limits import ReadingLimits
from cist_core.logits.scratch import scratch_array

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # what NumPy itself accepts
BLOCK_BYTES = 1 << 20
_LARGEST_RATIO = 1032  # deflate packs no better


@dataclass(frozen=True)
class _Header:
    """What an ``.npy`` header says, and how many bytes it takes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    size: int


def open_npy(path: Path, limits: ReadingLimits) -> StoredArrays:
    """The array of an ``.npy`` file under the name ``array``; memory-mapped.

    Raises:
        CistError: if it is damaged, larger than the file, or not numbers.
    """
    with path.open("rb") as stream:
        header = _read_header(stream, "the array")
    present = path.stat().st_size - header.size
    promised = byte_count(header.shape, header.dtype)
    limits.check_shape(header.shape, "the array")
    if promised > present:
        raise CistError(
            f"the header promises the shape {header.shape}, {promised:,} bytes, but {present:,} are there; "
            "the file is cut off or damaged, write it again."
        )

    def load() -> Any:
        if not promised:
            return np.zeros(header.shape, header.dtype)
        order = "F" if header.fortran else "C"
        return np.memmap(path, header.dtype, mode="r", offset=header.size, shape=header.shape, order=order)  # type: ignore[call-overload]

    return StoredArrays({"array": StoredArray(header.shape, load)})


def open_npz(path: Path, limits: ReadingLimits) -> StoredArrays:
    """The arrays of an ``.npz`` archive; each is unpacked when it is asked for, in blocks.

    Members that are no ``.npy`` are left out.

    Raises:
        CistError: if it is no archive, packed in an odd way, or a member is not what its header says.
    """
    if not zipfile.is_zipfile(path):
        raise CistError("this is not an .npz archive; write it with numpy.savez.")
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for info in check_members(archive, limits):
            if not info.filename.endswith(".npy"):
                continue
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as stream:
                try:
                    header = _read_header(stream, f"'{name}'")
                except CistError as error:
                    arrays[name] = _unreadable(error)
                    continue
            arrays[name] = _member(path, info, header, limits)
    return StoredArrays(arrays)


def check_members(archive: zipfile.ZipFile, limits: ReadingLimits) -> list[zipfile.ZipInfo]:
    """The members of an archive that is packed as NumPy and torch pack.

    Raises:
        CistError: for encrypted members, two of one name, other packings, too many of them, or sizes that no packing
            reaches.
    """
    members = archive.infolist()
    if len(members) > limits.members:
        raise CistError(f"the archive has {len(members):,} members, and at most {limits.members:,} are read.")
    names = [info.filename for info in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CistError(f"the archive has two members called {twice!r}; write it again with each name once.")
    for info in members:
        if info.flag_bits & 1:
            raise CistError(f"the member {info.filename!r} is encrypted; write the archive without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CistError(
                f"the member {info.filename!r} is packed in another way than NumPy packs; use numpy.savez_compressed."
            )
        largest = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else _LARGEST_RATIO)
        if info.file_size > largest:
            raise CistError(
                f"the member {info.filename!r} promises {info.file_size:,} bytes in {info.compress_size:,} packed "
                "ones, which no archive can hold; write it again."
            )
    return members


def _unreadable(error: CistError) -> StoredArray:
    """An array that cannot be used; that is an error only if it is asked for."""

    def load() -> Any:
        raise error

    return StoredArray((), load)


def _member(path: Path, info: zipfile.ZipInfo, header: _Header, limits: ReadingLimits) -> StoredArray:
    what = f"'{info.filename.removesuffix('.npy')}'"
    promised = byte_count(header.shape, header.dtype)

    def load() -> Any:
        limits.check_shape(header.shape, what)
        if header.dtype.kind in "SU":
            limits.check_text(promised, what)
        if promised != info.file_size - header.size:
            raise CistError(
                f"{what} promises the shape {header.shape}, {promised:,} bytes, but the archive has "
                f"{info.file_size - header.size:,}; write it again."
            )
        limits.check_packing(promised, info.compress_size, what)
        raw = scratch_array((promised,), np.uint8)
        with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
            stream.read(header.size)
            _fill(raw.data, stream, what)
        return shaped(raw, header.shape, header.dtype, fortran=header.fortran)

    return StoredArray(header.shape, load)


def _fill(target: memoryview, stream: IO[bytes], what: str) -> None:
    """Read exactly so many bytes, in blocks, to the end of the stream, where its checksum is compared."""
    done = 0
    while done < len(target):
        block = stream.read(min(BLOCK_BYTES, len(target) - done))
        if not block:
            raise CistError(f"{what} ends after {done:,} of {len(target):,} bytes; write the archive again.")
        target[done : done + len(block)] = block
        done += len(block)
    stream.read(1)


def _read_header(stream: IO[bytes], what: str) -> _Header:
    start = stream.read(8)
    if start[:6] != _MAGIC or len(start) < 8:
        raise CistError(f"{what} is not in NumPy's format; write it with numpy.save or numpy.savez.")
    width = {1: 2, 2: 4}.get(start[6])
    if width is None:
        raise CistError(f"{what} is in version {start[6]} of NumPy's format, which plain numbers do not need.")
    length = stream.read(width)
    size = int.from_bytes(length, "little")
    if size > _LONGEST_HEADER:
        raise CistError(f"{what} has a header of {size:,} bytes; an array of plain numbers needs no more than 200.")
    text = stream.read(size)
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(io.BytesIO(length + text))
    except Exception as error:  # the header is parsed as Python, which can raise anything
        raise CistError(f"{what} has a damaged header; write it again.") from error
    check_numbers(dtype, what)
    return _Header(tuple(map(int, shape)), fortran, dtype, 8 + width + size)
