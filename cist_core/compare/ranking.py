"""Every temperature rule on one teacher, ranked by consistency at the same mean entropy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cist_core.compare.findings import ABOUT_AS_MUCH, NO_SPREAD
from cist_core.compare.matching import match_rho, match_tau, solve_for_mean
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature import CIST_FLOOR, Cist, Fixed, Matched, TemperatureRule, rule_class, rule_names
from cist_core.temperature.profile import EntropyProfile
from cist_core.temperature.readings import RuleReading, read_rule
from cist_core.wording import three_digits, times

RESAMPLES = 500
CONFIDENCE = 0.95

_LOG_PARAMETER = (math.log(1e-9), math.log(1e9))
_USUAL_PARAMETER = 4.0
# Two rules are one and the same where no sample's entropy differs by more than this, in nats; the solver and the
# kernels leave 1e-4.
_SAME = 1e-3
# Numbers of one batch of resamples: 16 MB in float32, whatever the number of samples.
_BATCH_VALUES = 1 << 22


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float

    def meets(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True, eq=False)
class RankedRule:
    """One rule at the common mean entropy; without numbers where no parameter of it gets there.

    Attributes:
        name: as registered.
        label: as a person reads it.
        rule: the rule with the parameter found; None if it cannot be matched.
        profile: its numbers on the teacher; None likewise.
        interval: of the spread, in nats; None likewise.
        gain: spread of the fixed temperature over this one's; None for a rule without numbers, for the fixed
            temperature itself and where this spread is nothing but rounding.
        gain_interval: of the gain, from the same resamples for both rules; None likewise.
        same_as: labels of the rules that give every sample the same entropy.
        reason: why it cannot be matched; None if it can.
    """

    name: str
    label: str
    rule: TemperatureRule | None = None
    profile: EntropyProfile | None = None
    interval: Interval | None = None
    gain: float | None = None
    gain_interval: Interval | None = None
    same_as: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def std(self) -> float:
        """The spread, in nats; infinite for a rule that cannot be matched."""
        return math.inf if self.profile is None else self.profile.std

    @property
    def is_oracle(self) -> bool:
        return self.name == Matched.name


def rank_rules(
    curves: EntropyCurves,
    mean_entropy: float,
    *,
    rules: Sequence[str] | None = None,
    floor: float = CIST_FLOOR,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> list[RankedRule]:
    """Bring every rule to the same mean entropy and rank them by spread, the smallest first.

    The intervals are percentile bootstraps over the samples (Efron and Tibshirani 1993), with the same resamples for
    every rule: the interval of a gain is that of a paired comparison. Rules that cannot be matched come last, with the
    reason.

    Args:
        curves: of the teacher; rules that look at the student as well need `EntropyCurves.beside`.
        mean_entropy: in nats, between 0 and ``ln C``.
        rules: registered names; all of them by default. The fixed temperature is always read, to compare with.
        floor: of CIST, in logit units; below its mean entropy CIST cannot be matched, and the reason says so.
        resamples: number of bootstrap resamples.
        confidence: of the intervals, between 0 and 1.
        seed: of the resamples; the same seed gives the same intervals.

    Raises:
        CistError: if no fixed temperature has this mean entropy, a rule is unknown, there are fewer than two samples,
            or ``resamples`` or ``confidence`` is out of range.

    Example:
        >>> from cist_core import LogitSet
        >>> curves = EntropyCurves.from_logits(LogitSet.create([[12.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
        >>> for ranked in rank_rules(curves, 0.5, rules=["fixed", "cist"]):
        ...     print(f"{ranked.label}: spread {ranked.std:.2f}, mean {ranked.profile.mean:.2f} nats")
        CIST: spread 0.00, mean 0.50 nats
        fixed τ: spread 0.41, mean 0.50 nats
    """
    if curves.num_samples < 2:
        raise CistError("Expected at least two samples to rank rules by their spread, but there is one.")
    if resamples < 2 or not 0 < confidence < 1:
        raise CistError(
            f"Expected at least two resamples and a confidence between 0 and 1, but got {resamples} and {confidence:g}."
        )
    tau = match_tau(curves, mean_entropy)
    fixed = read_rule(Fixed(tau), curves)
    read: dict[str, RuleReading] = {}
    unmatched: list[RankedRule] = []
    for name in dict.fromkeys(rule_names() if rules is None else rules):
        kind = rule_class(name)
        try:
            read[name] = fixed if kind is Fixed else _read_matched(kind, curves, mean_entropy, near=tau, floor=floor)
        except CistError as error:
            unmatched.append(RankedRule(name, _label(kind), reason=str(error)))
    spreads, gains = _intervals(fixed, list(read.values()), resamples, confidence, seed)
    same = _same_rules(read)
    ranked = []
    for (name, reading), spread, gain in zip(read.items(), spreads, gains, strict=True):
        compares = reading is not fixed and reading.profile.std >= NO_SPREAD
        ranked.append(
            RankedRule(
                name,
                _label(type(reading.rule)),
                reading.rule,
                reading.profile,
                spread,
                fixed.profile.std / reading.profile.std if compares else None,
                gain if compares else None,
                tuple(_label(rule_class(other)) for other in same[name]),
            )
        )
    # Rules that tie differ by rounding, which must not decide their order.
    place = {name: min(read[other].profile.std for other in (name, *same[name])) for name in read}
    return sorted(ranked, key=lambda rule: (place[rule.name], rule.name)) + unmatched


def _read_matched(
    kind: type[TemperatureRule], curves: EntropyCurves, mean_entropy: float, *, near: float, floor: float
) -> RuleReading:
    """`match_rule` and what it reads; the oracle, which takes longest, is read once where that is enough."""
    if kind is Matched:
        direct = read_rule(Matched(mean_entropy), curves)
        if abs(direct.profile.mean - mean_entropy) <= NO_SPREAD:
            return direct
    return read_rule(match_rule(kind, curves, mean_entropy, near=near, floor=floor), curves)


def match_rule(
    kind: type[TemperatureRule],
    curves: EntropyCurves,
    mean_entropy: float,
    *,
    near: float | None = None,
    floor: float = CIST_FLOOR,
) -> TemperatureRule:
    """The rule of one kind whose soft labels have this mean entropy, in nats: the root over its one parameter.

    Options of a rule stay as they are by default, but for the ``floor`` of CIST. The fixed temperature ``near`` which
    the rule is found saves evaluations and changes nothing else.

    Raises:
        CistError: if the kind has not exactly one parameter, or none of its rules has this mean entropy.
    """
    names = kind.parameter_names()
    if len(names) != 1:
        raise CistError(
            f"The rule '{kind.name}' has {len(names)} parameters; only a rule with exactly one can be matched."
        )
    if kind is Cist:
        return Cist(match_rho(curves, mean_entropy, floor=floor), floor)

    def at(parameter: float) -> TemperatureRule:
        return kind(**{names[0]: parameter})

    def mean_at(parameter: float) -> float:
        return _mean_entropy(at(parameter), curves)

    lowest, highest = _LOG_PARAMETER
    if kind is Matched:
        # Its parameter is the mean entropy already, but for samples with tied logits, which stay above it.
        if abs(mean_at(mean_entropy) - mean_entropy) <= NO_SPREAD:
            return at(mean_entropy)
        guess, highest = mean_entropy, math.log(mean_entropy)
    else:
        # Most temperatures are proportional to their rule's parameter; for another rule this is a poorer guess.
        guess = _USUAL_PARAMETER
        guess *= (near or guess) / float(np.median(at(guess).temperatures(curves)))
    name = f"{names[0]} of the rule '{kind.name}'"
    found = at(solve_for_mean(name, mean_at, curves, mean_entropy, (lowest, highest), guess))
    if math.isfinite(curves.max_ratio) and abs(_mean_entropy(found, curves) - mean_entropy) > 0.01 * mean_entropy:
        raise CistError(
            f"No {name} within the table of these curves has a mean entropy of {three_digits(mean_entropy)} nats; "
            f"choose a larger one{curves.or_in_memory}."
        )
    return found


def _mean_entropy(rule: TemperatureRule, curves: EntropyCurves) -> float:
    temperatures = rule.temperatures(curves)
    if float(np.max(curves.statistics.maximum / temperatures)) > curves.max_ratio:
        return 0.0  # sharper than the table of a stream reaches: on the sharp side of any answer it can give
    return float(np.mean(curves.at_temperature(temperatures), dtype=np.float64))


def _intervals(
    fixed: RuleReading, readings: Sequence[RuleReading], resamples: int, confidence: float, seed: int
) -> tuple[list[Interval], list[Interval]]:
    """The intervals of every spread, and of the fixed temperature's spread over it."""
    entropies = np.stack([reading.entropy for reading in (fixed, *readings)], axis=1).astype(np.float64)
    entropies -= entropies.mean(axis=0)  # so that the squares lose no digits
    moments = np.concatenate([entropies, entropies**2], axis=1).astype(np.float32)
    drawn = _resamples(len(entropies), resamples, seed)
    rows = max(1, _BATCH_VALUES // len(entropies))
    sums = [drawn[start : start + rows].astype(np.float32) @ moments for start in range(0, resamples, rows)]
    mean, square = np.split(np.concatenate(sums).astype(np.float64) / len(entropies), 2, axis=1)
    stds = np.sqrt(np.maximum(square - mean**2, 0.0))
    # What is smaller is rounding; and a resample may consist of one sample only, which does not spread.
    gains = np.maximum(stds[:, :1], NO_SPREAD) / np.maximum(stds[:, 1:], NO_SPREAD)
    tail = (1 - confidence) / 2
    return _between(stds[:, 1:], tail), _between(gains, tail)


def _between(values: NDArray[np.float64], tail: float) -> list[Interval]:
    """The middle of each column, without a tail on either side."""
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return [Interval(float(start), float(end)) for start, end in zip(low, high, strict=True)]


@lru_cache(maxsize=1)
def _resamples(count: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each sample is drawn in each resample, ``(resamples, count)``; kept, as no entropy decides it.

    They take longer to draw than to use, which is why `scipy.stats.bootstrap`, which draws anew each time, is not here.
    """
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, count), np.uint8)
    for row in drawn:
        row[:] = np.bincount(rng.integers(0, count, count), minlength=count)
    return drawn


def _same_rules(readings: Mapping[str, RuleReading]) -> dict[str, list[str]]:
    """For each rule the others that give every sample its entropy."""
    return {
        name: [
            other
            for other, read in readings.items()
            if other != name and float(np.max(np.abs(read.entropy - reading.entropy))) <= _SAME
        ]
        for name, reading in readings.items()
    }


def _label(kind: type[TemperatureRule]) -> str:
    return kind.label or kind.name


def ranking_finding(ranking: Sequence[RankedRule]) -> str:
    """Which rule is the most consistent, by how much, and whether the samples are enough to say so.

    The oracle does not compete: it is given the entropy that the others try to reach.
    """
    rivals = [rule for rule in ranking if rule.profile is not None and not rule.is_oracle]
    oracle = any(rule.is_oracle and rule.std < NO_SPREAD for rule in ranking)
    ending = "; the oracle is 0 by construction" if oracle else ""
    if not rivals:
        return "No rule has this mean entropy on this teacher"
    if len(rivals) == 1:
        return f"Only {rivals[0].label} has this mean entropy: it spreads {three_digits(rivals[0].std)} nats{ending}"
    if rivals[-1].std < NO_SPREAD:
        return f"No rule spreads: every sample has the same entropy under each of the {len(rivals)}"
    tied = [rule for rule in rivals if rule is rivals[0] or rule.label in rivals[0].same_as]
    following = next((rule for rule in rivals if rule not in tied), None)
    names = listed([rule.label for rule in tied])
    if following is None:
        return f"{names} give every sample the same entropy here: no rule is more consistent than another{ending}"
    verb = "is" if len(tied) == 1 else "are one rule here and"
    start = f"{names} {verb} the most consistent{' rule here' if len(tied) == 1 else ''}{_lead(tied, following)}"
    return start + ending


def _lead(first: Sequence[RankedRule], following: RankedRule) -> str:
    """How far ahead the first rule is: of the fixed temperature, and of the rule that follows it."""
    best = first[0]
    assert best.interval is not None
    assert following.interval is not None
    close = (
        f", but barely: its interval overlaps {following.label}'s ({three_digits(best.std)} against "
        f"{three_digits(following.std)} nats)"
        if best.interval.meets(following.interval)
        else ""
    )
    if best.std < NO_SPREAD:
        return f": {'it does' if len(first) == 1 else 'they do'} not spread at all"
    if best.gain is None or best.gain < ABOUT_AS_MUCH[1]:
        return close or f": {three_digits(best.std)} nats against {three_digits(following.std)} under {following.label}"
    return f": {times(best.gain)} times less spread than fixed τ{close}"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
