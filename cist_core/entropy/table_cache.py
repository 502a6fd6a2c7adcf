"""Tables of curves over large sets of logits, made once and kept in the cache folder (``CIST_CACHE``).

A table belongs to the content of a set (its fingerprint) and to the grid of ratios. It lies in a safetensors file with
the statistics of the rows and a checksum, and is mapped, so that a slider reads the two nodes around its ratio. A file
whose checksum, shapes or rows are not right is made anew; a few rows are computed again whenever one is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from cist_core import kernels
from cist_core.checksums import CHECKSUM, PENDING, checksum, tensor_digest
from cist_core.errors import CistError
from cist_core.files import make_folder, write_whole
from cist_core.kernels.grid import DROPPED_NATS, RATIO_GRID
from cist_core.logits.known_files import FileState, Known, recall, remember, remember_written
from cist_core.logits.logit_set import LogitSet, map_safetensors, safetensors_header
from cist_core.logits.scratch import cache_dir, has_room, require_room, reserve
from cist_core.partial_files import remove_abandoned

MOST_BYTES = 16 << 30
"""As much do all tables take; those that were not opened for longest are removed for a new one."""

TABLE_ERROR = 1e-4
"""Nats by which an entropy that is read may differ from that computed from the logits."""

_FORMAT = "cist-curves-1"
_CHECKED_ROWS = 64
_VECTORS = {name: np.dtype(np.int64 if name == "top1" else np.float32) for name in kernels.RowStatistics._fields}
_GRID = hashlib.sha256(RATIO_GRID.tobytes() + f"{DROPPED_NATS}".encode()).hexdigest()[:16]

_MAKING: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)  # two visitors who open one set at once

Curves = tuple[kernels.RowStatistics, NDArray[np.float32]]


def open_table(logit_set: LogitSet) -> Curves:
    """The statistics of a set's rows and the table of their curves, ``(N, K, 2)``, mapped; made first if need be.

    Raises:
        CistError: if they are not there and the disk has no room for them, or the cache folder cannot be written to.
    """
    path = table_file(logit_set)
    found = _read(path, logit_set)
    if found is None:
        with _MAKING[path]:
            found = _read(path, logit_set)  # somebody may have made it while we waited
            if found is None:
                _make_room(path.parent, _bytes_of(logit_set))
                write_whole(path, lambda part: write_table(part, logit_set), what="The table of curves", durable=False)
                remember_written(path, Known(map_safetensors(path)[0][CHECKSUM]))
                found = _read(path, logit_set)
    if found is None:
        raise CistError(f"{path} does not hold the table that was written to it; set CIST_CACHE to another disk.")
    with contextlib.suppress(OSError):
        now = time.time_ns()  # the system's own time stamps are some milliseconds coarse
        os.utime(path.parent, ns=(now, now))
    return found


def remove_table(logit_set: LogitSet) -> None:
    """Remove what is kept of a set, so that it is made anew."""
    with contextlib.suppress(OSError):
        table_file(logit_set).unlink()


def table_file(logit_set: LogitSet) -> Path:
    """Where the table of a set of logits lies, whether it is there or not."""
    return cache_dir() / "curves" / f"{logit_set.fingerprint}-{_GRID}" / "curves.safetensors"


def table_layout(samples: int) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """The table lies node by node; see `kernels.fill_table`."""
    tensors: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = [
        (name, dtype, (samples,)) for name, dtype in sorted(_VECTORS.items(), key=lambda item: -item[1].itemsize)
    ]
    return [*tensors, ("table", np.dtype(np.float32), (len(RATIO_GRID), samples, 2))]


def _bytes_of(logit_set: LogitSet) -> int:
    return sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in table_layout(logit_set.num_samples))


def write_table(path: Path, logit_set: LogitSet) -> None:
    layout = table_layout(logit_set.num_samples)
    metadata = {"format": _FORMAT, CHECKSUM: PENDING}
    head = safetensors_header(metadata, layout)
    with path.open("wb") as stream:
        stream.write(head)
        reserve(stream, len(head) + _bytes_of(logit_set))
    places, offset = {}, len(head)
    for name, dtype, shape in layout:
        places[name] = np.memmap(path, dtype, mode="r+", offset=offset, shape=shape)
        offset += places[name].nbytes
    statistics = kernels.row_statistics(logit_set.logits)
    for name, column in statistics._asdict().items():
        places[name][:] = column
    kernels.fill_table(logit_set.logits, statistics, places["table"])
    metadata[CHECKSUM] = checksum(metadata, table_digests(places))
    with path.open("r+b") as stream:
        stream.write(safetensors_header(metadata, layout))


def _read(path: Path, logit_set: LogitSet) -> Curves | None:
    """What the file holds; None where there is none, or it is not what this set and this grid give."""
    try:
        state = FileState.of(path)
        metadata, tensors = map_safetensors(path)
        if metadata.get("format") != _FORMAT:
            return None
        layout = {name: (dtype, shape) for name, dtype, shape in table_layout(logit_set.num_samples)}
        if {name: (array.dtype, array.shape) for name, array in tensors.items()} != layout:
            return None
        known = recall(state)
        if known is None or known.fingerprint != metadata.get(CHECKSUM):
            if metadata.get(CHECKSUM) != checksum(metadata, table_digests(tensors)):
                return None
            remember(state, Known(metadata[CHECKSUM]))
    except (CistError, OSError, ValueError, SafetensorError):
        return None
    table = tensors["table"].transpose(1, 0, 2)
    statistics = kernels.RowStatistics(*(tensors[name] for name in kernels.RowStatistics._fields))
    return (statistics, table) if _right_in_some_rows(statistics, table, logit_set) else None


def _right_in_some_rows(statistics: kernels.RowStatistics, table: NDArray[np.float32], logit_set: LogitSet) -> bool:
    rows = np.unique(np.linspace(0, logit_set.num_samples - 1, _CHECKED_ROWS).astype(np.int64))
    logits = np.ascontiguousarray(logit_set.logits[rows])
    expected = kernels.row_statistics(logits)
    same = all(
        np.allclose(column[rows], wanted, rtol=1e-5, atol=1e-6)
        for column, wanted in zip(statistics, expected, strict=True)
    )
    return same and np.allclose(table[rows], kernels.entropy_table(logits, expected), rtol=0, atol=TABLE_ERROR)


def table_digests(tensors: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    return {name: tensor_digest(array.dtype.name, array.shape, array.data.cast("B")) for name, array in tensors.items()}


def _make_room(folder: Path, size: int) -> None:
    """Remove the tables that were not opened for longest, until a new one has room.

    Those that somebody writes stay, and all of them where the disk would have no room even without them.

    Raises:
        CistError: if it is larger than what all may take, the disk has no room, or the folder cannot be made.
    """
    if size > MOST_BYTES:
        raise CistError(
            f"A table of curves of {size / 2**30:,.1f} GiB is more than the {MOST_BYTES / 2**30:,.1f} GiB that all "
            "tables may take; take a part of the samples."
        )
    try:
        make_folder(folder)
        remove_abandoned(folder)
        others = sorted(
            (other for other in folder.parent.iterdir() if other != folder and other.is_dir()),
            key=lambda other: other.stat().st_mtime_ns,
        )
        removable: list[tuple[Path, int]] = []
        kept = 0
        for other in others:
            remove_abandoned(other)
            used = sum(file.stat().st_size for file in other.iterdir())
            if any(other.glob(".*.partial")):
                kept += used
            else:
                removable.append((other, used))
        require_room(folder, size - sum(used for _, used in removable))
        kept += sum(used for _, used in removable)
        for other, used in removable:
            if kept + size <= MOST_BYTES and has_room(folder, size):
                break
            shutil.rmtree(other, ignore_errors=True)
            kept -= used
        require_room(folder, size)
    except OSError as error:
        raise CistError(
            f"The table of curves cannot be kept in {folder} ({error.strerror or error}); "
            "make room there, or set CIST_CACHE to a folder that can be written to."
        ) from error
