"""What an objective is called with, checked and brought into one form."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cist_core.errors import CistError, CistWarning
from cist_core.objectives.rows import Rows

_SUM_TOLERANCE = 1e-2  # half precision


@dataclass(frozen=True, eq=False)
class Batch:
    """N samples (images, or the tokens that a mask keeps) as every objective sees them.

    Attributes:
        student: logits of the student; carries the gradient.
        teacher: logits of the teacher, without gradient.
        labels: ``(N,)`` int64.
        cross_entropy: of each sample under the student's own classes, ``(N,)`` nats.
    """

    student: Rows
    teacher: Rows
    labels: Tensor
    cross_entropy: Tensor

    @classmethod
    def create(
        cls, *, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, mask: Tensor | None = None
    ) -> Batch:
        """Check and flatten.

        Half precision becomes float32, float64 stays. A class takes part in a row if it is above ``-inf`` in both
        models; the others have probability 0 in both, and the means that centre the logits leave them out.

        Args:
            student_logits: ``(B, C)`` or ``(B, L, C)``.
            teacher_logits: likewise; no gradient flows into them.
            labels: ``(B,)`` or ``(B, L)``, integers; what stands at masked positions is not read.
            mask: boolean, of the shape of the labels; true where a token counts.

        Raises:
            CistError: for shapes or types that do not fit, an empty batch, a mask that keeps nothing. On the CPU also
                for NaN, ``+inf``, labels outside the classes and labels of a class that takes no part; on an
                accelerator these checks would make every step wait for the device, so there a NaN shows in the loss.

        Warns:
            CistWarning: on the CPU, if every row of one of the two lies between 0 and 1 and sums to 1.
        """
        _check_shapes(student_logits, teacher_logits, labels, mask)
        dtype = torch.float64 if torch.float64 in (student_logits.dtype, teacher_logits.dtype) else torch.float32
        classes = student_logits.shape[-1]
        student = student_logits.to(dtype).reshape(-1, classes)
        teacher = teacher_logits.detach().to(dtype).reshape(-1, classes)
        flat_labels = labels.reshape(-1).long()
        if mask is not None:
            kept = mask.reshape(-1)
            student, teacher, flat_labels = student[kept], teacher[kept], flat_labels[kept]
        if not len(student):
            raise CistError(
                "Expected at least one sample, but "
                + ("the batch is empty." if mask is None else "the mask keeps no token; leave such a batch out.")
            )
        takes_part = (student != -torch.inf) & (teacher != -torch.inf)
        if student.device.type == "cpu":
            _check_values(student, teacher, flat_labels, takes_part)
        return cls(
            student=Rows(student, takes_part),
            teacher=Rows(teacher, takes_part),
            labels=flat_labels,
            cross_entropy=F.cross_entropy(student, flat_labels, reduction="none"),
        )


def _check_shapes(student: Tensor, teacher: Tensor, labels: Tensor, mask: Tensor | None) -> None:
    for name, logits in (("student_logits", student), ("teacher_logits", teacher)):
        if not logits.is_floating_point():
            raise CistError(f"Expected {name} to be floating point, but got {logits.dtype}.")
    if student.dim() not in (2, 3) or student.shape[-1] < 2:
        raise CistError(
            f"Expected student_logits of the shape (B, C) or (B, L, C) with C >= 2, but got {tuple(student.shape)}."
        )
    if teacher.shape != student.shape:
        raise CistError(
            f"Expected teacher_logits of the shape of student_logits, {tuple(student.shape)}, but got "
            f"{tuple(teacher.shape)}."
        )
    if labels.shape != student.shape[:-1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise CistError(
            f"Expected integer labels of the shape {tuple(student.shape[:-1])}, one for each row of logits, but got "
            f"{labels.dtype} of the shape {tuple(labels.shape)}."
        )
    if mask is not None and (mask.shape != labels.shape or mask.dtype != torch.bool):
        raise CistError(
            f"Expected a boolean mask of the shape {tuple(labels.shape)}, but got {mask.dtype} of the shape "
            f"{tuple(mask.shape)}."
        )


def _check_values(student: Tensor, teacher: Tensor, labels: Tensor, takes_part: Tensor) -> None:
    for name, logits in (("student_logits", student), ("teacher_logits", teacher)):
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
    if labels.min() < 0 or labels.max() >= student.shape[-1]:
        wrong = labels[(labels < 0) | (labels >= student.shape[-1])][0].item()
        raise CistError(
            f"Expected labels from 0 to {student.shape[-1] - 1}, but got {wrong}; leave such positions out with a mask."
        )
    absent = ~takes_part.gather(1, labels.unsqueeze(1)).squeeze(1)
    if absent.any():
        row = int(absent.nonzero()[0])
        raise CistError(
            f"The label of sample {row} is class {labels[row].item()}, which takes no part: its logit is -inf in the "
            "student or the teacher."
        )
