"""Timing a few steps of a run in a process of its own, while somebody looks at the form."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cist_core.processes import PYTHON
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
        self._process: subprocess.Popen[str] | None = None
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
        if self._process is None:
            if time.monotonic() - self._since >= REST_SECONDS:
                self._start()
            return
        if self._process.poll() is None:
            if time.monotonic() - self._since > MOST_SECONDS:
                self.stop()
                fewer = "fewer or shorter texts" if self._config.task == "language" else "fewer images"
                self.fault = (
                    f"Timing took longer than {MOST_SECONDS:.0f} seconds, so the run would be long; the teacher or the "
                    f"student may be slow here. Choose smaller ones, or {fewer}."
                )
            return
        self._read(self._process.returncode)

    def _start(self) -> None:
        self._since = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="cist-estimate-")
        folder = Path(self._folder.name)
        self._config.save(folder / "config.json")
        command = [*PYTHON, "-m", "cist_core", "distill", str(folder / "config.json"), "--estimate"]
        with (folder / "answer").open("w") as answer, (folder / "errors").open("w") as errors:
            self._process = subprocess.Popen(command, stdout=answer, stderr=errors, text=True)

    def _read(self, code: int) -> None:
        assert self._folder is not None
        folder = Path(self._folder.name)
        if code == 0:
            found = json.loads((folder / "answer").read_text())
            self.found = Estimate(**{name: found[name] for name in Estimate.__dataclass_fields__})
        else:
            said = (folder / "errors").read_text(errors="replace")
            lines = [line.removeprefix("cist: ") for line in said.splitlines() if line.strip()]
            self.fault = lines[-1] if lines else f"Timing stopped with exit code {code}."
        self._folder.cleanup()

    def stop(self) -> None:
        """End the process, if it runs; the job may start anew."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=10)
        if self._folder is not None:
            self._folder.cleanup()
        self._process, self._folder, self._since = None, None, time.monotonic()


def _key(config: RunConfig) -> str:
    return config.model_dump_json(exclude={"seed"})
