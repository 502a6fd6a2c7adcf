"""DTKD: temperatures that teacher and student share out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature.guards import TAU_MIN
from cist_core.temperature.rule import TemperatureRule, register_rule

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.temperature.logit_rows import LogitRows


@register_rule("dtkd")
@dataclass(frozen=True)
class Dtkd(TemperatureRule):
    """``tau_t = 2 tau m_t / (m_t + m_s)``: a sharper teacher is softened more (Wei and Bai 2024, arXiv 2404.12711).

    The student has ``tau_s = 2 tau m_s / (m_t + m_s)``. ``m`` is the largest raw logit of each. A negative one would
    give a negative temperature, which reverses the ranking of the classes, and a sum of 0 an infinite one. So where
    either is not positive, both give way to the centred maxima, which never are negative; two constant rows have
    ``tau`` each, and no temperature falls below ``TAU_MIN``. The guards are ours. Logits that were stored less their
    row maximum have no raw maximum any more and always take the centred ones.

    Raises:
        CistError: if the curves know no student (`EntropyCurves.beside`).
    """

    label: ClassVar[str] = "DTKD"
    needs_student: ClassVar[bool] = True
    tau: float = 4.0

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        if curves.student is None:
            raise CistError(
                f"The rule '{self}' needs a student beside the teacher, as it depends on the largest logits of both; "
                "choose one (--student on the command line, `EntropyCurves.beside` in Python)."
            )
        ours, theirs = curves.statistics, curves.student
        as_published = (ours.peak > 0) & (theirs.peak > 0)
        teacher = np.asarray(np.where(as_published, ours.peak, ours.maximum), np.float64)
        student = np.asarray(np.where(as_published, theirs.peak, theirs.maximum), np.float64)
        total = teacher + student
        both_constant = total <= 0
        share = teacher / np.where(both_constant, 1.0, total)
        return np.asarray(np.maximum(np.where(both_constant, self.tau, 2 * self.tau * share), TAU_MIN))

    def torch_pair(self, teacher: LogitRows, student: LogitRows) -> tuple[Tensor, Tensor]:
        """The temperatures of both models, ``(N,)`` each; both carry the student's gradient."""
        as_published = (teacher.peak > 0) & (student.peak > 0)
        ours = teacher.peak.where(as_published, teacher.maximum)
        theirs = student.peak.where(as_published, student.maximum)
        total = ours + theirs
        both_constant = total <= 0
        scale = 2 * self.tau / total.masked_fill(both_constant, 1.0)
        base = total.new_ones(total.shape) * self.tau
        return (
            base.where(both_constant, ours * scale).clamp(min=TAU_MIN),
            base.where(both_constant, theirs * scale).clamp(min=TAU_MIN),
        )
