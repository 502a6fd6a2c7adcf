"""Reverse KL, which seeks the teacher's modes (as in MiniLLM, arXiv 2306.08543), also under CIST temperatures."""

from __future__ import annotations

from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import reverse_kl
from cist_core.objectives.options import LambdaCe, LambdaKl, Tau
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Floor, GradientMode, Normalise, Rho, Weighting, cist, fixed
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature import CIST_FLOOR


@register_objective("reverse-kl")
def reverse_kl_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    tau: Tau = 4.0,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """KD with the divergence turned round: the student's soft label against the teacher's.

    ``L = lambda_ce CE + lambda_kl tau^2 KL(softmax(z_s / tau) || softmax(z_t / tau))``, means over the samples. Shapes,
    terms and errors as in `kd_loss`; temperature and weights are those of KD, so that only the divergence differs.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = fixed(batch, tau)
    divergence = softening.compare(batch, reverse_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)


@register_objective("cist+reverse-kl")
def cist_reverse_kl_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    rho: Rho,
    floor: Floor = CIST_FLOOR,
    weighting: Weighting = "product",
    normalise: Normalise = False,
    gradient: GradientMode = "constant",
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """Reverse KL under the temperatures and weights of CIST.

    `cist_loss` with ``KL(q || p)`` in the place of ``KL(p || q)``.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = cist(batch, rho=rho, floor=floor, weighting=weighting, normalise=normalise, gradient=gradient)
    divergence = softening.compare(batch, reverse_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)
