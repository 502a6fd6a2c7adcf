"""The oracle: the same entropy for every sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.entropy.theory import equal_others_ratio
from cist_core.errors import CistError
from cist_core.temperature.guards import TAU_MIN
from cist_core.temperature.rule import TemperatureRule, register_rule

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.temperature.logit_rows import LogitRows

# exp(-7) to exp(14): from "every class alike" to "one class in a million times the second" for any real row.
_LOG_RATIOS = (-7.0, 14.0)
# Halves that range to a millionth: no entropy moves by more, and float32 ratios know little more.
_STEPS = 24
_TORCH_STEPS = 32
_SMALLEST_VARIANCE = 1e-6  # of scaled logits: below it float32 does not know how the entropy moves
_LONGEST_TURN = 4.0
_NEARLY_TIED = 10.0


@register_rule("matched")
@dataclass(frozen=True)
class Matched(TemperatureRule):
    """The oracle: the temperature at which each sample's entropy is exactly ``H`` nats.

    It is the upper bound of consistency, found by bisection on each curve. A sample that cannot reach ``H`` (its
    largest logit is tied, so its entropy never falls below the logarithm of the number of tied classes) takes the
    temperature that comes closest.
    """

    label: ClassVar[str] = "oracle"
    H: float

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        if curves.max_entropy <= self.H:
            raise CistError(
                f"Expected H of the rule '{self}' to be below ln C = {curves.max_entropy:.4f} nats for "
                f"{curves.num_classes} classes; choose a smaller H."
            )
        low = np.full(curves.num_samples, _LOG_RATIOS[0])
        high = np.full(curves.num_samples, min(_LOG_RATIOS[1], math.log(curves.max_ratio)))
        if math.isfinite(curves.max_ratio) and np.any(curves.at_ratio(curves.max_ratio) > self.H):
            raise CistError(
                f"Some samples reach H = {self.H:g} nats only beyond the table of these curves; choose a larger H"
                f"{curves.or_in_memory}."
            )
        for _ in range(_STEPS):
            middle = (low + high) / 2
            too_soft = curves.at_ratio(np.exp(middle)) > self.H
            low, high = np.where(too_soft, middle, low), np.where(too_soft, high, middle)
        return np.asarray(np.maximum(curves.statistics.maximum / np.exp(high), TAU_MIN))

    def torch_temperatures(self, rows: LogitRows) -> Tensor:
        """The root of each row, ``(N,)``, without gradient; `torch_pair` gives the student's its slope.

        Raises:
            CistError: if ``H`` is not below ``ln C``.
        """
        classes = rows.takes_part.shape[-1]
        if math.log(classes) <= self.H:
            raise CistError(
                f"Expected H to be below ln C = {math.log(classes):.4f} nats for {classes} classes, but got "
                f"{self.H:g}; choose a smaller H."
            )
        rows = rows.detach()
        low, high = (rows.maximum.new_full(rows.maximum.shape, end) for end in _LOG_RATIOS)
        for _ in range(_TORCH_STEPS):
            middle = (low + high) / 2
            too_soft = rows.entropy(_at_log_ratio(rows, middle)) > self.H
            low, high = middle.where(too_soft, low), high.where(too_soft, middle)
        root = _at_log_ratio(rows, high)
        # A step of Newton's method polishes the root, where there is one.
        entropy = rows.entropy(root)
        _, variance = _scaled_deviations(rows, root, rows.log_probabilities(root).exp())
        step = (entropy - self.H) * root / variance.clamp(min=_SMALLEST_VARIANCE)
        return root - step.where(self._is_root(entropy, variance), 0.0)

    def torch_pair(self, teacher: LogitRows, student: LogitRows) -> tuple[Tensor, Tensor]:
        tau_t, tau_s = self.torch_temperatures(teacher), self.torch_temperatures(student)
        slope = self._slope(student, tau_s, teacher.log_probabilities(tau_t))
        # Adds 0, and the slope to the gradient.
        return tau_t, tau_s + ((student.centred - student.centred.detach()) * slope).sum(-1)

    def torch_least_damping(self, student: LogitRows, tau: Tensor) -> Tensor:
        """``min(1, 10 r_eq tau / m)``, ``(N,)``; 0 for a constant row.

        ``r_eq`` is the ratio at which a row whose other classes are all equal has the entropy ``H``. A row that needs
        ten times that ratio has its second class within about a tenth of ``m`` of the first, and ``1 / tau`` of it, by
        which weights other than ``tau_t tau_s`` multiply a gradient, is that of a tie and not of its scale. The 10 is
        ours.
        """
        student = student.detach()
        longest = _NEARLY_TIED * equal_others_ratio(float(self.H), student.takes_part.shape[-1])
        positive = student.maximum > TAU_MIN
        share = longest * tau / student.maximum.masked_fill(~positive, 1.0)
        return share.masked_fill(~positive, 0.0).clamp(max=1)

    def _slope(self, rows: LogitRows, tau: Tensor, log_p: Tensor) -> Tensor:
        """How the temperature at which a student row has entropy ``H`` moves with its logits, bounded near ties.

        Returns ``d tau / d z``, ``(N, C)``, without gradient.

        With ``s = c / tau``, the implicit derivative at the root is ``u = q (s - E_q s) / Var_q(s)``. Since the
        temperature is proportional to the scale of the logits, ``<u, c> = tau``; the shortest vector with that property
        is ``u_0 = tau c / |c|^2``. The gradient of one sample, at a constant weight,

        ``w / tau ((q - p) + A u)`` with ``A = E_p s - E_q s`` (which is ``-KL`` where teacher and student have ``H``),

        has no bound along ``u``: where the largest logits are nearly tied and ``H`` lies below the logarithm of their
        number, the temperature is a small part of the scale, and what the teacher gives to the other classes makes
        ``A`` as large as ``1 / tau``. ``A u_0`` never is longer than ``q - p``, of which it takes away the part along
        ``c``. So the rest is shortened:

        ``u_0 + k (u - u_0)`` with ``k = min(1, 4 |q - p| / |A (u - u_0)|)``.

        Every sample keeps ``<u, c> = tau``, and its gradient is at most ``5 w / tau |q - p|``, five times that of a
        constant temperature (six times with the weight ``tau^2`` under ``full``, which turns the sign of ``A``). The 4
        is ours. A row that does not reach ``H``, or only where no temperature moves its entropy, has ``k = 0``; one
        whose temperature is ``TAU_MIN``, which does not move, has the slope 0.

        Args:
            rows: of the student.
            tau: their temperatures, ``(N,)``.
            log_p: log soft labels of the teacher at its own temperatures, ``(N, C)``.
        """
        rows = rows.detach()
        p, q = log_p.detach().exp(), rows.log_probabilities(tau).exp()
        deviations, variance = _scaled_deviations(rows, tau, q)
        moves = (tau > TAU_MIN).unsqueeze(-1)
        scaled = rows.centred / tau.unsqueeze(-1)
        length = scaled.square().sum(-1, keepdim=True)
        shortest = (scaled / length.masked_fill(length == 0, 1.0)).where(moves, 0.0)
        implicit = q * deviations / variance.clamp(min=_SMALLEST_VARIANCE).unsqueeze(-1)
        turns = moves & self._is_root(rows.entropy(tau), variance).unsqueeze(-1)
        turning = (implicit - shortest).where(turns, 0.0)
        pull = ((p - q) * scaled).sum(-1).abs() * turning.norm(dim=-1)
        allowed = _LONGEST_TURN * (q - p).norm(dim=-1)
        too_long = pull > allowed
        kept = (allowed / pull.masked_fill(~too_long, 1.0)).where(too_long, 1.0)
        slope: Tensor = shortest + kept.unsqueeze(-1) * turning
        return slope

    def _is_root(self, entropy: Tensor, variance: Tensor) -> Tensor:
        """Whether a row has the entropy asked for, and its temperature a say in it."""
        return ((entropy - self.H).abs() < 1e-3) & (variance > _SMALLEST_VARIANCE)


def _at_log_ratio(rows: LogitRows, log_ratio: Tensor) -> Tensor:
    return (rows.maximum / log_ratio.exp()).clamp(min=TAU_MIN)


def _scaled_deviations(rows: LogitRows, tau: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """``s - E_q s`` of ``s = c / tau``, ``(N, C)``, and its variance, ``(N,)``, which is ``tau dH/dtau``."""
    scaled = rows.centred / tau.unsqueeze(-1)
    deviations = scaled - (q * scaled).sum(-1, keepdim=True)
    return deviations, (q * deviations.square()).sum(-1)
