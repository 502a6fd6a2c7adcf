"""What a file calls its samples: two files that do are joined by these names, not by position."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core.documents import parse_json
from cist_core.errors import CistError, first_line
from cist_core.plain_text import written_out

NO_NAME = "the first, without a name"
"""The column that pandas writes for the index of a table."""
_NAMES_SHOWN = 3


@dataclass(frozen=True, eq=False)
class SampleNames:
    """Columns that tell samples apart, by what they are called.

    Attributes:
        columns: each ``(N,)``, of whole numbers or of text.
    """

    columns: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, columns: Mapping[str, ArrayLike], count: int) -> SampleNames | None:
        """Columns as they are read, with text `written_out`; None where there are none.

        Raises:
            CistError: for a column of another length.
        """
        kept = {}
        for name, values in columns.items():
            array = np.asarray(values)
            if array.shape != (count,):
                raise CistError(f"Expected {count:,} names of samples in '{name}', but got the shape {array.shape}.")
            if array.dtype.kind not in "iu":
                array = np.array([written_out(str(value).strip()) for value in array])
            kept[written_out(name)] = array
        return cls(kept) if kept else None

    @classmethod
    def from_bytes(cls, content: bytes, count: int) -> SampleNames | None:
        """What `to_bytes` has written.

        Raises:
            CistError: if it is something else.
        """
        try:
            columns = parse_json(content)
            return cls.of({str(name): np.array(values) for name, values in columns.items()}, count)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CistError(
                f"the names of the samples are damaged ({first_line(error)}); write the file again."
            ) from error

    def to_bytes(self) -> bytes:
        """JSON in UTF-8, as long as a multiple of 8 bytes."""
        content = json.dumps({name: values.tolist() for name, values in self.columns.items()}).encode()
        return content + b" " * (-len(content) % 8)

    def take(self, indices: NDArray[Any]) -> SampleNames:
        """Those of the samples at the given positions."""
        return SampleNames({name: values[indices] for name, values in self.columns.items()})

    @cached_property
    def words(self) -> str:
        """The names of the columns, for sentences."""
        return ", ".join(self.columns)


@dataclass(frozen=True)
class Match:
    """Where the samples of one file are in another.

    Attributes:
        positions: in the other, of each of the one's samples; None where they are in the same order already.
        column: by which they were found.
    """

    positions: NDArray[np.int64] | None
    column: str


def match_samples(
    ours: SampleNames | None, theirs: SampleNames | None, *, name: str, of: str = "the teacher", part: bool = False
) -> Match | None:
    """Find the samples of one file in another by their names.

    Columns of one name are compared, whatever its case and number, text before numbers; failing these, any of text.

    Args:
        ours: of the file whose order is kept.
        theirs: of the other.
        name: the other file, as errors are to call it.
        of: the first, likewise.
        part: whether the other may have further samples.

    Returns:
        None where the files do not name their samples alike, so that only their positions can be compared.

    Raises:
        CistError: if both name their samples, but they are not the same ones, or a name that is in another place is
            there twice.

    Example:
        >>> ours = SampleNames.of({"file": ["a.png", "b.png", "c.png"]}, 3)
        >>> theirs = SampleNames.of({"file": ["c.png", "a.png", "b.png"]}, 3)
        >>> match_samples(ours, theirs, name="the student").positions
        array([1, 2, 0])
    """
    if ours is None or theirs is None:
        return None
    faults = []
    for mine, other, column in _comparable(ours, theirs):
        if np.array_equal(mine, other):
            return Match(None, column)
        fault = _fault(mine, other, column, name, of, part)
        if fault is None:
            order = np.argsort(other, kind="stable")
            return Match(order[np.searchsorted(other, mine, sorter=order)], column)
        if column != NO_NAME or not (_counts(mine) or _counts(other)):
            faults.append(fault)
    if faults:
        raise CistError(faults[0])
    return None


def _comparable(ours: SampleNames, theirs: SampleNames) -> list[tuple[NDArray[Any], NDArray[Any], str]]:
    """Pairs of columns that can name the same samples, the most telling first."""
    by_name = {_bare(column): values for column, values in theirs.columns.items()}
    alike = [
        (values, by_name[_bare(column)], column) for column, values in ours.columns.items() if _bare(column) in by_name
    ]
    pairs = [(*_as_one_type(mine, other), column) for mine, other, column in alike]
    pairs.sort(key=lambda pair: pair[0].dtype.kind in "iu")
    if any(pair[0].dtype.kind not in "iu" for pair in pairs):
        return pairs
    texts = [values for values in theirs.columns.values() if values.dtype.kind not in "iu"]
    across = [
        (values, other, column)
        for column, values in ours.columns.items()
        if values.dtype.kind not in "iu"
        for other in texts
    ]
    return across + pairs


def _bare(column: str) -> str:
    """``sample_ids`` of a file of arrays is ``Sample ID`` of a table."""
    return re.sub(r"[\W_]+", "", column.casefold()).removesuffix("s")


def _as_one_type(mine: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if (mine.dtype.kind in "iu") == (other.dtype.kind in "iu"):
        return mine, other
    return mine.astype(str), other.astype(str)


def _fault(mine: NDArray[Any], other: NDArray[Any], column: str, name: str, of: str, part: bool) -> str | None:
    """Why two columns in different orders cannot be joined; None where they can."""
    only_mine, only_other = np.setdiff1d(mine, other), np.setdiff1d(other, mine)[: 0 if part else None]
    if len(only_mine) or len(only_other):
        parts = [
            f"{len(names):,} are only in {where} ({_listed(names)})"
            for names, where in ((only_mine, of), (only_other, name))
            if len(names)
        ]
        return (
            f"Expected {name} to be of the samples of {of}, but by '{column}' {' and '.join(parts)}; use the same data "
            "for both, or leave the names out of one file if both are in the same order."
        )
    for values, where in ((mine, of), (other, name)):
        different, counts = np.unique(values, return_counts=True)
        if counts.max() > 1:
            return (
                f"Expected {name} to name its samples in the order of {of}, or each by a name of its own, but "
                f"'{different[counts.argmax()]}' is in '{column}' of {where} {counts.max():,} times; give every "
                "sample one name."
            )
    return None


def _counts(values: NDArray[Any]) -> bool:
    """Whether numbers only count the rows, from 0 or 1."""
    if values.dtype.kind not in "iu":
        return False
    return any(np.array_equal(values, np.arange(first, first + len(values))) for first in (0, 1))


def _listed(names: Sequence[Any] | NDArray[Any]) -> str:
    shown = [f"'{str(name)[:40]}'" for name in names[:_NAMES_SHOWN]]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
