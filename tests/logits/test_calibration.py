"""Calibration against SciPy's softmax, a brute grid and closed forms."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from cist_core import CistError, read_logits
from cist_core.logits import calibration as calibration_module
from cist_core.logits.calibration import (
    FIT_RANGE,
    cross_entropies,
    expected_calibration_error,
    fit_temperature,
    nll,
    reliability,
)


@pytest.fixture
def believable(logits) -> np.ndarray:
    """Labels drawn from the logits' own probabilities at temperature 2.5: that is the temperature to find."""
    rng = np.random.default_rng(1)
    probabilities = softmax(logits.astype(np.float64) / 2.5, axis=1)
    return np.array([rng.choice(10, p=row) for row in probabilities])


def reference_nll(logits, labels, tau):
    return -np.mean(log_softmax(np.asarray(logits, np.float64) / tau, axis=1)[np.arange(len(labels)), labels])


@pytest.mark.parametrize("tau", [0.3, 1.0, 4.0])
def test_nll_is_the_mean_log_softmax_of_the_label(logits, labels, tau):
    assert nll(logits, labels, tau=tau) == pytest.approx(reference_nll(logits, labels, tau), rel=1e-12)


def test_the_fitted_temperature_is_the_best_of_a_fine_grid(logits, believable):
    grid = np.geomspace(0.1, 20, 4001)
    values = [reference_nll(logits, believable, tau) for tau in grid]
    assert 0 < np.argmin(values) < 4000
    fitted = fit_temperature(logits, believable)
    assert fitted == pytest.approx(grid[np.argmin(values)], rel=2e-3)
    assert nll(logits, believable, tau=fitted) <= min(values) + 1e-12
    assert fitted == pytest.approx(2.5, rel=0.2)


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("bins", [5, 15, 20])
def test_the_calibration_error_is_that_of_torchmetrics(logits, believable, tau, bins):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    probabilities = torch.from_numpy(softmax(logits.astype(np.float64) / tau, axis=1))
    theirs = multiclass_calibration_error(probabilities, torch.from_numpy(believable), 10, n_bins=bins, norm="l1")
    ours = expected_calibration_error(logits, believable, tau=tau, bins=bins)
    assert ours == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("right", [6, 8, 9])
def test_with_two_classes_the_odds_of_being_right_are_fitted(right):
    """Every row is (3, 0): softmax(3 / tau) must be the accuracy, so 3 / tau = ln(right / wrong)."""
    labels = [0] * right + [1] * (10 - right)
    assert fit_temperature([[3.0, 0.0]] * 10, labels) == pytest.approx(3 / math.log(right / (10 - right)), rel=1e-6)


@pytest.mark.parametrize(("labels", "end"), [([0, 0], FIT_RANGE[0]), ([1, 1], FIT_RANGE[1])])
def test_a_model_that_is_always_right_or_worse_than_guessing_gets_the_end_of_the_range(labels, end):
    assert fit_temperature([[3.0, 0.0], [1.0, 0.0]], labels) == end


def test_logits_times_a_factor_want_that_many_times_the_temperature(logits, believable):
    assert fit_temperature(logits * 8, believable) == pytest.approx(8 * fit_temperature(logits, believable), rel=1e-6)
    assert fit_temperature(logits + 64, believable) == pytest.approx(fit_temperature(logits, believable), rel=1e-5)


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_the_bins_hold_what_a_loop_puts_there(logits, labels, tau):
    probabilities = softmax(logits.astype(np.float64) / tau, axis=1)
    bins = reliability(logits, labels, tau=tau, bins=7)
    expected_error = 0.0
    for index in range(7):
        confidence = probabilities.max(axis=1)
        inside = (confidence > index / 7) & (confidence <= (index + 1) / 7)
        assert bins.count[index] == inside.sum()
        if not inside.any():
            assert np.isnan(bins.accuracy[index])
            continue
        accuracy = np.mean(probabilities.argmax(axis=1)[inside] == labels[inside])
        assert bins.accuracy[index] == pytest.approx(accuracy)
        assert bins.confidence[index] == pytest.approx(confidence[inside].mean())
        expected_error += inside.mean() * abs(accuracy - confidence[inside].mean())
    assert bins.error == pytest.approx(expected_error)
    assert expected_calibration_error(logits, labels, tau=tau, bins=7) == pytest.approx(bins.error, rel=1e-9)


def test_the_size_of_a_chunk_changes_nothing(monkeypatch, logits, believable):
    whole = nll(logits, believable), fit_temperature(logits, believable), expected_calibration_error(logits, believable)
    monkeypatch.setattr(calibration_module, "CHUNK_VALUES", 70)
    parts = nll(logits, believable), fit_temperature(logits, believable), expected_calibration_error(logits, believable)
    assert parts == pytest.approx(whole, rel=1e-9)


def test_labels_of_another_length_are_refused(logits, labels):
    with pytest.raises(CistError, match=r"one label for each row, but got the shapes \(300, 10\) and \(299,\)"):
        nll(logits, labels[:-1])


def test_a_real_teacher_is_overconfident_and_one_temperature_mends_it(shared_file):
    real = read_logits(shared_file("cifar10_resnet56_test_logits.npz"))
    fitted = fit_temperature(real.logits, real.labels)
    assert 1.2 < fitted < 3
    before, after = (expected_calibration_error(real.logits, real.labels, tau=tau) for tau in (1.0, fitted))
    assert after < before / 2
    assert nll(real.logits, real.labels) == pytest.approx(real.nll, rel=1e-9)


@pytest.mark.parametrize("label", [-1, 2, -100])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    """-1 would be read as the last class."""
    for judge in (reliability, nll, cross_entropies, fit_temperature):
        with pytest.raises(CistError, match=f"labels from 0 to 1, but that of sample 1 is {label}"):
            judge([[5.0, 0.0], [0.0, 5.0]], [0, label])


@pytest.mark.parametrize("tau", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(tau: float) -> None:
    for judge in (reliability, nll, cross_entropies):
        with pytest.raises(CistError, match="a positive temperature"):
            judge([[5.0, 0.0]], [0], tau=tau)


def test_no_bins_are_refused() -> None:
    with pytest.raises(CistError, match="at least one bin, but got 0"):
        reliability([[5.0, 0.0]], [0], bins=0)
