"""One temperature for all samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.temperature.rule import FIXED, TemperatureRule, register_rule

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.temperature.logit_rows import LogitRows


@register_rule(FIXED)
@dataclass(frozen=True)
class Fixed(TemperatureRule):
    """One temperature for all samples (Hinton et al. 2015, arXiv 1503.02531)."""

    label: ClassVar[str] = "fixed τ"
    tau: float

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.full(curves.num_samples, self.tau)

    def ratio_ranks(self, curves: EntropyCurves) -> NDArray[np.float64]:
        return curves.maximum_ranks

    def torch_temperatures(self, rows: LogitRows) -> Tensor:
        return rows.maximum.new_ones(rows.maximum.shape) * self.tau

    def torch_least_damping(self, student: LogitRows, tau: Tensor) -> None:
        return None
