"""Labels from a file of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cist_core.errors import CistError
from cist_core.logit_files.limits import GENEROUS_LIMITS, Limits
from cist_core.logit_files.names import LABEL_NAMES
from cist_core.logit_files.opening import ARRAY_FILES, TABLE_FILES, existing_file, naming
from cist_core.logit_files.tables import read_column
from cist_core.logits import LabelArray, as_labels

_ENDINGS = [".npy", ".npz", ".pt", ".pth", ".csv", ".parquet", ".txt"]
_LONGEST_LINE = 64


def read_labels(
    path: str | os.PathLike[str], *, count: int, classes: int, limits: Limits = GENEROUS_LIMITS
) -> LabelArray:
    """Read the labels of ``count`` samples from a file of their own.

    ====================  ==========================================================================================
    ``.npy``              the array itself
    ``.npz``              ``labels`` (or ``label``, ``targets``, ``target``, ``y``), or the only array
    ``.pt``, ``.pth``     a tensor, or a dict as for ``.npz``
    ``.csv``              a header and a column of one of those names, or a single column
    ``.parquet``          as ``.csv``
    ``.txt``              one number a line
    ====================  ==========================================================================================

    Raises:
        CistError: if the file is missing, damaged, of another kind, or its labels are not ``count`` below ``classes``.
    """
    source = Path(path)
    suffix = existing_file(source, _ENDINGS, "labels")
    with naming(source):
        if suffix in TABLE_FILES:
            labels = read_column(TABLE_FILES[suffix](source, limits))
        elif suffix == ".txt":
            labels = _lines(source, count)
        else:
            labels = _array(source, suffix, limits)
        return as_labels(labels, count, classes)


def _array(source: Path, suffix: str, limits: Limits) -> Any:
    arrays = ARRAY_FILES[suffix](source, limits)
    name = arrays.find(LABEL_NAMES) or (next(iter(arrays.arrays)) if len(arrays.arrays) == 1 else None)
    if name is None:
        raise CistError(f"found the arrays {arrays.names()}, but none named 'labels'.")
    return arrays.arrays[name].load()


def _lines(source: Path, count: int) -> Any:
    size = source.stat().st_size
    if size > (count + 1) * _LONGEST_LINE:
        raise CistError(f"Expected {count} labels, one number a line, but the file has {size:,} bytes.")
    words = source.read_text(encoding="utf-8").split()
    try:
        return np.array(words, dtype=np.float64)
    except ValueError as error:
        raise CistError("expected one whole number a line, the position of the class of each sample.") from error
