"""A run on disk: files that any program can read while the run goes on, and after it has ended however it did."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cist_core.errors import CistError
from cist_core.files import file_lock, make_folder, write_whole
from cist_core.training.run_files import metrics_damage, read_metrics, read_status

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig

CLOCK_FIELDS = ("seconds", "samples_per_second")
"""What a row of metrics says of the machine, not of the result: two runs of one config differ in these alone."""


STUDENT_FOLDER = "student"
"""In the directory of a run of a language model: the student as transformers opens it."""


class RunDirectoryBusy(CistError):  # noqa: N818 - it tells a state that passes, not a fault
    """Another process trains in a run directory."""


class RunDirectory:
    """Where everything about one run lies.

    ``config.json`` (`RunConfig`), ``metrics.jsonl`` (one object an epoch), ``status.json`` (replaced whole, several
    times a minute while the run goes on), ``log.txt``, ``checkpoints/`` and, at the end, ``student.safetensors``,
    ``student-best.safetensors`` (best epoch on validation), ``student.json`` (what is needed to use them) and
    ``test-logits.safetensors`` (of the last epoch, for per-sample comparisons).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def log_file(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def student(self) -> Path:
        return self.path / "student.safetensors"

    @property
    def language_student(self) -> Path:
        """Of a language model the student as a folder of transformers, tokenizer included."""
        return self.path / STUDENT_FOLDER

    @property
    def best_student(self) -> Path:
        return self.path / "student-best.safetensors"

    @property
    def student_card(self) -> Path:
        return self.path / "student.json"

    @property
    def test_logits(self) -> Path:
        return self.path / "test-logits.safetensors"

    @property
    def cancel_file(self) -> Path:
        """While this file is there, the run stops at its next step, saving where it was."""
        return self.path / "cancel"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that trains here; a second one is refused."""
        return self.path / "lock"

    def files(self) -> tuple[Path, ...]:
        """Those that every run has at its end, but for its checkpoints."""
        said = (self.config_file, self.metrics_file, self.status_file, self.log_file)
        return (*said, self.student, self.best_student, self.student_card, self.test_logits)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, as whoever trains here or removes something must; the system frees that of a killed process.

        Raises:
            RunDirectoryBusy: if another process holds it.
            OSError: if the directory is gone or cannot be written to.
        """
        from filelock import Timeout

        os.stat(os.path.join(self.path, ""))  # fails unless it is a folder; the lock would make one
        try:
            held = file_lock(self.lock_file).acquire(timeout=0)
        except Timeout:
            raise RunDirectoryBusy(
                f"Another process is training in {self.path}, so its files are left alone; wait for it, or stop it."
            ) from None
        with held:
            yield

    def config(self) -> RunConfig:
        """The config of the run.

        Raises:
            CistError: if it is missing or wrong.
        """
        from cist_core.training.config import load_config  # knows every objective and network, and so imports torch

        return load_config(self.config_file)

    def status(self) -> dict[str, Any]:
        """What the run last said of itself; empty before it has said anything.

        ``state`` (running, finished, failed, cancelled; starting if a worker has started it again and it has not said
        anything since), ``epoch`` and ``epochs``, ``step`` and ``steps``,
        ``phase`` (with ``phase_done`` and ``phase_total`` while the teacher is computed), ``started_at``,
        ``updated_at`` and ``ended_at`` (seconds since 1970), ``eta_seconds``, ``samples_per_second``, ``pid``,
        ``reason`` (why it failed or was cancelled), ``warnings``, ``logit_scale`` (the `ScaleFault` of the newest
        epoch; None if nothing is wrong), ``last_val_accuracy``, ``best_val_accuracy`` (of the best epoch) and
        ``best_epoch``; ``mirror`` (of a run that is copied to a store: its ``url``, when the copy was last complete,
        ``copied_at``, and while it goes on the ``fault`` that keeps it from that now); of a finished run also the
        scores of its task, such as ``test_accuracy``, ``test_nll`` and ``test_agreement`` (last epoch),
        ``test_accuracy_at_best`` and the others likewise (best epoch on validation), and those of the
        teacher, such as ``teacher_test_accuracy``.
        """
        return read_status(self.status_file)[0]

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace the status whole.

        Raises:
            CistError: if the file cannot be written.
        """
        text = json.dumps(status, indent=2, allow_nan=False) + "\n"
        write_whole(
            self.status_file,
            lambda file: file.write_text(text, encoding="utf-8"),
            what="The status",
            make_folders=False,
        )

    def metrics(self) -> list[dict[str, float]]:
        """One row for every finished epoch, in order; a line that is still being written, or damaged, is left out."""
        return read_metrics(self.metrics_file)[0]

    def damage(self) -> list[str]:
        """What of status and metrics is damaged and therefore left out, a sentence without its full stop each."""
        return [*read_status(self.status_file)[1], *metrics_damage(self.metrics_file)]

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        try:
            with self.log_file.open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - 400 * lines))
                text = stream.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def is_removed(self) -> bool:
        """Whether somebody has removed the directory since a run began in it: its lock and its config are gone."""
        try:
            return not (self.lock_file.exists() or self.config_file.exists())
        except OSError:  # it is there, and may not be looked into
            return False

    def bytes_used(self) -> int:
        """Size of all files of the run."""
        total = 0
        for file in self.path.rglob("*"):
            try:
                total += file.stat().st_size if file.is_file() else 0
            except OSError:
                continue  # it has just been replaced
        return total

    def make(self) -> None:
        """Make the folder, so that it survives a power cut.

        Raises:
            CistError: if it cannot be made or written to.
        """
        try:
            make_folder(self.path)
        except OSError as error:
            raise CistError(
                f"The run directory {self.path} cannot be made ({error.strerror or error}); choose another place."
            ) from error
