"""Labels of the data as classes of the teacher."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cist_core.class_maps import Class, find_class
from cist_core.data.dataset import ImageDataset
from cist_core.errors import CistError


def map_labels(
    dataset: ImageDataset,
    mapping: Mapping[Class, Class | None],
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


@dataclass(frozen=True)
class OtherOrder:
    """Data and teacher name the same classes in another order, so that the labels of the one are wrong for the other.

    Attributes:
        mapping: what `map_labels` takes to put it right.
        sentence: for people.
    """

    mapping: dict[Class, Class]
    sentence: str


def find_other_order(data_classes: Sequence[str] | None, teacher_classes: Sequence[str] | None) -> OtherOrder | None:
    """Whether the data's classes are all among the teacher's, but not at the same numbers.

    Names are compared without regard to case, spaces and punctuation. None where the order is the same, where names are
    missing or ambiguous, or where they are not the same classes.

    Example:
        >>> find_other_order(["cat", "dog"], ["Dog", "Cat"]).mapping
        {'cat': 'Cat', 'dog': 'Dog'}
    """
    if data_classes is None or teacher_classes is None:
        return None
    places = {_bare(name): number for number, name in enumerate(teacher_classes)}
    found = [places.get(_bare(name)) for name in data_classes]
    unambiguous = len(places) == len(teacher_classes) and len(set(found)) == len(data_classes)
    if not unambiguous or None in found or found == list(range(len(found))):
        return None
    by_name = len(set(data_classes)) == len(data_classes)
    mapping: dict[Class, Class] = {}
    for number, (name, place) in enumerate(zip(data_classes, found, strict=True)):
        if place is not None:
            mapping[name if by_name else number] = teacher_classes[place] if by_name else place
    first = next(number for number, place in enumerate(found) if place != number)
    shown = ", ".join(f"{key!r}: {value!r}" for key, value in list(mapping.items())[:10])
    return OtherOrder(
        mapping,
        f"The data number their classes in another order than the teacher: {data_classes[first]!r} is {first} in the "
        f"data and {found[first]} for the teacher. Map them by name: {{{shown}{', ...' * (len(mapping) > 10)}}}.",
    )


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name
