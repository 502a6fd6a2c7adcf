"""The oracle: the same entropy for every sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature.guards import TAU_MIN
from cist_core.temperature.rule import TemperatureRule, register_rule


@register_rule("matched")
@dataclass(frozen=True)
class Matched(TemperatureRule):
    """The oracle: the temperature at which each sample's entropy is exactly ``H`` nats.

    It is the upper bound of consistency, found by bisection on each curve. A sample that cannot reach ``H`` (its
    largest logit is tied, so its entropy never falls below the logarithm of the number of tied classes) takes the
    temperature that comes closest.
    """

    label: ClassVar[str] = "oracle"
    H: float

    # exp(-7) to exp(14): from "every class alike" to "one class in a million times the second" for any real row.
    _LOG_RATIOS: ClassVar[tuple[float, float]] = (-7.0, 14.0)
    # Halves that range to a millionth: no entropy moves by more, and float32 ratios know little more.
    _STEPS: ClassVar[int] = 24

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        if curves.max_entropy <= self.H:
            raise CistError(
                f"Expected H of the rule '{self}' to be below ln C = {curves.max_entropy:.4f} nats for "
                f"{curves.num_classes} classes; choose a smaller H."
            )
        low = np.full(curves.num_samples, self._LOG_RATIOS[0])
        high = np.full(curves.num_samples, min(self._LOG_RATIOS[1], math.log(curves.max_ratio)))
        if not curves.exact and np.any(curves.at_ratio(curves.max_ratio) > self.H):
            raise CistError(
                f"Some samples reach H = {self.H:g} nats only beyond the table of this stream; choose a larger H, or "
                "load the logits into memory."
            )
        for _ in range(self._STEPS):
            middle = (low + high) / 2
            too_soft = curves.at_ratio(np.exp(middle)) > self.H
            low, high = np.where(too_soft, middle, low), np.where(too_soft, high, middle)
        return np.asarray(np.maximum(curves.statistics.maximum / np.exp(high), TAU_MIN))
