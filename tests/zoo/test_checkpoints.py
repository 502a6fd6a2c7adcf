import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cist_core.errors import CistError
from cist_core.logits.files import read_logits
from cist_core.zoo.architectures import ARCHITECTURES, create_model
from cist_core.zoo.checkpoints import expected_shapes, identify_architecture, read_checkpoint, read_raw, save_weights
from cist_core.zoo.inspection import inspect_checkpoint
from cist_core.zoo.teachers import load_checkpoint
from tests.damaged_files import with_flipped_bits


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
        "net": {"net": state, "acc": 94.2, "epoch": 199},
        "model_state_dict": {"model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}},
        "accuracy of NumPy": {"epoch": 240, "model": state, "best_acc": np.float64(72.3), "accuracy": np.float32(1)},
        "lightning": {"state_dict": {f"model.{name}": t for name, t in state.items()}, "epoch": 3},
        "compiled": {"model": {f"_orig_mod.module.{name}": t for name, t in state.items()}},
        "running average": {"model_ema": {"state_dict": {f"module.{name}": t for name, t in state.items()}}},
    }[kind]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "bare",
        "model",
        "with options",
        "data parallel",
        "net",
        "model_state_dict",
        "accuracy of NumPy",
        "lightning",
        "compiled",
        "running average",
    ],
)
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


def test_pickled_weights_may_have_any_ending(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert load_checkpoint(tmp_path / "pytorch_model.bin").architecture == "resnet8"


def test_further_weights_in_the_file_are_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    average = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"state_dict": state, "model_ema": average, "epoch": 3}, tmp_path / "both.pth")
    report = inspect_checkpoint(tmp_path / "both.pth")
    assert (report.weights, report.left_out) == ("model_ema", ("state_dict",))
    assert torch.equal(read_checkpoint(tmp_path / "both.pth")["fc.bias"], average["fc.bias"])
    assert torch.equal(read_checkpoint(tmp_path / "both.pth", "state_dict")["fc.bias"], state["fc.bias"])
    assert "left out: state_dict" in load_checkpoint(tmp_path / "both.pth").facts["weights"]


def test_report_of_what_fits(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "weights.pth")
    report = inspect_checkpoint(tmp_path / "weights.pth")
    assert [(fit.architecture, fit.num_classes) for fit in report.fits] == [("resnet8", 100)]
    assert (report.num_classes, report.nearest) == (100, None)
    assert report.parameters == sum(tensor.numel() for tensor in state.values())
    assert not report.differences


def test_report_of_what_fits_nothing(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    del state["layer3.0.bn2.bias"]
    state["extra.weight"] = torch.ones(2)
    state["conv1.weight"] = torch.ones(16, 3, 5, 5)
    torch.save(state, tmp_path / "odd.pth")
    report = inspect_checkpoint(tmp_path / "odd.pth")
    assert (report.fits, report.nearest, report.num_classes) == ((), "resnet8", 100)
    assert report.differences.missing == ("layer3.0.bn2.bias",)
    assert report.differences.unexpected == ("extra.weight",)
    assert report.differences.reshaped == (("conv1.weight", (16, 3, 5, 5), (16, 3, 3, 3)),)


def test_several_fits_are_a_question(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "weights.pth")
    monkeypatch.setitem(ARCHITECTURES, "resnet8-twin", ARCHITECTURES["resnet8"])
    expected_shapes.cache_clear()
    with pytest.raises(
        CistError, match=r"fit several architectures \(resnet8, resnet8-twin\); name the network with --arch"
    ):
        load_checkpoint(tmp_path / "weights.pth")
    assert load_checkpoint(tmp_path / "weights.pth", architecture="resnet8-twin").num_classes == 100
    expected_shapes.cache_clear()


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_larger_than_their_file_are_refused_before_they_are_allocated(tmp_path: Path, legacy: bool) -> None:
    vast = {"fc.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}
    torch.save(vast, tmp_path / "vast.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CistError, match=r"holds weights of 4,398,046,511,104 bytes, but has only [\d,]+;"):
        read_checkpoint(tmp_path / "vast.pth")


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(1000, 1000)}, tmp_path / "plain.pth")
    plain = zipfile.ZipFile(tmp_path / "plain.pth")
    with plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert (tmp_path / "bomb.pth").stat().st_size < 20_000
    with pytest.raises(CistError, match=r"bytes unpack to 4,0\d\d,\d\d\d; save"):
        read_checkpoint(tmp_path / "bomb.pth")


def test_a_list_that_contains_itself_ends(tmp_path: Path) -> None:
    knot: list[object] = []
    knot += [knot] * 100
    torch.save({"epoch": knot}, tmp_path / "knot.pth")
    with pytest.raises(CistError, match="holds no state dict"):
        read_checkpoint(tmp_path / "knot.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused_and_nobody_is_told_to_switch_the_protection_off(tmp_path: Path) -> None:
    program = torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2))
    program.save(str(tmp_path / "script.pt"))
    for reader in (read_checkpoint, read_logits):
        with pytest.raises(CistError, match="TorchScript program, which carries code") as error:
            reader(tmp_path / "script.pt")
        assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("flips", [1, 64])
def test_our_own_weights_with_flipped_bits_are_whole_or_refused(tmp_path: Path, flips: int) -> None:
    rng = np.random.default_rng(0)
    state = {
        "weight": torch.from_numpy(rng.normal(size=(30, 20))).float(),
        "half": torch.ones(4, 4).half(),
        "brain": torch.ones(3).bfloat16(),
        "batches": torch.tensor(5),
        "empty": torch.zeros(0, 3),
    }
    path = tmp_path / "student.safetensors"
    save_weights(state, path)
    whole = path.read_bytes()
    save_weights(dict(reversed(state.items())), path)
    assert path.read_bytes() == whole
    for key, value in read_raw(path).items():
        assert torch.equal(value, state[key])
    refused = 0
    for _ in range(40):
        path.write_bytes(with_flipped_bits(whole, flips, rng))
        try:
            found = read_raw(path)
        except CistError:
            refused += 1
            continue
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)
    assert refused >= 38
