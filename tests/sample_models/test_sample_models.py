"""What is shipped is what its cards say."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from cist_core.cards import Card, sample_models
from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import DATASETS, load_dataset
from cist_core.inference.run import infer
from cist_core.logits.logit_set import LogitSet
from cist_core.zoo.checkpoints import file_sha256
from cist_core.zoo.teachers import load_teacher
from sample_models import train as train_script
from sample_models.export import render_card
from sample_models.train import SAMPLE_MODELS, SampleModel, export, load_splits, train_model
from sample_models.training import Recipe

CARDS = sample_models()


def _id(card: Card) -> str:
    return card.name


def test_the_default_teacher_and_student_are_there() -> None:
    assert {"mnist5k-cnn", "mnist5k-cnn-small", "mnist5k-mlp"} <= {card.name for card in CARDS}
    assert {card.name for card in CARDS} <= SAMPLE_MODELS.keys()


@pytest.mark.parametrize("card", CARDS, ids=_id)
def test_files_are_those_of_the_card(card: Card) -> None:
    assert file_sha256(card.checkpoint) == card.content["sha256"]
    for split, entry in card.content["logits"].items():
        path = card.logits(card.data, split)
        assert path is not None
        assert path.name == entry["file"]
        assert file_sha256(path) == entry["sha256"]
    assert (card.folder / "README.md").read_text(encoding="utf-8") == render_card(card.content)


@pytest.mark.parametrize("card", CARDS, ids=_id)
def test_shipped_logits_have_the_accuracy_of_the_card(card: Card) -> None:
    for split in ("train", "validation", "test"):
        path = card.logits(card.data, split)
        assert path is not None
        logit_set = LogitSet.load(path)
        assert logit_set.num_samples == DATASETS[card.data].splits[split]
        assert logit_set.accuracy == pytest.approx(card.accuracy[split], abs=1e-4)
        assert logit_set.nll == pytest.approx(card.content["nll"][split], abs=1e-3)
        assert logit_set.provenance["checkpoint_sha256"] == card.content["sha256"]
        assert logit_set.logits.max() == 0


@pytest.mark.parametrize("card", CARDS, ids=_id)
def test_card_states_recipe_licence_and_command(card: Card) -> None:
    model = SAMPLE_MODELS[card.name]
    assert card.content["recipe"] == model.recipe.to_dict()
    assert len(card.content["history"]) == model.recipe.epochs
    assert card.content["licence"] == "MIT"
    assert card.content["data"]["licence"] == DATASETS[card.data].licence
    assert card.content["command"].startswith(f"python -m sample_models.train {card.name}")
    # The last epoch's weights are shipped: the card's accuracy is the one training ended with.
    assert card.accuracy["validation"] == pytest.approx(card.content["history"][-1]["validation_accuracy"], abs=0.002)


@pytest.mark.parametrize("name", ["mnist5k-cnn", "mnist5k-cnn-small", "mnist5k-mlp"])
def test_shipped_digit_models_reproduce_their_test_accuracy(name: str, tmp_path: Path) -> None:
    teacher = load_teacher(name)
    assert teacher.card is not None
    computed = infer(teacher, load_dataset("mnist-5k"), device="cpu", cache_dir=tmp_path).logit_set
    assert computed.accuracy == pytest.approx(teacher.card["accuracy"]["test"], abs=1e-3)


@pytest.fixture
def digits() -> dict[str, ImageDataset]:
    def part(split: str, count: int) -> ImageDataset:
        dataset = load_dataset("mnist-5k", split)
        step = slice(None, None, dataset.num_samples // count)
        return ImageDataset(
            dataset.name, split, dataset.images[step], dataset.labels[step], dataset.class_names, dataset.source
        )

    return {"train": part("train", 500), "validation": part("validation", 100), "test": part("test", 200)}


QUICK = SampleModel("Quick", "student", "mlp_14x14", "mnist-5k", Recipe(epochs=2, batch_size=50, crop_padding=1))


def test_training_learns_and_is_reproducible(digits: Mapping[str, ImageDataset]) -> None:
    threads = torch.get_num_threads()
    try:
        first, history = train_model(QUICK, digits)
        second, _ = train_model(QUICK, digits)
    finally:
        torch.set_num_threads(threads)
    assert history[-1]["validation_accuracy"] > 0.5
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_export_writes_what_the_library_reads(
    digits: dict[str, ImageDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_script, "FOLDER", tmp_path)
    monkeypatch.setattr(train_script, "SAMPLE_MODELS", {"quick": QUICK})
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    network, history = train_model(QUICK, digits)
    export("quick", network.state_dict(), history, digits)
    (card,) = sample_models()
    assert (card.name, card.role, card.num_classes) == ("quick", "student", 10)
    path = card.logits("mnist-5k", "test")
    assert path is not None
    with torch.inference_mode():
        pixels = torch.from_numpy(np.asarray(digits["test"].images))
        logits = network(load_teacher("quick").preprocessing(pixels)).numpy()
    expected = logits - logits.max(axis=1, keepdims=True)
    np.testing.assert_allclose(LogitSet.load(path).logits, expected, atol=2e-2)
    assert card.logits("mnist", "test") is None
    assert (card.folder / "README.md").read_text(encoding="utf-8") == render_card(card.content)
    right = np.mean(logits.argmax(axis=1) == digits["test"].labels)
    assert card.accuracy["test"] == pytest.approx(right, abs=1.01 / 200)  # one image at a tie


def test_splits_from_a_folder_of_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 100), ("test", 20)):
        images = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
        np.savez(tmp_path / f"toy_{part}.npz", images=images, labels=np.arange(count) % 10)
    splits = load_splits("toy", tmp_path)
    assert {split: dataset.num_samples for split, dataset in splits.items()} == {
        "train": 90,
        "validation": 10,
        "test": 20,
    }
    assert np.bincount(splits["validation"].labels).tolist() == [1] * 10
