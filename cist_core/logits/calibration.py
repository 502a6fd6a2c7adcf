"""How far a model's confidence can be believed, before and after one temperature is fitted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core.errors import CistError

BINS = 15
FIT_RANGE = (0.01, 100.0)
"""The temperatures among which one is fitted. A model that is never wrong would ask for 0."""

# Logits are read this many values at a time, as float64: a memory-mapped file larger than memory passes.
CHUNK_VALUES = 1 << 22


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy in equal bins of the top-1 probability.

    Attributes:
        count: samples in the bins ``((b - 1) / bins, b / bins]``, ``(bins,)``.
        confidence: mean top-1 probability, ``(bins,)``; NaN in an empty bin.
        accuracy: share of right answers, ``(bins,)``; NaN in an empty bin.
    """

    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """``ECE = sum_b (n_b / N) |accuracy_b - confidence_b|``, a share between 0 and 1."""
        filled = self.count > 0
        gap = np.abs(self.accuracy - self.confidence)[filled]
        return float(np.sum(self.count[filled] * gap) / self.count.sum())


def reliability(logits: ArrayLike, labels: ArrayLike, *, tau: float = 1.0, bins: int = BINS) -> Reliability:
    """The bins of a reliability diagram (Guo, Pleiss, Sun, Weinberger 2017, arXiv 1706.04599; with their 15 bins).

    Args:
        logits: ``(N, C)``.
        labels: ``(N,)`` integers in ``[0, C)``.
        tau: the temperature of the probabilities.
        bins: number of bins.

    Raises:
        CistError: for other shapes, a label that is no class, a temperature that is not positive, or no bins.

    Example:
        >>> sure = reliability([[5.0, 0.0], [5.0, 0.0]], [0, 1])  # sure, and right half the time
        >>> sure.count[-1].item(), sure.accuracy[-1].item(), round(sure.confidence[-1].item(), 3)
        (2, 0.5, 0.993)
    """
    if bins < 1:
        raise CistError(f"Expected at least one bin, but got {bins}.")
    _check_temperature(tau)
    count, confidences, hits = np.zeros(bins, np.int64), np.zeros(bins), np.zeros(bins)
    for rows, wanted in _chunks(logits, labels):
        confidence = 1.0 / np.exp(rows / tau).sum(axis=1)
        right = rows.argmax(axis=1) == wanted
        bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        count += np.bincount(bin_of, minlength=bins)
        confidences += np.bincount(bin_of, weights=confidence, minlength=bins)
        hits += np.bincount(bin_of, weights=right, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(count, confidences / count, hits / count)


def expected_calibration_error(logits: ArrayLike, labels: ArrayLike, *, tau: float = 1.0, bins: int = BINS) -> float:
    """``ECE = sum_b (n_b / N) |accuracy_b - confidence_b|`` over equal bins of the top-1 probability.

    Args:
        logits: ``(N, C)``.
        labels: ``(N,)`` integers in ``[0, C)``.
        tau: the temperature of the probabilities.
        bins: number of bins; see `reliability`.

    Returns:
        A share between 0 and 1.

    Example:
        >>> round(expected_calibration_error([[5.0, 0.0], [5.0, 0.0]], [0, 1]), 3)  # sure, and right half the time
        0.493
    """
    return reliability(logits, labels, tau=tau, bins=bins).error


def nll(logits: ArrayLike, labels: ArrayLike, *, tau: float = 1.0) -> float:
    """``-mean_i ln softmax(z_i / tau)[y_i]`` in nats.

    Example:
        >>> round(nll([[5.0, 0.0], [5.0, 0.0]], [0, 1]), 3)
        2.507
        >>> round(nll([[5.0, 0.0], [5.0, 0.0]], [0, 1], tau=1e9), 3)  # ln 2
        0.693
    """
    return float(cross_entropies(logits, labels, tau=tau).mean())


def cross_entropies(logits: ArrayLike, labels: ArrayLike, *, tau: float = 1.0) -> NDArray[np.float64]:
    """``-ln softmax(z_i / tau)[y_i]`` of every sample, ``(N,)`` nats.

    Args:
        logits: ``(N, C)``.
        labels: ``(N,)`` integers in ``[0, C)``.
        tau: positive.

    Raises:
        CistError: for other shapes, a label that is no class, or a temperature that is not positive.
    """
    _check_temperature(tau)
    return np.concatenate(
        [
            np.log(np.exp(rows / tau).sum(axis=1)) - rows[np.arange(len(rows)), wanted] / tau
            for rows, wanted in _chunks(logits, labels)
        ]
    )


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature with the smallest negative log-likelihood of the labels: temperature scaling.

    The likelihood is convex in ``beta = 1 / tau``, so its slope ``mean_i(E_p[z_i] - z_i[y_i])`` has one root, found by
    bracketing on ``ln tau``. Where the slope has none within `FIT_RANGE`, the nearer end is returned: the lower one for
    a model that is never wrong, the upper one for a model that is worse than guessing.

    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv 1706.04599.

    Args:
        logits: ``(N, C)``.
        labels: ``(N,)`` integers in ``[0, C)``.

    Example:
        >>> round(fit_temperature([[4.0, 0.0]] * 4, [0, 0, 0, 1]), 3)  # 4 / tau = ln 3, the odds of being right
        3.641
    """
    from scipy.optimize import brentq

    chunks = list(_chunks(logits, labels)) if np.size(logits) <= CHUNK_VALUES else None

    def slope(log_tau: float) -> float:
        tau, total, count = math.exp(log_tau), 0.0, 0
        for rows, wanted in chunks or _chunks(logits, labels):
            weights = np.exp(rows / tau)
            expected = np.einsum("nc,nc->n", weights, rows) / weights.sum(axis=1)
            total += float(np.sum(expected - rows[np.arange(len(rows)), wanted]))
            count += len(rows)
        return total / count

    low, high = (math.log(end) for end in FIT_RANGE)
    if slope(low) <= 0:
        return FIT_RANGE[0]
    if slope(high) >= 0:
        return FIT_RANGE[1]
    return math.exp(float(brentq(slope, low, high, xtol=1e-7)))


def _check_temperature(tau: float) -> None:
    if not 0 < tau < math.inf:
        raise CistError(f"Expected a positive temperature, but got {tau}.")


def _chunks(logits: ArrayLike, labels: ArrayLike) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Rows less their maximum, and their labels."""
    rows, wanted = np.asarray(logits), np.asarray(labels, np.int64)
    if rows.ndim != 2 or wanted.shape != (len(rows),) or not len(rows):
        raise CistError(
            f"Expected logits (N, C) and one label for each row, but got the shapes {rows.shape} and {wanted.shape}."
        )
    strangers = np.flatnonzero((wanted < 0) | (wanted >= rows.shape[1]))
    if strangers.size:
        raise CistError(
            f"Expected labels from 0 to {rows.shape[1] - 1}, but that of sample {strangers[0]} is "
            f"{wanted[strangers[0]]}; leave out samples without a label."
        )
    step = max(1, CHUNK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        part = rows[start : start + step].astype(np.float64)
        yield part - part.max(axis=1, keepdims=True), wanted[start : start + step]
