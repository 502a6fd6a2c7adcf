"""`Executor`: what the worker asks of whatever runs a run, be it this machine or a cluster.

A run is a command and a directory that both sides can reach. What an executor has started it knows again by a handle,
a text that the table keeps and that nobody else reads: a process, the number of a job, an address. So a worker may
end at any moment, and the next one goes on with nothing but the table.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, TypeVar

from cist_core.errors import CistError
from cist_core.processes import PYTHON
from cist_core.runs.executors.settings import mirror_of
from cist_core.runs.run import Run
from cist_core.training.run_directory import RunDirectoryBusy

ENGINE = (*PYTHON, "-m", "cist_core", "distill", "--allow-code")
"""What trains a run. Code was refused or allowed when the run was queued; a run that has an owner is told ``--no-code``
instead, and where `NO_CODE` is set none runs in any case."""


RAY_ADDRESS = "CIST_RAY_ADDRESS"
"""Where Ray is; while it is set, runs are queued for Ray."""


@dataclass(frozen=True)
class Exit:
    """How the command of a run has ended, as far as its executor knows.

    Attributes:
        code: what it returned; None if it was ended from outside, or if that is not known.
        reason: where there is no code: what happened, as a sentence without its full stop.
        machine_lost: whether the machine went away below it, so that the run may go on elsewhere without being asked.
        unanswered: whether the executor could not be asked, and a run that was told to stop is given up.
    """

    code: int | None = None
    reason: str = "It is gone and left no word"
    machine_lost: bool = False
    unanswered: bool = False


class ExecutorUnreachable(CistError):  # noqa: N818 - it tells a state that passes, not a fault
    """The executor gives no answer now. Runs stay as they are, and the worker asks again at its next look."""


class RunPutOff(CistError):  # noqa: N818 - it tells a state that passes, not a fault
    """This one run cannot start now. It stays in the queue, and others of its executor start."""


class Executor(ABC):
    """Runs the commands of runs somewhere. A subclass is one kind of place.

    A handle has to work in every object of the class, also in another process and after the end of the one that made
    it. Every method may raise `ExecutorUnreachable`. They are called by one thread, which looks at nothing
    else meanwhile, so each should answer within seconds; the table is free for others.
    """

    name: ClassVar[str]
    """Under which the table keeps it: do not change it while runs have it."""

    def __init__(self, *, command: Sequence[str] = ENGINE) -> None:
        """Prepare to start runs.

        Args:
            command: what trains a run; ``DIR/config.json --run-dir DIR`` and, to continue, ``--resume`` follow.
        """
        self.command = tuple(command)

    def check_available(self) -> None:  # noqa: B027 - processes of this machine need nothing
        """Refuse runs that cannot be started from here; asked when they are queued.

        Raises:
            CistError: naming what is missing.
        """

    def command_for(self, run: Run) -> list[str]:
        """The whole command of the next attempt at a run."""
        directory = run.directory
        words = [_word_of(run, word) for word in self.command]
        command = [*words, str(directory.config_file), "--run-dir", str(directory.path)]
        if url := mirror_of(directory.path):
            command += ["--replace-mirror", "--mirror", url]  # where it begins anew, of an earlier attempt at this run
        return [*command, "--resume"] if run.resume else command

    def find(self, run: Run) -> str | None:
        """The handle of what was started before for the same ``run.id`` and ``run.attempt``, if that is this attempt.

        Asked before `start`: it goes on, or has ended and the run has said how, and a worker died, or lost the answer,
        before the table had the handle. None for executors whose commands wait for `release`, since those do nothing.

        Raises:
            RunPutOff: if this run cannot start now.
        """
        return None

    @abstractmethod
    def start(self, run: Run) -> str:
        """Start the next attempt at a run, and return its handle.

        The command works in ``run.working_directory``, writes its standard error to ``run.stderr_file``, and outlives
        this process. If the worker dies before the table has the handle, the run is still queued and will be started
        again. So that nothing is trained twice, an executor either waits for `release`, or can `find` what it has
        started.

        Raises:
            RunPutOff: if this run cannot start now.
        OSError: if this run cannot be started; it fails for this reason.
            CistError: the same, in a sentence.
        """

    def release(self, handle: str) -> None:  # noqa: B027 - not every executor can hold a run back
        """Let the command go to work, now that the table has its handle.

        If this fails, or the worker dies before, `poll` does it as well, for nobody polls a handle that the table does
        not have; or it tells that the command has ended, as that of a child process whose parent is gone.
        """

    @abstractmethod
    def poll(self, handle: str) -> Exit | None:
        """None while the command waits or works; how it has ended, as often as one asks."""

    def age(self, handle: str) -> float | None:
        """Seconds since the command was started, by a clock that nobody sets; None where that is not known."""
        return None

    @abstractmethod
    def stop(self, handle: str, *, force: bool) -> None:
        """Tell the command and all that it has started to end; nothing happens if it has ended.

        Args:
            handle: from `start`.
            force: false: it may save where it is, as on SIGTERM; true: at once, as by SIGKILL.
        """


def _word_of(run: Run, word: str) -> str:
    """A word of a command as it is for this run: what a visitor has queued runs no code, whoever started the worker."""
    return "--no-code" if word == "--allow-code" and run.owner is not None else word


_CLASSES: dict[str, type[Executor]] = {}
ExecutorClass = TypeVar("ExecutorClass", bound=type[Executor])


def register_executor(executor: ExecutorClass) -> ExecutorClass:
    """Make an executor known by its name (a class decorator)."""
    _CLASSES[executor.name] = executor
    return executor


@cache
def executor_named(name: str) -> Executor:
    """The executor that the table knows by this name.

    Raises:
        ExecutorUnreachable: if this installation has none of this name.
    """
    if name not in _CLASSES:
        raise ExecutorUnreachable(
            f"There is no executor '{name}' here; known are {', '.join(sorted(_CLASSES))}. Its runs stay as they are: "
            "look at them where it is installed."
        )
    return _CLASSES[name]()


def executor_of(run: Run, ours: Executor | None = None) -> tuple[Executor, str]:
    """Whom to ask about a run that runs, and by which handle.

    Args:
        run: one that has been started.
        ours: asked if the run is one of its kind, in place of another object of its class.

    Raises:
        ExecutorUnreachable: as `executor_named`.
    """
    assert run.executor is not None
    assert run.handle is not None
    if ours is not None and ours.name == run.executor:
        return ours, run.handle
    return executor_named(run.executor), run.handle


def chosen_executor(name: str | None) -> str | None:
    """Where runs are to run that are queued now; None: where their worker starts those without a wish.

    Args:
        name: of an executor; None: Ray where ``CIST_RAY_ADDRESS`` is set.

    Raises:
        CistError: if there is none of this name, or it cannot start runs from here.
    """
    if name is None and os.environ.get(RAY_ADDRESS):
        name = "ray"
    if name is None:
        return None
    if name not in _CLASSES:
        raise CistError(f"Expected one of the executors {', '.join(sorted(_CLASSES))}, but got '{name}'.")
    executor_named(name).check_available()
    return name


def refuse_busy(run: Run) -> None:
    """Start nothing where a process still trains, as on a machine that was only out of reach for a while.

    Raises:
        RunPutOff: if the run is to go on there; it does once that process has ended.
        RunDirectoryBusy: if it is to begin there.
    """
    try:
        with run.directory.locked():
            pass
    except RunDirectoryBusy as error:
        if run.resume:
            raise RunPutOff(f"{error} The run {run.id} goes on once it has ended.") from error
        raise
