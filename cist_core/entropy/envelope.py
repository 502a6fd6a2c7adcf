"""Which entropies a ratio allows: the smallest and the largest over all rows of logits.

The derivation is in ``docs/theory.md``. In short: write ``d_j`` for how far the scaled logit of class ``j`` lies below
the largest one. The ratio fixes nothing but the sum of these drops, ``C r``; the entropy depends on how the ``C - 1``
other classes share it. The best ways of sharing form one path for the minimum and one for the maximum, and both are
searched here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core.errors import CistError

Array = NDArray[np.float64]

_ZOOMS, _ZOOM_POINTS = 9, 17
_FINE = 32  # so many classes from either end of the path of the minimum are searched in steps of an eighth


class Envelope(NamedTuple):
    """The smallest and the largest possible entropy, in nats; NaN where no row exists."""

    low: Array
    high: Array


def entropy_envelope(ratio: ArrayLike, num_classes: int, gap: ArrayLike = 0.0) -> Envelope:
    """``(H_min, H_max)`` over all rows of ``C`` logits with the ratio ``r`` and a gap of at least ``g``.

    A row here is scaled already, ``x = z / tau`` with mean 0: its maximum is ``r``, and the gap, the maximum less the
    second largest, is in the same unit (gap of the logits over the temperature).

    Args:
        ratio: ``r >= 0``, any shape.
        num_classes: ``C >= 2``.
        gap: ``g >= 0``, one number or of a shape that broadcasts with the ratio's.

    Returns:
        Two arrays in nats, of the broadcast shape. The largest gap that a ratio allows is ``r C / (C - 1)``, where all
        other classes are equal and both ends meet; beyond it no row exists, and both are NaN.

    Raises:
        CistError: for a negative or infinite ratio or gap, or fewer than two classes.

    Example:
        >>> low, high = entropy_envelope([1.0, 4.0], 10)
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([1.975, 0.525], [2.208, 2.197])
    """
    if num_classes < 2:
        raise CistError(f"Expected at least 2 classes, but got {num_classes}.")
    r, g = np.broadcast_arrays(_checked(ratio, "ratio"), _checked(gap, "gap"))
    others = num_classes - 1
    # Every other class drops by g at least; this much of the sum C r is left to share out.
    left = num_classes * r - others * g
    exists = left >= -1e-12 * (num_classes * r)
    shape, left, least = r.shape, np.maximum(left, 0.0).reshape(-1, 1), g.reshape(-1, 1)
    # Between whole numbers of tied classes the entropy is a little larger, so that a coarse search sees only those.
    low = _search(
        lambda path: -_sharpest(path, left, least, others), _path_of_the_minimum(others), len(left), whole_above=0.5
    )
    high = _search(lambda path: _softest(path, left, least, others), _path_of_the_maximum(), len(left))
    return Envelope(*(np.where(exists, end.reshape(shape), np.nan) for end in (-low, high)))


def _sharpest(path: Array, left: Array, least: Array, others: int) -> Array:
    """Entropy where ``floor(path)`` classes have the least drop, one is on its way there, and the rest are equal."""
    tied = np.floor(path)
    rest = left / (others - path)
    between = rest * (1.0 - (path - tied))
    return _entropy((tied, least), (1.0, least + between), (others - 1 - tied, least + rest))


def _softest(path: Array, left: Array, least: Array, others: int) -> Array:
    """Entropy where one class lies below all others, which are equal, by the share ``path`` of what is left."""
    equal = left * (1.0 - path) / others
    return _entropy((others - 1, least + equal), (1.0, least + equal + left * path))


def _entropy(*groups: tuple[Array | float, Array]) -> Array:
    """Entropy in nats of a row from its other classes, in groups of equal drop: (how many, drop below the largest)."""
    odds = [count * np.exp(-drop) for count, drop in groups]
    rest = np.asarray(sum(odds))
    mean_drop = sum(odd * drop for odd, (_, drop) in zip(odds, groups, strict=True)) / (1.0 + rest)
    return np.asarray(np.log1p(rest) + mean_drop)


def _path_of_the_minimum(others: int) -> Array:
    """From 0, all others equal, to ``C - 2``, all but one tied; the entropy bends at whole numbers."""
    end = others - 1
    fine = np.arange(0.0, min(end, _FINE) + 0.125, 0.125)
    coarse = np.round(np.geomspace(1.0, max(end, 1.0), 200))
    near = np.concatenate([fine, coarse])
    grid = np.concatenate([near, end - near])
    return np.unique(grid[(grid >= 0) & (grid <= end)])


def _path_of_the_maximum() -> Array:
    # The lowest class stops mattering some 30 below the others, a tiny share where there are many classes.
    return np.concatenate([[0.0], np.geomspace(1e-9, 1.0, 240)])


def _search(value: Callable[[Array], Array], grid: Array, rows: int, *, whole_above: float = np.inf) -> Array:
    """The largest value on a path for each row, ``(rows,)``: on the grid, then ever finer around the best point.

    Steps above ``whole_above`` are taken to whole numbers.
    """
    points = np.broadcast_to(grid, (rows, len(grid)))
    best = np.full(rows, -np.inf)
    for _ in range(_ZOOMS):
        values = value(points)
        at = values.argmax(axis=1)[:, None]
        best = np.maximum(best, np.take_along_axis(values, at, axis=1)[:, 0])
        start = np.take_along_axis(points, np.maximum(at - 1, 0), axis=1)
        stop = np.take_along_axis(points, np.minimum(at + 1, points.shape[1] - 1), axis=1)
        points = start + (stop - start) * np.linspace(0.0, 1.0, _ZOOM_POINTS)
        points = np.where(stop - start > whole_above * (_ZOOM_POINTS - 1), np.round(points), points)
    return best


def _checked(value: ArrayLike, name: str) -> Array:
    array = np.asarray(value, dtype=np.float64)
    wrong = array[~((array >= 0) & (array < np.inf))]
    if wrong.size:
        raise CistError(f"Expected every {name} to be a finite number of at least 0, but got {wrong.flat[0]:g}.")
    return array
