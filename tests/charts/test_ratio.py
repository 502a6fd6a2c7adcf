"""The ratio's charts: what is drawn inside the envelope, beside the axes and in front, and the sentences above."""

import json
import math

import numpy as np
import pytest

from cist_core.charts.cloud import MOST_POINTS
from cist_core.charts.ratio import envelope_sentence, ratio_figure
from cist_core.charts.residuals import furthest_sentence, gap_figure, reasons_figure, reasons_sentence, spread_sentence
from cist_core.entropy.curves import EntropyCurves
from cist_core.entropy.envelope import entropy_envelope
from cist_core.logits.logit_set import LogitSet
from cist_core.samples.residuals import REASONS, Residuals, why_far
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rules
from cist_core.wording import percent, three_digits

CLASSES = 8


def example(samples=300, rho=3.0, floor=0.0):
    """Both rules on rows of many scales, under the pure ratio rule unless a floor is asked for."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(samples, CLASSES)) * rng.uniform(0.3, 6.0, (samples, 1))
    curves = EntropyCurves.from_logits(LogitSet.create(rows.astype(np.float32)))
    fixed, held = read_rules([Fixed(2.0), Cist(rho, floor)], curves)
    return fixed, held, why_far(curves, held)


def crafted(entropy, *, gap, second, classes=10, curve=0.5):
    """Residuals with numbers of one's own."""
    columns = (np.broadcast_to(np.asarray(value, float), np.shape(entropy)) for value in (gap, entropy, curve, second))
    gap, entropy, curve, second = columns
    residuals = Residuals(classes, np.ones_like(gap), gap, entropy, np.zeros(np.shape(entropy), bool))
    vars(residuals).update(equal_others=curve, second_class=second)
    return residuals


@pytest.mark.parametrize("samples", [300, MOST_POINTS + 1])
def test_every_sample_is_inside_the_band_of_gap_0(samples):
    fixed, held, _ = example(samples)
    band = ratio_figure(fixed, held).datasets["envelope"]
    inside = fixed.ratios < band["ratio"].max()
    low = np.interp(fixed.ratios, band["ratio"], band["entropy"])
    high = np.interp(fixed.ratios, band["ratio"], band["entropy_to"])
    # The band is a polygon, whose sides leave the curve by a little.
    assert np.all(low[inside] - 2e-3 <= fixed.entropy[inside])
    assert np.all(fixed.entropy[inside] <= high[inside] + 2e-3)


def test_the_axis_leaves_out_the_few_largest_ratios_and_counts_them():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(MOST_POINTS + 1, CLASSES))
    rows[:3] *= 500
    curves = EntropyCurves.from_logits(LogitSet.create(rows.astype(np.float32)))
    fixed, held = read_rules([Fixed(2.0), Cist(1.0)], curves)
    figure = ratio_figure(fixed, held)
    reach = figure.datasets["curve"]["ratio"].max()
    beyond = np.count_nonzero(fixed.ratios > reach)
    assert 3 <= beyond <= 0.002 * len(fixed.ratios)
    assert f"; {beyond} of them beyond the axis, drawn at its end" in figure.caption
    fixed, held = read_rules([Fixed(1e4), Cist(1.0, floor=0)], curves)  # all the largest are one
    assert ratio_figure(fixed, held).datasets["curve"]["ratio"].max() == pytest.approx(1.06)


@pytest.mark.parametrize("samples", [40, 5000])  # each in a point, and counted in cells
def test_constant_rows_have_a_chart_though_no_ratio(samples):
    curves = EntropyCurves.from_logits(LogitSet.create(np.zeros((samples, 3))))
    figure = ratio_figure(*read_rules([Fixed(2.0), Cist(3.0)], curves))
    margins = figure.datasets["margins"]
    assert margins.groupby(["rule", "of"])["samples"].sum().tolist() == [samples] * 4


def test_the_band_of_a_gap_starts_where_a_row_can_have_it():
    fixed, held, _ = example()
    band = ratio_figure(fixed, held, gap=1.6).datasets["envelope"]
    assert band["ratio"].iloc[0] == pytest.approx(1.6 * (CLASSES - 1) / CLASSES)
    assert band["entropy"].iloc[0] == pytest.approx(band["entropy_to"].iloc[0], abs=1e-6)
    middle = band.iloc[60]
    low, high = entropy_envelope(middle["ratio"], CLASSES, 1.6)
    assert (middle["entropy"], middle["entropy_to"]) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert band["ratio"].max() == ratio_figure(fixed, held).datasets["curve"]["ratio"].max()


def test_a_gap_beyond_every_ratio_leaves_no_band_and_a_chart():
    fixed, held, _ = example()
    figure = ratio_figure(fixed, held, gap=500.0)
    assert figure.datasets["envelope"]["entropy_to"].max() <= math.log(CLASSES)
    json.dumps(figure.vega_lite(), allow_nan=False)


def test_the_margins_count_every_sample_of_both_rules_on_both_axes():
    fixed, held, _ = example()
    margins = ratio_figure(fixed, held).datasets["margins"]
    assert margins.groupby(["rule", "of"])["samples"].sum().tolist() == [300] * 4
    ratios = margins.query("rule == 'CIST' and of == 'ratio'")
    assert len(ratios) == 1
    assert ratios["ratio"].iloc[0] <= 3.0 <= ratios["ratio_to"].iloc[0]
    entropies = margins.query("rule == 'CIST' and of == 'entropy'")
    counts, _ = np.histogram(held.entropy, 48, (0, math.log(CLASSES)))
    assert entropies["samples"].tolist() == counts[counts > 0].tolist()
    # Both rules' bars have one scale: as long as they are many.
    bars = margins.query("of == 'entropy'")
    lengths = (bars["ratio_to"] - bars["ratio"]) / bars["samples"]
    np.testing.assert_allclose(lengths, lengths.iloc[0])


@pytest.mark.parametrize("samples", [300, MOST_POINTS + 1])
def test_the_margins_of_samples_at_the_floor_and_above_it_are_together(samples):
    fixed, held, _ = example(samples, floor=1.0)
    datasets = ratio_figure(fixed, held).datasets
    reach = datasets["curve"]["ratio"].max()
    for of, values, bins, end in (("ratio", held.ratios, 72, reach), ("entropy", held.entropy, 48, math.log(CLASSES))):
        bars = datasets["margins"].query("rule == 'CIST' and of == @of")
        counts, edges = np.histogram(np.clip(values, 0, end), bins, (0, end))
        assert bars["samples"].tolist() == counts[counts > 0].tolist()
        np.testing.assert_allclose(bars[of], edges[:-1][counts > 0])


@pytest.mark.parametrize("samples", [300, MOST_POINTS + 1])
def test_selected_samples_are_drawn_in_front_under_both_rules(samples):
    fixed, held, residuals = example(samples)
    selected = fixed.entropy > np.median(fixed.entropy)
    for figure in (ratio_figure(fixed, held, selected=selected), gap_figure(residuals, held.rule, selected=selected)):
        front = figure.datasets["selected"]
        assert (len(front) if samples == 300 else front["samples"].sum()) == selected.sum()
    violin = ratio_figure(fixed, held, selected=selected).datasets["selected_violin"]
    assert violin["samples"].sum() == selected.sum()
    assert ratio_figure(fixed, held).datasets["selected"].empty
    assert gap_figure(residuals, held.rule).datasets["selected"].empty


@pytest.mark.parametrize("samples", [300, MOST_POINTS + 1])
def test_samples_at_the_floor_stand_left_of_rho_and_the_words_count_them(samples):
    fixed, held, _ = example(samples, floor=1.0)
    floored = int(held.at_floor.sum())
    assert 0 < floored < samples
    figure = ratio_figure(fixed, held)
    cloud, violin = (figure.datasets[name] for name in ("cloud", "violin"))
    left = cloud.query("rule == 'CIST'")
    assert (len(left) if samples == 300 else left["samples"].sum()) == floored
    assert left["ratio"].max() < 3.0
    assert violin["samples"].sum() == samples - floored
    np.testing.assert_allclose((violin["ratio"] + violin["ratio_to"]) / 2, 3.0, rtol=1e-6)
    if samples == 300:
        ratio, entropy = left["ratio"].to_numpy(), left["entropy"].to_numpy()
        np.testing.assert_allclose(ratio, held.ratios[held.at_floor], rtol=1e-6)
        np.testing.assert_allclose(entropy, held.entropy[held.at_floor], rtol=1e-6)
    words = f"the {floored:,} ({percent(floored / samples)}) at the floor of 1, at the ratio m / 1"
    assert words in figure.caption
    assert words in figure.alt
    json.dumps(figure.vega_lite(), allow_nan=False)


def test_selected_samples_at_the_floor_are_in_front_where_they_stand():
    fixed, held, _ = example(floor=1.0)
    front = ratio_figure(fixed, held, selected=held.at_floor).datasets
    assert len(front["selected"]) == 2 * held.at_floor.sum()  # under both rules
    assert front["selected_violin"].empty


def test_where_every_sample_is_at_the_floor_there_is_no_shape_at_rho():
    fixed, held, residuals = example(rho=14.0, floor=2.0)
    assert held.at_floor.all()
    figure = ratio_figure(fixed, held)
    assert figure.datasets["violin"].empty
    assert "Blue: all samples under CIST are at the floor of 2" in figure.alt
    assert envelope_sentence(residuals, 14.0, 0.0).endswith("no sample is above the floor and has it")
    for each in (figure, gap_figure(residuals, held.rule)):
        json.dumps(each.vega_lite(), allow_nan=False)


def test_without_samples_at_the_floor_nothing_is_said_of_it():
    fixed, held, residuals = example()
    for figure in (ratio_figure(fixed, held), gap_figure(residuals, held.rule)):
        assert "floor" not in figure.caption + figure.alt
    assert figure.caption.startswith("300 samples under CIST")


def test_the_gap_and_the_envelope_speak_of_the_samples_above_the_floor():
    _, held, residuals = example(floor=1.0)
    floored = int(held.at_floor.sum())
    figure = gap_figure(residuals, held.rule)
    for text in (figure.caption, figure.alt):
        assert f"{floored} ({percent(floored / 300)}) are at the floor of 1" in text
    assert figure.title.startswith("From gap and ratio alone")
    above = ~held.at_floor
    start, end = (three_digits(float(value)) for value in np.quantile(held.entropy[above], [0.05, 0.95]))
    words = envelope_sentence(residuals, 3.0, 0.0)
    assert words.endswith(f"90 % of the samples above the floor lie between {start} and {end}")
    share = percent(float(np.mean(residuals.gap[above] >= 1.0)))
    assert f"{share} of the samples above the floor have such a gap" in envelope_sentence(residuals, 3.0, 1.0)


def test_one_spec_for_every_slider_position_gap_and_selection():
    fixed, held, residuals = example()
    other_fixed, other_held, other = example(rho=5.0)
    everyone = np.ones(300, bool)
    first, second = ratio_figure(fixed, held), ratio_figure(other_fixed, other_held, selected=everyone, gap=1.0)
    assert first.spec is second.spec
    assert gap_figure(residuals, held.rule).spec is gap_figure(other, other_held.rule, selected=everyone).spec
    assert reasons_figure(residuals).spec is reasons_figure(other).spec
    for a, b in ((first, second), (gap_figure(residuals, held.rule), gap_figure(other, other_held.rule))):
        assert a.datasets.keys() == b.datasets.keys()
        for name in a.datasets:
            assert list(a.datasets[name]) == list(b.datasets[name])


def test_the_brush_selects_by_ratio_and_entropy():
    fixed, held, residuals = example()
    figure = ratio_figure(fixed, held)
    assert figure.brush == {"ratio": "ratio", "entropy": "entropy"}
    assert gap_figure(residuals, held.rule).brush == {"entropy": "entropy_cist"}
    for spec in (figure.spec, gap_figure(residuals, held.rule).spec):
        assert [param["name"] for param in spec["params"]] == ["brush"]


def test_reasons_are_counted_by_side():
    residuals = crafted([1.5, 1.4, 0.9, 0.2, 0.51], gap=[0.1, 2.0, 2.0, 2.0, 0.1], second=[0.9, 1.3, 0.6, 0.3, 0.51])
    counts = reasons_figure(residuals).datasets["reasons"].set_index(["reason", "side"])["samples"]
    assert counts.loc[("tie", "above the curve")] == 1
    assert counts.loc[("second mode", "above the curve")] == 1
    assert counts.loc[("uneven others", "above the curve")] == 1
    assert counts.loc[("second mode", "below the curve")] == 1
    assert counts.sum() == 4  # the last is near the curve
    assert list(dict.fromkeys(counts.index.get_level_values("reason"))) == list(REASONS)


def test_the_title_names_the_commonest_reason():
    two_modes = crafted([1.4, 1.4, 0.9], gap=2.0, second=[1.3, 1.3, 0.6])
    assert reasons_sentence(two_modes) == (
        "3 of 3 samples lie more than 0.115 nats from the equal-others curve, 66.7 % of them because of a second mode"
    )
    one = crafted([1.4, 0.5], gap=0.1, second=[1.3, 0.5])
    assert reasons_sentence(one) == (
        "1 of 2 samples lies more than 0.115 nats from the equal-others curve, 100 % of them because of a tie"
    )
    none = crafted([0.52, 0.5], gap=0.1, second=0.5)
    assert reasons_sentence(none) == "No sample lies more than 0.115 nats from the equal-others curve"


def test_the_furthest_samples_are_counted_by_reason():
    residuals = crafted([1.5, 1.4, 0.9, 0.51], gap=[0.1, 2.0, 2.0, 2.0], second=[0.9, 1.3, 0.6, 0.51])
    assert furthest_sentence(residuals, 2) == "The 2 samples furthest from the curve; reasons: 1 tie, 1 second mode"
    assert furthest_sentence(residuals, 3).endswith("1 tie, 1 second mode, 1 uneven others")
    assert furthest_sentence(residuals, 4).endswith("1 uneven others, 1 within 0.115 nats of it")
    assert furthest_sentence(residuals, 1) == "The sample furthest from the curve; reason: tie"


@pytest.mark.parametrize(
    "rows", [np.random.default_rng(0).normal(size=(60, 2)), np.eye(5)[[0, 1, 2]] * [[1], [4], [9]]]
)
def test_on_the_curve_there_are_neither_reasons_nor_shares_of_rounding(rows):
    curves = EntropyCurves.from_logits(LogitSet.create(rows.astype(np.float32)))
    residuals = why_far(curves, read_rules([Cist(2.0, floor=0)], curves)[0])
    near = f"within {three_digits(0.05 * math.log(rows.shape[1]))} nats of it"
    assert furthest_sentence(residuals, 3) == f"The 3 samples furthest from the curve lie {near}"
    assert furthest_sentence(residuals, 1) == f"The sample furthest from the curve lies {near}"
    assert spread_sentence(residuals) == "Under CIST every sample has the same entropy: there is nothing to explain"


def test_the_spread_that_the_gap_predicts_is_said_with_what_it_explains():
    _, _, residuals = example()
    words = spread_sentence(residuals)
    assert f"{residuals.second_class.std():.3f}" in words
    assert f"{residuals.entropy.std():.3f}" in words
    same = crafted([0.9, 0.9], gap=1.0, second=0.8)
    assert "nothing to explain" in spread_sentence(same)
    rounding = crafted([0.9, 0.90001], gap=[1.0, 1.1], second=[0.8, 0.8000001])
    assert "nothing to explain" in spread_sentence(rounding)
    uneven = crafted([0.9, 1.3], gap=[1.0, 1.1], second=0.8)
    assert spread_sentence(uneven).startswith(
        "From the gap alone every sample would have the same entropy under CIST; the spread is 0.200 nats, and"
    )


def test_the_envelope_in_words():
    _, _, residuals = example()
    low, high = entropy_envelope(3.0, CLASSES)
    words = envelope_sentence(residuals, 3.0, 0.0)
    assert f"any entropy from {low:.3f} to {high:.2f} nats" in words
    assert "3.43" in envelope_sentence(residuals, 3.0, 5.0)  # the largest gap, 3 * 8 / 7
    share = np.mean(residuals.gap >= 1.0)
    assert f"{share * 100:.1f} % of the samples have such a gap" in envelope_sentence(residuals, 3.0, 1.0)


def test_with_two_classes_everything_is_on_the_curve():
    rng = np.random.default_rng(0)
    curves = EntropyCurves.from_logits(LogitSet.create(rng.normal(size=(60, 2)).astype(np.float32)))
    fixed, held = read_rules([Fixed(1.0), Cist(2.0)], curves)
    residuals = why_far(curves, held)
    assert reasons_sentence(residuals).startswith("No sample")
    for figure in (ratio_figure(fixed, held), gap_figure(residuals, held.rule), reasons_figure(residuals)):
        json.dumps(figure.vega_lite(), allow_nan=False)


@pytest.mark.parametrize("samples", [300, MOST_POINTS + 1])
def test_the_charts_compile_and_draw(samples):
    vl_convert = pytest.importorskip("vl_convert")
    fixed, held, residuals = example(samples)
    selected = fixed.ratios > 2
    for figure in (
        ratio_figure(fixed, held, selected=selected, gap=0.5),
        gap_figure(residuals, held.rule, selected=selected),
        reasons_figure(residuals),
    ):
        svg = vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 600})
        assert svg.count("<path") > 5
        assert "NaN" not in svg
        assert "undefined" not in svg
