import re
from pathlib import Path

import pytest
import torch
from torchvision.models import ResNet50_Weights, get_model, get_model_weights

from cist_core.errors import CistError
from cist_core.inference.sources import find_teacher
from cist_core.zoo.foreign import torchvision_models
from cist_core.zoo.inspection import inspect_checkpoint
from cist_core.zoo.teachers import load_checkpoint

NAME = "squeezenet1_1"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def placed(cache: Path) -> torch.nn.Module:
    """Random weights where torchvision would keep its own."""
    torch.manual_seed(0)
    model = get_model(NAME).eval()
    torch.save(model.state_dict(), cache / get_model_weights(NAME).DEFAULT.url.rsplit("/", 1)[-1])
    return model


def test_weights_bring_their_preprocessing_classes_and_facts(placed: torch.nn.Module) -> None:
    teacher = find_teacher(f"torchvision:{NAME}")
    assert (teacher.name, teacher.architecture) == (f"torchvision:{NAME}@IMAGENET1K_V1", f"torchvision:{NAME}")
    assert teacher.num_classes == 1000
    assert teacher.class_names is not None
    assert teacher.class_names[1] == "goldfish"
    assert len(set(teacher.class_names)) == 1000
    usual = teacher.preprocessing
    assert (usual.image_size, usual.crop, usual.interpolation) == (224, 224 / 256, "bilinear")
    assert usual.mean == (0.485, 0.456, 0.406)
    assert "BSD-3-Clause" in teacher.facts["licence"]
    assert "acc@1 58.178 % on ImageNet-1K" in teacher.facts["metrics"]
    assert teacher.facts["parameters"] == "1,235,496"
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(teacher.model(images), placed(images), rtol=1e-5, atol=1e-5)


def test_transforms_are_translated() -> None:
    from torchvision.models import MaxVit_T_Weights, ViT_B_16_Weights

    bicubic = torchvision_models.usual_preprocessing(MaxVit_T_Weights.IMAGENET1K_V1)
    assert (bicubic.image_size, bicubic.crop, bicubic.interpolation) == (224, 1.0, "bicubic")
    assert torchvision_models.usual_preprocessing(ResNet50_Weights.IMAGENET1K_V2).crop == 224 / 232
    assert "CC-BY-NC" in torchvision_models.facts_of(ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1)["licence"]


def test_nothing_is_downloaded_unasked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, *_, **__: asked.append(url))
    with pytest.raises(
        CistError, match=r"IMAGENET1K_V2 of torchvision's resnet50 are not on this machine; .*--download"
    ):
        find_teacher("torchvision:resnet50@IMAGENET1K_V2")
    assert asked == []


def test_a_download_is_checked_and_its_failure_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, target: str, *, hash_prefix: str, progress: bool) -> None:
        assert hash_prefix == "b8a52dc0"
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(CistError, match=r"squeezenet1_1-b8a52dc0\.pth cannot be downloaded to .*no network"):
        find_teacher(f"torchvision:{NAME}", download=True)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("torchvision:resnet51", "no classifier 'resnet51'; did you mean resnet50"),
        ("torchvision:resnet50@BEST", "no weights 'BEST'; it has: IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:fcn_resnet50", "no classifier 'fcn_resnet50'"),
    ],
)
def test_unknown_names_are_refused(reference: str, message: str) -> None:
    with pytest.raises(CistError, match=message):
        find_teacher(reference)


@pytest.mark.parametrize("name", [NAME, "shufflenet_v2_x0_5"])
def test_checkpoint_is_recognised(tmp_path: Path, name: str) -> None:
    torch.save({"model": get_model(name, num_classes=7).state_dict()}, tmp_path / "mine.pth")
    (fit,) = inspect_checkpoint(tmp_path / "mine.pth").fits
    assert (fit.architecture, fit.num_classes) == (f"torchvision:{name}", 7)
    assert load_checkpoint(tmp_path / "mine.pth").preprocessing.image_size == 224


def test_given_architecture_fits_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(get_model(NAME, num_classes=7).state_dict(), path)
    assert find_teacher(str(path), f"torchvision:{NAME}").num_classes == 7
    with pytest.raises(CistError, match=r"those of torchvision's resnet18: 'fc\.weight', .* is missing"):
        find_teacher(str(path), "torchvision:resnet18")
    with pytest.raises(CistError, match=r"do not fit torchvision's squeezenet1_0: .*other shapes"):
        find_teacher(str(path), "torchvision:squeezenet1_0")


def test_a_vision_transformer_says_its_image_size() -> None:
    with torch.device("meta"):
        state = get_model("vit_b_32", num_classes=7, image_size=64).state_dict()
    assert torchvision_models.fitting_classes("vit_b_32", state) == 7
    positions = state["encoder.pos_embedding"]
    state["encoder.pos_embedding"] = positions[:, :-1]  # no square of patches
    assert torchvision_models.fitting_classes("vit_b_32", state) is None


def test_old_names_of_a_densenet_are_read() -> None:
    with torch.device("meta"):
        state = get_model("densenet121", num_classes=7).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): weight for name, weight in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert torchvision_models.fitting_classes("densenet121", old) == 7


@pytest.mark.parametrize(
    ("damage", "sentence"), [(float("nan"), "NaN or infinite"), (1j, "numbers of the type complex")]
)
def test_weights_that_are_no_numbers_are_refused_as_those_of_the_zoo_are(
    tmp_path: Path, damage: complex, sentence: str
) -> None:
    state = get_model(NAME).state_dict()
    name = next(iter(state))
    torch.save({**state, name: state[name] * damage}, tmp_path / "mine.pth")
    with pytest.raises(CistError, match=sentence):
        find_teacher(str(tmp_path / "mine.pth"), f"torchvision:{NAME}")


def test_a_network_that_computes_its_widths_with_tensors_is_recognised(tmp_path: Path) -> None:
    """A RegNet, which cannot be built on the meta device."""
    torch.manual_seed(0)
    model = get_model("regnet_y_400mf", num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / "net.pt")
    teacher = load_checkpoint(tmp_path / "net.pt")
    assert (teacher.architecture, teacher.num_classes) == ("torchvision:regnet_y_400mf", 7)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(teacher.model(images), model(images), rtol=1e-5, atol=1e-5)
