"""The images of a run: parts that share nothing, and random changes that stay within what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cist_core.errors import CistError
from cist_core.training.image_config import AugmentationConfig, ImageDataConfig
from cist_core.training.images import augment, load_splits, strong_view
from cist_core.training.randomness import derived_seed, random_order


def numbered(count: int, classes: int, start: int = 0) -> dict[str, np.ndarray]:
    """Images that carry their own number in their pixels."""
    images = np.zeros((count, 28, 28, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(start, start + count) % 256
    return {"images": images, "labels": np.arange(count) % classes}


def numbers(dataset) -> set[int]:
    return set(dataset.images[:, 0, 0, 0].tolist())


def test_one_file_is_cut_into_three_parts_that_share_no_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", **numbered(200, 4))
    splits = load_splits(ImageDataConfig(name=str(tmp_path / "all.npz"), validation_share=0.2))
    parts = [numbers(part) for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in parts] == [128, 40, 32]
    assert set.union(*parts) == set(range(200))
    assert [part.split for part in (splits.train, splits.validation, splits.test)] == ["train", "validation", "test"]


def test_a_test_file_stays_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", **numbered(100, 2))
    np.savez(tmp_path / "test.npz", **numbered(30, 2, start=100))
    splits = load_splits(ImageDataConfig(name=str(tmp_path / "train.npz"), test=str(tmp_path / "test.npz")))
    assert numbers(splits.test) == set(range(100, 130))
    assert splits.train.num_samples == 90


def test_the_training_images_are_no_test(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", **numbered(100, 2))
    with pytest.raises(CistError, match=r"to hold other images than data\.name"):
        load_splits(ImageDataConfig(name=str(tmp_path / "train.npz"), test=str(tmp_path / "train.npz")))


def test_classes_that_differ_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", **numbered(100, 2), classes=np.array(["cat", "dog"]))
    np.savez(tmp_path / "test.npz", **numbered(30, 2), classes=np.array(["cat", "cow"]))
    with pytest.raises(CistError, match="same classes in the train and the test images, but they differ in cow"):
        load_splits(ImageDataConfig(name=str(tmp_path / "train.npz"), test=str(tmp_path / "test.npz")))


def test_a_limit_takes_as_many_of_every_class() -> None:
    splits = load_splits(ImageDataConfig(name="mnist-5k", train_samples=50, validation_samples=20))
    assert np.bincount(splits.train.labels).tolist() == [5] * 10
    assert np.bincount(splits.validation.labels).tolist() == [2] * 10
    assert splits.test.num_samples == 1000


def test_too_many_images_are_refused() -> None:
    with pytest.raises(CistError, match=r"data.train_samples to be at most 3,500, all there are, but got 4,000"):
        load_splits(ImageDataConfig(name="mnist-5k", train_samples=4000))


def test_a_named_data_set_takes_no_test_file() -> None:
    with pytest.raises(CistError, match="brings its test images"):
        load_splits(ImageDataConfig(name="mnist-5k", test="other.npz"))


def test_crops_are_windows_of_the_padded_image() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(1, 256, (64, 6, 6, 3), dtype=torch.uint8)
    out = augment(pixels, AugmentationConfig(crop_padding=2))
    seen = set()
    for before, after in zip(pixels, out, strict=True):
        padded = torch.zeros(10, 10, 3, dtype=torch.uint8)
        padded[2:8, 2:8] = before
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[y : y + 6, x : x + 6], after)]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 15


def test_flips_mirror_some_images_and_leave_the_others() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (100, 4, 4, 1), dtype=torch.uint8)
    out = augment(pixels, AugmentationConfig(flip=True))
    mirrored = [torch.equal(after, before.flip(1)) for before, after in zip(pixels, out, strict=True)]
    kept = [torch.equal(after, before) for before, after in zip(pixels, out, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 30 < sum(mirrored) < 70


def test_resized_crops_and_strong_views_keep_the_shape() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    for out in (augment(pixels, AugmentationConfig(resized_crop=(0.3, 1.0))), strong_view(pixels)):
        assert out.shape == pixels.shape
        assert out.dtype == torch.uint8
        assert not torch.equal(out, pixels)


def test_orders_are_permutations_that_depend_on_the_key_alone() -> None:
    assert torch.equal(random_order(50, 0, 1, 2), random_order(50, 0, 1, 2))
    assert not torch.equal(random_order(50, 0, 1, 2), random_order(50, 0, 1, 3))
    assert sorted(random_order(50, 0, 1, 2).tolist()) == list(range(50))
    assert len({derived_seed(0, 2, step) for step in range(1000)}) == 1000
