"""Files that should not open: what is in each, and who has to refuse it.

The sentences that they are refused with stand in ``docs/security.md``.

``python tests/security/hostile.py run FOLDER`` makes them all and opens each in a process of its own; it prints a JSON
line a file. ``python tests/security/hostile.py table`` puts the refused-input table into ``docs/security.md``.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from security.forge import (
    MEBI,
    Payload,
    black,
    flag_beside,
    npy_header,
    payload,
    png,
    safetensors,
    stored,
    write_zip,
    zeros_after,
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- refused: begin -->", "<!-- refused: end -->"

SAMPLES, CLASSES = 4, 3
"""Of the logits that labels are read for."""


@dataclass(frozen=True)
class Hostile:
    """One file or folder that must be refused.

    Attributes:
        what: in words, for people; no two of one reader are alike.
        file: its name.
        reader: a key of `READERS`.
        make: puts it at a path.
        needs: a package that has to be installed for this to be looked at, or empty.
    """

    what: str
    file: str
    reader: str
    make: Callable[[Path], object]
    needs: str = ""


CATALOGUE: list[Hostile] = []


def these(reader: str, cases: Iterable[tuple[str, str, bytes | Callable[[Path], object]]], *, needs: str = "") -> None:
    """Add several: what, file, and either the content or what makes it."""
    for what, file, content in cases:
        make = (lambda path, content=content: path.write_bytes(content)) if isinstance(content, bytes) else content
        CATALOGUE.append(Hostile(what, file, reader, make, needs))


# ---------------------------------------------------------------------------------------------------- the readers


def _logits(path: Path) -> None:
    from cist_core.logits.files import UPLOAD_LIMITS, read_logits

    read_logits(path, limits=UPLOAD_LIMITS)


def _labels(path: Path) -> None:
    from cist_core.logits.files import read_labels

    read_labels(path, count=SAMPLES, classes=CLASSES)


def _own(path: Path) -> None:
    from cist_core import LogitSet

    LogitSet.load(path)


def _checkpoint(path: Path) -> None:
    from cist_core.zoo import load_checkpoint

    load_checkpoint(path)


def _teacher(path: Path) -> None:
    from cist_core.inference.sources import find_teacher

    find_teacher(str(path))


def _data(path: Path) -> None:
    from cist_core.data import load_dataset

    dataset = load_dataset(path)
    dataset.images[np.arange(dataset.num_samples)]


def _card(path: Path) -> None:
    from cist_core.cards import sample_models

    os.environ["CIST_SAMPLE_MODELS"] = str(path)
    sample_models()


READERS: dict[str, Callable[[Path], None]] = {
    "logits": _logits,
    "labels": _labels,
    "our own logits": _own,
    "checkpoint": _checkpoint,
    "teacher": _teacher,
    "data": _data,
    "card": _card,
}

# --------------------------------------------------------------------------------------------- pickles with a payload


def _torch_save(path: Path, content: object, *, legacy: bool = False) -> None:
    import torch

    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def _numpy_pickle(path: Path) -> None:
    np.save(path, np.array([Payload(flag_beside(path))] * SAMPLES, dtype=object), allow_pickle=True)


def _npz_pickle(path: Path) -> None:
    inner = io.BytesIO()
    np.save(inner, np.array([Payload(flag_beside(path))], dtype=object), allow_pickle=True)
    write_zip(path, [stored("logits.npy", inner.getvalue()), stored("images.npy", inner.getvalue())])


def _joblib(path: Path) -> None:
    import joblib

    joblib.dump({"logits": Payload(flag_beside(path))}, path)


for _ending in (".pt", ".pth"):
    for _reader, _name in (("logits", "logits"), ("checkpoint", "teacher")):
        these(
            _reader,
            [
                (
                    f"`{_ending}` whose pickle runs code",
                    f"payload-{_name}{_ending}",
                    lambda path: _torch_save(path, {"logits": Payload(flag_beside(path))}),
                ),
                (
                    f"`{_ending}` of the old layout whose pickle runs code",
                    f"legacy-{_name}{_ending}",
                    lambda path: _torch_save(path, {"logits": Payload(flag_beside(path))}, legacy=True),
                ),
                (
                    f"bare pickle that runs code, called `{_ending}`",
                    f"pickle-{_name}{_ending}",
                    lambda path: path.write_bytes(payload(path)),
                ),
            ],
        )
these(
    "logits",
    [
        ("`.npy` of pickled objects", "objects.npy", _numpy_pickle),
        ("`.npz` of pickled objects", "objects.npz", _npz_pickle),
        ("pickle called `.npy`", "pickle.npy", lambda path: path.write_bytes(payload(path))),
        ("pickle called `.npz`", "pickle.npz", lambda path: path.write_bytes(payload(path))),
        ("pickle called `.csv`", "pickle.csv", lambda path: path.write_bytes(payload(path))),
        ("pickle called `.parquet`", "pickle.parquet", lambda path: path.write_bytes(payload(path))),
        ("pickle called `.safetensors`", "pickle.safetensors", lambda path: path.write_bytes(payload(path))),
        ("joblib dump", "dump.joblib", _joblib),
        ("pickle under its own ending", "logits.pkl", lambda path: path.write_bytes(payload(path))),
    ],
)
these(
    "labels",
    [
        ("labels as pickled objects", "labels.npy", _numpy_pickle),
        ("labels as a pickle called `.txt`", "labels.txt", lambda path: path.write_bytes(payload(path))),
    ],
)
these("data", [("image archive of pickled objects", "images.npz", _npz_pickle)])
these(
    "checkpoint",
    [
        (
            "`.bin` checkpoint whose pickle runs code",
            "pytorch_model.bin",
            lambda path: _torch_save(path, {"w": Payload(flag_beside(path))}),
        ),
        (
            "`.th` checkpoint whose pickle runs code",
            "model.th",
            lambda path: _torch_save(path, {"w": Payload(flag_beside(path))}),
        ),
        ("joblib dump as a checkpoint", "model.joblib", _joblib),
        ("TorchScript program", "script.pt", lambda path: _torchscript(path)),
        ("checkpoint that holds a whole network", "network.pt", lambda path: _torch_save(path, _network())),
    ],
)


def _network() -> object:
    from torch import nn

    return nn.Linear(2, 2)


def _torchscript(path: Path) -> None:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(_network()), path)


# ------------------------------------------------------------------------------------------------------------- bombs

BOMB_MIB = 3072


def _npz_bomb(path: Path) -> None:
    rows = BOMB_MIB * MEBI // 40
    write_zip(path, [zeros_after("logits.npy", npy_header((rows, 10)), BOMB_MIB)])


def _npz_overlap(path: Path) -> None:
    one = zeros_after("a.npy", npy_header((64 * MEBI // 40, 10)), 64)
    write_zip(path, [one] * 2000, once=True)


def _npz_nested(path: Path) -> None:
    inner = path.with_suffix(".inner")
    write_zip(inner, [zeros_after("logits.npy", npy_header((64 * MEBI // 40, 10)), 64)])
    write_zip(path, [stored("inner.zip", inner.read_bytes())])
    inner.unlink()


def _npz_many(path: Path) -> None:
    empty = npy_header((0,))
    write_zip(path, [stored(f"{index}.npy", empty) for index in range(50_000)])


def _torch_parts(path: Path, content: object) -> tuple[str, dict[str, bytes]]:
    _torch_save(path, content)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    return next(iter(parts)).split("/")[0], parts


def _torch_bomb(path: Path) -> None:
    """A float32 storage that torch inflates: 3 GiB of zeros."""
    import torch

    rows = BOMB_MIB * MEBI // 40
    root, parts = _torch_parts(path, {"logits": torch.zeros(7, 10)})
    text = parts[f"{root}/data.pkl"]
    # K<n> is a small integer of the pickle, J<n> one of four bytes: the 7 rows become very many, 70 values likewise.
    text = text.replace(b"K\x07", b"J" + struct.pack("<i", rows)).replace(b"KF", b"J" + struct.pack("<i", rows * 10))
    members = [
        zeros_after(name, b"", BOMB_MIB)
        if name.endswith("data/0")
        else stored(name, text if name.endswith("data.pkl") else body)
        for name, body in parts.items()
    ]
    write_zip(path, members)


def _torch_expanded(path: Path, *, rows: int = 1_000_000, columns: int = 100_000) -> None:
    import torch

    _torch_save(path, {"logits": torch.zeros(1).expand(rows, columns)})


def _checkpoint_expanded(path: Path) -> None:
    import torch

    state = _small_state()
    head = [name for name, tensor in state.items() if tensor.ndim == 2][-1]
    wide = state[head].shape[1]
    state[head] = torch.zeros(1).expand(2_000_000_000, wide)
    bias = head.replace("weight", "bias")
    if bias in state:
        state[bias] = torch.zeros(1).expand(2_000_000_000)
    _torch_save(path, state)


def _small_state(classes: int = 10) -> dict[str, Any]:
    from cist_core.zoo import ARCHITECTURES

    return dict(ARCHITECTURES["resnet8"].build(classes).state_dict())


def _checkpoint_meta(path: Path) -> None:
    import torch

    _torch_save(path, {"fc.weight": torch.empty(10**9, 10**6, device="meta")})


def _parquet_bomb(path: Path) -> None:
    """Zeros that take a byte in thousands of values: 2 GiB as float64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.array(np.zeros(1 << 20, np.float32))
    table = pa.table({f"c{index}": column for index in range(64)})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(4):
            writer.write_table(table)


def _images_bomb(path: Path) -> None:
    count = BOMB_MIB * MEBI // 3072
    labels = npy_header((count,), "|u1")
    write_zip(
        path,
        [
            zeros_after("images.npy", npy_header((count, 32, 32, 3), "|u1"), BOMB_MIB),
            zeros_after("labels.npy", labels, count // MEBI + 1),
        ],
    )


these(
    "logits",
    [
        ("`.npz` that inflates to 3 GiB (1 kB of file for each MiB)", "bomb.npz", _npz_bomb),
        ("`.npz` whose 2,000 entries are one and the same 64 MiB", "overlap.npz", _npz_overlap),
        ("`.npz` in an `.npz`", "nested.npz", _npz_nested),
        ("`.npz` of 50,000 arrays", "many.npz", _npz_many),
        (
            "`.npz` entry that inflates to more than it claims",
            "lying.npz",
            lambda path: write_zip(path, [zeros_after("logits.npy", npy_header((4, 3)), 1024, claimed=176)]),
        ),
        ("`.pt` whose tensor inflates to 3 GiB", "bomb.pt", _torch_bomb),
        ("`.pt` tensor of one number, expanded to 10¹¹", "expanded.pt", _torch_expanded),
        ("`.parquet` of 4 MB that decodes to 1 GiB", "bomb.parquet", _parquet_bomb),
        (
            "`.csv` with one field of 64 MiB",
            "field.csv",
            lambda path: path.write_bytes(b"a,b\n1," + b"x" * (64 * MEBI) + b"\n"),
        ),
        (
            "`.csv` with 200,000 columns",
            "columns.csv",
            lambda path: path.write_text(
                "\n".join([",".join(f"c{i}" for i in range(200_000)), ",".join("1" * 200_000), ",".join("x" * 200_000)])
            ),
        ),
    ],
)
these(
    "checkpoint",
    [
        ("checkpoint with a head of 2·10⁹ classes made of one number", "wide.pt", _checkpoint_expanded),
        ("checkpoint of meta tensors", "meta.pt", _checkpoint_meta),
        ("checkpoint whose tensor inflates to 3 GiB", "bomb-teacher.pt", _torch_bomb),
    ],
)
these("data", [("image archive that inflates to 3 GiB", "bomb.npz", _images_bomb)])


# ---------------------------------------------------------------------------------------------------- lying headers

_RAW = np.arange(12, dtype=np.float32).tobytes()


def _npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array))
    return buffer.getvalue()


def _table(**columns: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)

    return make


def _tensor(content: Callable[[], object]) -> Callable[[Path], None]:
    return lambda path: _torch_save(path, content())


def _torch() -> Any:
    import torch

    return torch


_ENTRY = {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}
_GOOD = np.array([[2.0, 0, -1], [0, 3, 0], [-1, 0, 1], [4, 1, 2]], np.float32)

these(
    "logits",
    [
        ("`.npy` header of 10¹⁵ rows", "shape.npy", npy_header((10**15, 10)) + _RAW),
        ("`.npy` header with a negative shape", "negative.npy", npy_header((-4, -3)) + _RAW),
        ("`.npy` header whose size overflows", "overflow.npy", npy_header((2**33, 2**33)) + _RAW),
        ("`.npy` header that is no shape", "words.npy", npy_header("(4, 3)") + _RAW),
        (
            "`.npy` header nested a thousand deep",
            "deep.npy",
            b"\x93NUMPY\x01\x00" + struct.pack("<H", 8000) + (b"(" * 4000 + b")" * 3999 + b"\n") + b" ",
        ),
        ("`.npy` in Fortran order with 10⁹ rows", "fortran.npy", npy_header((10**9, 10**6), fortran=True) + _RAW),
        (
            "`.npy` of a version that does not exist",
            "version.npy",
            b"\x93NUMPY\x09\x00" + npy_header((4, 3))[8:] + _RAW,
        ),
        (
            "`.npz` member of 10¹² rows",
            "shape.npz",
            lambda path: write_zip(path, [stored("logits.npy", npy_header((10**12, 10)) + _RAW)]),
        ),
        (
            "`.npz` of texts 2 GiB wide each",
            "wide.npz",
            lambda path: write_zip(path, [stored("logits.npy", npy_header((1, 2), "<U500000000") + _RAW)]),
        ),
        ("encrypted `.npz`", "secret.npz", lambda path: write_zip(path, [stored("logits.npy", _npy(_GOOD), flags=1)])),
        (
            "`.npz` with a directory that lies about offsets",
            "offsets.npz",
            lambda path: path.write_bytes(_npz(logits=_GOOD).replace(b"PK\x03\x04", b"PK\x03\x05")),
        ),
        (
            "`.npz` entry with a wrong checksum",
            "checksum.npz",
            lambda path: path.write_bytes(_npz(logits=_GOOD).replace(np.float32(3).tobytes(), np.float32(5).tobytes())),
        ),
        ("`.safetensors` header of 2⁶³ bytes", "long.safetensors", safetensors({"logits": _ENTRY}, _RAW, length=2**63)),
        (
            "`.safetensors` tensor beyond the end of the file",
            "beyond.safetensors",
            safetensors({"logits": _ENTRY | {"data_offsets": [0, 2**40], "shape": [2**37, 2]}}, _RAW),
        ),
        (
            "`.safetensors` shape whose product overflows",
            "overflow.safetensors",
            safetensors({"logits": _ENTRY | {"shape": [2**33, 2**33]}}, _RAW),
        ),
        (
            "`.safetensors` tensors that overlap",
            "overlap.safetensors",
            safetensors({"logits": _ENTRY, "labels": {"dtype": "I32", "shape": [4], "data_offsets": [8, 24]}}, _RAW),
        ),
        (
            "`.safetensors` with a negative offset",
            "minus.safetensors",
            safetensors({"logits": _ENTRY | {"data_offsets": [-48, 0]}}, _RAW),
        ),
        ("`.safetensors` header nested 100,000 deep", "deep.safetensors", safetensors(b"[" * 100_000)),
        ("`.safetensors` header that is no JSON", "json.safetensors", safetensors(b"{'logits': 1}")),
        (
            "`.safetensors` of an unknown number format",
            "format.safetensors",
            safetensors({"logits": _ENTRY | {"dtype": "F77"}}, _RAW),
        ),
        (
            "`.safetensors` whose class names are no list",
            "names.safetensors",
            safetensors({"__metadata__": {"class_names": "3"}, "logits": _ENTRY}, _RAW),
        ),
        (
            "`.safetensors` whose class names nest 100,000 deep",
            "names-deep.safetensors",
            safetensors({"__metadata__": {"class_names": "[" * 100_000}, "logits": _ENTRY}, _RAW),
        ),
        (
            "`.safetensors` whose provenance is a list",
            "origin.safetensors",
            safetensors({"__metadata__": {"provenance": "[1, 2]"}, "logits": _ENTRY}, _RAW),
        ),
        ("`.parquet` of two magic words", "magic.parquet", b"PAR1" + bytes(16) + b"PAR1"),
        ("`.parquet` whose footer claims 4 GiB", "footer.parquet", b"PAR1" + bytes(64) + b"\xff\xff\xff\xffPAR1"),
        ("`.pt` of meta tensors", "meta.pt", _tensor(lambda: _torch().empty(10**9, 10**3, device="meta"))),
        (
            "`.pt` of a sparse tensor of 10¹⁸ places",
            "sparse.pt",
            _tensor(lambda: _torch().sparse_coo_tensor(_torch().zeros(2, 1).long(), _torch().ones(1), (10**9, 10**9))),
        ),
    ],
)
these(
    "our own logits",
    [
        (
            "our own file whose class names nest 100,000 deep",
            "own-names.safetensors",
            safetensors({"__metadata__": {"class_names": "[" * 100_000}, "logits": _ENTRY}, _RAW),
        ),
        (
            "our own file whose provenance is a number",
            "own-origin.safetensors",
            safetensors({"__metadata__": {"provenance": "7"}, "logits": _ENTRY}, _RAW),
        ),
        (
            "our own file without data",
            "own-empty.safetensors",
            safetensors({"logits": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}),
        ),
    ],
)


# ------------------------------------------------------------------------------------- values that cannot be logits

_NAN, _INFINITE = _GOOD.copy(), _GOOD.copy()
_NAN[2, 1], _INFINITE[2, 1] = np.nan, np.inf
_KINDS: dict[str, Any] = {
    "complex numbers": _GOOD.astype(np.complex64),
    "truth values": _GOOD > 0,
    "texts": _GOOD.astype(str),
    "dates": _GOOD.astype("datetime64[s]"),
    "records": np.zeros(4, [("a", "<f4"), ("b", "<f4")]),
    "raw bytes": np.zeros((4, 3), "V8"),
}
these(
    "logits",
    [
        ("NaN", "nan.npy", _npy(_NAN)),
        ("infinite logits", "infinite.npz", _npz(logits=_INFINITE)),
        ("NaN in a CSV", "nan.csv", b"a,b\n1,nan\n2,3\n"),
        ("numbers too large for float32 in a CSV", "large.csv", b"a,b\n1,1e300\n2,3\n"),
        *((kind, f"{kind.replace(' ', '-')}.npy", _npy(array)) for kind, array in _KINDS.items()),
        ("a single number", "number.npy", _npy(np.float32(3))),
        ("a list of numbers", "list.npy", _npy(_GOOD[0])),
        ("an array of four axes", "axes.npz", _npz(logits=_GOOD[None, None])),
        ("no samples", "none.npy", _npy(_GOOD[:0])),
        ("one class", "one.npy", _npy(_GOOD[:, :1])),
        ("no array called logits among several", "several.npz", _npz(a=_GOOD, b=_GOOD)),
        ("labels of another length", "length.npz", _npz(logits=_GOOD, labels=np.arange(3))),
        ("labels out of range", "range.npz", _npz(logits=_GOOD, labels=np.arange(4))),
        ("negative labels", "below.npz", _npz(logits=_GOOD, labels=np.arange(4) - 1)),
        ("labels that are text", "text.npz", _npz(logits=_GOOD, labels=np.array(list("abcd")))),
        ("class names of another number", "names.npz", _npz(logits=_GOOD, classes=np.array(["a"]))),
        ("a dict of words", "words.pt", _tensor(lambda: {"a": "b"})),
        ("a list of tensors", "list.pt", _tensor(lambda: [_torch().zeros(2)])),
        (
            "a quantised tensor",
            "quantised.pt",
            _tensor(lambda: _torch().quantize_per_tensor(_torch().zeros(4, 3), 0.1, 0, _torch().qint8)),
        ),
        ("nested columns in a `.parquet`", "nested.parquet", _table(a=[[1.0], [2.0]], b=[{"x": 1}, {"x": 2}])),
        ("text columns in a `.parquet`", "text.parquet", _table(a=["=1+1", "<b>"], b=["x", "y"])),
        ("formulas in a CSV", "formula.csv", b"a,b\n=cmd|'/c calc'!A1,2\n1,2\n"),
        ("a CSV with bytes of zero", "zero.csv", b"a,b\n1,\x002\n\x00,\x00\n"),
        ("a CSV that is not UTF-8", "latin.csv", "é,b\nä,2\n".encode("latin-1")),
        ("a CSV with rows of different lengths", "ragged.csv", b"a,b\n1,2\n1,2,3,4\n"),
        ("a CSV whose quote never ends", "quote.csv", b'a,b\n"1,2\n3,4\n'),
        ("a CSV without a header", "header.csv", b"1.5,2.5\n3,4\n"),
        ("a CSV of its header alone", "only.csv", b"a,b\n"),
    ],
)
these(
    "labels",
    [
        ("labels below 0", "below.txt", b"0 1 -1 2"),
        ("labels beyond the classes", "beyond.csv", b"label\n0\n1\n2\n3\n"),
        ("too few labels", "few.txt", b"0 1 2"),
        ("labels with halves", "half.npy", _npy([0, 1, 1.5, 2])),
        ("labels that are NaN", "nan.npy", _npy([0, 1, np.nan, 2])),
        ("labels too large for any number", "huge.txt", b"0 1 2 " + b"9" * 5000),
        ("labels in a square", "square.npy", _npy([[0, 1], [1, 2]])),
        ("labels that are words", "words.csv", b"label\ncat\ndog\ncat\ndog\n"),
        ("several unnamed label columns", "columns.csv", b"a,b\n0,1\n1,2\n2,0\n0,0\n"),
        ("labels header of 10¹⁵", "shape.npy", npy_header((10**15,), "<i8") + _RAW),
        (
            "labels that inflate to 3 GiB",
            "bomb.npz",
            lambda path: write_zip(
                path, [zeros_after("labels.npy", npy_header((BOMB_MIB * MEBI // 8,), "<i8"), BOMB_MIB)]
            ),
        ),
    ],
)

# ------------------------------------------------------------------------------------- damage, emptiness, wrong names

these(
    "logits",
    [
        (f"an empty file called `{ending}`", f"empty{ending}", b"")
        for ending in (".npy", ".npz", ".pt", ".csv", ".parquet", ".safetensors")
    ],
)
these(
    "logits",
    [
        (f"a picture called `{ending}`", f"picture{ending}", png(1, 1))
        for ending in (".npy", ".npz", ".pt", ".csv", ".parquet", ".safetensors")
    ],
)
these(
    "logits",
    [
        ("a ZIP that is also a picture", "polyglot.npz", png(1, 1) + _npz(words=np.array(["a"]))),
        ("a web page called `.csv`", "page.csv", b"<!DOCTYPE html>\n<script>alert(1)</script>\n<p>1,2</p>\n"),
        ("a name without an ending", "logits", _npy(_GOOD)),
        ("a compressed CSV called `.csv`", "packed.csv", zlib.compress(b"a,b\n1,2\n" * 50)),
    ],
)
these(
    "checkpoint",
    [
        ("an empty checkpoint", "empty.pt", b""),
        ("a picture called `.pth`", "picture.pth", png(1, 1)),
        ("a checkpoint without weights", "options.pt", _tensor(lambda: {"epoch": 3})),
        ("a checkpoint of an unknown network", "unknown.pt", _tensor(lambda: {"layer.weight": _torch().zeros(3, 4)})),
        (
            "a checkpoint with NaN",
            "nan.pt",
            lambda path: _torch_save(
                path, {name: (t * float("nan") if t.is_floating_point() else t) for name, t in _small_state().items()}
            ),
        ),
        (
            "a checkpoint of complex weights",
            "complex.pt",
            lambda path: _torch_save(path, {name: t.to(_torch().complex64) for name, t in _small_state().items()}),
        ),
        (
            "a `.safetensors` checkpoint whose header lies",
            "beyond.safetensors",
            safetensors({"w": _ENTRY | {"data_offsets": [0, 2**40], "shape": [2**37, 2]}}, _RAW),
        ),
        ("a `.safetensors` checkpoint nested 100,000 deep", "deep.safetensors", safetensors(b"[" * 100_000)),
        ("a self-containing checkpoint", "loop.pt", lambda path: _loop(path)),
    ],
)


def _loop(path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    _torch_save(path, content)


# ------------------------------------------------------------------------------------------------------------- images


def _pictures(**files: bytes) -> Callable[[Path], None]:
    """A folder of two classes: a good picture in the first, the given files in the second."""

    def make(path: Path) -> None:
        for name, content in {"cat/good.png": png(1, 1), **files}.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)

    return make


def _one(name: str, content: bytes) -> Callable[[Path], None]:
    return _pictures(**{f"dog/{name}": content})


def _drawn(name: str, draw: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: _one(name, draw())(path)


def _linked(path: Path) -> None:
    _pictures()(path)
    outside = path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.png").write_bytes(png(2, 2))
    (path / "dog").mkdir()
    (path / "dog" / "link.png").symlink_to(outside / "secret.png")


def _linked_folder(path: Path) -> None:
    _pictures()(path)
    outside = path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.png").write_bytes(png(2, 2))
    (path / "dog").symlink_to(outside, target_is_directory=True)


def _circle(path: Path) -> None:
    _pictures()(path)
    (path / "dog").mkdir()
    (path / "dog" / "self.png").symlink_to("self.png")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
these(
    "data",
    [
        (
            "picture of 30,000 × 30,000 in 900 kB",
            "bomb-pictures",
            _drawn("bomb.png", lambda: png(30_000, 30_000, black(30_000, 30_000))),
        ),
        (
            "picture of 12,000 × 12,000, below what Pillow refuses",
            "large-pictures",
            _drawn("large.png", lambda: png(12_000, 12_000, black(12_000, 12_000))),
        ),
        ("picture header of 2³¹ × 2³¹", "header-pictures", _one("header.png", png(2**31 - 1, 2**31 - 1))),
        (
            "picture whose comment inflates to 64 MiB",
            "comment-pictures",
            _drawn("comment.png", lambda: png(1, 1, chunks=[(b"zTXt", b"c\0\0" + zlib.compress(bytes(64 * MEBI)))])),
        ),
        (
            "picture cut short",
            "short-pictures",
            _one("short.png", png(64, 64, zlib.compress(np.random.default_rng(1).bytes(65 * 64)))[:2000]),
        ),
        ("SVG called `.png`", "svg-pictures", _one("drawing.png", _SVG)),
        ("PostScript called `.png`, which Pillow would hand to Ghostscript", "eps-pictures", _one("program.png", EPS)),
        ("text called `.jpg`", "text-pictures", _one("text.jpg", b"hello")),
        ("empty picture", "empty-pictures", _one("empty.png", b"")),
        ("link to a picture outside of the folder", "linked-pictures", _linked),
        ("class folder that is a link to elsewhere", "linked-classes", _linked_folder),
        ("link to itself", "circle-pictures", _circle),
        ("folder of one class", "one-class", lambda path: _pictures()(path)),
        ("image archive without labels", "unlabelled.npz", _npz(images=np.zeros((2, 4, 4), np.uint8))),
        ("image archive of floats", "floats.npz", _npz(images=np.zeros((2, 4, 4)), labels=np.arange(2))),
        (
            "image archive with labels of another length",
            "length.npz",
            _npz(images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(3)),
        ),
        (
            "image archive with negative labels",
            "negative.npz",
            _npz(images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2) - 1),
        ),
        (
            "image archive with a label of 10¹⁸",
            "classes.npz",
            _npz(images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 10**18])),
        ),
        ("image archive of no size", "flat.npz", _npz(images=np.zeros((2, 0, 4), np.uint8), labels=np.arange(2))),
        ("image archive cut short", "short.npz", _npz(images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2))[:200]),
        (
            "image archive header of 10¹² pictures",
            "shape.npz",
            lambda path: write_zip(
                path,
                [
                    stored("images.npy", npy_header((10**12, 32, 32, 3), "|u1")),
                    stored("labels.npy", npy_header((10**12,), "<i8")),
                ],
            ),
        ),
        ("data of no known kind", "data.mp4", b"x"),
    ],
)


def _table_of_paths(row: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        (path.parent / "good.png").write_bytes(png(1, 1))
        (path.parent.parent / "secret.png").write_bytes(png(1, 1))
        path.write_text(f"path,label\ngood.png,cat\n{row},dog\n")

    return make


these(
    "data",
    [
        ("list of paths that leads out of its folder", "climbing.csv", _table_of_paths("../secret.png")),
        ("list of paths that names a file of the system", "absolute.csv", _table_of_paths("/etc/passwd")),
        ("list of paths with an address", "address.csv", _table_of_paths("http://127.0.0.1/a.png")),
        ("list of paths with a byte of zero", "zero.csv", _table_of_paths("a\0.png")),
        ("list of paths without labels", "labels.csv", b"path,size\na.png,3\n"),
    ],
)

# ---------------------------------------------------------------------------------------- networks without their code


def _onnx(location: str = "", *, domain: str = "") -> Callable[[Path], None]:
    """A classifier whose weights lie in another file, or whose operator is somebody's own."""

    def make(path: Path) -> None:
        from onnx import TensorProto, helper, numpy_helper

        weight = numpy_helper.from_array(np.ones((16, 3), np.float32), "w")
        if location:
            (path.parent.parent / "secret.bin").write_bytes(weight.raw_data)
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            entry = weight.external_data.add()
            entry.key, entry.value = "location", location
        nodes = [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["y"], domain=domain),
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4, 4])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
        graph = helper.make_graph(nodes, "g", inputs, outputs, [weight])
        opsets = [helper.make_opsetid("", 13), *([helper.make_opsetid(domain, 1)] if domain else [])]
        path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())

    return make


def _hugging_face(**config: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(json.dumps({"model_type": "resnet", "architectures": ["X"], **config}))
        (path / "code.py").write_text(f"open({str(flag_beside(path))!r}, 'w')")

    return make


def _exported(*, pickled: bool) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        members = [stored("a/archive_format", b"pt2"), stored("a/.data/version", b"1")]
        if pickled:
            members.append(stored("a/data/weights/model.pt", payload(path)))
            members.append(stored("a/models/model.json", b"{}"))
        write_zip(path, members)

    return make


these(
    "teacher",
    [
        ("`.pt2` without a graph", "hollow.pt2", _exported(pickled=False)),
        ("`.pt2` whose weights are a pickle that runs code", "pickled.pt2", _exported(pickled=True)),
        ("picture called `.pt2`", "picture.pt2", png(1, 1)),
        ("path that leads nowhere", "nowhere.pt", lambda path: None),
        ("folder that is no network", "folder", lambda path: path.mkdir()),
    ],
)
these(
    "teacher",
    [
        ("`.onnx` with weights outside of its folder", "climbing.onnx", _onnx("../secret.bin")),
        ("`.onnx` with weights in a file of the system", "absolute.onnx", _onnx("/etc/passwd")),
        ("`.onnx` with an operator of its own", "operator.onnx", _onnx(domain="somebody")),
        ("picture called `.onnx`", "picture.onnx", png(1, 1)),
        ("empty `.onnx`", "empty.onnx", b""),
    ],
    needs="onnxruntime",
)
these(
    "teacher",
    [
        (
            "Hugging Face folder that brings code",
            "remote-code",
            _hugging_face(auto_map={"AutoModelForImageClassification": "code.X"}),
        ),
        ("Hugging Face folder of an unknown kind", "unknown-kind", _hugging_face(model_type="somebody")),
    ],
    needs="transformers",
)


def _bad_card(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        (path / "model").mkdir(parents=True)
        (path / "model" / "card.json").write_bytes(content)

    return make


these(
    "card",
    [
        ("card that is no JSON", "card-words", _bad_card(b"{")),
        ("card nested 100,000 deep", "card-deep", _bad_card(b"[" * 100_000)),
        ("card without a title", "card-title", _bad_card(b"{}")),
        ("card that is a list", "card-list", _bad_card(b"[]")),
        ("card that is not UTF-8", "card-bytes", _bad_card(b"\xff\xfe")),
    ],
)


# ---------------------------------------------------------------------------------------------------- opening them all

PEAK_MIB = 512
"""No refusal may take more memory than this on top of the libraries."""

_ADDRESS_SPACE = 5 * 1024 * MEBI


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        reader: that it was given to.
        what: it is.
        refused: whether a `CistError` was raised.
        text: the sentence, or what happened instead.
        peak: memory taken, in MiB.
        seconds: wall clock.
        ran: whether a payload left its mark.
    """

    reader: str
    what: str
    refused: bool
    text: str
    peak: float
    seconds: float
    ran: bool


def open_in_child(case: Hostile, path: Path) -> Outcome:
    """Let a forked process open the file; a crash or a flood of memory ends there."""
    read, write = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(case, path, write)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - started
    ran = flag_beside(path).exists() or (path / "it-ran").exists()
    if not answer:
        return Outcome(case.reader, case.what, False, f"the process ended with status {status}", 0, seconds, ran)
    refused, text, peak = json.loads(answer)
    text = text.replace(f"{path.parent}{os.sep}", "").replace(str(path.parent), "FOLDER")
    return Outcome(case.reader, case.what, refused, text, peak, seconds, ran)


def _child(case: Hostile, path: Path, pipe: int) -> None:
    import resource
    import signal
    import warnings

    from cist_core.errors import CistError

    before = _kib("VmRSS")
    limit = _kib("VmSize") * 1024 + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(120)  # no answer is an answer
    warnings.simplefilter("ignore")
    try:
        READERS[case.reader](path)
        answer = (False, "it opened")
    except CistError as error:
        answer = (True, str(error))
    except BaseException as error:
        answer = (False, f"{type(error).__name__}: {error}"[:300])
    os.write(pipe, json.dumps([*answer, round((_kib("VmHWM") - before) / 1024, 1)]).encode())
    os._exit(0)


def _kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)


def run(folder: Path, only: Callable[[Hostile], bool] = lambda case: True) -> Iterator[Outcome]:
    """Make and open every file of the catalogue."""
    # What the readers import is not part of what a file costs.
    import pandas  # noqa: F401
    import PIL.Image
    import pyarrow.parquet  # noqa: F401
    import torch

    import cist_core.data
    import cist_core.inference.sources
    import cist_core.zoo  # noqa: F401

    torch.set_num_threads(1)
    PIL.Image.init()
    for case in filter(only, CATALOGUE):
        home = folder / case.reader.replace(" ", "-") / case.file
        home.mkdir(parents=True)
        path = home / case.file
        case.make(path)
        yield open_in_child(case, path)


def table(outcomes: Iterable[Outcome]) -> str:
    """The refused-input table of the documentation; paths are those below the folder of the file."""
    kinds: dict[str, list[Outcome]] = {reader: [] for reader in READERS}
    for outcome in outcomes:
        kinds[outcome.reader].append(outcome)
    rows = [
        f"| {reader} | {outcome.what} | {cell(outcome.text)} |" for reader, some in kinds.items() for outcome in some
    ]
    return "\n".join(["| Opened as | File | What is said |", "|---|---|---|", *rows])


def cell(text: str) -> str:
    """A sentence in a table of Markdown, literally."""
    text = text if len(text) <= 400 else text[:400] + " ..."
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text[:1] + text[-1:] else ""
    return f"{ticks}{pad}{text.replace('|', chr(92) + '|')}{pad}{ticks}"


def documented() -> dict[tuple[str, str], str]:
    """The rows of the table in the documentation: ``(reader, file)`` to what is said, as `cell` wrote it."""
    between = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in between.splitlines() if line.startswith("|")][2:]
    return {(reader.strip(), what.strip()): said.strip() for reader, what, said in rows}


def main(arguments: list[str]) -> None:
    if arguments[0] == "run":
        words = arguments[2:]
        for outcome in run(Path(arguments[1]), lambda case: not words or any(word in case.what for word in words)):
            print(json.dumps(outcome.__dict__, ensure_ascii=False), flush=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            rows = table(run(Path(folder)))
        text = DOCUMENT.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{rows}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
