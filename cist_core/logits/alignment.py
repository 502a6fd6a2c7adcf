"""Two sets of logits on the same samples and classes, brought into one order by their names."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.logits.absent_classes import listed
from cist_core.logits.class_order import numbers_in
from cist_core.logits.logit_set import LogitSet, check_same_samples, renumbered
from cist_core.logits.sample_names import match_samples


def align(first: LogitSet, other: LogitSet, *, name: str = "the student", of: str = "the teacher") -> LogitSet:
    """The other set with its samples and classes in the order of the first.

    Samples are joined by their names where both sets have some. So are classes, where the names of both are the same;
    else position counts. Classes that take no part in the first are left out of the other as well, as the objectives
    compare only what takes part in both; the reverse is refused. What was decided is said in
    ``provenance["sample_order"]`` and ``provenance["class_order"]``.

    Args:
        first: whose order is kept.
        other: on the same samples and classes.
        name: the other, as sentences are to call it.
        of: the first, likewise.

    Raises:
        CistError: if the names are not those of the same samples, sizes or labels differ, or a class takes no part in
            the other only.

    Example:
        >>> teacher = LogitSet.create([[2.0, 0.0], [0.0, 1.0]], sample_names={"file": ["a.png", "b.png"]})
        >>> student = LogitSet.create([[0.0, 3.0], [4.0, 0.0]], sample_names={"file": ["b.png", "a.png"]})
        >>> align(teacher, student).logits.tolist()
        [[4.0, 0.0], [0.0, 3.0]]
    """
    said = {}
    match = match_samples(first.sample_names, other.sample_names, name=name, of=of)
    if match is not None and match.positions is not None:
        other = other.take(match.positions)
        said["sample_order"] = f"Samples of {name} in the order of {of}, by '{match.column}'"
    if first.left_out or other.left_out:
        other = _without_classes_of(first, other, name=name, of=of)
    ours, theirs = first.class_names, other.class_names
    if ours is not None and theirs is not None and ours != theirs:
        order = _class_order(ours, theirs)
        if order is not None:
            other = _with_classes(other, order)
            said["class_order"] = f"Classes of {name} in the order of {of}, by their names"
        elif not _only_number(ours) and not _only_number(theirs):
            said["class_order"] = f"Classes of {name} by position, as they are not called like those of {of}"
    check_same_samples(first.logits.shape, other.logits.shape, labels=(first.labels, other.labels), name=name)
    return other if not said else replace(other, provenance=MappingProxyType({**other.provenance, **said}))


def check_same_order(first: LogitSet, other: LogitSet, *, name: str = "the student") -> None:
    """Refuse a set whose samples are not in the order of the first's, as far as names and labels tell.

    Raises:
        CistError: naming `align`, or what cannot be the same samples.
    """
    check_same_samples(first.logits.shape, other.logits.shape, labels=(first.labels, other.labels), name=name)
    match = match_samples(first.sample_names, other.sample_names, name=name)
    if match is not None and match.positions is not None:
        raise CistError(
            f"Expected {name} to have its samples in the order of the teacher, but by '{match.column}' they are in "
            "another; bring them into one with cist_core.logits.alignment.align."
        )


def _without_classes_of(first: LogitSet, other: LogitSet, *, name: str, of: str) -> LogitSet:
    """The other set without the classes that take no part in the first.

    Raises:
        CistError: if a class takes no part in the other only, or a sample of the other is labelled with one of them.
    """
    if first.given_classes != other.given_classes:
        return other  # refused as having other classes
    ours, theirs = _keys(first, other)
    here, there = {*ours}, {*theirs}
    only = [place for place, key in zip(first.kept_classes, ours, strict=True) if key not in there]
    if only:
        raise CistError(
            f"Class {listed(only, _given_names(first))} of {of} is masked in every sample of {name}; both have to have "
            f"the same classes: mask it in {of} as well."
        )
    stays = np.array([key in here for key in theirs], np.bool_)
    kept, dropped = np.flatnonzero(stays), np.flatnonzero(~stays)
    if not len(dropped):
        return replace(other, left_out=first.left_out)
    _, labels = renumbered(other.labels, dropped, other.class_names)
    said = f"{listed(other.kept_classes[dropped], _given_names(other))} of {name}, masked in {of}"
    before = other.provenance.get("absent classes")
    found = LogitSet.create(
        np.asarray(other.logits)[:, kept],
        labels,
        class_names=None if other.class_names is None else [other.class_names[place] for place in kept],
        provenance={**other.provenance, "absent classes": said if before is None else f"{before}; {said}"},
        sample_names=other.sample_names,
    )
    return replace(found, left_out=first.left_out, class_names=found.class_names or first.class_names)


def _keys(first: LogitSet, other: LogitSet) -> tuple[list[Hashable], list[Hashable]]:
    """By what the classes of one set are found in the other: their names, where those of one are among those of the
    other and the rest may be classes that it leaves out; else their numbers."""
    ours, theirs = first.class_names, other.class_names
    if ours is not None and theirs is not None and len({*ours}) == len(ours) and len({*theirs}) == len(theirs):
        missing, surplus = {*ours} - {*theirs}, {*theirs} - {*ours}
        contained = not missing or not surplus
        if contained and len(missing) <= len(other.left_out) and len(surplus) <= len(first.left_out):
            return [*ours], [*theirs]
    return first.kept_classes.tolist(), other.kept_classes.tolist()


def _given_names(logits: LogitSet) -> list[str] | None:
    """The names of all classes that were given; of those that take no part, which are not kept, their numbers."""
    if logits.class_names is None:
        return None
    names = [str(place) for place in range(logits.given_classes)]
    for place, each in zip(logits.kept_classes, logits.class_names, strict=True):
        names[place] = each
    return names


def _class_order(ours: tuple[str, ...], theirs: tuple[str, ...]) -> NDArray[np.int64] | None:
    """Where our classes are among theirs, if these have the same names in another order."""
    if set(ours) != set(theirs) or len(set(theirs)) < len(theirs) or len(ours) != len(theirs):
        return None
    places = {each: place for place, each in enumerate(theirs)}
    return np.array([places[each] for each in ours], np.int64)


def _only_number(names: tuple[str, ...]) -> bool:
    """Whether names only count the classes, so that they say nothing against others."""
    return numbers_in(names) is not None


def _with_classes(other: LogitSet, order: NDArray[np.int64]) -> LogitSet:
    names = None if other.class_names is None else tuple(other.class_names[place] for place in order)
    found = LogitSet.create(
        np.asarray(other.logits)[:, order],
        None if other.labels is None else np.argsort(order)[other.labels],
        class_names=names,
        provenance=other.provenance,
        sample_names=other.sample_names,
    )
    return replace(found, left_out=other.left_out)
