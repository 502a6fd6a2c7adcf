"""A CSV file of image paths and labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cist_core.data.collection import ONE_SET, Collection, DataDescription, Loaded, naming
from cist_core.data.folder import FolderImages
from cist_core.data.inside import Inside
from cist_core.data.labelling import numbered, one_of
from cist_core.data.names import split_called
from cist_core.errors import CistError
from cist_core.logits.class_order import ClassOrder
from cist_core.logits.files.names import LABEL_NAMES
from cist_core.logits.files.separators import separator, stated_separator

PATH_COLUMNS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "image_name",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "subset", "partition")
MOST_BYTES = 256 << 20


class _Rows(NamedTuple):
    paths: list[str]
    labels: NDArray[np.int64]
    order: ClassOrder | None
    splits: list[str]
    unused: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return None if self.order is None else self.order.class_names


class PathTable(Collection):
    """A header with a column of paths and one of labels; a column ``split`` if there are splits.

    Paths are relative to the folder of the file and do not lead out of it. Labels are numbers from 0, or names, which
    are numbered by `number_classes`. Columns are separated by commas, semicolons or tabs.
    """

    kind: ClassVar[str] = "CSV file of paths and labels"

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _rows(self) -> _Rows:
        """Raises CistError if the file is not such a table."""
        with naming(self.path, "a CSV file"):
            return _parse(self.path)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._rows.splits))

    @property
    def unused(self) -> tuple[str, ...]:
        return self._rows.unused

    @property
    def class_order(self) -> str | None:
        return None if self._rows.order is None else self._rows.order.sentence

    def describe(self) -> DataDescription:
        rows = self._rows
        counts: dict[str, int | None] = {split: rows.splits.count(split) for split in self.splits}
        classes = len(rows.class_names) if rows.class_names is not None else int(rows.labels.max()) + 1
        return DataDescription(self.kind, counts, classes, rows.class_names, None)

    def read(self, split: str) -> Loaded:
        rows, inside = self._rows, Inside(self.path.parent)
        chosen = [index for index, value in enumerate(rows.splits) if value == split]
        files = []
        for index in chosen:
            where = f"Row {index + 1} of {self.path}"
            file = inside.path(rows.paths[index], where=where)
            if not file.is_file():
                raise CistError(f"{where} names {rows.paths[index]!r}, but there is no such file in {file.parent}.")
            files.append(file)
        return FolderImages(self.path.parent, tuple(files)), rows.labels[chosen], rows.class_names


def _parse(path: Path) -> _Rows:
    table, columns = _table(path)
    file, label = (one_of(columns, names) for names in (PATH_COLUMNS, LABEL_NAMES))
    if file is None or label is None:
        missing, names = ("paths", PATH_COLUMNS) if file is None else ("labels", ("label",))
        raise CistError(
            f"{path} has the columns {[column[:40] for column in columns[:20]]}, but none of {missing}; "
            f"call it '{names[0]}' in the first line."
        )
    places = {name: columns.index(name) for name in (file, label)}
    split = one_of(columns, SPLIT_COLUMNS)
    rows: list[list[str]] = []
    for row in table:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise CistError(
                f"Row {len(rows) + 1} of {path} has {len(row)} values, but there are {len(columns)} columns; "
                "put a value that holds the separator in quotes."
            )
        rows.append(row)
    if not rows:
        raise CistError(f"{path} holds no rows below its header.")
    labels, order = numbered([row[places[label]].strip() for row in rows], str(path))
    splits = [split_called(row[columns.index(split)].strip()) if split is not None else ONE_SET for row in rows]
    unused = tuple(column[:40] for column in columns if column not in (file, label, split))
    return _Rows([row[places[file]].strip() for row in rows], labels, order, splits, unused)


def _table(path: Path) -> tuple[Iterator[list[str]], list[str]]:
    """The rows below the header, and the names in it."""
    if path.stat().st_size > MOST_BYTES:
        raise CistError(f"{path} is larger than {MOST_BYTES:,} bytes; a table of paths is not: is it another file?")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CistError(f"{path} is not UTF-8 text (byte {error.start:,}); save it as UTF-8.") from error
    first, _, below = text.partition("\n")
    between = stated_separator(first)
    text = text if between is None else below
    between = between or separator(first)
    table = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    return table, [column.strip() for column in next(table, [])]
