"""`Task`: what is trained on what, as the engine asks for it.

The engine knows steps, epochs, gradients, checkpoints and files. What a sample is, what teacher and student read, and
what makes a student good, a task knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from cist_core.progress import ProgressCallback
from cist_core.training.config import RunConfig
from cist_core.training.run_directory import RunDirectory
from cist_core.training.statistics import EpochStatistics

Split = Literal["train", "validation", "test"]
Report = Callable[[str], ProgressCallback]
"""Given what is going on ("teacher on test images"), what to call with the samples done and their number."""


def silent(phase: str) -> ProgressCallback:
    """A `Report` that says nothing."""
    return lambda done, total: None


@dataclass(frozen=True)
class StepBatch:
    """What one process trains on in one step.

    Attributes:
        student_inputs: what the student reads, by name, each with the samples along its first axis: by that axis the
            engine splits a batch that is too large for the memory.
        targets: what an objective takes beside the student's logits: ``teacher_logits`` and ``labels``, and where they
            belong to it ``strong_teacher_logits``; or what `Task.objective_inputs` makes that of.
    """

    student_inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]


class Task(ABC):
    """The samples, the teacher and the student of one run. A subclass is one kind of task.

    A sample has a number from 0 in its split. The rows of logits and labels, ``(N, C)`` and ``(N,)``, are samples, or
    parts of them that are predicted one by one, such as the tokens of a sequence.
    """

    name: ClassVar[str]
    """As ``task`` of a config has it."""

    config_class: ClassVar[type[RunConfig]]
    """A subclass of `RunConfig`, with the parts of this task; its ``task`` is ``Literal[name]``, with that default."""

    def __init__(
        self,
        config: RunConfig,
        *,
        accelerator: Accelerator,
        should_stop: Callable[[], bool] = lambda: False,
        report: Report = silent,
    ) -> None:
        """Keep what surrounds the task, and load it.

        Args:
            config: of ``config_class``.
            accelerator: device, precision and processes.
            should_stop: asked while something takes long; true raises `Cancelled`.
            report: where to say how far it is.

        Raises:
            CistError: as `load`.
        """
        self.config, self.accelerator, self.should_stop, self.report = config, accelerator, should_stop, report
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Load data and teacher; the student comes later.

        Raises:
            CistError: if they cannot be loaded, or do not go together.
        """

    @abstractmethod
    def count(self, split: Split) -> int:
        """How many samples a split has."""

    @abstractmethod
    def create_student(self) -> nn.Module:
        """A student to start from, in training mode on the CPU; fresh weights under torch's global generator.

        Raises:
            CistError: if there is no such student, or it cannot read the samples.
        """

    @property
    @abstractmethod
    def remarks(self) -> list[str]:
        """What was chosen among several (weights, an order of classes), in sentences for the log; after the student."""

    # The teacher

    @property
    @abstractmethod
    def teacher_runs_in_steps(self) -> bool:
        """Whether the teacher has to read every batch anew, because no sample comes twice the same."""

    @abstractmethod
    def prepare_teacher(self, split: Split) -> None:
        """Compute what the teacher says of a whole split, as far as the methods below need it.

        Called once a split, by all processes, before any of its samples are asked for.
        """

    @abstractmethod
    def stand_in_for_teacher(self) -> None:
        """In place of ``prepare_teacher("train")``, random answers: enough to time a step."""

    @abstractmethod
    def run_teacher(self, split: Split, chosen: Tensor) -> None:
        """Run the teacher on some samples for nothing, to time it."""

    # Steps

    @abstractmethod
    def batch(self, chosen: Tensor) -> StepBatch:
        """Some training samples, augmented under torch's global generator, and what the teacher says of them."""

    @abstractmethod
    def student_logits(self, student: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the student says of a batch or a part of it: ``student_logits``, ``strong_student_logits``, each by the
        name that objectives have for it. Called under autocast."""

    def objective_inputs(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Any]:
        """What an objective is called with, from what the student says of a whole batch and its targets."""
        return {**outputs, **targets}

    def new_statistics(self) -> EpochStatistics:
        """What is told of an epoch in its row of metrics."""
        return EpochStatistics()

    def check_epoch(self, row: Mapping[str, float]) -> None:  # noqa: B027 - most tasks have nothing to refuse
        """Refuse an epoch that taught nothing.

        Raises:
            CistError: with the reason and the remedy.
        """

    # Evaluation

    @abstractmethod
    def measure(self, student: nn.Module, split: Split, chosen: Tensor) -> dict[str, Tensor]:
        """What `scores` needs to know of some samples, by name, a row each; in evaluation mode, under autocast.

        Each process is asked for its share; what a task returns is gathered from all of them, so a large output is
        better reduced to a few numbers a sample here.
        """

    @abstractmethod
    def scores(self, split: Split, measured: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
        """What the student is worth, from the measures of a whole split, in order.

        ``accuracy`` has to be among them: the share of right answers. Every score appears in metrics and status under
        its name after ``val_`` or ``test_``.

        Raises:
            CistError: if a measure is not finite.
        """

    def merit(self, scores: Mapping[str, float]) -> float:
        """What the best epoch has most of, from the scores on validation: the accuracy."""
        return scores["accuracy"]

    @abstractmethod
    def teacher_scores(self, split: Split) -> Mapping[str, float | None]:
        """Scores of the teacher by their names; of them ``accuracy`` always, None if it is not known."""

    # What is left of a run

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """What somebody needs to know to use the weights of the student, as JSON has it."""

    @abstractmethod
    def keep(self, directory: RunDirectory, measured: Mapping[str, NDArray[np.float32]]) -> None:
        """Write what later comparisons need of the measures on the test samples; by one process."""


TASKS: dict[str, type[Task]] = {}
"""By the name that a config has for it."""

_Class = TypeVar("_Class", bound=type[Task])


def register_task(task: _Class) -> _Class:
    """Make a task known by its name.

    Raises:
        ValueError: if another one has that name.
    """
    if TASKS.setdefault(task.name, task) is not task:
        raise ValueError(f"There are two tasks called '{task.name}'.")
    return task
