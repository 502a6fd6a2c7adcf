"""Classes that take no part: the one rule by which files, models and objectives know a masked class.

A mask sets the logit of a class to ``-inf``, or to a finite number far below all others (-1000, -1e4, the minimum of
half precision -65504, -1e9, ...), so that no softmax gives it a probability. In the mean that centres the logits such a
number would decide everything: with one class of ten at -1e9 the centred maximum is 1e8, whatever the model says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError

HIGHEST_MASK = -900.0
"""No finite number above it is a mask. Masks begin at -1000, to which a logit may have been added, and no logarithm of
a probability in double precision lies below ``ln 5e-324 = -744``."""

TIMES_BEYOND = 4.0
"""How many times as far from 0 as any other logit of its row a finite mask lies."""

SPREAD = 2.0
"""Masks are one number, up to the logits it was added to: they differ by at most so many times the largest of those.
Logits of such a size that scatter by more belong to a model that knows no bounds, naive Bayes for one."""

ALIKE = 1.5
"""The masks of one class in all samples lie within such a factor; logits that scatter by more are no masks."""

FEWEST, SAME = 3, 0.01
"""In some samples only, finite masks have to be so many, and one number up to this share of it."""

RULE = (
    f"a class takes no part where its logit is -inf, or a number that all such classes share, at most {HIGHEST_MASK:g} "
    f"and at least {TIMES_BEYOND:g} times as far from 0 as every logit above that"
)
"""The rule in words, for errors."""

HIGHEST_SUSPECT = -50.0
"""A class that has one number in every sample, at most this and the smallest of all, is likely to be masked too."""

DIVIDE = "if these numbers are no masks, divide all logits, and CIST's floor with them, by one number"

_MOST_NAMED = 5


def takes_part(logits: Any, xp: Any = np) -> Any:
    """Which classes take part in each row, ``(N, C)`` boolean: all but the masked ones.

    A logit ``z`` is a mask if it is ``-inf``; or if ``z <= -900``, the largest such number of its row is at most
    ``-4 max |z'|`` over the row's logits ``z' > -900``, of which there must be one, and the finite such numbers are one
    number, or two of which one is 4 times as far, each up to ``2 max |z'|``. So a row of large logits that have no gap,
    or that scatter, has no finite masks, whatever their size. Of two classes only ``-inf`` is a mask.

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
    finite = low & (logits != -np.inf)
    farthest = xp.amin(xp.where(finite, logits, np.inf), -1, keepdims=True)
    near, far = logits >= nearest - SPREAD * largest, logits <= farthest + SPREAD * largest
    apart = (farthest >= nearest - SPREAD * largest) | (farthest <= TIMES_BEYOND * nearest)
    alike = apart & (near | far | ~finite).all(-1)[..., None]
    beyond = (nearest <= -TIMES_BEYOND * largest) & alike & ~low.all(-1)[..., None]
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
            with np.errstate(over="ignore"):  # four times the largest float32 is infinite, and no mask lies beyond it
                absent = ~takes_part(wide)
            finite = absent & np.isfinite(wide)
            counts = np.count_nonzero(absent, axis=0)
            new = (self._counts == 0) & (counts > 0)
            self._first[new] = self.samples + absent[:, new].argmax(axis=0)
            self._counts += counts
            self._infinite |= (absent & ~finite).any(axis=0)
            self._lowest = np.minimum(self._lowest, np.where(finite, wide, np.inf).min(axis=0))
            self._highest = np.maximum(self._highest, np.where(finite, wide, -np.inf).max(axis=0))
        self.samples += len(rows)

    @property
    def everywhere(self) -> NDArray[np.int64]:
        """The classes that take no part in any sample, by number."""
        scattered = np.isfinite(self._lowest) & (self._lowest < ALIKE * self._highest)
        return np.flatnonzero((self._counts == self.samples) & ~scattered)

    @property
    def _partly(self) -> NDArray[np.int64]:
        """The classes that are masked in some samples only: by ``-inf``, or by one finite number that comes again."""
        some = (self._counts > 0) & (self._counts < self.samples)
        finite = some & ~self._infinite
        if finite.any():
            low, high = float(self._lowest[finite].min()), float(self._highest[finite].max())
            if self._counts[finite].sum() < FEWEST or high - low > -SAME * low:
                some &= self._infinite
        return np.flatnonzero(some)

    def check(self, names: Sequence[str] | None) -> None:
        """Refuse classes that take no part in some samples only, and logits of fewer than two classes that do.

        Raises:
            CistError: naming the first class, in how many samples it is masked, and what to do.
        """
        partly = self._partly
        if len(partly):
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


def said_of_suspects(blocks: Iterable[NDArray[Any]], low: NDArray[Any], names: Sequence[str] | None) -> str | None:
    """What masks above `HIGHEST_MASK`, which are read as logits, do to the centred maximum; None if there are none.

    Args:
        blocks: of rows, ``(n, C)`` each; read only where every row has the same smallest number.
        low: the smallest number of each row, ``(N,)``.
        names: C names, or None.

    Example:
        >>> logits = np.array([[2.0, -500.0, 0.0], [1.0, -500.0, 3.0], [0.0, -500.0, 1.0]])
        >>> said_of_suspects([logits], logits.min(axis=1), None).split(";")[0]
        '1 class (1) has the logit -500 in every sample and is read as a logit'
    """
    value = float(low[0])
    if len(low) < FEWEST or not HIGHEST_MASK < value <= HIGHEST_SUSPECT or (low != low[0]).any():
        return None
    same, totals, peaks = np.True_, [], []
    for rows in blocks:
        same = same & (rows == value).all(axis=0)
        totals.append(rows.sum(axis=1, dtype=np.float64))
        peaks.append(rows.max(axis=1).astype(np.float64))
    places = np.flatnonzero(same)
    classes, count = len(same), len(places)
    if not 0 < count <= classes - 2:
        return None
    total, peak = np.concatenate(totals), np.concatenate(peaks)
    with_them, without = peak - total / classes, peak - (total - count * value) / (classes - count)
    subject, pronoun = (("class", "it"), ("classes", "them"))[count > 1]
    return (
        f"{count:,} {subject} ({listed(places, names)}) {'has' if count == 1 else 'have'} the logit {value:g} in every "
        f"sample and {'is read as a logit' if count == 1 else 'are read as logits'}; without {pronoun} the centred "
        f"maximum, {with_them.mean():.3g} on average, would be {without.mean():.3g}. If "
        f"{'it is' if count == 1 else 'they are'} masked, write -inf"
    )


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
