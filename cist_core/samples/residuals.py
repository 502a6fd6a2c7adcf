"""How far each sample lies from the equal-others curve, and which of its classes put it there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.entropy.theory import equal_others_entropy, second_class_entropy
from cist_core.kernels import mean_and_variance
from cist_core.kernels.threads import over_rows, run_together
from cist_core.temperature.profile import explained_by_order
from cist_core.temperature.readings import RuleReading

TIE_GAP = math.log(2)
"""Below this gap of the scaled logits the second class has more than half the probability of the first."""

FAR = 0.05
"""A sample is far from the curve beyond this share of ``ln C``, the share that also bounds over-sharp soft labels."""

TIE, SECOND_MODE, UNEVEN_OTHERS = "tie", "second mode", "uneven others"
REASONS = (TIE, SECOND_MODE, UNEVEN_OTHERS)

_WORK = 16  # of a closed form for one sample, in logits that a kernel goes through

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """The entropies of one rule against the equal-others curve, ``(N,)`` each.

    Attributes:
        num_classes: C.
        ratio: centred maximum over temperature.
        gap: largest less second logit over the temperature, the gap of the scaled row.
        entropy: ``H_i``, in nats.
        at_floor: whether a floor of the rule decides the temperature; such a sample has a ratio of its own.
    """

    num_classes: int
    ratio: Vector
    gap: Vector
    entropy: NDArray[np.floating]
    at_floor: NDArray[np.bool_]

    @cached_property
    def equal_others(self) -> Vector:
        """The curve at the sample's ratio, in nats."""
        return equal_others_entropy(self.ratio, self.num_classes)

    @cached_property
    def second_class(self) -> Vector:
        """The entropy if all classes after the second were equal, in nats."""
        found = np.empty(len(self.gap))

        def fill(begin: int, end: int) -> None:
            part = slice(begin, end)
            found[part] = second_class_entropy(self.ratio[part], self.gap[part], self.num_classes)

        over_rows(fill, len(found), _WORK)
        return found

    @cached_property
    def residual(self) -> Vector:
        """``H - H_eq``, the sum of the next two, in nats."""
        return self.entropy - self.equal_others

    @cached_property
    def from_second(self) -> Vector:
        """What the second class explains: moved to its own gap, it takes the curve this far; in nats."""
        return self.second_class - self.equal_others

    @cached_property
    def from_others(self) -> Vector:
        """What the differences between all further classes add, in nats."""
        return self.entropy - self.second_class

    @property
    def far_from(self) -> float:
        """The distance in nats beyond which a sample counts as far."""
        return FAR * math.log(self.num_classes)

    @cached_property
    def far(self) -> NDArray[np.bool_]:
        return np.abs(self.residual) > self.far_from

    @cached_property
    def reason(self) -> NDArray[np.str_]:
        """One of `REASONS` for each sample.

        A tie: the gap is below `TIE_GAP`, and like every tie it raises the entropy where that is above the curve. A
        second mode: no tie, and the second class explains at least half of the residual. Uneven others: the rest.
        """
        tie = (self.gap < TIE_GAP) & (self.residual > 0) & (self.from_second > 0)
        second = self.from_second * np.sign(self.residual) >= np.abs(self.residual) / 2
        return np.select([tie, second], [TIE, SECOND_MODE], UNEVEN_OTHERS)

    def furthest(self, count: int) -> NDArray[np.int64]:
        """The samples with the largest distance from the curve, the furthest first, ``(min(count, N),)``."""
        return np.argsort(-np.abs(self.residual), kind="stable")[:count]

    @cached_property
    def spread(self) -> SpreadCheck:
        """The spread that the gaps predict beside the spread that was measured."""
        _, explained = run_together(lambda: self.second_class, lambda: explained_by_order(self.entropy, self.gap))
        measured, predicted = (math.sqrt(mean_and_variance(each)[1]) for each in (self.entropy, self.second_class))
        return SpreadCheck(measured, predicted, explained)


@dataclass(frozen=True)
class SpreadCheck:
    """A spread, and how much of it the gap between the two largest logits accounts for.

    Attributes:
        measured: standard deviation of the entropy over the samples, in nats.
        predicted: the same of the closed form `second_class_entropy`, in nats: the spread if each sample kept its gap
            and its further classes were equal.
        explained: share of the entropy's variance that the best function of the gap alone explains; None if the
            entropy does not vary.
    """

    measured: float
    predicted: float
    explained: float | None


def why_far(curves: EntropyCurves, reading: RuleReading) -> Residuals:
    """Split each sample's distance from the equal-others curve into the second class's part and that of the others.

    Exact where the curves are; the gap is part of the statistics that every stream keeps.

    Args:
        curves: of the samples.
        reading: of any rule on them; CIST puts all samples above its floor at one point of the curve.

    Example:
        >>> from cist_core import Cist, EntropyCurves, LogitSet
        >>> from cist_core.temperature.readings import read_rule
        >>> curves = EntropyCurves.from_logits(LogitSet.create([[5.0, 5, 0, 0, 0], [9, 5, 0, 0, 0], [9, 4, 4, 4, 0]]))
        >>> why_far(curves, read_rule(Cist(4.0), curves)).reason.tolist()
        ['tie', 'second mode', 'uneven others']
    """
    return Residuals(
        num_classes=curves.num_classes,
        ratio=np.asarray(reading.ratios, dtype=np.float64),
        gap=np.divide(curves.statistics.gap, reading.temperatures, dtype=np.float64),
        entropy=reading.entropy,
        at_floor=reading.at_floor,
    )
