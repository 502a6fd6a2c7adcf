"""Temperature rules in torch: from the logits of one model to one temperature per sample, ``(N,)``.

`cist_core.temperature` has the same rules for analysis; these carry the gradient through a student's logits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cist_core.entropy.theory import equal_others_ratio
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
_SMALLEST_VARIANCE = 1e-6  # of scaled logits: below it float32 does not know how the entropy moves
_LONGEST_TURN = 4.0
_NEARLY_TIED = 10.0


def matched_temperature(rows: Rows, *, H: float) -> Tensor:
    """The temperature at which each sample's entropy is exactly ``H`` nats: the root on its curve, without gradient.

    A sample that cannot reach ``H`` (its largest logit is tied, or it is constant) takes the temperature that comes
    closest. `matched_slope` has the derivative.

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
    # A step of Newton's method polishes the root, where there is one.
    log_q = constant.log_probabilities(root)
    _, variance = _scaled_deviations(constant, root, log_q)
    step = (entropy(log_q) - H) * root / variance.clamp(min=_SMALLEST_VARIANCE)
    return root - torch.where(_is_root(log_q, variance, H), step, 0.0)


def matched_slope(rows: Rows, tau: Tensor, *, H: float, log_p: Tensor) -> Tensor:
    """How the temperature at which a student row has entropy ``H`` moves with its logits, bounded near ties.

    Returns ``d tau / d z``, ``(N, C)``.

    With ``s = c / tau``, the implicit derivative at the root is ``u = q (s - E_q s) / Var_q(s)``. Since the temperature
    is proportional to the scale of the logits, ``<u, c> = tau``; the shortest vector with that property is
    ``u_0 = tau c / |c|^2``. The gradient of one sample, at a constant weight,

    ``w / tau ((q - p) + A u)`` with ``A = E_p s - E_q s`` (which is ``-KL`` where teacher and student have ``H``),

    has no bound along ``u``: where the largest logits are nearly tied and ``H`` lies below the logarithm of their
    number, the temperature is a small part of the scale, and what the teacher gives to the other classes makes ``A`` as
    large as ``1 / tau``. ``A u_0`` never is longer than ``q - p``, of which it takes away the part along ``c``. So the
    rest is shortened:

    ``u_0 + k (u - u_0)`` with ``k = min(1, 4 |q - p| / |A (u - u_0)|)``.

    Every sample keeps ``<u, c> = tau``, and its gradient is at most ``5 w / tau |q - p|``, five times that of a
    constant temperature (six times with the weight ``tau^2`` under ``full``, which turns the sign of ``A``). The 4 is
    ours. A row that does not reach ``H``, or only where no temperature moves its entropy, has ``k = 0``; one whose
    temperature is ``TAU_MIN``, which does not move, has the slope 0.

    Args:
        rows: of the student; no gradient flows into them.
        tau: their temperatures, from `matched_temperature`.
        H: as there.
        log_p: log soft labels of the teacher at its own temperatures, ``(N, C)``.
    """
    rows = rows.detach()
    log_q = rows.log_probabilities(tau)
    p, q, centred = log_p.detach().exp(), log_q.exp(), rows.centred
    deviations, variance = _scaled_deviations(rows, tau, log_q)
    moves = (tau > TAU_MIN).unsqueeze(-1)
    scaled = centred / tau.unsqueeze(-1)
    length = scaled.square().sum(-1, keepdim=True)
    shortest = torch.where(moves & (length > 0), scaled / torch.where(length > 0, length, 1.0), 0.0)
    implicit = q * deviations / variance.clamp(min=_SMALLEST_VARIANCE).unsqueeze(-1)
    turning = torch.where(moves & _is_root(log_q, variance, H).unsqueeze(-1), implicit - shortest, 0.0)
    pull = ((p - q) * scaled).sum(-1).abs() * turning.norm(dim=-1)
    allowed = _LONGEST_TURN * (q - p).norm(dim=-1)
    kept = torch.where(pull > allowed, allowed / torch.where(pull > allowed, pull, 1.0), 1.0)
    return shortest + kept.unsqueeze(-1) * turning


def matched_damping(rows: Rows, tau: Tensor, *, H: float) -> Tensor:
    """``min(1, 10 r_eq tau / m)``, how far the gradient of a nearly tied row may be damped, ``(N,)``; 0 where constant.

    ``r_eq`` is the ratio at which a row whose other classes are all equal has the entropy ``H``. A row that needs ten
    times that ratio has its second class within about a tenth of ``m`` of the first, and ``1 / tau`` of it, by which
    weights other than ``tau_t tau_s`` multiply a gradient, is that of a tie and not of its scale. The 10 is ours.
    """
    rows = rows.detach()
    longest = _NEARLY_TIED * equal_others_ratio(float(H), rows.takes_part.shape[-1])
    positive = rows.maximum > TAU_MIN
    return torch.where(positive, longest * tau / torch.where(positive, rows.maximum, 1.0), 0.0).clamp(max=1)


def _at_log_ratio(rows: Rows, log_ratio: Tensor) -> Tensor:
    return (rows.maximum / log_ratio.exp()).clamp(min=TAU_MIN)


def _scaled_deviations(rows: Rows, tau: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """``s - E_q s`` of ``s = c / tau``, ``(N, C)``, and its variance, ``(N,)``, which is ``tau dH/dtau``."""
    q, scaled = log_q.exp(), rows.centred / tau.unsqueeze(-1)
    deviations = scaled - (q * scaled).sum(-1, keepdim=True)
    return deviations, (q * deviations.square()).sum(-1)


def _is_root(log_q: Tensor, variance: Tensor, H: float) -> Tensor:
    """Whether a row has the entropy asked for, and its temperature a say in it."""
    return ((entropy(log_q) - H).abs() < 1e-3) & (variance > _SMALLEST_VARIANCE)


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
