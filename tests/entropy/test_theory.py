"""The closed forms against SciPy on the rows that they describe, and the expansion at small ratios."""

from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import entropy_at_ratio
from scipy.special import softmax

from cist_core import equal_others_entropy, equal_others_top1
from cist_core.entropy.theory import second_class_entropy

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


@pytest.mark.parametrize("classes", [3, 10, 1000])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_second_class_curve_is_that_of_a_row_whose_further_classes_are_equal(classes, share):
    row = np.zeros(classes)
    row[0] = 1.0
    row[1] = 1.0 - share
    # At share 1 the second class is one of the others: the equal-others row.
    for ratio in (0.3, 2.0, 6.0):
        centred = row - row.mean()
        scaled = ratio * centred / centred.max()
        expected = entropy_at_ratio(row[None], ratio)[0]
        assert second_class_entropy(ratio, scaled[0] - scaled[1], classes) == pytest.approx(expected, rel=1e-10)


def test_the_second_class_curve_ends_on_the_equal_others_curve():
    ratios = np.array([0.0, 0.5, 3.0, 20.0])
    expected = equal_others_entropy(ratios, 10)
    np.testing.assert_allclose(second_class_entropy(ratios, ratios * 10 / 9, 10), expected, atol=1e-13)
    np.testing.assert_allclose(second_class_entropy(ratios, 1e3, 10), expected, atol=1e-13)
    # Two classes leave nothing to choose, whatever gap is asked for.
    np.testing.assert_allclose(second_class_entropy(ratios, 0.1, 2), equal_others_entropy(ratios, 2), atol=1e-13)


def test_a_tie_at_a_large_ratio_has_the_entropy_of_a_coin():
    assert second_class_entropy(60.0, 0.0, 5) == pytest.approx(np.log(2), rel=1e-12)


def cumulant_entropy(row, ratio, order):
    """``ln C - sum_{n=2} kappa_n r^n (n - 1) / n!`` with the population cumulants of the row over its maximum."""
    y = row / row.max()
    moments = [np.mean(y**n) for n in range(5)]
    kappa = {2: moments[2], 3: moments[3], 4: moments[4] - 3 * moments[2] ** 2}
    return np.log(len(y)) - sum(kappa[n] * ratio**n * (n - 1) / factorial(n) for n in range(2, order + 1))


def test_at_small_ratios_the_entropy_follows_the_cumulants():
    rows = np.random.default_rng(1).standard_normal((200, 50))
    rows -= rows.mean(axis=1, keepdims=True)
    for ratio in (0.1, 0.4):
        exact = entropy_at_ratio(rows, ratio)
        errors = [
            np.max(np.abs([cumulant_entropy(row, ratio, order) for row in rows] - exact)) / ratio ** (order + 1)
            for order in (2, 3, 4)
        ]
        assert max(errors) < 0.2  # what is left out is of the next order
    variance = np.var(rows / rows.max(axis=1, keepdims=True), axis=1)
    assert entropy_at_ratio(rows, 0.02).std() == pytest.approx(0.02**2 / 2 * variance.std(), rel=0.02)


def test_at_ordinary_ratios_the_cumulants_say_nothing():
    rows = np.random.default_rng(1).standard_normal((200, 50))
    rows -= rows.mean(axis=1, keepdims=True)
    guess = np.array([cumulant_entropy(row, 5.0, 4) for row in rows])
    assert np.mean(np.abs(guess - entropy_at_ratio(rows, 5.0))) > 1.0


def test_where_soft_labels_are_nearly_uniform_the_gain_is_that_of_the_deviations():
    """The limit of ``std(H | tau) / std(H | rho)`` at equal mean entropy: ``CV(s^2) / CV((s / m)^2)``."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((400, 30)) * rng.uniform(0.9, 1.1, (400, 1))
    rows -= rows.mean(axis=1, keepdims=True)
    square, maximum = np.var(rows, axis=1), rows.max(axis=1)
    relative = square / maximum**2
    tau = 300.0
    rho = np.sqrt(square.mean() / relative.mean()) / tau
    fixed, held = entropy_at_ratio(rows, maximum / tau), entropy_at_ratio(rows, rho)
    expected = (square.std() / square.mean()) / (relative.std() / relative.mean())
    assert expected < 0.9  # CIST is the less consistent rule
    assert np.log(30) - fixed.mean() == pytest.approx(np.log(30) - held.mean(), rel=0.01)
    assert fixed.std() / held.std() == pytest.approx(expected, rel=0.02)
