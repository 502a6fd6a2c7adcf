"""Several teachers as one: their logits are averaged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cist_core.errors import CistError
from cist_core.logits.ensemble import ENSEMBLE
from cist_core.zoo.folding import fold_batch_norm, runs_side_by_side
from cist_core.zoo.foreign.wrapping import ForeignModel, logits_of
from cist_core.zoo.preprocessing import PerMemberPreprocessing, Preprocessing
from cist_core.zoo.teacher import Teacher


def average_teachers(teachers: Sequence[Teacher]) -> Teacher:
    """A teacher whose logits are ``mean_k z_k(x)``, each member fed by its own preprocessing.

    Args:
        teachers: two or more, with equal numbers of classes.

    Raises:
        CistError: for fewer than two, other numbers of classes, other class names, or other numbers of channels.
    """
    if len(teachers) < 2:
        raise CistError(f"Expected an ensemble of at least 2 teachers, but got {len(teachers)}.")
    first = teachers[0]
    for other in teachers[1:]:
        _check_classes(first, other)
    preprocessing = PerMemberPreprocessing.of([teacher.preprocessing for teacher in teachers])
    return Teacher(
        name=ENSEMBLE.join(teacher.name for teacher in teachers),
        model=Ensemble([teacher.model for teacher in teachers], preprocessing.members).eval(),
        architecture=ENSEMBLE.join(teacher.architecture for teacher in teachers),
        num_classes=first.num_classes,
        class_names=next((teacher.class_names for teacher in teachers if teacher.class_names is not None), None),
        preprocessing=preprocessing,
        checkpoint_sha256=_digest(teachers),
        facts={f"{heading} of {teacher.name}": text for teacher in teachers for heading, text in teacher.facts.items()},
        weights="; ".join(f"{teacher.name}: {teacher.weights}" for teacher in teachers if teacher.weights) or None,
    )


class Ensemble(ForeignModel):
    """Stored pixels ``(N, H, W, channels)`` uint8 to the mean of the members' logits, ``(N, C)`` float32."""

    def __init__(self, models: Sequence[nn.Module], preprocessing: Sequence[Preprocessing]) -> None:
        super().__init__()
        self.members = nn.ModuleList(models)
        self.preprocessing = tuple(preprocessing)

    @property
    def side_by_side(self) -> bool:
        return all(runs_side_by_side(member) for member in self.members)

    def folded(self) -> Ensemble:
        return Ensemble([fold_batch_norm(member) for member in self.members], self.preprocessing)

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.dtype != torch.uint8:
            raise CistError(
                "The teachers of an ensemble prepare the images for themselves; give one preprocessing for each "
                "(`members` of `PerMemberPreprocessing`), or change it for each teacher before they are averaged."
            )
        total: Tensor | None = None
        for model, prepare in zip(self.members, self.preprocessing, strict=True):
            logits = logits_of(model(prepare(pixels))).float()
            total = logits if total is None else total + logits
        assert total is not None
        return total / len(self.members)


def _check_classes(first: Teacher, other: Teacher) -> None:
    if first.num_classes != other.num_classes:
        raise CistError(
            f"Expected the teachers of an ensemble to tell the same classes apart, but '{first.name}' has "
            f"{first.num_classes} and '{other.name}' {other.num_classes}."
        )
    if first.class_names and other.class_names and first.class_names != other.class_names:
        pairs = zip(first.class_names, other.class_names, strict=True)
        place = next(number for number, (one, another) in enumerate(pairs) if one != another)
        raise CistError(
            f"Expected the teachers of an ensemble to have the same classes in the same order, but class {place} is "
            f"'{first.class_names[place]}' for '{first.name}' and '{other.class_names[place]}' for '{other.name}'."
        )


def _digest(teachers: Sequence[Teacher]) -> str:
    return hashlib.sha256("\n".join(teacher.checkpoint_sha256 for teacher in teachers).encode()).hexdigest()
