"""The data on the charts of choosing rho, checked against SciPy and the curves they were made from."""

import json
import math

import numpy as np
import pytest
from reference import centred_maximum, entropy_at, entropy_at_cist

from cist_core import EntropyCurves, LogitSet, matched_pair
from cist_core.charts.figure import PICK
from cist_core.charts.rho import PICK_STEP, gain_figure, rho_figure
from cist_core.findings import floor_story, percent
from cist_core.readings import read_rule
from cist_core.recommendation import recommend_rho
from cist_core.rho_curves import RHOS, gain_curve, rho_sweep
from cist_core.temperature import Cist, Fixed


@pytest.fixture
def curves(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


@pytest.fixture
def student(logits):
    noise = np.random.default_rng(1).normal(size=logits.shape)
    return EntropyCurves.from_logits(LogitSet.create(0.5 * logits + noise))


@pytest.fixture(params=[0.0, 0.25], ids=["no floor", "floor 0.25"])
def floor(request):
    """Neither keeps the default target, a quarter of ln C, out of reach on the example logits."""
    return request.param


def both(curves, student=None, rho=3.0, tau=None, floor=0.25):
    """The two charts as the page draws them."""
    found, sweep = recommend_rho(curves, floor=floor), rho_sweep(curves, floor=floor)
    cist = read_rule(Cist(rho, floor), curves)
    fixed = read_rule(Fixed(tau or matched_pair(curves, rho=rho, floor=floor).tau), curves)
    other = None if student is None else rho_sweep(student, floor=floor)
    gains = None if student is None else gain_curve(student, other)
    return (
        rho_figure(sweep, found, cist, student=other),
        gain_figure(gain_curve(curves, sweep), found, fixed, cist, student=gains),
    )


def test_the_curve_and_its_band_are_those_of_scipy(curves, logits, floor):
    table = both(curves, floor=floor)[0].datasets["curve"]
    row = table.iloc[10]
    entropy = entropy_at_cist(logits, row["rho"], floor)
    assert row["at_floor"] == np.mean(centred_maximum(logits) / row["rho"] < floor)
    assert row["mean"] == pytest.approx(entropy.mean(), abs=1e-4)
    assert row["normalised_mean"] == pytest.approx(entropy.mean() / math.log(10), abs=1e-4)
    assert row["q05"] == pytest.approx(np.quantile(entropy, 0.05), abs=2e-4)
    assert row["q95"] == pytest.approx(np.quantile(entropy, 0.95), abs=2e-4)


def test_the_points_lie_on_the_curve(curves, logits, floor):
    figure = both(curves, rho=2.5, floor=floor)[0]
    points = figure.datasets["points"].set_index("kind")
    assert points.loc["recommended", "rho"] == recommend_rho(curves, floor=floor).rho
    assert points.loc["recommended", "mean"] == pytest.approx(0.25 * math.log(10), abs=1e-4)
    assert points.loc["now", "mean"] == pytest.approx(entropy_at_cist(logits, 2.5, floor).mean(), abs=1e-4)
    assert points.loc["now", "label"] == "now 2.5"


def test_the_chart_says_on_how_many_samples_the_floor_holds(curves):
    found = recommend_rho(curves, floor=0.25)
    share = percent(found.outcome.cist.at_floor)
    caption = both(curves)[0].caption
    assert caption.endswith(f" At the recommended ρ t{floor_story(0.25, found.outcome.cist.at_floor)[1:]}.")
    assert share in caption
    assert both(curves, floor=0)[0].caption.endswith("practical range, and on the axis the ρ that lie in it.")


def test_the_range_stands_where_its_ends_are(curves):
    row = both(curves)[0].datasets["range"].iloc[0]
    found = recommend_rho(curves, floor=0.25)
    assert (row["low"], row["high"]) == pytest.approx((0.15 * math.log(10), 0.55 * math.log(10)))
    assert (row["low_label"], row["high_label"]) == ("15 % of ln C", "55 % of ln C")
    assert (row["rho_from"], row["rho_to"]) == pytest.approx(found.band)


def test_an_open_end_reaches_to_the_end_of_the_axis():
    rows = np.zeros((6, 6))
    rows[:, :3] = 5.0  # never below ln 3
    curves = EntropyCurves.from_logits(LogitSet.create(rows))
    found = recommend_rho(curves, low=0.3, high=0.9, target=0.8)
    figure = rho_figure(rho_sweep(curves), found, read_rule(Cist(2.0), curves))
    assert figure.datasets["range"]["rho_to"][0] == pytest.approx(figure.datasets["picks"]["to"].max(), abs=0.05)
    json.dumps(figure.vega_lite(), allow_nan=False)


def test_every_place_on_the_axis_can_be_picked(curves, logits, floor):
    picks = both(curves, rho=4.0, floor=floor)[0].datasets["picks"]
    np.testing.assert_allclose(picks["to"][:-1], picks["from"][1:])
    np.testing.assert_allclose(picks["rho"] / PICK_STEP, np.round(picks["rho"] / PICK_STEP))
    assert picks["rho"].min() == 0.2
    assert picks["rho"].max() > 4.0
    row = picks.iloc[(picks["rho"] - 3.1).abs().argmin()]
    assert row["mean"] == pytest.approx(entropy_at_cist(logits, 3.1, floor).mean(), abs=0.005)  # shown to two decimals
    assert row["at_floor"] == pytest.approx(np.mean(centred_maximum(logits) < 3.1 * floor), abs=0.01)


def test_the_same_place_can_be_picked_in_the_next_turn(curves):
    """The browser reports only a pick that differs from the last one."""
    found, sweep, cist = recommend_rho(curves), rho_sweep(curves), read_rule(Cist(3.0), curves)
    first, second = (rho_figure(sweep, found, cist, turn=turn) for turn in (0, 1))
    (param,) = first.spec["params"]
    assert param["name"] == PICK
    fields = param["select"]["fields"]
    ones, others = (figure.datasets["picks"].iloc[5][fields].tolist() for figure in (first, second))
    assert ones[fields.index("rho")] == others[fields.index("rho")]
    assert ones != others


def test_the_axis_reaches_to_a_rho_far_out(curves):
    figure = both(curves, rho=15.0)[0]
    assert figure.datasets["curve"]["rho"].max() >= 14.9
    found, sweep = recommend_rho(curves, low=0.4, high=0.6, floor=0), rho_sweep(curves, floor=0)
    near = rho_figure(sweep, found, read_rule(Cist(2.0, floor=0), curves)).datasets["curve"]["rho"].max()
    assert found.band[1] < near < 1.8 * found.band[1] < 12


def test_a_recommendation_far_out_lies_on_the_curve():
    """Wide Gaussian logits of many classes are recommended more than every rho that is swept by default."""
    rows = np.random.default_rng(0).normal(size=(50, 1000))
    curves = EntropyCurves.from_logits(LogitSet.create(rows))
    found = recommend_rho(curves, target=0.05, low=0.04, floor=0)
    assert found.rho > RHOS[-1]
    now = read_rule(Cist(3.0, floor=0), curves)
    figure = rho_figure(rho_sweep(curves, reach=1.2 * found.rho, floor=0), found, now)
    curve, points = figure.datasets["curve"], figure.datasets["points"].set_index("kind")
    at = np.interp(found.rho, curve["rho"], curve["mean"], right=np.nan)
    assert at == pytest.approx(points.loc["recommended", "mean"], rel=0.02)
    assert figure.datasets["picks"]["rho"].max() == pytest.approx(RHOS[-1])


def test_the_gains_are_those_of_scipy(curves, logits, floor):
    figure = both(curves, floor=floor)[1]
    row = figure.datasets["gain"].iloc[20]
    exact = entropy_at(logits, row["tau"]).std() / entropy_at_cist(logits, row["rho"], floor).std()
    assert row["gain"] == pytest.approx(exact, rel=0.01)
    assert row["spread_fixed"] / row["spread_cist"] == pytest.approx(row["gain"])
    now = figure.datasets["now"].iloc[0]
    tau = matched_pair(curves, rho=3.0, floor=floor).tau
    expected = entropy_at(logits, tau).std() / entropy_at_cist(logits, 3.0, floor).std()
    assert now["gain"] == pytest.approx(expected, rel=2e-3)


def test_a_pair_that_is_not_matched_has_no_gain(curves):
    assert both(curves, rho=3.0, tau=20.0)[1].datasets["now"].empty


def test_the_region_holds_every_gain(curves):
    region = both(curves)[1].datasets["region"].iloc[0]
    gains = both(curves)[1].datasets["gain"]["gain"]
    assert region["one"] == 1
    assert region["bottom"] < min(1, gains.min())
    assert region["top"] > gains.max()


def test_without_a_spread_the_gain_is_empty_and_says_so():
    rows = np.random.default_rng(0).normal(size=(100, 2)) * 3
    figure = both(EntropyCurves.from_logits(LogitSet.create(rows)), rho=0.8, floor=0)[1]
    assert figure.datasets["gain"].empty
    assert figure.datasets["now"].empty
    assert "CIST does not spread at all; the fixed temperature of the same mean entropy spreads" in figure.title
    json.dumps(figure.vega_lite(), allow_nan=False)


def test_the_student_has_lines_of_its_own(curves, student):
    first, second = both(curves, student)
    np.testing.assert_allclose(
        first.datasets["student"]["mean"], rho_sweep(student, floor=0.25).mean[: len(first.datasets["student"])]
    )
    assert set(second.datasets["student"]["model"]) == {"student"}
    assert "Dashed: the student" in first.caption
    for figure in both(curves):
        assert figure.datasets["student"].empty
        assert "student" not in figure.caption


def test_only_data_change_with_the_slider(curves, student):
    for first, second in zip(both(curves, student, rho=3.0), both(curves, student, rho=4.0), strict=True):
        assert first.spec is second.spec


@pytest.mark.parametrize("with_student", [False, True])
def test_the_charts_compile_and_draw(curves, student, with_student):
    vl_convert = pytest.importorskip("vl_convert")
    for figure in both(curves, student if with_student else None):
        text = json.dumps(figure.vega_lite(), allow_nan=False)
        assert all(f'"name": "{name}"' in text for name in figure.datasets)
        assert figure.title
        assert figure.alt.startswith(figure.title)
        svg = vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 600})
        assert svg.count("<path") > 20
        assert "NaN" not in svg
        assert "undefined" not in svg
        assert ('stroke-dasharray="6,4"' in svg) is with_student
