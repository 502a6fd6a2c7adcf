"""``.csv`` and ``.parquet``: one row a sample, one column a class; read in blocks, whatever their size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.logit_files.arrays import shortened
from cist_core.logit_files.limits import Limits
from cist_core.logit_files.names import IDENTIFIER_NAMES, LABEL_NAMES
from cist_core.logits import as_labels
from cist_core.scratch import scratch_array

_UNNAMED_FIRST = "Unnamed: 0"  # to pandas
_BLOCK_VALUES = 1 << 18
_BLOCK_BYTES = 1 << 20
_COLUMN_BYTES = 8 << 20  # of parquet columns that are unpacked at once


class Table(Protocol):
    """A file of rows and named columns.

    Attributes:
        names: of the columns.
        most_rows: no table has more.
        hidden_index: whether the rows carry names in a column that the header leaves out.
    """

    names: list[str]
    most_rows: int
    hidden_index: bool

    def blocks(self, columns: Sequence[int]) -> Iterator[tuple[int, Sequence[int], Any]]:
        """Rows from a position on, some of the asked columns, and a data frame of them."""
        ...


@dataclass(frozen=True)
class TableContents:
    """Logits and labels of a table, the classes' names, and the columns that are neither."""

    logits: NDArray[np.float32]
    labels: Any
    class_names: list[str]
    identifiers: tuple[str, ...]


def read_table(table: Table, limits: Limits) -> TableContents:
    """The logits and labels of a table.

    Raises:
        CistError: for missing headers, columns that are no numbers, or a table beyond the limits.
    """
    names = table.names
    _check_header(names)
    label = _label_position(names)
    classes = [position for position in range(len(names)) if position != label]
    suspects = [position for position in classes if _may_name_samples(names[position], position)]
    while True:
        columns = [position for position in classes if position not in suspects]
        filled = _fill(table, columns, label, suspects, limits)
        wrong = [position for position in suspects if not _names_samples(filled.kept[position])]
        if not wrong:
            break
        suspects = [position for position in suspects if position not in wrong]
    identifiers = [_spoken(names[position]) for position in suspects]
    if table.hidden_index:
        identifiers.insert(0, _spoken(_UNNAMED_FIRST))
    labels = None if label is None else np.concatenate([np.zeros(0, np.int64), *filled.kept[label]])
    return TableContents(filled.logits, labels, [names[position] for position in columns], tuple(identifiers))


def read_column(table: Table) -> Any:
    """The column of labels of a table: by its name, or the only one.

    Raises:
        CistError: if no column is called so and there are several.
    """
    position = _label_position(table.names)
    if position is None and len(table.names) != 1:
        raise CistError(f"found the columns {shortened(table.names)}, but none named 'label'.")
    values = [frame.iloc[:, 0].to_numpy() for _, _, frame in table.blocks([position or 0])]
    return np.concatenate(values) if values else np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Filled:
    """The matrix, and the columns beside it in parts; a part that is no number is None."""

    logits: NDArray[np.float32]
    kept: dict[int, list[Any]] = field(default_factory=dict)


def _fill(table: Table, columns: Sequence[int], label: int | None, suspects: Sequence[int], limits: Limits) -> _Filled:
    for position in columns:
        if table.names[position].startswith("Unnamed:"):  # what pandas calls a column without a name
            raise CistError(f"column {position + 1} has no name; give it that of its class, or remove it.")
    limits.check_shape((table.most_rows, len(columns)), "the table")
    place = {position: place for place, position in enumerate(columns)}
    matrix = scratch_array((table.most_rows, len(columns)), np.float32)
    kept: dict[int, list[Any]] = {position: [] for position in [label, *suspects] if position is not None}
    rows = 0
    if not table.most_rows:
        raise CistError("the table has a header, but no rows of numbers below it.")
    for start, positions, frame in table.blocks([*columns, *kept]):
        rows = max(rows, start + len(frame))
        if rows > len(matrix):
            raise CistError(f"the table has more rows than the {len(matrix):,} that fit its size; write it again.")
        inside = [index for index, position in enumerate(positions) if position in place]
        for index, position in enumerate(positions):
            values = frame.iloc[:, index]
            if position in kept:
                kept[position].append(_kept(values, position == label, len(columns)))
            elif values.dtype.kind not in "fiu":
                raise CistError(
                    f"column '{table.names[position]}' is not numeric; keep one numeric column a class and, optionally,"
                    " a column 'label' and one that names the samples, such as 'id' or 'filename'."
                )
        if inside:
            with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused with its place
                numbers = frame.iloc[:, inside].to_numpy(np.float32)
            matrix[start : start + len(frame), _as_slice([place[positions[index]] for index in inside])] = numbers
    return _Filled(matrix[:rows], kept)


def _as_slice(places: list[int]) -> slice | list[int]:
    """Neighbours as a slice, which copies quicker."""
    return slice(places[0], places[-1] + 1) if places == list(range(places[0], places[-1] + 1)) else places


def _kept(values: Any, is_label: bool, classes: int) -> Any:
    if values.dtype.kind in "fiu":
        return values.to_numpy()
    if is_label:
        as_labels(values.to_numpy(), len(values), classes)  # raises the sentence about labels
    return None


def _check_header(names: Sequence[str]) -> None:
    numbers = [name for name in names if _is_number(name)]
    if numbers != [str(index) for index in range(len(numbers))]:
        raise CistError(
            f"the first line holds numbers ({numbers[0][:40]}, ...) where the column names should be; "
            "add a header line with a name for each class, or 0, 1, 2 and so on."
        )


def _label_position(names: Sequence[str]) -> int | None:
    return next((position for position, name in enumerate(names) if name.lower() in LABEL_NAMES), None)


def _may_name_samples(name: str, position: int) -> bool:
    return name.lower() in IDENTIFIER_NAMES or (position == 0 and name == _UNNAMED_FIRST)


def _names_samples(parts: list[Any]) -> bool:
    """Whether a column holds no logits but tells the samples apart: text, or whole numbers that are all different."""
    if not parts or any(part is None for part in parts):
        return bool(parts)
    values = np.concatenate(parts)
    return values.dtype.kind in "iu" and len(np.unique(values)) == len(values)


def _spoken(name: str) -> str:
    return "the first, without a name" if name == _UNNAMED_FIRST else name


def _is_number(name: str) -> bool:
    """Whether a column is named like a logit: then the name may be one, taken from the first sample."""
    try:
        float(name)
    except ValueError:
        return False
    return True


class CsvTable:
    """A comma-separated file with a header line. No line of it may be longer than the limits say.

    Raises:
        CistError: for a line that is too long.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        import pandas as pd

        self._path = path
        lines = _count_lines(path, limits)
        with path.open("rb") as stream:
            limits.check_columns(stream.readline(limits.text_bytes).count(b",") + 1)
        head = pd.read_csv(path, nrows=1)
        self.names = [str(column).strip() for column in head.columns]
        self.hidden_index = len(head) > 0 and not isinstance(head.index, pd.RangeIndex)
        # A full row takes two bytes a column; where there are more lines than that, some are not full.
        self.most_rows = len(head) and min(lines, path.stat().st_size // (2 * len(self.names)) + 1)

    def blocks(self, columns: Sequence[int]) -> Iterator[tuple[int, Sequence[int], Any]]:
        import pandas as pd

        rows = max(1, _BLOCK_VALUES // len(self.names))
        start = 0
        with pd.read_csv(self._path, chunksize=rows, low_memory=False) as frames:
            for frame in frames:
                yield start, columns, frame.iloc[:, list(columns)]
                start += len(frame)


def _count_lines(path: Path, limits: Limits) -> int:
    """Lines of a file, none of them too long; a line end between quotes does not end a line."""
    lines, length, quoted = 0, 0, False
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            lines += block.count(b"\n") + block.count(b"\r")
            ends, quoted = _line_ends(block, quoted)
            gaps = np.diff(ends, prepend=-1 - length, append=len(block)) if len(ends) else None
            limits.check_text(length + len(block) if gaps is None else int(gaps.max()), "one line")
            length = length + len(block) if gaps is None else int(gaps[-1])
    return lines + 1


def _line_ends(block: bytes, quoted: bool) -> tuple[NDArray[np.int64], bool]:
    """Where lines end in a block, and whether it ends between quotes."""
    letters = np.frombuffer(block, np.uint8)
    ends = (letters == ord("\n")) | (letters == ord("\r"))
    if quoted or b'"' in block:
        inside = (np.cumsum(letters == ord('"')) + quoted) % 2 == 1
        return np.flatnonzero(ends & ~inside), bool(inside[-1])
    return np.flatnonzero(ends), False


class ParquetTable:
    """A parquet file, read one row group and a few columns at a time.

    Raises:
        CistError: if it promises more than the limits, or two columns have one name.
    """

    hidden_index = False

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        with self._open() as file:
            limits.check_text(file.metadata.serialized_size, "the description of the table")
            self._stored = list(file.schema_arrow.names)
            self.most_rows = int(file.metadata.num_rows)
            index = (file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        if len(set(self._stored)) < len(self._stored):
            raise CistError("two columns have the same name; rename one of them.")
        self._stored = [name for name in self._stored if name not in [each for each in index if isinstance(each, str)]]
        self.names = [name.strip() for name in self._stored]
        limits.check_columns(len(self.names))
        limits.check_shape((self.most_rows, len(self.names)), "the table")
        limits.check_packing(4 * self.most_rows * len(self.names), path.stat().st_size, "the table")

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self._path, memory_map=True, buffer_size=1 << 16, pre_buffer=False)

    def blocks(self, columns: Sequence[int]) -> Iterator[tuple[int, Sequence[int], Any]]:
        start = 0
        with self._open() as file:
            step = max(1, _COLUMN_BYTES // max(1, _column_bytes(file)))
            for group in range(file.metadata.num_row_groups):
                expected = file.metadata.row_group(group).num_rows
                for begin in range(0, len(columns), step):
                    part = columns[begin : begin + step]
                    rows = max(1, _BLOCK_VALUES // len(part))
                    wanted = [self._stored[position] for position in part]
                    done = 0
                    for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=wanted):
                        frame = batch.to_pandas(ignore_metadata=True)[wanted]
                        yield start + done, part, frame
                        done += len(frame)
                    if done != expected:
                        raise CistError(f"a group of rows promises {expected:,} and holds {done:,}; write it again.")
                start += expected


def _column_bytes(file: Any) -> int:
    """What unpacking a column of the largest row group holds in memory: its pages are of a megabyte or so.

    A mean, as the columns of logits are alike: pyarrow ends the whole process over damage in the description of one.
    """
    groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
    means = (group.total_byte_size // max(1, group.num_columns) for group in groups)
    return min(max(means, default=0), 2 << 20)
