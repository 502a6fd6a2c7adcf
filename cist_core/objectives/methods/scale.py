"""Rules that divide by the spread of the logits: logit standardization and NormKD."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl, Tau
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import by_rule
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature import Lskd, NormKd
from cist_core.temperature.parameters import Number


@register_objective("lskd")
def lskd_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    tau: Tau = 2.0,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 9.0,
) -> Terms:
    """KD on z-scored logits (LSKD, Sun et al. 2024, arXiv 2403.01427).

    ``L = lambda_ce CE + lambda_kl tau^2 mean_i KL(softmax(zs(z_t,i) / tau) || softmax(zs(z_s,i) / tau))`` with
    ``zs(z) = (z - mean(z)) / (std(z) + 1e-7)``, the deviation over C - 1. The gradient flows through the student's
    deviation. Shapes, terms and errors as in `kd_loss`; ``tau_i = (std(z_i) + 1e-7) tau``.

    A constant student row, where ``1 / (std + 1e-7)`` makes the published gradient explode, gets ``tau_t (q - p)``.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = by_rule(batch, Lskd(tau), lambda teacher, student: tau**2 * torch.ones_like(teacher))
    divergence = softening.compare(batch, forward_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)


@register_objective("normkd")
def normkd_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    k: Annotated[float, Number("temperature in standard deviations of the logits", above=0)] = 2.0,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """Temperature proportional to the deviation of the logits (NormKD, Chi et al. 2023, arXiv 2308.00520).

    ``L = lambda_ce CE + lambda_kl mean_i( tau_t,i^2 KL(softmax(z_t,i / tau_t,i) || softmax(z_s,i / tau_s,i)) )`` with
    ``tau_i = max(k std(z_i), TAU_MIN)``, the deviation over C - 1. The gradient flows through the student's deviation.
    Shapes, terms and errors as in `kd_loss`.

    A constant row, which gives NaN in the published code, is uniform; a constant student row has the gradient
    ``tau_t (q - p)``.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = by_rule(batch, NormKd(k), lambda teacher, student: teacher.square())
    divergence = softening.compare(batch, forward_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)
