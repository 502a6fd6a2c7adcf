import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cist_core.data.dataset import evenly_spaced
from cist_core.data.loading import load_dataset
from cist_core.errors import CistError
from cist_core.inference.run import infer
from cist_core.zoo.architectures import ARCHITECTURES, create_model
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teachers import load_checkpoint, load_teacher

SharedFile = Callable[[str], Path]


PUBLIC = [
    ("resnet20-12fca82f.th", "cifar10_resnet20_test_logits.npz", 20, 0.9173),
    ("resnet56-4bfd9763.th", "cifar10_resnet56_test_logits.npz", 56, 0.9339),
]


@pytest.mark.slow
@pytest.mark.parametrize(("checkpoint", "stored", "depth", "accuracy"), PUBLIC[:1])  # the other one: in the browser
def test_public_cifar10_teachers_reproduce_their_accuracy(
    shared_file: SharedFile, tmp_path: Path, checkpoint: str, stored: str, depth: int, accuracy: float
) -> None:
    teacher = load_checkpoint(shared_file(checkpoint))
    assert (teacher.architecture, teacher.num_classes) == (f"resnet{depth}-plain", 10)
    dataset = load_dataset(shared_file("cifar10_test.npz"))
    logit_set = infer(teacher, dataset, device="cpu", cache_dir=tmp_path).logit_set
    assert logit_set.accuracy == pytest.approx(accuracy, abs=2.01e-4)  # two images of 10,000 at a tie
    with np.load(shared_file(stored)) as reference:
        np.testing.assert_allclose(logit_set.logits, reference["logits"], atol=2e-4)
        np.testing.assert_array_equal(logit_set.labels, reference["labels"])


@pytest.mark.parametrize(("checkpoint", "stored"), [(checkpoint, stored) for checkpoint, stored, *_ in PUBLIC])
def test_public_cifar10_teachers_reproduce_their_logits(
    shared_file: SharedFile, tmp_path: Path, checkpoint: str, stored: str
) -> None:
    dataset = load_dataset(shared_file("cifar10_test.npz"))
    teacher = load_checkpoint(shared_file(checkpoint))
    logits = infer(teacher, dataset, device="cpu", cache_dir=tmp_path, limit=200).logit_set.logits
    with np.load(shared_file(stored)) as reference:
        np.testing.assert_allclose(logits, reference["logits"][evenly_spaced(10_000, 200)], atol=2e-4)


def test_checkpoint_gets_its_familys_preprocessing_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(create_model("vgg8", num_classes=10).state_dict(), path)
    teacher = load_checkpoint(path)
    assert teacher.name == "mine.pth"
    assert teacher.preprocessing == ARCHITECTURES["vgg8"].preprocessing
    assert teacher.checkpoint_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    other = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 32)
    assert load_checkpoint(path, preprocessing=other, name="VGG").preprocessing == other
    assert not teacher.model.training


def test_unknown_sample_model_lists_the_known() -> None:
    with pytest.raises(CistError, match=r"no sample model 'resnet'; there are: .*mnist5k-cnn"):
        load_teacher("resnet")


def test_missing_folder_of_sample_models_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    with pytest.raises(CistError, match="there are: none installed; set CIST_SAMPLE_MODELS to"):
        load_teacher("mnist5k-cnn")


def test_damaged_card_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.json").write_text("{")
    with pytest.raises(CistError, match=r"broken/card\.json cannot be read"):
        load_teacher("mnist5k-cnn")
