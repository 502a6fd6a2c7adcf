"""The equal-others curve: a closed form against SciPy on the rows it describes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import entropy_at_ratio
from scipy.special import softmax

from cist_core import equal_others_entropy, equal_others_top1

RATIOS = np.array([0.0, 1e-6, 0.01, 0.5, 1.0, 3.0, 9.0, 16.0, 40.0, 700.0])


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 50257])
def test_the_curve_is_that_of_a_row_whose_other_classes_are_equal(classes):
    row = np.zeros(classes)
    row[classes // 2] = 5.0
    centred = row - row.mean()
    soft = softmax(RATIOS[:, None] * centred / centred.max(), axis=1)
    np.testing.assert_allclose(equal_others_top1(RATIOS, classes), soft.max(axis=1), rtol=1e-12)
    expected = [entropy_at_ratio(row[None], max(ratio, 1e-300))[0] for ratio in RATIOS]
    np.testing.assert_allclose(equal_others_entropy(RATIOS, classes), expected, rtol=1e-9, atol=1e-12)


def test_the_published_form():
    r, classes = 3.0, 10
    p = np.exp(r) / (np.exp(r) + (classes - 1) * np.exp(-r / (classes - 1)))
    assert equal_others_top1(r, classes) == pytest.approx(p, rel=1e-14)
    entropy = -p * np.log(p) - (1 - p) * np.log((1 - p) / (classes - 1))
    assert equal_others_entropy(r, classes) == pytest.approx(entropy, rel=1e-14)


def test_the_ends_of_the_curve():
    assert equal_others_entropy(0.0, 100) == pytest.approx(np.log(100), rel=1e-15)
    assert equal_others_top1(0.0, 100) == pytest.approx(0.01, rel=1e-15)
    assert equal_others_entropy(1e6, 100) == 0
    assert equal_others_top1(1e6, 100) == 1


def test_any_shape_of_ratios():
    ratios = np.arange(6.0).reshape(2, 3)
    curve = equal_others_entropy(ratios, 10)
    assert curve.shape == (2, 3)
    assert np.all(np.diff(curve.ravel()) < 0)


@given(
    arrays(np.float64, st.integers(2, 20), elements=st.floats(-10, 10)).filter(lambda row: np.ptp(row) > 1e-3),
    st.floats(0.01, 20),
)
def test_no_row_of_that_ratio_has_a_larger_top1_probability(row, ratio):
    centred = row - row.mean()
    largest = softmax(ratio * centred / centred.max()).max()
    assert largest <= equal_others_top1(ratio, len(row)) * (1 + 1e-9)
