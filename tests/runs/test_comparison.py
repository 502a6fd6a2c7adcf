"""Intervals of test accuracies against SciPy's own tests and published values, and what sentences make of them."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from cist_core.runs.comparison import (
    Difference,
    SettingAccuracy,
    comparison_sentence,
    confidence_of_each,
    difference,
    difference_over_seeds,
    wilson_interval,
)

CIST = {0: 0.912, 1: 0.921, 2: 0.917}
KD = {0: 0.903, 1: 0.909, 2: 0.911}


def setting(name: str, values: dict[int, float] | float, images: int | None = 10_000) -> SettingAccuracy:
    return SettingAccuracy(name, values if isinstance(values, dict) else {0: values}, images)


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(right: int, images: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3."""
    assert wilson_interval(right / images, images) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 20), 0.6791, 1.0)],
)
def test_one_seed_gives_the_published_interval_of_a_difference(a, b, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10."""
    found = difference(setting("a", a[0] / a[1], a[1]), setting("b", b[0] / b[1], b[1]))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_same_seeds_are_paired_as_scipy_does(confidence: float) -> None:
    found = difference(setting("cist", CIST), setting("kd", KD), confidence=confidence)
    expected = stats.ttest_rel(list(CIST.values()), list(KD.values())).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.basis == "paired over 3 seeds"


@pytest.mark.parametrize("other", [{0: 0.903, 1: 0.909}, {3: 0.903, 4: 0.909, 5: 0.911}, {7: 0.90, 8: 0.93, 9: 0.91}])
def test_different_seeds_are_compared_by_welch_as_scipy_does(other: dict[int, float]) -> None:
    found = difference(setting("cist", CIST), setting("kd", other))
    expected = stats.ttest_ind(list(CIST.values()), list(other.values()), equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_a_clear_difference_has_two_deviations_as_well() -> None:
    few = difference_over_seeds({0: 0.03, 1: 0.05}, {0: 0.0, 1: 0.0})  # 2.8 deviations, which two seeds have by chance
    many = difference_over_seeds({seed: seed % 2 for seed in range(20)}, dict.fromkeys(range(20), 0.0))
    both = difference_over_seeds({0: 1.0, 1: 1.1, 2: 0.9}, dict.fromkeys(range(3), 0.0))
    assert [found.told_apart for found in (few, many, both)] == [False, True, True]
    assert [found.clear for found in (few, many, both)] == [False, False, True]
    assert both.deviation == pytest.approx(0.1)
    apart = difference_over_seeds({0: 1.0, 1: 1.2}, {2: 0.0, 3: 0.4, 4: 0.2})
    assert apart.deviation == pytest.approx(math.hypot(stats.tstd([1.0, 1.2]), stats.tstd([0.0, 0.4, 0.2])))


@pytest.mark.parametrize("same", [{0: 1.0}, {0: 1.0, 1: 1.1, 2: 1.2}])
def test_equal_scores_are_never_told_apart(same: dict[int, float]) -> None:
    found = difference_over_seeds(same, dict(same))
    assert (found.mean, found.told_apart, found.clear) == (0, False, False)


@pytest.mark.parametrize("seed", [0, 5])
def test_one_seed_beside_several_is_judged_by_the_deviation_of_the_several(seed: int) -> None:
    several = list(CIST.values())
    found = difference(setting("cist", CIST), setting("kd", {seed: 0.905}))
    expected = stats.ttest_ind_from_stats(
        stats.tmean(several), stats.tstd(several), len(several), 0.905, 0.0, 1, equal_var=True
    )
    error = (found.high - found.mean) / stats.t.ppf(0.975, len(several) - 1)
    assert found.mean / error == pytest.approx(expected.statistic, rel=1e-12)
    assert found.told_apart == (expected.pvalue < 0.05)
    assert found.basis == "3 and 1 seeds"


def test_the_interval_over_seeds_is_that_of_scipy() -> None:
    values = list(CIST.values())
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert setting("cist", CIST).interval() == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_one_seed_without_the_number_of_images_has_no_interval() -> None:
    assert setting("a", 0.9, None).interval() is None
    found = difference(setting("a", 0.9, None), setting("b", 0.8))
    assert math.isnan(found.low)
    assert not found.told_apart


def test_seeds_that_agree_to_the_image_do_not_make_an_interval_of_no_width() -> None:
    one_image_apart = difference(
        setting("a", dict.fromkeys(range(3), 0.942), 500), setting("b", dict.fromkeys(range(3), 0.940), 500)
    )
    assert not one_image_apart.told_apart
    half = stats.t.ppf(0.975, 2) * (1 / 500) / math.sqrt(3)
    assert (one_image_apart.low, one_image_apart.high) == pytest.approx((0.002 - half, 0.002 + half))
    unknown = difference(setting("a", {0: 0.9, 1: 0.9}, None), setting("b", {0: 0.8, 1: 0.8}, None))
    assert not unknown.told_apart


@pytest.mark.parametrize("images", [100, 500, 10_000])
def test_one_image_of_one_seed_is_never_celebrated(images: int) -> None:
    right = round(0.94 * images)
    sentence = comparison_sentence([setting("a", (right + 1) / images, images), setting("b", right / images, images)])
    assert sentence.startswith("a and b cannot be told apart on test")


def test_many_comparisons_have_wider_intervals() -> None:
    assert confidence_of_each(1) == pytest.approx(0.95)
    assert confidence_of_each(5) == pytest.approx(0.99)


def test_told_apart_is_an_interval_without_zero() -> None:
    assert Difference(0.01, 0.001, 0.02, "").told_apart
    assert Difference(-0.01, -0.02, -0.001, "").told_apart
    assert not Difference(0.01, -0.001, 0.02, "").told_apart


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ([], ""),
        (
            [("CIST", 0.94, 500)],
            "CIST reached 94.0 % on test (95 % interval 91.6 to 95.8 %; one seed, 500 test images)",
        ),
        ([("CIST", CIST, 10_000)], "CIST reached 91.7 % on test (95 % interval 90.5 to 92.8 %; 3 seeds)"),
        (
            [("KD", 0.90, 500), ("CIST", 0.95, 500)],
            "CIST tested 5.0 points better than KD: 95.0 % against 90.0 % (95 % interval 1.7 to 8.3 points; one seed, "
            "500 test images)",
        ),
        (
            [("CIST", CIST, 10_000), ("KD", {0: 0.9165, 1: 0.916, 2: 0.916}, 10_000)],
            "CIST and KD cannot be told apart on test: 91.7 % and 91.6 % (95 % interval of the difference −1.1 to 1.2 "
            "points; paired over 3 seeds)",
        ),
        (
            [("CIST", 0.95, 10_000), ("KD", 0.94, 10_000), ("CE", 0.90, 10_000)],
            "CIST tested best of 3: 95.0 %, 1.0 points above KD, the next (95 % interval 0.3 to 1.7 points; one seed, "
            "10,000 test images)",
        ),
        (
            [("CIST", 0.95, 500), ("KD", 0.94, 500), ("CE", 0.80, 500)],
            "CIST has the highest test accuracy of 3, 95.0 %, but cannot be told apart from KD",
        ),
        (
            [("CIST", 0.95, 500), ("KD", 0.94, 500), ("DKD", 0.93, 500)],
            "These 3 settings cannot be told apart on test: 93.0 % to 95.0 % (95 % interval of the nearest two −2.3 to "
            "4.4 points; one seed, 500 test images)",
        ),
    ],
)
def test_sentences_compare_tests_at_the_precision_of_the_data(settings, sentence: str) -> None:
    assert comparison_sentence([setting(*each) for each in settings]) == sentence
