import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cist_core.errors import CistError
from cist_core.inference.sources import find_teacher
from cist_core.zoo.foreign import hugging_face

transformers = pytest.importorskip("transformers")
NAMES = {0: "cat", 1: "dog", 2: "<b>bird</b>", 3: "fish"}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=NAMES,
        label2id={name: index for index, name in NAMES.items()},
    )
    return transformers.ResNetForImageClassification(config).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, network: torch.nn.Module) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "saved"
    with hugging_face.quiet(transformers):
        network.save_pretrained(folder)
    processor = transformers.ConvNextImageProcessor(
        size={"shortest_edge": 32}, crop_pct=0.875, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.3], resample=3
    )
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "mine"))


def _change(folder: Path, **entries: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_folder_opens_with_names_preprocessing_and_licence(folder: Path, network: torch.nn.Module) -> None:
    teacher = find_teacher(str(folder))
    assert teacher.architecture == "transformers ResNetForImageClassification"
    assert teacher.class_names == tuple(NAMES.values())
    usual = teacher.preprocessing
    assert (usual.mean, usual.std) == ((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    assert (usual.image_size, usual.crop, usual.interpolation) == (32, 32 / 36, "bicubic")  # int(32 / 0.875)
    assert teacher.facts["licence"] == "apache-2.0"
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(teacher.model(images), network(images).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "head", ["[" * 20_000, "a: 2024-13-45\nlicense: mit", "license: mit\nlicense: gpl", "license: [mit"]
)
def test_a_model_card_that_is_wrong_names_no_licence(folder: Path, head: str) -> None:
    (folder / "README.md").write_text(f"---\n{head}\n---\n# A model\n")
    assert find_teacher(str(folder)).facts["licence"] == "not said in the folder"


def test_pickled_weights_are_read_without_running_them(folder: Path, network: torch.nn.Module) -> None:
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        ours, theirs = find_teacher(str(folder)).model(images), network(images).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    marker = folder / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (marker,)  # type: ignore[return-value]

    torch.save({"weight": torch.zeros(9999), "more": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(CistError, match="not a file of weights alone"):
        find_teacher(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("model_type", ["resnet", "mine"])
def test_code_beside_the_weights_never_runs(folder: Path, model_type: str) -> None:
    marker = folder / "ran"
    (folder / "mine.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nclass Mine: pass\n")
    classes = {"AutoConfig": "mine.Mine", "AutoModelForImageClassification": "mine.Mine"}
    _change(folder, auto_map=classes, model_type=model_type)
    with pytest.raises(CistError, match=r"asks for code of its own .*which is not loaded"):
        find_teacher(str(folder))
    assert not marker.exists()
    __import__("runpy").run_path(str(folder / "mine.py"))
    assert marker.exists()  # the code would have run


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"quantization_config": {"quant_method": "x"}}, "a library for quantised weights"),
        ({"use_pretrained_backbone": True, "backbone": "resnet18"}, "another network as its backbone"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM, which is no image classifier"),
        ({"num_labels": 10**400}, "has 10,000,000,.* classes"),
        ({"model_type": "nonsense"}, "describes no image classifier"),
        ({"hidden_sizes": [8, 16_000_000]}, "describes a network of .* bytes, but the weights have only"),
        ({"depths": [1, 10**9]}, "more than the .* bytes of weights can hold"),
        ({"hidden_sizes": [8, 24]}, "do not fit its config"),
    ],
)
def test_configurations_that_cannot_be_trusted_are_refused(
    folder: Path, entries: dict[str, object], message: str
) -> None:
    _change(folder, **entries)
    with pytest.raises(CistError, match=message):
        find_teacher(str(folder))


def test_damaged_folders_are_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(CistError, match=r"describes a network|cannot be loaded"):
        find_teacher(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(CistError, match=r"holds no weights: neither model\.safetensors"):
        find_teacher(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(CistError, match=r"config\.json is not readable JSON"):
        find_teacher(str(folder))


def test_shards_lie_in_the_folder(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(CistError, match=r"names '\.\./other\.safetensors', which is no file in that folder"):
        find_teacher(str(folder))


def test_repository_is_looked_for_on_this_machine(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CistError, match=r"nobody/nothing are not on this machine; .*--download"):
        find_teacher("hf:nobody/nothing")
    with pytest.raises(CistError, match="Expected a repository of the Hugging Face hub"):
        find_teacher("hf:../../etc")
    monkeypatch.setattr(hugging_face, "fetch_folder", lambda *_, **__: saved)
    assert find_teacher("hf:somebody/something").name == "hf:somebody/something"


def test_scaling_to_other_ranges_is_rewritten() -> None:
    class Processor:
        size, image_mean, image_std = 32, (0.5,), (0.5,)
        rescale_factor, resample = 1 / 127.5, 2

    usual, remarks = hugging_face.translate(Processor(), 224, 3)
    images = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    expected = (images.permute(0, 3, 1, 2).double() / 127.5 - 0.5) / 0.5
    torch.testing.assert_close(usual(images).double(), expected, atol=1e-5, rtol=1e-5)
    assert "0.00784314" in remarks["preprocessing"]


def test_what_a_processor_does_beyond_ours_is_said_or_refused(folder: Path) -> None:
    square = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=square).save_pretrained(folder)
    assert "squeezes the whole image" in find_teacher(str(folder)).facts["left out"]
    transformers.ConvNextImageProcessor(size={"shortest_edge": 384}).save_pretrained(folder)
    assert "squeezes the whole image to 384x384" in find_teacher(str(folder)).facts["left out"]
    transformers.MobileViTImageProcessor(size={"shortest_edge": 28}, crop_size=square).save_pretrained(folder)
    facts = find_teacher(str(folder)).facts["left out"]
    assert "pads 28 pixels to 32" in facts
    assert "do_flip_channel_order" in facts
    transformers.ViTImageProcessor(size={"height": 32, "width": 24}).save_pretrained(folder)
    with pytest.raises(CistError, match="makes 32x24"):
        find_teacher(str(folder))


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_efficientnet_is_normalised_as_its_processor_does(offset: bool, normalised: bool, twice: bool) -> None:
    processor = transformers.EfficientNetImageProcessor(
        size={"height": 8, "width": 8},
        include_top=twice,
        rescale_offset=offset,
        do_normalize=normalised,
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.2, 0.3, 0.5],
    )
    images = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    theirs = processor(images=images.permute(0, 3, 1, 2), return_tensors="pt")["pixel_values"]
    ours = hugging_face.translate(processor, 224, 3)[0](images)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
