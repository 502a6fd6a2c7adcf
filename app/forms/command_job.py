"""A command of `cist` in a process of its own, for what a page cannot wait for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cist_core.processes import PYTHON

_TIDY_SECONDS = 5.0


class CommandJob:
    """A command that goes on while a page is drawn again and again, and ends with an answer or a sentence.

    Attributes:
        found: the JSON object that it has printed; None before that, or where there is none.
        fault: what went wrong; None if nothing did.
    """

    def __init__(self, arguments: Sequence[str], *, most_seconds: float | None = None, too_long: str = "") -> None:
        """Start it.

        Args:
            arguments: of ``cist``.
            most_seconds: after which it is ended; None: it ends by itself.
            too_long: what is said then.
        """
        self.found: dict[str, Any] | None = None
        self.fault: str | None = None
        self._most_seconds, self._too_long = most_seconds, too_long
        self._since = time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        command = [*PYTHON, "-m", "cist_core", *arguments]
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="cist-command-")  # removed with this object, too
            with self._answer.open("w") as answer, self._errors.open("w") as errors:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=answer, stderr=errors, text=True
                )
        except OSError as error:
            self.fault = f"No process can be started ({error.strerror or error})."

    @property
    def ended(self) -> bool:
        return self.found is not None or self.fault is not None

    def go_on(self) -> None:
        """Read the answer when it is there."""
        if self.ended or self._process is None:
            return
        code = self._process.poll()
        if code is not None:
            self._read(code)
        elif self._most_seconds is not None and time.monotonic() - self._since > self._most_seconds:
            self.stop()
            self.fault = self._too_long

    def stop(self) -> None:
        """End the process, if it runs; it has a moment to tidy up."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=_TIDY_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._folder.cleanup()

    @property
    def _answer(self) -> Path:
        return Path(self._folder.name) / "answer"

    @property
    def _errors(self) -> Path:
        return Path(self._folder.name) / "errors"

    def _read(self, code: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # a command that fails may have answered in part
            answer = json.loads(self._answer.read_text())
            self.found = answer if isinstance(answer, dict) else None
        if code != 0 or self.found is None:
            lines = [line for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
            self.fault = lines[-1].removeprefix("cist: ") if lines else f"It stopped with exit code {code}."
        self._folder.cleanup()
