"""Teacher, student and objective at work on batches of images: what happens in a step, and nothing around it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import Tensor, nn

from cist_core.data import DecodedImages, ImageDataset
from cist_core.data.download import Progress
from cist_core.errors import CistError
from cist_core.inference.run import choose_device, fit_data, infer
from cist_core.inference.sources import find_teacher
from cist_core.logits.calibration import expected_calibration_error, nll
from cist_core.logits.choices import CLIPPED, chosen_at
from cist_core.logits.files.given import LARGEST_FLOOR
from cist_core.logits.logit_set import LogitSet
from cist_core.objectives import Terms
from cist_core.training.config import RunConfig, TeacherConfig
from cist_core.training.images import Batches, Splits, augment, derived_seed, load_splits, random_order, strong_view
from cist_core.training.optimisation import create_optimiser, create_schedule
from cist_core.training.statistics import EpochStatistics
from cist_core.zoo import Preprocessing, Teacher, create_model, find_architecture, fold_batch_norm
from cist_core.zoo.checkpoints import load_weights
from cist_core.zoo.inspection import read_fitting

_EVALUATION_BATCH = 500
_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
_STREAMS = {"weights": 0, "order": 1, "step": 2}

log = logging.getLogger("cist_core.training")


@dataclass(frozen=True)
class Length:
    """How long a run is."""

    steps: int
    steps_per_epoch: int

    @classmethod
    def of(cls, config: RunConfig, train_images: int) -> Length:
        """From a config and the number of training images.

        Raises:
            CistError: if the images do not fill one batch.
        """
        if config.batch_size > train_images:
            raise CistError(
                f"Expected batch_size to be at most {train_images:,}, the number of training images, "
                f"but got {config.batch_size:,}."
            )
        steps_per_epoch = train_images // config.batch_size
        return cls(config.steps or (config.epochs or 0) * steps_per_epoch, steps_per_epoch)

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.steps_per_epoch)

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that the step after ``step`` done ones belongs to."""
        return step // self.steps_per_epoch + 1


class NotFiniteError(CistError):
    """A loss or a logit is NaN or infinite."""


class Learner:
    """Everything of a run that is in memory.

    Randomness comes from seeds that are derived from the config's seed and the number of the step, so the state of a
    run is its weights, its optimiser and that number.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        accelerator: Accelerator,
        should_stop: Callable[[], bool],
        download_progress: Progress | None = None,
    ) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.config, self.accelerator, self._should_stop = config, accelerator, should_stop
        self.device = accelerator.device
        parts = load_splits(config.data, download_progress)
        self.teacher = _teacher(config.teacher)
        self.splits = Splits(
            *(
                fit_data(self.teacher, part, config.data.class_map)
                for part in (parts.train, parts.validation, parts.test)
            )
        )
        self.length = Length.of(config, self.splits.train.num_samples)
        if config.batch_size % accelerator.num_processes:
            raise CistError(
                f"Expected batch_size to be a multiple of the {accelerator.num_processes} processes, "
                f"but got {config.batch_size}."
            )
        self.student_preprocessing = find_architecture(config.student.architecture).preprocessing
        self.student_weights: str | None = None
        student = self._fresh_student()
        self.objective = config.objective.create().to(self.device)
        optimiser = create_optimiser([*student.parameters(), *self.objective.parameters()], config.optimiser)
        self.schedule = create_schedule(
            optimiser, config.schedule, steps=self.length.steps, steps_per_epoch=self.length.steps_per_epoch
        )
        self.student, self.optimiser = accelerator.prepare(student, optimiser)
        self.last_rate = config.optimiser.learning_rate
        self._train_batches = Batches(self.splits.train, self.student_preprocessing, self.device)
        self._teacher_logits: Tensor | None = None
        self._teacher_ends_in_softmax = False
        self._teacher_left_out: list[int] = []
        self._order_of: tuple[int, Tensor] | None = None
        self._labels = torch.from_numpy(self.splits.train.labels).to(self.device)

    def _fresh_student(self) -> nn.Module:
        architecture = self.config.student.architecture
        torch.manual_seed(derived_seed(self.config.seed, _STREAMS["weights"]))
        student = create_model(architecture, num_classes=self.teacher.num_classes)
        if self.config.student.weights is not None:
            chosen = read_fitting(self.config.student.weights, architecture, role="student")
            load_weights(student, chosen.group.state, source=f"{self.config.student.weights} ({architecture})")
            self.student_weights = chosen.sentence
        self._check_images()
        return student.to(memory_format=torch.channels_last)

    def _check_images(self) -> None:
        images, reads = self.splits.train.images, self.student_preprocessing
        if isinstance(images, DecodedImages):
            return  # read at the size of whoever asks
        try:
            reads.check(images.shape[1:])
        except CistError:
            height, width, channels = images.shape[1:]
            raise CistError(
                f"The student {self.config.student.architecture} reads {reads.image_size}x{reads.image_size} pixels "
                f"in {reads.channels} channel(s), but the images have {height}x{width} in {channels}; choose another "
                "student.architecture."
            ) from None

    @property
    def remarks(self) -> list[str]:
        """What was chosen among several, in sentences: weights, and the order of the classes."""
        found = {
            "Weights of the teacher": self.teacher.weights,
            "Weights that the student starts from": self.student_weights,
        }
        order = self.splits.train.class_order
        return [f"{what}: {text}." for what, text in found.items() if text] + ([f"{order}."] if order else [])

    def prepare_teacher(self, progress: Progress | None = None) -> None:
        """Compute the teacher's logits on all training images, unless it has to see each of them augmented.

        Without augmentation the same images come back every epoch, and a step that need not run the teacher costs a
        fraction of one that does.
        """
        if not self.config.augmentation.any:
            logits = self.teacher_logits(self.splits.train, progress).whole()
            self._teacher_logits = torch.from_numpy(np.array(logits, np.float32)).to(self.device)

    def stand_in_for_teacher(self) -> None:
        """Random logits in the place of the computed ones: enough to time a step."""
        if not self.config.augmentation.any:
            shape = (self.splits.train.num_samples, self.teacher.num_classes)
            self._teacher_logits = torch.randn(shape, device=self.device)

    @cached_property
    def _teacher_network(self) -> nn.Module:
        network: nn.Module = fold_batch_norm(self.teacher.model).to(self.device)
        return network.to(memory_format=torch.channels_last)

    def teacher_logits(self, dataset: ImageDataset, progress: Progress | None = None) -> LogitSet:
        """From the cache, or computed once."""
        device = choose_device(self.device.type).type
        with self.accelerator.main_process_first():
            found = infer(
                self.teacher, dataset, device=device, progress=progress, should_stop=self._should_stop
            ).logit_set
        self._teacher_ends_in_softmax |= "given_as" in found.provenance
        self._teacher_left_out = list(found.left_out)
        for key in ("absent classes", CLIPPED):
            if (said := chosen_at(found.provenance, key)) is not None:
                log.info("The teacher on '%s': %s", dataset.split, said)
        return found

    def step(self, step: int, statistics: EpochStatistics) -> None:
        """One update of the weights; ``step`` counts those before it.

        Raises:
            NotFiniteError: if a loss or a logit is not finite.
            CistError: if an image cannot be read.
        """
        config, processes = self.config, self.accelerator.num_processes
        rank, epoch = self.accelerator.process_index, self.length.epoch_of(step)
        place = step % self.length.steps_per_epoch * config.batch_size
        order = self._order(epoch)
        chosen = order[place + rank : place + config.batch_size : processes]
        torch.manual_seed(derived_seed(config.seed, _STREAMS["step"], step, rank))

        self.student.train()
        labels = self._labels[chosen.to(self.device)]
        inputs: dict[str, Any] = {"epoch": epoch}
        if self._teacher_logits is not None:
            images = self._train_batches[chosen]
            teacher_logits = self._teacher_logits[chosen.to(self.device)]
        else:
            pixels = self._train_batches.pixels(chosen)
            weak = augment(pixels, config.augmentation)
            images, teacher_logits = self.student_preprocessing(weak), self.ask_teacher(weak)
            if config.augmentation.strong_view:
                strong = strong_view(weak)
                inputs["strong_teacher_logits"] = self.ask_teacher(strong)
                images = torch.cat([images, self.student_preprocessing(strong)])
        with self.accelerator.autocast():
            student_logits = self.student(images)
        if config.augmentation.strong_view:
            student_logits, inputs["strong_student_logits"] = student_logits.float().chunk(2)
        terms = self._terms(student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, **inputs)
        self.optimiser.zero_grad()
        self.accelerator.backward(terms["total"])
        if config.optimiser.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.student.parameters(), config.optimiser.clip_norm)
        self._share_objective_gradients()
        self.last_rate = float(self.schedule.get_last_lr()[0])
        self.optimiser.step()
        if not self.accelerator.optimizer_step_was_skipped:
            self.schedule.step()
        statistics.add(terms=terms, student_logits=student_logits, teacher_logits=teacher_logits, labels=labels)

    def _order(self, epoch: int) -> Tensor:
        if self._order_of is None or self._order_of[0] != epoch:
            order = random_order(self.splits.train.num_samples, self.config.seed, _STREAMS["order"], epoch)
            self._order_of = (epoch, order)
        return self._order_of[1]

    def ask_teacher(self, pixels: Tensor) -> Tensor:
        """Logits of the teacher on stored or augmented pixels, ``(B, C)`` float32."""
        with torch.inference_mode(), self.accelerator.autocast():
            logits: Tensor = self._teacher_network(self.teacher.preprocessing(pixels))
        # As `infer` found on the validation images, before the first step.
        logits = (
            logits.float().clamp_min(LARGEST_FLOOR).log() if self._teacher_ends_in_softmax else logits.float().clone()
        )
        if self._teacher_left_out:
            logits[:, self._teacher_left_out] = -torch.inf
        return logits

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

    def student_logits(self, dataset: ImageDataset, student: nn.Module | None = None) -> NDArray[np.float32]:
        """Logits of the student, ``(N, C)``; every process computes its share and gets all of them."""
        network = self.accelerator.unwrap_model(self.student) if student is None else student
        processes = self.accelerator.num_processes
        if processes > 1:
            for buffer in network.buffers():
                buffer.copy_(broadcast(buffer.clone()))  # running means differ between processes
        count = dataset.num_samples
        share = -(-count // processes)
        mine = (torch.arange(share) + self.accelerator.process_index * share).clamp(max=count - 1)
        batches = Batches(dataset, self.student_preprocessing, self.device)
        network.eval()
        with torch.inference_mode(), self.accelerator.autocast():
            parts = [network(batches[chosen]).float() for chosen in mine.split(_EVALUATION_BATCH)]
        logits = self.accelerator.gather(torch.cat(parts).clone())[:count]
        out: NDArray[np.float32] = logits.cpu().numpy()
        return out


def _teacher(config: TeacherConfig) -> Teacher:
    teacher = find_teacher(config.name, config.architecture, weights=config.weights, download=config.download)
    if config.preprocessing is None:
        return teacher
    return dataclasses.replace(teacher, preprocessing=Preprocessing.from_dict(config.preprocessing))


def evaluate(logits: NDArray[np.float32], dataset: ImageDataset, teacher: LogitSet) -> dict[str, float]:
    """Accuracy, negative log-likelihood (nats), calibration error and agreement with the teacher.

    Raises:
        CistError: if a logit is not finite.
    """
    if not np.isfinite(logits).all():
        row = int(np.argmin(np.isfinite(logits).all(axis=1)))
        raise CistError(f"Expected finite logits of the student, but those of sample {row} are not.")
    answers = logits.argmax(1)
    return {
        "accuracy": float(np.mean(answers == dataset.labels)),
        "nll": nll(logits, dataset.labels),
        "ece": expected_calibration_error(logits, dataset.labels),
        "agreement": float(np.mean(answers == teacher.kept_classes[teacher.answers])),
    }


def create_accelerator(config: RunConfig, **options: Any) -> Accelerator:
    """The device, the precision and the processes, by Hugging Face accelerate.

    Raises:
        CistError: for a device or a precision that this machine does not have.
    """
    device = choose_device(config.device)
    if config.precision == "float16" and device.type == "cpu":
        raise CistError("float16 arithmetic is not available on the CPU; use float32 there, or a GPU.")
    try:
        return Accelerator(cpu=device.type == "cpu", mixed_precision=_PRECISIONS[config.precision], **options)
    except ValueError as error:  # accelerate keeps one device and precision for a whole process
        raise CistError(f"This process has trained on another device or in another precision ({error}).") from error
