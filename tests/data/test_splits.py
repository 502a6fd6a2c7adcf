from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cist_core.data.dataset import evenly_spaced
from cist_core.data.loading import load_dataset
from cist_core.data.pinned_splits import image_keys, pinned_positions, write_pins
from cist_core.data.splits import stratified_split
from cist_core.errors import CistError, CistWarning


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    fractions=st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.5), (0.3,), (0.9, 0.1)]),
    seed=st.integers(0, 5),
)
def test_parts_are_disjoint_and_hold_their_share_of_every_class(
    sizes: list[int], fractions: tuple[float, ...], seed: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = stratified_split(labels, fractions, seed)
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    for part, fraction in zip(parts, fractions, strict=True):
        counts = np.bincount(labels[part.astype(int)], minlength=len(sizes))
        assert (np.abs(counts - fraction * np.array(sizes)) <= 1).all()
    assert all(
        np.array_equal(part, again)
        for part, again in zip(parts, stratified_split(labels, fractions, seed), strict=True)
    )


def test_seed_decides_the_split() -> None:
    labels = np.repeat(np.arange(3), 50)
    assert not np.array_equal(stratified_split(labels, (0.5,), 0)[0], stratified_split(labels, (0.5,), 1)[0])


@pytest.mark.parametrize("fractions", [(0.6, 0.5), (0.5, 0.0), (1.1,)])
def test_impossible_fractions_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="positive and to sum to 1 at most"):
        stratified_split(np.zeros(10, int), fractions, 0)


def test_a_limited_number_of_samples_covers_sorted_classes() -> None:
    labels = np.repeat(np.arange(10), 100)
    assert np.bincount(labels[evenly_spaced(1000, 50)]).tolist() == [5] * 10
    assert evenly_spaced(5, None).tolist() == evenly_spaced(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert len(np.unique(evenly_spaced(1000, 999))) == 999
    with pytest.raises(CistError, match="a limit of at least 1 sample, but got 0"):
        evenly_spaced(5, 0)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), np.uint8)


def test_pinned_split_does_not_depend_on_the_order_of_the_mirror(
    images: np.ndarray, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(40, dtype=np.int64) % 10
    folder = tmp_path_factory.mktemp("pins")
    write_pins(folder / "toy.npz", {"train": (images[:30], labels[:30]), "validation": (images[30:], labels[30:])})
    monkeypatch.setattr("cist_core.data.pinned_splits.PINNED", {"toy": "toy.npz"})
    monkeypatch.setattr("cist_core.data.pinned_splits.resources.files", lambda package: folder)

    shuffled = np.random.default_rng(1).permutation(40)
    positions = pinned_positions("toy", "validation", images[shuffled], labels[shuffled])
    assert positions is not None
    np.testing.assert_array_equal(images[shuffled][positions], images[30:])
    assert pinned_positions("toy", "train", images[5:], labels[5:]) is None  # five of its images are missing
    assert pinned_positions("other", "train", images, labels) is None


def test_a_copy_that_lacks_images_of_a_pinned_split_is_told(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(40, dtype=np.int64) % 2
    pinned = {"train": (images[:36], labels[:36]), "validation": (images[36:], labels[36:])}
    write_pins(tmp_path / "toy.npz", {**pinned, "test": (images, labels)})
    monkeypatch.setattr("cist_core.data.pinned_splits.PINNED", {"cifar100": "toy.npz"})
    monkeypatch.setattr("cist_core.data.pinned_splits.resources.files", lambda package: tmp_path)
    copy = images.copy()
    monkeypatch.setattr("cist_core.data.torchvision_sets.read_arrays", lambda *_: (copy, labels, ("a", "b")))
    assert load_dataset("cifar100", "validation", root=tmp_path).num_samples == 4

    copy[-1] = 0
    for split, size in (("validation", 4), ("test", 40)):
        with pytest.warns(CistWarning, match=rf"'cifar100' in .* lacks images of its usual {split} split; another"):
            dataset = load_dataset("cifar100", split, root=tmp_path)
        assert dataset.num_samples == size


def test_key_tells_images_and_labels_apart(images: np.ndarray) -> None:
    zeros = np.zeros(40, np.int64)
    keys = image_keys(images, zeros)
    assert len(np.unique(keys)) == 40
    assert not np.isin(image_keys(images, zeros + 1), keys).any()


def test_shipped_cifar100_split_is_whole_and_disjoint() -> None:
    from importlib import resources

    with resources.files("cist_core.data").joinpath("cifar100_split.npz").open("rb") as stream, np.load(stream) as pins:
        sizes = {split: len(pins[split]) for split in pins.files}
        assert sizes == {"train": 45_000, "validation": 5_000, "test": 10_000}
        assert not np.isin(pins["validation"], pins["train"]).any()
        # CIFAR-100 itself holds five training images twice, and four test images among the training images.
        known = np.concatenate([pins["train"], pins["validation"]])
        assert len(np.unique(known)) == 49_995
        assert np.isin(pins["test"], known).sum() == 4
