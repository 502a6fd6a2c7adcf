"""The envelope against brute force: no row leaves it, and a search over whole rows reaches both of its ends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import entropy_at_ratio
from scipy.optimize import minimize

from cist_core.entropy.envelope import entropy_envelope
from cist_core.entropy.theory import equal_others_entropy
from cist_core.errors import CistError
from cist_core.inference.sources import load_logits
from cist_core.logits.files import read_logits


def entropy_of_drops(drops):
    """Entropy of a row from how far its other classes lie below the largest, and its gradient."""
    odds = np.exp(-drops)
    total = 1.0 + odds.sum()
    mean_drop = (drops * odds).sum() / total
    return math.log(total) + mean_drop, odds / total * (mean_drop - drops)


def extremes_by_search(ratio, classes, gap, starts=24):
    """The smallest and the largest entropy that SLSQP finds from many random rows."""
    rng = np.random.default_rng(0)
    others = classes - 1
    left = classes * ratio - others * gap
    found = []
    for start in range(starts):
        # From one class that takes all of the drop to classes that are nearly equal.
        row = rng.dirichlet(np.full(others, [0.1, 0.5, 1.0, 5.0][start % 4])) * left
        for sign in (1.0, -1.0):
            result = minimize(
                lambda y, sign=sign: tuple(sign * part for part in entropy_of_drops(gap + y)),
                row,
                jac=True,
                method="SLSQP",
                bounds=[(0, None)] * others,
                constraints=[{"type": "eq", "fun": lambda y: y.sum() - left, "jac": np.ones_like}],
                options={"maxiter": 300, "ftol": 1e-12},
            )
            reached = np.maximum(result.x, 0.0)
            found.append(entropy_of_drops(gap + reached * (left / reached.sum()))[0])
    return min(found), max(found)


@pytest.mark.parametrize("classes", [3, 4, 7])
@pytest.mark.parametrize("ratio", [0.1, 0.9, 1.7, 2.4, 4.0, 9.0])
@pytest.mark.parametrize("gap", [0.0, 0.8])
def test_a_search_over_whole_rows_finds_the_same_ends(classes, ratio, gap):
    low, high = entropy_envelope(ratio, classes, gap)
    if gap > ratio * classes / (classes - 1):
        assert math.isnan(low)
        assert math.isnan(high)
        return
    smallest, largest = extremes_by_search(ratio, classes, gap)
    assert smallest == pytest.approx(low, abs=1e-6)
    assert largest == pytest.approx(high, abs=1e-6)


@given(
    arrays(np.float64, st.integers(2, 40), elements=st.floats(-30, 30)).filter(lambda row: np.ptp(row) > 1e-2),
    st.floats(0.01, 30),
)
def test_every_row_lies_inside_at_its_own_gap(row, ratio):
    centred = row - row.mean()
    second, largest = np.sort(centred)[-2:]
    gap = (largest - second) * ratio / largest
    low, high = entropy_envelope(ratio, len(row), gap * (1 - 1e-12))
    assert low - 1e-8 <= entropy_at_ratio(row[None], ratio)[0] <= high + 1e-8


@given(st.integers(2, 300), st.floats(0.01, 40), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_gap_leaves_less_room(classes, ratio, first, second):
    largest = ratio * classes / (classes - 1)
    small, large = sorted((first * largest, second * largest))
    wide, narrow = entropy_envelope(ratio, classes, small), entropy_envelope(ratio, classes, large)
    curve = equal_others_entropy(ratio, classes)
    assert wide.low - 1e-7 <= narrow.low <= curve + 1e-9
    assert curve - 1e-9 <= narrow.high <= wide.high + 1e-7


@pytest.mark.parametrize("classes", [10, 1000, 50_000])
def test_rows_with_two_levels_lie_inside_and_reach_the_lower_end(classes):
    """The best of all rows with k classes tied at the top and the rest equal, listed one by one."""
    for ratio in (0.5, 2.0, 5.0, 8.0, 11.0):
        tied = np.arange(1, classes)  # how many classes share the maximum
        drop = classes * ratio / (classes - tied)
        odds = (classes - tied) * np.exp(-drop)
        entropies = np.log(tied + odds) + drop * odds / (tied + odds)
        low, high = entropy_envelope(ratio, classes)
        assert low <= entropies.min() + 1e-9
        assert entropies.max() <= high + 1e-9
        # Between two of these rows one class is on its way, which saves little where there are many.
        assert low == pytest.approx(entropies.min(), abs=0.03 if classes == 10 else 1e-3)


def test_with_two_classes_the_ratio_decides():
    ratios = np.linspace(0, 20, 41)
    low, high = entropy_envelope(ratios, 2)
    np.testing.assert_allclose(low, equal_others_entropy(ratios, 2), atol=1e-12)
    np.testing.assert_allclose(high, low, atol=1e-12)


@pytest.mark.parametrize("classes", [3, 10, 1000, 50_000])
def test_limits(classes):
    at_zero = entropy_envelope(0.0, classes)
    assert at_zero.low == pytest.approx(math.log(classes), rel=1e-12)
    assert at_zero.high == pytest.approx(math.log(classes), rel=1e-12)
    far = entropy_envelope(60.0, classes)
    assert far.high == pytest.approx(math.log(classes - 1), rel=1e-9)  # all but one class tied
    assert far.low == pytest.approx(equal_others_entropy(60.0, classes), abs=1e-9)


def test_the_largest_gap_leaves_the_equal_others_row_and_a_larger_one_nothing():
    largest = 3.0 * 10 / 9
    low, high = entropy_envelope(3.0, 10, [largest, largest * (1 + 1e-9)])
    assert low[0] == pytest.approx(equal_others_entropy(3.0, 10), rel=1e-12)
    assert high[0] == pytest.approx(low[0], rel=1e-12)
    assert np.isnan([low[1], high[1]]).all()


def test_ratios_and_gaps_broadcast():
    low, high = entropy_envelope(np.array([[2.0], [3.0]]), 10, np.array([0.0, 0.5, 1.0]))
    assert low.shape == high.shape == (2, 3)
    assert low[1, 2] == pytest.approx(entropy_envelope(3.0, 10, 1.0).low, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((-1.0, 10), "ratio"), ((math.inf, 10), "ratio"), ((1.0, 10, -0.1), "gap"), ((1.0, 1), "2 classes")],
)
def test_what_is_no_row_is_refused(arguments, words):
    with pytest.raises(CistError, match=words):
        entropy_envelope(*arguments)


def check_inside(logits):
    rows = logits.astype(np.float64)
    second, largest = np.sort(rows, axis=1)[:, -2:].T
    maximum = largest - rows.mean(axis=1)
    gap = (largest - second) / maximum
    for ratio in (0.5, 3.0, 9.0):
        entropy = entropy_at_ratio(rows, ratio)
        low, high = entropy_envelope(ratio, rows.shape[1], gap * ratio * (1 - 1e-9))
        assert np.all(low <= entropy + 1e-8)
        assert np.all(entropy <= high + 1e-8)


@pytest.mark.parametrize("name", ["mnist5k-cnn/mnist-5k", "cifar100-resnet20/cifar100"])
def test_the_shipped_teachers_lie_inside(name):
    teacher, data = name.split("/")
    check_inside(load_logits(teacher, data, "test").logit_set.logits[:500])


def test_a_real_teacher_of_a_thousand_classes_lies_inside(shared_file):
    check_inside(read_logits(shared_file("imagenet1k_sample_efflite0_logits.npz")).logits[:300])


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_without_a_gap_both_ends_fall_as_the_ratio_grows(classes):
    """So that a floor, which makes ratios smaller, moves samples to a band that lies higher."""
    low, high = entropy_envelope(np.linspace(0.0, 20.0, 81), classes)
    assert (np.diff(low) <= 1e-9).all()
    assert (np.diff(high) <= 1e-9).all()
    assert low[0] == high[0] == pytest.approx(math.log(classes))
