"""CIST: the same ratio for every sample, as far as the floor allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.kernels import RowStatistics
from cist_core.temperature.guards import CIST_FLOOR, TAU_MIN
from cist_core.temperature.rule import TemperatureRule, option, register_rule

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.temperature.logit_rows import LogitRows


@register_rule("cist")
@dataclass(frozen=True)
class Cist(TemperatureRule):
    """``tau_i = max(m_i / rho, floor, TAU_MIN)``: the same ratio for every sample above the floor (arXiv 2605.20357).

    Where the floor binds, the ratio is ``m_i / floor``, below ``rho``: ``r_i = min(rho, m_i / floor)``. With
    ``floor=0`` the ratio is ``rho`` everywhere. The text names no floor; 1 is that of the authors' development
    repository.
    """

    label: ClassVar[str] = "CIST"
    rho: float
    floor: float = option(CIST_FLOOR)

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        unbounded = self._unbounded(curves.statistics)
        return np.asarray(np.maximum(unbounded, max(self.floor, TAU_MIN), out=unbounded))

    def torch_temperatures(self, rows: LogitRows) -> Tensor:
        return (rows.maximum / self.rho).clamp(min=max(self.floor, TAU_MIN))

    def torch_least_damping(self, student: LogitRows, tau: Tensor) -> Tensor | None:
        # A floor holds the temperature of a constant row, whose gradient then is that of any row at the floor.
        return None if self.floor > TAU_MIN else super().torch_least_damping(student, tau)

    def ratios(self, curves: EntropyCurves, temperatures: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        """``min(rho, m_i / floor)``: one ratio above the floor, where ``m / (m / rho)`` rounds to several."""
        at_floor = np.divide(curves.statistics.maximum, max(self.floor, TAU_MIN), dtype=np.float64)
        return np.asarray(np.minimum(at_floor, self.rho, out=at_floor))

    def ratio_ranks(self, curves: EntropyCurves) -> NDArray[np.float64]:
        below = self.ratios(curves) < self.rho
        shared = (np.count_nonzero(below) + 1 + curves.num_samples) / 2  # by all above, which have the ratio rho
        return np.where(below, curves.maximum_ranks, shared)

    def at_floor(self, curves: EntropyCurves) -> NDArray[np.bool_]:
        return np.asarray(self._unbounded(curves.statistics) < self.floor)

    def student_at_floor(self, curves: EntropyCurves) -> NDArray[np.bool_] | None:
        return None if curves.student is None else np.asarray(self._unbounded(curves.student) < self.floor)

    def _unbounded(self, statistics: RowStatistics) -> NDArray[np.float64]:
        return np.asarray(np.divide(statistics.maximum, self.rho, dtype=np.float64))
