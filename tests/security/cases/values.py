"""Values that cannot be logits, or labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from security.case import Hostile, these
from security.forge import BOMB_MIB, GOOD, MEBI, RAW, npy, npy_header, npz, parquet, tensor, write_zip, zeros_after

CASES: list[Hostile] = []

_NAN, _INFINITE = GOOD.copy(), GOOD.copy()
_NAN[2, 1], _INFINITE[2, 1] = np.nan, np.inf
_KINDS: dict[str, Any] = {
    "complex numbers": GOOD.astype(np.complex64),
    "truth values": GOOD > 0,
    "texts": GOOD.astype(str),
    "dates": GOOD.astype("datetime64[s]"),
    "records": np.zeros(4, [("a", "<f4"), ("b", "<f4")]),
    "raw bytes": np.zeros((4, 3), "V8"),
}
CASES += these(
    "logits",
    [
        ("NaN", "nan.npy", npy(_NAN)),
        ("infinite logits", "infinite.npz", npz(logits=_INFINITE)),
        ("NaN in a CSV", "nan.csv", b"a,b\n1,nan\n2,3\n"),
        ("numbers too large for float32 in a CSV", "large.csv", b"a,b\n1,1e300\n2,3\n"),
        *((kind, f"{kind.replace(' ', '-')}.npy", npy(array)) for kind, array in _KINDS.items()),
        ("a single number", "number.npy", npy(np.float32(3))),
        ("a list of numbers", "list.npy", npy(GOOD[0])),
        ("an array of four axes", "axes.npz", npz(logits=GOOD[None, None])),
        ("no samples", "none.npy", npy(GOOD[:0])),
        ("one class", "one.npy", npy(GOOD[:, :1])),
        ("no array called logits among several", "several.npz", npz(a=GOOD, b=GOOD)),
        ("labels of another length", "length.npz", npz(logits=GOOD, labels=np.arange(3))),
        ("labels out of range", "range.npz", npz(logits=GOOD, labels=np.arange(4))),
        ("negative labels", "below.npz", npz(logits=GOOD, labels=np.arange(4) - 1)),
        ("labels that are text", "text.npz", npz(logits=GOOD, labels=np.array(list("abcd")))),
        ("class names of another number", "names.npz", npz(logits=GOOD, classes=np.array(["a"]))),
        ("a dict of words", "words.pt", tensor(lambda: {"a": "b"})),
        ("a list of tensors", "list.pt", tensor(lambda: [torch.zeros(2)])),
        (
            "a quantised tensor",
            "quantised.pt",
            tensor(lambda: torch.quantize_per_tensor(torch.zeros(4, 3), 0.1, 0, torch.qint8)),
        ),
        ("nested columns in a `.parquet`", "nested.parquet", parquet(a=[[1.0], [2.0]], b=[{"x": 1}, {"x": 2}])),
        ("text columns in a `.parquet`", "text.parquet", parquet(a=["=1+1", "<b>"], b=["x", "y"])),
        ("formulas in a CSV", "formula.csv", b"a,b\n=cmd|'/c calc'!A1,2\n1,2\n"),
        ("a CSV with bytes of zero", "zero.csv", b"a,b\n1,\x002\n\x00,\x00\n"),
        ("a CSV that is not UTF-8", "latin.csv", "é,b\nä,2\n".encode("latin-1")),
        ("a CSV with rows of different lengths", "ragged.csv", b"a,b\n1,2\n1,2,3,4\n"),
        ("a CSV whose quote never ends", "quote.csv", b'a,b\n"1,2\n3,4\n'),
        ("a CSV without a header", "header.csv", b"1.5,2.5\n3,4\n"),
        ("a CSV of its header alone", "only.csv", b"a,b\n"),
    ],
)
CASES += these(
    "labels",
    [
        ("labels below 0", "below.txt", b"0 1 -1 2"),
        ("labels beyond the classes", "beyond.csv", b"label\n0\n1\n2\n3\n"),
        ("too few labels", "few.txt", b"0 1 2"),
        ("labels with halves", "half.npy", npy([0, 1, 1.5, 2])),
        ("labels that are NaN", "nan.npy", npy([0, 1, np.nan, 2])),
        ("labels too large for any number", "huge.txt", b"0 1 2 " + b"9" * 5000),
        ("labels in a square", "square.npy", npy([[0, 1], [1, 2]])),
        ("labels that are words", "words.csv", b"label\ncat\ndog\ncat\ndog\n"),
        ("several unnamed label columns", "columns.csv", b"a,b\n0,1\n1,2\n2,0\n0,0\n"),
        ("labels header of 10¹⁵", "shape.npy", npy_header((10**15,), "<i8") + RAW),
        (
            "labels that inflate to 3 GiB",
            "bomb.npz",
            lambda path: write_zip(
                path, [zeros_after("labels.npy", npy_header((BOMB_MIB * MEBI // 8,), "<i8"), BOMB_MIB)]
            ),
        ),
    ],
)


def _twins(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table([[1.0], [2.0]], names=["a", "a"]), path)


CASES += these(
    "logits",
    [
        ("a word in a CSV below 10,000 empty lines", "late.csv", b"a,b,c\n" + b"\n" * 10_000 + b"1,2,x\n"),
        ("a word in a list in a CSV", "listed.csv", b'logits\n"[1, 2]"\n"[1, x]"\n'),
        ("two columns of one name in a `.parquet`", "twins.parquet", _twins),
        ("lists of lists in a `.parquet`", "lists.parquet", parquet(logits=[[[1.0]]])),
        ("a list beside a number in a `.parquet`", "mixed.parquet", parquet(a=[[[1.0]]], b=[1.0])),
        ("lists of different lengths in a `.parquet`", "ragged.parquet", parquet(logits=[[1.0, 2.0], [1.0]])),
        ("a row of nothing in a `.parquet`", "hollow.parquet", parquet(logits=[[1.0, 2.0], None])),
        ("a `.parquet` without rows", "rowless.parquet", parquet(a=[], b=[])),
    ],
)
