"""The pictures of the lesson, their numbers against SciPy and closed forms."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from cist_core.charts.lesson import (
    MOST_CLASSES,
    MOST_IN_PAIRS,
    both_informative,
    both_rules_figure,
    divergence_figure,
    envelope_figure,
    hard_and_soft_figure,
    held_figure,
    informative_range,
    row_with_gap,
    scaling_figure,
    students_figure,
    temperature_at,
    temperature_figure,
    tempered_figure,
    two_temperatures,
)
from cist_core.temperature import Cist, Fixed

Z = np.array([8.0, 6.0, 4.0, 3.0, -5.0, -6.0])
NAMES = ["cat", "lynx", "fox", "dog", "car", "ship"]
M = 8.0 - 10.0 / 6
"""The maximum of `Z` after centring: its mean is 10/6."""


def probabilities(figure, series: str) -> np.ndarray:
    return figure.datasets["bars"].query("series == @series")["probability"].to_numpy()


def test_the_hard_label_is_one_bar_and_the_soft_label_is_softmax() -> None:
    figure = hard_and_soft_figure(Z, NAMES, 1)
    assert probabilities(figure, "hard label").tolist() == [0, 1, 0, 0, 0, 0]
    np.testing.assert_allclose(probabilities(figure, "fixed τ"), softmax(Z), rtol=1e-12)
    assert figure.title.startswith("The hard label says “lynx”; the soft label “cat” 86.2 %, “lynx” 11.7 %")


def test_both_rules_read_their_own_temperature() -> None:
    figure = both_rules_figure(Z, NAMES, tau=4.0, rho=2.0, who="This row")
    fixed, held = softmax(Z / 4), softmax(Z * 2 / M)
    np.testing.assert_allclose(probabilities(figure, "fixed τ"), fixed, rtol=1e-12)
    np.testing.assert_allclose(probabilities(figure, "CIST"), held, rtol=1e-12)
    assert figure.title == f"This row: {entropy(fixed):.3g} nats, under CIST {entropy(held):.3g}"
    np.testing.assert_allclose(probabilities(held_figure(Z, NAMES, 2.0), "CIST"), held, rtol=1e-12)


@pytest.mark.parametrize(("classes", "rows"), [(6, 6), (MOST_CLASSES, MOST_CLASSES), (100, MOST_CLASSES)])
def test_many_classes_share_the_last_bar(classes: int, rows: int) -> None:
    logits = np.random.default_rng(0).normal(size=classes) * 4
    bars = tempered_figure(logits, [f"c{index}" for index in range(classes)], 2.0).datasets["bars"]
    assert len(bars) == rows
    assert bars["probability"].sum() == pytest.approx(1.0, rel=1e-12)
    if classes > rows:
        assert bars["class"].iloc[-1] == f"{classes - rows + 1} others"
        assert bars["class"].iloc[0] == f"c{logits.argmax()}"
        soft = softmax(logits / 2)
        np.testing.assert_allclose(bars["probability"][:-1], np.sort(soft)[::-1][: rows - 1], rtol=1e-12)
    pair = both_rules_figure(logits, list(map(str, range(classes))), tau=2.0, rho=3.0, who="it").datasets["bars"]
    assert len(pair) == 2 * MOST_IN_PAIRS


def test_scaling_moves_the_label_under_tau_and_leaves_it_at_the_ratio() -> None:
    fixed, held = (scaling_figure(Z, NAMES, 3.0, rule) for rule in (Fixed(4.0), Cist(2.0)))
    np.testing.assert_allclose(probabilities(fixed, "as they are"), softmax(Z / 4), rtol=1e-12)
    np.testing.assert_allclose(probabilities(fixed, "scaled"), softmax(3 * Z / 4), rtol=1e-12)
    for series in ("as they are", "scaled"):
        np.testing.assert_allclose(probabilities(held, series), softmax(Z * 2 / M), rtol=1e-12)
    assert "become" in fixed.title
    assert held.title.endswith("nats stay")


def test_the_student_is_the_teacher_at_its_own_temperature_only() -> None:
    figure = students_figure(Z, NAMES, 0.3, 4.0)
    teacher, same = softmax(Z / 4), softmax(0.3 * Z / 4)
    np.testing.assert_allclose(probabilities(figure, "teacher"), teacher, rtol=1e-12)
    np.testing.assert_allclose(probabilities(figure, "same τ"), same, rtol=1e-12)
    np.testing.assert_allclose(probabilities(figure, "own τ"), teacher, rtol=1e-12)
    assert figure.title == f"One τ: {entropy(teacher, same):.3g} nats apart; two: 0 nats"


def test_the_divergence_is_least_at_the_scale_of_the_teacher() -> None:
    figure = divergence_figure(Z, 0.5, 4.0)
    curves = figure.datasets["curves"]
    fixed, held = curves.query("rule == 'fixed τ'"), curves.query("rule == 'CIST'")
    assert fixed.loc[fixed["divergence"].idxmin(), "scale"] == pytest.approx(1.0)
    assert np.all(np.diff(fixed.query("scale <= 1")["divergence"]) < 0)
    assert held["divergence"].abs().max() < 1e-12
    now = figure.datasets["now"].set_index("rule")["divergence"]
    assert now["fixed τ"] == pytest.approx(entropy(softmax(Z / 4), softmax(Z / 8)), rel=1e-9)


@pytest.mark.parametrize(("scale", "tau", "floor", "expected"), [
    (0.3, 4.0, 0.0, (4.0, 1.2)), (0.3, 4.0, 1.0, (4.0, 1.2)), (0.1, 4.0, 1.0, (4.0, 1.0)), (2.0, 0.5, 2.0, (2.0, 2.0)),
])  # fmt: skip
def test_neither_temperature_is_below_the_floor(scale, tau, floor, expected) -> None:
    assert two_temperatures(scale, tau, floor) == pytest.approx(expected)


def test_under_a_floor_a_small_student_differs_and_is_asked_to_grow() -> None:
    figure = divergence_figure(Z, 0.2, 4.0, 2.0)
    held = figure.datasets["curves"].query("rule == 'CIST'")
    below, above = held.query("scale < 0.5"), held.query("scale >= 0.5")
    assert np.all(np.diff(below["divergence"]) < 0)
    assert above["divergence"].abs().max() < 1e-12
    now = figure.datasets["now"].set_index("rule")["divergence"]
    # The student stands at the floor, the teacher above it.
    assert now["CIST"] == pytest.approx(entropy(softmax(Z / 4), softmax(0.2 * Z / 2)), rel=1e-9)
    assert figure.title == "One τ asks for scale 1; two for 0.5 or more"
    assert "under two with a floor of 2" in figure.alt
    bars = students_figure(Z, NAMES, 0.2, 4.0, 2.0)
    np.testing.assert_allclose(probabilities(bars, "own τ"), softmax(0.2 * Z / 2), rtol=1e-12)


def test_where_the_floor_holds_both_two_temperatures_are_one() -> None:
    figure = divergence_figure(Z, 0.5, 1.0, 2.0)
    curves = figure.datasets["curves"].query("scale <= 1")
    fixed, held = (curves.query("rule == @rule")["divergence"].to_numpy() for rule in ("fixed τ", "CIST"))
    np.testing.assert_allclose(held, fixed, atol=1e-12)
    assert figure.title == "One τ asks for scale 1, and so do two that stand at the floor"


def test_where_the_floor_is_the_teachers_own_temperature_a_larger_student_is_free() -> None:
    figure = divergence_figure(Z, 0.5, 2.0, 2.0)
    held = figure.datasets["curves"].query("rule == 'CIST'")
    assert held.query("scale >= 1")["divergence"].abs().max() < 1e-12
    assert held.query("scale < 1")["divergence"].min() > 0
    assert figure.title == "One τ asks for scale 1; two for 1 or more"


def test_cist_gives_every_row_the_ratio_and_a_constant_row_some_temperature() -> None:
    rows = np.stack([Z, 3 * Z + 7, np.full(6, 2.0)])
    np.testing.assert_allclose(temperature_at(rows, 2.0), [M / 2, 3 * M / 2, 1.0], rtol=1e-12)


def test_the_entropy_curve_and_where_it_stands() -> None:
    figure = temperature_figure(Z, 4.0)
    curve = figure.datasets["curve"]
    expected = [entropy(softmax(Z / tau)) for tau in curve["tau"]]
    np.testing.assert_allclose(curve["entropy"], expected, atol=1e-12)
    assert figure.datasets["now"]["entropy"].iloc[0] == pytest.approx(entropy(softmax(Z / 4)), rel=1e-12)


def test_a_row_is_informative_between_the_two_shares() -> None:
    low, high = informative_range(Z)
    for tau, share in ((low, 0.05), (high, 0.95)):
        assert entropy(softmax(Z / tau)) / math.log(6) == pytest.approx(share, abs=0.005)
    assert informative_range(np.full(6, 1.0)) is None
    assert temperature_figure(np.full(6, 1.0), 4.0).title.startswith("No τ")


@pytest.mark.parametrize("seconds", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_row_with_a_gap_is_what_it_says(seconds: int, share: float) -> None:
    row = row_with_gap(4.0, 6, share, seconds)
    assert row.sum() == pytest.approx(0.0, abs=1e-12)
    assert row.max() == row[0] == 4.0
    np.testing.assert_allclose(row[0] - row[1 : 1 + seconds], share * 4.0 * 6 / 5, atol=1e-12)
    assert np.all(row[1 : 1 + seconds] >= row[1 + seconds :].max() - 1e-12)  # they are the second place
    if share == 1.0:
        np.testing.assert_allclose(row[1:], -4.0 / 5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_row_lies_inside_the_band_and_starts_at_ln_c(share: float) -> None:
    figure = envelope_figure(6, ratio=4.0, gap_share=share, seconds=2)
    band, row = figure.datasets["band"], figure.datasets["row"]
    assert np.all(row["entropy"] >= band["low"] - 1e-9)
    assert np.all(row["entropy"] <= band["high"] + 1e-9)
    assert row["entropy"].iloc[0] == pytest.approx(math.log(6), rel=1e-12)
    now = figure.datasets["now"]["entropy"].iloc[0]
    assert now == pytest.approx(entropy(softmax(row_with_gap(4.0, 6, share, 2))), rel=1e-12)
    if share == 1.0:
        np.testing.assert_allclose(row["entropy"], band["equal"], atol=1e-9)


MOVES = {
    "tempered": lambda by: tempered_figure(Z + by, NAMES, 4.0 + by),
    "both": lambda by: both_rules_figure(Z, NAMES, tau=4.0 + by, rho=2.0 + by, who="it"),
    "scaling": lambda by: scaling_figure(Z, NAMES, 3.0 + by, Fixed(4.0)),
    "students": lambda by: students_figure(Z, NAMES, 0.5 + by, 4.0),
    "temperature": lambda by: temperature_figure(Z, 4.0 + by),
    "envelope": lambda by: envelope_figure(6, ratio=4.0 + by, gap_share=by),
    "divergence": lambda by: divergence_figure(Z, 0.5 + by, 4.0),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_slider_moves_data_and_never_the_spec(name: str) -> None:
    before, after = MOVES[name](0.0), MOVES[name](0.5)
    assert before.spec is after.spec
    assert any(not before.datasets[key].equals(after.datasets[key]) for key in before.datasets)


@pytest.mark.parametrize("name", MOVES)
def test_every_picture_can_be_drawn_and_described(name: str) -> None:
    vl_convert = pytest.importorskip("vl_convert")
    figure = MOVES[name](0.2)
    assert figure.title in figure.alt
    assert "<svg" in vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 400})


def test_a_tie_keeps_the_entropy_above_ln_2_and_equal_others_let_it_fall() -> None:
    for ratio in (4.0, 8.0, 12.0):
        tied, equal = (entropy(softmax(row_with_gap(ratio, 6, share, 1))) for share in (0.0, 1.0))
        assert tied > math.log(2)
        assert equal < tied
    assert equal < 0.001


def test_classes_that_are_all_alike_have_no_scale_to_copy() -> None:
    assert divergence_figure(np.zeros(6), 0.5, 4.0).title == "All classes are alike: there is no scale to copy"
    assert "asks for scale 1" in divergence_figure(Z, 0.5, 4.0).title


def test_at_a_small_ratio_the_tie_says_less_than_equal_others() -> None:
    tied, equal = (entropy(softmax(row_with_gap(1.0, 6, share))) for share in (0.0, 1.0))
    assert tied < equal
    limit = 1.0 * 6 / 5  # the log-odds between the first class and each of five equal others
    first = 1 / (1 + 5 * math.exp(-limit))
    assert equal == pytest.approx(-first * math.log(first) - (1 - first) * math.log((1 - first) / 5), rel=1e-12)


def test_two_rows_are_informative_where_both_ranges_say_so() -> None:
    text = both_informative(3 * Z, Z)
    low, high, tau, first, second = (float(number) for number in re.findall(r"\d+\.?\d*", text))
    assert low == pytest.approx(informative_range(3 * Z)[0], rel=5e-3)
    assert high == pytest.approx(informative_range(Z)[1], rel=5e-3)
    assert low < tau < high
    for share, row in ((first, 3 * Z), (second, Z)):
        assert share == pytest.approx(entropy(softmax(row / tau)) / math.log(6), abs=0.006)


@pytest.mark.parametrize(("confident", "ambiguous"), [(1000 * Z, Z), (Z, np.zeros(6)), (np.zeros(6), np.zeros(6))])
def test_where_the_ranges_do_not_meet_no_temperature_is_named(confident: np.ndarray, ambiguous: np.ndarray) -> None:
    assert both_informative(confident, ambiguous) == "No τ from 0.1 to 100 makes both informative."


def test_a_constant_row_stays_uniform_at_ratio_0() -> None:
    figure = scaling_figure(np.zeros(6), NAMES, 3.0, Cist(0.001))
    assert figure.title == f"Ratio 0: {math.log(6):.3g} nats stay"
