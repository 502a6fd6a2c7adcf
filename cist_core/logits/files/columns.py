"""Which columns of a table are the logits, by what all of them are called and hold; and what the others are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cist_core.errors import CistError
from cist_core.logits.class_order import are_plain_numbers, counts_up, listed, number_classes, order_of_columns
from cist_core.logits.files.arrays import shortened
from cist_core.logits.files.names import (
    FEATURE_NAMES,
    IDENTIFIER_NAMES,
    LABEL_NAMES,
    LOG_PROBABILITY_NAMES,
    LOGIT_NAMES,
    MASK_NAMES,
    PROBABILITY_NAMES,
    TOP_K_IDS,
    TOP_K_LOG_PROBS,
    is_about_samples,
    plain,
)

UNNAMED_FIRST = "Unnamed: 0"  # to pandas
_NUMBERED = re.compile(r"(.*?)[\s_.\-]*[\[(]?(\d{1,9})[\])]?")
_LOGIT_PREFIXES = (
    "logits",
    "logit",
    "teacher_logits",
    "teacher_logit",
    *LOG_PROBABILITY_NAMES,
    *PROBABILITY_NAMES,
    "p",
)
_NUMBERED_PREFIXES = (
    "", "class", "cls", "c", "score", "scores", "output", "outputs", "out", "pred", "preds", "prediction", "y_pred",
    "y_hat", "z",
)  # fmt: skip
# Not "x1": R calls any matrix's columns so.
_FEATURE_PREFIXES = {*(name for name in FEATURE_NAMES if not name.startswith("x")), "dim", "pca"}


_REMEDY = (
    "keep one numeric column a class and, optionally, a column 'label' and one that names the samples, such as 'id' or "
    "'filename'"
)


class Kind(StrEnum):
    """What a column holds; a later kind of one file replaces an earlier one when more of its rows have been read."""

    INTEGERS = "whole numbers"
    WHOLE = "whole numbers with a decimal point"
    FRACTIONS = "fractions"
    YES_NO = "true and false"
    TEXT = "text"
    MIXED = "numbers and text"
    LISTS = "lists of numbers"
    OTHER = "something else"

    @property
    def numeric(self) -> bool:
        return self in (Kind.INTEGERS, Kind.WHOLE, Kind.FRACTIONS)


@dataclass(frozen=True)
class Roles:
    """What each column of a table is.

    Attributes:
        classes: positions of the logits, one a class; or of the one column of lists.
        lists: whether it is that.
        label: position of the labels.
        identifiers: those that name the samples.
        unused: the others, and why where that is not plain.
        called: what the logits are called together; see `as_logits`.
        class_names: one a column, without what all of them begin with.
    """

    classes: tuple[int, ...]
    lists: bool
    label: int | None
    identifiers: tuple[int, ...]
    unused: Mapping[int, str] = field(default_factory=dict)
    called: str | None = None
    class_names: tuple[str, ...] | None = None


def find_roles(names: Sequence[str], kinds: Sequence[Kind], *, not_identifiers: Iterable[int] = ()) -> Roles:
    """Tell the columns of a table apart.

    Args:
        names: of the columns.
        kinds: of the columns, from all rows that have been read.
        not_identifiers: columns that are called as if they named the samples, but do not tell them apart.

    Raises:
        CistError: if fewer than two columns can be logits, or it cannot be told which.

    Example:
        >>> kinds = [Kind.FRACTIONS, Kind.FRACTIONS, Kind.INTEGERS, Kind.FRACTIONS]
        >>> roles = find_roles(["logit_0", "logit_1", "y_true", "loss"], kinds)
        >>> roles.classes, roles.label, list(roles.unused)
        ((0, 1), 2, [3])
    """
    label = _label(names, kinds)
    identifiers = tuple(
        position
        for position, name in enumerate(names)
        if position != label
        and position not in not_identifiers
        and kinds[position] in (Kind.TEXT, Kind.MIXED, Kind.INTEGERS)
        and may_name_samples(name, position)
    )
    others = [position for position in range(len(names)) if position != label and position not in identifiers]
    lists = [position for position in others if kinds[position] is Kind.LISTS]
    may_be = (Kind.INTEGERS, Kind.WHOLE, Kind.FRACTIONS, Kind.TEXT, Kind.MIXED)
    group = _group(names, kinds, [position for position in others if kinds[position] in may_be])
    chosen = _list_column(names, lists, group)
    if chosen is not None:
        return Roles(
            (chosen,), True, label, identifiers, _unused(names, kinds, others, {chosen}), called=plain(names[chosen])
        )
    _check_classes(names, kinds, group, others, lists)
    unused = _unused(names, kinds, others, set(group.columns))
    return Roles(group.columns, False, label, identifiers, unused, group.prefix, group.class_names(names))


def in_order(roles: Roles, names: Sequence[str]) -> tuple[Roles, str | None]:
    """The classes in the order of the numbers in their names (`order_of_columns`), and a sentence if that says more.

    Example:
        >>> roles, said = in_order(Roles((0, 1, 2), False, None, ()), ["10", "9", "8"])
        >>> roles.classes, said
        ((0, 1, 2), None)
        >>> roles, said = in_order(Roles((0, 1, 2), False, None, ()), ["1", "3", "2"])
        >>> roles.classes, said
        ((0, 2, 1), 'Classes in the order of the numbers in their columns: 1, 2, 3; 1 is class 0; the file has 1, 3, 2')
    """
    called = [names[position].strip() for position in roles.classes]
    order = None if roles.lists else order_of_columns(called)
    if order is None:
        from_one = not roles.lists and are_plain_numbers(called) and counts_up(called, first=1)
        return roles, number_classes(called, "columns").sentence if from_one else None
    own = roles.class_names
    roles = replace(
        roles,
        classes=tuple(roles.classes[place] for place in order),
        class_names=None if own is None else tuple(own[place] for place in order),
    )
    sentence = number_classes(called, "columns").sentence.partition("; ")
    first = f"; {sentence[2]}" if sentence[2].endswith("is class 0") else ""
    return roles, f"{sentence[0]}{first}; the file has {listed(called)}"


def _label(names: Sequence[str], kinds: Sequence[Kind]) -> int | None:
    """The column whose name comes first among those of labels, if it can hold some. Fractions never are."""
    may_be = {
        plain(name): position
        for position, name in reversed(list(enumerate(names)))
        if kinds[position] not in (Kind.FRACTIONS, Kind.OTHER)
    }
    return next((may_be[name] for name in LABEL_NAMES if name in may_be), None)


# ---- columns that belong together ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Columns that are the classes, if anything of the table is.

    Attributes:
        columns: their positions.
        prefix: what all are called alike; None for names that have nothing in common.
        by_word: whether a name of the class follows the prefix, not a number.
    """

    columns: tuple[int, ...]
    prefix: str | None = None
    by_word: bool = False

    def class_names(self, names: Sequence[str]) -> tuple[str, ...]:
        own = [names[position].strip() for position in self.columns]
        if self.by_word and self.prefix is not None:
            ends = [len(plain(name)[len(self.prefix) :].lstrip("_:")) for name in own]
            own = [name[-end:] for name, end in zip(own, ends, strict=True)]
        return tuple(own)


def _group(names: Sequence[str], kinds: Sequence[Kind], candidates: Sequence[int]) -> _Group:
    """Columns of one pattern, such as ``logit_0``, ``logit_1``; without one all that are not about the samples."""
    telling = [each for each in candidates if not is_about_samples(names[each])]
    for prefix in _LOGIT_PREFIXES:
        columns = tuple(each for each in telling if _begins_with(names[each], prefix))
        by_word = any(not _NUMBERED.fullmatch(names[each].strip()) for each in columns)
        if len(columns) > 1 and (not by_word or 2 * len(columns) > len(telling)):
            return _Group(columns, prefix, by_word)
    if len(candidates) > 1 and all(len(names[each]) == 1 for each in candidates):
        return _Group(tuple(candidates))
    numbered = _numbered(names, candidates)
    for prefix in _NUMBERED_PREFIXES:
        if prefix in numbered and _holds_together(numbered[prefix], len(candidates)):
            return _Group(tuple(numbered[prefix].values()), prefix)
    counted = {prefix: columns for prefix, columns in numbered.items() if _counts_up(columns)}
    features = [counted.pop(prefix) for prefix in list(counted) if prefix in _FEATURE_PREFIXES]
    left = [each for each in candidates if not any(each in columns.values() for columns in features)]
    if features and len(left) < 2:
        raise CistError(
            f"{_first_and_last(names, features[0])} are called like the inner values of a network or what goes into "
            "it, not like logits; call them logit_0, logit_1, ... if they are."
        )
    largest = max(map(len, counted.values()), default=0)
    best = [prefix for prefix, columns in counted.items() if len(columns) == largest]
    if len(best) > 1 and 2 * largest * len(best) > len(left):
        shown = " and ".join(_first_and_last(names, counted[prefix]) for prefix in best[:2])
        raise CistError(
            f"both {shown} can be the logits; keep one of them, or call the right ones logit_0, logit_1, ..."
        )
    if 2 * largest > len(left):
        return _Group(tuple(counted[best[0]].values()), best[0])
    return _Group(_words(names, kinds, left))


def _begins_with(name: str, prefix: str) -> bool:
    """``logit_cat``, ``logit.0``, ``logit7``, ``logit[7]``; but of ``p`` only what goes on with a number."""
    rest = plain(name)[len(prefix) :] if plain(name).startswith(prefix) else ""
    return bool(re.match(r"\d|[\[(]\d|_\d" if prefix == "p" else r"\d|[\[(]|[_:].", rest))


def _numbered(names: Sequence[str], candidates: Sequence[int]) -> dict[str, dict[int, int]]:
    """By what stands before it: the number of each name that ends with one, and the column."""
    found: dict[str, dict[int, int]] = {}
    for position in candidates:
        match = _NUMBERED.fullmatch(names[position].strip())
        if match:
            found.setdefault(plain(match[1]), {}).setdefault(int(match[2]), position)
    return {prefix: columns for prefix, columns in found.items() if len(columns) > 1}


def _counts_up(columns: Mapping[int, int]) -> bool:
    return sorted(columns) in (list(range(len(columns))), list(range(1, len(columns) + 1)))


def _holds_together(columns: Mapping[int, int], candidates: int) -> bool:
    return _counts_up(columns) or 2 * len(columns) > candidates


def _first_and_last(names: Sequence[str], columns: Mapping[int, int]) -> str:
    return f"the columns {names[columns[min(columns)]][:40]} to {names[columns[max(columns)]][:40]}"


def _words(names: Sequence[str], kinds: Sequence[Kind], candidates: Sequence[int]) -> tuple[int, ...]:
    """Columns without a pattern: each a class, but for what is known to be none, and whole numbers among fractions."""
    columns = [each for each in candidates if kinds[each].numeric and not is_about_samples(names[each])]
    whole = [each for each in columns if kinds[each] is Kind.INTEGERS]
    fractions = [each for each in columns if kinds[each] is Kind.FRACTIONS]
    if len(whole) < len(fractions) and len(columns) - len(whole) > 1:
        columns = [each for each in columns if each not in whole]
    return tuple(columns)


# ---- a column of lists -----------------------------------------------------------------------------------------------


def _list_column(names: Sequence[str], lists: Sequence[int], group: _Group) -> int | None:
    """The column of lists that are the logits; None where single columns are, or nothing is."""
    called = {plain(names[position]): position for position in reversed(lists)}
    if any(name in called for name in TOP_K_IDS) and any(name in called for name in TOP_K_LOG_PROBS):
        raise CistError(
            "this holds the most probable classes of each sample, not the logits of all, so entropies have bounds "
            "only; store 'ids' and 'log_probs' as arrays in an .npz file for 'cist analyze --vocabulary V'."
        )
    named = next((called[name] for name in LOGIT_NAMES if name in called), None)
    if named is not None or group.prefix is not None:
        return named
    aside = {*FEATURE_NAMES, *LABEL_NAMES, *MASK_NAMES, *IDENTIFIER_NAMES}
    left = [position for position in lists if plain(names[position]) not in aside]
    if len(left) > 1:
        raise CistError(
            f"the columns {shortened([names[position] for position in left])} hold lists of numbers; call the one with "
            "the logits 'logits'."
        )
    if left:
        return left[0]
    if lists and len(group.columns) < 2:
        raise CistError(
            f"the columns of lists are called {shortened([names[position] for position in lists])}, not like logits; "
            "call the one with the logits 'logits' if they are."
        )
    return None


# ---- what is left ----------------------------------------------------------------------------------------------------


def _check_classes(
    names: Sequence[str], kinds: Sequence[Kind], group: _Group, others: Sequence[int], lists: Sequence[int]
) -> None:
    classes, prefix = group.columns, group.prefix
    for position in classes:
        if names[position].startswith("Unnamed:"):  # what pandas calls a column without a name
            raise CistError(f"column {position + 1} has no name; give it that of its class, or remove it.")
        if not kinds[position].numeric:
            raise CistError(
                f"column '{names[position]}' is not numeric{', though called like the logits' if prefix else ''}; "
                f"{_REMEDY}."
            )
    for position in others:
        if kinds[position] is Kind.MIXED and position not in classes and not is_about_samples(names[position]):
            raise CistError(
                f"column '{names[position]}' is not numeric: it holds {kinds[position]}; mend or remove it."
            )
    if len(classes) < 2:
        left = [names[position] for position in others if position not in classes and position not in lists]
        without = f"; {shortened(left)} cannot be logits" if left else ""
        raise CistError(
            f"found {len(classes)} column{'s' * (len(classes) != 1)} of logits in {shortened(names)}{without}; "
            f"{_REMEDY}."
        )


def _unused(names: Sequence[str], kinds: Sequence[Kind], others: Sequence[int], used: set[int]) -> dict[int, str]:
    """The columns that nothing is made of, and what they are where the name alone does not say it."""
    found = {}
    for position in others:
        if position in used:
            continue
        surprising = kinds[position] is Kind.FRACTIONS and plain(names[position]) in LABEL_NAMES
        found[position] = f"{names[position]} ({kinds[position]})" if surprising else spoken(names[position])
    return found


def may_name_samples(name: str, position: int) -> bool:
    """Whether a column is called as if it named the samples, or is the index that pandas writes."""
    return plain(name) in IDENTIFIER_NAMES or (position == 0 and name == UNNAMED_FIRST)


def spoken(name: str) -> str:
    """A column as a sentence calls it: what pandas calls ``Unnamed: 3`` has no name."""
    if name == UNNAMED_FIRST:
        return "the first, without a name"
    return f"number {int(name[8:]) + 1}, without a name" if re.fullmatch(r"Unnamed: \d+", name) else name
