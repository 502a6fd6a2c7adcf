"""LSKD: z-scored logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.temperature.deviation import sample_deviation
from cist_core.temperature.guards import LSKD_EPSILON
from cist_core.temperature.rule import TemperatureRule, register_rule

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.temperature.logit_rows import LogitRows


@register_rule("lskd")
@dataclass(frozen=True)
class Lskd(TemperatureRule):
    """``tau_i = (std(z_i) + 1e-7) * tau``: z-scored logits at a base temperature (Sun et al. 2024, arXiv 2403.01427).

    The deviation divides by C - 1, as the published code does.
    """

    label: ClassVar[str] = "LSKD"
    tau: float = 2.0

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.asarray((sample_deviation(curves) + LSKD_EPSILON) * self.tau)

    def torch_temperatures(self, rows: LogitRows) -> Tensor:
        return (rows.deviation + LSKD_EPSILON) * self.tau
