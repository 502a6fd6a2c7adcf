"""How long a run will take, told at once: measured steps of every architecture, scaled to the speed of this machine.

``step_times.json`` is written by ``benchmarks/step_times.py``. `cist_core.training.estimation` takes real steps of a
run instead, which is more exact, and takes seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cist_core.training.image_config import ImageClassificationConfig

START_SECONDS = 4.0
"""Of a process that imports torch and reads its data, before the teacher and the first step."""

_ROUNDS, _VALUES = 7, 200_000


@dataclass(frozen=True)
class StepTime:
    """Of one architecture, in seconds on one thread of the machine that was measured.

    Attributes:
        step: of an update, whatever the batch.
        image: of an update, for every image of the batch; forward, backward and optimiser.
        forward: of an image that only passes through.
    """

    step: float
    image: float
    forward: float


@dataclass(frozen=True)
class QuickEstimate:
    """Seconds of one run, and of its parts.

    Attributes:
        seconds: all of it.
        steps: updates of the weights.
        seconds_per_step: of one, the teacher's part where it sees every changed image anew.
        teacher_seconds: of the teacher's logits before the first step.
    """

    seconds: float
    steps: int
    seconds_per_step: float
    teacher_seconds: float


def quick_estimate(
    config: ImageClassificationConfig, *, teacher: str, images: Mapping[str, int], factor: float
) -> QuickEstimate | None:
    """How long a run of image classification takes on one thread; None for an architecture that was not measured.

    Args:
        config: of the run.
        teacher: its architecture.
        images: how many of ``train``, ``validation`` and ``test`` there are.
        factor: how much slower this machine is than the one that was measured (`machine_factor`).
    """
    table, _ = measured_steps()
    student, of_teacher = table.get(config.student.architecture), table.get(teacher)
    if student is None or of_teacher is None or config.epochs is None:
        return None
    train = min(config.data.train_samples or images["train"], images["train"])
    steps = config.epochs * (train // config.batch_size)
    augmented = config.augmentation.any
    per_step = factor * (student.step + student.image * config.batch_size)
    per_step += factor * of_teacher.forward * config.batch_size if augmented else 0.0
    once = images["validation"] + images["test"] + (0 if augmented else train)
    teacher_seconds = factor * of_teacher.forward * once
    evaluation = factor * student.forward * (images["validation"] * config.epochs + 2 * images["test"])
    seconds = factor * START_SECONDS + teacher_seconds + per_step * steps + evaluation
    return QuickEstimate(seconds, steps, per_step, teacher_seconds)


@cache
def measured_steps() -> tuple[Mapping[str, StepTime], float]:
    """The table by architecture, and the seconds that `reference_seconds` took on the machine that was measured."""
    content = json.loads(resources.files("cist_core.training").joinpath("step_times.json").read_text(encoding="utf-8"))
    return {name: StepTime(**times) for name, times in content["architectures"].items()}, content["reference_seconds"]


@cache
def machine_factor() -> float:
    """How much slower this machine is than the one that was measured, from a few milliseconds of arithmetic."""
    return reference_seconds() / measured_steps()[1]


def reference_seconds() -> float:
    """Of a fixed piece of arithmetic on one core: the quickest of some rounds, as others may use the machine."""
    values = np.linspace(-4, 4, _VALUES, dtype=np.float32)
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        np.exp(values, out=np.empty_like(values)).cumsum()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
