"""Matching a fixed temperature with a rho: roots checked with SciPy's entropies, and the published table of gains."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import centred_maximum, entropy_at, entropy_at_ratio

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

RESNET = "cifar10_resnet56_test_logits.npz"
LITE = "imagenet1k_sample_efflite0_logits.npz"


@pytest.fixture
def curves(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


@pytest.mark.parametrize("target", [0.05, 0.3, 1.0, 2.2])
def test_the_root_has_the_wanted_mean_entropy(curves, logits, target):
    assert entropy_at_ratio(logits, match_rho(curves, target)).mean() == pytest.approx(target, abs=1e-5)
    assert entropy_at(logits, match_tau(curves, target)).mean() == pytest.approx(target, abs=1e-5)


def test_a_pair_is_completed_from_any_of_its_numbers(curves, logits):
    pair = matched_pair(curves, tau=2.0)
    assert pair.tau == 2.0
    assert pair.mean_entropy == pytest.approx(entropy_at(logits, 2.0).mean(), abs=1e-5)
    assert entropy_at_ratio(logits, pair.rho).mean() == pytest.approx(pair.mean_entropy, abs=1e-5)
    assert matched_pair(curves, rho=pair.rho).tau == pytest.approx(2.0, rel=1e-4)
    assert matched_pair(curves, mean_entropy=pair.mean_entropy).rho == pytest.approx(pair.rho, rel=1e-5)
    assert matched_pair(curves, mean_entropy=pair.mean_entropy).tau == pytest.approx(2.0, rel=1e-4)


def test_the_default_pair_has_a_quarter_of_the_largest_entropy(curves, logits):
    pair = default_pair(curves)
    assert pair.mean_entropy == pytest.approx(math.log(10) / 4)
    assert entropy_at(logits, pair.tau).mean() == pytest.approx(math.log(10) / 4, abs=1e-5)
    assert entropy_at_ratio(logits, pair.rho).mean() == pytest.approx(math.log(10) / 4, abs=1e-5)


def test_the_pair_does_not_depend_on_an_offset_and_follows_the_scale(curves, logits):
    pair = matched_pair(curves, mean_entropy=0.8)
    scaled = matched_pair(EntropyCurves.from_logits(LogitSet.create(4 * logits + 64)), mean_entropy=0.8)
    assert scaled.rho == pytest.approx(pair.rho, rel=1e-4)
    assert scaled.tau == pytest.approx(4 * pair.tau, rel=1e-4)


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
        match_rho(curves, 0.5)
    with pytest.raises(CistError, match=r"No temperature gives .*tied or constant logits keep.*at any temperature"):
        match_tau(curves, 0.5)
    assert match_rho(curves, 1.4) > 0


def test_constant_logits_have_no_pair():
    curves = EntropyCurves.from_logits(LogitSet.create(np.ones((4, 6))))
    with pytest.raises(CistError, match="tied or constant logits"):
        default_pair(curves)


def test_a_stream_is_matched_within_its_table(curves, logits):
    streamed = EntropyCurves.from_chunks(np.array_split(logits, 5))
    exact, tabulated = matched_pair(curves, mean_entropy=1.0), matched_pair(streamed, mean_entropy=1.0)
    assert tabulated.rho == pytest.approx(exact.rho, rel=1e-3)
    assert tabulated.tau == pytest.approx(exact.tau, rel=1e-3)
    lowest = entropy_at_ratio(logits, 16).mean()
    with pytest.raises(CistError, match="the table of this stream ends at the ratio 16; load the logits into memory"):
        match_rho(streamed, lowest / 2)
    with pytest.raises(CistError, match=r"No temperature gives .*the table of this stream ends at the ratio 16"):
        match_tau(streamed, entropy_at(logits, centred_maximum(logits).max() / 16).mean() / 2)


@given(st.floats(0.3, 20), st.floats(0.3, 20))
def test_a_higher_temperature_means_a_smaller_rho(first, second):
    rng = np.random.default_rng(5)
    curves = EntropyCurves.from_logits(LogitSet.create(rng.normal(size=(50, 8)) * rng.uniform(1, 6, (50, 1))))
    low, high = sorted((first, second))
    if high > low * 1.01:
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
    """The table of the method page, measured there with an independent float64 oracle; good and bad rows."""
    logit_set = read_logits(shared_file(name))
    curves = EntropyCurves.from_logits(logit_set)
    pair = matched_pair(curves, tau=tau)
    fixed, cist = EntropyProfile.of(Fixed(tau), curves), EntropyProfile.of(Cist(pair.rho), curves)
    assert fixed.normalised_mean == pytest.approx(normalised, abs=0.005)
    assert cist.mean == pytest.approx(fixed.mean, abs=2e-4)
    assert pair.rho == pytest.approx(rho, abs=0.006)
    assert fixed.std == pytest.approx(std_fixed, abs=0.0011)
    assert cist.std == pytest.approx(std_cist, abs=0.0011)
    assert fixed.std / cist.std == pytest.approx(gain, abs=0.06)
    assert cist.std == pytest.approx(entropy_at_ratio(logit_set.logits, pair.rho).std(), abs=1e-4)


def test_a_pair_of_tiny_logits_is_matched_as_the_rules_read_it():
    """Below the guard on CIST's temperature, the ratio is no longer rho; matching must see what the rule gives."""
    curves = EntropyCurves.from_logits(LogitSet.create(np.random.default_rng(0).normal(size=(50, 8)) * 2e-6))
    pair = matched_pair(curves, rho=3.0)
    assert Cist(pair.rho).entropy(curves).mean() == pytest.approx(Fixed(pair.tau).entropy(curves).mean(), abs=1e-4)
