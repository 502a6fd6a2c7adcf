"""Matching: which rho, and which fixed temperature, give a wanted mean entropy.

Every curve falls from ``ln C`` as its ratio grows, so the mean over samples falls too and each question has one
answer, found by bracketed root-finding on the logarithm of the parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cist_core.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature import Cist

DEFAULT_TARGET = 0.25
"""Default mean normalised entropy. The field's own settings, tau 4 on CIFAR-10 and tau 1 on ImageNet, sit at 0.21 to
0.26."""

_USUAL_RHO = 4.0
_LOG_RHO = (math.log(1e-3), math.log(1e5))
_LOG_TAU = (math.log(1e-9), math.log(1e9))
# Relative precision of the parameter: it moves the mean entropy by 2e-5 nats at most.
_PRECISION = 1e-5


def match_rho(curves: EntropyCurves, mean_entropy: float, *, guess: float = _USUAL_RHO) -> float:
    """The rho at which CIST's mean entropy is ``mean_entropy`` nats: the root of ``mean_i H_i(rho) = H``.

    A good guess saves evaluations and changes nothing else.

    Raises:
        CistError: if the mean entropy is outside ``(0, ln C)`` or no rho reaches it (tied or constant rows).
    """
    upper = min(_LOG_RHO[1], math.log(curves.max_ratio))
    bracket = (_LOG_RHO[0], upper)
    return solve_for_mean("rho", lambda rho: _mean(Cist(rho).entropy(curves)), curves, mean_entropy, bracket, guess)


def match_tau(curves: EntropyCurves, mean_entropy: float, *, guess: float | None = None) -> float:
    """The fixed temperature at which the mean entropy is ``mean_entropy`` nats.

    A good guess saves evaluations and changes nothing else.

    Raises:
        CistError: as `match_rho`.
    """
    lower = math.log(max(math.exp(_LOG_TAU[0]), float(curves.statistics.maximum.max()) / curves.max_ratio))
    bracket = (lower, _LOG_TAU[1])
    start = guess or _partner(curves, _USUAL_RHO)
    return solve_for_mean(
        "temperature", lambda tau: _mean(curves.at_temperature(tau)), curves, mean_entropy, bracket, start
    )


@dataclass(frozen=True)
class MatchedPair:
    """A fixed temperature and a rho whose soft labels have the same mean entropy, in nats."""

    tau: float
    rho: float
    mean_entropy: float


def matched_pair(
    curves: EntropyCurves,
    *,
    tau: float | None = None,
    rho: float | None = None,
    mean_entropy: float | None = None,
    guess: float | None = None,
) -> MatchedPair:
    """Complete a matched pair from exactly one of its three numbers.

    A ``guess`` of the partner of ``tau`` or ``rho`` saves evaluations and changes nothing else.

    Raises:
        CistError: if the given number leaves no partner with the same mean entropy.
    """
    if sum(value is not None for value in (tau, rho, mean_entropy)) != 1:
        raise TypeError("matched_pair takes exactly one of tau, rho and mean_entropy.")
    if tau is not None:
        mean_entropy = _mean(curves.at_temperature(tau))
        return MatchedPair(tau, match_rho(curves, mean_entropy, guess=guess or _partner(curves, tau)), mean_entropy)
    if rho is not None:
        mean_entropy = _mean(Cist(rho).entropy(curves))
        return MatchedPair(match_tau(curves, mean_entropy, guess=guess or _partner(curves, rho)), rho, mean_entropy)
    assert mean_entropy is not None
    return MatchedPair(match_tau(curves, mean_entropy), match_rho(curves, mean_entropy), mean_entropy)


def default_pair(curves: EntropyCurves) -> MatchedPair:
    """The pair to start from: mean normalised entropy `DEFAULT_TARGET`."""
    return matched_pair(curves, mean_entropy=DEFAULT_TARGET * curves.max_entropy)


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
) -> float:
    if not 0 < target < curves.max_entropy:
        raise CistError(
            f"A mean entropy of {target:.4g} nats cannot be matched; with {curves.num_classes} classes it lies between "
            f"0 and ln C = {curves.max_entropy:.4g}."
        )
    from scipy.optimize import brentq  # takes longer to import than the rest of the analysis

    @cache  # brentq asks for both ends of its bracket again
    def at(log: float) -> float:
        return mean_at(math.exp(log))

    # A bracket around the guess, widened until the root is inside: far fewer evaluations than the whole range costs.
    lowest, highest = log_bracket
    centre, step = min(max(math.log(guess), lowest), highest), 0.05
    while True:
        low, high = max(lowest, centre - step), min(highest, centre + step)
        at_low, at_high = at(low), at(high)
        inside = min(at_low, at_high) <= target <= max(at_low, at_high)
        if inside or (low, high) == (lowest, highest):
            break
        step *= 4
    if not inside:
        reason = (
            f"tied or constant logits keep their entropy at any {name}"
            if curves.exact
            else f"the table of this stream ends at the ratio {curves.max_ratio:g}; load the logits into memory"
        )
        raise CistError(
            f"No {name} gives these samples a mean entropy of {target:.4g} nats; they reach {min(at_low, at_high):.4g} "
            f"to {max(at_low, at_high):.4g} ({reason})."
        )
    return math.exp(float(brentq(lambda log: at(log) - target, low, high, xtol=_PRECISION)))
