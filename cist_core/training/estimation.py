"""How long a run will take, from a few measured steps."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from cist_core.training.config import RunConfig
from cist_core.training.tasks.protocol import Split
from cist_core.training.trainer import Trainer, create_accelerator

_WARM_UP, _MEASURED_SECONDS, _MOST_STEPS = 3, 3.0, 50
_FEW, _TIMED_SAMPLES = 8, 500


@dataclass(frozen=True)
class Estimate:
    """Seconds on this machine as it was busy just now.

    Attributes:
        seconds_per_step: of one update, median.
        steps: in all.
        steps_per_epoch: updates an epoch.
        epochs: in all.
        evaluation_seconds: of one pass over the validation samples.
        teacher_seconds: of the teacher on all samples before the first step; less if they are in the cache.
        seconds: all of it.
        device: where it was measured.
    """

    seconds_per_step: float
    steps: int
    steps_per_epoch: int
    epochs: int
    evaluation_seconds: float
    teacher_seconds: float
    seconds: float
    device: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(config: RunConfig) -> Estimate:
    """Take a few steps of a run, and throw them away.

    Raises:
        CistError: if the run could not start.
    """
    trainer = Trainer(config, accelerator=create_accelerator(config))
    task, length = trainer.task, trainer.length
    passes: tuple[Split, ...] = (
        ("validation", "test") if task.teacher_runs_in_steps else ("train", "validation", "test")
    )
    teacher_seconds = sum(task.count(split) for split in passes) * _seconds_per_sample(trainer)
    task.stand_in_for_teacher()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < min(_WARM_UP + _MOST_STEPS, length.steps):
        before = time.perf_counter()
        trainer.step(len(times), task.new_statistics())
        times.append(time.perf_counter() - before)
        if len(times) > _WARM_UP and time.perf_counter() - started > _MEASURED_SECONDS:
            break
    per_step = float(np.median(times[_WARM_UP:] or times))
    validation = task.count("validation")
    first = min(_in_time(config.batch_size, per_step), validation)
    before = time.perf_counter()
    trainer.measure("validation", first=first)
    evaluation = (time.perf_counter() - before) * validation / first
    return Estimate(
        seconds_per_step=per_step,
        steps=length.steps,
        steps_per_epoch=length.steps_per_epoch,
        epochs=length.epochs,
        evaluation_seconds=evaluation,
        teacher_seconds=teacher_seconds,
        seconds=per_step * length.steps + evaluation * length.epochs + teacher_seconds,
        device=str(trainer.device),
    )


def _in_time(samples: int, seconds: float) -> int:
    """How many to time, where so many took so long."""
    return min(max(int(samples * _MEASURED_SECONDS / max(seconds, 1e-9)), _FEW), _TIMED_SAMPLES)


def _seconds_per_sample(trainer: Trainer) -> float:
    """Of the teacher, which is run whether or not its logits are in the cache."""

    def seconds(count: int) -> float:
        started = time.perf_counter()
        trainer.task.run_teacher("train", torch.arange(count))
        return time.perf_counter() - started

    there = trainer.task.count("train")
    few = min(_FEW, there)
    seconds(few)  # the first call sets things up
    count = min(_in_time(few, seconds(few)), there)
    return seconds(count) / count
