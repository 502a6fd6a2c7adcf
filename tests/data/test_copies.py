"""A copy of a known data set gives the same images in the same order, whatever order and form it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cist_core import CistError, LogitSet
from cist_core.cards import find_sample_model
from cist_core.data.loading import load_copy


def test_a_copy_in_another_order_gives_the_images_of_the_shipped_logits(shared_file, tmp_path: Path) -> None:
    with np.load(shared_file("cifar100_test.npz"), allow_pickle=False) as file:
        images, labels, classes = file["images"], file["labels"], file["classes"]
    order = np.random.default_rng(0).permutation(len(labels))
    extra = np.full((1, 32, 32, 3), 7, np.uint8)  # an image that the set does not have
    mixed = np.concatenate([extra, images[order]]), np.concatenate([[3], labels[order]])
    np.savez(tmp_path / "mixed.npz", images=mixed[0], labels=mixed[1], classes=classes)
    copy = load_copy("cifar100", "test", tmp_path / "mixed.npz")
    card = find_sample_model("cifar100-resnet20")
    assert card is not None
    shipped = card.logits("cifar100", "test")
    assert shipped is not None
    assert np.array_equal(copy.labels, LogitSet.load(shipped).labels)
    np.testing.assert_array_equal(copy.images[np.arange(5)], images[:5])


def test_data_with_other_classes_are_no_copy(tmp_path: Path) -> None:
    images = np.zeros((20, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "ten.npz", images=images, labels=np.arange(20) % 10)
    with pytest.raises(CistError, match=r"cifar100, which has 100 classes.*have 10"):
        load_copy("cifar100", "test", tmp_path / "ten.npz")
