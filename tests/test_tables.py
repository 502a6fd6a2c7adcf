"""Tables as files: what is read back, and what a spreadsheet must not run."""

import csv
from io import BytesIO, StringIO

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cist_core.tables import to_csv, to_parquet


def typed() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class": ["cat", "dog, τ", 'a "b"'],
            "samples": np.array([1, 2, 2**53 + 1], np.int64),
            "entropy": [1 / 3, -1e-300, np.nan],
            "half": np.array([0.1, -2.5, 3.0], np.float32),
            "correct": [True, False, True],
        }
    )


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_numbers_come_back_from_csv_to_the_last_bit(values: list[float]) -> None:
    rows = list(csv.reader(StringIO(to_csv(pd.DataFrame({"value": values})).decode())))
    assert rows[0] == ["value"]
    assert [float(row[0]) for row in rows[1:]] == values


def test_csv_keeps_text_counts_and_truth() -> None:
    rows = list(csv.reader(StringIO(to_csv(typed()).decode("utf-8"))))
    assert rows[1] == ["cat", "1", repr(1 / 3), "0.1", "True"]
    assert rows[2] == ["dog, τ", "2", "-1e-300", "-2.5", "False"]
    assert rows[3] == ['a "b"', str(2**53 + 1), "", "3.0", "True"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
@pytest.mark.parametrize("dtype", ["str", "object", "category"])
def test_text_that_a_spreadsheet_would_run_is_text(start: str, dtype: str) -> None:
    danger = f'{start}HYPERLINK("http://example.org")'
    frame = pd.DataFrame({"name": pd.Series([danger, "plain", None], dtype=dtype), "value": [-1.0, 2.0, 3.0]})
    rows = list(csv.reader(StringIO(to_csv(frame).decode(), newline="")))
    assert rows[1] == [f"'{danger}", "-1.0"]
    assert rows[2] == ["plain", "2.0"]
    assert rows[3] == ["", "3.0"]
    assert frame["name"].iloc[0] == danger, "the caller's table was changed"


def test_column_names_are_made_harmless_and_may_repeat() -> None:
    frame = pd.DataFrame([["=a", 1, "=b"]], columns=["=SUM(A1)", 7, "=SUM(A1)"])
    assert to_csv(frame) == b"'=SUM(A1),7,'=SUM(A1)\n'=a,1,'=b\n"
    assert list(frame.columns) == ["=SUM(A1)", 7, "=SUM(A1)"]


def test_an_empty_table_is_its_head() -> None:
    assert to_csv(typed().iloc[:0]) == b"class,samples,entropy,half,correct\n"
    assert pq.read_table(BytesIO(to_parquet(typed().iloc[:0]))).num_rows == 0


def test_parquet_keeps_types_and_values() -> None:
    frame = typed().set_index(pd.Index([5, 3, 9]))
    table = pq.read_table(BytesIO(to_parquet(frame)))
    assert table.column_names == list(frame.columns)
    kinds = [str(field.type).removeprefix("large_") for field in table.schema]
    assert kinds == ["string", "int64", "double", "float", "bool"]
    assert table["samples"].to_pylist() == [1, 2, 2**53 + 1]
    assert table["entropy"].to_pylist()[:2] == [1 / 3, -1e-300]
    assert table["half"].to_pylist() == [np.float32(0.1), -2.5, 3.0]
    assert table["class"].to_pylist() == ["cat", "dog, τ", 'a "b"']


def test_parquet_keeps_dangerous_text_as_it_is_because_nothing_runs_it() -> None:
    frame = pd.DataFrame({0: ["=1+1"]})
    assert pq.read_table(BytesIO(to_parquet(frame))).to_pydict() == {"0": ["=1+1"]}
