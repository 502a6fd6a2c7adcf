"""What every rho would give: the entropy against rho, and the consistency gain against the mean entropy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cist_core.compare.findings import ABOUT_AS_MUCH, NO_SPREAD
from cist_core.compare.matching import match_tau, sharpest_mean
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature import CIST_FLOOR, Cist
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED, EntropyProfile
from cist_core.wording import three_digits, times

RHOS = np.linspace(0.2, 16.0, 80)
"""Where curves over rho are computed, if none beyond is asked for; they end where a table of streamed logits does."""
RHOS.setflags(write=False)
_AT_ONCE = 16
_BEYOND = 16
"""Points between their end and a rho that is further out."""

COMPARED = (0.01, 0.995)
"""Mean normalised entropies between which spreads are compared; nearer to 0 or 1 every spread is next to nothing."""

_TEMPERATURES = 64

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RhoSweep:
    """The entropies of all samples at many rhos, ``(K,)`` each; entropies in nats.

    Attributes:
        rho: ascending.
        mean: mean entropy, falling from near ``ln C``.
        std: spread.
        q05: 5 % quantile.
        q95: 95 % quantile.
        over_sharp: share of the samples below the lower threshold.
        over_smoothed: share of the samples above the upper threshold.
        at_floor: share of the samples whose temperature is the floor, which grows with rho.
        max_entropy: ``ln C``.
        floor: smallest temperature of CIST, in logit units.
    """

    rho: Array
    mean: Array
    std: Array
    q05: Array
    q95: Array
    over_sharp: Array
    over_smoothed: Array
    at_floor: Array
    max_entropy: float
    floor: float


def rho_sweep(
    curves: EntropyCurves,
    *,
    reach: float = 0.0,
    floor: float = CIST_FLOOR,
    over_sharp_below: float = OVER_SHARP,
    over_smoothed_above: float = OVER_SMOOTHED,
) -> RhoSweep:
    """Read the curves at each rho of `RHOS`, exactly as CIST would.

    Args:
        curves: of one model.
        reach: a rho beyond `RHOS` to go on to; a table ends where it ends.
        floor: smallest temperature of CIST, in logit units; 0 is the pure ratio rule.
        over_sharp_below: threshold as a share of ``ln C``.
        over_smoothed_above: threshold as a share of ``ln C``.

    Example:
        >>> from cist_core import EntropyCurves, LogitSet
        >>> sweep = rho_sweep(EntropyCurves.from_logits(LogitSet.create([[9.0, 1.0, 0.0], [2.0, 0.5, 0.0]])))
        >>> [f"{mean:.2f}" for mean in sweep.mean[::20]]  # at 0.2, 4.2, 8.2 and 12.2
        ['1.09', '0.39', '0.38', '0.38']
        >>> sweep.at_floor[::20].tolist()  # from 5.7 on CIST is the fixed temperature 1
        [0.0, 0.5, 1.0, 1.0]
    """
    end = min(reach, curves.max_ratio)
    rhos = np.append(RHOS, np.geomspace(RHOS[-1], end, _BEYOND + 1)[1:]) if end > RHOS[-1] else RHOS
    rules = [Cist(rho, floor) for rho in rhos.tolist()]
    profiles = [
        EntropyProfile.from_arrays(
            str(rule),
            entropy,
            rule.temperatures(curves),
            classes=curves.num_classes,
            at_floor=rule.at_floor(curves),
            over_sharp_below=over_sharp_below,
            over_smoothed_above=over_smoothed_above,
        )
        for rule, entropy in zip(rules, _entropies(curves, rules), strict=True)
    ]
    names = ("mean", "std", "q05", "q95", "over_sharp", "over_smoothed", "at_floor")
    columns = {name: np.array([getattr(profile, name) for profile in profiles]) for name in names}
    return RhoSweep(rho=rhos, **columns, max_entropy=curves.max_entropy, floor=floor)


def _entropies(curves: EntropyCurves, rules: Sequence[Cist]) -> Iterator[NDArray[np.float32]]:
    """The entropies under each rule; the even ones of `RHOS` a few at a time, so that any number of samples fits."""
    last = rules[-1]
    # At the floor the rho makes no difference: one reading serves all. A table may not reach it for samples that no rho
    # brings there.
    at_floor = curves.at_temperature(last.temperatures(curves)) if last.floor > 0 else None

    def floored(rule: Cist, entropy: NDArray[np.float32]) -> NDArray[np.float32]:
        return entropy if at_floor is None else np.where(rule.at_floor(curves), at_floor, entropy)

    step = float(RHOS[1] - RHOS[0])
    for start in range(0, len(RHOS), _AT_ONCE):
        entropies = curves.at_ratios(float(RHOS[start]), step, _AT_ONCE).T
        yield from map(floored, rules[start : start + _AT_ONCE], entropies)
    for rule in rules[len(RHOS) :]:
        yield floored(rule, curves.at_ratio(rule.rho))


@dataclass(frozen=True, eq=False)
class GainCurve:
    """How much less CIST spreads than a fixed temperature of the same mean entropy, ``(K,)`` each.

    Attributes:
        rho: falling, so that the mean entropy grows.
        mean_entropy: under CIST and under the fixed temperature, in nats.
        tau: the fixed temperature; NaN where a table does not reach it.
        std_fixed: spread under it, in nats; NaN likewise.
        std_cist: spread at rho, in nats.
        gain: ``std_fixed / std_cist``; NaN where CIST's spread is nothing but rounding, or there is no tau.
        max_entropy: ``ln C``.
        floor: smallest temperature of CIST, in logit units.
        least: mean entropy in nats below which the floor lets no rho lead; 0 without one.
    """

    rho: Array
    mean_entropy: Array
    tau: Array
    std_fixed: Array
    std_cist: Array
    gain: Array
    max_entropy: float
    floor: float
    least: float

    @property
    def normalised(self) -> Array:
        """Mean normalised entropy, between 0 and 1."""
        return self.mean_entropy / self.max_entropy

    def within(self, low: float, high: float) -> tuple[float, float] | None:
        """Smallest and largest gain between two mean normalised entropies; None where nothing can be compared."""
        return self._extremes(self.gain, np.isfinite(self.gain), low, high)

    def fixed_alone(self, low: float, high: float) -> tuple[float, float] | None:
        """Smallest and largest spread under the fixed temperature where CIST does not spread, in nats; None likewise.

        A gain over no spread is no number, but that is CIST at its best.
        """
        return self._extremes(self.std_fixed, np.isfinite(self.std_fixed) & (self.std_cist < NO_SPREAD), low, high)

    def _extremes(self, of: Array, known: NDArray[np.bool_], low: float, high: float) -> tuple[float, float] | None:
        if not known.any():
            return None
        x, height = self.normalised[known], of[known]
        start, end = max(low, float(x[0])), min(high, float(x[-1]))
        if start > end:
            return None
        inside = height[(x >= start) & (x <= end)]
        values = np.concatenate([np.interp([start, end], x, height), inside])
        return float(values.min()), float(values.max())

    def less_consistent(self) -> list[tuple[float, float]]:
        """The intervals of the mean normalised entropy in which CIST spreads more than the fixed temperature."""
        known = np.isfinite(self.gain) & (self.gain > 0)
        x, height = self.normalised[known], np.log(self.gain[known])
        intervals: list[tuple[float, float]] = []
        below = height < 0
        edges = np.flatnonzero(np.diff(below.astype(int)))
        # The curve crosses a gain of 1 on the straight line between two neighbours.
        crossings = [float(x[i] - height[i] * (x[i + 1] - x[i]) / (height[i + 1] - height[i])) for i in edges]
        if below.size:
            bounds = [float(x[0]), *crossings, float(x[-1])]
            first = 0 if below[0] else 1
            intervals = [(bounds[i], bounds[i + 1]) for i in range(first, len(bounds) - 1, 2)]
        return intervals


def gain_curve(curves: EntropyCurves, sweep: RhoSweep | None = None, *, floor: float = CIST_FLOOR) -> GainCurve:
    """The consistency gain ``std(H | tau) / std(H | rho)`` at the same mean entropy, at each rho of a sweep.

    Means and spreads under CIST are exact; those under fixed temperatures are computed at 64 of them and read between
    by a monotone cubic, which is off by less than 1 %.

    Args:
        curves: of one model.
        sweep: of the same curves; by default it is made.
        floor: of that sweep; one that is given has its own.
    """
    sweep = rho_sweep(curves, floor=floor) if sweep is None else sweep
    share = sweep.mean / sweep.max_entropy
    # From soft to sharp the mean falls; where ties hold it, the same mean entropy need not come again and again.
    falls = np.concatenate([[True], np.diff(sweep.mean) < -1e-4 * sweep.max_entropy])
    kept = np.flatnonzero((share >= COMPARED[0]) & (share <= COMPARED[1]) & falls)[::-1]
    mean, std_cist = sweep.mean[kept], sweep.std[kept]
    tau, std_fixed = _at_fixed_temperatures(curves, mean) if kept.size else (np.empty(0), np.empty(0))
    comparable = std_cist >= NO_SPREAD
    gain = np.full(kept.size, np.nan)
    gain[comparable] = std_fixed[comparable] / std_cist[comparable]
    least = sharpest_mean(curves, sweep.floor)
    return GainCurve(sweep.rho[kept], mean, tau, std_fixed, std_cist, gain, sweep.max_entropy, sweep.floor, least)


def _at_fixed_temperatures(curves: EntropyCurves, means: Array) -> tuple[Array, Array]:
    """The fixed temperatures of ascending mean entropies, and their spreads; NaN beyond a table."""
    from scipy.interpolate import PchipInterpolator

    warmest = match_tau(curves, float(means[-1])) * 1.02
    try:
        coolest = match_tau(curves, float(means[0])) / 1.02
    except CistError:
        coolest = 0.0
    coolest = max(coolest, curves.lowest_temperature)
    log_taus = np.linspace(np.log(coolest), np.log(warmest), _TEMPERATURES)
    entropies = [curves.at_temperature(float(tau)) for tau in np.exp(log_taus)]
    reached = np.array([entropy.mean(dtype=np.float64) for entropy in entropies])
    spreads = np.array([entropy.std(dtype=np.float64) for entropy in entropies])
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(reached)) > 0])  # rounding may hold it at the ends
    if np.count_nonzero(rising) < 2:
        return np.full_like(means, np.nan), np.full_like(means, np.nan)
    read = PchipInterpolator(reached[rising], np.column_stack([log_taus, spreads])[rising], extrapolate=False)
    log_tau, spread = read(means).T
    return np.exp(log_tau), spread


def gain_sentence(curve: GainCurve, low: float, high: float) -> str:
    """`_gain_sentence`, and with two classes that less spread is less information; no full stop."""
    sentence = _gain_sentence(curve, low, high)
    two = math.isclose(curve.max_entropy, math.log(2), rel_tol=1e-6)
    return f"{sentence}; with two classes less spread is less information, and no gain" if two else sentence


def _gain_sentence(curve: GainCurve, low: float, high: float) -> str:
    """What the gain is in a range of mean entropies, and where CIST is the less consistent one; no full stop.

    A range whose ends are the same is one mean entropy.

    Where the floor keeps CIST above the lower end of the range, it says from where on there is something to compare.
    """
    least = curve.least / curve.max_entropy
    between = f"Between {_share(low)} and {_share(high)}" if low < high else f"At {_share(high)}"
    if least >= high:
        return (
            f"The floor of {curve.floor:.4g} keeps the mean entropy under CIST above {_share(least)} of ln C: "
            f"{between[0].lower()}{between[1:]} there is no spread to compare"
        )
    gains = curve.within(low, high)
    where = f"{between} of ln C"
    if least > low:
        kept = f"The floor of {curve.floor:.4g} keeps the mean entropy under CIST above {_share(least)} of ln C"
        where = f"{kept}; between there and {_share(high)}"
    if gains is None:
        alone = curve.fixed_alone(low, high)
        if alone is None or alone[1] < NO_SPREAD:
            return f"{where} there is no spread to compare"
        spread = " to ".join(dict.fromkeys(three_digits(std) for std in alone))
        return (
            f"{where} CIST gives every sample the same entropy; at the fixed temperature of the same mean they vary by "
            f"{spread} nats"
        )
    worse = [
        interval
        for interval in curve.less_consistent()
        if not low <= interval[0] <= interval[1] <= high and interval[1] - interval[0] > 0.005
    ]
    sentence = f"{where} CIST's entropies vary {_range(*gains)} at the fixed temperature of the same mean"
    if worse and gains[0] >= 1:
        places = " and ".join(_place(*interval) for interval in worse)
        sentence += f"; {places} it is the less consistent one"
    return sentence


def _place(start: float, end: float) -> str:
    if end > 0.98:
        return f"above {_share(start)}"
    return f"below {_share(end)}" if start < 0.03 else f"from {_share(start)} to {_share(end)}"


def _share(value: float) -> str:
    return f"{value * 100:.3g} %"


def _range(least: float, most: float) -> str:
    if ABOUT_AS_MUCH[0] < least and most < ABOUT_AS_MUCH[1]:
        return "about as much as"
    if least >= 1:
        return f"{_from_to(least, most)} times less than"
    if most <= 1:
        return f"{_from_to(1 / most, 1 / least)} times more than"
    return f"from {times(1 / least)} times more to {times(most)} times less than"


def _from_to(least: float, most: float) -> str:
    return " to ".join(dict.fromkeys((times(least), times(most))))
