"""Several teachers on the same samples, side by side: consistency, calibration, and how far a student is from each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cist_core import kernels
from cist_core.compare.anchors import default_anchor
from cist_core.compare.findings import ABOUT_AS_MUCH, NO_SPREAD, consistency_gain
from cist_core.compare.matching import matched_pair
from cist_core.compare.ranking import listed
from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.alignment import check_same_order
from cist_core.logits.calibration import Reliability, fit_temperature, nll, reliability
from cist_core.logits.logit_set import LogitSet
from cist_core.temperature import CIST_FLOOR, Cist, Fixed
from cist_core.temperature.readings import RuleReading, read_rule
from cist_core.wording import percent, three_digits

FIXED, CIST = "fixed τ", "CIST"
"""The two rules that teachers are compared under."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence against accuracy, as the model is and after one temperature is fitted on the same labels.

    Being fitted on what it is judged by, it has the smallest NLL that one temperature can have here; the calibration
    error need not fall with it.

    Attributes:
        tau: the fitted temperature; above 1 for an overconfident model.
        before: the bins at temperature 1; its ``error`` is the ECE.
        after: the bins at ``tau``.
        nll_before: negative log-likelihood at temperature 1, in nats.
        nll_after: the same at ``tau``.
    """

    tau: float
    before: Reliability
    after: Reliability
    nll_before: float
    nll_after: float

    @classmethod
    def of(cls, logit_set: LogitSet) -> Calibration | None:
        """None without labels."""
        if logit_set.labels is None:
            return None
        rows, labels = logit_set.logits, logit_set.labels
        tau = fit_temperature(rows, labels)
        return cls(
            tau,
            reliability(rows, labels),
            reliability(rows, labels, tau=tau),
            nll(rows, labels),
            nll(rows, labels, tau=tau),
        )


@dataclass(frozen=True)
class CapacityGap:
    """How far a student is from a teacher on the same samples.

    Attributes:
        agreement: share of the samples on which both have the same top-1 class.
        kl: mean ``KL(teacher || student)`` in nats at temperature 1.
        kl_cist: the same with each at its own CIST temperature, for one ``rho`` and one floor.
        scale: mean centred maximum of the teacher over that of the student; 1 where both have one scale.
        accuracy: accuracy of the teacher less that of the student; None without labels.
    """

    agreement: float
    kl: float
    kl_cist: float
    scale: float
    accuracy: float | None

    @classmethod
    def of(
        cls,
        teacher: LogitSet,
        student: LogitSet,
        rho: float,
        *,
        floor: float = CIST_FLOOR,
        teacher_curves: EntropyCurves | None = None,
        student_curves: EntropyCurves | None = None,
    ) -> CapacityGap:
        """Measure the gap.

        Args:
            teacher: logits on some samples.
            student: logits on the same samples, in the same order.
            rho: of CIST, for both.
            floor: of CIST, for both, in logit units; 0 is the pure ratio rule.
            teacher_curves: of the teacher's logits, where they are at hand.
            student_curves: of the student's, likewise.

        Raises:
            CistError: if the two are not on the same samples and classes.

        Example:
            >>> teacher = LogitSet.create([[8.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
            >>> student = LogitSet.create([[4.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
            >>> gap = CapacityGap.of(teacher, student, rho=2.0)
            >>> gap.agreement, gap.scale  # right on one of two; half the teacher's scale
            (0.5, 2.0)
        """
        check_same_order(teacher, student)
        ours = EntropyCurves.from_logits(teacher) if teacher_curves is None else teacher_curves
        theirs = EntropyCurves.from_logits(student) if student_curves is None else student_curves
        # The kernel asks for one type, and shipped logits are half as wide as computed ones.
        widest = np.result_type(teacher.logits, student.logits)
        rows, other_rows = (logit_set.logits.astype(widest, copy=False) for logit_set in (teacher, student))
        tau, other_tau = (Cist(rho, floor).temperatures(curves) for curves in (ours, theirs))
        mean = float(theirs.statistics.maximum.mean(dtype=np.float64))
        return cls(
            agreement=float(np.mean(ours.statistics.top1 == theirs.statistics.top1)),
            kl=float(kernels.kl_divergence(rows, other_rows, 1.0, 1.0).mean(dtype=np.float64)),
            kl_cist=float(kernels.kl_divergence(rows, other_rows, tau, other_tau).mean(dtype=np.float64)),
            scale=float(ours.statistics.maximum.mean(dtype=np.float64)) / mean if mean > 0 else float("inf"),
            accuracy=None
            if teacher.accuracy is None or student.accuracy is None
            else teacher.accuracy - student.accuracy,
        )


@dataclass(frozen=True, eq=False)
class TeacherReading:
    """One teacher at the wanted mean entropy.

    Attributes:
        name: of the teacher.
        tau: the fixed temperature with this mean entropy.
        rho: the recommended rho: CIST's with this mean entropy.
        fixed: the fixed temperature read on it.
        cist: CIST read on it.
        accuracy: share of right answers; None without labels.
        calibration: None without labels.
        gap: to the student; None without one.
    """

    name: str
    tau: float
    rho: float
    fixed: RuleReading
    cist: RuleReading
    accuracy: float | None
    calibration: Calibration | None
    gap: CapacityGap | None

    def under(self, rule: str) -> RuleReading:
        """The reading of `FIXED` or of `CIST`."""
        return self.cist if rule == CIST else self.fixed

    @property
    def gain(self) -> float | None:
        """Spread of the fixed temperature over CIST's; None where CIST's is nothing but rounding."""
        return consistency_gain(self.fixed.profile, self.cist.profile)


def read_teacher(
    name: str,
    logit_set: LogitSet,
    *,
    target: float | None = None,
    floor: float = CIST_FLOOR,
    student: LogitSet | None = None,
    student_curves: EntropyCurves | None = None,
) -> TeacherReading:
    """Read a teacher at a mean normalised entropy.

    Args:
        name: as it is to be called.
        logit_set: its logits.
        target: mean entropy over ``ln C``, between 0 and 1; None: that of `default_anchor` on this teacher.
        floor: smallest temperature of CIST, in logit units; 0 is the pure ratio rule.
        student: logits on the same samples, for the capacity gap.
        student_curves: of these logits, where they are at hand: every teacher needs the same.

    Raises:
        CistError: if the mean entropy cannot be reached, or the student's logits are on other samples.
    """
    curves = EntropyCurves.from_logits(logit_set)
    if target is None:
        target = default_anchor(curves, floor=floor).target
    found = read_curves(name, curves, logit_set.accuracy, target=target, floor=floor)
    gap = None
    if student is not None:
        gap = CapacityGap.of(
            logit_set, student, found.rho, floor=floor, teacher_curves=curves, student_curves=student_curves
        )
    return replace(found, calibration=Calibration.of(logit_set), gap=gap)


def read_curves(
    name: str, curves: EntropyCurves, accuracy: float | None, *, target: float, floor: float = CIST_FLOOR
) -> TeacherReading:
    """The same of curves alone, whose logits are not at hand: without calibration and without a gap.

    Raises:
        CistError: if the mean entropy cannot be reached.
    """
    pair = matched_pair(curves, mean_entropy=target * curves.max_entropy, floor=floor)
    fixed, cist = read_rule(Fixed(pair.tau), curves), read_rule(pair.cist, curves)
    return TeacherReading(name, pair.tau, pair.rho, fixed, cist, accuracy, None, None)


def consistency_finding(teachers: Sequence[TeacherReading], rule: str = CIST) -> str:
    """Which teacher gives the most consistent soft labels under `FIXED` or `CIST`, and whether the other agrees."""
    first = teachers[0]
    if len(teachers) == 1:
        return (
            f"The entropies of {first.name} vary by {three_digits(first.cist.profile.std)} nats under CIST and "
            f"{three_digits(first.fixed.profile.std)} under fixed τ; add a teacher to compare it with"
        )
    best, second = sorted(teachers, key=lambda teacher: teacher.under(rule).profile.std)[:2]
    spread, other = (teacher.under(rule).profile.std for teacher in (best, second))
    numbers = f"{three_digits(spread)} nats against {three_digits(other)}"
    if _about_equal(spread, other):
        return f"Under {rule} {best.name} and {second.name} are about equally consistent: {numbers}"
    opposite = FIXED if rule == CIST else CIST
    least = min(teacher.under(opposite).profile.std for teacher in teachers)
    there = [teacher for teacher in teachers if _about_equal(least, teacher.under(opposite).profile.std)]
    also = "" if best in there else f"; under {opposite} those of {listed([teacher.name for teacher in there])} do"
    return f"Under {rule} the entropies of {best.name} vary least: {numbers} for {second.name}{also}"


def _about_equal(smaller: float, larger: float) -> bool:
    """Whether two numbers in nats differ by less than is worth words, or by rounding."""
    return larger < NO_SPREAD or larger / max(smaller, NO_SPREAD) < ABOUT_AS_MUCH[1]


def nearness_finding(teachers: Sequence[TeacherReading], student: str) -> str:
    """Which teacher is nearest to the student, in nats under CIST and in agreement."""
    near = [(teacher, teacher.gap) for teacher in teachers if teacher.gap is not None]
    if not near:
        return "Without a student there is no capacity gap"
    by_divergence = sorted(near, key=lambda pair: pair[1].kl_cist)
    teacher, gap = by_divergence[0]
    if len(near) == 1:
        return (
            f"{student} agrees with {teacher.name} on {percent(gap.agreement)} of the samples and is "
            f"{three_digits(gap.kl_cist)} nats away under CIST"
        )
    second, other = by_divergence[1]
    numbers = f"{three_digits(gap.kl_cist)} nats against {three_digits(other.kl_cist)}"
    most = max(gap.agreement for _, gap in near)
    agreeing = [teacher.name for teacher, gap in near if gap.agreement == most]
    they_agree = f"{listed(agreeing)} {'agrees' if len(agreeing) == 1 else 'agree'} with it"
    if _about_equal(gap.kl_cist, other.kl_cist):
        start = f"Under CIST {teacher.name} and {second.name} are about equally near to {student}: {numbers}"
        return f"{start}; {they_agree} most often ({percent(most)})"
    start = f"Under CIST {teacher.name} is nearest to {student}: {numbers}"
    if gap.agreement < most:
        return f"{start}, but {they_agree} more often ({percent(most)})"
    if len(agreeing) == 1:
        return f"{start}, and they agree most often ({percent(most)})"
    return f"{start}, and none agrees with it more often ({percent(most)})"
