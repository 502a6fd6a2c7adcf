"""``python -m cist_core.added preview|add FOLDER``: the child process in which other people's files are opened.

It has a limit on its memory, and what a damaged file may do to a native library ends with it. The work is done in a
fork of it, which it watches and ends when the time is up: a library that never comes back hears no signal of Python.
What comes of it are files in the folder; see `cist_core.added.entry`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import cast

import safetensors  # noqa: F401 - `write_whole` needs it, also when there is no memory left to load it
from filelock import Timeout

from cist_core.added.entry import (
    CANCEL_SECONDS,
    PREVIEW,
    PROGRESS,
    WEIGHTS,
    Entry,
    Progress,
    Task,
    read_failure,
    seconds_for,
    too_slow,
    write_failure,
    write_json,
)
from cist_core.added.roots import check_paths
from cist_core.added.snapshot import SILENT_END
from cist_core.added.store import AddedStore
from cist_core.errors import Cancelled, CistError, first_line
from cist_core.files import file_lock
from cist_core.process_limits import limit_memory, limit_time
from cist_core.wording import byte_size

AT_ONCE = 2
"""Previews that work at the same time, and as many that add; the others wait for their turn."""
LATE_SECONDS = 2.0
"""Time that the work has to say itself that its time is up, before it is killed."""
FAILED, CANCELLED = 2, 130
_REPORT_SECONDS = 0.3
_LOOK_SECONDS = 0.05


def main(arguments: list[str]) -> int:
    task, folder = cast(Task, arguments[0]), Path(arguments[1])
    signal.signal(signal.SIGTERM, _cancelled)
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # a visitor does not read what only the keeper may
    entry = Entry.read(folder)
    assert entry.spec is not None
    try:
        with _turn(folder.parent, task):
            # Between the promise and now a link may have been turned.
            check_paths(entry.spec, folder / "uploads", server_paths=entry.server_paths)
            return _watched(task, folder, entry, partial(_limited, task, folder, entry))
    except Cancelled:
        return CANCELLED
    except CistError as error:
        write_failure(folder, str(error))
        return FAILED


def _limited(task: Task, folder: Path, entry: Entry) -> int:
    """Do the task within the limits; returns the exit code."""
    try:
        allowed = limit_memory(AT_ONCE)
        limit_time(seconds_for(task, entry.spec), too_slow(task, entry.spec))
        work_on(task, folder, entry, allowed)
    except Cancelled:
        return CANCELLED
    except CistError as error:
        write_failure(folder, str(error))
        return FAILED
    return 0


def _watched(task: Task, folder: Path, entry: Entry, work: Callable[[], int]) -> int:
    """Let a fork do the work; it is killed when the time is up, or when it does not stop as it was told to.

    Returns:
        the exit code of the work; `FAILED` where it was killed, or died, with the reason in the folder.
    """
    if not hasattr(os, "fork"):  # Windows
        return work()
    told: list[float] = []  # the work hears it as well: it is in the same group
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(time.monotonic()))
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGTERM, _cancelled)
        code = FAILED
        try:
            code = work()
        except BaseException:
            traceback.print_exc()  # into the log of the folder
        os._exit(code)
    ends = time.monotonic() + seconds_for(task, entry.spec) + LATE_SECONDS
    while True:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > ends or (told and time.monotonic() - told[0] > CANCEL_SECONDS):
            os.kill(worker, signal.SIGKILL)
            _, status = os.waitpid(worker, 0)
            break
        time.sleep(_LOOK_SECONDS)
    if told:
        return CANCELLED
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    if read_failure(folder) is None:
        late = time.monotonic() > ends or os.WTERMSIG(status) == signal.SIGXCPU
        write_failure(folder, too_slow(task, entry.spec) if late else SILENT_END)
    return FAILED


def work_on(task: Task, folder: Path, entry: Entry, allowed: int | None) -> None:
    """Do the task in this process.

    Args:
        task: preview or add.
        folder: of the entry.
        entry: whose spec is complete.
        allowed: bytes of memory that this process may take; None for no limit.

    Raises:
        CistError: for whatever the files do wrong.
    """
    assert entry.spec is not None
    reporter = Reporter(folder)
    try:
        from cist_core.added import work

        if task == "preview":
            write_json(folder / PREVIEW, work.preview(entry.spec), what="The preview")
        else:
            store = AddedStore(folder.parent, owner=entry.owner)
            work.add(entry.spec, folder, check_room=store.check_room, progress=reporter)
    except CistError as error:
        if names := getattr(error, "names", ()):  # of weights to choose among; torch is not imported for the class
            write_json(folder / WEIGHTS, list(names), what="The names")
        raise
    except (MemoryError, ImportError) as error:  # a library that cannot be mapped is an ImportError
        raise CistError(_too_large(allowed)) from error
    except RuntimeError as error:
        if "alloc" in str(error).lower() or "out of memory" in str(error).lower():
            raise CistError(_too_large(allowed)) from error
        raise CistError(f"The model or the file cannot be used ({first_line(error)}).") from error
    except Exception as error:  # a library that failed over a foreign file in a way that nobody foresaw
        raise CistError(f"The files cannot be used ({type(error).__name__}: {first_line(error)}).") from error


class Reporter:
    """Writes down that the work has begun, and how far it is, a few times a second."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / PROGRESS
        self._began_at, self._last = time.monotonic(), 0.0
        self._first: tuple[float, int] | None = None
        self._write(0, 0, None)

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        if now - self._last < _REPORT_SECONDS and done < total:
            return
        self._last = now
        since, at = self._first
        self._write(done, total, (now - since) / (done - at) * (total - done) if done > at else None)

    def _write(self, done: int, total: int, seconds_left: float | None) -> None:
        now = Progress(done, total, seconds_left, self._began_at)
        write_json(self._file, now, what="The progress", durable=False)


@contextlib.contextmanager
def _turn(root: Path, task: Task) -> Iterator[None]:
    """Wait until fewer than `AT_ONCE` others do the same."""
    while True:
        for place in range(AT_ONCE):
            with contextlib.suppress(Timeout), file_lock(root / f".{task}-{place}.lock").acquire(timeout=0):
                yield
                return
        time.sleep(0.2)


def _cancelled(number: int, frame: FrameType | None) -> None:
    raise Cancelled("It was cancelled.")


def _too_large(allowed: int | None) -> str:
    limit = "there is" if allowed is None else f"the {byte_size(allowed)} that a file may take here"
    return f"Opening it needs more memory than {limit}; use fewer samples, or raise CIST_ADDED_MEMORY."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
