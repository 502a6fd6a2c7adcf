"""Soft labels and entropies of single rows against SciPy row by row, closed forms, and extreme temperatures."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax

from cist_core.entropy.soft_labels import centred_maximum, divergence_of, entropy_of, soft_labels
from cist_core.errors import CistError

ROWS = np.random.default_rng(0).normal(size=(5, 10)) * 6


@pytest.mark.parametrize("tau", [0.05, 1.0, 4.0, 300.0])
def test_one_temperature_for_all_rows(tau: float) -> None:
    expected = [softmax(row / tau) for row in ROWS]
    np.testing.assert_allclose(soft_labels(ROWS, tau), expected, rtol=1e-12)


def test_one_temperature_a_row() -> None:
    temperatures = [0.5, 1.0, 2.0, 4.0, 8.0]
    expected = [softmax(row / tau) for row, tau in zip(ROWS, temperatures, strict=True)]
    np.testing.assert_allclose(soft_labels(ROWS, temperatures), expected, rtol=1e-12)


def test_one_row_under_several_temperatures() -> None:
    expected = [softmax(ROWS[0] / tau) for tau in (1.0, 2.0, 3.0)]
    np.testing.assert_allclose(soft_labels(ROWS[0], [1.0, 2.0, 3.0]), expected, rtol=1e-12)


def test_two_classes_are_a_sigmoid() -> None:
    assert soft_labels([3.0, -1.0], 2.0).tolist() == pytest.approx([expit(2.0), expit(-2.0)], rel=1e-14)


def test_float16_logits_are_computed_in_float64() -> None:
    soft = soft_labels(np.array([9.0, 1.0, 0.5], dtype=np.float16), 1.0)
    assert soft.dtype == np.float64
    np.testing.assert_allclose(soft, softmax(np.array([9.0, 1.0, 0.5])), rtol=1e-13)


def test_the_limits_of_the_temperature() -> None:
    assert soft_labels([1e30, 0.0, -1e30], 1e-300).tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(soft_labels([5.0, 1.0, 0.0], 1e12), 1 / 3, rtol=1e-10)
    assert soft_labels([2.0, 2.0, -1.0], 1e-6).tolist() == [0.5, 0.5, 0.0]  # ties stay ties


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, [1.0, 0.0, 1.0, 1.0, 1.0]])
def test_a_temperature_must_be_positive(tau: object) -> None:
    with pytest.raises(CistError, match="temperature to be positive"):
        soft_labels(ROWS, tau)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_logit_must_be_finite(value: float) -> None:
    with pytest.raises(CistError, match="finite logits"):
        soft_labels([1.0, value], 1.0)


@pytest.mark.parametrize("tau", [0.05, 1.0, 40.0])
def test_entropy_is_that_of_scipy(tau: float) -> None:
    soft = softmax(ROWS / tau, axis=1)
    np.testing.assert_allclose(entropy_of(soft), stats.entropy(soft, axis=1), rtol=1e-12)


def test_entropy_in_closed_form() -> None:
    assert float(entropy_of([0.0, 1.0, 0.0])) == 0.0
    assert float(entropy_of(np.full(100, 0.01))) == pytest.approx(math.log(100), rel=1e-14)
    p = 0.3
    assert float(entropy_of([p, 1 - p])) == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), rel=1e-14)
    assert entropy_of(np.full((2, 3, 4), 0.25)).shape == (2, 3)


def test_divergence_is_that_of_scipy_and_broadcasts() -> None:
    p, q = softmax(ROWS, axis=1), softmax(ROWS / 3, axis=1)
    np.testing.assert_allclose(divergence_of(p, q), stats.entropy(p, q, axis=1), rtol=1e-12)
    np.testing.assert_allclose(divergence_of(p[0], q), [stats.entropy(p[0], row) for row in q], rtol=1e-12)
    assert float(divergence_of([0.5, 0.5], [1.0, 0.0])) == math.inf


def test_the_centred_maximum_ignores_a_constant_and_follows_a_scale() -> None:
    expected = [row.max() - math.fsum(row) / len(row) for row in ROWS]
    np.testing.assert_allclose(centred_maximum(ROWS), expected, rtol=1e-12)
    np.testing.assert_allclose(centred_maximum(ROWS * 3 + 7), 3 * centred_maximum(ROWS), rtol=1e-12)
    assert float(centred_maximum([2.0, 2.0])) == 0.0
