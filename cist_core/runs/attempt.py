"""One attempt at a run as a job of submitit: what the job does on the machine that it was given."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cist_core.files import write_whole
from cist_core.processes import signal_group

_GATE_SECONDS = 600.0
_LOOK_SECONDS = 0.2
_SAVE_SECONDS = 80.0  # submitit has the job told 90 seconds before its time is up


@dataclass(frozen=True)
class Ticket:
    """By which an attempt is known in the folder that both sides see.

    Attributes:
        folder: in the directory of the run; submitit keeps the job there.
        name: that no other attempt has, in letters and digits.
    """

    folder: Path
    name: str

    @property
    def exit_file(self) -> Path:
        return self.folder / f"{self.name}.exit"

    @property
    def begun_file(self) -> Path:
        """Is there once the command was started; one that is started again, whoever does so, resumes."""
        return self.folder / f"{self.name}.begun"

    @property
    def _valid_file(self) -> Path:
        return self.folder / "valid"

    def exit_code(self) -> int | None:
        """What the command returned, or ``-N`` if signal N ended it; None while that is not known."""
        try:
            return int(self.exit_file.read_text())
        except (OSError, ValueError):
            return None

    def prepare(self) -> None:
        """Make the folder, in which no ticket is valid until somebody says so."""
        self.folder.mkdir(exist_ok=True)
        self._valid_file.unlink(missing_ok=True)

    def validate(self) -> None:
        """Let the job go to work, and those of other tickets end without having done any."""
        write_whole(self._valid_file, lambda file: file.write_text(self.name), what="The ticket", make_folders=False)

    def is_valid(self) -> bool | None:
        """None while nobody has said so."""
        try:
            return self._valid_file.read_text() == self.name
        except OSError:
            return None


@dataclass
class Attempt:
    """What submitit sends to the machine.

    Attributes:
        command: what trains the run.
        working_directory: where it works.
        stderr_file: takes its standard error.
        ticket: by which it is known.
    """

    command: Sequence[str]
    working_directory: Path
    stderr_file: Path
    ticket: Ticket
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __call__(self) -> None:
        """Wait until the table of runs has this attempt, then work, and leave the exit code in a file."""
        deadline = time.monotonic() + _GATE_SECONDS
        while (valid := self.ticket.is_valid()) is None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        if not valid:
            return
        command = list(self.command)
        if self.ticket.begun_file.exists() and "--resume" not in command:
            command.append("--resume")
        self.ticket.begun_file.touch()
        with self.stderr_file.open("wb") as stderr:
            process = self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=self.working_directory,
                start_new_session=True,
            )
        # Slurm signals this process alone, but for SIGKILL.
        signal.signal(signal.SIGTERM, lambda *_: signal_group(process.pid, signal.SIGTERM))
        while (code := process.poll()) is None:
            time.sleep(_LOOK_SECONDS)
        write_whole(
            self.ticket.exit_file, lambda file: file.write_text(str(code)), what="The exit code", make_folders=False
        )

    def checkpoint(self) -> Any:
        """submitit calls this when the job's time is up or its machine is needed: save, to go on in the next turn."""
        from submitit.helpers import DelayedSubmission

        again = DelayedSubmission(Attempt(self.command, self.working_directory, self.stderr_file, self.ticket))
        if self._process is None:  # the command has not begun
            return again
        signal_group(self._process.pid, signal.SIGTERM)
        # Not `Popen.wait`: this is a signal handler, which may have come in the middle of `Popen.poll`.
        deadline = time.monotonic() + _SAVE_SECONDS
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < deadline and os.waitpid(self._process.pid, os.WNOHANG) == (0, 0):
                time.sleep(_LOOK_SECONDS)
        return again
