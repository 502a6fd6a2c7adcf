import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cist_core.errors import CistError
from cist_core.zoo import ARCHITECTURES, create_model, identify_architecture, load_checkpoint, read_checkpoint


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return create_model("resnet8", num_classes=100).state_dict()


def _wrap(state: dict[str, torch.Tensor], kind: str) -> object:
    return {
        "bare": state,
        "model": {"epoch": 240, "model": state, "accuracy": torch.tensor(72.3)},
        "with options": {"opt": argparse.Namespace(lr=0.05, model="resnet8"), "model": state},
        "data parallel": {"best_prec1": 91.7, "state_dict": {f"module.{name}": t for name, t in state.items()}},
    }[kind]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["bare", "model", "with options", "data parallel"])
def test_reads_what_training_scripts_write(
    tmp_path: Path, state: dict[str, torch.Tensor], kind: str, legacy: bool
) -> None:
    torch.save(_wrap(state, kind), tmp_path / "weights.pth", _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint(tmp_path / "weights.pth")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_reads_safetensors(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "weights.safetensors")
    assert load_checkpoint(tmp_path / "weights.safetensors").architecture == "resnet8"


class Payload:
    """What a malicious checkpoint holds: unpickling it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("wrap", [lambda payload: payload, lambda payload: {"model": {"fc.weight": payload}}])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_payload_is_refused_and_never_runs(tmp_path: Path, writer: str, wrap: Callable[[Payload], object]) -> None:
    marker, path = tmp_path / "ran", tmp_path / "weights.pt"
    content = wrap(Payload(marker))
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CistError, match="not a file of weights alone"):
        read_checkpoint(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(content))
    assert marker.exists()  # the payload would have run


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04 not a zip", b"a line of text\n"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    with pytest.raises(CistError, match=r"weights\.(pth|safetensors) is not a"):
        read_checkpoint(path)


def test_truncated_file_is_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CistError, match=r"weights\.pth is not a"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [torch.ones(3), {"epoch": 3}, {}, [torch.ones(2)]])
def test_files_without_a_state_dict_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(CistError, match="holds no state dict"):
        read_checkpoint(tmp_path / "weights.pth")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CistError, match=r"There is no checkpoint file .*nowhere\.pth"):
        read_checkpoint(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("num_classes", [2, 10, 100, 257])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_are_recognised(name: str, num_classes: int) -> None:
    with torch.device("meta"):
        state = create_model(name, num_classes=num_classes).state_dict()
    assert identify_architecture(state) == [(name, num_classes)]


def test_other_weights_are_not_recognised(state: dict[str, torch.Tensor]) -> None:
    del state["layer2.0.conv1.weight"]
    assert identify_architecture(state) == []


def test_older_checkpoints_lack_the_batch_counters(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({name: t for name, t in state.items() if "num_batches" not in name}, tmp_path / "old.th")
    assert load_checkpoint(tmp_path / "old.th").num_classes == 100


def test_unknown_weights_are_compared_with_the_nearest(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    del state["layer3.0.bn2.bias"]
    state["extra.weight"] = torch.ones(2)
    state["conv1.weight"] = torch.ones(16, 3, 5, 5)
    torch.save(state, tmp_path / "odd.pth")
    expected = (
        r"odd\.pth fit no architecture of the zoo; the nearest is resnet8 \(1 missing: layer3\.0\.bn2\.bias; "
        r"1 unexpected: extra\.weight; 1 other shapes: conv1\.weight \(16, 3, 5, 5\) instead of \(16, 3, 3, 3\)\)"
    )
    with pytest.raises(CistError, match=expected):
        load_checkpoint(tmp_path / "odd.pth")


def test_given_architecture_must_fit(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CistError, match=r"do not fit the architecture: \d+ missing: layer1\.1\.conv1\.weight"):
        load_checkpoint(tmp_path / "weights.pth", architecture="resnet14")
    with pytest.raises(CistError, match=r"not those of vgg8: 'classifier\.weight' is missing; the nearest is resnet8"):
        load_checkpoint(tmp_path / "weights.pth", architecture="vgg8")
