"""What the table of runs knows of a run, kept beside the run as well, so that a lost table can be rebuilt.

The table is the truth while it is there. A record is written in the transaction that changes the row; what cannot be
written then (the disk is full) is written with the next change.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
from pydantic import BaseModel, ConfigDict, Field

from cist_core.documents import parse_json, read_bytes
from cist_core.errors import CistError
from cist_core.files import write_whole
from cist_core.plain_text import all_written_out
from cist_core.processes import start_of
from cist_core.runs.executors.local import LocalExecutor, process_handle
from cist_core.runs.executors.protocol import chosen_executor
from cist_core.runs.run import RunState
from cist_core.training.run_directory import RunDirectory, RunDirectoryBusy
from cist_core.training.run_files import MOST_BYTES

RECORD_FILE = "run.json"
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{1,64}")
_TEXTS = ("name", "note", "sweep", "owner", "reason")
_LOST = "It is gone and left no word; resume it from its last checkpoint."
_NEVER_STARTED = "It had not been started when the table of runs was lost; resume it to queue it again."
_NOT_COPIED = "Its copy has neither a checkpoint nor a status; resume it to train it from the beginning."

Moment = Annotated[float, Field(ge=0, le=1e11)]


def is_run_id(name: str) -> bool:
    """Whether a folder may be the directory of a run, by its name.

    Example:
        >>> is_run_id("20261124-171500-ab12"), is_run_id("student")
        (True, False)
    """
    return _RUN_ID.fullmatch(name) is not None


class RunRecord(BaseModel):
    """One row of the table; its fields are the columns, described at `Run`."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    id: str
    name: str
    note: str
    state: str
    sweep: str | None
    created_at: Moment
    queued_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    reason: str | None
    stop_requested_at: float | None
    limit_reason: str | None
    attempt: Annotated[int, Field(ge=0, lt=2**31)]
    resume: Annotated[int, Field(ge=0, le=1)]
    executor: str | None
    handle: str | None
    working_directory: str
    owner: str | None


@dataclass(frozen=True)
class Recovered:
    """A run that was found by its directory.

    Attributes:
        record: its row.
        known: whether that is what the table said; else name, note, sweep and owner are gone, and the rest is what the
            run said of itself.
    """

    record: RunRecord
    known: bool


def queued(
    run_id: str,
    *,
    name: str,
    working_directory: Path,
    note: str = "",
    group: str | None = None,
    owner: str | None = None,
    executor: str | None = None,
    at: float | None = None,
) -> RunRecord:
    """The row of a run that has not been started.

    Args:
        run_id: the name of its directory.
        name: for people.
        working_directory: that it is started in.
        note: anything.
        group: the sweep that it belongs to.
        owner: whose it is.
        executor: that is to run it; None: the worker's own.
        at: when it was queued, in seconds since 1970; default: now.
    """
    moment = time.time() if at is None else at
    return RunRecord(
        id=run_id,
        name=name,
        note=note,
        state=str(RunState.QUEUED),
        sweep=group,
        created_at=moment,
        queued_at=moment,
        started_at=None,
        ended_at=None,
        reason=None,
        stop_requested_at=None,
        limit_reason=None,
        attempt=0,
        resume=0,
        executor=executor,
        handle=None,
        working_directory=str(working_directory),
        owner=owner,
    )


def write_record(directory: RunDirectory, row: Mapping[str, Any]) -> None:
    """Keep a row beside its run, as far as that can be done."""
    if directory.path.is_symlink() or not directory.path.is_dir():
        return
    text = json.dumps(dict(row), indent=2) + "\n"
    with contextlib.suppress(CistError):
        write_whole(
            directory.path / RECORD_FILE,
            lambda file: file.write_text(text, encoding="utf-8"),
            what="The run",
            make_folders=False,
        )


def brought(directory: RunDirectory, run_id: str, *, name: str | None, root: Path) -> RunRecord:
    """The row of a run whose directory comes from another machine, and which does not run here.

    How it stands is what it says itself. What the table there knew beyond that is taken over if the run keeps its id
    and its record is whole: name, note, sweep, owner, attempts, when it was added; where it is to run, if this machine
    knows the place, and where its relative paths begin, if there is such a folder here.

    Args:
        directory: its files, whole.
        run_id: that it is to have here.
        name: for people, where its record does not say; None: by its objective.
        root: of the runs here.
    """
    record = _from_files(directory, run_id, root)
    if not directory.status():  # it comes last, after whatever was trained
        begun = directory.checkpoints.is_dir() and any(directory.checkpoints.iterdir())
        state, reason = (RunState.LOST, _LOST) if begun else (RunState.CANCELLED, _NOT_COPIED)
        record = record.model_copy(
            update={"state": str(state), "reason": reason, "attempt": int(begun), "resume": int(begun)}
        )
    known = _read(directory.path, run_id)
    if known is None:
        return _in_plain_text(record.model_copy(update={} if name is None else {"name": name}))
    taken = known.model_dump(include={*_TEXTS, "created_at", "queued_at", "attempt"} - {"reason"})
    if os.path.isdir(known.working_directory):
        taken["working_directory"] = known.working_directory
    if known.executor not in (None, LocalExecutor.name):
        with contextlib.suppress(CistError):
            taken["executor"] = chosen_executor(known.executor)
    return _in_plain_text(record.model_copy(update=taken))


def _in_plain_text(record: RunRecord) -> RunRecord:
    return record.model_copy(update=all_written_out(record.model_dump(include={*_TEXTS})))


def recover(root: Path) -> list[Recovered]:
    """The runs whose directories lie in a root, in the order in which they were queued."""
    found = [recover_one(path) for path in root.iterdir() if is_run_id(path.name) and path.is_dir()]
    there = [one for one in found if one is not None]
    return sorted(there, key=lambda one: (one.record.queued_at, one.record.created_at, one.record.id))


def recover_one(path: Path) -> Recovered | None:
    """The run whose directory this is; None if it is that of none."""
    directory = RunDirectory(path)
    record = _read(path, path.name)
    if record is None:
        return (
            Recovered(_from_files(directory, path.name, path.parent), known=False)
            if directory.config_file.exists()
            else None
        )
    if record.state != RunState.RUNNING and (handle := _living(directory)) is not None:
        # It was started, and the disk had no room for its record.
        alive = {"state": str(RunState.RUNNING), "executor": LocalExecutor.name, "handle": handle, "ended_at": None}
        record = record.model_copy(update={**alive, "reason": None, "attempt": record.attempt + 1})
    return Recovered(record, known=True)


def _read(path: Path, run_id: str) -> RunRecord | None:
    """What the table said of a run, if that is there and whole."""
    content = _json(path / RECORD_FILE)
    try:
        record = RunRecord.model_validate(content)
        record.model_dump_json()  # fails for half a character, which JSON can name and no table can hold
    except ValueError:
        return None
    return record if record.id == run_id and record.state in list(RunState) else None


def _from_files(directory: RunDirectory, run_id: str, root: Path) -> RunRecord:
    """What a run says of itself."""
    status, config = directory.status(), _json(directory.config_file)
    ended = status.get("state")
    handle = _living(directory)
    created_at = _created_at(run_id, directory.path)
    if handle is not None:
        state, reason = RunState.RUNNING, None
    elif ended in (RunState.FINISHED, RunState.FAILED, RunState.CANCELLED):
        state, reason = RunState(str(ended)), status.get("reason")
    else:
        state, reason = (RunState.LOST, _LOST) if status else (RunState.CANCELLED, _NEVER_STARTED)
    record = queued(run_id, name=_name(config) or run_id, working_directory=root, at=created_at)
    said = {
        "state": str(state),
        "started_at": status.get("started_at"),
        "ended_at": None if handle is not None else status.get("updated_at"),
        "reason": reason,
        "attempt": 1 if status else 0,
        "resume": 1 if status else 0,
        "executor": None if handle is None else LocalExecutor.name,
        "handle": handle,
    }
    return RunRecord.model_validate(record.model_dump() | said)


def _living(directory: RunDirectory) -> str | None:
    """The handle of the process that trains there; None if there is none.

    A process that says it runs has the lock of its directory, unless it is gone.
    """
    status = directory.status()
    pid = status.get("pid")
    if status.get("state") != RunState.RUNNING or pid is None or not directory.lock_file.exists():
        return None
    try:
        with directory.locked():
            return None
    except RunDirectoryBusy:
        pass
    except OSError:
        return None
    try:
        return process_handle(pid, start_of(pid))
    except (psutil.Error, OSError, ValueError, OverflowError):
        return None


def _name(config: Any) -> str:
    objective = config.get("objective") if isinstance(config, dict) else None
    names = [objective.get(key) for key in ("preset", "name")] if isinstance(objective, dict) else []
    return next((name for name in names if isinstance(name, str) and name.isprintable()), "")


def _created_at(run_id: str, path: Path) -> float:
    """From the id, or else from the file system."""
    try:
        return time.mktime(time.strptime(run_id[:15], "%Y%m%d-%H%M%S"))
    except (ValueError, OverflowError):
        return path.stat().st_mtime


def _json(path: Path) -> Any:
    """The content of a file; None if it cannot be read."""
    try:
        return parse_json(read_bytes(path, MOST_BYTES))
    except (OSError, ValueError):
        return None
