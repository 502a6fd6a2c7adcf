"""Dark knowledge against SciPy's softmax and means taken the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from cist_core.errors import CistError
from cist_core.samples.dark_knowledge import confused_pairs, mean_soft_labels, wrong_class_shares


@pytest.mark.parametrize("answer", [0, 3, 9])
@pytest.mark.parametrize("tau", [0.7, 4.0])
def test_shares_are_the_probabilities_off_the_answer(logits: np.ndarray, tau: float, answer: int) -> None:
    row = logits[5].astype(np.float64)
    probabilities = softmax(row / tau)
    expected = probabilities / (1 - probabilities[answer])
    expected[answer] = 0
    np.testing.assert_allclose(wrong_class_shares(row, tau, answer), expected, rtol=1e-9)


def test_shares_survive_a_soft_label_that_is_all_answer() -> None:
    """At this temperature 1 - p rounds to 0, and the ratio of the classes is still known."""
    shares = wrong_class_shares([500.0, 1.0, 0.0], tau=0.5, answer=0)
    np.testing.assert_allclose(shares, [0.0, *softmax([2.0, 0.0])])


@pytest.mark.parametrize("chunk", [10, 1 << 22])
def test_mean_soft_labels_are_means_over_each_class(
    logits: np.ndarray, labels: np.ndarray, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cist_core.samples.dark_knowledge.CHUNK_VALUES", chunk)
    tau = np.random.default_rng(1).uniform(0.5, 5.0, len(logits))
    mass = mean_soft_labels(logits, tau, labels)
    probabilities = softmax(logits.astype(np.float64) / tau[:, None], axis=1)
    for answer in range(10):
        np.testing.assert_allclose(mass.mean[answer], probabilities[labels == answer].mean(axis=0), atol=2e-6)
    assert mass.samples.tolist() == [np.count_nonzero(labels == answer) for answer in range(10)]


def test_half_precision_logits_are_read_in_single_precision(logits: np.ndarray, labels: np.ndarray) -> None:
    half = (logits - logits.max(axis=1, keepdims=True)).astype(np.float16)
    expected = mean_soft_labels(half.astype(np.float32), 2.0, labels)
    np.testing.assert_allclose(mean_soft_labels(half, 2.0, labels).mean, expected.mean, rtol=1e-5, atol=1e-8)


def test_a_class_without_samples_has_no_mean_and_no_pairs() -> None:
    mass = mean_soft_labels([[1.0, 0.0, 0.0], [2.0, 0.0, 1.0]], 1.0, [0, 0])
    assert np.isnan(mass.mean[1:]).all()
    assert not np.isnan(mass.mean[0]).any()
    assert [(pair.answer, pair.other) for pair in confused_pairs(mass, 10)] == [(0, 2), (0, 1)]


def test_pairs_are_the_largest_masses_off_the_diagonal(logits: np.ndarray, labels: np.ndarray) -> None:
    mass = mean_soft_labels(logits, 2.0, labels)
    pairs = confused_pairs(mass, 4)
    every = sorted(
        ((mass.mean[i, j], i, j) for i in range(10) for j in range(10) if i != j),
        reverse=True,
    )
    assert [(pair.mass, pair.answer, pair.other) for pair in pairs] == every[:4]


def test_a_temperature_of_zero_is_refused(logits: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(CistError, match="positive, but got 0"):
        mean_soft_labels(logits, 0.0, labels)
