"""Classes in an order that means something: by the number in their names, else by name; never by accident."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,9})(\D*)", re.DOTALL)
_WHOLE = re.compile(r"[0-9]{1,9}(\.0*)?")
_DENSE = 0.5
_NAMES_SHOWN = 3


def numbers_in(names: Sequence[str]) -> list[int] | None:
    """The number in each name, where the names differ in nothing else; None where they do, or two have the same.

    Example:
        >>> numbers_in(["logit_0", "logit_10", "logit_2"]), numbers_in(["7.0", "12.0"]), numbers_in(["cat", "dog"])
        ([0, 10, 2], [7, 12], None)
    """
    if len(names) < 2:
        return None
    if all(map(_WHOLE.fullmatch, names)):
        numbers = [int(name.partition(".")[0]) for name in names]
    else:
        found = [match for name in names if (match := _LAST_NUMBER.fullmatch(name.strip()))]
        around = {(match[1].casefold(), match[3].casefold()) for match in found}
        if len(found) < len(names) or len(around) != 1:
            return None
        numbers = [int(match[2]) for match in found]
    return numbers if len(set(numbers)) == len(numbers) else None


def are_plain_numbers(names: Sequence[str]) -> bool:
    """Whether each name is a whole number from 0 and nothing else; ``3.0`` is one."""
    return bool(names) and all(map(_WHOLE.fullmatch, names))


def counts_up(names: Sequence[str], first: int | None = None) -> bool:
    """Whether the numbers in names are a run from 0 or 1, in whatever order.

    Args:
        names: see `numbers_in`.
        first: only a run from this number.

    Example:
        >>> counts_up(["2", "0", "1"]), counts_up(["logit_1", "logit_2"], first=0)
        (True, False)
    """
    numbers = numbers_in(names)
    begins = None if numbers is None else _begins(numbers)
    return begins is not None and first in (None, begins)


def order_of_columns(names: Sequence[str]) -> list[int] | None:
    """Positions of columns in the order of the numbers in their names; None where the order is to stay.

    It changes where the numbers are a run from 0 or 1, each once, or where the names are sorted as text
    (0, 1, 10, 11, 2), which no one wants of numbers. Numbers with gaps in an order of their own, such as the ids of
    some classes, are names.

    Example:
        >>> order_of_columns(["0", "1", "10", "2"]), order_of_columns(["1", "2", "3"]), order_of_columns(["9", "4"])
        ([0, 1, 3, 2], None, None)
    """
    numbers = numbers_in(names)
    if numbers is None:
        return None
    ascending = sorted(range(len(numbers)), key=numbers.__getitem__)
    if ascending == list(range(len(numbers))):
        return None
    complete = _begins(numbers) is not None
    return ascending if complete or list(names) == sorted(names) else None


@dataclass(frozen=True)
class ClassOrder:
    """How classes that have only names are numbered.

    Attributes:
        labels: the number of each class, by its name.
        class_names: by number; None where some numbers have no class, so that the numbers are all there is.
        sentence: which order that is, for people.
    """

    labels: dict[str, int]
    class_names: tuple[str, ...] | None
    sentence: str

    @property
    def count(self) -> int:
        """Number of classes, those without a name included."""
        return max(self.labels.values()) + 1


def number_classes(names: Sequence[str], what: str = "names") -> ClassOrder:
    """Number classes by what they are called.

    =========================================  =====================================================================
    one number each, a run from 0              that number: ``0``, ``1``, ..., ``10``; ``class_0``, ``class_1``, ...
    one number each, a run from 1              the number less 1
    plain numbers with gaps                    that number, less 1 where they begin at 1 and most are there
    one number each in other words, with gaps  the place in the order of the numbers
    anything else                              the place in alphabetical order (by code points, as Python sorts)
    =========================================  =====================================================================

    Args:
        names: all different.
        what: what is called so, for the sentence.

    Example:
        >>> number_classes(["10", "2", "1", "0"], "folders").labels
        {'0': 0, '1': 1, '2': 2, '10': 10}
        >>> number_classes([f"{number}" for number in range(1, 12)]).labels["11"]
        10
    """
    numbers = numbers_in(names)
    if numbers is None:
        ordered = sorted(names)
        return _by_place(ordered, f"Classes in alphabetical order of their {what}: {listed(ordered)}")
    by_number = dict(sorted(zip(names, numbers, strict=True), key=lambda pair: pair[1]))
    ordered, first = list(by_number), _begins(numbers)
    said = f"Classes in the order of the numbers in their {what}: {listed(ordered)}"
    if first is not None:
        return _by_place(ordered, said if first == 0 else f"{said}; {ordered[0]} is class 0")
    if not are_plain_numbers(names):
        return _by_place(ordered, said)
    low, high = min(numbers), max(numbers)
    first = 1 if low == 1 and len(numbers) > _DENSE * high else 0
    labels = {name: number - first for name, number in by_number.items()}
    gaps = f"{len(numbers):,} of {high + 1 - first:,} numbers are there"
    counted = "the number is the class" if first == 0 else "they begin at 1, so 1 is class 0"
    return ClassOrder(labels, None, f"{said}; {gaps}, and {counted}")


def _by_place(ordered: Sequence[str], sentence: str) -> ClassOrder:
    return ClassOrder({name: place for place, name in enumerate(ordered)}, tuple(ordered), sentence)


def _begins(numbers: Sequence[int]) -> int | None:
    """0 or 1 where the numbers are a run from there, each once."""
    low = min(numbers)
    return low if low in (0, 1) and max(numbers) - low + 1 == len(numbers) else None


def listed(names: Sequence[str]) -> str:
    """A few of the names, and the last.

    Example:
        >>> listed(["a", "b", "c", "d", "e"])
        'a, b, c, ..., e'
    """
    shown = [name[:40] for name in names]
    if len(shown) <= _NAMES_SHOWN + 1:
        return ", ".join(shown)
    return f"{', '.join(shown[:_NAMES_SHOWN])}, ..., {shown[-1]}"
