"""Headers that promise what the file does not hold."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from security.case import Hostile, these
from security.forge import (
    ENTRY,
    GOOD,
    RAW,
    Member,
    Words,
    npy,
    npy_header,
    npz,
    safetensors,
    stored,
    tensor,
    torch_save,
    write_zip,
)

CASES: list[Hostile] = []

CASES += these(
    "logits",
    [
        ("`.npy` header of 10¹⁵ rows", "shape.npy", npy_header((10**15, 10)) + RAW),
        ("`.npy` header with a negative shape", "negative.npy", npy_header((-4, -3)) + RAW),
        ("`.npy` header whose size overflows", "overflow.npy", npy_header((2**33, 2**33)) + RAW),
        ("`.npy` header that is no shape", "words.npy", npy_header("(4, 3)") + RAW),
        (
            "`.npy` header nested a thousand deep",
            "deep.npy",
            b"\x93NUMPY\x01\x00" + struct.pack("<H", 8000) + (b"(" * 4000 + b")" * 3999 + b"\n") + b" ",
        ),
        ("`.npy` in Fortran order with 10⁹ rows", "fortran.npy", npy_header((10**9, 10**6), fortran=True) + RAW),
        (
            "`.npy` of a version that does not exist",
            "version.npy",
            b"\x93NUMPY\x09\x00" + npy_header((4, 3))[8:] + RAW,
        ),
        (
            "`.npz` member of 10¹² rows",
            "shape.npz",
            lambda path: write_zip(path, [stored("logits.npy", npy_header((10**12, 10)) + RAW)]),
        ),
        (
            "`.npz` of texts 2 GiB wide each",
            "wide.npz",
            lambda path: write_zip(path, [stored("logits.npy", npy_header((1, 2), "<U500000000") + RAW)]),
        ),
        ("encrypted `.npz`", "secret.npz", lambda path: write_zip(path, [stored("logits.npy", npy(GOOD), flags=1)])),
        (
            "`.npz` with a directory that lies about offsets",
            "offsets.npz",
            lambda path: path.write_bytes(npz(logits=GOOD).replace(b"PK\x03\x04", b"PK\x03\x05")),
        ),
        (
            "`.npz` entry with a wrong checksum",
            "checksum.npz",
            lambda path: path.write_bytes(npz(logits=GOOD).replace(np.float32(3).tobytes(), np.float32(5).tobytes())),
        ),
        ("`.safetensors` header of 2⁶³ bytes", "long.safetensors", safetensors({"logits": ENTRY}, RAW, length=2**63)),
        (
            "`.safetensors` tensor beyond the end of the file",
            "beyond.safetensors",
            safetensors({"logits": ENTRY | {"data_offsets": [0, 2**40], "shape": [2**37, 2]}}, RAW),
        ),
        (
            "`.safetensors` shape whose product overflows",
            "overflow.safetensors",
            safetensors({"logits": ENTRY | {"shape": [2**33, 2**33]}}, RAW),
        ),
        (
            "`.safetensors` tensors that overlap",
            "overlap.safetensors",
            safetensors({"logits": ENTRY, "labels": {"dtype": "I32", "shape": [4], "data_offsets": [8, 24]}}, RAW),
        ),
        (
            "`.safetensors` with a negative offset",
            "minus.safetensors",
            safetensors({"logits": ENTRY | {"data_offsets": [-48, 0]}}, RAW),
        ),
        ("`.safetensors` header nested 100,000 deep", "deep.safetensors", safetensors(b"[" * 100_000)),
        ("`.safetensors` header that is no JSON", "json.safetensors", safetensors(b"{'logits': 1}")),
        (
            "`.safetensors` of an unknown number format",
            "format.safetensors",
            safetensors({"logits": ENTRY | {"dtype": "F77"}}, RAW),
        ),
        (
            "`.safetensors` whose class names are no list",
            "names.safetensors",
            safetensors({"__metadata__": {"class_names": "3"}, "logits": ENTRY}, RAW),
        ),
        (
            "`.safetensors` whose class names nest 100,000 deep",
            "names-deep.safetensors",
            safetensors({"__metadata__": {"class_names": "[" * 100_000}, "logits": ENTRY}, RAW),
        ),
        (
            "`.safetensors` whose provenance is a list",
            "origin.safetensors",
            safetensors({"__metadata__": {"provenance": "[1, 2]"}, "logits": ENTRY}, RAW),
        ),
        ("`.parquet` of two magic words", "magic.parquet", b"PAR1" + bytes(16) + b"PAR1"),
        ("`.parquet` whose footer claims 4 GiB", "footer.parquet", b"PAR1" + bytes(64) + b"\xff\xff\xff\xffPAR1"),
        ("`.pt` of meta tensors", "meta.pt", tensor(lambda: torch.empty(10**9, 10**3, device="meta"))),
        (
            "`.pt` of a sparse tensor of 10¹⁸ places",
            "sparse.pt",
            tensor(
                lambda: torch.sparse_coo_tensor(
                    torch.zeros(2, 1).long(), torch.ones(1), (10**9, 10**9), check_invariants=False
                )
            ),
        ),
    ],
)
CASES += these(
    "our own logits",
    [
        (
            "our own file whose class names nest 100,000 deep",
            "own-names.safetensors",
            safetensors({"__metadata__": {"class_names": "[" * 100_000}, "logits": ENTRY}, RAW),
        ),
        (
            "our own file whose provenance is a number",
            "own-origin.safetensors",
            safetensors({"__metadata__": {"provenance": "7"}, "logits": ENTRY}, RAW),
        ),
        (
            "our own file without data",
            "own-empty.safetensors",
            safetensors({"logits": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}),
        ),
    ],
)


def _zip(*members: Member) -> Callable[[Path], None]:
    return lambda path: write_zip(path, members)


def _lzma(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("logits.npy", npy(GOOD))


def _beyond_its_storage(path: Path) -> None:
    """A tensor of another size than its storage: the size in the pickle is changed by hand."""
    torch_save(path, {"logits": torch.zeros(4, 250)})
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    write_zip(path, [stored(name, body.replace(b"K\x04K\xfa\x86", b"K\xffK\xff\x86", 1)) for name, body in members])


CASES += these(
    "logits",
    [
        ("`.npy` header of 10⁶ rows over nothing", "nothing.npy", npy_header((10**6, 10))),
        ("`.npy` header of no rows and 2⁶⁰ classes", "classes.npy", npy_header((0, 2**60))),
        ("`.npy` header of 2⁶⁰ rows and no classes", "rows.npy", npy_header((2**60, 0))),
        ("`.npy` of numbers without a size", "sizeless.npy", npy_header((4, 3), "<f0") + RAW),
        ("`.npy` that lacks its last byte", "cut.npy", npy_header((4, 3)) + RAW[:-1]),
        ("`.npy` with a header of 2 GiB", "header.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(9)),
        ("`.npy` shape nested 3,000 deep", "nested.npy", npy_header(Words("(" * 3000 + ")" * 3000)) + RAW),
        ("`.npz` member of 10⁶ rows over nothing", "nothing.npz", _zip(stored("logits.npy", npy_header((10**6, 100))))),
        ("`.npz` member with bytes left over", "longer.npz", _zip(stored("logits.npy", npy(GOOD) + bytes(8)))),
        ("`.npz` that claims 1 GiB", "claims.npz", _zip(stored("logits.npy", npy(GOOD), size=1 << 30))),
        ("`.npz` with two members of one name", "twice.npz", _zip(*[stored("logits.npy", npy(GOOD))] * 2)),
        ("`.npz` packed with LZMA", "lzma.npz", _lzma),
        (
            "`.npz` of an `.npz` and a text",
            "inner.npz",
            _zip(stored("inner.npz", npy(GOOD)), stored("../../logits.txt", npy(GOOD))),
        ),
        ("`.npz` member that is a pickle", "member.npz", _zip(stored("logits.npy", b"(dp0\n."))),
        (
            "`.pt` tensor that shows 1,001 numbers a thousand times",
            "shown.pt",
            tensor(lambda: torch.zeros(1001).as_strided((1000, 1000), (0, 1))),
        ),
        ("`.pt` tensor beyond its storage", "storage.pt", _beyond_its_storage),
        ("`.safetensors` header of 1 MiB that is not there", "short.safetensors", safetensors({}, length=1 << 20)),
        (
            "`.safetensors` whose provenance nests 100,000 deep",
            "origin-deep.safetensors",
            safetensors({"__metadata__": {"provenance": "[" * 100_000}, "logits": ENTRY}, RAW),
        ),
        (
            "`.csv` with a quoted field of 8 MiB",
            "line.csv",
            lambda path: path.write_bytes(b'a,b\n1,"' + b"2,3\n" * (2 << 20)),
        ),
    ],
)
CASES += these(
    "logits",
    [
        (
            "`.npz` with class names of 12 MB",
            "long-names.npz",
            lambda path: path.write_bytes(npz(logits=GOOD, classes=np.array(["x" * 10**6] * 3))),
        ),
    ],
    at_keyboard=False,
)
