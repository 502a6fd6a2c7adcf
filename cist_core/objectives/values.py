"""What logits may hold, and which classes take part in a row of two models."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from cist_core.errors import CistError, CistWarning
from cist_core.logits.absent_classes import HIGHEST_MASK, RULE, listed, takes_part

_SUM_TOLERANCE = 1e-2  # half precision


def taking_part(student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
    """Which classes take part in each row of both, ``(N, C)`` boolean.

    At the label's class a student can be wrong by any finite number, which is no mask there.
    """
    by_student, by_teacher = takes_part(student, torch), takes_part(teacher, torch)
    if labels is not None:
        places = labels.clamp(0, student.shape[-1] - 1).unsqueeze(1)
        by_student = by_student.scatter(1, places, student.gather(1, places) > -torch.inf)
    part: Tensor = by_student & by_teacher
    return part


def check_values(names: tuple[str, str], student: Tensor, teacher: Tensor, labels: Tensor | None, part: Tensor) -> None:
    """Refuse or name what no logits and labels are; see `Batch.create`.

    Args:
        names: of the logits, for errors.
        student: ``(N, C)`` with N > 0, on the CPU.
        teacher: likewise.
        labels: ``(N,)``.
        part: which classes take part, ``(N, C)`` boolean.
    """
    for name, logits in zip(names, (student, teacher), strict=True):
        # One maximum finds both: it is NaN if any value is.
        largest = logits.detach().max()
        if not largest < torch.inf:
            row = int((~(logits < torch.inf)).any(-1).nonzero()[0])
            raise CistError(
                f"The {name} hold {largest.item()} (first in sample {row}); only -inf is allowed, for a masked class."
            )
        if logits.detach().min() >= 0 and (logits.detach().sum(dim=-1) - 1).abs().max() <= _SUM_TOLERANCE:
            warnings.warn(
                f"The {name} of this batch are not negative and sum to 1 in every row, as probabilities do; an "
                "objective takes logits: what a network returns before its softmax, or logarithms of probabilities.",
                CistWarning,
                stacklevel=4,
            )
    _warn_of_finite_masks(names, student, teacher, part)
    if labels is None:
        return
    if labels.min() < 0 or labels.max() >= student.shape[-1]:
        wrong = labels[(labels < 0) | (labels >= student.shape[-1])][0].item()
        raise CistError(
            f"Expected labels from 0 to {student.shape[-1] - 1}, but got {wrong}; leave such positions out with a mask."
        )
    absent = ~part.gather(1, labels.unsqueeze(1)).squeeze(1)
    if absent.any():
        row = int(absent.nonzero()[0])
        raise CistError(
            f"The label of sample {row} is class {labels[row].item()}, which takes no part: its logit is "
            f"{student[row, labels[row]].item():.4g} in the student and {teacher[row, labels[row]].item():.4g} in the "
            f"teacher, and {RULE}."
        )


def _warn_of_finite_masks(names: tuple[str, str], student: Tensor, teacher: Tensor, part: Tensor) -> None:
    """A mask of ``-inf`` is meant as one; what is a guess is said."""
    if part.all():
        return
    for name, logits in zip(names, (student, teacher), strict=True):
        masks = ~part & (logits.detach() <= HIGHEST_MASK) & (logits.detach() > -torch.inf)
        classes = masks.all(0).nonzero().flatten().tolist()
        if classes:
            warnings.warn(
                # The same words for every batch that is masked alike, so that Python shows them once.
                f"Numbers such as {logits.detach()[masks].max().item():.2g} of the {name} were taken for masks, so "
                f"{len(classes):,} of {logits.shape[-1]:,} classes ({listed(classes, None)}) take no part: {RULE}; "
                "write -inf to say so yourself.",
                CistWarning,
                stacklevel=5,
            )
