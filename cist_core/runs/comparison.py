"""Which settings of a training run tested better, and whether their tests can tell them apart.

With several seeds the interval is one of Student's t over them: of the paired differences where the seeds are the same,
Welch's where they are not, and with one seed of one setting under the deviation of the other. With one seed of both it
is Newcombe's hybrid of two Wilson intervals (Newcombe 1998, Statistics in Medicine 17, 873-890, method 10), which knows
the test images alone, not what another seed would change.

Likelihoods of texts are compared over seeds alone (`difference_over_seeds`), and are told apart where the difference
has two standard deviations as well (`Difference.clear`): many seeds find differences that no single run would show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cist_core.runs.summary import CONFIDENCE
from cist_core.wording import percent


@dataclass(frozen=True)
class SettingAccuracy:
    """The tests of one setting.

    Attributes:
        name: of the setting, for people.
        by_seed: accuracy on the test images after the last epoch, by seed; at least one.
        images: how many test images there are; None if that is not known.
    """

    name: str
    by_seed: Mapping[int, float]
    images: int | None

    @cached_property
    def mean(self) -> float:
        return float(np.mean(list(self.by_seed.values())))

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds (``n - 1`` in the denominator); of several seeds only."""
        return _deviation(list(self.by_seed.values()))

    @property
    def smallest_step(self) -> float:
        """By how much an accuracy can move: one image of the test; 0 if their number is not known."""
        return 1 / self.images if self.images else 0.0

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Of the accuracy: Student's t over the seeds, Wilson's of the test images for one; None if it has neither."""
        if self.seeds > 1:
            deviation = max(self.deviation, self.smallest_step)
            half = _t(confidence, self.seeds - 1) * deviation / math.sqrt(self.seeds)
            return max(self.mean - half, 0.0), min(self.mean + half, 1.0)
        return None if self.images is None else wilson_interval(self.mean, self.images, confidence)

    @property
    def basis(self) -> str:
        """What the interval knows of: ``3 seeds``, or ``one seed, 500 test images``."""
        if self.seeds > 1:
            return f"{self.seeds} seeds"
        return "one seed" if self.images is None else f"one seed, {self.images:,} test images"


@dataclass(frozen=True)
class Difference:
    """Of the mean test accuracies of two settings.

    Attributes:
        mean: first minus second.
        low: lower end of its interval; NaN if there is none.
        high: upper end.
        basis: what the interval is made of, in words.
        deviation: standard deviation of the difference of two single runs; NaN if there is none.
    """

    mean: float
    low: float
    high: float
    basis: str
    deviation: float = math.nan

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    @property
    def clear(self) -> bool:
        """Whether it leaves out 0, and the mean is two deviations at least."""
        return self.told_apart and abs(self.mean) >= 2 * self.deviation


def wilson_interval(accuracy: float, images: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share of ``images``.

    Example:
        >>> low, high = wilson_interval(0.94, 500)
        >>> f"{low:.3f} to {high:.3f}"
        '0.916 to 0.958'
    """
    from scipy import stats

    found = stats.binomtest(round(accuracy * images), images).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def difference(a: SettingAccuracy, b: SettingAccuracy, *, confidence: float = CONFIDENCE) -> Difference:
    """By how much ``a`` tested better than ``b``, with its interval.

    No deviation over seeds is believed to be smaller than one test image: a handful of seeds may agree to the image by
    chance.
    """
    if max(a.seeds, b.seeds) == 1:
        return _of_one_seed(a, b, a.mean - b.mean, confidence)
    step = max(a.smallest_step, b.smallest_step)
    return difference_over_seeds(a.by_seed, b.by_seed, confidence=confidence, smallest_deviation=step)


def difference_over_seeds(
    a: Mapping[int, float], b: Mapping[int, float], *, confidence: float = CONFIDENCE, smallest_deviation: float = 0.0
) -> Difference:
    """Of the means over seeds, ``a`` minus ``b``; without an interval for one seed of both, or where nothing varies.

    Args:
        a: a score by seed.
        b: likewise; where its seeds are those of ``a``, the differences are paired.
        confidence: of the interval.
        smallest_deviation: over seeds, to be believed.
    """
    mean = float(np.mean(list(a.values()))) - float(np.mean(list(b.values())))
    if len(a) == len(b) == 1:
        return Difference(mean, math.nan, math.nan, "one seed")
    error, freedom, deviation, basis = _over_seeds(a, b, smallest_deviation)
    if error == 0:
        return Difference(mean, math.nan, math.nan, basis, deviation)
    half = _t(confidence, freedom) * error
    return Difference(mean, mean - half, mean + half, basis, deviation)


def _over_seeds(a: Mapping[int, float], b: Mapping[int, float], smallest: float) -> tuple[float, float, float, str]:
    """Standard error and degrees of freedom of the difference, its deviation, and what they are made of in words."""
    if a.keys() == b.keys():
        deviation = max(_deviation([a[seed] - b[seed] for seed in a]), smallest)
        return deviation / math.sqrt(len(a)), len(a) - 1.0, deviation, f"paired over {len(a)} seeds"
    deviations = [max(_deviation(list(one.values())), smallest) if len(one) > 1 else None for one in (a, b)]
    basis = f"{len(a)} and {len(b)} seeds"
    known = [deviation for deviation in deviations if deviation is not None]
    if len(known) == 1:  # a single seed has no deviation of its own
        error = known[0] * math.sqrt(1 / len(a) + 1 / len(b))
        return error, float(len(a) + len(b) - 2), known[0] * math.sqrt(2), basis
    parts = [deviation**2 / len(one) for deviation, one in zip(known, (a, b), strict=True)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return 0.0, 1.0, 0.0, basis
    shares = sum(part**2 / (len(one) - 1) for part, one in zip(parts, (a, b), strict=True))
    return error, sum(parts) ** 2 / shares, math.hypot(*known), basis


def _of_one_seed(a: SettingAccuracy, b: SettingAccuracy, mean: float, confidence: float) -> Difference:
    if a.images is None or b.images is None:
        return Difference(mean, math.nan, math.nan, "one seed")
    low_a, high_a = wilson_interval(a.mean, a.images, confidence)
    low_b, high_b = wilson_interval(b.mean, b.images, confidence)
    return Difference(
        mean,
        mean - math.hypot(a.mean - low_a, high_b - b.mean),
        mean + math.hypot(high_a - a.mean, b.mean - low_b),
        f"one seed, {min(a.images, b.images):,} test images",
    )


def confidence_of_each(comparisons: int, confidence: float = CONFIDENCE) -> float:
    """With which so many intervals together hold at least as often as one would (Bonferroni)."""
    return 1 - (1 - confidence) / max(comparisons, 1)


def comparison_sentence(tested: Sequence[SettingAccuracy]) -> str:
    """Which setting tested best and whether the tests tell it from the others, without a full stop; empty for none.

    Example:
        >>> print(comparison_sentence([SettingAccuracy("CIST", {0: 0.942}, 500), SettingAccuracy("KD", {0: 0.940}, 500)]))
        CIST and KD cannot be told apart on test: 94.2 % and 94.0 % (95 % interval of the difference −2.8 to 3.2 points; one seed, 500 test images)
    """  # noqa: E501
    if not tested:
        return ""
    best, *others = sorted(tested, key=lambda one: -one.mean)
    if not others:
        return _alone(best)
    confidence = confidence_of_each(len(others))
    differences = {other.name: difference(best, other, confidence=confidence) for other in others}
    if len(others) == 1:
        return _two(best, others[0], differences[others[0].name])
    alike = [other for other in others if not differences[other.name].told_apart]
    if not alike:
        found = differences[others[0].name]
        return (
            f"{best.name} tested best of {len(tested)}: {percent(best.mean)}, {_points(found.mean)} points above "
            f"{others[0].name}, the next ({_words(found)})"
        )
    if len(alike) == len(others):
        return (
            f"These {len(tested)} settings cannot be told apart on test: {percent(others[-1].mean)} to "
            f"{percent(best.mean)} ({_words(differences[others[0].name], 'of the nearest two ')})"
        )
    names = ", ".join(other.name for other in alike)
    return (
        f"{best.name} has the highest test accuracy of {len(tested)}, {percent(best.mean)}, but cannot be told apart "
        f"from {names}"
    )


def _alone(one: SettingAccuracy) -> str:
    found = one.interval()
    words = "" if found is None else f"95 % interval {_share(found[0])} to {_share(found[1])} %; "
    return f"{one.name} reached {percent(one.mean)} on test ({words}{one.basis})"


def _two(best: SettingAccuracy, other: SettingAccuracy, found: Difference) -> str:
    if found.told_apart:
        return (
            f"{best.name} tested {_points(found.mean)} points better than {other.name}: {percent(best.mean)} against "
            f"{percent(other.mean)} ({_words(found)})"
        )
    return (
        f"{best.name} and {other.name} cannot be told apart on test: {percent(best.mean)} and {percent(other.mean)} "
        f"({_words(found, 'of the difference ')})"
    )


def _words(found: Difference, of: str = "") -> str:
    if math.isnan(found.low):
        return found.basis
    return f"95 % interval {of}{_points(found.low)} to {_points(found.high)} points; {found.basis}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-0.0", "0.0").replace("-", "−")


def _share(share: float) -> str:
    return f"{100 * share:.1f}"


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))


def _t(confidence: float, freedom: float) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + confidence) / 2, freedom))
