"""Which rho: that of an anchor, the band of its range, and the fixed temperature it stands beside.

The recommended rho has the mean entropy of a named anchor (`cist_core.compare.anchors`): what trained best in our own
runs where the evidence for so many classes decides, else the authors' own. Its band is that of the anchor's range.

A floor keeps the mean entropy under CIST above that of ``tau = floor``: an end of a range below it has no rho, and a
target below it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cist_core.compare.anchors import (
    AUTHORS,
    KD_TAU_1,
    KD_TAU_4,
    OWN,
    TRAINED_BEST,
    Anchor,
    Ends,
    band_of,
    default_anchor,
    end_of,
    find_anchor,
    own_anchor,
)
from cist_core.compare.findings import GAINS, consistency_gain, gain_words, rule_label
from cist_core.compare.matching import match_tau, matched_tau, sharpest_mean
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature import CIST_FLOOR, Cist, Fixed, TemperatureRule
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED, EntropyProfile
from cist_core.temperature.readings import read_rule
from cist_core.wording import three_digits


@dataclass(frozen=True)
class RhoOutcome:
    """One rho on one model, and the fixed temperature of the same mean entropy.

    Attributes:
        rho: the ratio of every sample above the floor.
        floor: smallest temperature of CIST, in logit units.
        matched_tau: the fixed temperature; None where none has this mean entropy within a table's ratios.
        cist: the profile at rho.
        fixed: the profile at ``matched_tau``, or None.
        same_label: of CIST, as `RuleReading.same_label`.
    """

    rho: float
    floor: float
    matched_tau: float | None
    cist: EntropyProfile
    fixed: EntropyProfile | None
    same_label: float = 0.0

    @property
    def profiles(self) -> list[tuple[TemperatureRule, EntropyProfile]]:
        """The rules and their profiles: the fixed temperature, if there is one, and CIST."""
        cist = (Cist(self.rho, self.floor), self.cist)
        if self.matched_tau is None or self.fixed is None:
            return [cist]
        return [(Fixed(self.matched_tau), self.fixed), cist]

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

    @property
    def gain_words(self) -> str:
        """The gain, or why there is none, as `findings.gain_words`."""
        return GAINS["unmatched"] if self.fixed is None else gain_words(self.fixed, self.cist, self.same_label)

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
    reading = read_rule(rule, curves, **thresholds)
    tau = end_of(lambda of, mean: matched_tau(of, rule, mean), curves, reading.profile.mean)
    fixed = None if tau is None else EntropyProfile.of(Fixed(tau), curves, **thresholds)
    return RhoOutcome(rho, floor, tau, reading.profile, fixed, reading.same_label)


@dataclass(frozen=True, repr=False)
class RhoRecommendation:
    """The recommended rho, its band, and what it gives. Normalised entropies are shares of ``ln C``.

    Attributes:
        outcome: at the recommended rho.
        anchor: what the rho was chosen by, with its range or the one that was asked for in its place.
        tau_band: the fixed temperatures of the lower and the upper end of the range, or None for an end without one.
    """

    outcome: RhoOutcome
    anchor: Anchor
    tau_band: Ends

    @property
    def target(self) -> float:
        """Mean normalised entropy at the recommended rho."""
        return self.anchor.target

    @property
    def low(self) -> float:
        """Lower end of the range; the target where there is none."""
        return self.anchor.low

    @property
    def high(self) -> float:
        """Upper end of the range; the target where there is none."""
        return self.anchor.high

    @property
    def band(self) -> Ends:
        """The rho of ``high`` and that of ``low``: a smaller rho is softer. None for an end that no rho reaches."""
        return self.anchor.band

    @property
    def has_range(self) -> bool:
        return self.anchor.has_range

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
        limit = self.max_entropy
        return {
            "rho": self.rho,
            "floor": self.floor,
            "anchor": self.anchor.to_dict(),
            "band": list(self.band) if self.has_range else None,
            "target_entropy": self.target_entropy,
            "target_normalised_entropy": self.target,
            "range_entropy": [self.low * limit, self.high * limit] if self.has_range else None,
            "range_normalised_entropy": [self.low, self.high] if self.has_range else None,
            "matched_tau": self.matched_tau,
            "tau_band": list(self.tau_band) if self.has_range else None,
            **{key: outcome[key] for key in ("std_fixed", "std_cist", "gain", "cist", "fixed")},
        }

    def __repr__(self) -> str:
        matched = "none" if self.matched_tau is None else three_digits(self.matched_tau)
        return (
            f"RhoRecommendation(rho={three_digits(self.rho)}, floor={self.floor:g}, matched_tau={matched}, "
            f"anchor={self.anchor.key!r}: {recommendation_sentence(self)})"
        )

    def _repr_html_(self) -> str:
        """The recommendation in a notebook: the sentence, and the fixed temperature of the same mean beside CIST."""
        from cist_core.notebook import table
        from cist_core.temperature.columns import COMPACT

        profiles = self.outcome.profiles
        names = [rule_label(rule) for rule, _ in profiles]
        rows = [(column.title, *(column.text(*profile) for profile in profiles)) for column in COMPACT]
        return table(f"{recommendation_sentence(self)}.", rows, head=("", *names))


def recommend_rho(
    curves: EntropyCurves,
    *,
    anchor: str | None = None,
    target: float | None = None,
    low: float | None = None,
    high: float | None = None,
    tau_range: tuple[float, float] | None = None,
    floor: float = CIST_FLOOR,
    over_sharp_below: float = OVER_SHARP,
    over_smoothed_above: float = OVER_SMOOTHED,
) -> RhoRecommendation:
    """The rho of an anchor, or of a mean entropy of one's own, and the band of its range.

    ``mean_i H_i(min(rho, m_i / floor)) = target * ln C``.

    Args:
        curves: of the teacher.
        anchor: key of one of `cist_core.compare.anchors.ANCHORS`; None: that of `default_anchor`, or ``own`` where a
            target or a range is given.
        target: mean normalised entropy of one's own. With a range alone it is that of `default_anchor` where that lies
            inside, else the middle of what CIST reaches of the range.
        low: lower end of a range in place of the anchor's, a mean normalised entropy; 0 where only ``high`` is given.
        high: upper end; 1 where only ``low`` is given.
        tau_range: two fixed temperatures whose mean entropies are the ends, in place of low and high.
        floor: smallest temperature of CIST, in logit units; 0 is the pure ratio rule.
        over_sharp_below: threshold as a share of ``ln C``.
        over_smoothed_above: threshold as a share of ``ln C``.

    Raises:
        CistError: if the anchor is unknown, has no evidence or contradicts the target, the range is empty, the target
            lies outside it, or no rho reaches the target (the floor is too high for it, rows are tied or constant, or
            a table ends before).

    Example:
        >>> from cist_core import EntropyCurves, LogitSet
        >>> curves = EntropyCurves.from_logits(LogitSet.create([[18.0, 2.0, 0.0], [4.0, 1.0, 0.0]]))
        >>> found = recommend_rho(curves, target=0.25)
        >>> f"rho {found.rho:.3g}, matched with tau {found.matched_tau:.3g}"
        'rho 2.31, matched with tau 1.47'
        >>> recommend_rho(curves).anchor.title  # none of our students had about three classes
        'as the authors: ρ = 3'
    """
    ends = _given_ends(curves, low, high, tau_range)
    chosen = _chosen(curves, anchor, target, ends, floor)
    if chosen.refused:
        raise CistError(chosen.refused)
    assert chosen.rho is not None
    limit = curves.max_entropy
    tau_band: Ends = tau_range or (
        end_of(match_tau, curves, chosen.low * limit),
        end_of(match_tau, curves, chosen.high * limit),
    )
    outcome = rho_outcome(
        curves, chosen.rho, floor=floor, over_sharp_below=over_sharp_below, over_smoothed_above=over_smoothed_above
    )
    return RhoRecommendation(outcome, chosen, tau_band)


def _given_ends(
    curves: EntropyCurves, low: float | None, high: float | None, tau_range: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The range that is asked for, as mean normalised entropies."""
    if tau_range is not None:
        return _range_of_temperatures(curves, tau_range)
    if low is None and high is None:
        return None
    low, high = 0.0 if low is None else low, 1.0 if high is None else high
    if not 0 <= low < high <= 1:
        raise CistError(f"Expected a range with 0 <= low < high <= 1, shares of ln C, but got {low:.4g} to {high:.4g}.")
    return low, high


def _chosen(
    curves: EntropyCurves, key: str | None, target: float | None, ends: tuple[float, float] | None, floor: float
) -> Anchor:
    """The anchor that is asked for, on these curves and with the range that is asked for."""
    if key is None and target is None and ends is None:
        return default_anchor(curves, floor=floor)
    if key is not None and key != OWN:
        if target is not None:
            raise CistError(f"Expected either the anchor '{key}' or the target {target:g}, but got both.")
        found = find_anchor(curves, key, floor=floor)
        return found if ends is None else _with_range(curves, found, ends, floor)
    if target is None:
        if ends is None:
            raise CistError(f"Expected a target or a range with the anchor '{OWN}', but got neither.")
        target = _target_within(curves, *ends, floor)
    low, high = (target, target) if ends is None else ends
    _check_target(target, low, high)
    return own_anchor(curves, target, low, high, floor=floor)


def _with_range(curves: EntropyCurves, anchor: Anchor, ends: tuple[float, float], floor: float) -> Anchor:
    _check_target(anchor.target, *ends)
    return replace(anchor, low=ends[0], high=ends[1], band=band_of(curves, *ends, floor))


def _check_target(target: float, low: float, high: float) -> None:
    if not low <= target <= high:
        raise CistError(
            f"The target {target:.4g} lies outside the range {low:.4g} to {high:.4g} (shares of ln C); choose a target "
            "in it, or a wider range."
        )


def _target_within(curves: EntropyCurves, low: float, high: float, floor: float) -> float:
    """The default mean entropy where it lies in a range, else the middle of what CIST reaches of it."""
    usual = default_anchor(curves, floor=floor).target
    if low <= usual <= high:
        return usual
    reached = sharpest_mean(curves, floor) / curves.max_entropy
    return (max(low, reached) + high) / 2 if reached < high else (low + high) / 2


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


def recommendation_sentence(found: RhoRecommendation) -> str:
    """The recommendation and the fixed temperature it matches, without a full stop."""
    reason = {
        TRAINED_BEST: ", at the mean entropy that trained best in our runs",
        AUTHORS: ", the authors' own",
        KD_TAU_4: f", {found.anchor.title}",
        KD_TAU_1: f", {found.anchor.title}",
        OWN: "",
    }[found.anchor.key]
    mean = f"{three_digits(found.target_entropy)} nats, {found.target * 100:.3g} % of ln C"
    matched = (
        f"Its mean is {mean}"
        if found.matched_tau is None
        else f"It matches τ = {three_digits(found.matched_tau)} (mean {mean})"
    )
    return f"Recommended: ρ = {three_digits(found.rho)}{reason}. {matched}"


def range_sentence(found: RhoRecommendation) -> str:
    """Which ρ stay in the range that belongs to the recommendation, without a full stop; empty without a range."""
    if not found.has_range:
        return ""
    words = f"{_band_in_words(*found.band)} stays in {found.anchor.range_name}"
    return words if words.startswith("ρ") else f"{words[0].upper()}{words[1:]}"


def _band_in_words(softer: float | None, sharper: float | None) -> str:
    if softer is None:
        return "every ρ" if sharper is None else f"ρ up to {three_digits(sharper)}"
    return f"ρ from {three_digits(softer)} {'up' if sharper is None else f'to {three_digits(sharper)}'}"
