"""Labels of the data as classes of the teacher."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cist_core.data.dataset import ImageDataset
from cist_core.errors import CistError
from cist_core.logits.class_maps import Class, ClassMap, find_class
from cist_core.logits.class_order import counts_up
from cist_core.logits.files.arrays import few

_PAIRS_SHOWN = 4


def map_labels(
    dataset: ImageDataset,
    mapping: ClassMap,
    teacher_classes: Sequence[str] | int,
    *,
    drop: bool = False,
) -> ImageDataset:
    """The same images under the teacher's classes.

    Args:
        dataset: whose labels are those of its own classes.
        mapping: the teacher's class for each of the data's, both by name or by number from 0 (as text too). Several may
            lead to one. None, or an empty name, leads to none: its images are left out.
        teacher_classes: their names; or how many, where they have none.
        drop: leave out the images of classes that are not in the mapping as well. By default that is an error.

    Returns:
        The images with the teacher's labels and class names, less those left out.

    Raises:
        CistError: for a class that does not exist or is not in the mapping, or if no image remains.

    Example:
        >>> images = np.zeros((3, 2, 2, 1), np.uint8)
        >>> pets = ImageDataset("pets", "all", images, np.array([0, 1, 1]), ("cat", "dog"), "pets")
        >>> map_labels(pets, {"cat": "tiger", "dog": "wolf"}, ["wolf", "tiger"]).labels
        array([1, 0, 0])
    """
    names = None if isinstance(teacher_classes, int) else tuple(teacher_classes)
    count = teacher_classes if isinstance(teacher_classes, int) else len(teacher_classes)
    table: dict[int, int | None] = dict.fromkeys(range(dataset.num_classes)) if drop else {}
    for of_data, of_teacher in mapping.items():
        number = find_class(of_data, dataset.class_names, dataset.num_classes, f"The data set '{dataset.name}'")
        table[number] = None if of_teacher in (None, "") else find_class(of_teacher, names, count, "The teacher")
    missing = [int(label) for label in np.unique(dataset.labels) if int(label) not in table]
    if missing:
        called = ", ".join(_called(label, dataset.class_names) for label in missing[:5])
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise CistError(
            f"No class of the teacher is given for {called}{more} of '{dataset.name}'; name one for each, or map it to "
            "nothing, so that its images are left out."
        )
    return apply_class_map(dataset, [table.get(number) for number in range(dataset.num_classes)], names)


def apply_class_map(
    dataset: ImageDataset, class_map: Sequence[int | None], teacher_names: tuple[str, ...] | None
) -> ImageDataset:
    """The same images under the teacher's classes by number; see `map_labels`, which records them as ``class_map``.

    Raises:
        CistError: as `map_labels`.
    """
    if len(class_map) < dataset.num_classes:
        raise CistError(f"The class map has {len(class_map)} classes, but '{dataset.name}' has {dataset.num_classes}.")
    table = np.array([-1 if number is None else number for number in class_map], np.int64)
    labels = table[dataset.labels]
    kept = np.flatnonzero(labels >= 0)
    if not len(kept):
        raise CistError(f"No image of '{dataset.name}' has a class of the teacher; map one of its classes at least.")
    part = dataset if len(kept) == len(labels) else dataset.take(kept)
    return replace(part, labels=labels[kept], class_names=teacher_names, class_map=tuple(class_map))


def _called(number: int, names: Sequence[str] | None) -> str:
    return repr(names[number]) if names is not None else f"class {number}"


# ---- by name ---------------------------------------------------------------------------------------------------------


def fit_classes(
    dataset: ImageDataset, teacher_classes: Sequence[str] | int, class_map: ClassMap | None = None
) -> ImageDataset:
    """The same images under the teacher's classes: by the map where there is one, else by name, else by number.

    Where both have names and each of the data's is among the teacher's, those are the classes, whatever their order and
    however many the teacher has besides. Names are compared without regard to case, spaces and punctuation. Where the
    names have nothing in common, or one of the two has none, class 3 of the data is class 3 of the teacher, and both
    have the same number of classes. ``class_order`` of what is returned says what was done.

    Args:
        dataset: whose labels are those of its own classes, or the teacher's already.
        teacher_classes: their names; or how many, where they have none.
        class_map: see `map_labels`; of classes that are not in it, the names decide.

    Raises:
        CistError: as `map_labels`, and where some names are the teacher's and others are not, or numbers cannot be the
            same.

    Example:
        >>> images = np.zeros((2, 2, 2, 1), np.uint8)
        >>> pets = ImageDataset("pets", "all", images, np.array([0, 1]), ("cat", "dog"), "pets")
        >>> found = fit_classes(pets, ["ant", "Dog", "eel", "Cat"])
        >>> found.labels, found.class_order
        (array([3, 1]), "Classes by their names: 'cat' is the teacher's class 3, 'dog' is 1")
    """
    names = None if isinstance(teacher_classes, int) else tuple(teacher_classes)
    count = teacher_classes if isinstance(teacher_classes, int) else len(teacher_classes)
    found = _places_by_name(dataset.class_names, names)
    if class_map is not None:
        return _through_map(dataset, class_map, found, names, count)
    if found and None not in found:
        if found == list(range(count)):
            return dataset
        mapped = apply_class_map(dataset, found, names)
        return replace(mapped, class_order=f"Classes by their names: {_listed(dataset, found)}")
    _check_numbers(dataset, found, names, count)
    return dataset


def _through_map(
    dataset: ImageDataset,
    class_map: ClassMap,
    found: Sequence[int | None],
    names: tuple[str, ...] | None,
    count: int,
) -> ImageDataset:
    owner = f"The data set '{dataset.name}'"
    given = {find_class(of_data, dataset.class_names, dataset.num_classes, owner) for of_data in class_map}
    mapping: dict[Class, Class | None] = dict(class_map)
    mapping |= {number: place for number, place in enumerate(found) if place is not None and number not in given}
    mapped = map_labels(dataset, mapping, count if names is None else names)
    assert mapped.class_map is not None
    left = dataset.num_samples - mapped.num_samples
    said = f"Classes through the class map: {_listed(dataset, mapped.class_map)}"
    return replace(mapped, class_order=said + (f"; {left:,} images without a class in it are left out" if left else ""))


def _listed(dataset: ImageDataset, places: Sequence[int | None]) -> str:
    """``'cat' is the teacher's class 3, 'dog' is 1, ...``"""
    pairs = [(number, place) for number, place in enumerate(places) if place is not None]
    shown = [f"{_called(number, dataset.class_names)} is {{}}{place}" for number, place in pairs[:_PAIRS_SHOWN]]
    first = [text.format("the teacher's class " * (index == 0)) for index, text in enumerate(shown)]
    more = len(pairs) - _PAIRS_SHOWN
    return ", ".join([*first, *([f"and {more:,} more"] if more > 0 else [])])


def _check_numbers(dataset: ImageDataset, found: Sequence[int | None], names: Sequence[str] | None, count: int) -> None:
    """Refuse data whose classes cannot be the teacher's by number."""
    of_data = f"the data set '{dataset.name}'"
    remedy = "map each with --class-map (`class_map=` in Python), to a class of the teacher or to nothing"
    elsewhere = [number for number, place in enumerate(found) if place is not None and place != number]
    if elsewhere or (any(place is not None for place in found) and dataset.num_classes != count):
        missing = [_called(number, dataset.class_names) for number, place in enumerate(found) if place is None]
        raise CistError(
            f"{len(found) - len(missing):,} of the {len(found):,} classes of {of_data} are among the teacher's "
            f"{count:,} by name, but not {', '.join(few(missing, 5))}; {remedy}."
        )
    known = dataset.class_names is not None
    if dataset.num_classes > count or (known and dataset.num_classes != count):
        there = "" if names is None else f" ({', '.join(map(repr, names[:3]))}{', ...' * (count > 3)})"
        raise CistError(
            f"The teacher tells {count:,} classes apart{there}, but {of_data} has {dataset.num_classes:,}; choose a "
            f"teacher and a data set with the same classes, or {remedy}.{_off_by_one(dataset, count)}"
        )


def _off_by_one(dataset: ImageDataset, count: int) -> str:
    """A hint where one class more or less has a usual reason."""
    if count == dataset.num_classes + 1:
        return " If the teacher's first class is a background, the map is 0=1, 1=2, and so on."
    if dataset.class_names is None and dataset.num_classes == count + 1 and int(dataset.labels.min()) == 1:
        return (
            f" The labels run from 1 to {count:,}: if 1 is the teacher's first class, the map is 1=0, 2=1, and so on."
        )
    return ""


def _places_by_name(data: Sequence[str] | None, teacher: Sequence[str] | None) -> list[int | None]:
    """The teacher's class of each of the data's that has its name; empty where names are missing or ambiguous.

    Names that only count, 1 to 10 beside 0 to 9, are places: 1 is the first of ten.
    """
    if data is None or teacher is None or (len(data) == len(teacher) and counts_up(data) and counts_up(teacher)):
        return []
    places = {_bare(name): number for number, name in enumerate(teacher)}
    found = [places.get(_bare(name)) for name in data]
    named = [place for place in found if place is not None]
    return found if len(places) == len(teacher) and len(set(named)) == len(named) else []


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name
