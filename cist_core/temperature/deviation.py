"""The deviation of a row of logits, as the published codes of LSKD and NormKD take it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves


def sample_deviation(curves: EntropyCurves) -> NDArray[np.float64]:
    """Standard deviation of each row's logits, divided by C - 1, ``(N,)`` in logit units."""
    classes = curves.num_classes
    return np.asarray(curves.statistics.std.astype(np.float64) * math.sqrt(classes / (classes - 1)))
