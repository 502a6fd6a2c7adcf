"""A task without images: the engine trains, checkpoints, resumes, evaluates and times it as any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from whole_runs import results, stop_after

from cist_core.errors import Cancelled, CistError
from cist_core.training import RunConfig, RunDirectory, config_schema, estimate, parse_config
from cist_core.training.engine import train
from cist_core.training.tasks.protocol import TASKS, StepBatch, Task, register_task

FEATURES, CLASSES = 6, 3
COUNTS = {"train": 60, "validation": 30, "test": 40}


class VectorConfig(RunConfig):
    task: Literal["vectors"] = "vectors"


class Vectors(Task):
    """Points around the corners of a simplex; the teacher knows the corners."""

    name = "vectors"
    config_class = VectorConfig
    remarks = ("The points are drawn.",)
    teacher_runs_in_steps = False

    def load(self) -> None:
        generator = torch.Generator().manual_seed(0)
        corners = torch.eye(FEATURES)[:CLASSES]
        self.labels = {split: torch.arange(count) % CLASSES for split, count in COUNTS.items()}
        self.points = {
            split: corners[labels] + 0.4 * torch.randn(len(labels), FEATURES, generator=generator)
            for split, labels in self.labels.items()
        }
        self.teacher = {split: 8 * points @ corners.T for split, points in self.points.items()}

    def count(self, split):
        return COUNTS[split]

    def create_student(self) -> nn.Module:
        return nn.Linear(FEATURES, CLASSES)

    def prepare_teacher(self, split) -> None:
        self.report(f"teacher on {split}")(1, 1)

    def stand_in_for_teacher(self) -> None:
        pass

    def run_teacher(self, split, chosen: Tensor) -> None:
        pass

    def batch(self, chosen: Tensor) -> StepBatch:
        targets = {"teacher_logits": self.teacher["train"][chosen], "labels": self.labels["train"][chosen]}
        return StepBatch({"points": self.points["train"][chosen]}, targets)

    def student_logits(self, student: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"student_logits": student(inputs["points"])}

    def measure(self, student: nn.Module, split, chosen: Tensor) -> dict[str, Tensor]:
        return {"right": (student(self.points[split][chosen]).argmax(1) == self.labels[split][chosen]).float()}

    def scores(self, split, measured) -> dict[str, float]:
        return {"accuracy": float(np.mean(measured["right"]))}

    def teacher_scores(self, split) -> dict[str, float]:
        return {"accuracy": float((self.teacher[split].argmax(1) == self.labels[split]).float().mean())}

    def card(self) -> dict[str, Any]:
        return {"features": FEATURES}

    def keep(self, directory: RunDirectory, measured) -> None:
        np.save(directory.path / "right.npy", measured["right"])


@pytest.fixture(autouse=True)
def _vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "vectors", Vectors)


@pytest.fixture
def config(_vectors: None) -> RunConfig:
    return parse_config(
        {
            "task": "vectors",
            "data": {"name": "points"},
            "teacher": {"name": "corners"},
            "student": {"architecture": "linear"},
            "objective": "cist:rho=2",
            "epochs": 4,
            "batch_size": 20,
            "machine": {"device": "cpu", "threads": 1},
        }
    )


def test_a_run_leaves_what_its_task_knows(config: RunConfig, tmp_path: Path) -> None:
    status = train(config, tmp_path)
    directory = RunDirectory(tmp_path)
    assert directory.config() == config
    assert status["test_accuracy"] == np.load(tmp_path / "right.npy").mean() > 0.6
    assert status["teacher_test_accuracy"] > 0.6
    assert json.loads(directory.student_card.read_text())["features"] == FEATURES
    assert {"val_accuracy", "loss_total", "tau_teacher_mean"} <= set(directory.metrics()[-1])
    assert "The points are drawn." in directory.log_tail()
    assert load_file(directory.student)["weight"].shape == (CLASSES, FEATURES)


@pytest.mark.parametrize("micro_batch_size", [None, 7])
def test_it_resumes_to_exactly_the_same_end(config: RunConfig, micro_batch_size: int | None, tmp_path: Path) -> None:
    config = config.changed(machine={"micro_batch_size": micro_batch_size})
    train(config, tmp_path / "whole")
    with pytest.raises(Cancelled):
        train(config, tmp_path / "cut", should_stop=stop_after(5))
    train(config, tmp_path / "cut", resume=True)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / "student.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_it_is_timed(config: RunConfig) -> None:
    assert estimate(config).steps == 12


def test_its_configs_are_its_own(config: RunConfig) -> None:
    assert type(config) is VectorConfig
    with pytest.raises(CistError, match="there is no field 'augmentation'"):
        config.changed(augmentation={"flip": True})
    schema = config_schema()
    assert schema["discriminator"]["propertyName"] == "task"
    assert set(schema["discriminator"]["mapping"]) == {"image-classification", "language", "vectors"}


def test_a_name_belongs_to_one_task() -> None:
    with pytest.raises(ValueError, match="two tasks called 'vectors'"):
        register_task(type("Others", (Vectors,), {}))
