"""Networks that bring code or reach out of their folder, and cards of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from security.case import Hostile, these
from security.forge import flag_beside, payload, png, stored, write_zip

CASES: list[Hostile] = []


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


CASES += these(
    "teacher",
    [
        ("`.pt2` without a graph", "hollow.pt2", _exported(pickled=False)),
        ("`.pt2` whose weights are a pickle that runs code", "pickled.pt2", _exported(pickled=True)),
        ("picture called `.pt2`", "picture.pt2", png(1, 1)),
        ("path that leads nowhere", "nowhere.pt", lambda path: None),
        ("folder that is no network", "folder", lambda path: path.mkdir()),
    ],
)
CASES += these(
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
CASES += these(
    "teacher",
    [
        (
            "Hugging Face folder that brings code",
            "remote-code",
            _hugging_face(auto_map={"AutoModelForImageClassification": "code.X"}),
        ),
        ("Hugging Face folder of an unknown kind", "unknown-kind", _hugging_face(model_type="somebody")),
        ("Hugging Face folder of 10⁹ classes", "many-classes", _hugging_face(num_labels=10**9, architectures=[])),
    ],
    needs="transformers",
)


def _bad_card(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        (path / "model").mkdir(parents=True)
        (path / "model" / "card.json").write_bytes(content)

    return make


CASES += these(
    "card",
    [
        ("card that is no JSON", "card-words", _bad_card(b"{")),
        ("card nested 100,000 deep", "card-deep", _bad_card(b"[" * 100_000)),
        ("card without a title", "card-title", _bad_card(b"{}")),
        ("card that is a list", "card-list", _bad_card(b"[]")),
        ("card that is not UTF-8", "card-bytes", _bad_card(b"\xff\xfe")),
    ],
)
