"""Student, objective, optimiser and schedule at work: what happens in a step, and nothing around it.

What is trained on what, a `Task` knows; here are gradients, processes and random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

import cist_core.training.tasks  # noqa: F401 - each task registers itself
from cist_core.errors import CistError, first_line
from cist_core.inference.run import choose_device, out_of_memory, release_memory
from cist_core.objectives import Terms
from cist_core.training.config import RunConfig
from cist_core.training.micro_batches import backward_by_micro_batches
from cist_core.training.optimisation import create_optimiser, create_schedule
from cist_core.training.randomness import Stream, derived_seed, random_order
from cist_core.training.statistics import EpochStatistics
from cist_core.training.tasks.protocol import TASKS, Report, Split, StepBatch, silent

_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class RunLength:
    """How long a run is."""

    steps: int
    steps_per_epoch: int

    @classmethod
    def of(cls, config: RunConfig, train_samples: int) -> RunLength:
        """From a config and the number of training samples.

        Raises:
            CistError: if the samples do not fill one batch.
        """
        if config.batch_size > train_samples:
            raise CistError(
                f"Expected batch_size to be at most {train_samples:,}, the number of training samples, "
                f"but got {config.batch_size:,}."
            )
        steps_per_epoch = train_samples // config.batch_size
        return cls(config.steps or (config.epochs or 0) * steps_per_epoch, steps_per_epoch)

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.steps_per_epoch)

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that the step after ``step`` done ones belongs to."""
        return step // self.steps_per_epoch + 1


class NotFiniteError(CistError):
    """A loss or a logit is NaN or infinite."""


class Trainer:
    """Everything of a run that is in memory.

    Randomness comes from seeds that are derived from the config's seed and the number of the step, so the state of a
    run is its weights, its optimiser and that number.

    Attributes:
        at_once: samples that this process takes through the student at a time. Halved where memory runs out, if the
            gradient stays what it was: in one process, and without batch norm, which would see fewer samples.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        accelerator: Accelerator,
        should_stop: Callable[[], bool] = lambda: False,
        report: Report = silent,
    ) -> None:
        if config.machine.threads is not None:
            torch.set_num_threads(config.machine.threads)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.config, self.accelerator, self.device = config, accelerator, accelerator.device
        self.task = TASKS[config.task](config, accelerator=accelerator, should_stop=should_stop, report=report)
        self.length = RunLength.of(config, self.task.count("train"))
        if config.batch_size % accelerator.num_processes:
            raise CistError(
                f"Expected batch_size to be a multiple of the {accelerator.num_processes} processes, "
                f"but got {config.batch_size}."
            )
        torch.manual_seed(derived_seed(config.seed, Stream.WEIGHTS))
        student = self.task.create_student()
        self.objective = config.objective.create().to(self.device)
        optimiser = create_optimiser([*student.parameters(), *self.objective.parameters()], config.optimiser)
        self.schedule = create_schedule(
            optimiser, config.schedule, steps=self.length.steps, steps_per_epoch=self.length.steps_per_epoch
        )
        self.student, self.optimiser = accelerator.prepare(student, optimiser)
        self.last_rate = config.optimiser.learning_rate
        self.at_once = config.machine.micro_batch_size or config.batch_size // accelerator.num_processes
        self._order_of: tuple[int, Tensor] | None = None

    def step(self, step: int, statistics: EpochStatistics) -> None:
        """One update of the weights; ``step`` counts those before it.

        Raises:
            NotFiniteError: if a loss or a logit is not finite.
            CistError: if a sample cannot be read, or memory ran out (`words_on_memory`).
        """
        config, processes = self.config, self.accelerator.num_processes
        rank, epoch = self.accelerator.process_index, self.length.epoch_of(step)
        place = step % self.length.steps_per_epoch * config.batch_size
        order = self._order(epoch)
        chosen = order[place + rank : place + config.batch_size : processes]
        torch.manual_seed(derived_seed(config.seed, Stream.STEP, step, rank))
        self.student.train()
        batch = self.task.batch(chosen)
        while (made := self._gradients(batch, len(chosen), epoch)) is None:
            self.at_once = -(-self.at_once // 2)
            release_memory(self.device)
        terms, inputs = made
        statistics.add(terms=terms, **inputs)  # before the weights move, of which inputs may be made when they are read
        if config.optimiser.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.student.parameters(), config.optimiser.clip_norm)
        self._share_objective_gradients()
        self.last_rate = float(self.schedule.get_last_lr()[0])
        self.optimiser.step()
        if not self.accelerator.optimizer_step_was_skipped:
            self.schedule.step()

    def _gradients(self, batch: StepBatch, count: int, epoch: int) -> tuple[Terms, dict[str, Any]] | None:
        """Those of a batch of so many samples, and what its objective gave and took.

        None if memory ran out and half as many samples may be tried. The error dies here, and with it its hold on the
        tensors.

        Raises:
            CistError: if memory ran out and fewer may not be tried.
        """
        inputs: dict[str, Any] = {}

        def loss(outputs: Mapping[str, Tensor]) -> Terms:
            inputs.update(self.task.objective_inputs(outputs, batch.targets))
            return self._terms(**inputs, epoch=epoch)

        self.optimiser.zero_grad()
        try:
            _, terms = backward_by_micro_batches(
                self.accelerator.unwrap_model(self.student),
                self._student_logits,
                batch.student_inputs,
                loss,
                sizes=[min(self.at_once, count - begin) for begin in range(0, count, self.at_once)],
                backward=self.accelerator.backward,
                no_sync=lambda: self.accelerator.no_sync(self.student),
            )
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if not self._may_take_fewer():
                raise CistError(words_on_memory(error, self.at_once)) from error
            return None
        return terms, inputs

    def _may_take_fewer(self) -> bool:
        alone = self.accelerator.num_processes == 1 and self.at_once > 1
        return alone and not any(isinstance(module, _BatchNorm) for module in self.student.modules())

    def _student_logits(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with self.accelerator.autocast():
            return self.task.student_logits(self.student, inputs)

    def _order(self, epoch: int) -> Tensor:
        if self._order_of is None or self._order_of[0] != epoch:
            order = random_order(self.task.count("train"), self.config.seed, Stream.ORDER, epoch)
            self._order_of = (epoch, order)
        return self._order_of[1]

    def _terms(self, **inputs: Any) -> Terms:
        """What the objective returns, if it is finite in every process; otherwise all of them stop here."""
        terms: Terms = {}
        fault = ""
        try:
            terms = self.objective(**inputs)
            if not torch.isfinite(terms["total"]):
                named = ", ".join(f"{name} {term.item():.4g}" for name, term in terms.items() if term.dim() == 0)
                fault = f"the loss is not finite ({named})"
        except CistError as error:
            fault = str(error).rstrip(".")
        if self.any_process(bool(fault)):
            raise NotFiniteError(fault or "the loss is not finite in another process")
        return terms

    def any_process(self, flag: bool) -> bool:
        """Whether something is so in any of the processes."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self.device)
        return bool(self.accelerator.reduce(flags, reduction="sum").item())

    def _share_objective_gradients(self) -> None:
        """A learnable temperature lives outside the student that DDP wraps: its gradient is averaged here."""
        if self.accelerator.num_processes > 1:
            for parameter in self.objective.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")

    def measure(self, split: Split, *, first: int | None = None) -> dict[str, NDArray[np.float32]]:
        """What `Task.scores` takes; every process computes its share and gets all of it.

        Args:
            split: whose samples.
            first: only so many of them.
        """
        network = self.accelerator.unwrap_model(self.student)
        processes = self.accelerator.num_processes
        if processes > 1:
            for buffer in network.buffers():
                buffer.copy_(broadcast(buffer.clone()))  # running means differ between processes
        count = self.task.count(split) if first is None else min(first, self.task.count(split))
        share = -(-count // processes)
        mine = (torch.arange(share) + self.accelerator.process_index * share).clamp(max=count - 1)
        network.eval()
        with torch.inference_mode(), self.accelerator.autocast():
            measured = self.task.measure(network, split, mine)
        return {
            name: self.accelerator.gather(values.clone())[:count].cpu().numpy() for name, values in measured.items()
        }


def words_on_memory(error: Exception, at_once: int | None = None) -> str:
    """What a run says whose memory ran out, with so many samples going through the student at a time."""
    if at_once == 1:
        return (
            f"Memory ran out with a single sample at a time ({first_line(error, 200)}). A smaller student or "
            "batch_size, smaller images or shorter texts need less, or choose another machine.device."
        )
    with_so_many = "" if at_once is None else f" with {at_once:,} samples at a time"
    return (
        f"Memory ran out{with_so_many} ({first_line(error, 200)}). Resume with a smaller machine.micro_batch_size: the "
        "gradient stays that of the whole batch, but batch norm sees parts of it."
    )


def create_accelerator(config: RunConfig, **options: Any) -> Accelerator:
    """The device, the precision and the processes, by Hugging Face accelerate.

    Raises:
        CistError: for a device or a precision that this machine does not have.
    """
    device = choose_device(config.machine.device)
    if config.precision == "float16" and device.type == "cpu":
        raise CistError("float16 arithmetic is not available on the CPU; use float32 there, or a GPU.")
    try:
        return Accelerator(cpu=device.type == "cpu", mixed_precision=_PRECISIONS[config.precision], **options)
    except ValueError as error:  # accelerate keeps one device and precision for a whole process
        raise CistError(f"This process has trained on another device or in another precision ({error}).") from error
