"""What the ratio fixes about the entropy, and what it does not."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray


def equal_others_top1(ratio: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """Top-1 probability of a row whose other classes are all equal.

    ``p = e^r / (e^r + (C - 1) e^{-r / (C - 1)})``. By Jensen's inequality it is also the largest top-1 probability
    that any row of ratio ``r`` can have.

    Args:
        ratio: ``r >= 0``, any shape.
        num_classes: ``C >= 2``.
    """
    r = np.asarray(ratio, dtype=np.float64)
    others = num_classes - 1
    return np.asarray(1.0 / (1.0 + others * np.exp(-r * num_classes / others)))


def equal_others_entropy(ratio: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """Entropy in nats of a row whose other classes are all equal: ``-p ln p - (1 - p) ln((1 - p) / (C - 1))``.

    Args:
        ratio: ``r >= 0``, any shape.
        num_classes: ``C >= 2``.

    Example:
        >>> equal_others_entropy([0.0, 2.0, 50.0], 10).round(4).tolist()
        [2.3026, 1.778, 0.0]
    """
    r = np.asarray(ratio, dtype=np.float64)
    others = num_classes - 1
    p = equal_others_top1(r, num_classes)
    # The odds against the top class are (C - 1) e^{-rC/(C-1)}; in this form neither logarithm loses digits at large r.
    exponent = r * num_classes / others
    return np.asarray(np.log1p(others * np.exp(-exponent)) + (1.0 - p) * exponent)


@functools.cache
def equal_others_ratio(entropy: float, num_classes: int) -> float:
    """The ratio at which a row whose other classes are all equal has an entropy: the root of `equal_others_entropy`.

    Args:
        entropy: in nats, above 0 and below ``ln C``.
        num_classes: ``C >= 2``.

    Example:
        >>> round(equal_others_ratio(1.778, 10), 3)
        2.0
    """
    low, high = 0.0, 1.0
    while equal_others_entropy(high, num_classes) > entropy:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if equal_others_entropy(middle, num_classes) > entropy else (low, middle)
    return high


def second_class_entropy(ratio: ArrayLike, gap: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """Entropy in nats of a row with a second class at its own gap and all further classes equal.

    With drops ``d_j`` below the largest scaled logit, which add up to ``C r``: ``d_2 = g`` and
    ``d = (C r - g) / (C - 2)`` for the others; ``H = ln Z + sum_j d_j e^{-d_j} / Z``, ``Z = 1 + sum_j e^{-d_j}``.

    Args:
        ratio: ``r >= 0``, any shape.
        gap: of the scaled row, ``g = (z_1 - z_2) / tau >= 0``, of a shape that broadcasts with the ratio's. What
            exceeds ``r C / (C - 1)``, the largest gap there is, counts as that.
        num_classes: ``C >= 2``; with two classes the ratio decides the gap.

    Example:
        >>> second_class_entropy(4.0, [0.0, 2.0, 40 / 9], 10).round(4).tolist()  # the last is the equal-others curve
        [0.851, 0.6837, 0.5253]
    """
    r, g = np.broadcast_arrays(np.asarray(ratio, dtype=np.float64), np.asarray(gap, dtype=np.float64))
    total = num_classes * r
    second = np.minimum(g, total / (num_classes - 1)) if num_classes > 2 else total
    further = num_classes - 2
    drop = (total - second) / max(further, 1)
    odds, further_odds = np.exp(-second), further * np.exp(-drop)
    rest = odds + further_odds
    return np.asarray(np.log1p(rest) + (odds * second + further_odds * drop) / (1.0 + rest))
