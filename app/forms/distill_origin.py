"""What the Distill page starts from: a teacher and its images, shipped or added."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app import catalogue
from app.forms.distill import count_parameters
from app.state import Source
from cist_core.added import Added
from cist_core.cards import find_sample_model
from cist_core.data.loading import DATASETS, DatasetInfo, describe_data, is_present
from cist_core.errors import CistError
from cist_core.training import RunConfig


@dataclass(frozen=True)
class Origin:
    """A teacher, and the images it is distilled on.

    Attributes:
        name: of the teacher, for people.
        architecture: of the teacher, for people; the zoo's name where it is one of the zoo's.
        parameters: of the teacher.
        accuracy: of the teacher, or None.
        data: what is known of the images; its ``splits`` may be one set only.
        teacher_fields: of `TeacherConfig`.
        data_fields: of `DataConfig`, but for how many images.
        present: whether the images are on this machine.
        trains_on: ``test`` or ``validation`` where the images to train on are such by their name; None: they are not.
    """

    name: str
    architecture: str
    parameters: int
    accuracy: float | None
    data: DatasetInfo
    teacher_fields: dict[str, Any]
    data_fields: dict[str, Any]
    present: bool
    trains_on: str | None = None

    @property
    def training_images(self) -> int:
        """All there are to train on; what has no split for it is cut class by class when the run starts."""
        return self.data.splits.get("train") or next(iter(self.data.splits.values()))

    def check(self, config: RunConfig) -> None:
        """Refuse a config that asks for more images than there are.

        Raises:
            CistError: naming the number.
        """
        images = config.data.train_samples or self.training_images
        if images > self.training_images:
            raise CistError(
                f"Expected at most {self.training_images:,} training images, all there are, but got {images:,}."
            )
        if config.batch_size > images:
            raise CistError(
                f"Expected a batch size of at most {images:,}, the number of training images, but got "
                f"{config.batch_size:,}."
            )


def find_origin(source: Source) -> Origin:
    """What the sidebar's source can be distilled from.

    Raises:
        CistError: if its network or its images are not at hand.
    """
    card = find_sample_model(source.teacher)
    if card is not None and source.data in DATASETS:
        data = DATASETS[source.data]
        return Origin(
            card.name,
            card.architecture,
            count_parameters(card.architecture, data.classes),
            card.accuracy["test"],
            data,
            {"name": card.name},
            {"name": data.name},
            is_present(data.name),
        )
    added = catalogue.find_added(source.teacher)
    if added is None:
        raise CistError("Choose a teacher and a data set of the list in the sidebar.")
    return _added_origin(added, source)


def _added_origin(added: Added, source: Source) -> Origin:
    catalogue.check_readable(added)
    model = None if added.spec is None else added.spec.model
    preview = added.preview
    if model is None or preview is None or preview.parameters is None:
        raise CistError(
            "What was added are logits, without the network and the images that a student learns from; add the model, "
            "or take the ρ of Choose ρ into a training loop of your own."
        )
    info = _info(model.data, source)
    return Origin(
        preview.name,
        preview.architecture or "unknown",
        preview.parameters,
        source.logit_set.accuracy,
        info,
        {
            "name": model.teacher,
            "architecture": model.architecture,
            "weights": model.weights,
            "preprocessing": preview.preprocessing,
            "download": model.download,
        },
        {"name": model.data, "class_map": model.class_map},
        model.data not in DATASETS or is_present(model.data),
        held_out_name(model.data, info.splits),
    )


def held_out_name(data: str, splits: Mapping[str, int]) -> str | None:
    """Whether data without a training split are held-out images by their name: ``test``, ``validation`` or None.

    Args:
        data: a name, path or reference.
        splits: number of images of each.

    Example:
        >>> held_out_name("imagenet/val", {"all": 50_000}), held_out_name("photos", {"all": 100})
        ('validation', None)
    """
    if "train" in splits:
        return None
    words = re.split(r"[^a-z]+", "/".join(re.split(r"[/\\]", data.lower())[-2:]))
    held_out = next((split for split in _HELD_OUT if split in splits), None)
    return held_out or next((split for split, names in _HELD_OUT.items() if names & set(words)), None)


_HELD_OUT = {
    "test": {"test", "tests", "testing", "eval", "evaluation"},
    "validation": {"val", "valid", "validation", "dev"},
}


def _info(data: str, source: Source) -> DatasetInfo:
    if data in DATASETS:
        return DATASETS[data]
    found = describe_data(data)
    shape = found.image_shape
    splits = {name: count for name, count in found.splits.items() if count is not None}
    if shape is None or not splits:
        raise CistError(
            f"The images of {source.data} have sizes of their own, and the students here read one size; write a config "
            "and use 'cist distill', which reads them at the student's size."
        )
    return DatasetInfo(data, found.kind, source.logit_set.num_classes, splits, shape, True, "that of its owner")
