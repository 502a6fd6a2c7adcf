"""Which soft labels trained best: the range by its formula, and what comes along."""

import math

import pytest

from cist_core.compare.evidence import (
    Evidence,
    TrainedBest,
    TrainedPoint,
    all_evidence,
    evidence_for,
    parse_evidence,
)
from cist_core.errors import CistError
from cist_core.temperature import parse_rule

# 1.96 standard errors of a difference of two accuracies of 0.5 on 800 samples are 0.049.
ACCURACIES = {"cist:rho=2": 0.40, "cist:rho=3": 0.46, "cist:rho=4": 0.50, "cist:rho=5": 0.452, "tau=4": 0.48}
ENTROPIES = {"cist:rho=2": 0.9, "cist:rho=3": 0.8, "cist:rho=4": 0.7, "cist:rho=5": 0.6, "tau=4": 0.85}


def entry(classes=10, samples=800):
    points = [
        {"rule": rule, "accuracy": accuracy, "runs": 1, "normalised_entropy": ENTROPIES[rule]}
        for rule, accuracy in ACCURACIES.items()
    ]
    return {"setting": "made up", "classes": classes, "validation_samples": samples, "points": points}


@pytest.mark.parametrize(
    ("samples", "low", "high"),
    [(800, 0.6, 0.8), (500, 0.6, 0.8), (1500, 0.7, 0.7), (150, 0.6, 0.9)],
)
def test_the_range_holds_what_is_not_significantly_worse(samples, low, high):
    (evidence,) = parse_evidence([entry(samples=samples)])
    best = evidence.best("cist")
    assert (best.rule, best.target, best.points) == ("cist:rho=4", 0.7, 4)
    assert (best.low, best.high) == (low, high)
    error = 1.96 * math.sqrt(2 * 0.5 * 0.5 / samples)
    inside = [ENTROPIES[rule] for rule in ENTROPIES if rule.startswith("cist") and ACCURACIES[rule] >= 0.5 - error]
    assert (min(inside), max(inside)) == (low, high)


def test_methods_are_judged_apart_and_one_that_was_not_tried_has_no_best():
    (evidence,) = parse_evidence([entry()])
    assert evidence.best("kd").rule == "tau=4"
    alone = parse_evidence([{**entry(), "points": entry()["points"][:4]}])[0]
    assert alone.best("kd") is None


def test_what_comes_along_is_of_rules_that_exist_and_serves_up_to_a_factor_of_three():
    assert all_evidence()
    for evidence in all_evidence():
        for point in evidence.points:
            assert str(parse_rule(point.rule)) == point.rule
            assert 0 < point.normalised_entropy < 1
            assert point.runs > 0
    assert evidence_for(100).classes == 100
    assert evidence_for(299).classes == 100
    assert evidence_for(301) is None


@pytest.mark.parametrize("classes", [0, 1, -3])
def test_fewer_than_two_classes_are_refused(classes):
    with pytest.raises(CistError, match=f"at least two classes, but got {classes}"):
        evidence_for(classes)


def test_a_better_rule_outside_the_range_speaks_against_the_best() -> None:
    points = (TrainedPoint("cist:rho=9", 0.1, 0.7, 2), TrainedPoint("cist:rho=3", 0.5, 0.5, 2))
    inside, outside, worse = (
        TrainedPoint(f"cist:rho={rho}", entropy, accuracy, 5)
        for rho, entropy, accuracy in ((8, 0.1, 0.72), (3, 0.5, 0.71), (2, 0.8, 0.69))
    )

    def best_beside(*others: TrainedPoint) -> TrainedBest:
        best = Evidence("a setting", 10, 1000, points, others).best()
        assert best is not None
        return best

    assert best_beside(worse).better is None
    assert best_beside(inside, worse).better == inside
    assert best_beside(inside, worse).decides
    assert best_beside(inside, outside, worse).better == outside
    assert not best_beside(outside).decides
    with_kd = Evidence("a setting", 10, 1000, (*points, TrainedPoint("tau=2", 0.1, 0.6, 1)), (outside,))
    assert with_kd.best("kd").better is None
