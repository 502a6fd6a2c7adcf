"""Objectives that only the claim needs: the parts of CIST one by one."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from cist_core.objectives import Choice, Number, Softening, Terms, collect, register_objective
from cist_core.objectives.batch import Batch
from cist_core.objectives.divergences import forward_kl
from cist_core.temperature import Cist


def cist_teacher_only_loss(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    rho: Annotated[float, Number("ratio of the teacher", above=0)],
    tau: Annotated[float, Number("temperature of the student", above=0)],
    floor: Annotated[float, Number("smallest temperature of the teacher", minimum=0)] = 1.0,
    weighting: Annotated[str, Choice(("product", "uniform"), "weight of a sample")] = "product",
    lambda_ce: Annotated[float, Number("weight of the cross-entropy", minimum=0)] = 0.1,
    lambda_kl: Annotated[float, Number("weight of the divergence", minimum=0)] = 0.9,
) -> Terms:
    """CIST temperatures for the teacher alone; the student has one temperature for all samples.

    ``w_i = tau_t,i tau`` (``product``), or its batch mean for every sample (``uniform``).
    """
    batch = Batch.create(student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask)
    teacher = Cist(rho, floor).torch_temperatures(batch.teacher)
    student = tau * torch.ones_like(teacher)
    weight = teacher * student
    softening = Softening(teacher, student, weight if weighting == "product" else weight.mean().expand_as(weight))
    divergence = forward_kl(*softening.log_probabilities(batch))
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)


def register() -> None:
    """Make them known by name; not on import, as tests go through all objectives of the library."""
    register_objective("cist-teacher-only")(cist_teacher_only_loss)
