"""Whether a student's logits keep a scale that it can learn at, judged epoch by epoch from the metrics of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cist_core.wording import three_digits

SMALLEST_MAXIMUM = 1.0
"""Logit units. The mean of centred logits is 0, so their exponentials have a mean of 1 or more (Jensen): at temperature
1 no class has a probability above ``exp(m) / C``, here 2.72 times that of a uniform prediction."""

LARGEST_MAXIMUM = 50.0
"""Logit units. With equal others such a prediction is one-hot in float32, and a wrong one costs as many nats."""

SMALLEST_SHARE, LARGEST_SHARE = 1 / 20, 3.0
"""Of the teacher's mean centred maximum: a teacher of small or large logits may have a student of the same."""

FIRST_EPOCHS, FIRST_PART = 3, 1 / 4
"""A fresh student starts near 0: so many epochs, and such a part of the run, may pass before it is judged for that."""

ScaleState = Literal["collapsed", "running away"]
VERBS: Mapping[ScaleState, str] = {"collapsed": "have collapsed", "running away": "are running away"}
"""After ``the student's logits``."""


@dataclass(frozen=True)
class ScaleFault:
    """What is wrong with the student's scale in the newest epoch.

    Attributes:
        state: ``collapsed`` or ``running away``.
        since: the first epoch of those without a break in which it has been so.
        student_maximum: mean centred maximum of the student's logits in the newest epoch.
        teacher_maximum: that of the teacher's; None if the run did not record it.
    """

    state: ScaleState
    since: int
    student_maximum: float
    teacher_maximum: float | None

    def __str__(self) -> str:
        """What the logits have done: ``have collapsed (mean centred maximum 0.0365, the teacher's 16.7)``."""
        beside = "" if self.teacher_maximum is None else f", the teacher's {three_digits(self.teacher_maximum)}"
        return f"{VERBS[self.state]} (mean centred maximum {three_digits(self.student_maximum)}{beside})"

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> ScaleFault | None:
        """As the status of a run has it; None if nothing is wrong, or the status is of a run that did not judge it."""
        recorded = status.get("logit_scale")
        return cls(**recorded) if recorded else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def scale_states(rows: Sequence[Mapping[str, float]], epochs: int) -> list[ScaleState | None]:
    """The state of the student's scale in every epoch, in order; None where nothing is wrong.

    With ``m`` and ``m_t`` the epoch's mean centred maxima of student and teacher (``student_maximum_mean`` and
    ``teacher_maximum_mean``), a student

    - is *running away* if ``m > 50`` and ``m > 3 m_t``,
    - has *collapsed* if ``m < 1`` and ``m < m_t / 20``, in this epoch and the one before, and either some earlier
      epoch was above that or at least 3 epochs and a quarter of the run have passed.

    Without ``teacher_maximum_mean`` the conditions on ``m_t`` do not count.

    Args:
        rows: metrics of the finished epochs, one each, from the first on.
        epochs: how many the run has in all.

    Example:
        >>> maxima = {1: 2.0, 2: 0.1, 3: 0.05}
        >>> scale_states([{"epoch": epoch, "student_maximum_mean": m} for epoch, m in maxima.items()], 100)
        [None, None, 'collapsed']
    """
    states: list[ScaleState | None] = []
    small_before, was_larger = False, False
    for row in rows:
        small = _is_small(row)
        may_be_judged = was_larger or row["epoch"] >= max(FIRST_EPOCHS, FIRST_PART * epochs)
        if _is_large(row):
            states.append("running away")
        elif small and small_before and may_be_judged:
            states.append("collapsed")
        else:
            states.append(None)
        small_before, was_larger = small, was_larger or not small
    return states


def scale_fault(rows: Sequence[Mapping[str, float]], epochs: int) -> ScaleFault | None:
    """What is wrong in the newest epoch, if anything; arguments as in `scale_states`."""
    states = scale_states(rows, epochs)
    if not states or states[-1] is None:
        return None
    begin = len(states) - 1
    while begin and states[begin - 1] == states[-1]:
        begin -= 1
    teacher = rows[-1].get("teacher_maximum_mean")
    return ScaleFault(states[-1], int(rows[begin]["epoch"]), rows[-1]["student_maximum_mean"], teacher)


def _is_small(row: Mapping[str, float]) -> bool:
    student, teacher = row["student_maximum_mean"], row.get("teacher_maximum_mean")
    return student < SMALLEST_MAXIMUM and (teacher is None or student < SMALLEST_SHARE * teacher)


def _is_large(row: Mapping[str, float]) -> bool:
    student, teacher = row["student_maximum_mean"], row.get("teacher_maximum_mean")
    return student > LARGEST_MAXIMUM and (teacher is None or student > LARGEST_SHARE * teacher)
