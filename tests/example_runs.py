"""Runs for the tests of what shows them: metrics like an engine's, and a store whose states a test decides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cist_core import LogitSet
from cist_core.errors import CistError
from cist_core.runs import Run, RunState
from cist_core.training import RunConfig, RunDirectory, preset
from cist_core.training.logit_scale import ScaleFault


def metric_rows(
    epochs: int, *, fixed_tau: bool = False, gain: float = 0.0, soft: bool = True
) -> list[dict[str, float]]:
    """Rows of a run that goes well: accuracy up to 0.95 + ``gain``, loss down, the student's scale up."""
    rows = []
    for epoch in range(1, epochs + 1):
        done = epoch / 12
        row: dict[str, float] = {
            "epoch": epoch,
            "step": 20 * epoch,
            "learning_rate": 0.02,
            "train_accuracy": 0.97 - 0.5 * float(np.exp(-3 * done)),
            "val_accuracy": 0.95 + gain - 0.5 * float(np.exp(-4 * done)),
            "loss_total": 2.0 * float(np.exp(-2 * done)) + 0.3,
            "loss_ce": 2.0 * float(np.exp(-2 * done)) + 0.1,
            "student_maximum_mean": 1 + 6 * done,
            "teacher_maximum_mean": 12.0,
            "seconds": 1.0,
        }
        if soft:
            row |= {
                "loss_kd": 1.5 * float(np.exp(-2 * done)) + 0.3,
                "teacher_entropy_mean": 0.6,
                "teacher_entropy_std": 0.45 if fixed_tau else 0.004,
                "student_entropy_mean": 1.8 * float(np.exp(-2 * done)) + 0.6,
                "student_entropy_std": 0.3,
                "tau_teacher_mean": 4.0 if fixed_tau else 2.4,
                "tau_teacher_std": 0.0 if fixed_tau else 0.7,
                "tau_student_mean": 4.0 if fixed_tau else 0.4 + 2 * done,
                "tau_student_std": 0.0 if fixed_tau else 0.3,
            }
        rows.append(row)
    return rows


class ExampleStore:
    """A `cist_core.runs.RunStore` without a database: a test puts runs in any state, and sees what was asked of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: list[Run] = []
        self.asked: list[tuple[Any, ...]] = []
        self.refuse: str | None = None
        self.owner: str | None = None
        self.rebuilt: str | None = None

    def forget_rebuilt(self) -> None:
        self.rebuilt = None

    def reconcile(self) -> None:
        """Nothing is gone here."""

    def put(
        self,
        state: str,
        *,
        objective: str = "cist:rho=3.5",
        name: str = "",
        epochs: int = 12,
        done: int = 0,
        seed: int = 0,
        reason: str | None = None,
        gain: float = 0.0,
        right: float = 0.9,
        fault: ScaleFault | None = None,
        executor: str | None = None,
    ) -> Run:
        """Add a run with a directory as the engine would leave it; ``right`` is the share of right test answers."""
        config = preset("demo").changed(objective=objective, seed=seed, epochs=epochs)
        run = self._add(config, name=name or objective, state=state, reason=reason, executor=executor)
        directory = run.directory
        rows = metric_rows(done, fixed_tau=objective.startswith("kd"), gain=gain, soft=objective != "ce")
        directory.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        directory.log_file.write_text(f"epoch {done} of {epochs}\n")
        status: dict[str, Any] = {"state": state, "epoch": done, "epochs": epochs, "step": 20 * done}
        status |= {"steps": 20 * epochs, "warnings": [], "logit_scale": None}
        if fault is not None:
            status |= {"warnings": [f"The student's logits {fault}."], "logit_scale": fault.to_dict()}
        if rows:
            newest = rows[-1]["val_accuracy"]
            status |= {"val_accuracy": newest, "last_val_accuracy": newest, "best_val_accuracy": newest}
            status |= {"best_epoch": done, "eta_seconds": 3.0 * (epochs - done), "samples_per_second": 1350.0}
        if state == "finished":
            status |= {"test_accuracy": right, "test_accuracy_at_best": right, "teacher_test_accuracy": 0.985}
            status |= {"test_agreement": 0.93}
            answers_of_a_student(right, seed).save(directory.test_logits)
            directory.student.write_bytes(b"weights")
            directory.student_card.write_text("{}")
        if state != "queued":
            directory.write_status(status)
        return run

    def add_all(self, entries: Sequence[tuple[str, RunConfig]], *, group: str | None = None) -> list[Run]:
        return [self._add(config, name=name or str(config.objective), group=group) for name, config in entries]

    def _add(
        self,
        config: RunConfig,
        *,
        name: str,
        group: str | None = None,
        state: str = "queued",
        reason: str | None = None,
        executor: str | None = None,
    ) -> Run:
        number = len(self.runs) + 1
        directory = RunDirectory(self.root / f"run-{number}")
        directory.path.mkdir(parents=True)
        config.save(directory.config_file)
        ended = state not in ("queued", "running")
        run = Run(
            id=f"run-{number}",
            name=name,
            note="",
            state=RunState(state),
            group=group,
            created_at=1_000.0 + number,
            started_at=None if state == "queued" else 2_000.0,
            ended_at=2_060.0 if ended else None,
            reason=reason,
            stop_requested_at=None,
            limit_reason=None,
            attempt=1,
            resume=False,
            executor=executor,
            handle=None,
            working_directory=self.root,
            directory=directory,
        )
        self.runs.insert(0, run)
        return run

    def has_queued(self) -> bool:
        return False  # nothing that the app's start would begin to train

    def running(self) -> tuple[()]:
        return ()

    def list_runs(self, group: str | None = None) -> list[Run]:
        return list(self.runs)

    def count_active(self) -> int:
        return sum(not run.state.ended for run in self.runs)

    def get(self, run: str) -> Run:
        for known in self.runs:
            if known.id == run:
                return known
        raise CistError(f"There is no run '{run}'.")

    def get_owned(self, run: str) -> Run:
        return self.get(run)

    def owns(self, run: Run) -> bool:
        return True

    def cancel(self, run: str) -> None:
        self._ask("cancel", run)

    def resume(self, run: str) -> None:
        self._ask("resume", run)

    def retry(self, run: str) -> None:
        self._ask("retry", run)

    def delete(self, run: str) -> None:
        self._ask("delete", run)
        self.runs = [other for other in self.runs if other.id != run]

    def rename(self, run: str, name: str) -> None:
        self._ask("rename", run, name)

    def set_note(self, run: str, note: str) -> None:
        self._ask("set_note", run, note)

    def _ask(self, *request: Any) -> None:
        self.asked.append(request)
        if self.refuse is not None:
            raise CistError(self.refuse)


def answers_of_a_student(right: float, seed: int) -> LogitSet:
    """Logits on 200 images, the first ``right`` of which are answered rightly, the rest with the next class."""
    labels = np.arange(200) % 10
    answers = np.where(np.arange(200) < right * 200, labels, (labels + 1 + seed % 2) % 10)
    logits = np.zeros((200, 10), dtype=np.float32)
    logits[np.arange(200), answers] = 5.0
    return LogitSet.create(logits, labels)
