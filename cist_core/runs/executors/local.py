"""Runs as processes of this machine."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from cist_core.processes import Child, age, is_alive, signal_group
from cist_core.runs.executors.protocol import ENGINE, Executor, Exit, register_executor
from cist_core.runs.run import Run

_HANDLE = re.compile(r"process (\d+) since (.+)")


@register_executor
class LocalExecutor(Executor):
    """A child process a run, in a session of its own, which is known again by pid and start."""

    name = "local"

    def __init__(self, *, command: Sequence[str] = ENGINE) -> None:
        super().__init__(command=command)
        self._children: dict[str, Child] = {}  # those that have ended, too: only they know their exit code

    def start(self, run: Run) -> str:
        with run.directory.locked():  # a process that trains there keeps its files
            child = Child(self.command_for(run), working_directory=run.working_directory, stderr_file=run.stderr_file)
        handle = process_handle(child.pid, child.started)
        self._children[handle] = child
        return handle

    def release(self, handle: str) -> None:
        self._children[handle].release()

    def poll(self, handle: str) -> Exit | None:
        child = self._children.get(handle)
        if child is not None:
            code = child.exit_code()
            return None if code is None else exit_of(code)
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

    def age(self, handle: str) -> float | None:
        process = _process(handle)
        return None if process is None else age(process[1])


def process_handle(pid: int, started: str | float) -> str:
    """The handle of the process that has this pid and this start (`start_of`).

    Example:
        >>> process_handle(4711, "tick 55301 of boot 3cd1ac05-3f5c-4f93-8a35-2f7a1f3d9f3e")
        'process 4711 since tick 55301 of boot 3cd1ac05-3f5c-4f93-8a35-2f7a1f3d9f3e'
    """
    return f"process {pid} since {started}"


def _process(handle: str) -> tuple[int, str] | None:
    match = _HANDLE.fullmatch(handle)
    return None if match is None else (int(match[1]), match[2])


def exit_of(code: int) -> Exit:
    """What an exit code says; ``-N`` if signal N ended the process."""
    if code >= 0:
        return Exit(code)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    by = " (somebody, or the system when memory ran out)" if code == -signal.SIGKILL else ""
    return Exit(reason=f"The process was ended by {name}{by}")
