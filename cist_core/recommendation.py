"""Which rho: the one whose soft labels have a wanted mean entropy, and the fixed temperature it stands beside.

A **practical range** of the mean normalised entropy says which soft labels are neither nearly one-hot nor nearly
uniform: 0.15 to 0.55 by default, or what two fixed temperatures give. Within it lies a **target**, by default 0.25,
where the field's own settings sit. The recommended rho has the target's mean entropy; its band, those of the two ends.

A floor keeps the mean entropy under CIST above that of ``tau = floor``: an end of the range below it has no rho, a
target below it is refused, and where the default target lies below it, the middle of what is left takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cist_core.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.findings import consistency_gain, three_digits
from cist_core.profile import OVER_SHARP, OVER_SMOOTHED, EntropyProfile
from cist_core.rho import default_target, match_rho, match_tau, matched_tau
from cist_core.temperature import CIST_FLOOR, Cist, Fixed

PRACTICAL_RANGE = (0.15, 0.55)
"""Default ends of the mean normalised entropy (default of the method)."""

Ends = tuple[float | None, float | None]


@dataclass(frozen=True)
class RhoOutcome:
    """One rho on one model, and the fixed temperature of the same mean entropy.

    Attributes:
        rho: the ratio of every sample above the floor.
        floor: smallest temperature of CIST, in logit units.
        matched_tau: the fixed temperature; None where none has this mean entropy within a table's ratios.
        cist: the profile at rho.
        fixed: the profile at ``matched_tau``, or None.
    """

    rho: float
    floor: float
    matched_tau: float | None
    cist: EntropyProfile
    fixed: EntropyProfile | None

    @property
    def std_fixed(self) -> float | None:
        """Spread at the matched fixed temperature, in nats."""
        return None if self.fixed is None else self.fixed.std

    @property
    def std_cist(self) -> float:
        """Spread at rho, in nats."""
        return self.cist.std

    @property
    def gain(self) -> float | None:
        """``std_fixed / std_cist``; below 1, CIST is the less consistent one. None where nothing is left to compare."""
        return None if self.fixed is None else consistency_gain(self.fixed, self.cist)

    def to_dict(self) -> dict[str, Any]:
        """The numbers, entropies in nats and, where it says so, as shares of ``ln C``."""
        return {
            "rho": self.rho,
            "floor": self.floor,
            "mean_entropy": self.cist.mean,
            "mean_normalised_entropy": self.cist.normalised_mean,
            "matched_tau": self.matched_tau,
            "std_fixed": self.std_fixed,
            "std_cist": self.std_cist,
            "gain": self.gain,
            "cist": self.cist.to_dict(),
            "fixed": None if self.fixed is None else self.fixed.to_dict(),
        }


def rho_outcome(
    curves: EntropyCurves,
    rho: float,
    *,
    floor: float = CIST_FLOOR,
    over_sharp_below: float = OVER_SHARP,
    over_smoothed_above: float = OVER_SMOOTHED,
) -> RhoOutcome:
    """What a rho gives on these curves, beside the fixed temperature of the same mean entropy.

    Args:
        curves: of one model.
        rho: positive.
        floor: smallest temperature of CIST, in logit units; 0 is the pure ratio rule.
        over_sharp_below: threshold as a share of ``ln C``.
        over_smoothed_above: threshold as a share of ``ln C``.

    Raises:
        CistError: if rho is not positive, the floor negative, or rho beyond a table.
    """
    thresholds = {"over_sharp_below": over_sharp_below, "over_smoothed_above": over_smoothed_above}
    rule = Cist(rho, floor)
    cist = EntropyProfile.of(rule, curves, **thresholds)
    tau = _end(lambda of, mean: matched_tau(of, rule, mean), curves, cist.mean)
    fixed = None if tau is None else EntropyProfile.of(Fixed(tau), curves, **thresholds)
    return RhoOutcome(rho, floor, tau, cist, fixed)


@dataclass(frozen=True)
class RhoRecommendation:
    """The recommended rho, its band, and what it gives. Normalised entropies are shares of ``ln C``.

    Attributes:
        outcome: at the recommended rho.
        target: mean normalised entropy at the recommended rho.
        low: lower end of the practical range.
        high: upper end.
        band: the rho of ``high`` and that of ``low``: a smaller rho is softer. None for an end that no rho reaches.
        tau_band: the fixed temperatures of ``low`` and ``high``, or None likewise.
    """

    outcome: RhoOutcome
    target: float
    low: float
    high: float
    band: Ends
    tau_band: Ends

    @property
    def rho(self) -> float:
        return self.outcome.rho

    @property
    def floor(self) -> float:
        return self.outcome.floor

    @property
    def matched_tau(self) -> float | None:
        return self.outcome.matched_tau

    @property
    def gain(self) -> float | None:
        return self.outcome.gain

    @property
    def max_entropy(self) -> float:
        """``ln C`` in nats."""
        return float(np.log(self.outcome.cist.classes))

    @property
    def target_entropy(self) -> float:
        """Mean entropy at the recommended rho, in nats."""
        return self.target * self.max_entropy

    def to_dict(self) -> dict[str, Any]:
        """Everything as one JSON-ready object; ``cist`` and ``fixed`` are whole profiles."""
        outcome = self.outcome.to_dict()
        return {
            "rho": self.rho,
            "floor": self.floor,
            "band": list(self.band),
            "target_entropy": self.target_entropy,
            "target_normalised_entropy": self.target,
            "range_entropy": [self.low * self.max_entropy, self.high * self.max_entropy],
            "range_normalised_entropy": [self.low, self.high],
            "matched_tau": self.matched_tau,
            "tau_band": list(self.tau_band),
            **{key: outcome[key] for key in ("std_fixed", "std_cist", "gain", "cist", "fixed")},
        }


def recommend_rho(
    curves: EntropyCurves,
    *,
    target: float | None = None,
    low: float = PRACTICAL_RANGE[0],
    high: float = PRACTICAL_RANGE[1],
    tau_range: tuple[float, float] | None = None,
    floor: float = CIST_FLOOR,
    over_sharp_below: float = OVER_SHARP,
    over_smoothed_above: float = OVER_SMOOTHED,
) -> RhoRecommendation:
    """The rho with the target's mean entropy, and the band of the practical range.

    ``mean_i H_i(min(rho, m_i / floor)) = target * ln C``.

    Args:
        curves: of the teacher.
        target: mean normalised entropy; None: 0.25, or where the range does not hold it or the floor keeps CIST above
            it, the middle of what CIST reaches of the range.
        low: lower end of the practical range, a mean normalised entropy.
        high: upper end.
        tau_range: two fixed temperatures whose mean entropies are the ends, in place of low and high.
        floor: smallest temperature of CIST, in logit units; 0 is the pure ratio rule.
        over_sharp_below: threshold as a share of ``ln C``.
        over_smoothed_above: threshold as a share of ``ln C``.

    Raises:
        CistError: if the range is empty, the target lies outside it, or no rho reaches the target (the floor is too
            high for it, rows are tied or constant, or a table ends before).

    Example:
        >>> from cist_core import EntropyCurves, LogitSet
        >>> curves = EntropyCurves.from_logits(LogitSet.create([[18.0, 2.0, 0.0], [4.0, 1.0, 0.0]]))
        >>> found = recommend_rho(curves)
        >>> f"rho {found.rho:.3g}, matched with tau {found.matched_tau:.3g}"
        'rho 2.31, matched with tau 1.47'
    """
    if tau_range is not None:
        low, high = _range_of_temperatures(curves, tau_range)
    if not 0 <= low < high <= 1:
        raise CistError(
            f"Expected a practical range with 0 <= low < high <= 1, shares of ln C, but got {low:.4g} to {high:.4g}."
        )
    if target is None:
        target = default_target(curves, low=low, high=high, floor=floor)
    if not low <= target <= high:
        raise CistError(
            f"The target {target:.4g} lies outside the practical range {low:.4g} to {high:.4g} (shares of ln C); "
            "choose a target in it, or a wider range."
        )
    limit = curves.max_entropy
    rho_of = partial(match_rho, floor=floor)
    rho = rho_of(curves, target * limit)
    band = (_end(rho_of, curves, high * limit), _end(rho_of, curves, low * limit))
    tau_band: Ends = tau_range or (_end(match_tau, curves, low * limit), _end(match_tau, curves, high * limit))
    outcome = rho_outcome(
        curves, rho, floor=floor, over_sharp_below=over_sharp_below, over_smoothed_above=over_smoothed_above
    )
    return RhoRecommendation(outcome, target, low, high, band, tau_band)


def _range_of_temperatures(curves: EntropyCurves, tau_range: tuple[float, float]) -> tuple[float, float]:
    """The mean normalised entropies at two fixed temperatures."""
    cooler, warmer = tau_range
    if not cooler < warmer:
        raise CistError(f"Expected the smaller of two different temperatures first, but got {cooler:g} and {warmer:g}.")
    low, high = (float(curves.at_temperature(tau).mean(dtype=np.float64)) / curves.max_entropy for tau in tau_range)
    if not low < high:
        raise CistError(
            f"The temperatures {cooler:g} and {warmer:g} give the same mean entropy, {three_digits(low)} of ln C; "
            "choose temperatures further apart."
        )
    return low, min(high, 1.0)


def _end(match: Callable[[EntropyCurves, float], float], curves: EntropyCurves, entropy: float) -> float | None:
    """The parameter of a mean entropy, or None where there is none: an end that cannot be reached is not an error."""
    try:
        return match(curves, entropy)
    except CistError:
        return None


def recommendation_story(found: RhoRecommendation) -> str:
    """The recommendation as a sentence without a full stop."""
    alike = "" if found.matched_tau is None else f", as τ = {three_digits(found.matched_tau)} does"
    return (
        f"ρ = {three_digits(found.rho)} gives the wanted mean entropy, {three_digits(found.target_entropy)} nats "
        f"({found.target * 100:.3g} % of ln C){alike}; {_band_in_words(*found.band)} stays in the practical range"
    )


def _band_in_words(softer: float | None, sharper: float | None) -> str:
    if softer is None:
        return "every ρ" if sharper is None else f"ρ up to {three_digits(sharper)}"
    return f"ρ from {three_digits(softer)} {'up' if sharper is None else f'to {three_digits(sharper)}'}"
