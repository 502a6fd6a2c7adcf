"""Curriculum temperature (Li et al. 2023, arXiv 2211.16231), also on top of CIST."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Floor, GradientMode, Normalise, Rho, Softening, Weighting, cist, fixed
from cist_core.objectives.terms import Terms, collect, share_passed
from cist_core.temperature import CIST_FLOOR
from cist_core.temperature.logit_rows import scalar
from cist_core.temperature.parameters import Learnable, Number

Theta = Annotated[float | Tensor, Learnable("where the learnable parameter of the temperature starts")]
Ramp = Annotated[float, Number("epochs over which the reversed gradient grows to its full strength", minimum=0)]

LOWEST, RANGE = 1.0, 20.0
"""The published temperature runs from 1 to 21."""
START = 1.0
"""The published start of theta, at which the temperature is 15.6."""


@register_objective("ctkd")
def ctkd_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    epoch: float | Tensor | None = None,
    theta: Theta = START,
    ramp: Ramp = 10.0,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """One temperature that learns to make the student's task harder (CTKD, global variant, Li et al. 2023).

    ``L = lambda_ce CE + lambda_kl T^2 KL(softmax(z_t / T) || softmax(z_s / T))`` with ``T = 1 + 20 sigmoid(theta)``.
    The student descends on the loss, theta ascends: its gradient, which flows through the softmaxes and ``T^2``, is
    multiplied by ``-s`` with ``s = (1 - cos(pi min(epoch / ramp, 1))) / 2``, from 0 up to 1. Shapes and errors as in
    `kd_loss`.

    Args:
        student_logits: ``(B, C)`` or ``(B, L, C)``.
        teacher_logits: likewise.
        labels: ``(B,)`` or ``(B, L)`` integers.
        mask: ``(B, L)`` boolean.
        epoch: from 1.
        theta: a scalar tensor that requires a gradient, in the module an ``nn.Parameter``; a number keeps ``T`` where
            it is.
        ramp: in epochs; 0 starts at full strength.
        lambda_ce: weight of the cross-entropy.
        lambda_kl: weight of the divergence.

    Returns:
        `Terms` with ``strength``, the ``s`` above.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    strength = reversal_strength(epoch, ramp)
    softening = fixed(batch, curriculum_temperature(theta, strength, like=batch.for_each_sample(1.0)))
    return _adversarial(batch, softening, strength, lambda_ce=lambda_ce, lambda_kl=lambda_kl)


@register_objective("cist+ctkd")
def cist_ctkd_loss(
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
    theta: Theta = START,
    ramp: Ramp = 10.0,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """CTKD on top of CIST: the learnable temperature scales those of every sample.

    `cist_loss` with ``tau_i = g max(m_i / rho, floor)`` for both models and the weight ``g^2 w_i``, where
    ``g = T(theta) / T(1)`` is the temperature of `ctkd_loss` relative to its published start. So training starts at
    ``rho`` (our choice; the text names the combination only).
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    strength = reversal_strength(epoch, ramp)
    temperature, start = (
        curriculum_temperature(value, strength, like=batch.for_each_sample(1.0)) for value in (theta, START)
    )
    softening = cist(batch, rho=rho, floor=floor, weighting=weighting, normalise=normalise, gradient=gradient)
    return _adversarial(
        batch, softening.scaled(temperature / start), strength, lambda_ce=lambda_ce, lambda_kl=lambda_kl
    )


def curriculum_temperature(theta: float | Tensor, strength: float | Tensor, *, like: Tensor) -> Tensor:
    """``T = 1 + 20 sigmoid(theta)``, a scalar whose gradient is multiplied by ``-strength`` on its way to theta.

    Args:
        theta: a number or a scalar tensor.
        strength: of the reversal, from 0 to 1.
        like: the result has its type and device.
    """
    theta = scalar(theta, like=like)
    reversed_theta = theta.detach() - strength * (theta - theta.detach())
    return LOWEST + RANGE * reversed_theta.sigmoid()


def reversal_strength(epoch: float | Tensor | None, ramp: float) -> float | Tensor:
    """``(1 - cos(pi min(epoch / ramp, 1))) / 2``; 1 where the ramp is 0.

    Raises:
        CistError: if the epoch is missing or negative.
    """
    passed = share_passed(epoch, ramp)
    cosine = (math.pi * passed).cos() if isinstance(passed, Tensor) else math.cos(math.pi * passed)
    return (1 - cosine) / 2


def _adversarial(
    batch: Batch, softening: Softening, strength: float | Tensor, *, lambda_ce: float, lambda_kl: float
) -> Terms:
    divergence = softening.compare(batch, forward_kl)
    return collect(
        batch,
        softening,
        divergence,
        lambda_ce=lambda_ce,
        lambda_kl=lambda_kl,
        strength=scalar(strength, like=divergence),
    )
