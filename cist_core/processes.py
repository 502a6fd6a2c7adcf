"""A child process that outlives us, is known again by pid and start time, and is stopped as a group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

# The shell waits for a word before it becomes the command (same pid); if the pipe closes first, it ends.
_GATE = 'read -r go && exec "$@" </dev/null'
_SAME_START_SECONDS = 2.0  # the system's clock may be corrected between two looks at one process


class Child:
    """A process that we started; it does nothing until `release`, and never will if we die before."""

    def __init__(self, command: Sequence[str], *, working_directory: Path, stderr_file: Path) -> None:
        """Start it in a session of its own, so that neither Ctrl-C nor our end reaches it.

        Raises:
            OSError: if the file cannot be written, or the working directory is gone.
        """
        with stderr_file.open("wb") as stderr:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=working_directory,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.created_at = float(psutil.Process(self.pid).create_time())

    @property
    def waits(self) -> bool:
        """Whether it has been neither released nor abandoned."""
        assert self._process.stdin is not None
        return not self._process.stdin.closed

    def release(self) -> None:
        """Let it go to work."""
        self._answer(b"go\n")

    def abandon(self) -> None:
        """End it before it has done anything."""
        self._answer(b"")
        self._process.wait()

    def exit_code(self) -> int | None:
        """None while it lives; ``-N`` if signal N ended it."""
        return self._process.poll()

    def _answer(self, word: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(word)


def is_alive(pid: int | None, created_at: float | None) -> bool:
    """Whether the process that had this pid and start time still runs; one that nobody has waited for does not."""
    if pid is None or created_at is None:
        return False
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - created_at) > _SAME_START_SECONDS:
            return False  # a later process that was given the same pid
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:  # there is none, or it is somebody else's
        return False


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that leads its group, and to what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
