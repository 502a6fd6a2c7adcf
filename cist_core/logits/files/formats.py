"""The kinds of files that logits and labels are read from: the one list, which help, forms and errors read as well.

A new kind is one module with a reader, and one entry here; or `register_logit_format` from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cist_core.logits.files.limits import ReadingLimits
from cist_core.registry import imported

Holds = Literal["array", "arrays", "table", "labels"]


@dataclass(frozen=True)
class LogitFormat:
    """One kind of file.

    Attributes:
        name: for people, as in "a NumPy array".
        endings: of file names, in small letters; the most usual first.
        holds: ``"array"`` (one, without a name), ``"arrays"`` (named), ``"table"`` (rows and named columns), or
            ``"labels"`` (no logits).
        reader: from ``(path, limits)`` to `cist_core.logits.files.arrays.StoredArrays`, or for a table to
            `cist_core.logits.files.tables.Table`; for labels from ``(path, number of samples)`` to the labels. As
            ``"package.module:name"`` it is imported when such a file is opened.
        extra: of this project, which brings what the reader needs beyond the usual libraries.
    """

    name: str
    endings: tuple[str, ...]
    holds: Holds
    reader: str | Callable[[Path, Any], Any]
    extra: str | None = None

    def open(self, path: Path, given: ReadingLimits | int) -> Any:
        """What the reader makes of a file.

        Raises:
            CistError: as the reader, or if a library that it needs is not installed.
        """
        return imported(self.reader, extra=self.extra, purpose=f"Reading {self.endings[0]} files")(path, given)


_HERE = "cist_core.logits.files"
FORMATS = [
    LogitFormat("safetensors", (".safetensors",), "arrays", f"{_HERE}.safetensors_files:open_safetensors"),
    LogitFormat("NumPy array", (".npy",), "array", f"{_HERE}.numpy_files:open_npy"),
    LogitFormat("NumPy archive", (".npz",), "arrays", f"{_HERE}.numpy_files:open_npz"),
    LogitFormat("PyTorch tensors", (".pt", ".pth"), "arrays", f"{_HERE}.torch_files:open_torch"),
    LogitFormat("text table", (".csv", ".tsv"), "table", f"{_HERE}.tables:CsvTable"),
    LogitFormat("Parquet table", (".parquet",), "table", f"{_HERE}.tables:ParquetTable"),
    LogitFormat("text, one label a line", (".txt",), "labels", f"{_HERE}.labels:read_lines"),
]


def register_logit_format(logit_format: LogitFormat) -> None:
    """Make a kind of file known to `read_logits`, and so to the command line, the app and error sentences.

    Raises:
        ValueError: if an ending is another format's.
    """
    for ending in logit_format.endings:
        if (other := find_format(ending)) is not None:
            raise ValueError(f"The ending '{ending}' belongs to the format '{other.name}' already.")
    FORMATS.append(logit_format)


def logit_formats() -> tuple[LogitFormat, ...]:
    """All that are known."""
    return tuple(FORMATS)


def find_format(ending: str) -> LogitFormat | None:
    """The format of files with an ending, in whatever letters; None for an unknown one.

    Example:
        >>> find_format(".NPZ").name
        'NumPy archive'
    """
    return next((each for each in FORMATS if ending.lower() in each.endings), None)


def logit_endings(*holds: Holds) -> list[str]:
    """Of the files that logits are read from; with arguments, of those that hold such.

    Example:
        >>> logit_endings("table")
        ['.csv', '.tsv', '.parquet']
    """
    wanted = holds or ("array", "arrays", "table")
    return [ending for each in FORMATS if each.holds in wanted for ending in each.endings]


def label_endings() -> list[str]:
    """Of the files that labels are read from: those of logits, and texts."""
    return [*logit_endings(), *logit_endings("labels")]
