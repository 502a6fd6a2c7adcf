"""The numbers of one temperature rule on one set of curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core import kernels
from cist_core.entropy.curves import EntropyCurves
from cist_core.temperature import TemperatureRule

OVER_SHARP = 0.05
"""A soft label below this share of ``ln C`` teaches little more than the hard label (default of the method)."""
OVER_SMOOTHED = 0.95
"""A soft label above this share of ``ln C`` is close to uniform (default of the method)."""

_QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95)


@dataclass(frozen=True, repr=False)
class EntropyProfile:
    """How consistent one rule's soft labels are. Entropies in nats, temperatures in logit units.

    Attributes:
        rule: the rule's text.
        samples: N.
        classes: C.
        mean: mean entropy over the samples.
        std: spread, the population standard deviation of the entropy over the samples.
        q05: 5 % quantile of the entropy; ``q25``, ``median``, ``q75``, ``q95`` likewise.
        normalised_mean: ``mean / ln C``, between 0 and 1.
        over_sharp: share of samples whose entropy is below ``over_sharp_below`` of ``ln C``.
        over_smoothed: share of samples whose entropy is above ``over_smoothed_above`` of ``ln C``.
        at_floor: share of samples at which a floor of the rule decides the temperature; 0 for a rule without one.
        samples_at_floor: how many they are.
        tau_mean: mean temperature; ``tau_std``, ``tau_min``, ``tau_max`` likewise.
    """

    rule: str
    samples: int
    classes: int
    mean: float
    std: float
    q05: float
    q25: float
    median: float
    q75: float
    q95: float
    normalised_mean: float
    over_sharp: float
    over_smoothed: float
    over_sharp_below: float
    over_smoothed_above: float
    at_floor: float
    samples_at_floor: int
    tau_mean: float
    tau_std: float
    tau_min: float
    tau_max: float

    @classmethod
    def of(
        cls,
        rule: TemperatureRule,
        curves: EntropyCurves,
        *,
        over_sharp_below: float = OVER_SHARP,
        over_smoothed_above: float = OVER_SMOOTHED,
    ) -> EntropyProfile:
        """Profile a rule.

        Args:
            rule: any temperature rule.
            curves: of the logits.
            over_sharp_below: threshold as a share of ``ln C``.
            over_smoothed_above: threshold as a share of ``ln C``.

        Example:
            >>> from cist_core import EntropyCurves, LogitSet, parse_rule
            >>> curves = EntropyCurves.from_logits(LogitSet.create([[12.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
            >>> round(EntropyProfile.of(parse_rule("tau=3"), curves).std, 4)
            0.399
            >>> round(EntropyProfile.of(parse_rule("cist:rho=2"), curves).std, 4)
            0.0
            >>> EntropyProfile.of(parse_rule("cist:rho=4"), curves).at_floor  # m is 8 and 2
            0.5
        """
        temperatures = rule.temperatures(curves)
        return cls.from_arrays(
            str(rule),
            curves.at_temperature(temperatures),
            temperatures,
            classes=curves.num_classes,
            at_floor=rule.at_floor(curves),
            over_sharp_below=over_sharp_below,
            over_smoothed_above=over_smoothed_above,
        )

    @classmethod
    def from_arrays(
        cls,
        rule: str,
        entropy: NDArray[np.floating],
        temperatures: NDArray[np.floating],
        *,
        classes: int,
        at_floor: NDArray[np.bool_] | None = None,
        over_sharp_below: float = OVER_SHARP,
        over_smoothed_above: float = OVER_SMOOTHED,
    ) -> EntropyProfile:
        """The same from entropies (``(N,)`` nats) and temperatures (``(N,)``) already computed.

        Where a floor decides the temperature, ``at_floor`` is true, ``(N,)``; without it that is nowhere.
        """
        limit = math.log(classes)
        floored = 0 if at_floor is None else int(np.count_nonzero(at_floor))
        ordered = np.sort(entropy)
        sharp = int(np.searchsorted(ordered, np.float32(over_sharp_below * limit)))
        smoothed = int(np.searchsorted(ordered, np.float32(over_smoothed_above * limit), "right"))
        q05, q25, median, q75, q95 = quantiles_of_sorted(ordered, _QUANTILES)
        mean, variance = kernels.mean_and_variance(entropy)
        tau_mean, tau_variance = kernels.mean_and_variance(temperatures)
        return cls(
            rule=rule,
            samples=len(entropy),
            classes=classes,
            mean=mean,
            std=math.sqrt(variance),
            q05=q05,
            q25=q25,
            median=median,
            q75=q75,
            q95=q95,
            normalised_mean=mean / limit,
            over_sharp=sharp / len(entropy),
            over_smoothed=(len(entropy) - smoothed) / len(entropy),
            over_sharp_below=over_sharp_below,
            over_smoothed_above=over_smoothed_above,
            at_floor=floored / len(entropy),
            samples_at_floor=floored,
            tau_mean=tau_mean,
            tau_std=math.sqrt(tau_variance),
            tau_min=float(np.min(temperatures)),
            tau_max=float(np.max(temperatures)),
        )

    def to_dict(self) -> dict[str, str | int | float]:
        return asdict(self)

    def __repr__(self) -> str:
        shown = ("mean", "std", "normalised_mean", "over_sharp", "over_smoothed")
        numbers = ", ".join(f"{name}={getattr(self, name):.4g}" for name in shown)
        return f"EntropyProfile(rule={self.rule!r}, {numbers}, samples={self.samples}, classes={self.classes})"

    def _repr_html_(self) -> str:
        """The profile in a notebook: one number a row."""
        from cist_core.notebook import table
        from cist_core.temperature.columns import COLUMNS, NATS

        shown = [column for column in COLUMNS.values() if not column.cist_only or self.rule.startswith("cist")]
        rows = []
        for column in shown:
            text = column.format.text(getattr(self, column.attribute))
            rows.append((column.title, f"{text} nats" if column.format is NATS and "/" not in column.name else text))
        return table(f"{self.rule}: entropy of {self.samples:,} soft labels, {self.classes:,} classes", rows)


def quantiles_of_sorted(values: NDArray[np.floating], shares: Sequence[float]) -> list[float]:
    """Quantiles of sorted values, as `numpy.quantile` interpolates them.

    NumPy sorts in vectors, but looks for quantiles one number at a time.

    Args:
        values: ``(N,)``, sorted.
        shares: from 0 to 1.

    Example:
        >>> quantiles_of_sorted(np.array([1.0, 2.0, 4.0]), [0.5, 0.75])
        [2.0, 3.0]
    """
    place = np.asarray(shares, np.float64) * (len(values) - 1)
    lower = place.astype(np.int64)
    low, high = (values[np.minimum(at, len(values) - 1)].astype(np.float64) for at in (lower, lower + 1))
    return (low + (high - low) * (place - lower)).tolist()  # type: ignore[no-any-return]


def entropy_histogram(entropy: NDArray[np.floating], num_classes: int, bins: int = 60) -> NDArray[np.int64]:
    """Counts of the entropies in equal bins over ``[0, ln C]``, ``(bins,)``; every sample falls in one."""
    index = (entropy * (bins / math.log(num_classes))).astype(np.int64)
    return np.bincount(np.clip(index, 0, bins - 1), minlength=bins)


def class_means(
    values: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int
) -> Mapping[str, NDArray[Any]]:
    """Mean, population standard deviation and count of the values of each class, ``(C,)`` each.

    Classes without a sample have NaN.
    """
    counts = np.bincount(labels, minlength=num_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(labels, values, num_classes) / counts
        squares = np.bincount(labels, (values - means[labels]) ** 2, num_classes) / counts
    return {"mean": means, "std": np.sqrt(squares), "count": counts}


@dataclass(frozen=True)
class VarianceParts:
    """The variance of the entropy under one rule, cut into what the ratio explains and what it does not.

    Attributes:
        variance: of the entropy, in nats squared; the sum of the next two.
        between: ``Var(E[H | r])``, the part that the ratio explains.
        within: ``E[Var(H | r)]``, the part that it does not.
        explained: ``between / variance``; None if the entropy does not vary.
    """

    variance: float
    between: float
    within: float
    explained: float | None

    @classmethod
    def of(
        cls,
        entropy: NDArray[np.floating],
        ratio: NDArray[np.floating],
        ratio_ranks: NDArray[np.float64] | None = None,
    ) -> VarianceParts:
        """Cut the variance of entropies by their ratios, ``(N,)`` each; see `Association.of`."""
        entropy, ratio, ranks = _with_ratio(entropy, ratio, ratio_ranks)
        variance = kernels.mean_and_variance(entropy)[1] if entropy.size else 0.0
        if variance == 0:
            return cls(0.0, 0.0, 0.0, None)
        if _is_held(ratio):
            return cls(variance, 0.0, variance, 0.0)
        between = _between(entropy, ranks)
        return cls(variance, between, max(variance - between, 0.0), min(between / variance, 1.0))


@dataclass(frozen=True)
class Association:
    """How far the ratio explains the entropy under one rule.

    Attributes:
        spearman: Spearman's rank correlation of entropy and ratio; None where one of them does not vary.
        r_squared: squared Pearson correlation, the share a straight line explains; None likewise.
        variance: of the entropy, in nats squared; the sum of the next two.
        between: ``Var(E[H | r])``, the part that the ratio explains.
        within: ``E[Var(H | r)]``, the part that it does not.
        explained: ``between / variance``; None if the entropy does not vary.
    """

    spearman: float | None
    r_squared: float | None
    variance: float
    between: float
    within: float
    explained: float | None

    @classmethod
    def of(
        cls,
        entropy: NDArray[np.floating],
        ratio: NDArray[np.floating],
        ratio_ranks: NDArray[np.float64] | None = None,
        parts: VarianceParts | None = None,
    ) -> Association:
        """Measure the association of entropies and ratios, ``(N,)`` each.

        ``E[H | r]`` is estimated by the mean over neighbours: the samples are sorted by ratio and cut into equal
        groups of at least 25 (at most 200 groups); equal ratios never part. The two terms add up to the variance
        exactly. With n samples a group, chance alone makes ``between`` about ``within / n`` too large. Constant rows,
        which have no ratio, are left out.

        Ranks of the ratios that are at hand, as `kernels.ranks` gives them, save their sorting, and so do the parts of
        the variance.
        """
        entropy, ratio, ranks = _with_ratio(entropy, ratio, ratio_ranks)
        parts = VarianceParts.of(entropy, ratio, ranks) if parts is None else parts
        spearman = r_squared = None
        if parts.variance > 0 and not _is_held(ratio):
            spearman = kernels.correlation(kernels.ranks(entropy), ranks)
            r_squared = kernels.correlation(entropy, ratio) ** 2
        return cls(spearman, r_squared, **asdict(parts))

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


def _with_ratio(
    entropy: NDArray[np.floating], ratio: NDArray[np.floating], ratio_ranks: NDArray[np.float64] | None
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.float64]]:
    """Entropies, ratios and ranks of the ratios of the rows that have one: all but constant ones."""
    ranks = kernels.ranks(ratio) if ratio_ranks is None else ratio_ranks
    varied = ratio > 0
    if varied.all():
        return entropy, ratio, ranks
    return entropy[varied], ratio[varied], ranks[varied] - np.count_nonzero(~varied)


def _is_held(ratio: NDArray[np.floating]) -> bool:
    """Whether positive ratios are one up to the rounding of ``m / (m / rho)``."""
    most = float(np.max(ratio))
    return most - float(np.min(ratio)) <= 1e-9 * max(1.0, most)


def explained_by_order(values: NDArray[np.floating], of: NDArray[np.floating]) -> float | None:
    """The share of the variance of ``(N,)`` values that the best function of others explains; None if there is none.

    Estimated as in `Association.of`; of the others only the order counts.
    """
    _, variance = kernels.mean_and_variance(values)
    return min(_between(values, kernels.ranks(of)) / variance, 1.0) if variance else None


def _between(values: NDArray[np.floating], ranks: NDArray[np.float64], smallest: int = 25, most: int = 200) -> float:
    """Variance of the means over equal groups of neighbours."""
    sizes, sums = kernels.group_sums(ranks, values, int(np.clip(len(values) // smallest, 1, most)))
    means = sums / np.maximum(sizes, 1)
    return float(np.sum(sizes * (means - np.sum(sums) / len(values)) ** 2) / len(values))
