from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cist_core.errors import CistError
from cist_core.inference.sources import find_teacher
from cist_core.zoo.foreign import timm_models

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=6).eval()


def test_checkpoint_with_its_preprocessing(tmp_path: Path, network: torch.nn.Module) -> None:
    torch.save({"state_dict": network.state_dict(), "state_dict_ema": network.state_dict()}, tmp_path / "mine.pth.tar")
    teacher = find_teacher(str(tmp_path / "mine.pth.tar"), "timm:test_resnet")
    assert (teacher.architecture, teacher.num_classes) == ("timm:test_resnet", 6)
    expected = timm.data.resolve_model_data_config(network)
    usual = teacher.preprocessing
    assert (usual.image_size, usual.crop) == (expected["input_size"][1], expected["crop_pct"])
    assert (usual.mean, usual.std, usual.interpolation) == (
        expected["mean"],
        expected["std"],
        expected["interpolation"],
    )
    assert teacher.weights == "state_dict_ema, a running average; left out: state_dict"
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(teacher.model(images), network(images), rtol=1e-5, atol=1e-5)


def test_published_weights_come_from_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "model.safetensors")
    asked: list[tuple[str, bool]] = []

    def fetch(repository: str, name: str, *, download: bool) -> Path:
        asked.append((repository, download))
        return tmp_path / name

    monkeypatch.setattr(timm_models, "fetch_file", fetch)
    teacher = find_teacher("timm:test_resnet.r160_in1k", download=True)
    assert asked == [("timm/test_resnet.r160_in1k", True)]
    assert teacher.num_classes == 1000
    assert teacher.facts["licence"] == "apache-2.0"
    assert teacher.class_names is not None
    assert "goldfish" in teacher.class_names[1]


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: torch.nn.Module) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CistError, match=r"timm/test_resnet\.r160_in1k are not on this machine; .*--download"):
        find_teacher("timm:test_resnet.r160_in1k")
    with pytest.raises(CistError, match=r"timm has no network 'test_resnot'; did you mean .*test_resnet"):
        find_teacher("timm:test_resnot")
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(CistError, match=r"do not fit timm's test_resnet|not those of timm's test_vit"):
        find_teacher(str(tmp_path / "mine.pth"), "timm:test_vit")
    with pytest.raises(CistError, match=r"fit no architecture of the zoo; .* name the network with --arch .*timm:NAME"):
        find_teacher(str(tmp_path / "mine.pth"))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(CistError, match=r"needs the library timm, .*pip install 'cist-studio\[timm\]'"):
        find_teacher("timm:resnet18")


@pytest.mark.parametrize(
    ("damage", "sentence"), [(float("nan"), "NaN or infinite"), (1j, "numbers of the type complex")]
)
def test_weights_that_are_no_numbers_are_refused_as_those_of_the_zoo_are(
    tmp_path: Path, network: torch.nn.Module, damage: complex, sentence: str
) -> None:
    state = network.state_dict()
    name = next(iter(state))
    torch.save({**state, name: state[name] * damage}, tmp_path / "mine.pth")
    with pytest.raises(CistError, match=sentence):
        find_teacher(str(tmp_path / "mine.pth"), "timm:test_resnet")
