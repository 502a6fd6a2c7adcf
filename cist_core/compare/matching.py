"""Matching: which rho, and which fixed temperature, give a wanted mean entropy.

Every curve falls from ``ln C`` as its ratio grows, so the mean over samples falls too and each question has at most one
answer, found by bracketed root-finding on the logarithm of the parameter. Under a floor the ratio of a sample stops
growing at ``m_i / floor``: the mean entropy falls with rho down to that of the fixed temperature ``tau = floor``, which
it reaches at ``rho = max_i m_i / floor``, and no rho leads below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature import CIST_FLOOR, Cist

_USUAL_RHO = 4.0
_LOG_RHO = (math.log(1e-3), math.log(1e5))
_LOG_TAU = (math.log(1e-9), math.log(1e9))
# Relative precision of the parameter: it moves the mean entropy by 2e-5 nats at most.
_PRECISION = 1e-5
# Of the secant method: its first step, and the product of two or three distances that leaves less than `_PRECISION`.
_SECANT, _NEAR = 0.01, {2: 1e-6, 3: 3e-7}
# In nats: a mean entropy of float32 entropies that were summed along another way.
_ROUNDING = 1e-6


def match_rho(
    curves: EntropyCurves, mean_entropy: float, *, guess: float = _USUAL_RHO, floor: float = CIST_FLOOR
) -> float:
    """The rho at which CIST's mean entropy is ``mean_entropy`` nats: the root of ``mean_i H_i(min(rho, m_i / floor))``.

    A good guess saves evaluations and changes nothing else. The mean entropy at ``tau = floor``, the smallest that a
    floor allows, is that of the smallest rho at which every sample is at the floor.

    Args:
        curves: of one model.
        mean_entropy: in nats, between 0 and ``ln C``.
        guess: of rho.
        floor: smallest temperature of CIST, in logit units; 0 is the pure ratio rule.

    Raises:
        CistError: if the mean entropy is outside ``(0, ln C)``, or no rho reaches it: it lies below that at
            ``tau = floor``, rows are tied or constant, or a table ends before.
    """
    lower, upper = _LOG_RHO[0], min(_LOG_RHO[1], math.log(curves.max_ratio))
    last = _last_rho(curves, floor)
    ends_at_floor = 0 < last < math.exp(upper)
    return solve_for_mean(
        "rho",
        lambda rho: _mean(Cist(rho, floor).entropy(curves)),
        curves,
        mean_entropy,
        (lower, max(lower, math.log(last)) if ends_at_floor else upper),
        guess,
        sharpest=(
            f"the least is that of the fixed temperature {floor:g}, as no temperature of CIST falls below its floor of "
            f"{floor:g}; choose a smaller floor, or a larger mean entropy"
        )
        if ends_at_floor
        else None,
    )


def match_tau(curves: EntropyCurves, mean_entropy: float, *, guess: float | None = None) -> float:
    """The fixed temperature at which the mean entropy is ``mean_entropy`` nats.

    A good guess saves evaluations and changes nothing else.

    Raises:
        CistError: if the mean entropy is outside ``(0, ln C)``, or no temperature reaches it.
    """
    lower = math.log(max(math.exp(_LOG_TAU[0]), curves.lowest_temperature))
    bracket = (lower, _LOG_TAU[1])
    start = guess or _partner(curves, _USUAL_RHO)
    return solve_for_mean(
        "temperature", lambda tau: _mean(curves.at_temperature(tau)), curves, mean_entropy, bracket, start
    )


@dataclass(frozen=True)
class MatchedPair:
    """A fixed temperature and a rho whose soft labels have the same mean entropy, in nats.

    Attributes:
        tau: the fixed temperature, in logit units.
        rho: the ratio of CIST.
        mean_entropy: under either, in nats.
        floor: of CIST, in logit units.
    """

    tau: float
    rho: float
    mean_entropy: float
    floor: float = CIST_FLOOR

    @property
    def cist(self) -> Cist:
        """The rule of rho and floor."""
        return Cist(self.rho, self.floor)


def matched_pair(
    curves: EntropyCurves,
    *,
    tau: float | None = None,
    rho: float | None = None,
    mean_entropy: float | None = None,
    guess: float | None = None,
    floor: float = CIST_FLOOR,
) -> MatchedPair:
    """Complete a matched pair from exactly one of its three numbers.

    A ``guess`` of the partner of ``tau`` or ``rho`` saves evaluations and changes nothing else. Where the floor binds
    on every sample, the partner of rho is the floor itself. What a table beside logits answers is confirmed at the rho
    by one exact pass, once for all pairs of the same curves, and is computed from the logits where the table is wrong.

    Raises:
        CistError: if the given number leaves no partner with the same mean entropy.
    """
    if sum(value is not None for value in (tau, rho, mean_entropy)) != 1:
        raise TypeError("matched_pair takes exactly one of tau, rho and mean_entropy.")
    pair = _matched_pair(curves, tau, rho, mean_entropy, guess, floor)
    if not curves.confirm(pair.cist.temperatures(curves)):
        pair = _matched_pair(curves, tau, rho, mean_entropy, guess, floor)
    return pair


def _matched_pair(
    curves: EntropyCurves,
    tau: float | None,
    rho: float | None,
    mean_entropy: float | None,
    guess: float | None,
    floor: float,
) -> MatchedPair:
    if tau is not None:
        mean_entropy = _mean(curves.at_temperature(tau))
        rho = match_rho(curves, mean_entropy, guess=guess or _partner(curves, tau), floor=floor)
        return MatchedPair(tau, rho, mean_entropy, floor)
    if rho is not None:
        mean_entropy = _mean(Cist(rho, floor).entropy(curves))
        tau = matched_tau(curves, Cist(rho, floor), mean_entropy, guess=guess)
        return MatchedPair(tau, rho, mean_entropy, floor)
    assert mean_entropy is not None
    rho = match_rho(curves, mean_entropy, floor=floor)
    return MatchedPair(match_tau(curves, mean_entropy), rho, mean_entropy, floor)


def matched_tau(
    curves: EntropyCurves, rule: Cist, mean_entropy: float | None = None, *, guess: float | None = None
) -> float:
    """The fixed temperature with the mean entropy of a CIST rule: the floor itself where it binds on every sample.

    Args:
        curves: of one model.
        rule: CIST.
        mean_entropy: of the rule on the curves in nats, where it is at hand.
        guess: of the temperature; it saves evaluations and changes nothing else.

    Raises:
        CistError: as `match_tau`.
    """
    if bool(rule.at_floor(curves).all()):
        return rule.floor
    mean = _mean(rule.entropy(curves)) if mean_entropy is None else mean_entropy
    return match_tau(curves, mean, guess=guess or max(_partner(curves, rule.rho), rule.floor))


def sharpest_mean(curves: EntropyCurves, floor: float = CIST_FLOOR) -> float:
    """The mean entropy in nats below which no rho leads: that at ``tau = floor``; 0 for a floor of 0.

    A table that ends before gives the mean entropy at its end.
    """
    last = min(_last_rho(curves, floor), curves.max_ratio)
    if math.isinf(last):
        return 0.0
    return _mean(Cist(max(last, math.exp(_LOG_RHO[0])), floor).entropy(curves))


def _last_rho(curves: EntropyCurves, floor: float) -> float:
    """The smallest rho at which every sample is at the floor; infinite without one."""
    return float(curves.statistics.maximum.max()) / floor if floor > 0 else math.inf


def _mean(entropy: NDArray[np.floating]) -> float:
    return float(np.mean(entropy, dtype=np.float64))


def _partner(curves: EntropyCurves, value: float) -> float:
    """The rho of a temperature, or the temperature of a rho, on the sample with the median centred maximum."""
    return max(float(np.median(curves.statistics.maximum)), 1e-6) / value


def solve_for_mean(
    name: str,
    mean_at: Callable[[float], float],
    curves: EntropyCurves,
    target: float,
    log_bracket: tuple[float, float],
    guess: float,
    *,
    sharpest: str | None = None,
) -> float:
    """The parameter at which a mean entropy is the target, in nats.

    Args:
        name: of the parameter, as a person reads it.
        mean_at: from the parameter to the mean entropy in nats, monotone.
        curves: of one model.
        target: in nats.
        log_bracket: logarithms of the smallest and largest parameter.
        guess: of the parameter.
        sharpest: why no mean entropy lies below those of the bracket, and what to do about it; by default ties, or the
            end of a table.
    """
    if not 0 < target < curves.max_entropy:
        raise CistError(
            f"A mean entropy of {target:.4g} nats cannot be matched; with {curves.num_classes} classes it lies between "
            f"0 and ln C = {curves.max_entropy:.4g}."
        )
    from scipy.optimize import brentq  # takes longer to import than the rest of the analysis

    @cache  # brentq asks for both ends of its bracket again
    def at(log: float) -> float:
        return mean_at(math.exp(log))

    lowest, highest = log_bracket
    centre, step = min(max(math.log(guess), lowest), highest), 0.05
    near = _secant(at, target, centre, log_bracket)
    if near is not None:
        return math.exp(near)
    # A bracket around the guess, widened until the root is inside: far fewer evaluations than the whole range costs.
    while True:
        low, high = max(lowest, centre - step), min(highest, centre + step)
        at_low, at_high = at(low), at(high)
        inside = min(at_low, at_high) <= target <= max(at_low, at_high)
        if inside or (low, high) == (lowest, highest):
            break
        step *= 4
    if not inside and sharpest is not None and 0 <= min(at_low, at_high) - target <= _ROUNDING:
        return math.exp(high if at_high < at_low else low)
    if not inside:
        reason = (
            f"tied or constant logits keep their entropy at any {name}"
            if math.isinf(curves.max_ratio)
            else f"the table of these curves ends at the ratio {curves.max_ratio:g}; choose another mean entropy"
            f"{curves.or_in_memory}"
        )
        if sharpest is not None and target < min(at_low, at_high):
            reason = sharpest
        raise CistError(
            f"No {name} gives these samples a mean entropy of {target:.4g} nats; they reach {min(at_low, at_high):.4g} "
            f"to {max(at_low, at_high):.4g} ({reason})."
        )
    return math.exp(float(brentq(lambda log: at(log) - target, low, high, xtol=_PRECISION)))


def _secant(
    at: Callable[[float], float], target: float, guess: float, bracket: tuple[float, float], most: int = 5
) -> float | None:
    """The root by the secant method, which needs three evaluations from a good guess; None where it leads nowhere.

    From the third point on the step is that of the parabola through the last three, sideways. A step ends at the root
    up to about the product of the distances to the points that it was drawn through, which saves the evaluation that
    would confirm it.
    """
    points = [(guess, at(guess))]
    here = guess + (_SECANT if guess + _SECANT <= bracket[1] else -_SECANT)
    for _ in range(most):
        points = [*points[-2:], (here, at(here))]
        root = _interpolated(points, target)
        if not bracket[0] <= root <= bracket[1]:
            return None
        if math.prod(abs(root - x) for x, _ in points) <= _NEAR[len(points)]:
            return root
        here = root
    return None


def _interpolated(points: list[tuple[float, float]], target: float) -> float:
    """Where the polynomial through points ``(f, x)`` is at ``f = target``; NaN where two of them have one ``f``."""
    if len({f for _, f in points}) < len(points):
        return math.nan
    return sum(x * math.prod((target - g) / (f - g) for _, g in points if g != f) for x, f in points)
