"""The data on the charts, checked against the readings they were made from."""

import json
import math
import re

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from cist_core.charts import histogram_figure, per_class_figure, ratio_figure, stacked_histograms, variance_figure
from cist_core.charts.ratio import MOST_POINTS
from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.logit_set import LogitSet
from cist_core.temperature import Cist, Fixed, Lskd
from cist_core.temperature.readings import read_rules


def example(samples: int = 400, classes: int = 7, seed: int = 0) -> tuple[LogitSet, EntropyCurves]:
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.3, 6.0, (samples, 1))
    logits = (rng.normal(size=(samples, classes)) * scale).astype(np.float32)
    logit_set = LogitSet.create(
        logits, rng.integers(0, classes, samples), class_names=[f"c{i}" for i in range(classes)]
    )
    return logit_set, EntropyCurves.from_logits(logit_set)


def test_histogram_bins_hold_every_sample_where_scipy_puts_it() -> None:
    logit_set, curves = example()
    figure = histogram_figure(read_rules([Fixed(2.0), Cist(3.0)], curves))
    bins = figure.datasets["bins"].query("rule == 'fixed τ'")
    reference = scipy_entropy(softmax(logit_set.logits.astype(np.float64) / 2.0, axis=1), axis=1)
    expected, edges = np.histogram(reference, bins=60, range=(0, math.log(7)))
    assert bins["samples"].sum() == 400
    # A sample within rounding of an edge may fall on either side.
    assert np.abs(bins["samples"].to_numpy() - expected).sum() <= 4
    np.testing.assert_allclose(bins["from"], edges[:-1])


def test_histogram_shows_the_shares_of_both_regions() -> None:
    _, curves = example()
    readings = read_rules([Fixed(0.3), Cist(3.0)], curves)
    regions = histogram_figure(readings).datasets["regions"]
    row = regions.query("rule == 'fixed τ' and region == 'over-sharp'").iloc[0]
    assert row["samples"] == np.count_nonzero(readings[0].entropy < 0.05 * math.log(7))
    assert row["samples"] > 0


def test_spec_is_the_same_object_for_another_slider_position() -> None:
    """Only data may change on a move: a changed spec makes the browser draw the chart anew."""
    _, curves = example()
    first = histogram_figure(read_rules([Fixed(2.0), Cist(3.0)], curves))
    second = histogram_figure(read_rules([Fixed(7.5), Cist(1.5)], curves))
    assert first.spec is second.spec
    assert not first.datasets["bins"].equals(second.datasets["bins"])


@pytest.mark.parametrize("chosen", [None, 0, 150])
def test_the_tables_of_a_histogram_are_named_before_they_are_made(chosen: int | None) -> None:
    _, curves = example()
    readings = read_rules([Fixed(2.0), Cist(3.0)], curves)
    figure = histogram_figure(readings, selected=None if chosen is None else np.arange(400) < chosen)
    assert figure.tables() == [name for name, table in figure.datasets.items() if len(table)]
    assert len(figure.datasets) == 4
    assert "bins" in figure.datasets
    assert figure.datasets["bins"] is figure.datasets["bins"]
    with pytest.raises(KeyError):
        figure.datasets["others"]


def test_stacked_histograms_share_one_scale() -> None:
    vl_convert = pytest.importorskip("vl_convert")
    _, curves = example()
    figures = stacked_histograms(read_rules([Fixed(2.0), Cist(3.0), Lskd(2.0)], curves))
    assert [len(figure.datasets["means"]) for figure in figures] == [1, 1, 1]
    tallest = [figure.datasets["bins"]["samples"].max() for figure in figures]
    assert max(tallest) > 2 * min(tallest)
    tops = []
    for figure in figures:
        svg = vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 600})
        (axis,) = re.findall(r"Y-axis titled 'samples' for a linear scale with values from 0 to (\d+)", svg)
        tops.append(int(axis))
    assert tops == [tops[0]] * 3
    assert max(tallest) <= tops[0] < 2 * max(tallest)


@pytest.mark.parametrize("floor", [0.0, 1.0])
@pytest.mark.parametrize("samples", [300, MOST_POINTS + 1])
def test_ratio_draws_every_sample_as_point_or_in_a_cell(samples: int, floor: float) -> None:
    _, curves = example(samples)
    readings = read_rules([Fixed(2.0), Cist(3.0, floor)], curves)
    cloud = ratio_figure(*readings).datasets["cloud"]
    fixed = cloud[cloud["rule"] == "fixed τ"]
    if samples > MOST_POINTS:
        assert fixed["samples"].sum() == samples
        assert (cloud["samples"] > 0).all()
    else:
        assert len(fixed) == samples
        np.testing.assert_allclose(fixed["entropy"], readings[0].entropy)
    violin = ratio_figure(*readings).datasets["violin"]
    at_floor = cloud[cloud["rule"] == "CIST"]
    floored = at_floor["samples"].sum() if samples > MOST_POINTS else len(at_floor)
    assert floored == readings[1].profile.samples_at_floor
    assert (floored > 0) == (floor > 0)
    assert violin["samples"].sum() + floored == samples
    np.testing.assert_allclose((violin["ratio"] + violin["ratio_to"]) / 2, 3.0, rtol=1e-5)


def test_ratio_draws_another_rule_than_cist_as_a_cloud() -> None:
    _, curves = example(300)
    cloud = ratio_figure(*read_rules([Fixed(2.0), Lskd(2.0)], curves)).datasets["cloud"]
    assert cloud["rule"].value_counts().to_dict() == {"fixed τ": 300, "LSKD": 300}


def test_several_fixed_temperatures_are_told_apart() -> None:
    _, curves = example()
    figure = histogram_figure(read_rules([Fixed(2.0), Cist(3.0), Fixed(1.0), Lskd(2.0), Fixed(4.0)], curves))
    assert list(figure.datasets["means"]["rule"]) == ["fixed τ", "CIST", "τ = 1", "LSKD", "τ = 4"]
    scale = next(
        layer["encoding"]["color"]["scale"]
        for layer in figure.spec["layer"][0]["layer"][0]["layer"]
        if "scale" in layer["encoding"].get("color", {})
    )
    assert len(set(scale["range"])) == 5
    assert scale["domain"] == list(figure.datasets["means"]["rule"])


def test_variance_parts_add_up() -> None:
    _, curves = example()
    readings = read_rules([Fixed(2.0), Cist(3.0)], curves)
    parts = variance_figure(*readings).datasets["variance"].groupby("rule")["variance"].sum()
    assert parts["fixed τ"] == pytest.approx(readings[0].profile.std ** 2, rel=1e-5)
    assert parts["CIST"] == pytest.approx(readings[1].profile.std ** 2, rel=1e-5)


def test_classes_are_sorted_by_the_first_rule_and_empty_ones_left_out() -> None:
    logit_set, curves = example()
    labels = np.where(logit_set.labels == 6, 0, logit_set.labels)
    readings = read_rules([Fixed(2.0), Cist(3.0)], curves)
    table = per_class_figure(readings, labels, logit_set.class_names).datasets["classes"]
    fixed = table.query("rule == 'fixed τ'")
    assert fixed["mean"].is_monotonic_increasing
    assert set(fixed["class"]) == {f"c{i}" for i in range(6)}
    assert fixed.set_index("class").loc["c3", "mean"] == pytest.approx(
        readings[0].entropy[labels == 3].mean(), rel=1e-6
    )


def test_figures_become_json_and_name_only_data_they_carry() -> None:
    logit_set, curves = example()
    readings = read_rules([Fixed(2.0), Cist(3.0)], curves)
    for figure in (
        histogram_figure(readings),
        ratio_figure(*readings),
        variance_figure(*readings),
        per_class_figure(readings, logit_set.labels, logit_set.class_names),
    ):
        text = json.dumps(figure.vega_lite(), allow_nan=False)
        assert figure.title
        assert figure.alt
        assert figure.caption
        for name in figure.datasets:
            assert f'"name": "{name}"' in text


def test_charts_compile_and_draw() -> None:
    """The Vega-Lite compiler accepts every chart and finds its fields (it draws nothing for a missing one)."""
    vl_convert = pytest.importorskip("vl_convert")
    logit_set, curves = example()
    readings = read_rules([Fixed(2.0), Cist(3.0)], curves)
    for figure in (
        histogram_figure(readings),
        ratio_figure(*readings),
        variance_figure(*readings),
        per_class_figure(readings, logit_set.labels, logit_set.class_names),
    ):
        svg = vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 600})
        assert svg.count("<path") > 20
        assert "NaN" not in svg
        assert "undefined" not in svg
