"""Classes that take no part: the one rule by which files, models and objectives know a masked class.

A mask sets the logit of a class to ``-inf``, or to a finite number far below all others (-1000, -1e4, the minimum of
half precision -65504, -1e9, ...), so that no softmax gives it a probability. In the mean that centres the logits such a
number would decide everything: with one class of ten at -1e9 the centred maximum is 1e8, whatever the model says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError

HIGHEST_MASK = -900.0
"""No finite number above it is a mask. Masks begin at -1000, to which a logit may have been added, and no logarithm of
a probability in double precision lies below ``ln 5e-324 = -744``."""

TIMES_BEYOND = 4.0
"""How many times as far from 0 as any other logit of its row a finite mask lies."""

ALIKE = 1.5
"""Masks of one class are one number, up to the logit it was added to; real logits of such a size differ by more."""

RULE = (
    f"a class takes no part where its logit is -inf, or at most {HIGHEST_MASK:g} and at least {TIMES_BEYOND:g} times "
    "as far from 0 as every logit above that"
)
"""The rule in words, for errors."""

DIVIDE = "if these numbers are no masks, divide all logits by one number, which changes nothing at a given ratio"

_MOST_NAMED = 5


def takes_part(logits: Any, xp: Any = np) -> Any:
    """Which classes take part in each row, ``(N, C)`` boolean: all but the masked ones.

    A logit ``z`` is a mask if it is ``-inf``; or if ``z <= -900`` and the largest such number of its row is at most
    ``-4 max |z'|`` over the row's logits ``z' > -900``, of which there must be one. So a row of large logits without a
    gap has no masks, whatever their size, and nor has a row without ordinary logits. Of two classes only ``-inf`` is a
    mask.

    Args:
        logits: ``(N, C)`` floating point, wide enough for four times its ordinary numbers; NaN is no mask.
        xp: the module that computes, `numpy` or ``torch``.

    Example:
        >>> takes_part(np.array([[2.0, -1.0, -1e9], [-1200.0, 950.0, -np.inf]])).tolist()
        [[True, True, False], [True, True, False]]
    """
    if logits.shape[-1] <= 2:
        return logits != -np.inf
    low = logits <= HIGHEST_MASK
    largest = xp.amax(xp.abs(xp.where(low, 0.0, logits)), -1, keepdims=True)
    nearest = xp.amax(xp.where(low, logits, -np.inf), -1, keepdims=True)
    beyond = (nearest <= -TIMES_BEYOND * largest) & ~low.all(-1)[..., None]
    return ~(low & (beyond | (logits == -np.inf)))


class Absences:
    """Where classes take no part in a set of logits, counted a block of rows at a time.

    Args:
        classes: C.
    """

    def __init__(self, classes: int) -> None:
        self.samples = 0
        self._counts = np.zeros(classes, np.int64)
        self._first = np.full(classes, -1, np.int64)
        self._infinite = np.zeros(classes, np.bool_)
        self._lowest = np.full(classes, np.inf)  # of the finite masks
        self._highest = np.full(classes, -np.inf)

    def add(self, rows: NDArray[Any], low: NDArray[Any]) -> None:
        """Take in the next rows.

        Args:
            rows: ``(n, C)``.
            low: the smallest number of each, ``(n,)``.
        """
        if bool((low <= HIGHEST_MASK).any()):
            wide = rows.astype(np.result_type(rows.dtype, np.float32))
            absent = ~takes_part(wide)
            for place in np.flatnonzero(absent.any(axis=0)):
                there = absent[:, place]
                if not self._counts[place]:
                    self._first[place] = self.samples + int(np.argmax(there))
                self._counts[place] += int(np.count_nonzero(there))
                masks = wide[there, place]
                finite = masks[np.isfinite(masks)]
                self._infinite[place] |= len(finite) < len(masks)
                self._lowest[place] = min(self._lowest[place], float(finite.min(initial=np.inf)))
                self._highest[place] = max(self._highest[place], float(finite.max(initial=-np.inf)))
        self.samples += len(rows)

    @property
    def everywhere(self) -> NDArray[np.int64]:
        """The classes that take no part in any sample, by number."""
        return np.flatnonzero(self._counts == self.samples)

    def check(self, names: Sequence[str] | None) -> None:
        """Refuse classes that take no part in some samples only, and logits of fewer than two classes that do.

        Raises:
            CistError: naming the first class, in how many samples it is masked, and what to do.
        """
        partly = np.flatnonzero((self._counts > 0) & (self._counts < self.samples))
        # Where they scatter they are logits of a model that knows no bounds, naive Bayes for one.
        alike = ~np.isfinite(self._lowest) | (self._lowest >= ALIKE * self._highest)
        if len(partly) and (alike[partly].all() or self._infinite[partly].any()):
            partly = partly if alike[partly].all() else partly[self._infinite[partly]]
            place = int(partly[0])
            count, more = int(self._counts[place]), len(partly) - 1
            others = f" (so {'is' if more == 1 else 'are'} {more:,} more class{'es' * (more > 1)} in some)" * bool(more)
            raise CistError(
                f"Class {named(place, names)} is masked in {count:,} of {self.samples:,} samples{others}, first in "
                f"sample {self._first[place]:,} (its logit is {self._values(partly[:1])} there), and takes part in the "
                "others; the analysis needs the same classes in every sample. Save the samples that have the same "
                f"classes as a file each, or remove those samples{'' if self._infinite[place] else f'; {DIVIDE}'}."
            )
        left = len(self._counts) - len(self.everywhere)
        if left < 2:
            raise CistError(
                f"Expected at least 2 classes that take part, but {left} of {len(self._counts)} {_does(left)}: {RULE}."
            )

    def said(self, names: Sequence[str] | None) -> str:
        """How many classes are left out everywhere, which, and why."""
        places = self.everywhere
        left = len(self._counts) - len(places)
        whose = "its logit is" if len(places) == 1 else "their logits are"
        return (
            f"{len(places):,} of {len(self._counts):,}, {'number' if len(places) == 1 else 'numbers'} "
            f"{listed(places, names)}; {whose} {self._values(places)} in every sample, as masks are, so {left:,} "
            "classes take part"
        )

    def _values(self, places: NDArray[np.int64]) -> str:
        """The masks of some classes: ``-inf``, ``-1e+09``, ``-1003.2 to -996.23``."""
        low, high = (f"{number:.5g}" for number in (self._lowest[places].min(), self._highest[places].max()))
        finite = [] if low == "inf" else [low if low == high else f"{low} to {high}"]
        return " or ".join([*(["-inf"] if self._infinite[places].any() else []), *finite])


def named(place: int, names: Sequence[str] | None) -> str:
    """A class by its number, and by its name where it has one that says more.

    Example:
        >>> named(3, None), named(3, ["a", "b", "c", "dog"])
        ('3', "3 ('dog')")
    """
    return str(place) if names is None or names[place] == str(place) else f"{place} ('{names[place]}')"


def listed(places: Sequence[int] | NDArray[np.int64], names: Sequence[str] | None) -> str:
    """The first few of some classes by number and name, and how many more there are.

    Example:
        >>> listed(range(8), None)
        '0, 1, 2, 3, 4 and 3 more'
    """
    shown = ", ".join(named(int(place), names) for place in places[:_MOST_NAMED])
    return shown if len(places) <= _MOST_NAMED else f"{shown} and {len(places) - _MOST_NAMED:,} more"


def _does(count: int) -> str:
    return "does" if count == 1 else "do"
