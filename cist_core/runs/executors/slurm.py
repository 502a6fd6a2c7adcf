"""Runs as jobs of Slurm, through submitit."""

from __future__ import annotations

import importlib.util
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cist_core.errors import CistError
from cist_core.installing import pip_install
from cist_core.runs.attempt import Attempt, Ticket
from cist_core.runs.executors.local import exit_of
from cist_core.runs.executors.protocol import (
    ENGINE,
    Executor,
    ExecutorUnreachable,
    Exit,
    refuse_busy,
    register_executor,
)
from cist_core.runs.executors.settings import SETTINGS_FILE, settings_of
from cist_core.runs.run import Run

_HANDLE = re.compile(r"job (\d+) with ticket ([0-9a-f]+) in (.+)", re.DOTALL)
_DEFAULTS = {"timeout_min": 24 * 60}
_MOST_TIMEOUTS = 1000  # how often a job that ran out of time is queued again
_WORKS = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "RESIZING", "STAGE_OUT", "SUSPENDED")
_MACHINE_LOST = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED")
_SUBMIT_SECONDS = 15  # the worker looks at nothing else meanwhile
_TIMED_OUT = 124  # of coreutils' `timeout`
_PASSING = ("Unable to contact slurm controller", "Socket timed out", "Connection refused", "temporarily unavailable")


@register_executor
class SlurmExecutor(Executor):
    """A job a run, whose exit code comes in a file, so that it is known without Slurm's accounts."""

    name = "slurm"
    look_seconds = 30
    """Between two questions to Slurm about the jobs of all runs, at most once they have gone on for a minute."""

    def __init__(self, *, command: Sequence[str] = ENGINE) -> None:
        super().__init__(command=command)
        self._states: Any = None

    def check_available(self) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise CistError(f"Runs on Slurm need submitit; {pip_install('slurm')}.")
        if shutil.which("sbatch") is None:
            raise CistError("There is no sbatch here; queue runs for Slurm on a machine that can submit its jobs.")

    def start(self, run: Run) -> str:
        self.check_available()
        refuse_busy(run)
        ticket = Ticket(run.directory.path / "slurm", secrets.token_hex(8))
        ticket.prepare()
        attempt = Attempt(self.command_for(run), run.working_directory, run.stderr_file, ticket)
        return f"job {_submit(attempt, run)} with ticket {ticket.name} in {ticket.folder}"

    def release(self, handle: str) -> None:
        if (parts := _parts(handle)) is not None:
            parts[1].validate()

    def poll(self, handle: str) -> Exit | None:
        if (parts := _parts(handle)) is None:
            return Exit(reason="Nobody knows its job")
        number, ticket = parts
        if (code := ticket.exit_code()) is not None:
            return exit_of(code)
        if ticket.is_valid() is None and ticket.folder.is_dir():
            ticket.validate()
        state, _, remark = self._state(number).partition(" ")
        if state in _WORKS:
            return None
        if state == "UNKNOWN":  # just submitted, or Slurm keeps no accounts; the file tells the end
            return None
        if (code := ticket.exit_code()) is not None:  # written since
            return exit_of(code)
        return Exit(
            reason=f"Slurm says {' '.join(filter(None, (state, remark)))} of job {number}",
            machine_lost=state in _MACHINE_LOST,
        )

    def stop(self, handle: str, *, force: bool) -> None:
        parts = _parts(handle)
        if parts is None or parts[1].exit_code() is not None:
            return
        if force:
            _scancel("--signal=KILL", parts[0])
        _scancel(parts[0])  # SIGTERM, and after Slurm's KillWait SIGKILL; one that waits is taken out of the queue

    def _state(self, number: str) -> str:
        from submitit.slurm.slurm import SlurmInfoWatcher

        if self._states is None:
            self._states = SlurmInfoWatcher(delay_s=self.look_seconds)
        return str(self._states.get_state(number)).upper()


def _submit(attempt: Attempt, run: Run) -> str:
    """The number of a new job."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    root = run.directory.path.parent
    settings = {**_DEFAULTS, **settings_of(root, SlurmExecutor.name)}
    try:
        executor = submitit.AutoExecutor(attempt.ticket.folder, cluster="slurm", slurm_max_num_timeout=_MOST_TIMEOUTS)
        executor.update_parameters(name=f"cist-{run.id}", **settings)
        if shutil.which("timeout") is not None:  # submitit would wait for ever
            in_time = ["timeout", "--kill-after=2", str(_SUBMIT_SECONDS), "sbatch"]
            executor._executor._make_submission_command = lambda script: [*in_time, str(script)]
    except (TypeError, NameError, ValueError, AssertionError) as error:
        raise CistError(f"Mend [slurm] in {root / SETTINGS_FILE}: {' '.join(str(error).split())}") from error
    except RuntimeError as error:
        raise CistError(f"No job of Slurm can be submitted from here ({error}).") from error
    try:
        return str(executor.submit(attempt).job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        said = " ".join(str(error).split())
        if getattr(error.__cause__, "returncode", None) in (_TIMED_OUT, 128 + signal.SIGKILL):
            raise ExecutorUnreachable(f"Slurm gives no answer (sbatch took more than {_SUBMIT_SECONDS} s).") from error
        if any(words in said for words in _PASSING):
            raise ExecutorUnreachable(f"Slurm takes no jobs now ({said}).") from error
        raise CistError(f"Slurm did not take the job ({said}).") from error


def _scancel(*arguments: str) -> None:
    try:
        said = subprocess.run(["scancel", *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExecutorUnreachable(f"scancel gives no answer ({error}).") from error
    if said.returncode and any(words in said.stderr for words in _PASSING):
        raise ExecutorUnreachable(f"scancel gives no answer ({said.stderr.strip()}).")


def _parts(handle: str) -> tuple[str, Ticket] | None:
    match = _HANDLE.fullmatch(handle)
    return None if match is None else (match[1], Ticket(Path(match[3]), match[2]))
