from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cist_core.errors import CistError
from cist_core.inference.sources import find_teacher
from cist_core.zoo.folding import fold_batch_norm

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

WEIGHT = np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)


def _write(
    path: Path,
    *,
    shape: tuple[object, ...] = ("N", 3, 4, 4),
    ends: tuple[Any, ...] = ("Identity",),
    opset: int = 17,
    domain: str = "",
    location: str | None = None,
    entries: dict[str, str] | None = None,
) -> Path:
    """``flatten(x) W``, then what ``ends`` names; the weight inside the file or in another."""
    helper, tensors = onnx.helper, onnx.TensorProto
    weight = onnx.numpy_helper.from_array(WEIGHT, "weight")
    if location is not None:
        weight.ClearField("raw_data")
        weight.data_location = tensors.EXTERNAL
        for key, value in {"location": location, **(entries or {})}.items():
            weight.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["product"], domain=domain),
    ]
    values = ["product", *(f"end{place}" for place in range(1, len(ends))), "logits"]
    for end, before, after in zip(ends, values, values[1:], strict=False):
        kind, attributes = (end, {}) if isinstance(end, str) else end
        inputs = [before, "same"] if kind == "Reshape" else [before]
        nodes.append(helper.make_node(kind, inputs, [after], **attributes))
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", tensors.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", tensors.FLOAT, [shape[0], 5])],
        [weight, onnx.numpy_helper.from_array(np.array([-1, 5]), "same")],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


IMAGES = torch.from_numpy(np.random.default_rng(1).standard_normal((7, 3, 4, 4)).astype(np.float32))
LOGITS = IMAGES.double().flatten(1) @ torch.from_numpy(WEIGHT).double()


@pytest.mark.parametrize("batch", ["N", 1, 4, 16])
def test_any_batch_size_gives_the_graphs_logits(tmp_path: Path, batch: object) -> None:
    teacher = find_teacher(str(_write(tmp_path / "toy.onnx", shape=(batch, 3, 4, 4))))
    assert (teacher.num_classes, teacher.preprocessing.image_size, teacher.preprocessing.channels) == (5, 4, 3)
    assert teacher.facts["preprocessing"].startswith("assumed")
    torch.testing.assert_close(teacher.model(IMAGES).double(), LOGITS, atol=1e-5, rtol=1e-5)
    assert fold_batch_norm(teacher.model) is teacher.model


def test_channels_may_come_last(tmp_path: Path) -> None:
    teacher = find_teacher(str(_write(tmp_path / "toy.onnx", shape=("N", 4, 4, 3))))
    expected = IMAGES.permute(0, 2, 3, 1).flatten(1).double() @ torch.from_numpy(WEIGHT).double()
    torch.testing.assert_close(teacher.model(IMAGES).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    "ends",
    [
        ("Softmax",),
        (("Softmax", {"axis": 1}), "Identity"),
        (("Softmax", {"axis": -1}), "Flatten"),
        ("Softmax", "Reshape", ("Cast", {"to": 1}), "Dropout"),
    ],
)
def test_probabilities_become_logits(tmp_path: Path, ends: tuple[Any, ...], opset: int) -> None:
    teacher = find_teacher(str(_write(tmp_path / "toy.onnx", ends=ends, opset=opset)))
    torch.testing.assert_close(teacher.model(IMAGES).double(), LOGITS.log_softmax(1), atol=1e-4, rtol=1e-4)
    assert "logarithms" in teacher.facts["output"]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (("LogSoftmax", "Identity"), LOGITS.log_softmax(1)),
        (("Softmax", "Neg"), -LOGITS.softmax(1)),
        ((("Softmax", {"axis": 0}), "Identity"), LOGITS.softmax(0)),
    ],
)
def test_no_other_output_is_taken_for_probabilities(tmp_path: Path, ends: tuple[Any, ...], expected: Tensor) -> None:
    teacher = find_teacher(str(_write(tmp_path / "toy.onnx", ends=ends)))
    torch.testing.assert_close(teacher.model(IMAGES).double(), expected, atol=1e-4, rtol=1e-4)
    assert "output" not in teacher.facts


def test_weights_beside_the_file_are_read_and_digested(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    path = _write(tmp_path / "toy.onnx", location="weights.bin")
    first = find_teacher(str(path))
    torch.testing.assert_close(first.model(IMAGES).double(), LOGITS, atol=1e-5, rtol=1e-5)
    (tmp_path / "weights.bin").write_bytes((2 * WEIGHT).tobytes())
    assert find_teacher(str(path)).checkpoint_sha256 != first.checkpoint_sha256


@pytest.mark.parametrize("place", ["../outside.bin", "absolute", "link.bin", "a/../../outside.bin", ""])
def test_weights_outside_the_folder_are_never_opened(tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside.bin"
    outside.write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "link.bin").symlink_to(outside)
    location = str(outside) if place == "absolute" else place
    with pytest.raises(CistError, match="which is not a plain file in its own folder; it is not opened"):
        find_teacher(str(_write(folder / "toy.onnx", location=location)))


@pytest.mark.parametrize("entries", [{"offset": "900"}, {"length": str(1 << 60)}, {"offset": "-8"}, {"offset": "x"}])
def test_weights_beyond_the_end_are_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    with pytest.raises(CistError, match=r"reads beyond the end of weights\.bin|cannot be run by ONNX Runtime"):
        find_teacher(str(_write(tmp_path / "toy.onnx", location="weights.bin", entries=entries)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "evil.ops"}, "operators of 'evil.ops', which would have to be loaded from a library"),
        ({"shape": ("N", 48)}, "Expected .* to read one batch of images as floats"),
        ({"shape": ("N", 3, 2, 8)}, "square images, but .* reads 2x8"),
        ({"shape": ("N", 3, 1 << 30, 1 << 30)}, r"`image_size` to be from 1 to|cannot be run by ONNX Runtime"),
        ({"location": "missing.bin"}, r"weights in 'missing\.bin', which is missing"),
    ],
)
def test_what_is_no_classifier_of_its_own_is_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(CistError, match=message):
        find_teacher(str(_write(tmp_path / "toy.onnx", **options)))


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x09" * 50])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(CistError, match=r"bad\.onnx is not a"):
        find_teacher(str(tmp_path / "bad.onnx"))


def test_truncated_file_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "toy.onnx")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(CistError, match=r"toy\.onnx (is not a readable|cannot be run)"):
        find_teacher(str(path))


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "toy.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(CistError, match=r"needs the library onnxruntime, .*pip install 'cist-studio\[onnx\]'"):
        find_teacher(str(path))
