"""Empty files, other files under a false ending, and checkpoints of nothing known."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from security.case import Hostile, these
from security.forge import ENTRY, GOOD, RAW, npy, npz, png, safetensors, small_state, tensor, torch_save

CASES: list[Hostile] = []

CASES += these(
    "logits",
    [
        (f"an empty file called `{ending}`", f"empty{ending}", b"")
        for ending in (".npy", ".npz", ".pt", ".csv", ".parquet", ".safetensors")
    ],
)
CASES += these(
    "logits",
    [
        (f"a picture called `{ending}`", f"picture{ending}", png(1, 1))
        for ending in (".npy", ".npz", ".pt", ".csv", ".parquet", ".safetensors")
    ],
)
CASES += these(
    "logits",
    [
        ("a ZIP that is also a picture", "polyglot.npz", png(1, 1) + npz(words=np.array(["a"]))),
        ("a web page called `.csv`", "page.csv", b"<!DOCTYPE html>\n<script>alert(1)</script>\n<p>1,2</p>\n"),
        ("a name without an ending", "logits", npy(GOOD)),
        ("a compressed CSV called `.csv`", "packed.csv", zlib.compress(b"a,b\n1,2\n" * 50)),
    ],
)
CASES += these(
    "checkpoint",
    [
        ("an empty checkpoint", "empty.pt", b""),
        ("a picture called `.pth`", "picture.pth", png(1, 1)),
        ("a checkpoint without weights", "options.pt", tensor(lambda: {"epoch": 3})),
        ("a checkpoint of an unknown network", "unknown.pt", tensor(lambda: {"layer.weight": torch.zeros(3, 4)})),
        (
            "a checkpoint with NaN",
            "nan.pt",
            lambda path: torch_save(
                path, {name: (t * float("nan") if t.is_floating_point() else t) for name, t in small_state().items()}
            ),
        ),
        (
            "a checkpoint of complex weights",
            "complex.pt",
            lambda path: torch_save(path, {name: t.to(torch.complex64) for name, t in small_state().items()}),
        ),
        (
            "a `.safetensors` checkpoint whose header lies",
            "beyond.safetensors",
            safetensors({"w": ENTRY | {"data_offsets": [0, 2**40], "shape": [2**37, 2]}}, RAW),
        ),
        ("a `.safetensors` checkpoint nested 100,000 deep", "deep.safetensors", safetensors(b"[" * 100_000)),
        ("a self-containing checkpoint", "loop.pt", lambda path: _loop(path)),
    ],
)


def _loop(path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch_save(path, content)
