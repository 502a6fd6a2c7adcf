"""``.csv`` and ``.parquet``: one row a sample, one column a class; read in blocks, whatever their size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.logits.class_order import are_plain_numbers, counts_up
from cist_core.logits.files.arrays import shortened
from cist_core.logits.files.columns import UNNAMED_FIRST, Kind, Roles, find_roles, in_order, may_name_samples, spoken
from cist_core.logits.files.limits import ReadingLimits
from cist_core.logits.files.names import LABEL_NAMES, LOGIT_NAMES, plain
from cist_core.logits.files.separators import decimal_mark, separator, stated_separator
from cist_core.logits.scratch import scratch_array

BLOCK_VALUES = 1 << 18
BLOCK_BYTES = 1 << 20
_COLUMN_BYTES = 8 << 20  # of parquet columns that are unpacked at once
_TEXT_BYTES = 32 << 20  # of a text table that are parsed at once
_LINES_SEEN = 1000


class Table(Protocol):
    """A file of rows and named columns.

    Attributes:
        names: of the columns.
        most_rows: no table has more.
        hidden_index: whether the rows carry names in a column that the header leaves out.
        known_kinds: of columns whose type the file states and no row can change; those that are no numbers, text or
            lists are not to be read.
    """

    names: list[str]
    most_rows: int
    hidden_index: bool
    known_kinds: dict[int, Kind]

    def blocks(self, columns: Sequence[int]) -> Iterator[tuple[int, Sequence[int], Any]]:
        """Rows from a position on, some of the asked columns, and a data frame of them."""
        ...

    def check_packing(self, limits: ReadingLimits, width: int) -> None:
        """Refuse lists of so many numbers that unfold without an end."""
        ...


@dataclass(frozen=True)
class TableContents:
    """Logits and labels of a table, the classes' names, and the columns that are neither.

    Attributes:
        logits: ``(N, C)``.
        labels: as they stand there, or None.
        class_names: C names; None for a column of lists.
        identifiers: columns that name the samples.
        unused: the others.
        label_column: what the column of the labels is called.
        called: what the logits are called together.
        class_order: where the columns stand in another order than in the file, which one, as a sentence.
        sample_names: the columns that name the samples.
    """

    logits: NDArray[np.float32]
    labels: Any
    class_names: list[str] | None
    identifiers: tuple[str, ...]
    unused: tuple[str, ...] = ()
    label_column: str | None = None
    called: str | None = None
    class_order: str | None = None
    sample_names: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ColumnContents:
    """The labels of a table of their own.

    Attributes:
        values: of the labels.
        name: of their column.
        unused: the other columns that nothing is made of.
        sample_names: those that name the samples.
    """

    values: Any
    name: str
    unused: tuple[str, ...]
    sample_names: Mapping[str, Any]


def read_table(table: Table, limits: ReadingLimits) -> TableContents:
    """The logits and labels of a table; see `find_roles`.

    Raises:
        CistError: for missing headers, columns that cannot be told apart, or a table beyond the limits.
    """
    names = table.names
    if not table.most_rows:
        raise CistError("the table has a header, but no rows of numbers below it.")
    kinds = _first_kinds(table)
    if Kind.LISTS not in kinds:
        _check_header(names, kinds)
    not_identifiers: set[int] = set()
    while True:
        try:
            roles, order = in_order(find_roles(names, kinds, not_identifiers=not_identifiers), names)
        except CistError:
            unseen = _not_identifiers(table, kinds) - not_identifiers
            if not unseen:
                raise
            not_identifiers |= unseen
            continue
        filled = _fill(table, roles, kinds, limits)
        wrong = {each for each in roles.identifiers if not _names_samples(filled.kept[each])}
        if filled.kinds == kinds and not wrong:
            break
        kinds, not_identifiers = filled.kinds, not_identifiers | wrong
    identifiers = [spoken(names[position]) for position in roles.identifiers]
    if table.hidden_index:
        identifiers.insert(0, spoken(UNNAMED_FIRST))
    parts = [filled.row_names, *(filled.kept[position] for position in roles.identifiers)][not table.hidden_index :]
    return TableContents(
        filled.logits,
        None if roles.label is None else _joined(filled.kept[roles.label]),
        None if roles.lists else list(roles.class_names or ()),
        tuple(identifiers),
        tuple(roles.unused.values()),
        None if roles.label is None else names[roles.label],
        roles.called,
        order,
        {name: np.concatenate(each) for name, each in zip(identifiers, parts, strict=True)},
    )


def read_column(table: Table) -> ColumnContents:
    """The column of labels of a table, by its name or as the only one, and those that name the samples.

    Raises:
        CistError: if no column is called so and there are several.
    """
    called = {plain(name): position for position, name in reversed(list(enumerate(table.names)))}
    position = next((called[name] for name in LABEL_NAMES if name in called), None)
    suspects = [place for place, name in enumerate(table.names) if place != position and may_name_samples(name, place)]
    left = [place for place in range(len(table.names)) if place not in suspects]
    if position is None and len(table.names) != 1 and len(left) != 1:
        raise CistError(f"found the columns {shortened(table.names)}, but none named 'label'.")
    position = left[0] if position is None and left else position or 0
    suspects = [place for place in suspects if place != position]
    parts: dict[int, list[Any]] = {place: [] for place in (position, *suspects)}
    index: list[Any] = []
    for _, positions, frame in table.blocks([*parts]):
        index.append(frame.index.to_numpy())
        for number, place in enumerate(positions):
            parts[place].append(frame.iloc[:, number].to_numpy())
    naming = {place: parts[place] for place in suspects if parts[place] and _names_samples(parts[place])}
    others = tuple(spoken(name) for place, name in enumerate(table.names) if place not in (position, *naming))
    names = {spoken(table.names[place]): np.concatenate(each) for place, each in naming.items()}
    if table.hidden_index and index:
        names = {spoken(UNNAMED_FIRST): np.concatenate(index), **names}
    return ColumnContents(_joined(parts[position]), table.names[position], others, names)


def _joined(parts: Sequence[Any]) -> Any:
    values = np.concatenate([np.zeros(0, parts[0].dtype if parts else np.int64), *parts])
    return _matrix(values, 0) if len(values) and _is_list(values[0]) else values


@dataclass(frozen=True)
class _Filled:
    """The matrix, the columns beside it in parts, and what the columns were found to hold."""

    logits: NDArray[np.float32]
    kept: dict[int, list[Any]]
    kinds: list[Kind]
    row_names: list[Any]


def _first_kinds(table: Table) -> list[Kind]:
    """What the columns hold, as far as the first rows tell."""
    kinds = [table.known_kinds.get(position) for position in range(len(table.names))]
    for _, positions, frame in table.blocks([position for position, kind in enumerate(kinds) if kind is None]):
        if all(kinds[position] is not None for position in positions):
            break
        for index, position in enumerate(positions):
            kinds[position] = _kind_of(frame.iloc[:, index])
    return [kind or Kind.WHOLE for kind in kinds]


def _kind_of(values: Any) -> Kind:
    """Of a column, or a part of it."""
    kind = values.dtype.kind
    if kind in "iu":
        return Kind.INTEGERS
    if kind == "f":
        numbers = values.to_numpy()
        return Kind.WHOLE if np.all(~np.isfinite(numbers) | (numbers == np.floor(numbers))) else Kind.FRACTIONS
    if kind == "b":
        return Kind.YES_NO
    if kind not in "OUST":
        return Kind.OTHER
    present = values.dropna()
    if len(present) and _is_list(present.iloc[0]):
        return Kind.LISTS
    if present.map(lambda value: isinstance(value, bool)).all() and len(present):
        return Kind.YES_NO
    import pandas as pd

    numbers = pd.to_numeric(present, errors="coerce").notna()
    return Kind.MIXED if numbers.any() and not numbers.all() else Kind.TEXT


_ORDER = (Kind.INTEGERS, Kind.WHOLE, Kind.FRACTIONS, Kind.MIXED)


def _together(before: Kind, now: Kind) -> Kind:
    """What a column holds of which two parts hold these."""
    if before is now:
        return before
    if before in _ORDER and now in _ORDER:
        return max(before, now, key=_ORDER.index)
    if Kind.LISTS in (before, now) or Kind.OTHER in (before, now):
        return Kind.OTHER
    return Kind.TEXT if {before, now} <= {Kind.TEXT, Kind.YES_NO} else Kind.MIXED


def _fill(table: Table, roles: Roles, kinds: Sequence[Kind], limits: ReadingLimits) -> _Filled:
    width = None if roles.lists else len(roles.classes)
    if width is not None:
        limits.check_shape((table.most_rows, width), "the table")
    place = {position: place for place, position in enumerate(roles.classes)}
    found = list(kinds)
    matrix: NDArray[np.float32] | None = None if width is None else scratch_array((table.most_rows, width), np.float32)
    kept: dict[int, list[Any]] = {
        position: [] for position in (roles.label, *roles.identifiers) if position is not None
    }
    # The others are read too: what they hold further down can change what they are.
    others = [position for position in roles.unused if position not in table.known_kinds]
    rows = 0
    row_names: list[Any] = []
    for start, positions, frame in table.blocks([*roles.classes, *kept, *others]):
        if table.hidden_index:
            row_names.append(frame.index.to_numpy())
        rows = max(rows, start + len(frame))
        if rows > table.most_rows:
            raise CistError(f"the table has more rows than the {table.most_rows:,} that fit its size; write it again.")
        for index, position in enumerate(positions):
            values = frame.iloc[:, index]
            if not (position in place and found[position] is Kind.FRACTIONS and values.dtype.kind == "f"):
                found[position] = _together(found[position], table.known_kinds.get(position) or _kind_of(values))
            if position in kept:
                kept[position].append(values.to_numpy())
        inside = [index for index, position in enumerate(positions) if position in place]
        if roles.lists and inside:
            numbers = _matrix(frame.iloc[:, inside[0]].to_numpy(), start)
            if matrix is None:
                limits.check_shape((table.most_rows, numbers.shape[1]), f"'{table.names[roles.classes[0]]}'")
                table.check_packing(limits, numbers.shape[1])
                matrix = scratch_array((table.most_rows, numbers.shape[1]), np.float32)
            if numbers.shape[1] != matrix.shape[1]:
                raise CistError(
                    f"the list of row {start} has {numbers.shape[1]} numbers, and the one of row 0 {matrix.shape[1]}; "
                    "every row needs one number a class."
                )
            matrix[start : start + len(frame)] = numbers
        elif inside and all(found[position].numeric for position in roles.classes):
            assert matrix is not None
            with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused with its place
                numbers = frame.iloc[:, inside].to_numpy(np.float32)
            matrix[start : start + len(frame), _as_slice([place[positions[index]] for index in inside])] = numbers
    if matrix is None:
        raise CistError("the table has a header, but no rows of numbers below it.")
    return _Filled(matrix[:rows], kept, found, row_names)


def _not_identifiers(table: Table, kinds: Sequence[Kind]) -> set[int]:
    """Columns of whole numbers that are called as if they named the samples, but do not tell them apart."""
    suspects = [
        place
        for place, name in enumerate(table.names)
        if may_name_samples(name, place) and kinds[place] is Kind.INTEGERS
    ]
    parts: dict[int, list[Any]] = {place: [] for place in suspects}
    for _, positions, frame in table.blocks(suspects) if suspects else ():
        for index, place in enumerate(positions):
            parts[place].append(frame.iloc[:, index].to_numpy())
    return {place for place in suspects if not _names_samples(parts[place])}


def _is_list(value: Any) -> bool:
    """Whether a cell holds a list of numbers, or the text of one, as pandas writes it to CSV."""
    if isinstance(value, str):
        return value.lstrip().startswith("[")
    return isinstance(value, list | tuple | np.ndarray)


def _matrix(cells: NDArray[Any], start: int) -> NDArray[np.float32]:
    """Lists of one length as rows."""
    rows: list[NDArray[np.float64]] = []
    for number, cell in enumerate(cells, start):
        try:
            row = np.array(cell.strip().strip("[]").replace(",", " ").split() if isinstance(cell, str) else cell, float)
        except (ValueError, TypeError) as error:
            raise CistError(
                f"the list of row {number} holds something else than numbers ({str(cell)[:40]}); write every number, "
                "and token logits as an array (B, L, C)."
            ) from error
        if row.ndim != 1 or (rows and len(row) != len(rows[0])):
            expected = f"a list of {len(rows[0])} numbers" if rows else "a list of numbers"
            raise CistError(
                f"row {number} holds {'nothing' if row.ndim == 0 else f'{len(row)} numbers'}, where {expected} is "
                "expected; every row needs one number a class."
            )
        rows.append(row)
    with np.errstate(over="ignore"):
        matrix: NDArray[np.float32] = np.stack(rows).astype(np.float32)
    return matrix


def _as_slice(places: list[int]) -> slice | list[int]:
    """Neighbours as a slice, which copies quicker."""
    return slice(places[0], places[-1] + 1) if places == list(range(places[0], places[-1] + 1)) else places


def _check_header(names: Sequence[str], kinds: Sequence[Kind]) -> None:
    """Refuse a first line that is a sample: numbers, but not those of classes."""
    numbered = [position for position, name in enumerate(names) if _is_number(name)]
    numbers = [names[position] for position in numbered]
    if not numbers or numbers == ["0"]:
        return
    first = f"{numbers[0][:40]}, ..."
    if are_plain_numbers(numbers) and len({float(number) for number in numbers}) == len(numbers):
        fractions = any(kinds[position] is Kind.FRACTIONS for position in numbered)
        if fractions or counts_up(numbers):
            return
        raise CistError(
            f"the first line holds numbers ({first}), whole ones like those below it: it may name the classes or be a "
            "sample; call the columns class_0, class_1, ... if it names them, or add a header line above it if not."
        )
    raise CistError(
        f"the first line holds numbers ({first}) where the column names should be, and they are no numbers of classes; "
        "add a header line above it with a name for each class, or 0,1,2 and so on."
    )


def _names_samples(parts: list[Any]) -> bool:
    """Whether a column holds no logits but tells the samples apart: text, or whole numbers that are all different."""
    values = np.concatenate(parts)
    return values.dtype.kind not in "iufb" or (values.dtype.kind in "iu" and len(np.unique(values)) == len(values))


def _is_number(name: str) -> bool:
    """Whether a column is named like a logit: then the name may be one, taken from the first sample."""
    try:
        float(name)
    except ValueError:
        return False
    return True


class CsvTable:
    """A text table with a header line. Columns are separated by commas, semicolons or tabs, whichever the header has.

    Numbers have a decimal comma where the rows show it. No line may be longer than the limits say.

    Raises:
        CistError: for a line that is too long, or rows of more values than the header has names.
    """

    def __init__(self, path: Path, limits: ReadingLimits) -> None:
        import pandas as pd

        self._path = path
        self.known_kinds: dict[int, Kind] = {}
        lines = _count_lines(path, limits)
        self._options = _dialect(path, limits)
        head = pd.read_csv(path, nrows=1, **self._options)
        self.names = [str(column).strip() for column in head.columns]
        self.hidden_index = len(head) > 0 and not isinstance(head.index, pd.RangeIndex)
        if head.index.nlevels > 1:
            raise CistError(
                f"a row has {len(self.names) + head.index.nlevels} values, and the header {len(self.names)} names; "
                "separate columns by semicolons or tabs where numbers have a decimal comma."
            )
        # A full row takes two bytes a column; where there are more lines than that, some are not full.
        size = path.stat().st_size
        self.most_rows = len(head) and min(lines, size // (2 * len(self.names)) + 1)
        self._rows = max(1, min(BLOCK_VALUES // len(self.names), _TEXT_BYTES * max(1, self.most_rows) // max(1, size)))

    def blocks(self, columns: Sequence[int]) -> Iterator[tuple[int, Sequence[int], Any]]:
        import pandas as pd

        start = 0
        with pd.read_csv(self._path, chunksize=self._rows, low_memory=False, **self._options) as frames:
            for frame in frames:
                yield start, columns, frame.iloc[:, list(columns)]
                start += len(frame)

    def check_packing(self, limits: ReadingLimits, width: int) -> None:
        """Text is not packed."""


def _dialect(path: Path, limits: ReadingLimits) -> dict[str, Any]:
    """What pandas has to know of the first lines."""
    with path.open("rb") as stream:
        header = stream.readline(limits.text_bytes).decode("utf-8-sig", "replace")
        below = stream.read(BLOCK_BYTES).decode("utf-8", "replace").splitlines()
    between = stated_separator(header)
    if skipped := between is not None:
        header, below = (below or [""])[0], below[1:]
    between = between or separator(header)
    limits.check_columns(header.count(between) + 1)
    return {"sep": between, "decimal": decimal_mark(below[:_LINES_SEEN], between), "skiprows": int(skipped)}


def _count_lines(path: Path, limits: ReadingLimits) -> int:
    """Lines of a file, none of them too long; a line end between quotes does not end a line."""
    lines, length, quoted = 0, 0, False
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
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


def _promised_bytes(metadata: Any, columns: Sequence[str]) -> int:
    """What some columns of a Parquet file unfold to by its footer, of which equal numbers may be written once."""
    total = 0
    for group in range(metadata.num_row_groups):
        parts = [metadata.row_group(group).column(place) for place in range(metadata.num_columns)]
        for part in parts:
            if part.path_in_schema.partition(".")[0] in columns:
                total += max(part.total_uncompressed_size, 4 * part.num_values)
    return total


class ParquetTable:
    """A parquet file, read one row group and a few columns at a time.

    Args:
        path: of the file.
        limits: on what it may promise.
        nested: whether its lists of lists are wanted (`batches`); else logits in them are refused.

    Raises:
        CistError: if it promises more than the limits, or two columns have one name.
    """

    hidden_index = False

    def __init__(self, path: Path, limits: ReadingLimits, *, nested: bool = False) -> None:
        self._path = path
        with self._open() as file:
            limits.check_text(file.metadata.serialized_size, "the description of the table")
            self._stored = list(file.schema_arrow.names)
            self.most_rows = int(file.metadata.num_rows)
            kinds = {field.name: _stated_kind(field.type) for field in file.schema_arrow}
            index = (file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        if len(set(self._stored)) < len(self._stored):
            raise CistError("two columns have the same name; rename one of them.")
        self._stored = [name for name in self._stored if name not in [each for each in index if isinstance(each, str)]]
        self.names = [name.strip() for name in self._stored]
        limits.check_columns(len(self.names))
        limits.check_shape((self.most_rows, len(self.names)), "the table")
        self.check_packing(limits, len(self.names))
        self.known_kinds = {
            position: kind for position, name in enumerate(self._stored) if (kind := kinds[name]) is not None
        }
        deep = [name for name in self._stored if kinds[name] is Kind.OTHER and plain(name) in LOGIT_NAMES]
        if deep and not nested:
            raise CistError(
                f"column '{deep[0]}' holds neither numbers nor lists of numbers; store one list of numbers a row, "
                "and token logits as an array (B, L, C)."
            )

    def check_packing(self, limits: ReadingLimits, width: int) -> None:
        limits.check_packing(4 * self.most_rows * width, self._path.stat().st_size, "the table")

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self._path, memory_map=True, buffer_size=1 << 16, pre_buffer=False)

    def batches(self, columns: Sequence[str], *, rows: int, limits: ReadingLimits) -> Iterator[Any]:
        """Some columns as Arrow has them, a few rows at a time: for lists of lists, which are no columns of a frame."""
        packed, unpacked = self._path.stat().st_size, 0
        with self._open() as file:
            limits.check_packing(_promised_bytes(file.metadata, columns), packed, "the table")
            for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                unpacked += batch.nbytes
                limits.check_packing(unpacked, packed, "the table")
                yield batch

    def blocks(self, columns: Sequence[int]) -> Iterator[tuple[int, Sequence[int], Any]]:
        lists = [[position] for position in columns if self.known_kinds.get(position) is Kind.LISTS]
        single = [position for position in columns if self.known_kinds.get(position) is not Kind.LISTS]
        start = 0
        with self._open() as file:
            step = max(1, _COLUMN_BYTES // max(1, _column_bytes(file)))
            parts = [single[begin : begin + step] for begin in range(0, len(single), step)] + lists
            for group in range(file.metadata.num_row_groups):
                expected = file.metadata.row_group(group).num_rows
                for part in parts:
                    wanted = [self._stored[position] for position in part]
                    width = self._width(file, group, wanted[0]) if part in lists else len(part)
                    rows = max(1, BLOCK_VALUES // max(1, width))
                    done = 0
                    for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=wanted):
                        frame = batch.to_pandas(ignore_metadata=True)[wanted]
                        yield start + done, part, frame
                        done += len(frame)
                    if done != expected:
                        raise CistError(f"a group of rows promises {expected:,} and holds {done:,}; write it again.")
                start += expected

    @staticmethod
    def _width(file: Any, group: int, column: str) -> int:
        """Numbers in the first list of a row group."""
        for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=[column]):
            first = batch.column(0)[0].as_py()
            return 1 if first is None else len(first)
        return 1


def _stated_kind(kind: Any) -> Kind | None:
    """What the type of a column says that its rows hold; None where it is to be seen in them."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        return (
            Kind.LISTS if types.is_floating(inner) or types.is_integer(inner) or types.is_boolean(inner) else Kind.OTHER
        )
    value = kind.value_type if types.is_dictionary(kind) else kind
    plain_types = (
        types.is_floating, types.is_integer, types.is_boolean, types.is_string, types.is_large_string, types.is_null,
    )  # fmt: skip
    return None if any(test(value) for test in plain_types) else Kind.OTHER


def _column_bytes(file: Any) -> int:
    """What unpacking a column of the largest row group holds in memory: its pages are of a megabyte or so.

    A mean, as the columns of logits are alike: pyarrow ends the whole process over damage in the description of one.
    """
    groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
    means = (group.total_byte_size // max(1, group.num_columns) for group in groups)
    return min(max(means, default=0), 2 << 20)
