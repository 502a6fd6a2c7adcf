"""Why samples lie far from the equal-others curve: on rows built for one reason each, and against SciPy."""

import numpy as np
import pytest
from reference import entropy_at_ratio

from cist_core.entropy.curves import EntropyCurves
from cist_core.entropy.theory import equal_others_entropy, second_class_entropy
from cist_core.logits.files import read_logits
from cist_core.logits.logit_set import LogitSet
from cist_core.samples.residuals import FAR, TIE_GAP, why_far
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rule


def residuals_of(rows, rule):
    curves = EntropyCurves.from_logits(LogitSet.create(np.asarray(rows, np.float32)))
    return why_far(curves, read_rule(rule, curves))


def row(*top, classes=20):
    """The largest logits of a row; the other classes are 0."""
    return [*top, *[0.0] * (classes - len(top))]


def test_each_reason_on_a_row_made_for_it():
    rows = {
        "tie": [row(8, 8), row(8, 7.9), row(8, 8, 8, 8)],
        "second mode": [row(8, 6), row(8, 5)],
        "uneven others": [row(9, 5, 5, 5, 5), [9.0, *np.linspace(4.0, -4.0, 19)]],
    }
    for reason, examples in rows.items():
        found = residuals_of(examples, Cist(6.0))
        assert found.reason.tolist() == [reason] * len(examples)
        assert found.far.all()


def test_where_nearly_all_classes_are_alike_a_small_gap_is_no_tie():
    """At small ratios every gap is small, and a second class lowers the entropy instead of raising it."""
    found = residuals_of([row(8, 8)], Cist(0.6))
    assert found.gap[0] < TIE_GAP
    assert found.residual[0] < 0
    assert found.reason[0] == "second mode"


def test_a_row_on_the_curve_has_no_residual():
    found = residuals_of([row(5), row(0.1)], Cist(4.0))
    np.testing.assert_allclose(found.residual, 0, atol=1e-4)
    assert not found.far.any()


def test_of_many_samples_every_one_has_its_closed_form():
    rng = np.random.default_rng(0)
    found = residuals_of(rng.normal(size=(20_000, 4)) * rng.uniform(0.5, 5, (20_000, 1)), Cist(3.0))
    np.testing.assert_array_equal(found.second_class, second_class_entropy(found.ratio, found.gap, 4))
    np.testing.assert_array_equal(found.equal_others, equal_others_entropy(found.ratio, 4))


def test_the_second_class_alone_explains_rows_whose_further_classes_are_equal():
    rows = [row(8, 8), row(8, 3), row(3, 2.5)]
    for floor in (0.0, 1.0):  # at the floor the last has its own smaller ratio, and the same explanation
        found = residuals_of(rows, Cist(5.0, floor))
        np.testing.assert_allclose(found.from_others, 0, atol=1e-4)
        assert np.all(np.abs(found.from_second) > 0.01)
    found = residuals_of(rows, Cist(5.0, floor=0))
    assert np.all(found.from_second > 0.05)


@pytest.mark.parametrize("rule", [Fixed(2.0), Cist(4.0), Cist(4.0, floor=0)])
def test_the_parts_add_up_to_scipys_residual(logits, rule):
    found = residuals_of(logits, rule)
    curves = EntropyCurves.from_logits(LogitSet.create(logits))
    ratios = rule.ratios(curves)
    expected = entropy_at_ratio(logits, ratios) - equal_others_entropy(ratios, 10)
    np.testing.assert_allclose(found.residual, expected, atol=2e-4)
    np.testing.assert_allclose(found.from_second + found.from_others, found.residual, atol=1e-12)
    assert found.far_from == pytest.approx(FAR * np.log(10))
    assert np.array_equal(found.far, np.abs(found.residual) > found.far_from)
    furthest = found.furthest(5)
    assert np.abs(found.residual[furthest]).min() >= np.sort(np.abs(found.residual))[-5]


def test_a_sample_at_the_floor_is_compared_with_the_curve_at_its_own_ratio():
    """The middle row has m = 2.85 and would need tau = 0.57 for a ratio of 5; the floor leaves it at 2.85."""
    rows = [row(8, 3), row(3), row(9)]
    found = residuals_of(rows, Cist(5.0))
    assert found.at_floor.tolist() == [False, True, False]
    expected = entropy_at_ratio(np.asarray(rows, float)[[1]], np.array([3 * 19 / 20]))
    assert found.entropy[1] == pytest.approx(expected[0], abs=1e-4)
    assert found.residual[1] == pytest.approx(0, abs=1e-4)


def test_a_constant_row_is_on_the_curve_and_not_a_number_less():
    found = residuals_of([[1.0] * 5, [3.0, 0, 0, 0, 0]], Cist(3.0))
    assert np.isfinite(found.residual).all()
    assert abs(found.residual[0]) < 1e-4


def test_a_stream_gives_the_same_reasons(logits):
    exact = EntropyCurves.from_logits(LogitSet.create(logits))
    stream = EntropyCurves.from_chunks([logits[:100], logits[100:]])
    a, b = (why_far(curves, read_rule(Cist(4.0), curves)) for curves in (exact, stream))
    np.testing.assert_allclose(a.residual, b.residual, atol=3e-4)
    assert np.mean(a.reason == b.reason) > 0.99


def test_the_gap_predicts_the_spread_where_only_the_gap_differs():
    rows = [row(8.0, second) for second in np.linspace(0.0, 8.0, 500)]
    spread = residuals_of(rows, Cist(5.0)).spread
    assert spread.predicted == pytest.approx(spread.measured, rel=1e-3)
    assert spread.explained > 0.99


def test_the_gap_predicts_nothing_where_all_gaps_are_alike():
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.tile([8.0, 6.0], (500, 1)), rng.uniform(-4, 4, (500, 8))], axis=1)
    rows[:, 2:] -= rows[:, 2:].mean(axis=1, keepdims=True)  # one centred maximum, so one scaled gap
    spread = residuals_of(rows, Cist(3.0)).spread
    assert spread.predicted < 0.01 * spread.measured
    assert spread.explained < 0.2


def test_ties_count_in_the_share_that_the_gap_explains():
    rows = [row(8, 8)] * 50 + [row(8, 0.001 * i) for i in range(50)]
    spread = residuals_of(rows, Cist(5.0)).spread
    assert spread.explained > 0.9


def test_without_spread_there_is_nothing_to_explain():
    spread = residuals_of([row(8.0, 2.0)] * 3, Cist(5.0)).spread
    assert spread.measured == 0
    assert spread.explained is None


def test_on_ten_real_classes_the_gap_explains_most_and_on_a_thousand_half(shared_file):
    shares = {}
    for name, rho in (("cifar10_resnet56_test_logits", 4.19), ("imagenet1k_sample_efflite0_logits", 9.18)):
        curves = EntropyCurves.from_logits(read_logits(shared_file(f"{name}.npz")))
        shares[name[:5]] = why_far(curves, read_rule(Cist(rho, floor=0), curves)).spread
    assert shares["cifar"].explained > 0.8
    assert 0.4 < shares["image"].explained < 0.65
    assert shares["cifar"].predicted > 0.6 * shares["cifar"].measured
    assert shares["image"].predicted < 0.3 * shares["image"].measured
