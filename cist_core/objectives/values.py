"""What logits may hold, and which classes take part in a row of two models."""

from __future__ import annotations

import math
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


class ValueCheck:
    """Looks for what no logits and labels are, in a batch that comes whole or a chunk of rows at a time.

    Args:
        names: of the logits of student and teacher, for errors.
    """

    def __init__(self, names: tuple[str, str]) -> None:
        self._names = names
        self._rows = 0
        self._findings: dict[str, _Findings] = {}

    def add(self, student: Tensor, teacher: Tensor, labels: Tensor | None, part: Tensor) -> None:
        """Refuse what `Batch.create` refuses; its rows are numbered after those that came before.

        Args:
            student: ``(N, C)`` with N > 0, on the CPU.
            teacher: likewise.
            labels: ``(N,)``.
            part: which classes take part, ``(N, C)`` boolean.
        """
        for name, logits in zip(self._names, (student.detach(), teacher.detach()), strict=True):
            # One maximum finds both: it is NaN if any value is.
            largest = logits.max()
            if not largest < torch.inf:
                row = int((~(logits < torch.inf)).any(-1).nonzero()[0])
                raise CistError(
                    f"The {name} hold {largest.item()} (first in sample {self._rows + row}); only -inf is allowed, for "
                    "a masked class."
                )
            self._findings.setdefault(name, _Findings(logits.shape[-1])).add(logits, part)
        if labels is not None:
            self._check_labels(student, teacher, labels, part)
        self._rows += len(student)

    def _check_labels(self, student: Tensor, teacher: Tensor, labels: Tensor, part: Tensor) -> None:
        if labels.min() < 0 or labels.max() >= student.shape[-1]:
            wrong = labels[(labels < 0) | (labels >= student.shape[-1])][0].item()
            raise CistError(
                f"Expected labels from 0 to {student.shape[-1] - 1}, but got {wrong}; leave such positions out with a "
                "mask."
            )
        absent = ~part.gather(1, labels.unsqueeze(1)).squeeze(1)
        if absent.any():
            row = int(absent.nonzero()[0])
            raise CistError(
                f"The label of sample {self._rows + row} is class {labels[row].item()}, which takes no part: its logit "
                f"is {student[row, labels[row]].item():.4g} in the student and "
                f"{teacher[row, labels[row]].item():.4g} in the teacher, and {RULE}."
            )

    def warn(self) -> None:
        """Name what is so in every row that was added."""
        for name, findings in self._findings.items():
            if findings.probabilities:
                warnings.warn(
                    f"The {name} of this batch are not negative and sum to 1 in every row, as probabilities do; an "
                    "objective takes logits: what a network returns before its softmax, or logarithms of "
                    "probabilities.",
                    CistWarning,
                    stacklevel=4,
                )
        for name, findings in self._findings.items():
            classes = findings.masked.nonzero().flatten().tolist()
            if classes:  # a mask of -inf is meant as one; what is a guess is said
                warnings.warn(
                    # The same words for every batch that is masked alike, so that Python shows them once.
                    f"Numbers such as {findings.largest_mask:.2g} of the {name} were taken for masks, so "
                    f"{len(classes):,} of {len(findings.masked):,} classes ({listed(classes, None)}) take no part: "
                    f"{RULE}; write -inf to say so yourself.",
                    CistWarning,
                    stacklevel=4,
                )


class _Findings:
    """Of the logits of one model, what holds in all rows so far: whether they are probabilities, and which classes are
    left out by a finite number, ``(C,)`` boolean; and the largest of these numbers."""

    def __init__(self, classes: int) -> None:
        self.probabilities, self.largest_mask = True, -math.inf
        self.masked = torch.ones(classes, dtype=torch.bool)

    def add(self, logits: Tensor, part: Tensor) -> None:
        self.probabilities = self.probabilities and bool(
            logits.min() >= 0 and (logits.sum(dim=-1) - 1).abs().max() <= _SUM_TOLERANCE
        )
        if part.all():
            self.masked.zero_()
            return
        masks = ~part & (logits <= HIGHEST_MASK) & (logits > -torch.inf)
        self.masked &= masks.all(0)
        if masks.any():
            self.largest_mask = max(self.largest_mask, float(logits[masks].max()))
