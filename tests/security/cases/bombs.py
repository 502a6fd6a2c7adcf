"""Files that unfold without an end."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import torch
from security.case import Hostile, these
from security.forge import BOMB_MIB, MEBI, npy_header, small_state, stored, torch_save, write_zip, zeros_after

CASES: list[Hostile] = []


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
    torch_save(path, content)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    return next(iter(parts)).split("/")[0], parts


def torch_bomb(path: Path) -> None:
    """A float32 storage that torch inflates: 3 GiB of zeros."""
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
    torch_save(path, {"logits": torch.zeros(1).expand(rows, columns)})


def _checkpoint_expanded(path: Path) -> None:
    state = small_state()
    head = [name for name, tensor in state.items() if tensor.ndim == 2][-1]
    wide = state[head].shape[1]
    state[head] = torch.zeros(1).expand(2_000_000_000, wide)
    bias = head.replace("weight", "bias")
    if bias in state:
        state[bias] = torch.zeros(1).expand(2_000_000_000)
    torch_save(path, state)


def _checkpoint_meta(path: Path) -> None:
    torch_save(path, {"fc.weight": torch.empty(10**9, 10**6, device="meta")})


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


CASES += these(
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
        ("`.pt` whose tensor inflates to 3 GiB", "bomb.pt", torch_bomb),
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
CASES += these(
    "checkpoint",
    [
        ("checkpoint with a head of 2·10⁹ classes made of one number", "wide.pt", _checkpoint_expanded),
        ("checkpoint of meta tensors", "meta.pt", _checkpoint_meta),
        ("checkpoint whose tensor inflates to 3 GiB", "bomb-teacher.pt", torch_bomb),
    ],
)
CASES += these("data", [("image archive that inflates to 3 GiB", "bomb.npz", _images_bomb)])
