"""What is known of files of logits that were read before, so that they open at once as long as they do not change.

A file is known by path, number on the disk, size and the times of its last changes. Of large files it is kept in the
cache folder as well (``CIST_CACHE``), in a small document each with a checksum of its own, and is believed there only
if pieces of the file, spread over all of it, are still the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from cist_core.documents import parse_json, read_bytes
from cist_core.errors import CistError
from cist_core.files import file_state, write_whole
from cist_core.logits.scratch import cache_dir
from cist_core.partial_files import remove_abandoned

WORTH_BYTES = 32 << 20
"""Smaller files are read again by the next process, quicker than a person notices."""
MOST_FILES = 1024
"""As many are known, in memory and on the disk; those that were not asked for longest are forgotten."""
_PIECES, _PIECE_BYTES = 64, 4096
_LONGEST_DOCUMENT = 1 << 16
TICK, _COARSE_TICK = 50_000_000, 2_000_000_000  # nanoseconds between two times that a file system tells apart


class FileState(NamedTuple):
    """A file as it was at one moment; it has not changed where all but ``seen`` are the same.

    Attributes:
        path: absolute.
        number: on the disk.
        size: in bytes.
        changed: when its content was, in nanoseconds.
        touched: when anything of it was, its name or its rights.
        seen: the moment, in nanoseconds.
    """

    path: str
    number: int
    size: int
    changed: int
    touched: int
    seen: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state now.

        Raises:
            CistError: if there is no such file.
        """
        seen = time.time_ns()
        try:
            return cls(str(path.absolute()), *file_state(path), seen)
        except OSError as error:
            raise CistError(f"There is no file {path} that can be read ({error.strerror or error}).") from error

    @property
    def key(self) -> tuple[str, int, int, int, int]:
        return self[:5]

    @property
    def settled(self) -> bool:
        """Whether any later change shows: one within the same tick of the file system's clock would not."""
        last = max(self.changed, self.touched)
        return self.seen - last > (TICK if last % 1_000_000_000 else _COARSE_TICK)


class Known(NamedTuple):
    """What reading a file has shown.

    Attributes:
        fingerprint: of its content.
        constant_rows: how many of its rows are constant, where its logits are valid and none of its classes is masked.
    """

    fingerprint: str
    constant_rows: int = 0


REMEMBERED: dict[tuple[str, int, int, int, int], Known] = {}


def recall(state: FileState) -> Known | None:
    """What is known of a file in this state."""
    known = REMEMBERED.get(state.key)  # another thread may empty them
    if known is None and state.size >= WORTH_BYTES:
        known = _read(state)
        if known is not None:
            _keep(state, known)
    return known


def remember(state: FileState, known: Known) -> None:
    """Keep what reading a file has shown, if it is still in the state in which it was before the reading."""
    with contextlib.suppress(CistError):
        if FileState.of(Path(state.path)).key != state.key:
            return
        _keep(state, known)
        if state.size >= WORTH_BYTES and state.settled:
            write_document(state, known)


def remember_written(path: Path, known: Known) -> None:
    """Keep what is known of a file that this process has just written, once a later change would show."""
    with contextlib.suppress(CistError):
        state = FileState.of(path)
        if state.size >= WORTH_BYTES and not state.settled:
            time.sleep(2 * TICK / 1e9)
        remember(state._replace(seen=time.time_ns()), known)


def _keep(state: FileState, known: Known) -> None:
    if len(REMEMBERED) >= MOST_FILES:
        REMEMBERED.clear()
    REMEMBERED[state.key] = known


def _document(state: FileState) -> Path:
    return cache_dir() / "known" / f"{hashlib.sha256(os.fsencode(state.path)).hexdigest()[:32]}.json"


def _read(state: FileState) -> Known | None:
    """What the cache folder says; None where its document is of another state, damaged, or not of this file."""
    document = _document(state)
    try:
        content = parse_json(read_bytes(document, _LONGEST_DOCUMENT))
        told = Known(str(content["fingerprint"]), int(content["constant_rows"]))
        if content != _content(state, told):
            return None
        document.touch()  # asked for now
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return told


def write_document(state: FileState, known: Known) -> None:
    """On a full disk, or one that cannot be written to, the file is read again by the next process."""
    document = _document(state)
    with contextlib.suppress(CistError, OSError):
        text = json.dumps(_content(state, known), indent=1) + "\n"
        write_whole(document, lambda path: path.write_text(text), what="What is known of a file", durable=False)
        remove_abandoned(document.parent)
        others = sorted(document.parent.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for other in others[:-MOST_FILES]:
            other.unlink(missing_ok=True)


def _content(state: FileState, known: Known) -> dict[str, object]:
    """Of a document.

    Raises:
        OSError: if the file cannot be read.
    """
    content: dict[str, object] = {"file": list(state.key), **known._asdict(), "pieces": _pieces_digest(state)}
    return content | {"sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def _pieces_digest(state: FileState) -> str:
    """SHA-256 of pieces spread evenly from the first byte to the last."""
    digest = hashlib.sha256()
    with open(state.path, "rb", buffering=0) as stream:
        for number in range(_PIECES):
            stream.seek(max(0, state.size - _PIECE_BYTES) * number // (_PIECES - 1))
            digest.update(stream.read(_PIECE_BYTES))
    return digest.hexdigest()
