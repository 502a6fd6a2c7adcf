"""`Run`: one row of the table, and the states it goes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cist_core.training.run_directory import RunDirectory


class RunState(StrEnum):
    """Where a run is in its life.

    queued -> running -> finished, failed, cancelled or lost; `RunStore.resume` and `RunStore.retry` queue it again.
    """

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    """It is gone and left no word: killed, or the machine went down."""

    @property
    def ended(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True)
class Run:
    """What the table knew of a run when it was asked.

    Attributes:
        id: its name on disk; later ids sort behind earlier ones, second by second.
        name: for people.
        note: for people.
        state: where it is in its life.
        group: the sweep it belongs to.
        created_at: when it was added, in seconds since 1970, as the other times.
        started_at: when its current or last attempt started.
        ended_at: when that attempt ended.
        reason: why it ended as it did, or why its executor cannot start or watch it now, in a sentence.
        stop_requested_at: when it was told to stop, by a person or for a limit.
        limit_reason: the limit that it was stopped for.
        attempt: how often it was started.
        resume: whether the next attempt continues from the last checkpoint.
        executor: name of what runs its current or last attempt, or is to run the first; None: the worker's own.
        handle: by which that executor knows the attempt again; nobody else reads it.
        working_directory: where it was added; relative paths in its config start there.
        directory: its files.
        owner: who started it in an app with sign-in; None: the operator.
    """

    id: str
    name: str
    note: str
    state: RunState
    group: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    reason: str | None
    stop_requested_at: float | None
    limit_reason: str | None
    attempt: int
    resume: bool
    executor: str | None
    handle: str | None
    working_directory: Path
    directory: RunDirectory = field(compare=False)
    owner: str | None = None

    @property
    def cancel_requested(self) -> bool:
        """Whether it was told to stop and has not stopped yet."""
        return self.state is RunState.RUNNING and self.stop_requested_at is not None

    @property
    def stderr_file(self) -> Path:
        """What the command of the last attempt wrote to standard error: the log, and a traceback if there was one."""
        return self.directory.path / "stderr.txt"
