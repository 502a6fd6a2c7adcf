"""Timing a few steps of a run in a process of its own, while somebody looks at the form."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from app.forms.command_job import CommandJob
from cist_core.training import RunConfig

REST_SECONDS = 3.0
"""So long a form stands unchanged before its run is timed."""
MOST_SECONDS = 180.0
"""The longest that timing may take; it runs the teacher on a few batches and trains a few steps."""


@dataclass(frozen=True)
class Estimate:
    """How long one run takes on this machine, as the engine measured it."""

    seconds: float
    steps: int
    seconds_per_step: float
    teacher_seconds: float
    device: str


class EstimateJob:
    """The timing of one config: it starts once the form has come to rest, and ends with an estimate or a sentence.

    Attributes:
        found: what was measured; None before that.
        fault: why nothing could be measured; None if nothing is wrong.
    """

    def __init__(self, config: RunConfig) -> None:
        self.key = _key(config)
        self.found: Estimate | None = None
        self.fault: str | None = None
        self._config = config
        self._since = time.monotonic()
        self._command: CommandJob | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def of(cls, jobs: dict[str, EstimateJob], config: RunConfig) -> EstimateJob:
        """The job of this config among those of a session; that of another config is stopped."""
        wanted = _key(config)
        for key, job in list(jobs.items()):
            if key != wanted and not job.ended:
                job.stop()
                del jobs[key]
        return jobs.setdefault(wanted, cls(config))

    @property
    def ended(self) -> bool:
        return self.found is not None or self.fault is not None

    def go_on(self) -> None:
        """Start the process when it is time, and read its answer when it is there."""
        if self.ended:
            return
        if self._command is None:
            if time.monotonic() - self._since >= REST_SECONDS:
                self._start()
            return
        self._command.go_on()
        if self._command.ended:
            found, self.fault = self._command.found, self._command.fault
            if found is not None:
                self.found = Estimate(**{name: found[name] for name in Estimate.__dataclass_fields__})
            self.stop()

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cist-estimate-")
        config = Path(self._folder.name) / "config.json"
        self._config.save(config)
        fewer = "fewer or shorter texts" if self._config.task == "language" else "fewer images"
        self._command = CommandJob(
            ["distill", str(config), "--estimate"],
            most_seconds=MOST_SECONDS,
            too_long=f"Timing took longer than {MOST_SECONDS:.0f} seconds, so the run would be long; the teacher or "
            f"the student may be slow here. Choose smaller ones, or {fewer}.",
        )

    def stop(self) -> None:
        """End the process, if it runs; the job may start anew."""
        if self._command is not None:
            self._command.stop()
        if self._folder is not None:
            self._folder.cleanup()
        self._command, self._folder, self._since = None, None, time.monotonic()


def _key(config: RunConfig) -> str:
    return config.model_dump_json(exclude={"seed"})
