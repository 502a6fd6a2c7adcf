"""Labels from a file of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.logits.class_maps import Class, ClassMap, find_class
from cist_core.logits.class_order import number_classes, numbers_in
from cist_core.logits.files.arrays import StoredArrays, few
from cist_core.logits.files.formats import label_endings
from cist_core.logits.files.limits import GENEROUS_LIMITS, ReadingLimits
from cist_core.logits.files.names import IDENTIFIER_NAMES, LABEL_NAMES, SAMPLE_LISTS, plain
from cist_core.logits.files.opening import errors_naming, format_of
from cist_core.logits.files.tables import read_column
from cist_core.logits.logit_set import IGNORED_LABEL, LabelArray, as_labels, is_whole_number, label_numbers

_LONGEST_LINE = 200
_MAP_THEM = "map them with --class-map (`class_map=` in Python)"
_PLAIN_NAMES = ("labels", "label", "targets", "target", "y")


@dataclass(frozen=True)
class LabelFile:
    """Labels as a file has them, in any form.

    Attributes:
        values: of the labels.
        name: of their array or column; None where they are all that is there.
        unused: what else the file holds.
        sample_names: what the file calls the samples.
    """

    values: Any
    name: str | None = None
    unused: tuple[str, ...] = ()
    sample_names: Mapping[str, Any] = field(default_factory=dict)


def read_labels(
    path: str | os.PathLike[str],
    *,
    count: int,
    classes: int,
    class_names: Sequence[str] | None = None,
    limits: ReadingLimits = GENEROUS_LIMITS,
) -> LabelArray:
    """Read the labels of ``count`` samples from a file of their own.

    ====================  ==========================================================================================
    ``.npy``              the array itself
    ``.npz``              ``labels`` (or ``y_true``, ``label_ids`` or alike: `LABEL_NAMES`), or the only array
    ``.pt``, ``.pth``     a tensor, or a dict as for ``.npz``
    ``.safetensors``      as ``.npz``
    ``.csv``, ``.tsv``    a header and a column of one of those names, or a single column
    ``.parquet``          as ``.csv``
    ``.txt``              one number or name a line
    ====================  ==========================================================================================

    Whole numbers, names and one-hot rows are taken: see `cist_core.logits.logit_set.label_numbers`.

    Raises:
        CistError: if the file is missing, damaged, of another kind, or its labels are not ``count`` below ``classes``.
    """
    found = open_labels(path, count=count, limits=limits)
    with errors_naming(Path(path)):
        return as_labels(found.values, count, classes, class_names)


def open_labels(path: str | os.PathLike[str], *, count: int, limits: ReadingLimits) -> LabelFile:
    """The labels of a file as they stand there.

    Args:
        path: of the file.
        count: how many are expected, which bounds the size of a text.
        limits: how large the file may be.

    Raises:
        CistError: as `read_labels`.
    """
    source = Path(path)
    kind = format_of(source, label_endings(), "labels")
    with errors_naming(source):
        if kind.holds == "labels":
            return LabelFile(kind.open(source, count))
        if kind.holds == "table":
            column = read_column(kind.open(source, limits))
            return LabelFile(column.values, column.name, column.unused, column.sample_names)
        arrays: StoredArrays = kind.open(source, limits)
        name = arrays.find(LABEL_NAMES) or (next(iter(arrays.arrays)) if len(arrays.arrays) == 1 else None)
        if name is None:
            raise CistError(f"found the arrays {arrays.names()}, but none named 'labels'.")
        naming_them = find_sample_names(arrays, arrays.arrays[name].shape[:1], but=(name,))
        unused = tuple(arrays.described(each) for each in arrays.arrays if each != name and each not in naming_them)
        return LabelFile(arrays.arrays[name].load(), name if len(arrays.arrays) > 1 else None, unused, naming_them)


def find_sample_names(file: StoredArrays, shape: tuple[int, ...], *, but: Sequence[str | None]) -> dict[str, Any]:
    """The lists of a file that name its samples: text, or whole numbers that are all different.

    Args:
        file: of named arrays.
        shape: ``(N,)``.
        but: the arrays that are something else.
    """
    found = {}
    for name, array in file.arrays.items():
        if name not in but and array.shape == shape and plain(name) in (*IDENTIFIER_NAMES, *SAMPLE_LISTS):
            values = np.asarray(array.load())
            if values.dtype.kind in "US" or (values.dtype.kind in "iu" and len(np.unique(values)) == len(values)):
                found[name] = values
    return found


def read_lines(source: Path, count: int) -> Any:
    """Numbers or names of a text file, one a line.

    Args:
        source: path of the file.
        count: how many are expected, which bounds its size.

    Raises:
        CistError: if it is far larger.
    """
    size = source.stat().st_size
    if size > (count + 1) * _LONGEST_LINE:
        raise CistError(f"Expected {count} labels, one a line, but the file has {size:,} bytes.")
    lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
    words = [line for line in lines if line]
    try:
        return np.array([word for line in words for word in line.split()], dtype=np.float64)
    except ValueError:
        return np.array(words, dtype=object)


# ---- as numbers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumberedLabels:
    """Labels by number.

    Attributes:
        numbers: ``(N,)``, -100 where a sample is to be left out; None where there are no labels.
        class_names: of the logits; from the labels where these are names and the logits have none.
        said: what was decided, for people; None where it is plain.
        ignored: why samples are left out; None where none is.
    """

    numbers: LabelArray | None
    class_names: Sequence[str] | None
    said: str | None = None
    ignored: str | None = None


def number_labels(
    labels: Any,
    name: str | None,
    shape: tuple[int, ...],
    *,
    class_names: Sequence[str] | None,
    class_map: ClassMap | None,
) -> NumberedLabels:
    """Labels of a file as numbers of the logits' classes.

    Args:
        labels: in any form; None where there are none.
        name: of their array or column.
        shape: ``(N, C)`` of the logits.
        class_names: C names, or None.
        class_map: from what the labels say to the class; None: they say it themselves.

    Raises:
        CistError: as `label_numbers`, and for a class map without labels or without one of theirs.
    """
    names = None if class_names is None else [str(each) for each in class_names]
    if labels is None:
        if class_map is not None:
            raise CistError("a class map was given, but there are no labels that it could map; add a file of labels.")
        return NumberedLabels(None, names)
    count, classes = shape
    said = [f"from '{name}'"] if name is not None and plain(name) not in _PLAIN_NAMES else []
    fitting = names if names is not None and len(names) == classes else None
    words = _words(labels)
    if class_map is not None:
        values = words if words is not None else label_numbers(labels, count, classes).astype(str).tolist()
        numbers = label_numbers(_mapped(values, class_map, fitting, classes), count, classes)
        said.append("through the class map")
    else:
        if words is not None and fitting is not None and numbers_in(fitting) and not {*words} & {*fitting}:
            fitting = None  # "logit_0", "logit_1", ... name no class
        if words is not None and fitting is None and len(different := {*words} - {""}) == classes:
            order = number_classes(sorted(different), "labels")
            names = fitting = list(order.labels)
            by = "alphabetical order" if numbers_in(names) is None else "order by number"
            said.append(f"names; the columns of the logits were taken to be in their {by}")
        elif words is not None:
            said.append("names of the classes")
        try:
            numbers = label_numbers(labels, count, classes, fitting)
        except CistError as error:
            raise error if words is None else CistError(f"{str(error).rstrip('.')}, or {_MAP_THEM}.") from error
        if words is None and fitting is not None and (named := _numbers_of_columns(numbers, fitting)) is not None:
            numbers = named
            said.append("the numbers in the names of the columns")
        if np.ndim(labels) == 2 and np.size(labels) != count:
            said.append("one-hot, the place of each 1")
    ignored = None
    if (kept := numbers[numbers != IGNORED_LABEL]).size:
        as_labels(kept, len(kept), classes)  # which says what is out of range
    if len(kept) < count:
        ignored = f"label {IGNORED_LABEL}" if class_map is None else f"label {IGNORED_LABEL}, or no class in the map"
    return NumberedLabels(numbers, names, "; ".join(said) or None, ignored)


def _numbers_of_columns(numbers: LabelArray, names: Sequence[str]) -> LabelArray | None:
    """Labels such as 1 to 10 beside columns that are called so; None where they are the places of the columns."""
    called = numbers_in(names)
    different = {*np.unique(numbers).tolist()} - {IGNORED_LABEL}
    if called is None or called == list(range(len(called))) or not different or not different <= {*called}:
        return None
    if 0 in different and max(different) < len(called):
        return None  # places all of them
    table = {number: place for place, number in enumerate(called)} | {IGNORED_LABEL: IGNORED_LABEL}
    return np.array([table[number] for number in numbers.tolist()], np.int64)


def _words(labels: Any) -> list[str] | None:
    """Labels that are names, as text; None for numbers, those written as text included."""
    array = np.asarray(labels) if not hasattr(labels, "dtype") else labels
    if array.dtype.kind not in "OUST" or array.ndim > 2:
        return None
    words = [
        word.decode("utf-8", "replace") if isinstance(word, bytes) else word for word in array.reshape(-1).tolist()
    ]
    texts = ["" if word is None or word != word else str(word).strip() for word in words]
    return None if all(text == "" or is_whole_number(text) for text in texts) else texts


def _mapped(values: Sequence[str], class_map: ClassMap, names: Sequence[str] | None, classes: int) -> NDArray[np.int64]:
    """Numbers of the classes that the map leads to, -100 where it leads to none."""
    table: dict[str, int] = {str(IGNORED_LABEL): IGNORED_LABEL}
    for of_labels, of_logits in class_map.items():
        nothing = of_logits is None or of_logits == ""
        table[str(of_labels)] = IGNORED_LABEL if nothing else find_class(_class(of_logits), names, classes, "The file")
    if names is not None and not all(map(is_whole_number, values)):  # what has a class's own name needs no line
        table = {name: place for place, name in reversed(list(enumerate(names)))} | table
    missing = sorted({*values} - {*table})
    if missing:
        raise CistError(
            f"the class map names no class for the label{'s' * (len(missing) > 1)} "
            f"{', '.join(map(repr, few(missing, 5)))}; name one for each, or map it to nothing, which leaves its "
            "samples out."
        )
    return np.array([table[value] for value in values], np.int64)


def _class(given: Class | None) -> Class:
    assert given is not None
    return given
