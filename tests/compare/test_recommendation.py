"""The recommended rho against SciPy in float64, the published gains of real teachers, and rows that resist."""

import json
import math

import numpy as np
import pytest
from reference import centred_maximum, entropy_at, entropy_at_cist, entropy_at_ratio
from scipy.optimize import brentq

from cist_core import CistError, EntropyCurves, LogitSet, read_logits
from cist_core.compare.recommendation import range_sentence, recommend_rho, recommendation_sentence, rho_outcome
from cist_core.wording import three_digits

OWN = {"target": 0.25, "low": 0.15, "high": 0.55}
"""A mean entropy and a range of one's own."""


@pytest.fixture
def curves(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


def tied(samples=6, classes=6, ties=3):
    """Rows whose entropy never falls below ln 3."""
    rows = np.zeros((samples, classes))
    rows[:, :ties] = 5.0
    return EntropyCurves.from_logits(LogitSet.create(rows))


@pytest.fixture
def sharp(logits):
    """The same rows four times as large: at the floor of 1 their mean entropy is 6 % of ln C, below every range."""
    return EntropyCurves.from_logits(LogitSet.create(4 * logits))


@pytest.mark.parametrize("floor", [0.0, 0.25, 1.0])
def test_rho_and_its_band_are_the_roots_of_scipy(sharp, logits, floor):
    logits = 4 * logits
    found = recommend_rho(sharp, **OWN, floor=floor)

    def rho_at(share):
        return brentq(lambda rho: entropy_at_cist(logits, rho, floor).mean() - share * math.log(10), 0.01, 100)

    def tau_at(share):
        return brentq(lambda tau: entropy_at(logits, tau).mean() - share * math.log(10), 0.01, 100)

    assert found.rho == pytest.approx(rho_at(0.25), rel=2e-4)
    assert found.band == (pytest.approx(rho_at(0.55), rel=2e-4), pytest.approx(rho_at(0.15), rel=2e-4))
    assert found.matched_tau == pytest.approx(tau_at(0.25), rel=2e-4)
    assert found.tau_band == (pytest.approx(tau_at(0.15), rel=2e-4), pytest.approx(tau_at(0.55), rel=2e-4))
    assert found.target_entropy == pytest.approx(0.25 * math.log(10))
    assert (found.floor, found.outcome.floor) == (floor, floor)


@pytest.mark.parametrize("floor", [0.0, 0.7])
def test_the_spreads_beside_it_are_those_of_scipy(curves, logits, floor):
    outcome = recommend_rho(curves, target=0.4, floor=floor).outcome
    under_cist, under_tau = entropy_at_cist(logits, outcome.rho, floor), entropy_at(logits, outcome.matched_tau)
    assert outcome.cist.at_floor == np.mean(centred_maximum(logits) / outcome.rho < floor)
    assert outcome.std_cist == pytest.approx(under_cist.std(), abs=1e-4)
    assert outcome.std_fixed == pytest.approx(under_tau.std(), abs=1e-4)
    assert outcome.gain == pytest.approx(under_tau.std() / under_cist.std(), rel=1e-3)
    assert outcome.cist.q05 == pytest.approx(np.quantile(under_cist, 0.05), abs=1e-4)
    assert outcome.fixed.over_sharp == pytest.approx(np.mean(under_tau < 0.05 * math.log(10)), abs=0.004)
    assert outcome.fixed.mean == pytest.approx(outcome.cist.mean, abs=1e-4)


def test_two_temperatures_name_the_range(curves, logits):
    found = recommend_rho(curves, tau_range=(1.0, 3.0), floor=0)
    assert found.tau_band == (1.0, 3.0)
    assert found.low == pytest.approx(entropy_at(logits, 1).mean() / math.log(10), abs=1e-4)
    assert found.high == pytest.approx(entropy_at(logits, 3).mean() / math.log(10), abs=1e-4)
    softer, sharper = found.band
    assert entropy_at_ratio(logits, softer).mean() == pytest.approx(entropy_at(logits, 3).mean(), abs=1e-4)
    assert entropy_at_ratio(logits, sharper).mean() == pytest.approx(entropy_at(logits, 1).mean(), abs=1e-4)


def test_two_temperatures_name_the_range_of_the_floor_as_well(curves, logits):
    found = recommend_rho(curves, tau_range=(1.0, 3.0))
    softer, sharper = found.band
    assert entropy_at_cist(logits, softer).mean() == pytest.approx(entropy_at(logits, 3).mean(), abs=1e-4)
    assert sharper == pytest.approx(centred_maximum(logits).max(), rel=1e-6)  # from there on CIST is tau = 1


def test_a_range_without_the_default_is_met_in_its_middle(sharp):
    usual = recommend_rho(sharp).target
    assert recommend_rho(sharp, low=usual - 0.1, high=usual + 0.1).target == usual
    assert recommend_rho(sharp, low=usual / 4, high=usual / 2).target == pytest.approx(usual * 3 / 8)
    warm = recommend_rho(sharp, tau_range=(200.0, 400.0))
    assert warm.target == pytest.approx((warm.low + warm.high) / 2)
    assert warm.target > usual


def test_a_range_that_the_floor_cuts_is_met_in_the_middle_of_what_is_left(curves, logits):
    least = entropy_at(logits, 1.0).mean() / math.log(10)
    usual = recommend_rho(curves).target
    assert 0.15 < least < usual - 0.01
    high = (least + usual) / 2
    found = recommend_rho(curves, low=0.15, high=high)
    assert found.target == pytest.approx((least + high) / 2, abs=1e-5)
    assert found.outcome.cist.normalised_mean == pytest.approx(found.target, abs=1e-5)
    assert found.band[1] is None  # no rho is as sharp as 15 %
    assert f"ρ from {three_digits(found.band[0])} up stays in your range" in range_sentence(found)
    assert recommend_rho(curves, low=0.15, high=high, floor=0).target == pytest.approx((0.15 + high) / 2, abs=1e-5)


def test_a_target_below_the_floor_is_refused_with_what_the_floor_reaches(curves, logits):
    least = entropy_at(logits, 1.0).mean()
    with pytest.raises(CistError, match=rf"they reach {least:.4g} to .*the fixed temperature 1, .*a smaller floor, or"):
        recommend_rho(curves, target=0.25)
    assert recommend_rho(curves, target=0.25, floor=0.1).target == 0.25
    with pytest.raises(CistError, match="its floor of 6"):  # nothing of the range is left
        recommend_rho(curves, low=0.15, high=0.55, floor=6)
    with pytest.raises(CistError, match="floor of the rule 'cist' to be 0 or a positive number, but got -1"):
        rho_outcome(curves, 3.0, floor=-1)


def test_labels_that_are_all_at_the_floor_stand_beside_the_floor(curves):
    outcome = rho_outcome(curves, 500.0)
    assert (outcome.matched_tau, outcome.cist.at_floor) == (1.0, 1.0)
    assert outcome.gain == pytest.approx(1, rel=1e-4)
    assert outcome.fixed.mean == pytest.approx(outcome.cist.mean, abs=1e-5)


def test_thresholds_reach_the_profiles(curves, logits):
    outcome = recommend_rho(curves, over_sharp_below=0.2, over_smoothed_above=0.5, floor=0).outcome
    share = entropy_at(logits, outcome.matched_tau) / math.log(10)
    assert outcome.fixed.over_sharp == pytest.approx(np.mean(share < 0.2), abs=0.004)
    assert outcome.fixed.over_smoothed == pytest.approx(np.mean(share > 0.5), abs=0.004)


def test_the_record_is_json_and_says_both_units(sharp):
    found = recommend_rho(sharp, **OWN)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {"rho", "band", "target_entropy", "matched_tau", "std_fixed", "std_cist", "gain"} <= set(record)
    assert record["band"][0] < record["rho"] < record["band"][1]
    assert record["tau_band"][0] < record["matched_tau"] < record["tau_band"][1]
    assert record["range_entropy"] == pytest.approx([0.15 * math.log(10), 0.55 * math.log(10)])
    assert record["range_normalised_entropy"] == [0.15, 0.55]
    assert record["target_normalised_entropy"] == 0.25
    assert record["anchor"]["key"] == "own"
    assert record["anchor"]["band"] == record["band"]
    assert record["gain"] == pytest.approx(record["fixed"]["std"] / record["cist"]["std"])
    assert (record["floor"], found.outcome.to_dict()["floor"]) == (1.0, 1.0)
    assert record["cist"]["at_floor"] == record["cist"]["samples_at_floor"] / 300 > 0
    assert record["fixed"]["at_floor"] == record["fixed"]["samples_at_floor"] == 0


@pytest.mark.parametrize(
    ("name", "tau", "rho", "std_fixed", "std_cist", "gain"),
    [
        ("cifar10_resnet56_test_logits.npz", 4, 4.19, 0.459, 0.157, 2.9),
        ("imagenet1k_sample_efflite0_logits.npz", 1, 9.62, 1.207, 0.498, 2.4),
        ("imagenet1k_sample_efflite0_logits.npz", 4, 2.48, 0.031, 0.038, 0.8),
    ],
)
def test_real_teachers_give_the_table_of_the_method(shared_file, name, tau, rho, std_fixed, std_cist, gain):
    """The wanted entropy is that of a published temperature; good and bad rows, measured without a floor."""
    logit_set = read_logits(shared_file(name))
    target = entropy_at(logit_set.logits, tau).mean() / math.log(logit_set.num_classes)
    found = recommend_rho(EntropyCurves.from_logits(logit_set), target=target, low=target / 2, high=1.0, floor=0)
    assert found.rho == pytest.approx(rho, abs=0.006)
    assert found.matched_tau == pytest.approx(tau, rel=2e-3)
    assert found.outcome.std_fixed == pytest.approx(std_fixed, abs=0.0011)
    assert found.outcome.std_cist == pytest.approx(std_cist, abs=0.0011)
    assert found.gain == pytest.approx(gain, abs=0.06)


def test_a_table_answers_within_its_ratios_and_says_none_beyond(logits):
    exact = EntropyCurves.from_logits(LogitSet.create(logits))
    streamed = EntropyCurves.from_chunks(np.array_split(logits, 3))
    for floor in (0, 1):
        assert recommend_rho(streamed, low=0.2, target=0.5, floor=floor).rho == pytest.approx(
            recommend_rho(exact, low=0.2, target=0.5, floor=floor).rho, rel=1e-3
        )
    # Far below what the ratio 64 reaches there is no end of the band, and no fixed temperature either.
    lowest = entropy_at_ratio(logits, 64).mean() / math.log(10)
    found = recommend_rho(streamed, low=lowest / 10, floor=0)
    assert found.band[1] is None
    assert found.tau_band[0] is None
    coolest = entropy_at(logits, centred_maximum(logits).max() / 64).mean() / math.log(10)
    assert lowest < coolest  # some samples reach the end of the table long before others
    sharp = rho_outcome(streamed, 63.5, floor=0)
    assert sharp.cist.mean == pytest.approx(entropy_at_ratio(logits, 63.5).mean(), abs=1e-4)
    assert (sharp.matched_tau, sharp.fixed, sharp.std_fixed, sharp.gain) == (None, None, None, None)
    assert sharp.to_dict()["fixed"] is None
    assert sharp.gain_words == "not matched"
    with pytest.raises(CistError, match="the table of these curves ends at the ratio 64"):
        recommend_rho(streamed, low=0.0, target=lowest / 2, floor=0)


def test_ties_leave_an_end_of_the_band_open():
    curves = tied()
    reached = math.log(3) / math.log(6)
    found = recommend_rho(curves, low=reached - 0.1, high=0.9, target=0.8, floor=0)
    softer, sharper = found.band
    assert sharper is None
    assert softer < found.rho
    assert found.to_dict()["band"] == [softer, None]
    assert f"ρ from {softer:.3g} up stays" in range_sentence(found)


def test_a_target_below_every_tie_is_refused():
    with pytest.raises(CistError, match=r"No rho gives .*they reach 1\.099 to .*tied or constant logits"):
        recommend_rho(tied(), target=0.25, floor=0)


def test_constant_rows_have_no_recommendation():
    with pytest.raises(CistError, match="tied or constant logits"):
        recommend_rho(EntropyCurves.from_logits(LogitSet.create(np.ones((5, 4)))))


def test_two_classes_leave_nothing_to_spread():
    """With two classes the ratio is all there is: CIST has no spread, and a gain over nothing is no number."""
    rows = np.random.default_rng(0).normal(size=(200, 2)) * 3
    found = recommend_rho(EntropyCurves.from_logits(LogitSet.create(rows)), target=0.25, floor=0)
    odds = 2 * found.rho  # the two logits are rho and -rho
    p = 1 / (1 + math.exp(-odds))
    assert -(p * math.log(p) + (1 - p) * math.log(1 - p)) == pytest.approx(0.25 * math.log(2), abs=1e-4)
    assert found.outcome.std_cist < 1e-4
    assert found.outcome.std_fixed > 0.1
    assert found.gain is None
    assert found.outcome.gain_words == "none: one soft label"


def test_with_two_classes_a_gain_above_the_floor_is_told_as_one_soft_label():
    """Rows at the floor spread, so there is a number; the others have one soft label all the same."""
    rows = np.random.default_rng(0).normal(size=(200, 2)) * 6
    outcome = rho_outcome(EntropyCurves.from_logits(LogitSet.create(rows)), 2.0)
    assert (centred_maximum(rows) > 2).mean() > 0.5
    assert outcome.gain > 1.05
    assert outcome.gain_words == "none: one soft label"


def test_one_sample_has_a_rho_and_no_spread():
    row = np.array([[10.0, 2.0, 0.0, -4.0]])
    found = recommend_rho(EntropyCurves.from_logits(LogitSet.create(row)), target=0.25)
    assert entropy_at_ratio(row, found.rho).mean() == pytest.approx(0.25 * math.log(4), abs=1e-4)
    assert found.matched_tau == pytest.approx(centred_maximum(row)[0] / found.rho, rel=1e-4)
    assert (found.outcome.std_cist, found.outcome.std_fixed, found.gain) == (0, 0, None)
    assert found.outcome.gain_words == "no spread left"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 0.5, "high": 0.2}, r"0 <= low < high <= 1, shares of ln C, but got 0\.5 to 0\.2"),
        ({"low": 0.3, "high": 0.3}, "0 <= low < high <= 1"),
        ({"low": -0.1}, "0 <= low < high <= 1"),
        ({"high": 1.2}, "0 <= low < high <= 1"),
        ({"low": math.nan}, "0 <= low < high <= 1"),
        ({"target": 0.7, "low": 0.15, "high": 0.55}, r"The target 0\.7 lies outside the range 0\.15 to 0\.55"),
        ({"target": math.nan}, "The target nan lies outside"),
        ({"target": 0.7, "anchor": "authors"}, r"either the anchor 'authors' or the target 0\.7, but got both"),
        ({"anchor": "authors", "high": 0.01}, r"lies outside the range 0 to 0\.01"),
        ({"anchor": "own"}, "a target or a range with the anchor 'own', but got neither"),
        ({"anchor": "moon"}, "no anchor 'moon'; choose one of trained-best, authors, kd-tau-4, kd-tau-1, or 'own'"),
        ({"target": 0.0, "low": 0.0}, "cannot be matched"),
        ({"tau_range": (4.0, 1.0)}, "the smaller of two different temperatures first, but got 4 and 1"),
        ({"tau_range": (2.0, 2.0)}, "the smaller of two different temperatures first"),
        ({"tau_range": (0.0, 2.0)}, "to be a positive number, but got 0"),
        ({"tau_range": (1e-9, 1e-8)}, "give the same mean entropy"),
    ],
)
def test_what_cannot_be_meant_is_refused(curves, arguments, message):
    with pytest.raises(CistError, match=message):
        recommend_rho(curves, **arguments)


def test_the_sentence_holds_the_numbers(sharp):
    found = recommend_rho(sharp, **OWN)
    assert recommendation_sentence(found) == (
        f"Recommended: ρ = {found.rho:.3g}. It matches τ = {found.matched_tau:.3g} (mean 0.576 nats, 25 % of ln C)"
    )
    assert range_sentence(found) == f"ρ from {found.band[0]:.3g} to {found.band[1]:.3g} stays in your range"


def test_the_sentence_of_a_range_without_ends(sharp):
    softest = recommend_rho(sharp, target=0.25, low=0.15)
    assert softest.band[0] is None
    assert range_sentence(softest).startswith(f"ρ up to {softest.band[1]:.3g} stays in")
    sharpest = recommend_rho(sharp, target=0.25, high=0.55)
    assert range_sentence(sharpest).startswith(f"ρ from {sharpest.band[0]:.3g} up stays in")
    assert range_sentence(recommend_rho(sharp, low=0.0, high=1.0)).startswith("Every ρ stays in")


def test_a_target_alone_has_no_range(sharp):
    found = recommend_rho(sharp, target=0.25)
    assert not found.has_range
    assert range_sentence(found) == ""
    record = found.to_dict()
    assert (record["band"], record["range_entropy"], record["range_normalised_entropy"], record["tau_band"]) == (
        None, None, None, None,
    )  # fmt: skip


def test_an_anchor_can_have_another_range(sharp, logits):
    found = recommend_rho(sharp, anchor="authors", low=0.1, high=0.9)
    assert (found.rho, found.low, found.high) == (3.0, 0.1, 0.9)
    assert entropy_at_cist(4 * logits, found.band[0]).mean() == pytest.approx(0.9 * math.log(10), abs=1e-4)
