"""CIST: the same ratio for every sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.curves import EntropyCurves
from cist_core.temperature.guards import TAU_MIN
from cist_core.temperature.rule import TemperatureRule, register_rule


@register_rule("cist")
@dataclass(frozen=True)
class Cist(TemperatureRule):
    """``tau_i = max(m_i / rho, TAU_MIN)``: the same ratio for every sample (arXiv 2605.20357)."""

    label: ClassVar[str] = "CIST"
    rho: float

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.asarray(np.maximum(curves.statistics.maximum.astype(np.float64) / self.rho, TAU_MIN))
