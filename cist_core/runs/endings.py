"""How a run has ended, told from what its command left behind."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cist_core.runs.executors.protocol import Exit
from cist_core.runs.run import Run, RunState

_FULL_BYTES = 1_000_000
_LONGEST_REASON = 500
_TAIL_BYTES = 8192


@dataclass(frozen=True)
class Ending:
    """A state that does not change by itself any more, and why, in a sentence."""

    state: RunState
    reason: str | None = None


def ending(run: Run, how: Exit) -> Ending:
    """How a run whose command has ended has ended itself.

    What the run said itself counts most, then why it was stopped, then how its command ended.

    Args:
        run: still running according to its row.
        how: what its executor knows.
    """
    if run.directory.is_removed():
        return Ending(
            RunState.FAILED, f"Its directory {run.directory.path} was removed, and its files with it; delete the run."
        )
    status = run.directory.status()
    said, reason = status.get("state"), status.get("reason")
    if said == RunState.FINISHED:
        return Ending(RunState.FINISHED)
    if run.limit_reason is not None:
        return Ending(RunState.FAILED, run.limit_reason)
    if said in (RunState.CANCELLED, RunState.FAILED):
        return Ending(RunState(str(said)), str(reason) if reason else None)
    if run.stop_requested_at is not None:
        if how.unanswered:
            return Ending(RunState.CANCELLED, f"{how.reason}; resume it from its last checkpoint.")
        return Ending(RunState.CANCELLED, "It was ended by force; resume it from its last checkpoint.")
    if how.code:
        last_words = _last_line(run.stderr_file) or f"The process ended with exit code {how.code} and no message."
        return Ending(RunState.FAILED, last_words + _remark_on_disk(run.directory.path))
    reason = how.reason if how.code is None else "The process ended without saying that it had finished"
    return Ending(RunState.LOST, f"{reason}; resume it from its last checkpoint.")


def _last_line(path: Path) -> str:
    """Where a command says what was wrong, and where Python names the exception."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("cist: ")[:_LONGEST_REASON] if lines else ""


def _remark_on_disk(path: Path) -> str:
    """Why a command may have had no words: nothing could be written where it would have said so."""
    try:
        if shutil.disk_usage(path).free < _FULL_BYTES:
            return f" The disk that holds {path} is full."
        with tempfile.TemporaryFile(dir=path):
            return ""
    except OSError as error:
        return f" Nothing can be written to {path} ({error.strerror or error})."
