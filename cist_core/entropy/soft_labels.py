"""The soft labels of a few rows in float64, for display; the entropies of whole data sets come from `EntropyCurves`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, rel_entr, softmax

from cist_core.errors import CistError


def soft_labels(logits: ArrayLike, tau: ArrayLike) -> NDArray[np.float64]:
    """``softmax(z / tau)`` over the last axis, ``(..., C)``.

    Args:
        logits: ``(..., C)``, finite.
        tau: positive, in logit units; one number, or one a row: it broadcasts against ``(...,)``.

    Raises:
        CistError: if a temperature is not positive or a logit not finite.

    Example:
        >>> soft_labels([[2.0, 0.0], [2.0, 0.0]], tau=[1.0, 4.0]).round(3).tolist()
        [[0.881, 0.119], [0.622, 0.378]]
    """
    z = np.asarray(logits, dtype=np.float64)
    temperature = np.asarray(tau, dtype=np.float64)
    if not np.isfinite(z).all():
        raise CistError(f"Expected finite logits, but got {z[~np.isfinite(z)].flat[0]}.")
    if not (temperature > 0).all():  # NaN is refused as well
        raise CistError(
            f"Expected every temperature to be positive, but got {temperature[~(temperature > 0)].flat[0]:g}."
        )
    with np.errstate(
        over="ignore"
    ):  # far below the maximum at a tiny temperature: the exponential is 0 as it should be
        scaled = (z - z.max(axis=-1, keepdims=True)) / temperature[..., None]
    return np.asarray(softmax(scaled, axis=-1))


def entropy_of(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Shannon entropy over the last axis in nats, ``(...,)``: ``-sum p ln p`` with ``0 ln 0 = 0``.

    Args:
        probabilities: ``(..., C)``, of sum 1.

    Example:
        >>> entropy_of([[1.0, 0.0], [0.5, 0.5]]).round(4).tolist()
        [0.0, 0.6931]
    """
    return np.asarray(entr(np.asarray(probabilities, dtype=np.float64)).sum(axis=-1))


def divergence_of(teacher: ArrayLike, student: ArrayLike) -> NDArray[np.float64]:
    """Kullback-Leibler divergence ``sum p ln(p / q)`` over the last axis in nats, ``(...,)``.

    Args:
        teacher: ``p``, ``(..., C)``, of sum 1.
        student: ``q``, of a shape that broadcasts with it.

    Example:
        >>> divergence_of([0.5, 0.5], [0.5, 0.5]).tolist(), divergence_of([1.0, 0.0], [0.5, 0.5]).round(4).tolist()
        (0.0, 0.6931)
    """
    p, q = np.asarray(teacher, dtype=np.float64), np.asarray(student, dtype=np.float64)
    return np.asarray(np.maximum(rel_entr(p, q).sum(axis=-1), 0.0))  # never negative, but rounding can be


def centred_maximum(logits: ArrayLike) -> NDArray[np.float64]:
    """``m = max(z - mean(z))`` over the last axis, ``(...,)``: the numerator of the ratio.

    Example:
        >>> float(centred_maximum([7.0, 4.0, 1.0]))
        3.0
    """
    z = np.asarray(logits, dtype=np.float64)
    return np.asarray(z.max(axis=-1) - z.mean(axis=-1))
