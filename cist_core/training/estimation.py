"""How long a run will take, from a few measured steps."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from cist_core.training.config import RunConfig
from cist_core.training.images import Batches
from cist_core.training.learner import Learner, create_accelerator
from cist_core.training.statistics import EpochStatistics

_WARM_UP, _MEASURED_SECONDS, _MOST_STEPS = 3, 3.0, 50
_TEACHER_IMAGES = 500


@dataclass(frozen=True)
class Estimate:
    """Seconds on this machine as it was busy just now.

    Attributes:
        seconds_per_step: of one update, median.
        steps: in all.
        steps_per_epoch: updates an epoch.
        epochs: in all.
        evaluation_seconds: of one pass over the validation images.
        teacher_seconds: of the teacher on all images before the first step; less if they are in the cache.
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
    learner = Learner(config, accelerator=create_accelerator(config), should_stop=lambda: False)
    splits, length = learner.splits, learner.length
    whole = (splits.train, splits.validation, splits.test)
    passes = whole[1:] if config.augmentation.any else whole
    teacher_seconds = sum(part.num_samples for part in passes) * _seconds_per_image(learner)
    learner.stand_in_for_teacher()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < min(_WARM_UP + _MOST_STEPS, length.steps):
        before = time.perf_counter()
        learner.step(len(times), EpochStatistics())
        times.append(time.perf_counter() - before)
        if len(times) > _WARM_UP and time.perf_counter() - started > _MEASURED_SECONDS:
            break
    before = time.perf_counter()
    part = splits.validation.take(np.arange(min(_TEACHER_IMAGES, splits.validation.num_samples)))
    learner.student_logits(part)
    evaluation = (time.perf_counter() - before) * splits.validation.num_samples / part.num_samples
    per_step = float(np.median(times[_WARM_UP:] or times))
    return Estimate(
        seconds_per_step=per_step,
        steps=length.steps,
        steps_per_epoch=length.steps_per_epoch,
        epochs=length.epochs,
        evaluation_seconds=evaluation,
        teacher_seconds=teacher_seconds,
        seconds=per_step * length.steps + evaluation * length.epochs + teacher_seconds,
        device=str(learner.device),
    )


def _seconds_per_image(learner: Learner) -> float:
    """Of the teacher, which is run whether or not its logits are in the cache."""
    pixels = Batches(learner.splits.train, learner.teacher.preprocessing, learner.device).pixels(
        torch.arange(min(_TEACHER_IMAGES, learner.splits.train.num_samples))
    )
    learner.ask_teacher(pixels[:8])  # the first call sets things up
    started = time.perf_counter()
    learner.ask_teacher(pixels)
    return (time.perf_counter() - started) / len(pixels)
