from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import load_dataset
from cist_core.errors import CistError
from cist_core.inference.sources import find_teacher, load_logits
from cist_core.zoo.architectures import create_model


def test_shipped_logits_need_neither_images_nor_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("sources.load_dataset", "sources.find_teacher", "run.infer"):
        monkeypatch.delattr(f"cist_core.inference.{name}")
    result = load_logits("mnist5k-cnn", "mnist-5k", cache_dir=tmp_path)
    assert result.cached
    assert (result.logit_set.num_samples, result.logit_set.num_classes) == (1000, 10)
    assert result.samples_per_second > 0


@pytest.mark.parametrize("name", ["mnist5k-mlp", "mnist5k-cnn-small"])
def test_shipped_logits_are_the_computed_ones_less_their_maximum(name: str, tmp_path: Path) -> None:
    shipped = load_logits(name, "mnist-5k").logit_set
    computed = load_logits(name, "mnist-5k", limit=1000, cache_dir=tmp_path)
    assert not computed.cached or computed.logit_set.num_samples == 1000
    np.testing.assert_array_equal(shipped.labels, computed.logit_set.labels)
    exact = entropy(softmax(computed.logit_set.logits.astype(np.float64), axis=1), axis=1)
    stored = entropy(softmax(shipped.logits.astype(np.float64), axis=1), axis=1)
    np.testing.assert_allclose(stored, exact, atol=1e-3)
    assert shipped.provenance["data_fingerprint"] == load_dataset("mnist-5k").fingerprint


def test_what_is_not_shipped_is_computed_then_cached(tmp_path: Path) -> None:
    first = load_logits("mnist5k-mlp", "mnist-5k", limit=100, cache_dir=tmp_path)
    second = load_logits("mnist5k-mlp", "mnist-5k", limit=100, cache_dir=tmp_path)
    assert (first.cached, second.cached) == (False, True)
    assert first.logit_set.logits.dtype == np.float32


def test_own_checkpoint_on_own_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save({"model": create_model("mlp_14x14", num_classes=10).state_dict()}, tmp_path / "mine.pth")
    digits = load_dataset("mnist-5k")
    np.savez(tmp_path / "digits.npz", images=np.asarray(digits.images)[:50], labels=digits.labels[:50])
    result = load_logits(str(tmp_path / "mine.pth"), str(tmp_path / "digits.npz"), cache_dir=tmp_path)
    assert result.logit_set.num_samples == 50
    assert result.logit_set.provenance["architecture"] == "mlp_14x14"
    assert result.logit_set.provenance["images"] == str((tmp_path / "digits.npz").resolve())


def test_given_architecture_is_respected(tmp_path: Path) -> None:
    torch.save(create_model("mlp_14x14", num_classes=10).state_dict(), tmp_path / "mine.pth")
    with pytest.raises(CistError, match="not those of vgg8"):
        load_logits(str(tmp_path / "mine.pth"), "mnist-5k", architecture="vgg8", cache_dir=tmp_path)


@pytest.mark.parametrize("limit", [None, 10])  # shipped, and computed
def test_architecture_of_a_sample_model_is_refused(tmp_path: Path, limit: int | None) -> None:
    message = r"`architecture` .* only together with a checkpoint, but got 'vgg8' for 'mnist5k-mlp'; .* its own"
    with pytest.raises(CistError, match=message):
        load_logits("mnist5k-mlp", "mnist-5k", architecture="vgg8", limit=limit, cache_dir=tmp_path)
    with pytest.raises(CistError, match=message):
        find_teacher("mnist5k-mlp", "vgg8")


def test_bytes_and_samples_are_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_dataset("mnist-5k")

    def download(name: str, split: str, *, download: bool, progress: Callable[[int, int], None]) -> ImageDataset:
        progress(300_000, 0)
        return digits

    monkeypatch.setattr("cist_core.inference.sources.load_dataset", download)
    samples: list[tuple[int, int]] = []
    sizes: list[tuple[int, int]] = []
    load_logits(
        "mnist5k-mlp",
        "mnist",
        cache_dir=tmp_path,
        progress=lambda done, total: samples.append((done, total)),
        download_progress=lambda done, total: sizes.append((done, total)),
    )
    assert sizes == [(300_000, 0)]
    assert samples[-1] == (1000, 1000)
    assert {total for _, total in samples} == {1000}


def test_teacher_and_data_of_different_classes(tmp_path: Path) -> None:
    torch.save(create_model("resnet8", num_classes=100).state_dict(), tmp_path / "hundred.pth")
    with pytest.raises(CistError, match="tells 100 classes apart, but the data set 'mnist-5k' has 10"):
        load_logits(str(tmp_path / "hundred.pth"), "mnist-5k", cache_dir=tmp_path)


def test_a_missing_member_with_an_architecture_is_named(tmp_path: Path) -> None:
    torch.save(create_model("mlp_14x14", num_classes=10).state_dict(), tmp_path / "mine.pth")
    with pytest.raises(CistError, match=r"There is no teacher 'missing\.pth'"):
        find_teacher(f"{tmp_path / 'mine.pth'} + missing.pth", "mlp_14x14")


def test_unknown_teacher_lists_the_known() -> None:
    with pytest.raises(
        CistError,
        match=r"no teacher 'resnet'; expected a sample model \(.*mnist5k-cnn.*\), torchvision:NAME.* or the path of",
    ):
        find_teacher("resnet")


def test_data_that_are_not_downloaded_are_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path))
    with pytest.raises(CistError, match=r"'mnist' is not .*download=True"):
        load_logits("mnist5k-mlp", "mnist", cache_dir=tmp_path)
