"""How much every sample counts under CIST: two factors, and the weight that is made of them.

    w_i = tau_t,i tau_s,i,    tau_i = max(m_i / rho, floor)

The teacher's factor is its confidence on the sample, the student's its own; their product is the per-sample form of
Hinton's ``T^2`` (arXiv 2605.20357). Neither falls below the floor, so that no sample is lowered without end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.logits.logit_set import check_same_samples
from cist_core.temperature import CIST_FLOOR, Cist

FloatVector = NDArray[np.float64]


def _mean(values: Any) -> Any:
    return values.mean()


WEIGHT_FORMULAS: Mapping[str, Callable[..., Any]] = {
    "product": lambda teacher, student, mean=None: teacher * student,
    "teacher": lambda teacher, student, mean=None: teacher**2,
    "student": lambda teacher, student, mean=None: student**2,
    "uniform": lambda teacher, student, mean=_mean: mean(teacher * student),
    "uniform-teacher": lambda teacher, student, mean=_mean: mean(teacher) ** 2,
    "none": lambda teacher, student, mean=None: 1.0,
}
"""From the temperatures of teacher and student, ``(N,)`` each, to the weights, ``(N,)`` or one for all.

They work on NumPy arrays and torch tensors alike: the analysis and the objectives read the same table. ``mean`` is over
the samples given, unless these are a part of those that the mean is meant for.
"""

WITHOUT_STUDENT = ("teacher", "uniform-teacher", "none")
"""The weightings that need no student."""


@dataclass(frozen=True, eq=False)
class SampleWeights:
    """The weights that CIST gives N samples, and the two factors behind them.

    Attributes:
        rho: the ratio.
        floor: smallest temperature of either model, in logit units.
        weighting: a name of `WEIGHT_FORMULAS`.
        normalised: whether the weights are divided by their mean.
        teacher: ``tau_t``, ``(N,)`` in logit units.
        student: ``tau_s``, ``(N,)`` in logit units; None without a student.
        weight: ``(N,)``; in logit units squared, without a unit where normalised or ``none``.
        teacher_at_floor: share of the samples at which the floor decides ``tau_t``.
        student_at_floor: the same of ``tau_s``; None without a student.

    Example:
        >>> from cist_core import EntropyCurves, LogitSet
        >>> teacher = EntropyCurves.from_logits(LogitSet.create([[8.0, 0.0, -2.0], [2.0, 0.0, -2.0]]))
        >>> student = EntropyCurves.from_logits(LogitSet.create([[4.0, 0.0, -1.0], [1.0, 0.0, -1.0]]))
        >>> weights = SampleWeights.of(teacher, student, rho=2.0)
        >>> weights.teacher.tolist(), weights.student.tolist(), weights.weight.tolist()  # the floor of 1 binds once
        ([3.0, 1.0], [1.5, 1.0], [4.5, 1.0])
        >>> round(weights.effective_samples, 2)
        1.42
    """

    rho: float
    floor: float
    weighting: str
    normalised: bool
    teacher: FloatVector
    student: FloatVector | None
    weight: FloatVector
    teacher_at_floor: float = 0.0
    student_at_floor: float | None = None

    @classmethod
    def of(
        cls,
        teacher: EntropyCurves,
        student: EntropyCurves | None = None,
        *,
        rho: float,
        floor: float = CIST_FLOOR,
        weighting: str = "product",
        normalise: bool = False,
    ) -> SampleWeights:
        """Weigh the samples of a teacher's curves.

        Args:
            teacher: curves of the teacher's logits.
            student: curves of a student's logits of the same samples.
            rho: the ratio, above 0.
            floor: smallest temperature of either model, in logit units; 0 is the pure ratio rule.
            weighting: a name of `WEIGHT_FORMULAS`.
            normalise: divide the weights by their mean.

        Raises:
            CistError: for an unknown weighting, one that needs the student that is not there, a student of other
                samples or classes, a rho that is not positive, or a negative floor.
        """
        if weighting not in WEIGHT_FORMULAS:
            raise CistError(f"There is no weighting '{weighting}'; known are {', '.join(WEIGHT_FORMULAS)}.")
        if student is None and weighting not in WITHOUT_STUDENT:
            raise CistError(
                f"The weighting '{weighting}' needs the temperatures of a student; choose a student, or one of the "
                f"weightings without: {', '.join(WITHOUT_STUDENT)}."
            )
        if student is not None:
            check_same_samples(
                (teacher.num_samples, teacher.num_classes),
                (student.num_samples, student.num_classes),
                labels=(teacher.labels, student.labels),
            )
        rule = Cist(rho, floor)
        tau_t = np.asarray(rule.temperatures(teacher), dtype=np.float64)
        tau_s = None if student is None else np.asarray(rule.temperatures(student), dtype=np.float64)
        weight = np.broadcast_to(WEIGHT_FORMULAS[weighting](tau_t, tau_s), tau_t.shape)
        return cls(
            rho,
            floor,
            weighting,
            normalise,
            tau_t,
            tau_s,
            weight / weight.mean() if normalise else weight,
            float(rule.at_floor(teacher).mean()),
            None if student is None else float(rule.at_floor(student).mean()),
        )

    @property
    def samples(self) -> int:
        return len(self.weight)

    @property
    def unit(self) -> str:
        """Of the weight; empty where it has none."""
        return "" if self.normalised or self.weighting == "none" else "logit units²"

    @cached_property
    def relative(self) -> FloatVector:
        """Each weight over their mean, ``(N,)``: above 1 a sample is raised, below it is lowered."""
        return np.asarray(self.weight / self.weight.mean())

    @cached_property
    def equal(self) -> bool:
        """Whether every sample has the same weight, up to rounding."""
        return bool(np.ptp(self.relative) <= 1e-9)

    @cached_property
    def effective_samples(self) -> float:
        """``(sum w)^2 / sum w^2``: how many samples of equal weight would count as much (Kish); N if all are equal."""
        return self.samples if self.equal else float(self.relative.sum() ** 2 / np.square(self.relative).sum())

    @property
    def effective_share(self) -> float:
        """`effective_samples` over N, between ``1 / N`` and 1."""
        return self.effective_samples / self.samples

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the weights over their mean; 0 if all are equal."""
        return 0.0 if self.equal else float(self.relative.std())

    def quantiles(self, shares: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> tuple[float, ...]:
        """The weights that these shares of the samples do not exceed."""
        return tuple(float(quantile) for quantile in np.quantile(self.weight, shares))

    def raised(self, count: int) -> NDArray[np.int64]:
        """Up to ``count`` samples with the largest weights above the mean, largest first."""
        order = np.argsort(-self.relative, kind="stable")[:count]
        return order[self.relative[order] > 1] if not self.equal else order[:0]

    def lowered(self, count: int) -> NDArray[np.int64]:
        """Up to ``count`` samples with the smallest weights below the mean, smallest first."""
        order = np.argsort(self.relative, kind="stable")[:count]
        return order[self.relative[order] < 1] if not self.equal else order[:0]


def share_of_largest(values: NDArray[np.floating], part: float) -> float:
    """What share of the sum of ``values`` the largest ``part`` of the samples hold, both from 0 to 1.

    Read from the curve `concentration`, so a fraction of a sample counts as that fraction.

    Args:
        values: ``(N,)``, not negative.
        part: share of the samples.

    Example:
        >>> share_of_largest(np.array([1.0, 6.0, 2.0, 1.0]), 0.25)
        0.6
    """
    return float(np.interp(part, *concentration(values)))


def concentration(values: NDArray[np.floating]) -> tuple[FloatVector, FloatVector]:
    """The share of the samples, largest first, and the share of the sum that they hold, ``(N + 1,)`` each from 0 to 1.

    Equal values give the diagonal; so do values that are all 0.
    """
    parts = np.linspace(0.0, 1.0, len(values) + 1)
    held = np.concatenate([[0.0], np.cumsum(np.sort(values.astype(np.float64))[::-1])])
    return parts, np.asarray(held / held[-1]) if held[-1] > 0 else parts


def rank_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float | None:
    """Spearman's rank correlation of two measures, ``(N,)`` each; None where one of them does not vary."""
    from scipy.stats import spearmanr  # takes longer to import than the rest of the analysis

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)
