"""NormKD: the deviation of the logits times a factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.temperature.deviation import sample_deviation
from cist_core.temperature.guards import TAU_MIN
from cist_core.temperature.rule import TemperatureRule, register_rule

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.temperature.logit_rows import LogitRows


@register_rule("normkd")
@dataclass(frozen=True)
class NormKd(TemperatureRule):
    """``tau_i = max(std(z_i) * k, TAU_MIN)`` (Chi et al. 2023, arXiv 2308.00520).

    The published code gives NaN for a constant row; the guard is ours.
    """

    label: ClassVar[str] = "NormKD"
    k: float = 2.0

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.asarray(np.maximum(sample_deviation(curves) * self.k, TAU_MIN))

    def torch_temperatures(self, rows: LogitRows) -> Tensor:
        return (rows.deviation * self.k).clamp(min=TAU_MIN)
