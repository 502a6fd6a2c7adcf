"""When a student's scale counts as collapsed or running away: by closed forms, and epoch by epoch."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import softmax

from cist_core.training.logit_scale import (
    LARGEST_MAXIMUM,
    SMALLEST_MAXIMUM,
    ScaleFault,
    scale_fault,
    scale_states,
)


def rows(*student: float, teacher: float | None = 16.0) -> list[dict[str, float]]:
    beside = {} if teacher is None else {"teacher_maximum_mean": teacher}
    return [{"epoch": epoch, "student_maximum_mean": m, **beside} for epoch, m in enumerate(student, start=1)]


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_a_prediction_of_the_smallest_scale_is_nearly_uniform_whatever_its_other_logits(classes: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((500, classes)) * rng.uniform(0.1, 5, (500, 1))
    logits -= logits.mean(axis=1, keepdims=True)
    logits *= SMALLEST_MAXIMUM / logits.max(axis=1, keepdims=True)
    bound = math.exp(SMALLEST_MAXIMUM) / classes
    assert softmax(logits, axis=1).max() <= bound * (1 + 1e-12)


def test_a_prediction_of_the_largest_scale_is_one_hot_in_single_precision() -> None:
    """Of all rows with this centred maximum, that of equal others is the most certain one; two ties aside."""
    for classes in (10, 100, 1000):
        row = np.full(classes, -LARGEST_MAXIMUM / (classes - 1))
        row[0] = LARGEST_MAXIMUM
        assert np.float32(softmax(row)[0]) == 1.0


def test_a_healthy_run_has_no_fault() -> None:
    assert scale_states(rows(0.3, 0.9, 4.0, 8.0, 12.0, 16.0), 6) == [None] * 6
    assert scale_states(rows(3.0, 20.0, 35.0), 3) == [None] * 3
    assert scale_fault([], 6) is None


def test_a_fresh_student_has_time_and_one_that_never_grows_is_named_after_a_quarter() -> None:
    assert scale_states(rows(*[0.1] * 12), 40) == [None] * 9 + ["collapsed"] * 3
    assert scale_states(rows(*[0.1] * 4), 4) == [None, None, "collapsed", "collapsed"]


def test_a_fall_is_named_in_the_second_epoch_whenever_it_comes() -> None:
    assert scale_states(rows(2.0, 0.1, 0.1, 0.1), 1000) == [None, None, "collapsed", "collapsed"]
    assert scale_states(rows(2.0, 0.1, 2.0, 0.1, 2.0), 1000) == [None] * 5


def test_a_student_that_recovers_has_no_fault_any_more() -> None:
    states = scale_states(rows(2.0, 0.1, 0.1, 3.0, 80.0, 20.0), 6)
    assert states == [None, None, "collapsed", None, "running away", None]


def test_the_teachers_scale_counts() -> None:
    assert scale_states(rows(2.0, 0.4, 0.4, teacher=5.0), 3) == [None] * 3  # a small teacher's student is small
    assert scale_states(rows(90.0, teacher=40.0), 3) == [None]
    assert scale_states(rows(130.0, teacher=40.0), 3) == ["running away"]
    assert scale_states(rows(51.0, teacher=None), 3) == ["running away"]
    assert scale_states(rows(2.0, 0.4, 0.4, teacher=None), 3)[-1] == "collapsed"


def test_a_fault_says_since_when_and_survives_the_status_of_a_run() -> None:
    fault = scale_fault(rows(0.2, 0.1, 0.05, 0.0365), 12)
    assert fault == ScaleFault("collapsed", 3, 0.0365, 16.0)
    assert str(fault) == "have collapsed (mean centred maximum 0.0365, the teacher's 16.0)"
    status = json.loads(json.dumps({"logit_scale": fault.to_dict()}))
    assert ScaleFault.from_status(status) == fault
    assert ScaleFault.from_status({"logit_scale": None}) is ScaleFault.from_status({}) is None
    assert scale_fault(rows(80.0, 70.0, 4.0, 90.0, 99.0, teacher=None), 9) == ScaleFault("running away", 4, 99.0, None)
