"""The charts of the weights, against counts and shares taken from the arrays directly."""

import json
import re

import numpy as np
import pytest

from cist_core.charts.cloud import MOST_POINTS
from cist_core.charts.gradients import gradient_figure
from cist_core.charts.weights import difficulty_figure, factors_figure, running_median, weight_figure
from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.logit_set import LogitSet
from cist_core.samples.gradients import GradientNorms
from cist_core.samples.table import MEASURES
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.weights import SampleWeights
from cist_core.wording import percent, three_digits


def curves(samples=600, seed=0, scale=6.0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(samples, 7)) * rng.uniform(0.5, scale, (samples, 1))
    return EntropyCurves.from_logits(LogitSet.create(rows))


def weights_of(samples=600, *, student=True, **options):
    other = curves(samples, seed=1, scale=3.0) if student else None
    return SampleWeights.of(curves(samples), other, rho=3.0, **options)


def norms(samples=600, seed=3):
    return GradientNorms.of(np.random.default_rng(seed).exponential(size=samples))


def all_figures(samples=600, selected=None):
    weights = weights_of(samples)
    return [
        factors_figure(weights, selected=selected),
        weight_figure(weights, selected=selected),
        difficulty_figure(weights, curves(samples).statistics.gap, MEASURES["margin"], selected=selected),
        gradient_figure((Fixed(4.0), norms(samples)), (Cist(3.0), norms(samples, seed=4)), selected=selected),
    ]


def test_every_sample_is_in_one_bin_of_every_histogram():
    weights = weights_of()
    factors = factors_figure(weights).datasets["factors"]
    assert factors.groupby("model")["samples"].sum().to_dict() == {"teacher": 600, "student": 600}
    bins = weight_figure(weights).datasets["bins"]
    expected, _ = np.histogram(
        np.clip(weights.weight, bins["from"].iloc[0], bins["to"].iloc[-1]),
        np.append(bins["from"], bins["to"].iloc[-1]),
    )
    assert expected.sum() == 600
    # A weight within rounding of an edge may fall on either side.
    assert np.abs(bins["samples"] - expected).sum() <= 4
    np.testing.assert_allclose(bins["times"] * weights.weight.mean(), bins["from"])


def test_selected_samples_are_counted_in_front():
    weights = weights_of()
    selected = weights.weight > np.quantile(weights.weight, 0.9)
    assert factors_figure(weights, selected=selected).datasets["selected"]["samples"].sum() == 120
    front = weight_figure(weights, selected=selected).datasets["selected"]
    assert front["samples"].sum() == 60
    assert front["to"].min() >= np.quantile(weights.weight, 0.9)
    points = difficulty_figure(weights, weights.teacher, MEASURES["margin"], selected=selected).datasets["selected"]
    assert points["sample"].tolist() == np.flatnonzero(selected).tolist()


@pytest.mark.parametrize("samples", [300, MOST_POINTS + 1])
def test_selection_and_ratio_change_the_data_and_not_the_spec(samples):
    selected = np.arange(samples) < 20
    for without, with_ in zip(all_figures(samples), all_figures(samples, selected), strict=True):
        assert without.spec is with_.spec
        assert len(without.datasets["selected"]) == 0
        assert len(with_.datasets["selected"]) > 0


def test_many_samples_are_counted_on_a_grid():
    samples = MOST_POINTS + 500
    figure = difficulty_figure(weights_of(samples), curves(samples).statistics.gap, MEASURES["margin"])
    cloud = figure.datasets["cloud"]
    assert cloud["samples"].sum() == samples
    assert (cloud["value"] < cloud["value_to"]).all()
    assert (cloud["weight"] < cloud["weight_to"]).all()


def test_only_the_plain_product_is_brushed_as_the_measure_weight():
    gap = curves().statistics.gap
    for options, brushes in (({}, True), ({"normalise": True}, False), ({"weighting": "teacher"}, False)):
        weights = weights_of(**options)
        assert weight_figure(weights).brush == ({"from": "weight"} if brushes else {})
        expected = {"value": "margin"} | ({"weight": "weight"} if brushes else {})
        assert difficulty_figure(weights, gap, MEASURES["margin"]).brush == expected


def test_titles_of_the_weight_say_what_the_numbers_say():
    weights = weights_of()
    title = weight_figure(weights).title
    count, held = re.match(
        r"Effective sample size: (\d+) of 600; .* 10 % carry ([\d.]+) % of the weight", title
    ).groups()
    assert int(count) == round(weights.weight.sum() ** 2 / np.square(weights.weight).sum())
    assert float(held) == pytest.approx(100 * np.sort(weights.weight)[-60:].sum() / weights.weight.sum(), abs=0.051)
    assert weight_figure(weights_of(weighting="uniform")).title == "Every sample weighs the same: all 600 count"


def test_the_factors_say_on_how_many_samples_they_are_the_floor():
    weights = weights_of()
    caption = factors_figure(weights).caption
    teacher, student = (np.mean(of == 1.0) for of in (weights.teacher, weights.student))
    assert 0 < teacher < student
    assert caption.endswith(
        f" On {percent(teacher)} (teacher) and {percent(student)} (student) of the samples it is the floor of 1."
    )
    alone = factors_figure(weights_of(student=False, weighting="teacher")).caption
    assert alone.endswith(f" On {percent(teacher)} (teacher) of the samples it is the floor of 1.")
    free = factors_figure(weights_of(floor=0))
    assert "floor" not in free.caption
    assert "max(m / ρ, 1)" in json.dumps(factors_figure(weights).spec, ensure_ascii=False)
    assert "τ = m / ρ (logit" in json.dumps(free.spec, ensure_ascii=False)


def test_titles_of_the_factors_compare_the_two_models():
    twice = curves()
    same = SampleWeights.of(twice, twice, rho=3.0)
    assert "about the same temperatures" in factors_figure(same).title
    times = np.median(weights_of().teacher) / np.median(weights_of().student)
    words = f"The teacher's median temperature is {three_digits(times)} times the student's"
    assert factors_figure(weights_of()).title == words
    alone = factors_figure(weights_of(student=False, weighting="teacher"))
    assert alone.title.startswith("90 % of the teacher's temperatures lie between")
    assert set(alone.datasets["factors"]["model"]) == {"teacher"}


@pytest.mark.parametrize(
    ("measure", "sign", "words"),
    [
        ("margin", 1, "Easy samples weigh more: the weight rises with the teacher margin (Spearman 1.00)"),
        ("margin", -1, "Hard samples weigh more: the weight falls with the teacher margin (Spearman −1.00)"),
        ("student_loss", 1, "Hard samples weigh more: the weight rises with the student loss (Spearman 1.00)"),
        ("entropy", -1, "Easy samples weigh more: the weight falls with the entropy H at τ (Spearman −1.00)"),
        ("maximum", 1, "The weight rises with the centred maximum m (Spearman 1.00)"),
    ],
)
def test_the_title_says_who_weighs_more_in_either_direction(measure, sign, words):
    weights = weights_of()
    assert difficulty_figure(weights, np.exp(sign * weights.relative), MEASURES[measure]).title == words


def test_the_title_admits_that_there_is_no_dependence():
    chance = np.random.default_rng(5).normal(size=600)
    assert "hardly depends on" in difficulty_figure(weights_of(), chance, MEASURES["margin"]).title
    equal = difficulty_figure(weights_of(weighting="none"), chance, MEASURES["margin"])
    assert equal.title == "Every sample weighs the same, whatever its teacher margin"


def test_the_title_says_which_of_the_two_does_not_vary():
    title = difficulty_figure(weights_of(), np.full(600, 2.5), MEASURES["margin"]).title
    assert title == "Every sample has the same teacher margin: it does not decide which weighs more"


def test_running_median_of_a_line_is_the_line():
    values = np.random.default_rng(6).permutation(900).astype(float)
    median = running_median(values, 2 * values + 1)
    assert median["samples"].sum() == 900
    assert median["samples"].min() >= 40
    np.testing.assert_allclose(median["weight"], 2 * median["value"] + 1)


def test_a_loss_of_zero_stands_at_the_end_of_a_logarithmic_axis():
    weights = weights_of()
    loss = np.exp(np.random.default_rng(7).normal(-6, 3, 600))
    loss[:30] = 0.0
    figure = difficulty_figure(weights, loss, MEASURES["student_loss"])
    assert "log" in json.dumps(figure.spec)
    cloud = figure.datasets["cloud"]
    assert len(cloud) == 600
    assert (cloud["value"] > 0).all()
    assert (cloud["value"][:30] == cloud["value"].min()).all()


def test_the_curve_of_shares_is_that_of_the_sorted_norms():
    fixed, cist = norms(), norms(seed=4)
    selected = np.arange(600) < 60
    figure = gradient_figure((Fixed(4.0), fixed), (Cist(3.0), cist), selected=selected)
    curves_ = figure.datasets["curves"]
    at = curves_[(curves_["rule"] == "CIST") & np.isclose(curves_["part"], 0.1)]["share"].item()
    expected = [100 * np.sort(of.norm)[-60:].sum() / of.norm.sum() for of in (fixed, cist)]
    assert at * 100 == pytest.approx(expected[1])
    assert figure.title == (
        f"The 10 % of samples with the largest gradient carry {expected[0]:.1f} % of it under τ = 4, "
        f"{expected[1]:.1f} % under CIST"
    )
    np.testing.assert_allclose(
        figure.datasets["selected"]["share"], [of.norm[:60].sum() / of.norm.sum() for of in (fixed, cist)]
    )
    assert "the 60 selected samples carry" in figure.caption


@pytest.mark.parametrize("samples", [300, MOST_POINTS + 1])
def test_charts_become_json_compile_and_draw(samples):
    vl_convert = pytest.importorskip("vl_convert")
    equal = weights_of(samples, weighting="none")
    alone = weights_of(samples, student=False, weighting="teacher")
    extra = [weight_figure(equal), factors_figure(alone)]
    extra.append(difficulty_figure(equal, curves(samples).statistics.gap, MEASURES["margin"]))
    for figure in [*all_figures(samples, np.arange(samples) < 20), *extra]:
        text = json.dumps(figure.vega_lite(), allow_nan=False)
        assert figure.title
        assert figure.alt
        assert figure.caption
        for name in figure.datasets:
            assert f'"name": "{name}"' in text
        svg = vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 600})
        assert svg.count("<path") > 10
        assert "NaN" not in svg
        assert "undefined" not in svg
