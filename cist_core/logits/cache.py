"""Files of logits that are filled in place and are either whole or not there.

A plain save needs all logits in memory. Here the file is laid out first and filled row by row through a memory map,
under a temporary name; when it is complete, a digest of its content goes into its header and it gets its name. So a
killed run leaves no entry, and a damaged entry is known from its digest.
"""

from __future__ import annotations

import functools
import json
import time
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
from cist_core.errors import CistError
from cist_core.logits.logit_set import (
    LEFT_OUT,
    SAMPLE_NAMES,
    LogitSet,
    map_safetensors,
    remember_fingerprint,
    safetensors_header,
    set_checksum,
)
from cist_core.logits.sample_names import SampleNames
from cist_core.logits.scratch import require_room
from cist_core.progress import ProgressCallback

DIGEST_FIELD = "content_sha256"
_STALE_SECONDS = 24 * 3600
_ZEROS = bytes(1 << 20)
_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """Logits, and how this call came by them.

    Attributes:
        logit_set: float32 logits with labels and provenance; memory-mapped.
        samples_per_second: samples over the wall time of this call, computed or not.
        cached: whether they were read, not computed.
    """

    logit_set: LogitSet
    samples_per_second: float
    cached: bool


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

    Leaving without `finish` removes what was written.

    Args:
        path: of the entry.
        shape: ``(N, C)``.
        labels: ``(N,)``, or None.
        class_names: C names, or None.
        provenance: the digest of the content is added.
        sample_names: what the samples are called, or None.
        left_out: numbers of the classes that have no column any more; see `LogitSet`.

    Attributes:
        logits: ``(N, C)`` float32, memory-mapped into the file.

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
    ) -> None:
        self._path, self._labels = path, labels
        self._names = b"" if sample_names is None else sample_names.to_bytes()
        self._partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
        described = (labels is not None, self._names, class_names, provenance, left_out)
        self._header = functools.partial(_header, shape, *described)
        with _writing_to(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path.parent)
            require_room(path.parent, 4 * shape[0] * shape[1])
            try:
                start = self._lay_out(4 * shape[0] * shape[1])
                self.logits: NDArray[np.float32] = np.memmap(
                    self._partial, np.float32, mode="r+", offset=start, shape=shape
                )
            except OSError:
                self._partial.unlink(missing_ok=True)
                raise

    def _lay_out(self, size: int) -> int:
        """Write the file with zeros for its logits, ``size`` bytes; returns where they start.

        They are written, not left as a hole: on a full disk this is an error, where filling a hole through the memory
        map would end the process with a signal.
        """
        with self._partial.open("wb") as stream:
            stream.write(self._header(None))  # it comes first, so it keeps room for what is not known yet
            if self._labels is not None:
                stream.write(self._labels.astype("<i8").tobytes())
            stream.write(self._names)
            start = stream.tell()
            for done in range(0, size, len(_ZEROS)):
                stream.write(_ZEROS[: size - done])
        return start

    def __enter__(self) -> LogitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._partial.unlink(missing_ok=True)

    def finish(self) -> LogitSet:
        """Check the logits, give the file its name and open it.

        Raises:
            CistError: if the logits are no valid ones (`LogitSet.create`), or the file cannot be written.
        """
        digest = LogitSet.create(self.logits, self._labels).fingerprint
        del self.logits  # Windows renames no file that is mapped
        with _writing_to(self._path.parent):
            with self._partial.open("r+b") as stream:
                stream.write(self._header(digest))
            self._partial.replace(self._path)
            remember_fingerprint(self._path, digest)
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


def _remove_stale(folder: Path) -> None:
    """Drop what runs that were killed more than a day ago have left."""
    for partial in folder.glob(".*.partial"):
        try:
            if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
                partial.unlink()
        except FileNotFoundError:  # another run was faster
            continue
