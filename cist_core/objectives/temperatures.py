"""Temperature rules in torch: from the logits of one model to one temperature per sample, ``(N,)``.

`cist_core.temperature` has the same rules for analysis; these carry the gradient through a student's logits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cist_core.errors import CistError
from cist_core.objectives.batch import Batch
from cist_core.objectives.rows import Rows, entropy
from cist_core.temperature import LSKD_EPSILON, TAU_MIN


def centred_maximum_temperature(rows: Rows, *, rho: float, floor: float) -> Tensor:
    """``tau_i = max(m_i / rho, floor, TAU_MIN)``, of the ratio ``min(rho, m / floor)`` (CIST, arXiv 2605.20357)."""
    return (rows.maximum / rho).clamp(min=max(floor, TAU_MIN))


def z_score_temperature(rows: Rows, *, tau: float) -> Tensor:
    """``tau_i = (std(z_i) + 1e-7) tau``: z-scored logits at a base temperature (LSKD, arXiv 2403.01427)."""
    return (rows.deviation + LSKD_EPSILON) * tau


def deviation_temperature(rows: Rows, *, k: float) -> Tensor:
    """``tau_i = max(k std(z_i), TAU_MIN)`` (NormKD, arXiv 2308.00520)."""
    return (rows.deviation * k).clamp(min=TAU_MIN)


# exp(-7) to exp(14), as the rule `matched` of the analysis: from "every class alike" to "one class in a million times
# the second" for any real row.
_LOG_RATIOS = (-7.0, 14.0)
_BISECTIONS = 32


def matched_temperature(rows: Rows, *, H: float) -> Tensor:
    """The temperature at which each sample's entropy is exactly ``H`` nats: the root on its curve.

    A sample that cannot reach ``H`` (its largest logit is tied, or it is constant) takes the temperature that comes
    closest, without gradient.

    Raises:
        CistError: if ``H`` is not below ``ln C``.
    """
    classes = rows.takes_part.shape[-1]
    if math.log(classes) <= H:
        raise CistError(
            f"Expected H to be below ln C = {math.log(classes):.4f} nats for {classes} classes, but got {H:g}; "
            "choose a smaller H."
        )
    constant = rows.detach()
    low, high = (torch.full_like(constant.maximum, end) for end in _LOG_RATIOS)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        too_soft = entropy(constant.log_probabilities(_at_log_ratio(constant, middle))) > H
        low, high = torch.where(too_soft, middle, low), torch.where(too_soft, high, middle)
    root = _at_log_ratio(constant, high)
    return _newton_step(rows, root, H)


def _at_log_ratio(rows: Rows, log_ratio: Tensor) -> Tensor:
    return (rows.maximum / log_ratio.exp()).clamp(min=TAU_MIN)


def _newton_step(rows: Rows, root: Tensor, H: float) -> Tensor:
    # A step of Newton's method from a root that is a constant polishes the value, and its derivative with respect to
    # the logits is that of the implicit function tau(z). dH/dtau is the variance of the scaled logits over tau.
    log_p = rows.log_probabilities(root)
    distance = entropy(log_p) - H
    p, scaled = log_p.detach().exp(), rows.centred.detach() / root.unsqueeze(-1)
    mean = (p * scaled).sum(-1, keepdim=True)
    variance = (p * (scaled - mean).square()).sum(-1)
    reached = (distance.detach().abs() < 1e-3) & (variance > 1e-6)
    return root - torch.where(reached, distance * root / torch.where(reached, variance, 1.0), 0.0)


def opposed_temperatures(batch: Batch, *, tau: float) -> tuple[Tensor, Tensor]:
    """``tau_t = 2 tau m_t / (m_t + m_s)`` and ``tau_s = 2 tau m_s / (m_t + m_s)`` (DTKD, arXiv 2404.12711).

    ``m`` is the largest raw logit. A negative one would give a negative temperature, which reverses the ranking of the
    classes, and a sum of 0 an infinite one. So where either is not positive, both give way to the centred maxima, which
    never are negative; two constant rows have ``tau`` each, and no temperature falls below ``TAU_MIN``.

    Returns:
        The teacher's and the student's temperatures, ``(N,)`` each; both carry the student's gradient.
    """
    as_published = (batch.teacher.peak > 0) & (batch.student.peak > 0)
    teacher = torch.where(as_published, batch.teacher.peak, batch.teacher.maximum)
    student = torch.where(as_published, batch.student.peak, batch.student.maximum)
    total = teacher + student
    both_constant = total <= 0
    scale = 2 * tau / torch.where(both_constant, 1.0, total)
    return (
        torch.where(both_constant, tau, teacher * scale).clamp(min=TAU_MIN),
        torch.where(both_constant, tau, student * scale).clamp(min=TAU_MIN),
    )
