"""A child process that outlives us, is known again by pid and start, and is stopped as a group.

The start is a text that does not move with the system's clock: on Linux the ticks since the boot and which boot that
was (fields 3 and 22 of ``/proc/PID/stat``, ``/proc/sys/kernel/random/boot_id``; see proc(5)). There, seconds since 1970
would be computed from the clock as it is now, and a correction would make every process another one. Elsewhere it is
these seconds, which the system keeps as they were when the process started.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

PYTHON = (sys.executable, "-P")
"""Starts a module of ours. Its working directory may hold files of anybody, so it is no place that modules come from;
`cist_core.zoo.foreign.own_code` adds it where code of a user's own is called."""

# The shell waits for a word before it becomes the command (same pid); if the pipe closes first, it ends.
_GATE = 'read -r go && exec "$@" </dev/null'
_SAME_START_SECONDS = 2.0  # between two looks at a start in seconds since 1970 the clock may be corrected
_TICKS = re.compile(r"tick (\d+) of boot ([0-9a-f-]+)")
_ENDED = "ZX"  # zombie, dead


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
        self.started = start_of(self.pid)

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


def is_alive(pid: int | None, started: str | float | None) -> bool:
    """Whether a process still runs; one that nobody has waited for does not.

    Args:
        pid: its number; None: there was none.
        started: `start_of` it; or seconds since 1970, which earlier versions wrote down.
    """
    if pid is None or started is None:
        return False
    try:
        if _TICKS.fullmatch(str(started)):
            return start_of(pid) == started and _stat(pid)[0] not in _ENDED
        process = psutil.Process(pid)
        same = abs(process.create_time() - float(started)) <= _SAME_START_SECONDS
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except (OSError, ValueError, psutil.Error):  # there is none, it is somebody else's, or that was no start
        return False


def start_of(pid: int) -> str:
    """When a process started, by which it is told from a later one of the same number.

    Raises:
        OSError, psutil.Error: if there is none.
    """
    if sys.platform == "linux":
        with contextlib.suppress(FileNotFoundError):  # a sandbox may have no id of the boot
            return f"tick {_stat(pid)[19]} of boot {_boot()}"
    return str(psutil.Process(pid).create_time())


def age(started: str) -> float | None:
    """Seconds since a start of this boot, by a clock that nobody sets; None where that is not known.

    Args:
        started: `start_of` a process.
    """
    ticks = _TICKS.fullmatch(started)
    if ticks is None or sys.platform != "linux" or ticks[2] != _boot():
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks[1]) / os.sysconf("SC_CLK_TCK")


def signs_of_work(pid: int) -> tuple[float, int]:
    """Seconds of processor time that a process and those it has started have had, and bytes that they have read and
    written: while nothing of this changes, they wait for something. Zeros for a process that has ended.
    """
    seconds, moved = 0.0, 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # it ends while one looks
                seconds += sum(each.cpu_times())
                if hasattr(each, "io_counters"):  # not on macOS
                    found = each.io_counters()
                    moved += found.read_bytes + found.write_bytes
    return seconds, moved


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the third on; the second is a name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that leads its group, and to what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
