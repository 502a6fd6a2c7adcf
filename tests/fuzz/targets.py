"""What is fuzzed: every reader of foreign bytes, with small valid inputs to start from.

A target opens some bytes. It may return, or raise `CistError`; anything else is a finding.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from security.catalogue import CATALOGUE
from security.readers import load_checkpoint, load_data, load_logits, read_labels, read_logits

SAMPLES, CLASSES = 6, 4
LONGEST = 1 << 16
"""Bytes of one input."""


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        name: of the reader and the kind of file.
        ending: of the file it is given.
        open: opens the file at a path.
        seeds: makes valid contents.
        needs: the optional package it needs, or empty.
    """

    name: str
    ending: str
    open: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    needs: str = ""

    @property
    def hostile(self) -> list[bytes]:
        """What the catalogue of hostile files has under this ending, as far as it is small and written down."""
        known = (case.content for case in CATALOGUE if case.file.endswith(self.ending))
        return [content for content in known if content is not None and len(content) <= LONGEST]


def _generator() -> np.random.Generator:
    return np.random.default_rng(0)


def _logit_rows() -> np.ndarray[Any, Any]:
    return _generator().standard_normal((SAMPLES, CLASSES)).astype(np.float32)


def _label_row() -> np.ndarray[Any, Any]:
    return np.arange(SAMPLES) % CLASSES


def _bytes(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------ logits, labels


def _npy_seeds() -> list[bytes]:
    rows = _logit_rows()
    kinds = [
        rows,
        rows.astype(np.float16),
        rows.astype(">f8"),
        np.asfortranarray(rows),
        np.exp(rows) / np.exp(rows).sum(1, keepdims=True),
    ]
    return [_bytes(lambda file, array=array: np.save(file, array)) for array in kinds]


def _npz_seeds() -> list[bytes]:
    rows, labels = _logit_rows(), _label_row()
    return [
        _bytes(lambda file: np.savez(file, logits=rows, labels=labels, classes=np.array(list("abcd")))),
        _bytes(lambda file: np.savez_compressed(file, logits=rows.astype(np.float16))),
        _bytes(lambda file: np.savez(file, logits=rows[None], mask=np.ones((1, SAMPLES), bool))),
    ]


def _torch_seeds() -> list[bytes]:
    import torch

    rows, labels = torch.from_numpy(_logit_rows()), torch.from_numpy(_label_row())
    return [
        _bytes(lambda file: torch.save({"logits": rows, "labels": labels}, file)),
        _bytes(lambda file: torch.save(rows.bfloat16(), file)),
        _bytes(lambda file: torch.save({"logits": rows.t()[:, :3]}, file)),
        _bytes(lambda file: torch.save({"logits": rows}, file, _use_new_zipfile_serialization=False)),
    ]


def _safetensors_seeds() -> list[bytes]:
    from safetensors.numpy import save

    rows, labels = _logit_rows(), _label_row()
    metadata = {"format": "cist-logits-1", "provenance": '{"teacher": "a"}', "class_names": '["a", "b", "c", "d"]'}
    return [
        save({"logits": rows, "labels": labels}, metadata=metadata),
        save({"logits": rows.astype(np.float16)}),
    ]


def _csv_seeds() -> list[bytes]:
    rows, labels = _logit_rows(), _label_row()
    lines = [",".join(f"{value:g}" for value in row) for row in rows]
    return [
        ("cat,dog,eel,fox\n" + "\n".join(lines)).encode(),
        ("label,0,1,2,3\n" + "\n".join(f"{k},{line}" for k, line in zip(labels, lines, strict=True))).encode(),
        ('id,"a ""b""",c,d,e\r\n' + "\r\n".join(f"x{k},{line}" for k, line in enumerate(lines))).encode(),
    ]


def _parquet_seeds() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"c{k}": column for k, column in enumerate(_logit_rows().T)}
    table = pa.table({"label": _label_row(), **columns})
    return [
        _bytes(lambda file: pq.write_table(table, file)),
        _bytes(lambda file: pq.write_table(table, file, compression="none", use_dictionary=False)),
    ]


def _top_k_seeds() -> list[bytes]:
    ids = np.array([[0, 2], [1, 3], [3, 0]])
    log_probs = np.log(np.array([[0.6, 0.2], [0.5, 0.3], [0.9, 0.05]], np.float32))
    return [
        _bytes(lambda file: np.savez(file, ids=ids, log_probs=log_probs, vocabulary=np.array(9))),
        _bytes(
            lambda file: np.savez(
                file, ids=ids, log_probs=log_probs, remaining=np.array([0.2, 0.2, 0.05]), vocab_size=np.array(9)
            )
        ),
    ]


def _label_seeds(ending: str) -> list[bytes]:
    labels = _label_row()
    if ending == ".npy":
        return [_bytes(lambda file: np.save(file, labels)), _bytes(lambda file: np.save(file, labels.astype("<f4")))]
    if ending == ".npz":
        return [_bytes(lambda file: np.savez(file, labels=labels)), _bytes(lambda file: np.savez(file, labels))]
    text = "\n".join(map(str, labels))
    return (
        [text.encode(), b"0 1 2 3 0 1"]
        if ending == ".txt"
        else [b"label\n" + text.encode(), b"id,label\n" + b"1,2\n" * SAMPLES]
    )


def _labels(path: Path) -> object:
    return read_labels(path, count=SAMPLES, classes=CLASSES)


def _read_top_k(path: Path) -> object:
    from cist_core.logits.files import UPLOAD_LIMITS
    from cist_core.logits.top_k import read_top_k

    return read_top_k(path, limits=UPLOAD_LIMITS)


# --------------------------------------------------------------------------------------------------------- checkpoints


@cache
def _state() -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    # The names of a small network in the field's layout; reading does not need one of the zoo, and a small file is
    # mutated more often where it matters.
    return {"conv1.weight": torch.randn(2, 1, 3, 3), "fc.weight": torch.randn(3, 2), "fc.bias": torch.zeros(3)}


def _checkpoint_seeds() -> list[bytes]:
    import torch

    state = _state()
    return [
        _bytes(lambda file: torch.save(state, file)),
        _bytes(lambda file: torch.save({"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, file)),
        _bytes(lambda file: torch.save({"state_dict": state}, file, _use_new_zipfile_serialization=False)),
    ]


def _safe_checkpoint_seeds() -> list[bytes]:
    from safetensors.torch import save

    return [save(_state())]


def _exported_seeds() -> list[bytes]:
    import torch
    from torch import nn

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 3)).eval()
    program = torch.export.export(network, (torch.zeros(1, 1, 8, 8),))
    return [_bytes(lambda file: torch.export.save(program, file))]


def _load_exported(path: Path) -> object:
    from cist_core.zoo.foreign.exported import load_exported

    return load_exported(path)


def _onnx_seeds() -> list[bytes]:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(_generator().standard_normal((16, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [weight],
    )
    return [helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()]


def _load_onnx(path: Path) -> object:
    from cist_core.zoo.foreign.onnx_models import load_onnx

    return load_onnx(path)


# ---------------------------------------------------------------------------------------------------------------- data


def _image_archive_seeds() -> list[bytes]:
    images = _generator().integers(0, 256, (4, 5, 5, 3), np.uint8)
    labels, classes = np.array([0, 1, 1, 0]), np.array(["a", "b"])
    return [
        _bytes(lambda file: np.savez(file, images=images, labels=labels, classes=classes)),
        _bytes(lambda file: np.savez_compressed(file, images=images[..., 0], labels=labels.astype(np.uint8))),
    ]


def _picture_seeds() -> list[bytes]:
    from PIL import Image

    picture = Image.fromarray(_generator().integers(0, 256, (6, 7, 3), np.uint8))
    return [
        _bytes(lambda file, kind=kind: picture.save(file, kind))
        for kind in ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
    ] + [_bytes(lambda file: picture.convert("P").save(file, "PNG", transparency=0))]


def _path_table_seeds() -> list[bytes]:
    return [b"path,label\na.png,cat\na.png,dog\n", b"file;class;split\na.png;0;train\na.png;1;test\n"]


def _image_parquet_seeds() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = _picture_seeds()
    table = pa.table(
        {"image": [{"bytes": pictures[0], "path": "a.png"}, {"bytes": pictures[1], "path": "b"}], "label": [0, 1]}
    )
    plain = pa.table({"image": pictures[:2], "label": ["a", "b"]})
    return [_bytes(lambda file, each=each: pq.write_table(each, file)) for each in (table, plain)]


def _load_table(path: Path) -> object:
    (path.parent / "a.png").write_bytes(_picture_seeds()[0])
    return load_data(path)


def _decode(path: Path) -> object:
    from cist_core.data.pictures import decode

    return decode(path, path.name, 4, 3, 1.0, "bilinear")


def _idx_seeds() -> list[bytes]:
    import struct

    images = struct.pack(">HBBIII", 0, 8, 3, 2, 3, 3) + bytes(range(18))
    return [images, struct.pack(">HBBI", 0, 8, 1, 2) + b"\0\1"]


def _read_idx(path: Path) -> object:
    from cist_core.data.idx import read_idx

    return read_idx(path)


# ---------------------------------------------------------------------------------------------------------------- text


def _card_seeds() -> list[bytes]:
    card = {
        "title": "t",
        "role": "teacher",
        "architecture": "resnet8",
        "num_classes": 2,
        "class_names": ["a", "b"],
        "preprocessing": {"mean": [0.5], "std": [0.5], "image_size": 8},
        "data": {"name": "d"},
        "accuracy": {"test": 0.9},
        "logits": {},
    }
    return [json.dumps(card).encode()]


def _card(path: Path) -> object:
    from cist_core.cards import read_card

    return read_card(path)


def _config_seeds() -> list[bytes]:
    from cist_core.training import preset

    return [preset("demo").model_dump_json().encode()]


def _config(path: Path) -> object:
    from cist_core.training.config import load_config

    return load_config(path)


def _text(read: Callable[[str], object]) -> Callable[[Path], object]:
    return lambda path: read(path.read_bytes().decode("utf-8", "replace"))


def _parse_selection(text: str) -> object:
    from cist_core.samples.selection import Selection

    return Selection.parse(text)


def _parse_rule(text: str) -> object:
    from cist_core import parse_rule

    return parse_rule(text)


def _parse_slices(text: str) -> object:
    from cist_core.samples.slices import parse_slices

    return parse_slices(text)


TARGETS = [
    Target("logits .npy", ".npy", read_logits, _npy_seeds),
    Target("logits .npz", ".npz", read_logits, _npz_seeds),
    Target("logits .pt", ".pt", read_logits, _torch_seeds),
    Target("logits .safetensors", ".safetensors", read_logits, _safetensors_seeds),
    Target("logits .csv", ".csv", read_logits, _csv_seeds),
    Target("logits .parquet", ".parquet", read_logits, _parquet_seeds),
    Target("our own logits", ".safetensors", load_logits, _safetensors_seeds),
    Target("top-k .npz", ".npz", _read_top_k, _top_k_seeds),
    Target("labels .npy", ".npy", _labels, lambda: _label_seeds(".npy")),
    Target("labels .npz", ".npz", _labels, lambda: _label_seeds(".npz")),
    Target("labels .csv", ".csv", _labels, lambda: _label_seeds(".csv")),
    Target("labels .txt", ".txt", _labels, lambda: _label_seeds(".txt")),
    Target("checkpoint .pt", ".pt", load_checkpoint, _checkpoint_seeds),
    Target("checkpoint .safetensors", ".safetensors", load_checkpoint, _safe_checkpoint_seeds),
    Target("exported .pt2", ".pt2", _load_exported, _exported_seeds),
    Target("network .onnx", ".onnx", _load_onnx, _onnx_seeds, "onnxruntime"),
    Target("images .npz", ".npz", load_data, _image_archive_seeds),
    Target("images .parquet", ".parquet", load_data, _image_parquet_seeds),
    Target("paths .csv", ".csv", _load_table, _path_table_seeds),
    Target("picture", ".png", _decode, _picture_seeds),
    Target("idx", ".idx", _read_idx, _idx_seeds),
    Target("card", ".json", _card, _card_seeds),
    Target("run config .json", ".json", _config, _config_seeds),
    Target("run config .yaml", ".yaml", _config, _config_seeds),
    Target("selection", ".txt", _text(_parse_selection), lambda: [b"entropy=0.1..0.5 & correct=no & class=3,5"]),
    Target("rule", ".txt", _text(_parse_rule), lambda: [b"fixed:tau=4", b"cist:rho=2.5"]),
    Target("slices", ".txt", _text(_parse_slices), lambda: [b"confused: correct=no & margin=..1\nb: class=1"]),
]


def is_zip(content: bytes) -> bool:
    return zipfile.is_zipfile(io.BytesIO(content))
