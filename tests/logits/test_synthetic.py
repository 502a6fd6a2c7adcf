"""The synthetic logits look as their documentation says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from cist_core.logits.synthetic import imagenet_shaped


def test_accuracy_and_entropies_are_those_that_are_stated() -> None:
    made = imagenet_shaped()
    logits = made.logits.astype(np.float64)
    assert np.mean(logits.argmax(axis=1) == made.labels) == pytest.approx(0.84, abs=0.01)
    for tau, stated in ((1, 0.24), (2, 0.83), (4, 0.99)):
        mean = entropy(softmax(logits / tau, axis=1), axis=1).mean() / np.log(1_000)
        assert mean == pytest.approx(stated, abs=0.005)


def test_every_class_has_a_sample_and_other_seeds_other_logits() -> None:
    made = imagenet_shaped()
    assert sorted(made.labels.tolist()) == list(range(1_000))
    assert made.fingerprint != imagenet_shaped(seed=1).fingerprint


@pytest.mark.parametrize("classes", [2, 7, 150, 1_001])
def test_other_numbers_of_classes_work(classes: int) -> None:
    made = imagenet_shaped(samples=50, classes=classes)
    assert made.logits.shape == (50, classes)
