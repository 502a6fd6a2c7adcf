"""DTKD: the teacher's side of temperatures that teacher and student share out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature.guards import TAU_MIN
from cist_core.temperature.rule import TemperatureRule, register_rule


@register_rule("dtkd")
@dataclass(frozen=True)
class Dtkd(TemperatureRule):
    """``tau_i = 2 tau m_t / (m_t + m_s)``: a sharper teacher is softened more (Wei and Bai 2024, arXiv 2404.12711).

    ``m`` is the largest raw logit of teacher and student. A negative one would give a negative temperature and a sum of
    0 an infinite one, so where either is not positive, both give way to the centred maxima; two constant rows have
    ``tau``, and no temperature falls below ``TAU_MIN``. The guards are ours, the same as in training. Logits that were
    stored less their row maximum have no raw maximum any more and always take the centred ones.

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
