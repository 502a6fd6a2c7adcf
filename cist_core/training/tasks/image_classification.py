"""Image classification: a teacher and a student of one set of classes, each fed in its own way."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cist_core.data.dataset import ImageDataset
from cist_core.data.decoded import DecodedImages
from cist_core.errors import CistError
from cist_core.inference.run import choose_device, fit_data, infer
from cist_core.inference.sources import find_teacher
from cist_core.logits.accuracy import judge_accuracy
from cist_core.logits.calibration import expected_calibration_error, nll
from cist_core.logits.choices import CLIPPED, chosen_at
from cist_core.logits.files.given import LARGEST_FLOOR
from cist_core.logits.logit_set import LogitSet
from cist_core.training.image_config import ImageClassificationConfig, ImageTeacherConfig
from cist_core.training.images import ImageBatches, ImageSplits, augment, load_splits, strong_view
from cist_core.training.randomness import Stream, derived_seed
from cist_core.training.run_directory import RunDirectory
from cist_core.training.tasks.protocol import Split, StepBatch, Task, register_task
from cist_core.zoo.checkpoints import load_weights
from cist_core.zoo.folding import fold_batch_norm
from cist_core.zoo.inspection import read_fitting
from cist_core.zoo.layout import in_its_layout
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.students import create_student
from cist_core.zoo.teacher import Teacher

_EVALUATION_BATCH = 500

log = logging.getLogger("cist_core.training")


@register_task
class ImageClassification(Task):
    """Logits of the teacher are computed once where no image is augmented; otherwise in every step, on the very pixels
    that the student sees."""

    name = "image-classification"
    config_class = ImageClassificationConfig
    config: ImageClassificationConfig

    def load(self) -> None:
        self.device = self.accelerator.device
        parts = load_splits(self.config.data, self.report("download"))
        self.teacher = _teacher(self.config.teacher)
        self.splits = ImageSplits(
            *(
                fit_data(self.teacher, part, self.config.data.class_map)
                for part in (parts.train, parts.validation, parts.test)
            )
        )
        self._student_remark: str | None = None
        self._student_weights: str | None = None
        self._soft_labels: dict[Split, LogitSet] = {}
        self._train_logits: Tensor | None = None
        self._teacher_ends_in_softmax = False
        self._teacher_left_out: list[int] = []
        self._labels = torch.from_numpy(self.splits.train.labels).to(self.device)

    def part(self, split: Split) -> ImageDataset:
        found: ImageDataset = getattr(self.splits, split)
        return found

    def count(self, split: Split) -> int:
        return self.part(split).num_samples

    def create_student(self) -> nn.Module:
        wanted, images = self.config.student, self.splits.train.images
        student = create_student(
            wanted.architecture,
            self.teacher.num_classes,
            seed=derived_seed(self.config.seed, Stream.WEIGHTS),
            image_shape=None if isinstance(images, DecodedImages) else images.shape[1:],
            image_size=wanted.image_size,
            download=wanted.download,
        )
        self._student_name, self.student_preprocessing = student.name, student.preprocessing
        self._student_remark = student.remark
        if wanted.weights is not None:
            chosen = read_fitting(wanted.weights, student.name, role="student")
            load_weights(student.network, chosen.group.state, source=f"{wanted.weights} ({student.name})")
            self._student_weights = chosen.sentence
        self._check_images()
        return in_its_layout(student.network)

    def _check_images(self) -> None:
        images, reads = self.splits.train.images, self.student_preprocessing
        if isinstance(images, DecodedImages):  # read at the size of whoever asks
            self._check_augmented(reads.image_size)
            return
        try:
            reads.check(images.shape[1:])
        except CistError:
            height, width, channels = images.shape[1:]
            raise CistError(
                f"The student {self.config.student.architecture} reads {reads.image_size}x{reads.image_size} pixels "
                f"in {reads.channels} channel(s), but the images have {height}x{width} in {channels}; choose another "
                "student.architecture."
            ) from None

    def _check_augmented(self, size: int) -> None:
        """Augmented images are decoded once, for the student, and the teacher reads the same pixels."""
        reads = self.teacher.preprocessing
        if self.teacher_runs_in_steps and reads.image_size != size and not reads.resize:
            raise CistError(
                f"Augmented images are made at the size that the student reads, {size}x{size} pixels, but the teacher "
                f"reads {reads.image_size}x{reads.image_size}; choose a student of that size (student.image_size), say "
                "resize in teacher.preprocessing, or leave augmentation out."
            )

    @property
    def remarks(self) -> list[str]:
        found = {
            "Weights of the teacher": self.teacher.weights,
            "The student": self._student_remark,
            "Weights that the student starts from": self._student_weights,
        }
        order = self.splits.train.class_order
        return [f"{what}: {text}." for what, text in found.items() if text] + ([f"{order}."] if order else [])

    # The teacher

    @property
    def teacher_runs_in_steps(self) -> bool:
        return self.config.augmentation.any

    def prepare_teacher(self, split: Split) -> None:
        """From the cache, or computed once."""
        if split == "train":
            if not self.teacher_runs_in_steps:
                self._train_logits = torch.from_numpy(np.array(self._infer(split).whole(), np.float32)).to(self.device)
            return
        self._soft_labels[split] = found = self._infer(split)
        judged = judge_accuracy(found) if split == "validation" else None
        for sentence in () if judged is None else judged.sentences:
            log.warning("The teacher on the validation images: %s", sentence)

    def _infer(self, split: Split) -> LogitSet:
        dataset = self.part(split)
        phase = (
            "teacher on validation"
            if split == "validation"
            else f"teacher on {split}{'ing' * (split == 'train')} images"
        )
        with self.accelerator.main_process_first():
            found = infer(
                self.teacher,
                dataset,
                device=choose_device(self.device.type).type,
                progress=self.report(phase),
                should_stop=self.should_stop,
            ).logit_set
        self._teacher_ends_in_softmax |= "given_as" in found.provenance
        self._teacher_left_out = list(found.left_out)
        for key in ("absent classes", CLIPPED):
            if (said := chosen_at(found.provenance, key)) is not None:
                log.info("The teacher on '%s': %s", dataset.split, said)
        return found

    def stand_in_for_teacher(self) -> None:
        if not self.teacher_runs_in_steps:
            self._train_logits = torch.randn((self.count("train"), self.teacher.num_classes), device=self.device)

    def run_teacher(self, split: Split, chosen: Tensor) -> None:
        self.ask_teacher(ImageBatches(self.part(split), self.teacher.preprocessing, self.device).pixels(chosen))

    def ask_teacher(self, pixels: Tensor) -> Tensor:
        """Logits of the teacher on stored or augmented pixels, ``(B, C)`` float32."""
        size = self.config.machine.micro_batch_size or len(pixels)
        with torch.inference_mode(), self.accelerator.autocast():
            parts = [self._teacher_network(self.teacher.preprocessing(part)) for part in torch.split(pixels, size)]
            logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        # As `infer` found on the validation images, before the first step.
        logits = (
            logits.float().clamp_min(LARGEST_FLOOR).log() if self._teacher_ends_in_softmax else logits.float().clone()
        )
        if self._teacher_left_out:
            logits[:, self._teacher_left_out] = -torch.inf
        return logits

    @cached_property
    def _teacher_network(self) -> nn.Module:
        network: nn.Module = fold_batch_norm(self.teacher.model).to(self.device)
        return in_its_layout(network)

    # Steps

    @cached_property
    def _train_batches(self) -> ImageBatches:
        return ImageBatches(self.splits.train, self.student_preprocessing, self.device)

    def batch(self, chosen: Tensor) -> StepBatch:
        targets = {"labels": self._labels[chosen.to(self.device)]}
        if self._train_logits is not None:
            targets["teacher_logits"] = self._train_logits[chosen.to(self.device)]
            return StepBatch({"images": self._train_batches[chosen]}, targets)
        weak = augment(self._train_batches.pixels(chosen), self.config.augmentation)
        inputs = {"images": self.student_preprocessing(weak)}
        targets["teacher_logits"] = self.ask_teacher(weak)
        if self.config.augmentation.strong_view:
            strong = strong_view(weak)
            targets["strong_teacher_logits"] = self.ask_teacher(strong)
            inputs["strong_images"] = self.student_preprocessing(strong)
        return StepBatch(inputs, targets)

    def student_logits(self, student: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Both views of an image go through the student together, so that batch norm sees them as one batch."""
        if "strong_images" not in inputs:
            return {"student_logits": student(inputs["images"])}
        weak, strong = student(torch.cat([inputs["images"], inputs["strong_images"]])).float().chunk(2)
        return {"student_logits": weak, "strong_student_logits": strong}

    # Evaluation

    def measure(self, student: nn.Module, split: Split, chosen: Tensor) -> dict[str, Tensor]:
        batches = ImageBatches(self.part(split), self.student_preprocessing, self.device)
        size = min(_EVALUATION_BATCH, self.config.machine.micro_batch_size or _EVALUATION_BATCH)
        return {"logits": torch.cat([student(batches[part]).float() for part in torch.split(chosen, size)])}

    def scores(self, split: Split, measured: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
        """Accuracy, negative log-likelihood (nats), calibration error and agreement with the teacher."""
        logits, labels, teacher = measured["logits"], self.part(split).labels, self._soft_labels[split]
        if not np.isfinite(logits).all():
            row = int(np.argmin(np.isfinite(logits).all(axis=1)))
            raise CistError(f"Expected finite logits of the student, but those of sample {row} are not.")
        answers = logits.argmax(1)
        return {
            "accuracy": float(np.mean(answers == labels)),
            "nll": nll(logits, labels),
            "ece": expected_calibration_error(logits, labels),
            "agreement": float(np.mean(answers == teacher.kept_classes[teacher.answers])),
        }

    def teacher_scores(self, split: Split) -> Mapping[str, float | None]:
        return {"accuracy": self._soft_labels[split].accuracy}

    # What is left of a run

    def card(self) -> dict[str, Any]:
        return {
            "architecture": self._student_name,
            "num_classes": self.teacher.num_classes,
            "class_names": list(self.splits.test.class_names or self.teacher.class_names or ()),
            "preprocessing": self.student_preprocessing.to_dict(),
        }

    def keep(self, directory: RunDirectory, measured: Mapping[str, NDArray[np.float32]]) -> None:
        test = self.splits.test
        provenance = {
            "teacher": f"student of {self.teacher.name}",
            "architecture": self._student_name,
            "data": test.name,
            "split": "test",
            "objective": str(self.config.objective),
        }
        names = test.class_names or self.teacher.class_names
        try:
            LogitSet.create(measured["logits"], test.labels, class_names=names, provenance=provenance).save(
                directory.test_logits
            )
        except CistError as error:  # of a student that ran away; its other results stand
            log.warning("The student's logits on the test images are not kept: %s", error)


def _teacher(config: ImageTeacherConfig) -> Teacher:
    teacher = find_teacher(config.name, config.architecture, weights=config.weights, download=config.download)
    if config.preprocessing is None:
        return teacher
    return dataclasses.replace(teacher, preprocessing=Preprocessing.from_dict(config.preprocessing))
