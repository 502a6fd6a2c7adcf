"""How far a model's confidence can be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

BINS = 15


def expected_calibration_error(logits: ArrayLike, labels: ArrayLike, *, bins: int = BINS) -> float:
    """``ECE = sum_b (n_b / N) |accuracy_b - confidence_b|`` over equal bins of the top-1 probability.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks" (2017), with their 15 bins.

    Args:
        logits: ``(N, C)``, at temperature 1.
        labels: ``(N,)`` integers in ``[0, C)``.
        bins: number of bins ``((b - 1) / bins, b / bins]``.

    Returns:
        A share between 0 and 1.

    Example:
        >>> round(expected_calibration_error([[5.0, 0.0], [5.0, 0.0]], [0, 1]), 3)  # sure, and right half the time
        0.493
    """
    values = np.asarray(logits, np.float64)
    values = values - values.max(axis=1, keepdims=True)
    confidence = 1.0 / np.exp(values).sum(axis=1)
    right = values.argmax(axis=1) == np.asarray(labels)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(values))
