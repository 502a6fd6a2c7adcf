"""The data on the charts of choosing rho, checked against SciPy and the curves they were made from."""

import json
import math

import numpy as np
import pytest
from reference import centred_maximum, entropy_at, entropy_at_cist

from cist_core import EntropyCurves, LogitSet, matched_pair
from cist_core.charts.figure import PICK
from cist_core.charts.rho import PICK_STEP, evidence_figure, gain_figure, rho_figure
from cist_core.compare.anchors import find_anchors
from cist_core.compare.evidence import evidence_for, parse_evidence
from cist_core.compare.findings import floor_sentence
from cist_core.compare.recommendation import recommend_rho
from cist_core.compare.rho_curves import RHOS, gain_curve, rho_sweep
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rule
from cist_core.wording import percent


@pytest.fixture
def curves(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


@pytest.fixture
def student(logits):
    noise = np.random.default_rng(1).normal(size=logits.shape)
    return EntropyCurves.from_logits(LogitSet.create(0.5 * logits + noise))


@pytest.fixture(params=[0.0, 0.25], ids=["no floor", "floor 0.25"])
def floor(request):
    """Neither keeps a quarter of ln C out of reach on the example logits."""
    return request.param


OWN = {"target": 0.25, "low": 0.15, "high": 0.55}
"""A mean entropy and a range of one's own."""


def both(curves, student=None, rho=3.0, tau=None, floor=0.25):
    """The two charts as the page draws them."""
    found, sweep = recommend_rho(curves, **OWN, floor=floor), rho_sweep(curves, floor=floor)
    cist = read_rule(Cist(rho, floor), curves)
    fixed = read_rule(Fixed(tau or matched_pair(curves, rho=rho, floor=floor).tau), curves)
    other = None if student is None else rho_sweep(student, floor=floor)
    gains = None if student is None else gain_curve(student, other)
    return (
        rho_figure(sweep, found, cist, anchors=find_anchors(curves, floor=floor), student=other),
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
    assert points.loc["recommended", "rho"] == recommend_rho(curves, **OWN, floor=floor).rho
    assert points.loc["recommended", "mean"] == pytest.approx(0.25 * math.log(10), abs=1e-4)
    assert points.loc["now", "mean"] == pytest.approx(entropy_at_cist(logits, 2.5, floor).mean(), abs=1e-4)
    assert points.loc["now", "label"] == "now 2.5"


def test_the_chart_says_on_how_many_samples_the_floor_holds(curves):
    found = recommend_rho(curves, **OWN, floor=0.25)
    share = percent(found.outcome.cist.at_floor)
    caption = both(curves)[0].caption
    assert caption.endswith(f" At the recommended ρ t{floor_sentence(0.25, found.outcome.cist.at_floor)[1:]}.")
    assert share in caption
    assert "Grey: your range, and on the axis the ρ that lie in it." in both(curves, floor=0)[0].caption


def test_the_range_stands_where_its_ends_are(curves):
    row = both(curves)[0].datasets["range"].iloc[0]
    found = recommend_rho(curves, **OWN, floor=0.25)
    assert (row["low"], row["high"]) == pytest.approx((0.15 * math.log(10), 0.55 * math.log(10)))
    assert (row["label"], row["label_at"]) == ("15 to 55 % of ln C", row["low"])
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
    assert (
        "CIST gives every sample the same entropy; at the fixed temperature of the same mean they vary by"
        in figure.title
    )
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


def test_the_anchors_stand_on_the_curve_and_the_leftmost_is_named_highest(curves, logits):
    flags = both(curves)[0].datasets["anchors"]
    assert flags["rho"].is_monotonic_increasing
    assert flags["height"].is_monotonic_decreasing
    assert flags["height"].min() > math.log(10)
    for _, flag in flags.iterrows():
        assert flag["mean"] == pytest.approx(entropy_at_cist(logits, flag["rho"], 0.25).mean(), abs=0.01)
    assert flags[flags["chosen"]]["key"].tolist() == ["own"]
    assert flags.set_index("key").loc["authors", "label"] == "authors: 3.00"


def test_an_anchor_that_has_no_place_on_the_axis_is_named_in_the_caption(curves):
    found = recommend_rho(curves, anchor="authors", floor=4.0)
    anchors = find_anchors(curves, floor=4.0)
    figure = rho_figure(rho_sweep(curves, floor=4.0), found, read_rule(Cist(3.0, 4.0), curves), anchors=anchors)
    assert "as KD at τ = 1" in figure.caption.partition("Not reached by any ρ: ")[2]
    assert "kd-tau-1" not in figure.datasets["anchors"]["key"].tolist()


def test_a_recommendation_without_a_range_draws_none(curves):
    found = recommend_rho(curves, target=0.5)
    figure = rho_figure(rho_sweep(curves), found, read_rule(Cist(2.0), curves))
    assert figure.datasets["range"].empty
    assert "Grey" not in figure.caption
    gains = gain_figure(gain_curve(curves), found, read_rule(Fixed(2.0), curves), read_rule(Cist(2.0), curves))
    assert gains.title.startswith("At 50 % of ln C CIST's entropies vary")
    assert gains.datasets["range"]["normalised"].tolist() == [0.5]
    json.dumps(figure.vega_lite(), allow_nan=False)


def made_evidence(*points):
    points = [dict(zip(("rule", "normalised_entropy", "accuracy"), point, strict=True), runs=3) for point in points]
    entry = {"setting": "Some students", "classes": 10, "validation_samples": 5000, "points": points}
    return parse_evidence([entry])[0]


def test_the_evidence_says_who_was_best_where_and_what_cannot_be_told_apart(curves):
    vl_convert = pytest.importorskip("vl_convert")
    evidence = made_evidence(
        ("cist:rho=3", 0.6, 0.9), ("cist:rho=5", 0.4, 0.895), ("cist:rho=8", 0.1, 0.7), ("tau=4", 0.5, 0.8)
    )
    figure = evidence_figure(evidence, recommend_rho(curves, **OWN, floor=0))
    assert figure.title == (
        "Our CIST students were best at 60 % of ln C (accuracy 90 %), those of KD at 50 % of ln C (accuracy 80 %); "
        "for CIST 40 to 60 % of ln C cannot be told apart"
    )
    assert "CIST in 9 runs, KD in 3 runs" in figure.caption
    assert figure.alt == f"{figure.title}. Recommended now: 25 % of ln C"
    rows = figure.datasets["evidence"]
    assert rows["normalised"].tolist() == [0.1, 0.4, 0.5, 0.6]
    assert rows["method"].tolist() == ["CIST", "CIST", "KD", "CIST"]
    shaded = figure.datasets["best"].iloc[0]
    assert (shaded["low"], shaded["high"]) == (0.4, 0.6)
    assert shaded["bottom"] < 0.7 < 0.9 < shaded["top"]
    assert figure.datasets["now"]["normalised"].tolist() == [0.25]
    svg = vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 300})
    assert "NaN" not in svg
    assert "#C77700" in svg
    assert "#2E7FD1" in svg


def test_the_evidence_of_cist_alone_and_that_which_is_shipped_can_be_drawn(curves):
    found = recommend_rho(curves, target=0.5)
    alone = evidence_figure(made_evidence(("cist:rho=3", 0.6, 0.9)), found)
    assert "KD" not in alone.title
    assert alone.title.endswith("every other mean entropy that was tried was worse")
    shipped = evidence_figure(evidence_for(100), found)
    assert len(shipped.datasets["evidence"]) == len(evidence_for(100).points)
