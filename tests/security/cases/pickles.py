"""Pickles that run code when they are read as Python reads them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from security.case import Hostile, these
from security.forge import GOOD, Payload, flag_beside, payload, stored, torch_save, write_zip

CASES: list[Hostile] = []


def _bare(path: Path) -> None:
    path.write_bytes(payload(path))


def _in_torch(path: Path) -> None:
    torch_save(path, {"logits": Payload(flag_beside(path))})


def _numpy_pickle(path: Path) -> None:
    np.save(path, np.array([Payload(flag_beside(path))] * len(GOOD), dtype=object), allow_pickle=True)


def _npz_pickle(path: Path) -> None:
    inner = io.BytesIO()
    np.save(inner, np.array([Payload(flag_beside(path))], dtype=object), allow_pickle=True)
    write_zip(path, [stored("logits.npy", inner.getvalue()), stored("images.npy", inner.getvalue())])


def _joblib(path: Path) -> None:
    import joblib

    joblib.dump({"logits": Payload(flag_beside(path))}, path)


for _ending in (".pt", ".pth"):
    for _reader, _name in (("logits", "logits"), ("checkpoint", "teacher")):
        CASES += these(
            _reader,
            [
                (f"`{_ending}` whose pickle runs code", f"payload-{_name}{_ending}", _in_torch),
                (
                    f"`{_ending}` of the old layout whose pickle runs code",
                    f"legacy-{_name}{_ending}",
                    lambda path: torch_save(path, {"logits": Payload(flag_beside(path))}, legacy=True),
                ),
                (f"bare pickle that runs code, called `{_ending}`", f"pickle-{_name}{_ending}", _bare),
            ],
        )
CASES += these(
    "logits",
    [
        ("`.npy` of pickled objects", "objects.npy", _numpy_pickle),
        ("`.npz` of pickled objects", "objects.npz", _npz_pickle),
        ("pickle called `.npy`", "pickle.npy", _bare),
        ("pickle called `.npz`", "pickle.npz", _bare),
        ("pickle called `.csv`", "pickle.csv", _bare),
        ("pickle called `.parquet`", "pickle.parquet", _bare),
        ("pickle called `.safetensors`", "pickle.safetensors", _bare),
        ("joblib dump", "dump.joblib", _joblib),
        ("pickle under its own ending", "logits.pkl", _bare),
    ],
)
CASES += these(
    "labels",
    [
        ("labels as pickled objects", "labels.npy", _numpy_pickle),
        ("labels as a pickle called `.txt`", "labels.txt", _bare),
    ],
)
CASES += these("data", [("image archive of pickled objects", "images.npz", _npz_pickle)])
CASES += these(
    "checkpoint",
    [
        ("`.bin` checkpoint whose pickle runs code", "pytorch_model.bin", _in_torch),
        ("`.th` checkpoint whose pickle runs code", "model.th", _in_torch),
        ("joblib dump as a checkpoint", "model.joblib", _joblib),
        ("TorchScript program", "script.pt", lambda path: _torchscript(path)),
        ("checkpoint that holds a whole network", "network.pt", lambda path: torch_save(path, _network())),
    ],
)


def _network() -> object:
    from torch import nn

    return nn.Linear(2, 2)


def _torchscript(path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(_network()), path)
