"""Labels as other people write them, numbers or names, as numbers from 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cist_core.data.names import checked_class_names
from cist_core.errors import CistError
from cist_core.logits.class_order import ClassOrder, number_classes
from cist_core.logits.files.names import plain
from cist_core.logits.logit_set import is_whole_number


def numbered(values: Sequence[str], where: str) -> tuple[NDArray[np.int64], ClassOrder | None]:
    """Labels, and the order of the classes where the values are names and not all numbers (`number_classes`).

    Args:
        values: of all splits together, so that a class has the same number in each.
        where: what holds them, for errors.

    Raises:
        CistError: for an empty value, or names that are none (`checked_class_names`).

    Example:
        >>> labels, order = numbered(["dog", "cat", "dog"], "list.csv")
        >>> labels, order.class_names
        (array([1, 0, 1]), ('cat', 'dog'))
    """
    if values and all(map(is_whole_number, values)):
        return np.array([int(value.partition(".")[0]) for value in values], np.int64), None
    different = sorted(set(values))
    if "" in different:
        raise CistError(f"{where} has a row without a label; fill it in or remove the row.")
    order = number_classes(checked_class_names(different, where), "labels")
    return np.array([order.labels[value] for value in values], np.int64), order


def one_of(columns: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The column that is called like the first of the wanted ones that is there, however it is written (`plain`)."""
    by_name = {plain(column): column for column in reversed(list(columns))}
    return next((by_name[name] for name in wanted if name in by_name), None)
