"""Tables as files: CSV for spreadsheets, Parquet for programs."""

from __future__ import annotations

from io import BytesIO

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins like this is a formula to a spreadsheet, which runs it when the file is opened (OWASP, "CSV
Injection")."""


def to_csv(frame: pd.DataFrame) -> bytes:
    """The table as CSV in UTF-8, without its index; numbers read back as the same numbers.

    Names come from outside: a text or column name that a spreadsheet would run gets an apostrophe in front, which
    makes it text.

    Example:
        >>> to_csv(pd.DataFrame({"class": ["cat", "=1+1"], "entropy": [0.1, -2.0]}))
        b"class,entropy\\ncat,0.1\\n'=1+1,-2.0\\n"
    """
    safe = frame.set_axis([_harmless(str(name)) for name in frame.columns], axis="columns")
    for position in range(safe.shape[1]):
        column = safe.iloc[:, position]
        if not (is_numeric_dtype(column) or is_bool_dtype(column)):
            safe.isetitem(position, column.map(_harmless).array)
    return safe.to_csv(index=False, lineterminator="\n").encode()


def to_parquet(frame: pd.DataFrame) -> bytes:
    """The table as Parquet, without its index; every column keeps its type."""
    buffer = BytesIO()
    frame.set_axis([str(name) for name in frame.columns], axis="columns").to_parquet(buffer, index=False)
    return buffer.getvalue()


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_RUN_BY_SPREADSHEETS) else cell
