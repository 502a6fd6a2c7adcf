"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679), also under CIST temperatures."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import non_target_kl, target_kl
from cist_core.objectives.options import LambdaCe, Tau, Warmup
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Floor, GradientMode, Normalise, Rho, Softening, Weighting, cist, fixed
from cist_core.objectives.terms import Terms, collect, share_passed
from cist_core.temperature import CIST_FLOOR
from cist_core.temperature.logit_rows import scalar
from cist_core.temperature.parameters import Number

Alpha = Annotated[float, Number("weight of the target part: the label's class against all others", minimum=0)]
Beta = Annotated[float, Number("weight of the non-target part: the other classes among themselves", minimum=0)]


@register_objective("dkd")
def dkd_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    epoch: float | Tensor | None = None,
    alpha: Alpha = 1.0,
    beta: Beta = 8.0,
    tau: Tau = 4.0,
    warmup: Warmup = 20.0,
    lambda_ce: LambdaCe = 1.0,
) -> Terms:
    """Target and non-target classes distilled apart (DKD, Zhao et al. 2022).

    ``L = lambda_ce CE + min(epoch / warmup, 1) tau^2 (alpha KL_target + beta KL_non-target)``, means over the samples,
    where ``KL = KL_target + (1 - p_y) KL_non-target``. Shapes and errors as in `kd_loss`.

    Returns:
        `Terms` with ``target``, ``non_target`` (weighted means without alpha and beta) and ``ramp``;
        ``kd = alpha target + beta non_target`` and ``total = lambda_ce ce + ramp kd``. ``kl`` holds
        ``alpha KL_target + beta KL_non-target`` of each sample.

    Raises:
        CistError: also if ``epoch`` is missing while ``warmup`` is not 0.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ramp = share_passed(epoch, warmup)
    return _decoupled(batch, fixed(batch, tau), alpha=alpha, beta=beta, ramp=ramp, lambda_ce=lambda_ce)


@register_objective("cist+dkd")
def cist_dkd_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    epoch: float | Tensor | None = None,
    rho: Rho,
    floor: Floor = CIST_FLOOR,
    weighting: Weighting = "product",
    normalise: Normalise = False,
    gradient: GradientMode = "constant",
    alpha: Alpha = 1.0,
    beta: Beta = 8.0,
    warmup: Warmup = 20.0,
    lambda_ce: LambdaCe = 1.0,
    lambda_kl: Annotated[float, Number("further factor on the non-target part", minimum=0)] = 1.0,
) -> Terms:
    """DKD under the temperatures and weights of CIST.

    `dkd_loss` with ``tau_t,i`` and ``tau_s,i`` of `cist_loss` in its softmaxes and ``w_i`` in the place of ``tau^2``:

    ``L = lambda_ce CE + min(epoch / warmup, 1) mean_i( w_i (alpha KL_target,i + lambda_kl beta KL_non-target,i) )``.

    ``lambda_kl`` stands on the non-target part alone, as in the authors' development repository
    (lhchau/element-wise-kd, commit e1b1a68). It does what ``beta`` does, and is there so that the two can be given as
    the authors give them: one ``beta`` for each pair of networks, as in DKD, and a ``lambda_kl`` searched for. At its
    default of 1, that of their training script, the loss is DKD's own.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ramp = share_passed(epoch, warmup)
    softening = cist(batch, rho=rho, floor=floor, weighting=weighting, normalise=normalise, gradient=gradient)
    return _decoupled(batch, softening, alpha=alpha, beta=lambda_kl * beta, ramp=ramp, lambda_ce=lambda_ce)


def _decoupled(
    batch: Batch, softening: Softening, *, alpha: float, beta: float, ramp: float | Tensor, lambda_ce: float
) -> Terms:
    target = softening.compare(batch, target_kl, batch.labels)
    non_target = softening.compare(batch, non_target_kl, batch.labels)
    return collect(
        batch,
        softening,
        alpha * target + beta * non_target,
        lambda_ce=lambda_ce,
        lambda_kl=ramp,
        target=batch.mean(softening.weight * target),
        non_target=batch.mean(softening.weight * non_target),
        ramp=scalar(ramp, like=target),
    )
