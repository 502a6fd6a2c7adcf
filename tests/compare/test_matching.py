"""Matching a fixed temperature with a rho: roots checked with SciPy's entropies, and the published table of gains."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import centred_maximum, entropy_at, entropy_at_cist, entropy_at_ratio, hard_rows

from cist_core import (
    Cist,
    CistError,
    EntropyCurves,
    EntropyProfile,
    Fixed,
    LogitSet,
    default_pair,
    match_rho,
    match_tau,
    matched_pair,
    read_logits,
)
from cist_core.compare.matching import matched_tau, sharpest_mean

RESNET = "cifar10_resnet56_test_logits.npz"
LITE = "imagenet1k_sample_efflite0_logits.npz"


@pytest.fixture
def curves(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


@pytest.mark.parametrize("target", [0.05, 0.3, 1.0, 2.2])
def test_the_root_has_the_wanted_mean_entropy(curves, logits, target):
    rho = match_rho(curves, target, floor=0)
    assert entropy_at_ratio(logits, rho).mean() == pytest.approx(target, abs=1e-5)
    assert entropy_at(logits, match_tau(curves, target)).mean() == pytest.approx(target, abs=1e-5)


@pytest.mark.parametrize("target", [1.05, 1.4, 2.2])
@pytest.mark.parametrize("options", [{}, {"floor": 0.3}, {"floor": 1.0, "guess": 0.01}, {"floor": 1.0, "guess": 5e3}])
def test_the_root_with_a_floor_has_the_wanted_mean_entropy(curves, logits, target, options):
    rho, floor = match_rho(curves, target, **options), options.get("floor", 1.0)
    assert entropy_at_cist(logits, rho, floor).mean() == pytest.approx(target, abs=1e-5)


def test_a_pair_is_completed_from_any_of_its_numbers(curves, logits):
    pair = matched_pair(curves, tau=2.0)
    assert (pair.tau, pair.floor, pair.cist) == (2.0, 1.0, Cist(pair.rho))
    assert pair.mean_entropy == pytest.approx(entropy_at(logits, 2.0).mean(), abs=1e-5)
    assert entropy_at_cist(logits, pair.rho).mean() == pytest.approx(pair.mean_entropy, abs=1e-5)
    assert matched_pair(curves, rho=pair.rho).tau == pytest.approx(2.0, rel=1e-4)
    assert matched_pair(curves, mean_entropy=pair.mean_entropy).rho == pytest.approx(pair.rho, rel=1e-5)
    assert matched_pair(curves, mean_entropy=pair.mean_entropy).tau == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_the_partner_of_a_slider_that_moves_a_little_takes_few_evaluations(shared_file, monkeypatch, floor):
    """Each goes through all logits; the first of them gives the mean entropy that is matched."""
    curves = EntropyCurves.from_logits(read_logits(shared_file(RESNET)))
    evaluated = []
    at_temperature = EntropyCurves.at_temperature
    monkeypatch.setattr(
        EntropyCurves, "at_temperature", lambda self, tau: evaluated.append(tau) or at_temperature(self, tau)
    )
    for tau in (1.5, 4.0, 9.0):
        before = matched_pair(curves, tau=tau, floor=floor)
        for moved in (0.97 * tau, 1.03 * tau):
            evaluated.clear()
            pair = matched_pair(curves, tau=moved, floor=floor, guess=before.rho * tau / moved)
            assert len(evaluated) <= 5
            assert pair.rho == pytest.approx(matched_pair(curves, tau=moved, floor=floor, guess=0.01).rho, rel=1e-5)


@pytest.mark.parametrize("floor", [0.0, 0.5, 1.5])
def test_a_pair_has_the_floor_that_is_wanted(curves, logits, floor):
    for given_number in ({"tau": 3.0}, {"rho": 1.2}, {"mean_entropy": 1.8}):
        pair = matched_pair(curves, **given_number, floor=floor)
        assert (pair.floor, pair.cist) == (floor, Cist(pair.rho, floor))
        assert entropy_at_cist(logits, pair.rho, floor).mean() == pytest.approx(pair.mean_entropy, abs=2e-5)
        assert entropy_at(logits, pair.tau).mean() == pytest.approx(pair.mean_entropy, abs=2e-5)


def test_the_pair_does_not_depend_on_an_offset_and_follows_the_scale(curves, logits):
    pair = matched_pair(curves, mean_entropy=1.2)
    moved = EntropyCurves.from_logits(LogitSet.create(4 * logits + 64))
    scaled = matched_pair(moved, mean_entropy=1.2, floor=4)  # the floor is in the unit of the logits
    assert scaled.rho == pytest.approx(pair.rho, rel=1e-4)
    assert scaled.tau == pytest.approx(4 * pair.tau, rel=1e-4)
    free = matched_pair(curves, mean_entropy=0.8, floor=0)
    assert matched_pair(moved, mean_entropy=0.8, floor=0).rho == pytest.approx(free.rho, rel=1e-4)


@pytest.mark.parametrize("floor", [0.5, 1.0, 2.0, 3.0])
def test_the_mean_entropy_at_the_floor_itself_is_reached_whatever_the_rounding(logits, floor):
    for scale in (0.7, 1.0, 1.3, 2.9, 4.0):
        curves = EntropyCurves.from_logits(LogitSet.create(scale * logits))
        least = float(curves.at_temperature(floor).mean(dtype=np.float64))
        reached = entropy_at_cist(scale * logits, match_rho(curves, least, floor=floor), floor).mean()
        assert reached == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize("floor", [0.5, 1.0, 2.0])
def test_no_rho_leads_below_the_mean_entropy_at_the_floor(curves, logits, floor):
    least = entropy_at(logits, floor).mean()
    assert sharpest_mean(curves, floor) == pytest.approx(least, abs=1e-5)
    with pytest.raises(
        CistError,
        match=rf"No rho gives .* of 0\.05 nats; they reach {least:.4g} to 2\.303 \(the least is that of the fixed "
        rf"temperature {floor:g}, .* its floor of {floor:g}; choose a smaller floor, or a larger mean entropy\)",
    ):
        match_rho(curves, 0.05, floor=floor)
    with pytest.raises(CistError, match=f"floor of {floor:g}"):
        matched_pair(curves, tau=0.99 * floor, floor=floor)


def test_the_fixed_temperature_of_the_floor_is_matched_where_every_sample_is_at_it(curves, logits):
    pair = matched_pair(curves, tau=1.0)
    assert pair.rho == pytest.approx(centred_maximum(logits).max(), rel=1e-6)
    np.testing.assert_allclose(pair.cist.temperatures(curves), 1.0, rtol=1e-6)


@pytest.mark.parametrize("floor", [1e-3, 1.0, 2.5])
def test_labels_that_are_all_at_the_floor_match_the_floor_itself(curves, floor):
    assert matched_pair(curves, rho=1e6, floor=floor).tau == floor
    assert matched_tau(curves, Cist(1e6, floor)) == floor
    constant = EntropyCurves.from_logits(LogitSet.create(np.ones((4, 6))))
    assert matched_pair(constant, rho=3.0, floor=floor).tau == floor  # any temperature would do


def test_a_floor_below_the_guard_is_no_floor(curves):
    assert matched_pair(curves, tau=2.0, floor=1e-9).rho == pytest.approx(matched_pair(curves, tau=2.0, floor=0).rho)
    assert sharpest_mean(curves, 0) == 0


def test_logits_far_below_the_floor_have_the_entropy_of_the_floor():
    """Every rho of the search leaves them at the floor: there is nothing to choose, and it says so."""
    curves = EntropyCurves.from_logits(LogitSet.create(np.random.default_rng(0).normal(size=(50, 8)) * 1e-4))
    with pytest.raises(CistError, match="its floor of 1; choose a smaller floor"):
        match_rho(curves, 1.0)
    assert match_rho(curves, 1.0, floor=0) > 0


@given(st.floats(0.3, 200), st.floats(0.3, 200), st.floats(0.0, 5.0), st.sampled_from([2, 10, 100]))
def test_the_mean_entropy_falls_with_rho_down_to_that_of_the_floor(first, second, floor, classes):
    curves = EntropyCurves.from_logits(LogitSet.create(hard_rows(classes, count=8)))
    low, high = sorted((first, second))
    softer, sharper = (float(Cist(rho, floor).entropy(curves).mean(dtype=np.float64)) for rho in (low, high))
    assert softer >= sharper - 1e-5
    assert sharper >= sharpest_mean(curves, floor) - 1e-5


@given(st.floats(0.02, 0.98), st.just(0.0) | st.floats(0.01, 3.0), st.integers(0, 99))
def test_the_root_is_found_wherever_there_is_one(part, floor, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, 8)) * rng.uniform(0.5, 6, (40, 1))
    curves = EntropyCurves.from_logits(LogitSet.create(rows))
    least = entropy_at(np.float32(rows), floor).mean() if floor else 0.0
    target = least + part * (math.log(8) - least)
    rho = match_rho(curves, target, floor=floor)
    assert entropy_at_cist(np.float32(rows), rho, floor).mean() == pytest.approx(target, abs=1e-4)


@pytest.mark.parametrize("given_numbers", [{}, {"tau": 2.0, "rho": 3.0}])
def test_a_pair_takes_exactly_one_number(curves, given_numbers):
    with pytest.raises(TypeError, match="exactly one of tau, rho and mean_entropy"):
        matched_pair(curves, **given_numbers)


@pytest.mark.parametrize("target", [0.0, -1.0, 2.4, math.log(10) + 1e-6, math.nan])
def test_an_entropy_that_no_row_can_have_is_refused(curves, target):
    for match in (match_rho, match_tau):
        with pytest.raises(CistError, match=r"cannot be matched; with 10 classes it lies between 0 and ln C = 2\.303"):
            match(curves, target)


@pytest.mark.parametrize("extra", [{"tau": 0.0}, {"tau": -4.0}, {"rho": 0.0}, {"rho": math.nan}])
def test_a_number_that_is_not_positive_is_refused(curves, extra):
    with pytest.raises(CistError, match="to be a positive number"):
        matched_pair(curves, **extra)


def test_ties_that_no_temperature_breaks_are_named():
    tied = np.zeros((4, 6), np.float32)
    tied[:, :3] = 5.0
    curves = EntropyCurves.from_logits(LogitSet.create(tied))
    with pytest.raises(
        CistError, match=r"No rho gives .* 0\.5 nats; they reach 1\.099 to .*tied or constant logits keep"
    ):
        match_rho(curves, 0.5, floor=0)
    with pytest.raises(CistError, match=r"No temperature gives .*tied or constant logits keep.*at any temperature"):
        match_tau(curves, 0.5)
    assert match_rho(curves, 1.4) > 0


def test_constant_logits_have_no_pair():
    curves = EntropyCurves.from_logits(LogitSet.create(np.ones((4, 6))))
    with pytest.raises(CistError, match="tied or constant logits"):
        default_pair(curves)


def test_a_stream_is_matched_within_its_table(curves, logits):
    streamed = EntropyCurves.from_chunks(np.array_split(logits, 5))
    for floor in (0.0, 1.0):
        exact, tabulated = (matched_pair(of, mean_entropy=1.1, floor=floor) for of in (curves, streamed))
        assert tabulated.rho == pytest.approx(exact.rho, rel=1e-3)
        assert tabulated.tau == pytest.approx(exact.tau, rel=1e-3)
    lowest = entropy_at_ratio(logits, 64).mean()
    with pytest.raises(
        CistError, match=r"table of these curves ends at the ratio 64; choose .*, or load the logits into memory"
    ):
        match_rho(streamed, lowest / 2, floor=0)
    with pytest.raises(CistError, match=r"No temperature gives .*the table of these curves ends at the ratio 64"):
        match_tau(streamed, entropy_at(logits, centred_maximum(logits).max() / 64).mean() / 2)


@pytest.mark.parametrize("rho", [0.7, 3.0, 64.0])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_a_stream_reads_the_floor_as_memory_does(logits, scale, rho):
    """Ratios ``m / floor`` beyond the table's end belong to samples above the floor, whose ratio is rho."""
    rows = scale * logits
    assert scale == 1 or centred_maximum(rows).max() > 64
    streamed, exact = (
        EntropyCurves.from_chunks(np.array_split(rows, 4)),
        EntropyCurves.from_logits(LogitSet.create(rows)),
    )
    np.testing.assert_allclose(Cist(rho).entropy(streamed), entropy_at_cist(rows, rho), rtol=0, atol=1e-4)
    np.testing.assert_allclose(Cist(rho).entropy(streamed), Cist(rho).entropy(exact), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(Cist(rho).at_floor(streamed), Cist(rho).at_floor(exact))
    least = entropy_at_cist(rows, min(64.0, centred_maximum(rows).max())).mean()
    assert sharpest_mean(streamed) == pytest.approx(least, abs=1e-4)


@given(st.floats(0.3, 20), st.floats(0.3, 20))
def test_a_higher_temperature_means_a_smaller_rho(first, second):
    rng = np.random.default_rng(5)
    curves = EntropyCurves.from_logits(LogitSet.create(rng.normal(size=(50, 8)) * rng.uniform(1, 6, (50, 1))))
    low, high = sorted((first, second))
    if high > low * 1.01:
        assert matched_pair(curves, tau=high, floor=0).rho < matched_pair(curves, tau=low, floor=0).rho
        if low >= 1:
            assert matched_pair(curves, tau=high).rho < matched_pair(curves, tau=low).rho


@pytest.mark.parametrize(
    ("name", "tau", "normalised", "rho", "std_fixed", "std_cist", "gain"),
    [
        (RESNET, 2, 0.06, 6.94, 0.282, 0.182, 1.5),
        (RESNET, 4, 0.26, 4.19, 0.459, 0.157, 2.9),
        (RESNET, 6, 0.52, 2.95, 0.425, 0.065, 6.6),
        (LITE, 1, 0.21, 9.62, 1.207, 0.498, 2.4),
        (LITE, 1.5, 0.63, 6.85, 1.219, 0.179, 6.8),
        (LITE, 4, 0.99, 2.48, 0.031, 0.038, 0.8),
    ],
)
def test_the_consistency_gain_of_real_teachers(shared_file, name, tau, normalised, rho, std_fixed, std_cist, gain):
    """The table of the method page, measured with floor 0 by an independent float64 oracle; good and bad rows."""
    logit_set = read_logits(shared_file(name))
    curves = EntropyCurves.from_logits(logit_set)
    pair = matched_pair(curves, tau=tau, floor=0)
    fixed, cist = EntropyProfile.of(Fixed(tau), curves), EntropyProfile.of(pair.cist, curves)
    assert fixed.normalised_mean == pytest.approx(normalised, abs=0.005)
    assert cist.mean == pytest.approx(fixed.mean, abs=2e-4)
    assert pair.rho == pytest.approx(rho, abs=0.006)
    assert fixed.std == pytest.approx(std_fixed, abs=0.0011)
    assert cist.std == pytest.approx(std_cist, abs=0.0011)
    assert fixed.std / cist.std == pytest.approx(gain, abs=0.06)
    assert cist.std == pytest.approx(entropy_at_ratio(logit_set.logits, pair.rho).std(), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "tau", "rho", "gain", "at_floor"),
    [
        (RESNET, 2, 6.97, 1.5, 0.011),
        (RESNET, 4, 4.19, 2.9, 0.0003),
        (RESNET, 6, 2.95, 6.6, 0.0),
        (LITE, 1, 18.1, 1.0, 1.0),
        (LITE, 1.5, 6.86, 6.4, 0.026),
        (LITE, 4, 2.48, 0.8, 0.0),
    ],
)
def test_the_same_table_with_the_floor_of_one(shared_file, name, tau, rho, gain, at_floor):
    logit_set = read_logits(shared_file(name))
    curves = EntropyCurves.from_logits(logit_set)
    pair = matched_pair(curves, tau=tau)
    assert pair.rho == pytest.approx(rho, abs=0.006)
    entropy = entropy_at_cist(logit_set.logits, pair.rho)
    assert entropy.mean() == pytest.approx(entropy_at(logit_set.logits, tau).mean(), abs=3e-4)
    assert entropy_at(logit_set.logits, tau).std() / entropy.std() == pytest.approx(gain, abs=0.06)
    assert EntropyProfile.of(pair.cist, curves).at_floor == pytest.approx(at_floor, abs=0.0011)


def test_a_pair_of_tiny_logits_is_matched_as_the_rules_read_it():
    """Below the guard on CIST's temperature, the ratio is no longer rho; matching must see what the rule gives."""
    curves = EntropyCurves.from_logits(LogitSet.create(np.random.default_rng(0).normal(size=(50, 8)) * 2e-6))
    pair = matched_pair(curves, rho=3.0, floor=0)
    assert pair.cist.entropy(curves).mean() == pytest.approx(Fixed(pair.tau).entropy(curves).mean(), abs=1e-4)
