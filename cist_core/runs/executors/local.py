"""Runs as processes of this machine."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from cist_core.processes import Child, is_alive, signal_group
from cist_core.runs.executors.protocol import ENGINE, Executor, Exit, register_executor
from cist_core.runs.run import Run

_HANDLE = re.compile(r"process (\d+) since (\d+(?:\.\d+)?)")


@register_executor
class LocalExecutor(Executor):
    """A child process a run, in a session of its own, which is known again by pid and start time."""

    name = "local"

    def __init__(self, *, command: Sequence[str] = ENGINE) -> None:
        super().__init__(command=command)
        self._children: dict[str, Child] = {}  # those that have ended, too: only they know their exit code

    def start(self, run: Run) -> str:
        child = Child(self.command_for(run), working_directory=run.working_directory, stderr_file=run.stderr_file)
        handle = process_handle(child.pid, child.created_at)
        self._children[handle] = child
        return handle

    def release(self, handle: str) -> None:
        self._children[handle].release()

    def poll(self, handle: str) -> Exit | None:
        child = self._children.get(handle)
        if child is not None:
            code = child.exit_code()
            return None if code is None else _exit(code)
        # An earlier worker started it.
        process = _process(handle)
        if process is not None and is_alive(*process):
            return None
        return Exit(reason="The process is gone and left no word, as after a restart of the machine")

    def stop(self, handle: str, *, force: bool) -> None:
        child, process = self._children.get(handle), _process(handle)
        if child is not None and child.waits:
            child.abandon()
        elif process is not None and self.poll(handle) is None:
            pid, _ = process
            signal_group(pid, signal.SIGKILL if force else signal.SIGTERM)


def process_handle(pid: int, created_at: float) -> str:
    """The handle of the process that has this pid and started then, in seconds since 1970.

    Example:
        >>> process_handle(4711, 1764214735.25)
        'process 4711 since 1764214735.25'
    """
    return f"process {pid} since {created_at}"


def _process(handle: str) -> tuple[int, float] | None:
    match = _HANDLE.fullmatch(handle)
    return None if match is None else (int(match[1]), float(match[2]))


def _exit(code: int) -> Exit:
    if code >= 0:
        return Exit(code)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    by = " (somebody, or the system when memory ran out)" if code == -signal.SIGKILL else ""
    return Exit(reason=f"The process was ended by {name}{by}")
