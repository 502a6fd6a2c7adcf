import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cist_core.data.dataset import evenly_spaced
from cist_core.data.sampling import choose_samples, sample_positions, samples_text, stratified_sample
from cist_core.errors import CistError


def _labels(sizes: list[int]) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)) * 3, sizes))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.data())
def test_samples_are_drawn_by_largest_remainders(sizes: list[int], data: st.DataObject) -> None:
    labels = _labels(sizes)
    count = data.draw(st.integers(1, len(labels)))
    chosen = stratified_sample(labels, count, seed=5)
    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    taken = np.array([(labels[chosen] == label).sum() for label in np.unique(labels)])
    shares = count * np.array(sizes) / len(labels)
    if count >= len(sizes):
        assert taken.min() >= 1
    if count < len(sizes) or shares.min() >= 1:  # no class had to be helped
        assert (taken >= np.floor(shares)).all()
        assert (taken <= np.ceil(shares)).all()
        rounded_up, rounded_down = (shares % 1)[taken > shares], (shares % 1)[taken < shares]
        if rounded_up.size and rounded_down.size:
            assert rounded_up.min() >= rounded_down.max() - 1e-9


def test_a_seed_decides_everything() -> None:
    labels = _labels([50, 50, 10])
    first, again, other = (stratified_sample(labels, 30, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # A link or a file must show the same samples years later.
    assert stratified_sample(np.arange(12) % 3, 5, 0).tolist() == [0, 2, 4, 8, 10]


def test_rare_classes_are_helped_at_the_cost_of_common_ones() -> None:
    labels = _labels([96, 1, 1, 1, 1])
    chosen = stratified_sample(labels, 6, seed=0)
    assert np.bincount(labels[chosen] // 3).tolist() == [2, 1, 1, 1, 1]


@pytest.mark.parametrize(("limit", "seed"), [(None, None), (7, None), (7, 3), (40, 3), (99, 3), (40, None)])
def test_the_text_leads_back_to_the_samples(limit: int | None, seed: int | None) -> None:
    labels = np.arange(40) % 4
    chosen = choose_samples(labels, limit, seed)
    text = samples_text(len(chosen), 40, seed)
    np.testing.assert_array_equal(sample_positions(text, labels), chosen)
    if seed is None:
        np.testing.assert_array_equal(chosen, evenly_spaced(40, limit))
    if len(chosen) == 40:
        assert text == "40 of 40"


@pytest.mark.parametrize(
    "text", ["", "7", "7 of", "-1 of 40", "7 of 40, seed 3", "7 of 40, stratified, seed x", "9" * 30]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(CistError, match="which samples were used"):
        sample_positions(text, np.zeros(40, int))


def test_texts_of_other_data_are_refused() -> None:
    with pytest.raises(CistError, match="made from 50 images, but there are 40"):
        sample_positions("7 of 50", np.zeros(40, int))


@pytest.mark.parametrize(
    ("limit", "seed", "message"), [(None, 1, "only together"), (5, -1, "0 or more"), (0, 1, "at least 1")]
)
def test_samples_that_cannot_be_drawn_are_refused(limit: int | None, seed: int, message: str) -> None:
    with pytest.raises(CistError, match=message):
        choose_samples(np.zeros(9, int), limit, seed)


@pytest.mark.parametrize("count", [0, 10])
def test_counts_that_cannot_be_are_refused(count: int) -> None:
    with pytest.raises(CistError, match="a sample of 1 to 9"):
        stratified_sample(np.zeros(9, int), count, 0)
