"""The numbers of a profile against NumPy and SciPy on plain arrays."""

import json
import math
import pickle
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import centred_maximum, cist_temperatures, entropy_at, entropy_at_ratio
from scipy.stats import linregress, rankdata, spearmanr

from cist_core import (
    Association,
    Cist,
    EntropyCurves,
    EntropyProfile,
    Fixed,
    LogitSet,
    class_means,
    entropy_histogram,
    parse_rule,
    read_logits,
)
from cist_core.temperature.profile import VarianceParts, explained_by_order, quantiles_of_sorted
from cist_core.temperature.readings import read_rule


@pytest.fixture
def curves(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


@pytest.mark.parametrize("rule", [Fixed(2.5), Cist(3), Cist(3, floor=0), Cist(3, floor=40)], ids=str)
def test_a_profile_is_that_of_the_entropies_scipy_gives(curves, logits, rule):
    cist = isinstance(rule, Cist)
    tau = cist_temperatures(logits, rule.rho, rule.floor) if cist else np.full(300, 2.5)
    floored = np.count_nonzero(centred_maximum(logits) / rule.rho < rule.floor) if cist else 0
    entropy = entropy_at(logits, tau)
    profile = EntropyProfile.of(rule, curves)
    assert (profile.rule, profile.samples, profile.classes) == (str(rule), 300, 10)
    expected = {
        "mean": entropy.mean(),
        "std": entropy.std(),
        "q05": np.percentile(entropy, 5),
        "q25": np.percentile(entropy, 25),
        "median": np.median(entropy),
        "q75": np.percentile(entropy, 75),
        "q95": np.percentile(entropy, 95),
        "normalised_mean": entropy.mean() / math.log(10),
        "over_sharp": np.count_nonzero(entropy < 0.05 * math.log(10)) / 300,
        "over_smoothed": np.count_nonzero(entropy > 0.95 * math.log(10)) / 300,
        "at_floor": floored / 300,
        "samples_at_floor": floored,
        "tau_mean": tau.mean(),
        "tau_std": tau.std(),
        "tau_min": tau.min(),
        "tau_max": tau.max(),
    }
    assert floored == {0.0: 0, 40.0: 300}.get(getattr(rule, "floor", 0.0), floored)
    for key, value in expected.items():
        assert getattr(profile, key) == pytest.approx(value, rel=1e-5, abs=1e-5), key


def test_thresholds_are_shares_of_the_largest_entropy():
    entropy = (np.arange(100) + 0.5) / 100 * math.log(10)
    profile = EntropyProfile.from_arrays("any", entropy, np.ones(100), classes=10)
    assert (profile.over_sharp, profile.over_smoothed) == (0.05, 0.05)
    wide = EntropyProfile.from_arrays(
        "any", entropy, np.ones(100), classes=10, over_sharp_below=0.3, over_smoothed_above=0.6
    )
    assert (wide.over_sharp_below, wide.over_smoothed_above) == (0.3, 0.6)
    assert (wide.over_sharp, wide.over_smoothed) == (0.3, 0.4)


def test_a_reading_knows_which_samples_are_at_the_floor(curves, logits):
    reading = read_rule(Cist(3), curves)
    np.testing.assert_array_equal(reading.at_floor, centred_maximum(logits) < 3)
    assert reading.profile == EntropyProfile.of(Cist(3), curves)
    assert reading.profile.samples_at_floor == reading.at_floor.sum() > 0
    assert reading.student_at_floor is None
    beside = read_rule(Cist(3), curves.beside(EntropyCurves.from_logits(LogitSet.create(logits / 3))))
    np.testing.assert_array_equal(beside.student_at_floor, centred_maximum(logits / 3) < 3)
    assert not read_rule(Fixed(2.5), curves).at_floor.any()


def test_where_the_floor_binds_the_ratio_explains_as_at_a_fixed_temperature(curves):
    """Above it the ratio is held; at it the entropy follows the ratio again."""
    held, some, everywhere = (
        read_rule(rule, curves).association for rule in (Cist(3, 0), Cist(3), Cist(1e6, floor=2.0))
    )
    assert held.explained == 0 < some.explained
    assert everywhere == read_rule(Fixed(2.0), curves).association


def test_thresholds_reach_the_profile_of_a_rule(curves):
    everything = EntropyProfile.of(Fixed(2), curves, over_sharp_below=1.01, over_smoothed_above=1.01)
    assert (everything.over_sharp, everything.over_smoothed) == (1.0, 0.0)
    nothing = EntropyProfile.of(Fixed(2), curves, over_sharp_below=0.0, over_smoothed_above=0.0)
    assert (nothing.over_sharp, nothing.over_smoothed) == (0.0, 1.0)


def test_the_mean_of_many_float32_entropies_keeps_its_digits():
    entropy = np.random.default_rng(5).uniform(0, 2, 300_001).astype(np.float32)
    profile = EntropyProfile.from_arrays("any", entropy, entropy, classes=10)
    assert profile.mean == pytest.approx(math.fsum(entropy) / 300_001, rel=1e-10)
    assert profile.std == pytest.approx(entropy.astype(np.float64).std(), rel=1e-10)


def test_a_profile_is_plain_numbers_for_json(curves):
    record = json.loads(json.dumps(EntropyProfile.of(Fixed(4), curves).to_dict(), allow_nan=False))
    assert record["rule"] == "tau=4"
    assert {"mean", "std", "q05", "q25", "median", "q75", "q95", "over_sharp", "over_smoothed", "tau_mean"} < set(
        record
    )
    assert record["at_floor"] == record["samples_at_floor"] == 0


def test_one_sample_has_no_spread():
    curves = EntropyCurves.from_logits(LogitSet.create([[2.0, 1.0, 0.0]]))
    profile = EntropyProfile.of(Fixed(1), curves)
    assert profile.std == 0
    assert profile.q05 == profile.median == profile.q95 == pytest.approx(profile.mean)


def test_the_histogram_counts_every_sample_once():
    limit = math.log(10)
    shares = np.array([-1e-6, 0.0, 0.05, 0.15, 0.55, 0.999, 1.0, 1.0 + 1e-6])  # rounding oversteps both ends
    counts = entropy_histogram((shares * limit).astype(np.float32), 10, bins=10)
    assert counts.tolist() == [3, 1, 0, 0, 0, 1, 0, 0, 0, 3]


def test_the_histogram_agrees_with_numpy():
    entropy = np.random.default_rng(0).uniform(0, math.log(100), 5000)
    expected, _ = np.histogram(entropy, bins=60, range=(0, math.log(100)))
    np.testing.assert_array_equal(entropy_histogram(entropy, 100), expected)


def test_means_of_classes_agree_with_a_loop(labels):
    values = np.random.default_rng(1).normal(size=300)
    result = class_means(values, labels, 12)
    for label in range(10):
        own = values[labels == label]
        assert result["mean"][label] == pytest.approx(own.mean())
        assert result["std"][label] == pytest.approx(own.std())
        assert result["count"][label] == len(own)
    assert np.all(np.isnan(result["mean"][10:]))
    assert np.all(np.isnan(result["std"][10:]))
    assert result["count"][10:].tolist() == [0, 0]


def test_association_agrees_with_scipy():
    rng = np.random.default_rng(2)
    ratio = rng.uniform(0.5, 12, 4000)
    entropy = np.exp(-0.3 * ratio) + rng.normal(scale=0.05, size=4000)
    association = Association.of(entropy, ratio)
    assert association.spearman == pytest.approx(spearmanr(entropy, ratio).statistic, rel=1e-12)
    assert association.r_squared == pytest.approx(linregress(ratio, entropy).rvalue ** 2, rel=1e-10)
    assert association.variance == pytest.approx(entropy.var(), rel=1e-12)
    assert association.explained == pytest.approx(np.exp(-0.3 * ratio).var() / entropy.var(), abs=0.02)
    assert association.within == pytest.approx(0.05**2, rel=0.1)


def test_ranks_of_ties_are_shared():
    entropy, ratio = np.array([1.0, 1.0, 2.0, 3.0, 0.0]), np.array([3.0, 3.0, 2.0, 1.0, 3.0])
    assert Association.of(entropy, ratio).spearman == pytest.approx(spearmanr(entropy, ratio).statistic, rel=1e-12)


@pytest.mark.parametrize("values", [7, 3000])
def test_ranks_of_many_ties_are_shared(values):
    rng = np.random.default_rng(4)
    entropy, ratio = (rng.integers(1, values, 5000).astype(np.float32) for _ in range(2))
    assert Association.of(entropy, ratio).spearman == pytest.approx(spearmanr(entropy, ratio).statistic, rel=1e-10)


@pytest.mark.parametrize("rule", [Fixed(2), Cist(3), Cist(3, floor=0), Cist(50, floor=4), parse_rule("lskd:tau=2")])
def test_ranks_at_hand_are_those_of_the_ratios(rule):
    rng = np.random.default_rng(3)
    rows = np.concatenate([rng.normal(size=(500, 6)) * rng.uniform(0.1, 5, (500, 1)), np.zeros((5, 6))])
    curves = EntropyCurves.from_logits(LogitSet.create(np.concatenate([rows, rows[:40]])))
    np.testing.assert_array_equal(rule.ratio_ranks(curves), rankdata(rule.ratios(curves)))
    assert read_rule(rule, curves).association == Association.of(rule.entropy(curves), rule.ratios(curves))


def test_a_pickled_reading_leaves_the_curves_behind_and_says_the_same(curves):
    reading = read_rule(Cist(3.0), curves)
    copied = pickle.loads(pickle.dumps(reading))
    assert copied.curves is None
    assert (copied.rule, copied.profile, copied.association) == (reading.rule, reading.profile, reading.association)


@pytest.mark.parametrize("shares", [(0.0, 1.0), (0.05, 0.3, 0.95)])
@pytest.mark.parametrize("count", [1, 2, 1_000])
def test_quantiles_are_those_of_numpy(count, shares):
    values = np.random.default_rng(0).gamma(1.0, size=count).astype(np.float32)
    expected = np.quantile(values.astype(np.float64), shares)
    np.testing.assert_allclose(quantiles_of_sorted(np.sort(values), shares), expected, rtol=1e-12)


def test_what_the_order_explains_is_the_variance_of_the_means_of_equals():
    rng = np.random.default_rng(5)
    of = np.repeat([0.0, 3.0, 1.0, 2.0], 500)  # 0 is a value like the others
    values = np.repeat([1.0, 4.0, 0.0, 2.0], 500) + rng.normal(size=2000)
    means = values.reshape(4, 500).mean(axis=1)
    assert explained_by_order(values, of) == pytest.approx(means.var() / values.var(), rel=1e-12)
    assert explained_by_order(values, of**3) == explained_by_order(values, of)
    assert explained_by_order(np.ones(2000), of) is None


def test_the_decomposition_of_a_few_ratios_is_the_law_of_total_variance():
    rng = np.random.default_rng(3)
    ratio = rng.integers(1, 6, 2000).astype(float)
    entropy = 2 / ratio + rng.normal(scale=0.2, size=2000)
    groups = [entropy[ratio == value] for value in range(1, 6)]
    weights = np.array([len(group) for group in groups]) / 2000
    within = float(np.sum(weights * [group.var() for group in groups]))
    between = float(np.sum(weights * (np.array([group.mean() for group in groups]) - entropy.mean()) ** 2))
    association = Association.of(entropy, ratio)
    assert association.within == pytest.approx(within, rel=1e-10)
    assert association.between == pytest.approx(between, rel=1e-10)
    assert association.explained == pytest.approx(between / (between + within), rel=1e-10)


def test_entropy_that_the_ratio_does_not_know_is_not_explained():
    rng = np.random.default_rng(4)
    association = Association.of(rng.normal(size=5000), rng.uniform(1, 5, 5000))
    assert association.explained < 0.06  # chance alone gives about 1 in 25
    assert abs(association.spearman) < 0.05
    assert association.r_squared < 0.003


def test_under_cist_without_a_floor_the_ratio_explains_nothing(curves, logits):
    rule = Cist(3, floor=0)
    association = Association.of(rule.entropy(curves), rule.ratios(curves))
    assert (association.spearman, association.r_squared, association.between, association.explained) == (
        None,
        None,
        0,
        0,
    )
    assert association.within == association.variance
    assert association.variance == pytest.approx(entropy_at_ratio(logits, 3).var(), rel=1e-4)


@pytest.mark.parametrize("ratio", [np.full(50, 3.0), np.linspace(1, 5, 50)])
def test_entropy_that_does_not_vary_leaves_nothing_to_explain(ratio):
    association = Association.of(np.full(50, 0.5), ratio)
    assert association == Association(None, None, 0.0, 0.0, 0.0, None)


def test_an_association_is_plain_numbers_for_json(curves):
    rule = Fixed(2)
    record = Association.of(rule.entropy(curves), rule.ratios(curves)).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


@given(
    arrays(np.float64, 120, elements=st.integers(0, 40).map(lambda value: value / 16)),
    arrays(np.float64, 120, elements=st.integers(1, 9).map(float)),
)
def test_the_two_parts_are_shares_of_the_variance(entropy, ratio):
    association = Association.of(entropy, ratio)
    assert association.between >= 0
    assert association.within >= 0
    assert association.between + association.within == pytest.approx(association.variance, rel=1e-9, abs=1e-12)
    if association.explained is not None:
        assert 0 <= association.explained <= 1


def test_on_a_real_teacher_the_ratio_explains_most_of_the_entropy_under_a_fixed_temperature(shared_file):
    logit_set = read_logits(shared_file("cifar10_resnet56_test_logits.npz"))
    curves = EntropyCurves.from_logits(logit_set)
    association = Association.of(Fixed(4).entropy(curves), Fixed(4).ratios(curves))
    reference = spearmanr(entropy_at(logit_set.logits, 4), centred_maximum(logit_set.logits)).statistic
    assert association.spearman == pytest.approx(reference, abs=1e-5)
    assert association.explained > 0.8


def test_constant_rows_have_no_ratio_to_be_explained_by():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(500, 6)) * rng.uniform(1, 5, (500, 1))
    with_constant = np.concatenate([logits, np.zeros((5, 6))])
    association = Association.of(*_under_cist(with_constant))
    assert association.explained == 0
    assert association.variance == pytest.approx(Association.of(*_under_cist(logits)).variance)


@pytest.mark.parametrize("rule", [Fixed(2), Cist(3), Cist(3, floor=0)])
def test_the_parts_of_the_variance_are_those_of_the_association(rule):
    logits = np.concatenate([np.random.default_rng(3).normal(size=(500, 6)) * 3, np.zeros((5, 6))])
    for rows in (logits, logits[500:]):
        reading = read_rule(rule, EntropyCurves.from_logits(LogitSet.create(rows)))
        parts = asdict(reading.variance_parts)
        assert parts == {name: value for name, value in reading.association.to_dict().items() if name in parts}
        assert reading.variance_parts == VarianceParts.of(reading.entropy, reading.ratios)


def _under_cist(logits):
    curves = EntropyCurves.from_logits(LogitSet.create(logits))
    return Cist(3, floor=0).entropy(curves), Cist(3, floor=0).ratios(curves)
