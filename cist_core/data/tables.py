"""Pictures and labels in Parquet files and in the Arrow files that Hugging Face's `datasets` saves."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cist_core.data.collection import ONE_SET, Collection, DataDescription, Loaded, naming
from cist_core.data.decoded import DecodedImages, content_digest
from cist_core.data.inside import Inside
from cist_core.data.labelling import numbered
from cist_core.data.names import MOST_CLASSES, SPLIT_NAMES, split_called
from cist_core.data.table_layout import Layout, find_layout
from cist_core.documents import parse_json, read_document
from cist_core.errors import CistError
from cist_core.logits.class_order import ClassOrder

if TYPE_CHECKING:
    from hashlib import _Hash

MOST_ROWS = 50_000_000
MOST_GROUP_BYTES = 2 << 30
"""Of one row group of a Parquet file, as it has to be read in one piece."""
_CACHE_BYTES = 256 << 20
_SPLIT_FILE = re.compile(rf"({'|'.join(SPLIT_NAMES)})([-_.].*)?\.parquet", re.IGNORECASE)


class TableRows(ABC):
    """Rows of tables with one layout.

    Attributes:
        layout: of each.
    """

    layout: Layout

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def cell(self, index: int) -> tuple[Any, str]:
        """The picture of one row, as Python has it; and what errors call it."""

    @abstractmethod
    def labels(self) -> Any:
        """The column of numbers or names, as Arrow has it."""


class ArrowRows(TableRows):
    """Rows of one Arrow table; a memory-mapped one stays on disk."""

    def __init__(self, table: Any, layout: Layout, name: str) -> None:
        self.layout, self._table, self._name = layout, table, name

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def cell(self, index: int) -> tuple[Any, str]:
        name = f"Image {index} of {self._name}"
        return _content(self._table[self.layout.image][index], name), name

    def labels(self) -> Any:
        return self._table[self.layout.label]


class ParquetRows(TableRows):
    """Rows of Parquet files, one after the other; a row group is read when one of its pictures is asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Raises CistError if a file is damaged, or the files have different columns."""
        import pyarrow.parquet as pq

        layouts, self._groups = [], []
        for file in files:
            with naming(file, "a Parquet file"), pq.ParquetFile(file) as opened:
                layouts.append(find_layout(opened.schema_arrow, str(file)))
                self._groups += [(file, group, _rows(opened, group, file)) for group in range(opened.num_row_groups)]
        self.layout = layouts[0]
        for file, layout in zip(files, layouts, strict=True):
            if layout != self.layout:
                raise CistError(f"{file} has other columns or classes than {files[0]}; keep them in different folders.")
        self._ends = list(accumulate(rows for _, _, rows in self._groups))
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def cell(self, index: int) -> tuple[Any, str]:
        number = bisect_right(self._ends, index)
        file, _, rows = self._groups[number]
        row = index - (self._ends[number] - rows)
        name = f"Image {index} of {file}"
        return _content(self._column(number)[row], name), name

    def labels(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        label, chunks = self.layout.label, []
        for file in dict.fromkeys(file for file, _, _ in self._groups):
            with naming(file, "a Parquet file"), pq.ParquetFile(file, read_dictionary=[label]) as opened:
                chunks += opened.read(columns=[label])[label].chunks
        return pa.chunked_array(chunks)

    def _column(self, number: int) -> Any:
        """The pictures of a row group; the ones read last are kept."""
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
            column = self._read(number)
            self._cache[number] = column
            while len(self._cache) > 1 and sum(kept.nbytes for kept in self._cache.values()) > _CACHE_BYTES:
                self._cache.popitem(last=False)
            return column

    def _read(self, number: int) -> Any:
        import pyarrow.parquet as pq

        file, group, rows = self._groups[number]
        image = self.layout.image
        # As a dictionary, a picture that a small file repeats a million times takes its place once.
        bytes_of = f"{image}.bytes" if self.layout.fields else image
        with naming(file, "a Parquet file"), pq.ParquetFile(file, read_dictionary=[bytes_of]) as opened:
            column = opened.read_row_group(group, columns=[image])[image]
            if len(column) != rows:
                raise CistError(f"{file} promises {rows:,} rows, but holds {len(column):,}; write it again.")
            return column


def _content(cell: Any, name: str) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:  # Arrow does not look into text when it reads it
        raise CistError(f"{name} is damaged: its path is no UTF-8 text; write the file again.") from error


def _rows(opened: Any, group: int, file: Path) -> int:
    found = opened.metadata.row_group(group)
    if not 0 <= found.num_rows <= MOST_ROWS or found.total_byte_size > MOST_GROUP_BYTES:
        raise CistError(
            f"{file} has a row group of {found.num_rows:,} rows and {found.total_byte_size:,} bytes, which is read in "
            f"one piece; write it again in smaller ones (`row_group_size=1000`)."
        )
    return int(found.num_rows)


@dataclass(frozen=True, eq=False)
class TableImages(DecodedImages):
    """Pictures in the rows of tables.

    Attributes:
        rows: where they are.
        positions: of the images among the rows.
        folders: where the file of a picture may lie that a row has the path of, but not the bytes.
    """

    rows: TableRows
    positions: NDArray[np.int64]
    folders: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.positions)

    def picture(self, index: int) -> tuple[Path | bytes, str]:
        cell, name = self.rows.cell(int(self.positions[index]))
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if content is not None:
            return content, name
        if path:
            return self._file(path, name), name
        raise CistError(f"{name} is missing (null); fill it in or remove the row.")

    def _file(self, path: str, name: str) -> Path:
        for folder in self.folders:
            try:
                found = Inside(folder).path(path, where=name)
            except CistError:
                continue
            if found.is_file():
                return found
        raise CistError(
            f"{name} is only named, as {path[:200]!r}, and no such file lies in {self.folders[0]}; "
            "save the pictures themselves in the table."
        )

    def take(self, indices: NDArray[np.integer[Any]]) -> Self:
        return replace(self, positions=self.positions[indices])

    def digest(self) -> _Hash:
        """SHA-256 over the pictures in their order."""
        digest = hashlib.sha256(b"table")
        for index in range(len(self)):
            digest.update(content_digest(*self.picture(index)))
        return digest


class Tables(Collection):
    """Tables of pictures and labels, one for each split.

    Names are numbered over all splits (`number_classes`), so that a class has the same number in each.
    """

    @abstractmethod
    def _open(self) -> dict[str, TableRows]:
        """The rows of each split."""

    @cached_property
    def _tables(self) -> dict[str, TableRows]:
        with naming(self.path, f"a {self.kind}"):
            tables = self._open()
            first = next(iter(tables.values())).layout
            for split, rows in tables.items():
                if rows.layout != first:
                    raise CistError(f"The {split} split of {self.path} has other columns or classes than the others.")
            return tables

    @cached_property
    def _numbered(self) -> tuple[dict[str, NDArray[np.int64]], ClassOrder | None]:
        with naming(self.path, f"a {self.kind}"):
            coded = {
                split: _coded(rows.labels(), f"The {split} split of {self.path}")
                for split, rows in self._tables.items()
            }
            together, order = numbered([value for values, _ in coded.values() for value in values], str(self.path))
            ends = np.cumsum([len(values) for values, _ in coded.values()])[:-1]
            numbers = np.split(together, ends)
            labels = {split: of[places] for (split, (_, places)), of in zip(coded.items(), numbers, strict=True)}
            return labels, order

    @property
    def _labels(self) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...] | None]:
        labels, order = self._numbered
        return labels, next(iter(self._tables.values())).layout.class_names if order is None else order.class_names

    @property
    def unused(self) -> tuple[str, ...]:
        return next(iter(self._tables.values())).layout.unused

    @property
    def class_order(self) -> str | None:
        _, order = self._numbered
        return None if order is None else order.sentence

    def describe(self) -> DataDescription:
        labels, names = self._labels
        largest = max((int(values.max()) for values in labels.values() if len(values)), default=-1)
        classes = len(names) if names is not None else largest + 1
        return DataDescription(
            self.kind, {split: len(rows) for split, rows in self._tables.items()}, classes, names, None
        )

    def read(self, split: str) -> Loaded:
        labels, names = self._labels
        rows = self._tables[split]
        folder = self.path if self.path.is_dir() else self.path.parent
        return TableImages(rows, np.arange(len(rows)), (folder,)), labels[split], names


def _coded(column: Any, where: str) -> tuple[list[str], NDArray[np.int64]]:
    """The different labels as text, and which of them each row has.

    Raises:
        CistError: if a row has none.
    """
    import pyarrow as pa

    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise CistError(f"{where} has no label in row {row}; fill it in or remove the row.")
    if len(column) == 0:
        raise CistError(f"{where} holds no rows.")
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    encoded = encoded.unify_dictionaries()
    values = encoded.chunk(0).dictionary.to_pylist()
    places = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks])
    if None in values:
        raise CistError(f"{where} has a row without a label; fill it in or remove the row.")
    beyond = next((value for value in values if isinstance(value, int) and abs(value) > MOST_CLASSES), None)
    if beyond is not None:
        raise CistError(
            f"{where} has the label {beyond:,}; at most {MOST_CLASSES:,} classes are read. Is it the label?"
        )
    return [str(value) for value in values], places.astype(np.int64)


class ParquetTables(Tables):
    """A Parquet file; or a folder of them, of which names such as ``train-00000-of-00002.parquet`` tell the split.

    The pictures are in a struct of ``bytes`` and ``path``, as Hugging Face writes them, or in a column of bytes; the
    labels are numbers or names in a column ``label``.
    """

    kind: ClassVar[str] = "Parquet table of images"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = {ONE_SET: [path]} if path.is_file() else _split_files(path)

    @classmethod
    def at(cls, path: Path) -> ParquetTables | None:
        """What lies there; None for a folder without Parquet files."""
        return cls(path) if path.is_file() or parquet_files(path) else None

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._files)

    def _open(self) -> dict[str, TableRows]:
        return {split: ParquetRows(files) for split, files in self._files.items()}


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder, or of ``data`` in it, where the hub has them."""
    return sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))


def _split_files(folder: Path) -> dict[str, list[Path]]:
    files, inside = parquet_files(folder), Inside(folder)
    for file in files:
        inside.check(file, where=str(folder))
    matches = {file: _SPLIT_FILE.fullmatch(file.name) for file in files}
    if not any(matches.values()):
        return {ONE_SET: files}
    splits: dict[str, list[Path]] = {}
    for file, match in matches.items():
        if match is None:
            raise CistError(
                f"{folder} holds files of splits, but the name of {file.name} tells none; begin it with "
                "'train-', 'validation-' or 'test-', or move it elsewhere."
            )
        splits.setdefault(split_called(match[1]), []).append(file)
    return splits


class SavedDataset(Tables):
    """A folder that ``save_to_disk`` of Hugging Face's `datasets` wrote; the library itself is not needed."""

    kind: ClassVar[str] = "Hugging Face data set on disk"

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, folder: Path) -> SavedDataset | None:
        """What lies there; None for a folder of another kind."""
        return cls(folder) if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")) else None

    @cached_property
    def _folders(self) -> dict[str, Path]:
        if not (self.path / "dataset_dict.json").is_file():
            return {ONE_SET: self.path}
        names, inside = _json(self.path / "dataset_dict.json").get("splits"), Inside(self.path)
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise CistError(f"{self.path / 'dataset_dict.json'} lists no splits; save the data set again.")
        return {split_called(name): inside.path(name, where=str(self.path)) for name in names}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._folders)

    def _open(self) -> dict[str, TableRows]:
        return {split: _saved_rows(folder) for split, folder in self._folders.items()}


def _saved_rows(folder: Path) -> ArrowRows:
    import pyarrow as pa

    state, inside, tables = folder / "state.json", Inside(folder), []
    entries = _json(state).get("_data_files")
    if not isinstance(entries, list) or not entries:
        raise CistError(f"{state} lists no data files; save the data set again.")
    for entry in entries:
        name = entry.get("filename") if isinstance(entry, dict) else None
        file = inside.path(name if isinstance(name, str) else "", where=str(state))
        with naming(file, "an Arrow file"):
            tables.append(_mapped(file))
    together = pa.concat_tables(tables)
    return ArrowRows(together, find_layout(together.schema, str(folder)), str(folder))


def _mapped(file: Path) -> Any:
    import pyarrow as pa

    size = file.stat().st_size
    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
        layout, batches = find_layout(stream.schema, str(file)), []
        for batch in stream:
            if batch.nbytes > size:  # only if it is compressed, which `datasets` does not do
                raise CistError(f"{file} unpacks to more than its own size; save the data set again.")
            batches.append(batch.select(list(dict.fromkeys((layout.image, layout.label)))))
        schema = batches[0].schema if batches else stream.schema
    table = pa.Table.from_batches(batches, schema)
    table.validate(full=True)  # a wrong offset would be read without a check
    return table


def _json(path: Path) -> dict[str, Any]:
    with naming(path, "JSON"):
        if path.stat().st_size > 64 << 20:
            raise CistError(f"{path} is far too large for what it should hold; save the data set again.")
        found = parse_json(read_document(path))
    return found if isinstance(found, dict) else {}
