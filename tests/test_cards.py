"""Cards of shipped models: where they are looked for, and what a damaged one says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cist_core import CistError, studio
from cist_core.cards import find_sample_model, sample_models, sample_models_folder
from cist_core.inference.sources import find_teacher
from cist_core.zoo.teachers import load_teacher

ROOT = Path(__file__).resolve().parents[1]

COMPLETE: dict[str, Any] = {
    "title": "A network",
    "role": "teacher",
    "architecture": "mlp_14x14",
    "num_classes": 2,
    "class_names": ["a", "b"],
    "preprocessing": {"mean": [0.5], "std": [0.5], "image_size": 28},
    "data": {"name": "data of my own"},
    "accuracy": {},
    "logits": {},
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    (tmp_path / "mine").mkdir()
    return lambda content: (tmp_path / "mine" / "card.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_complete_card_is_read_whatever_its_data_set_is_called(write: Any) -> None:
    write(COMPLETE)
    card = find_sample_model("mine")
    assert card is not None
    assert (card.title, card.data, card.class_names, card.accuracy) == ("A network", "data of my own", ("a", "b"), {})


@pytest.mark.parametrize("key", COMPLETE)
@pytest.mark.parametrize(("value", "said"), [(None, "it is missing"), (1.5, "it is 1.5")])
def test_a_card_with_a_missing_or_wrong_entry_is_named(write: Any, key: str, value: object, said: str) -> None:
    write({**COMPLETE, key: value})
    entry = {"preprocessing": "preprocessing.mean", "data": "data.name"}.get(key, key)
    said = "it is missing" if entry != key else said
    with pytest.raises(
        CistError, match=rf"Expected '{entry}' in the card .*mine/card\.json to be .*, but {said}; restore"
    ):
        sample_models()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "'title' in the card"),
        ({**COMPLETE, "data": {"licence": "MIT"}}, r"'data\.name' .* is missing"),
        ({**COMPLETE, "class_names": ["a"]}, "'class_names' .* 2 names, one for each class, but got 1"),
    ],
)
def test_other_faults_of_a_card_are_named(write: Any, content: object, message: str) -> None:
    write(content)
    with pytest.raises(CistError, match=message):
        sample_models()


def test_a_card_that_is_no_text_is_named(write: Any, tmp_path: Path) -> None:
    (tmp_path / "mine" / "card.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CistError, match=r"card\.json cannot be read"):
        sample_models()


def test_an_installed_package_has_no_sample_models_and_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIST_SAMPLE_MODELS", raising=False)
    monkeypatch.setattr(studio, "PACKAGE", tmp_path / "cist_core")
    (tmp_path / "sample_models" / "other").mkdir(parents=True)
    (tmp_path / "sample_models" / "other" / "card.json").write_text("of another package")
    assert sample_models_folder() is None
    assert sample_models() == []
    for find in (find_teacher, load_teacher):
        with pytest.raises(CistError, match="none installed; set CIST_SAMPLE_MODELS to the folder 'sample_models' of"):
            find("mnist5k-cnn")

    carried = tmp_path / "cist_core" / "_studio"
    shutil.copytree(ROOT / "sample_models" / "mnist5k-mlp", carried / "sample_models" / "mnist5k-mlp")
    assert sample_models_folder() == carried / "sample_models"
    for find in (find_teacher, load_teacher):
        with pytest.raises(CistError, match="cifar100-resnet20 and cifar100-resnet8 come with a clone: set"):
            find("cifar100-resnet20")

    (tmp_path / "pyproject.toml").touch()
    assert sample_models_folder() == tmp_path / "sample_models"
