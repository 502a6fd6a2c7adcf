"""Selections of samples as rules in text: what a brush makes, a link carries and a slice names.

A selection is a conjunction of conditions, each on one measure of `cist_core.samples.table`::

    entropy=0.1..0.5 & correct=no & class=3,5

A rule instead of a list of samples stays short, says what it means, and follows the sliders.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.samples.table import FLAG, NUMBER, SampleTable, find_measure
from cist_core.wording import three_digits

Mask = NDArray[np.bool_]

_FLAGS = {"no": 0, "yes": 1}
_EXAMPLE = "write for example 'entropy=0.1..0.5 & correct=no & class=3,5'"


@dataclass(frozen=True)
class Between:
    """``low <= value <= high``; an end may be infinite."""

    measure: str
    low: float
    high: float

    def mask(self, samples: SampleTable) -> Mask:
        values = samples.column(self.measure)
        return np.asarray((values >= self.low) & (values <= self.high))

    def __str__(self) -> str:
        return f"{self.measure}={_end(self.low)}..{_end(self.high)}"

    def describe(self, class_names: Sequence[str] | None) -> str:
        measure = find_measure(self.measure)
        unit = f" {measure.unit}" if measure.unit else ""
        if math.isinf(self.low):
            return f"{measure.title} at most {three_digits(self.high)}{unit}"
        if math.isinf(self.high):
            return f"{measure.title} at least {three_digits(self.low)}{unit}"
        return f"{measure.title} from {three_digits(self.low)} to {three_digits(self.high)}{unit}"


@dataclass(frozen=True)
class Among:
    """The value is one of these whole numbers: classes, samples, or 0 and 1 for a flag."""

    measure: str
    values: tuple[int, ...]

    def mask(self, samples: SampleTable) -> Mask:
        return np.isin(samples.column(self.measure), self.values)

    def __str__(self) -> str:
        words: dict[int, str] = {value: word for word, value in _FLAGS.items()} if self._is_flag else {}
        words |= dict(enumerate(find_measure(self.measure).names or ()))
        return f"{self.measure}={','.join(words.get(value, str(value)) for value in self.values)}"

    @property
    def _is_flag(self) -> bool:
        return find_measure(self.measure).kind == FLAG

    def describe(self, class_names: Sequence[str] | None) -> str:
        if self._is_flag:
            return f"{'' if 1 in self.values else 'not '}{find_measure(self.measure).title}"
        names = None if self.measure == "index" else find_measure(self.measure).names or class_names
        shown = [f"{value:,}" if names is None or value >= len(names) else names[value] for value in self.values[:4]]
        more = f" and {len(self.values) - 4:,} more" if len(self.values) > 4 else ""
        return f"{find_measure(self.measure).title} {', '.join(shown)}{more}"


Condition = Between | Among


@dataclass(frozen=True)
class Selection:
    """Conditions that all hold; none at all is every sample.

    Example:
        >>> selection = Selection.parse("entropy=0.1..0.5 & correct=no")
        >>> str(selection.between("entropy", 0.2, 0.5).among("class", [3, 5]))
        'correct=no & entropy=0.2..0.5 & class=3,5'
        >>> selection.describe()
        'entropy H at τ from 0.100 to 0.500 nats, not correct'
    """

    conditions: tuple[Condition, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Read a selection from its text; empty text selects every sample.

        Raises:
            CistError: for an unknown measure, a condition that cannot be read, or two about one measure.
        """
        conditions = [_parse_condition(part) for part in filter(None, map(str.strip, text.split("&")))]
        for name, count in Counter(condition.measure for condition in conditions).items():
            if count > 1:
                raise CistError(f"The rule has {count} conditions on '{name}'; give it one, as in '{name}=1..3'.")
        return cls(tuple(conditions))

    def __bool__(self) -> bool:
        return bool(self.conditions)

    def __str__(self) -> str:
        return " & ".join(map(str, self.conditions))

    def mask(self, samples: SampleTable) -> Mask:
        """Which samples all conditions hold for, ``(N,)``.

        Raises:
            CistError: if a condition needs labels or a student that these samples lack.
        """
        chosen = np.ones(samples.num_samples, bool)
        for condition in self.conditions:
            chosen &= condition.mask(samples)
        return chosen

    def between(self, measure: str, low: float, high: float) -> Selection:
        """With the measure held between two values, whatever held for it before."""
        return self._with(Between(measure, *sorted((low, high))))

    def among(self, measure: str, values: Iterable[int]) -> Selection:
        """With the measure held to some whole numbers, whatever held for it before; no numbers lift the condition."""
        kept = tuple(dict.fromkeys(int(value) for value in values))
        return self._with(Among(measure, kept)) if kept else self.without(measure)

    def without(self, *measures: str) -> Selection:
        return Selection(tuple(condition for condition in self.conditions if condition.measure not in measures))

    def describe(self, class_names: Sequence[str] | None = None) -> str:
        """The same in words."""
        if not self:
            return "every sample"
        return ", ".join(condition.describe(class_names) for condition in self.conditions)

    def _with(self, condition: Condition) -> Selection:
        return Selection((*self.without(condition.measure).conditions, condition))


def _parse_condition(text: str) -> Condition:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (equals and value):
        raise CistError(f"Expected a condition as 'measure=value', but got '{text}'; {_EXAMPLE}.")
    measure = find_measure(name)
    if measure.kind == NUMBER or ".." in value:
        return _parse_range(name, value, text)
    if measure.kind == FLAG:
        if value not in _FLAGS:
            raise CistError(f"Expected '{name}' to be yes or no, but got '{value}' in '{text}'.")
        return Among(name, (_FLAGS[value],))
    known = {name: number for number, name in enumerate(measure.names or ())}
    items = [item.strip() for item in value.split(",")]
    if known and not all(item in known or item.isdecimal() for item in items):
        raise CistError(f"Expected '{name}' to be among {', '.join(known)}, but got '{text}'.")
    try:
        values = tuple(known[item] if item in known else int(item) for item in items)
    except ValueError:
        raise CistError(f"Expected '{name}' to be whole numbers as in '{name}=3,5', but got '{text}'.") from None
    if any(not 0 <= item <= 2**53 for item in values):
        raise CistError(f"Expected '{name}' to be positions of classes or samples, counted from 0, but got '{text}'.")
    return Among(name, tuple(dict.fromkeys(values)))


def _parse_range(name: str, value: str, text: str) -> Between:
    low, dots, high = value.partition("..")
    if not dots or not (low or high):
        raise CistError(
            f"Expected '{name}' as a range such as '{name}=0.1..0.5', '{name}=..0.5' or '{name}=0.1..', "
            f"but got '{text}'."
        )
    try:
        ends = (float(low) if low else -math.inf, float(high) if high else math.inf)
    except ValueError:
        raise CistError(f"Expected numbers on both sides of '..' in '{text}'.") from None
    if any(map(math.isnan, ends)) or ends[0] > ends[1] or all(map(math.isinf, ends)):
        raise CistError(f"Expected the range '{text}' to run from a smaller number to a larger one.")
    return Between(name, *ends)


def _end(value: float) -> str:
    """The shortest text that reads back as the same number; nothing for an open end."""
    return "" if math.isinf(value) else repr(float(value)).removesuffix(".0")
