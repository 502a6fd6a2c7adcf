"""Generalised Jensen-Shannon divergence (as in GKD, arXiv 2306.13649), also under CIST temperatures."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import jensen_shannon
from cist_core.objectives.options import LambdaCe, LambdaKl, Tau
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Floor, GradientMode, Normalise, Rho, Weighting, cist, fixed
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature import CIST_FLOOR
from cist_core.temperature.parameters import Number

Beta = Annotated[float, Number("share of the teacher in the mixture", above=0, below=1)]


@register_objective("jsd")
def jsd_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    tau: Tau = 4.0,
    beta: Beta = 0.5,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """Both soft labels against their mixture.

    ``L = lambda_ce CE + lambda_kl tau^2 (beta KL(p || m) + (1 - beta) KL(q || m))`` with ``m = beta p + (1 - beta) q``,
    means over the samples; ``p`` and ``q`` at temperature ``tau``. Shapes, terms and errors as in `kd_loss`;
    temperature and weights are those of KD, so that only the divergence differs.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = fixed(batch, tau)
    divergence = softening.compare(batch, partial(jensen_shannon, beta=beta))
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)


@register_objective("cist+jsd")
def cist_jsd_loss(
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
    beta: Beta = 0.5,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """Jensen-Shannon divergence under the temperatures and weights of CIST.

    `cist_loss` with the divergence of `jsd_loss`.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = cist(batch, rho=rho, floor=floor, weighting=weighting, normalise=normalise, gradient=gradient)
    divergence = softening.compare(batch, partial(jensen_shannon, beta=beta))
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)
