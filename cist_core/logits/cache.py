"""Files of logits that are filled in place and are either whole or not there.

A plain save needs all logits in memory. Here the file is laid out first and filled row by row through a memory map,
under a temporary name; when it is complete, a digest of its content goes into its header and it gets its name. So a
killed run leaves no entry, and a damaged entry is known from its digest. Where it was asked for, the next run with the
same inputs goes on with the rows that a killed one has left.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from cist_core.checksums import CHECKSUM, PENDING
from cist_core.errors import BrokenOff, CistError
from cist_core.files import flush
from cist_core.logits.kept_rows import KeptRows
from cist_core.logits.known_files import remember_written
from cist_core.logits.logit_set import (
    LEFT_OUT,
    SAMPLE_NAMES,
    LogitSet,
    known_of,
    map_safetensors,
    safetensors_header,
    set_checksum,
)
from cist_core.logits.sample_names import SampleNames
from cist_core.logits.scratch import require_room
from cist_core.partial_files import lock_file, remove_abandoned
from cist_core.progress import ProgressCallback

DIGEST_FIELD = "content_sha256"
_RESUMABLE_SECONDS = 24 * 3600.0
_ZEROS = bytes(1 << 20)
_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """Logits, and how this call came by them.

    Attributes:
        logit_set: float32 logits with labels and provenance; memory-mapped.
        samples_per_second: samples over the wall time of this call, computed or not.
        cached: whether they were read, not computed.
        resumed: samples that an earlier run, which did not come to its end, had computed.
        reduced_batch: samples at a time that memory sufficed for, where it ran out with more; else None.
    """

    logit_set: LogitSet
    samples_per_second: float
    cached: bool
    resumed: int = 0
    reduced_batch: int | None = None


def read_cached(path: Path, *, class_names: Sequence[str] | None, provenance: Mapping[str, str]) -> LogitSet | None:
    """The entry at ``path``, or None if there is none or its content is not what was written.

    The names are the caller's: whoever wrote the entry may have had the same images and weights under others.

    Args:
        path: of the entry.
        class_names: of the result.
        provenance: of the result; the digest of the content is added.
    """
    try:
        if not path.is_file():
            return None
        entry = LogitSet.load(path)
    except (CistError, OSError):
        return None
    digest = entry.fingerprint
    if digest != entry.provenance.get(DIGEST_FIELD):
        return None
    _, tensors = map_safetensors(path)  # with the columns that the entry leaves out
    described = {**provenance, DIGEST_FIELD: digest}
    return LogitSet.create(tensors["logits"], tensors.get("labels"), class_names=class_names, provenance=described)


def write_logits(path: Path, logit_set: LogitSet, *, progress: ProgressCallback | None = None) -> LogitSet:
    """Write a set to a file in pieces, so that one which is larger than memory can be written; open the file.

    Raises:
        CistError: if the file cannot be written.
    """
    shape = (logit_set.num_samples, logit_set.num_classes)
    step = max(1, _VALUES_AT_ONCE // shape[1])
    with LogitWriter(
        path,
        shape,
        logit_set.labels,
        class_names=logit_set.class_names,
        provenance=logit_set.provenance,
        sample_names=logit_set.sample_names,
        left_out=logit_set.left_out,
    ) as writer:
        for start in range(0, shape[0], step):
            writer.logits[start : start + step] = logit_set.logits[start : start + step]
            if progress is not None:
                progress(min(start + step, shape[0]), shape[0])
        return writer.finish()


class LogitWriter:
    """Context manager around one new entry: assign to rows of ``logits``, then call `finish`.

    Leaving without `finish` removes what was written; of a resumable one, only if an error was the reason.

    Args:
        path: of the entry.
        shape: ``(N, C)``.
        labels: ``(N,)``, or None.
        class_names: C names, or None.
        provenance: the digest of the content is added.
        sample_names: what the samples are called, or None.
        left_out: numbers of the classes that have no column any more; see `LogitSet`.
        resumable: whether rows that were said to be done (`keep`) stay for the next writer of the same entry when the
            process is killed or interrupted.

    Attributes:
        logits: ``(N, C)`` float32, memory-mapped into the file.
        done: rows from the first that an earlier writer has left, checked.

    Raises:
        CistError: if the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        labels: NDArray[np.int64] | None,
        *,
        class_names: Sequence[str] | None,
        provenance: Mapping[str, str],
        sample_names: SampleNames | None = None,
        left_out: Sequence[int] = (),
        resumable: bool = False,
    ) -> None:
        self._path, self._labels, self.done = path, labels, 0
        self._names = b"" if sample_names is None else sample_names.to_bytes()
        self._kept: KeptRows | None = None
        self._finished = False
        described = (labels is not None, self._names, class_names, provenance, left_out)
        self._header = functools.partial(_header, shape, *described)
        with _writing_to(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path.parent)
            remove_abandoned(path.parent, ".*.resume*", seconds=_RESUMABLE_SECONDS)
            self._partial = path.with_name(f".{path.name}.resume")
            self._lock = lock_file(self._partial) if resumable else None
            resumable = self._lock is not None  # else another run is at it
            if not resumable:
                self._partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
                self._lock = lock_file(self._partial)
            new = not resumable
            try:
                head, size = self._head(), 4 * shape[0] * shape[1]
                new = not (resumable and self._is_laid_out(head, size))
                if new:
                    require_room(path.parent, size)
                    self._lay_out(head, size)
                self.logits: NDArray[np.float32] = np.memmap(
                    self._partial, np.float32, mode="r+", offset=len(head), shape=shape
                )
                if resumable:
                    self._kept = KeptRows(self._list, self.logits, new=new)
                    self.done = self._kept.done
            except (OSError, CistError):
                if new:
                    self._remove()
                if self._lock is not None:
                    self._lock.close()
                raise

    def keep(self, end: int) -> None:
        """Say that the rows up to ``end`` are done, so that the next writer of a resumable entry starts there."""
        if self._kept is not None:
            self._kept.keep(end)

    @property
    def _list(self) -> Path:
        return self._partial.with_name(f"{self._partial.name}.rows")

    def _head(self) -> bytes:
        """All that comes before the logits."""
        labels = b"" if self._labels is None else self._labels.astype("<i8").tobytes()
        return self._header(None) + labels + self._names  # it comes first, so it keeps room for what is not known yet

    def _is_laid_out(self, head: bytes, size: int) -> bool:
        """Whether an earlier writer of the same entry has left its file."""
        with self._partial.open("rb") as stream:
            return self._partial.stat().st_size == len(head) + size and stream.read(len(head)) == head

    def _lay_out(self, head: bytes, size: int) -> None:
        """Write the file with zeros for its logits, ``size`` bytes.

        They are written, not left as a hole: on a full disk this is an error, where filling a hole through the memory
        map would end the process with a signal.
        """
        with self._partial.open("wb") as stream:
            stream.write(head)
            for done in range(0, size, len(_ZEROS)):
                stream.write(_ZEROS[: size - done])

    def __enter__(self) -> LogitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (
            self._kept is not None
            and kind is not None
            and (issubclass(kind, BrokenOff) or not issubclass(kind, Exception))
        ):
            with contextlib.suppress(OSError):
                self._kept.write()  # Ctrl-C, or a node that is gone: the next run goes on
        elif not self._finished:  # else another run may use the name by now
            self._remove()
        if self._lock is not None:
            self._lock.close()

    def _remove(self) -> None:
        self._list.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)

    def finish(self) -> LogitSet:
        """Check the logits, give the file its name and open it.

        Raises:
            CistError: if the logits are no valid ones (`LogitSet.create`), or the file cannot be written.
        """
        written = LogitSet.create(self.logits, self._labels)
        digest, known = written.fingerprint, known_of(written)
        del self.logits, written  # Windows renames no file that is mapped
        self._kept = None
        with _writing_to(self._path.parent):
            with self._partial.open("r+b") as stream:
                stream.write(self._header(digest))
            flush(self._partial)
            self._list.unlink(missing_ok=True)
            self._partial.replace(self._path)
            flush(self._path.parent)
            if known is not None:
                remember_written(self._path, known)
        self._finished = True
        return LogitSet.load(self._path)


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CistError(
            f"The logits cannot be kept in {folder} ({error.strerror or error}); "
            "make room there, or set CIST_CACHE to a folder that can be written to."
        ) from error


def _header(
    shape: tuple[int, int],
    labelled: bool,
    names: bytes,
    class_names: Sequence[str] | None,
    provenance: Mapping[str, str],
    left_out: Sequence[int],
    digest: str | None,
) -> bytes:
    """The head of the file; without a digest of its logits and labels one of the same length."""
    metadata = {
        "format": "cist-logits-1",
        "provenance": json.dumps({**provenance, DIGEST_FIELD: digest or PENDING}),
    }
    if class_names is not None:
        metadata["class_names"] = json.dumps(class_names)
    if left_out:
        metadata[LEFT_OUT] = json.dumps(left_out)
    metadata[CHECKSUM] = PENDING if digest is None else set_checksum(metadata, digest, names or None)
    tensors: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = []
    if labelled:
        tensors.append(("labels", np.dtype(np.int64), shape[:1]))
    if names:
        tensors.append((SAMPLE_NAMES, np.dtype(np.uint8), (len(names),)))
    return safetensors_header(metadata, [*tensors, ("logits", np.dtype(np.float32), shape)])
