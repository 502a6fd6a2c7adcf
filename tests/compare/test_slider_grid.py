"""The positions of the report's sliders: every number against SciPy, every partner against the matching."""

import base64
import json
import math
import re

import numpy as np
import pytest
from reference import centred_maximum, entropy_at, entropy_at_cist

from cist_core import EntropyCurves, LogitSet, matched_pair
from cist_core.compare.findings import (
    GAINS,
    HEADLINES,
    are_matched,
    comparison,
    gain_kind,
    gain_words,
    headline_kind,
)
from cist_core.compare.slider_grid import (
    MARKS,
    NUMBERS,
    POINTS,
    RHO_RANGE,
    TAU_RANGE,
    Position,
    SliderGrid,
    SliderGridReader,
    number_words,
    pair_json,
    rho_sentences,
    slider_grid,
    written,
)
from cist_core.temperature import CIST_FLOOR, Cist, Fixed, TemperatureRule
from cist_core.temperature.readings import RuleReading, read_rule
from cist_core.wording import percent


def gain_of(tau: Position, rho: Position) -> str:
    return gain_words(tau.profile, rho.profile, rho.same_label)


@pytest.fixture
def curves(logit_set: LogitSet) -> EntropyCurves:
    return EntropyCurves.from_logits(logit_set)


def grid_of(curves: EntropyCurves, tau: float = 2.0, rho: float | None = None, floor: float = CIST_FLOOR) -> SliderGrid:
    held = matched_pair(curves, tau=tau, floor=floor).rho if rho is None else rho
    return slider_grid(read_rule(Fixed(tau), curves), read_rule(Cist(held, floor), curves), curves)


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_positions_have_the_numbers_of_scipy(curves: EntropyCurves, logits: np.ndarray, floor: float) -> None:
    grid = grid_of(curves, floor=floor)
    assert grid.floor == floor
    limit = math.log(10)
    for index in range(0, len(grid.taus), 17):
        expected = entropy_at(logits, grid.taus[index].value)
        _check(grid.taus[index], expected, limit)
    for index in range(0, len(grid.rhos), 17):
        position = grid.rhos[index]
        _check(position, entropy_at_cist(logits, position.value, floor), limit)
        assert position.profile.at_floor == np.mean(centred_maximum(logits) / position.value < floor)


def _check(position: Position, expected: np.ndarray, limit: float) -> None:
    assert position.profile.mean == pytest.approx(expected.mean(), abs=1e-4)
    assert position.profile.std == pytest.approx(expected.std(), abs=1e-4)
    counts, _ = np.histogram(expected, bins=60, range=(0, limit))
    assert position.counts.sum() == len(expected)
    # A sample within rounding of an edge may fall on either side.
    assert np.abs(position.counts - counts).sum() <= 6


def test_samples_that_are_drawn_have_their_maxima_and_entropies(curves: EntropyCurves, logits: np.ndarray) -> None:
    grid = grid_of(curves)
    centred = logits.astype(np.float64) - logits.mean(axis=1, keepdims=True, dtype=np.float64)
    order = np.argsort(centred.max(axis=1))
    assert len(grid.maxima) == POINTS
    assert (np.diff(grid.maxima) >= 0).all()
    np.testing.assert_allclose(grid.maxima[[0, -1]], centred.max(axis=1)[order[[0, -1]]], rtol=1e-5)
    expected = entropy_at(logits, grid.taus[5].value)[order[[0, -1]]]
    np.testing.assert_allclose(grid.taus[5].drawn[[0, -1]] * math.log(10) / 255, expected, atol=math.log(10) / 500)


def test_the_ratios_that_are_drawn_stop_at_the_floor(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    assert grid.maxima[0] < 3 < 15 < grid.maxima[-1]
    for position in (grid.rhos[0], grid.rhos[len(grid.rhos) // 2], grid.rhos[-1]):
        np.testing.assert_allclose(grid.ratios(position), np.minimum(position.value, grid.maxima), rtol=1e-6)
    np.testing.assert_allclose(grid.ratios(grid.taus[3]), grid.maxima / grid.taus[3].value)
    free = grid_of(curves, floor=0)
    np.testing.assert_allclose(free.ratios(free.rhos[-1]), free.rhos[-1].value, rtol=1e-12)
    constant = EntropyCurves.from_logits(LogitSet.create(np.zeros((5, 3))))
    still = slider_grid(read_rule(Fixed(2.0), constant), read_rule(Cist(3.0, 0), constant), constant)
    assert still.ratios(still.rhos[0]).tolist() == [0] * 5


def test_every_position_says_on_how_many_samples_the_floor_holds(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    middle, last = (grid.rhos[place] for place in (len(grid.rhos) // 2, -1))
    share = percent(middle.profile.at_floor)
    assert 0.1 < middle.profile.at_floor < last.profile.at_floor
    assert rho_sentences(middle) == f"The floor of 1 holds on {share} of the samples: there CIST is KD at τ = 1."
    assert number_words(middle)[NUMBERS.index("at the floor")] == share
    assert number_words(grid.taus[0])[NUMBERS.index("at the floor")] == "–"
    sentence = grid.ratios_move(grid.taus[0], middle)
    assert sentence.endswith(
        f"; under CIST {percent(1 - middle.profile.at_floor)} are {middle.value:.4g}, the others smaller"
    )
    low = grid_of(curves, floor=0.2)
    first = low.rhos[0]
    assert (first.profile.at_floor, rho_sentences(first)) == (0.0, "The floor of 0.2 holds on none of the samples.")
    assert low.ratios_move(low.taus[0], first).endswith("; under CIST all are 0.5")
    shown = json.loads(json.dumps(low.to_json()))
    assert (shown["floor"], shown["rhos"][0]["held"]) == (0.2, "all are 0.5")
    shown = json.loads(json.dumps(grid.to_json()))
    assert shown["notes"]["below floor"].startswith("CIST has a floor of 1: no ρ has the mean entropy of a lower τ")
    joined = curves.beside(EntropyCurves.from_logits(LogitSet.create(np.eye(10)[np.arange(300) % 10])))
    assert rho_sentences(grid_of(joined).rhos[-1]).endswith("and on all for the student; where it holds for both, CIST "
                                                          "is KD at τ = 1.")  # fmt: skip


def test_the_pair_of_the_report_is_a_position_and_stays_together(curves: EntropyCurves) -> None:
    tau = 2.345678
    rho = matched_pair(curves, tau=tau).rho
    grid = grid_of(curves, tau, rho)
    first, second = grid.start
    assert (grid.taus[first].value, grid.rhos[second].value) == (tau, rho)
    assert grid.matched[first, second]
    assert grid.partners_of_taus[first] == second
    assert grid.partners_of_rhos[second] == first


def test_a_pair_beyond_the_sliders_widens_them(curves: EntropyCurves) -> None:
    grid = grid_of(curves, 0.1, 40.0)
    assert grid.start == (0, len(grid.rhos) - 1)
    assert {*TAU_RANGE} <= {position.value for position in grid.taus}
    assert {*RHO_RANGE} <= {position.value for position in grid.rhos}
    assert (grid.taus[-1].value, grid.rhos[0].value) == (TAU_RANGE[1], RHO_RANGE[0])


def test_partners_are_those_of_the_matching(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    reachable = 0
    for index in range(0, len(grid.taus), 11):
        if grid.taus[index].value < 1:  # below the floor no rho has this mean entropy
            assert grid.partners_of_taus[index] == len(grid.rhos) - 1
            continue
        exact = matched_pair(curves, tau=grid.taus[index].value).rho
        if RHO_RANGE[0] < exact < RHO_RANGE[1]:
            reachable += 1
            assert grid.rhos[grid.partners_of_taus[index]].value == pytest.approx(exact, rel=0.01)
            assert grid.matched[index, grid.partners_of_taus[index]]
    assert reachable > 5
    for index in range(0, len(grid.rhos), 11):
        exact = matched_pair(curves, rho=grid.rhos[index].value).tau
        if TAU_RANGE[0] < exact < TAU_RANGE[1]:
            assert grid.taus[grid.partners_of_rhos[index]].value == pytest.approx(exact, rel=0.01)
            assert grid.matched[grid.partners_of_rhos[index], index]


def test_where_no_partner_is_in_reach_the_pair_is_not_matched(logits: np.ndarray) -> None:
    grid = grid_of(EntropyCurves.from_logits(LogitSet.create(6 * logits)), rho=5.0, floor=0)
    end = grid.partners_of_taus[0]
    assert end == len(grid.rhos) - 1
    assert grid.taus[0].profile.mean < grid.rhos[end].profile.mean
    assert not grid.matched[0, end]


def test_the_matched_rhos_of_a_temperature_are_the_neighbours_that_the_page_is_told(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    for tau, (low, high) in zip(grid.taus, grid.to_json()["matched"], strict=True):
        expected = [index for index, rho in enumerate(grid.rhos) if are_matched(tau.profile, rho.profile)]
        assert list(range(low, high + 1)) == expected


def test_thresholds_are_those_of_the_reading(curves: EntropyCurves, logits: np.ndarray) -> None:
    readings = [read_rule(rule, curves, over_sharp_below=0.2, over_smoothed_above=0.8) for rule in (Fixed(2), Cist(4))]
    position = slider_grid(*readings, curves).taus[40]
    expected = entropy_at(logits, position.value) / math.log(10)
    assert position.profile.over_sharp == pytest.approx((expected < 0.2).mean(), abs=0.005)
    assert position.profile.over_smoothed == pytest.approx((expected > 0.8).mean(), abs=0.005)
    assert position.profile.over_sharp > 0


def test_the_page_fills_the_headlines_of_the_library(curves: EntropyCurves) -> None:
    shown = grid_of(curves).to_json()
    assert (shown["headlines"], shown["second"]) == (HEADLINES, "CIST")
    assert {position["alike"] for position in shown["rhos"]} == {""}


def test_the_page_is_told_which_sentence_every_pair_has(curves: EntropyCurves) -> None:
    """The template that it is told, filled with the numbers of the pair, is the headline of the library."""
    grid = grid_of(curves, floor=0)
    shown = json.loads(json.dumps(grid.to_json()))
    rows = shown["headlineOf"]
    assert (len(rows), {len(row) for row in rows}) == (len(grid.taus), {len(grid.rhos)})
    seen = set()
    for index in range(0, len(grid.taus), 7):
        fixed = read_rule(grid.taus[index].rule, curves)
        for other in range(0, len(grid.rhos), 5):
            kind = shown["headlineKinds"][int(rows[index][other])]
            gain = shown["gains"][shown["gainKinds"][int(shown["gainOf"][index][other])]]
            assert (kind == "unmatched") is (gain == "not matched") is (not grid.matched[index, other])
            sentence = comparison(fixed, read_rule(grid.rhos[other].rule, curves))
            assert re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(shown["headlines"][kind])), sentence)
            seen.add(kind)
    assert {"unmatched", "less"} <= seen


def test_gain_is_given_for_a_matched_pair_only(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    first, second = (side[index] for side, index in zip((grid.taus, grid.rhos), grid.start, strict=True))
    assert gain_of(first, second) == f"{first.profile.std / second.profile.std:.2f} ×"
    assert gain_of(first, grid.rhos[0]) == "not matched"


def test_rows_of_two_classes_have_one_entropy_under_cist() -> None:
    rng = np.random.default_rng(0)
    curves = EntropyCurves.from_logits(LogitSet.create(rng.normal(size=(50, 2)) * 3))
    grid = grid_of(curves, floor=0)
    assert gain_of(*(side[index] for side, index in zip((grid.taus, grid.rhos), grid.start, strict=True))) == (
        "none: one soft label"
    )


@pytest.mark.parametrize("rows", [np.zeros((5, 3)), [[1.0, 1.0, 0.0]] * 4 + [[0.0, 0.0, 0.0]], [[3.0, 0.0]]])
def test_constant_tied_and_single_rows_have_a_grid(rows: np.ndarray) -> None:
    curves = EntropyCurves.from_logits(LogitSet.create(rows))
    grid = slider_grid(read_rule(Fixed(2.0), curves), read_rule(Cist(3.0), curves), curves)
    assert all(position.counts.sum() == len(rows) for position in (*grid.taus, *grid.rhos))
    json.dumps(grid.to_json(), allow_nan=False)


def test_a_stream_leaves_out_the_temperatures_beyond_its_table(logits: np.ndarray) -> None:
    logits = 4 * logits
    curves = EntropyCurves.from_chunks([logits])
    lowest = float(curves.statistics.maximum.max()) / curves.max_ratio
    assert lowest > TAU_RANGE[0]
    grid = grid_of(curves)
    assert lowest < grid.taus[0].value < 1.1 * lowest
    assert grid.taus[0].profile.mean == pytest.approx(entropy_at(logits, grid.taus[0].value).mean(), abs=2e-4)


def test_large_sets_have_fewer_positions(curves: EntropyCurves, monkeypatch: pytest.MonkeyPatch) -> None:
    full = grid_of(curves)
    monkeypatch.setattr("cist_core.compare.slider_grid.FULL_SIZE", 750)
    few = grid_of(curves)
    assert len(full.taus) > 80
    assert 20 <= len(few.taus) < 50
    first, second = few.start
    assert few.matched[first, second]


def test_another_rule_is_refused(curves: EntropyCurves) -> None:
    def reading(rule: TemperatureRule) -> RuleReading:
        return read_rule(rule, curves)

    with pytest.raises(TypeError, match="Expected a fixed temperature and a CIST rule"):
        slider_grid(reading(Cist(2)), reading(Fixed(3)), curves)


def test_the_json_is_small_and_exact(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    text = json.dumps(grid.to_json(), separators=(",", ":"), allow_nan=False)
    assert len(text) < 300_000
    tau = json.loads(text)["taus"][7]
    assert tau["mean"] == grid.taus[7].profile.mean
    assert tau["counts"] == grid.taus[7].counts.tolist()
    assert np.array_equal(np.frombuffer(base64.b64decode(tau["drawn"]), np.uint8), grid.taus[7].drawn)


def test_a_grid_that_is_read_in_parts_is_the_same(curves: EntropyCurves) -> None:
    whole = grid_of(curves)
    readings = [
        read_rule(side[place].rule, curves) for side, place in zip((whole.taus, whole.rhos), whole.start, strict=True)
    ]
    reader, parts = SliderGridReader(*readings, curves), 1
    assert reader.grid is None
    while reader.read_on(0) is None:
        parts += 1
    assert parts > 100
    assert json.dumps(reader.grid.to_json()) == json.dumps(whole.to_json())
    assert reader.read_on() is reader.grid


def test_both_sliders_have_positions_at_their_marks(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    for side in (grid.taus, grid.rhos):
        assert {*MARKS} <= {position.value for position in side}


def test_a_step_of_a_slider_is_half_a_percent_at_most() -> None:
    for value in np.geomspace(*TAU_RANGE, 1000):
        assert written(value) == pytest.approx(value, rel=0.0026)
    assert (written(0.25349), written(1.23449), written(12.345)) == (0.253, 1.234, 12.35)


def test_a_pair_beside_the_grid_says_which_sentence_it_has_with_every_position(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    tau, rho = (Position.of(read_rule(rule, curves), curves) for rule in (Fixed(3.21), Cist(2.34)))
    shown = pair_json(tau, rho, grid)
    assert (shown["tau"]["at"], shown["rho"]["at"]) == (3.21, 2.34)
    assert sum(shown["tau"]["counts"]) == curves.num_samples
    names = list(HEADLINES)
    assert [names[int(kind)] for kind in shown["headline"]["ofTau"]] == [
        headline_kind(tau.profile, other.profile, other.same_label) for other in grid.rhos
    ]
    assert [names[int(kind)] for kind in shown["headline"]["ofRho"]] == [
        headline_kind(other.profile, rho.profile, rho.same_label) for other in grid.taus
    ]
    assert names[int(shown["headline"]["pair"])] == headline_kind(tau.profile, rho.profile, rho.same_label)
    assert list(GAINS)[int(shown["gain"]["pair"])] == gain_kind(tau.profile, rho.profile, rho.same_label)
    assert pair_json(tau, rho, None)["headline"] == shown["headline"] | {"ofTau": "", "ofRho": ""}


def test_what_an_app_needs_leaves_out_the_picture_of_the_ratios(curves: EntropyCurves) -> None:
    grid = grid_of(curves)
    small, whole = grid.to_json(ratios=False), grid.to_json()
    assert {*whole} - {*small} == {"matched", "maxima", "ratiosMove"}
    assert "drawn" in whole["taus"][0]
    assert "drawn" not in small["taus"][0]
    assert small["taus"][0]["unsaid"] == percent(grid.taus[0].profile.over_sharp + grid.taus[0].profile.over_smoothed)
