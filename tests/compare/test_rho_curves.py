"""Curves over rho against SciPy: the sweep, the consistency gain, and its honesty at the ends."""

import math
import re

import numpy as np
import pytest
from reference import centred_maximum, entropy_at, entropy_at_cist, entropy_at_ratio
from scipy.optimize import brentq

from cist_core import EntropyCurves, LogitSet, matched_pair, read_logits
from cist_core.compare.rho_curves import COMPARED, GainCurve, gain_curve, gain_sentence, rho_sweep


@pytest.fixture
def curves(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


def made(normalised, gain, *, floor=0.0, least=0.0):
    """A curve of which only the gain matters, and what the floor keeps CIST above."""
    x, gain = np.asarray(normalised, float), np.asarray(gain, float)
    return GainCurve(x, x * 2.0, x, gain, np.ones_like(x), gain, max_entropy=2.0, floor=floor, least=least * 2.0)


@pytest.mark.parametrize("floor", [0.0, 0.01, 1.0, 30.0])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_sweep_is_that_of_scipy(curves, logits, streamed, floor):
    sweep = rho_sweep(EntropyCurves.from_chunks(np.array_split(logits, 3)) if streamed else curves, floor=floor)
    limit = math.log(10)
    assert (sweep.max_entropy, sweep.floor) == (pytest.approx(limit), floor)
    for index in (0, 4, 15, 40, 79):
        entropy = entropy_at_cist(logits, sweep.rho[index], floor)
        assert sweep.at_floor[index] == np.mean(centred_maximum(logits) / sweep.rho[index] < floor)
        assert sweep.mean[index] == pytest.approx(entropy.mean(), abs=1e-4)
        assert sweep.std[index] == pytest.approx(entropy.std(), abs=1e-4)
        assert sweep.q05[index] == pytest.approx(np.quantile(entropy, 0.05), abs=2e-4)
        assert sweep.q95[index] == pytest.approx(np.quantile(entropy, 0.95), abs=2e-4)
        assert sweep.over_sharp[index] == pytest.approx(np.mean(entropy < 0.05 * limit), abs=0.004)
        assert sweep.over_smoothed[index] == pytest.approx(np.mean(entropy > 0.95 * limit), abs=0.004)
    assert (np.diff(sweep.mean) < (0 if floor < 1 else 1e-5)).all()
    assert (np.diff(sweep.at_floor) >= 0).all()
    assert sweep.at_floor[-1] == {0.0: 0, 0.01: 0, 30.0: 1}.get(floor, sweep.at_floor[-1])


def test_the_floor_of_a_sweep_is_one_by_default(curves, logits):
    sweep = rho_sweep(curves)
    assert sweep.floor == 1
    assert sweep.mean[40] == pytest.approx(entropy_at_cist(logits, sweep.rho[40]).mean(), abs=1e-4)


def test_thresholds_of_the_sweep_can_be_set(curves, logits):
    sweep = rho_sweep(curves, over_sharp_below=0.3, over_smoothed_above=0.6, floor=0)
    share = entropy_at_ratio(logits, sweep.rho[15]) / math.log(10)
    assert sweep.over_sharp[15] == pytest.approx(np.mean(share < 0.3), abs=0.004)
    assert sweep.over_smoothed[15] == pytest.approx(np.mean(share > 0.6), abs=0.004)


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_the_gain_between_the_computed_temperatures_is_that_of_scipy(curves, logits, floor):
    curve = gain_curve(curves, floor=floor)
    assert (np.diff(curve.mean_entropy) > 0).all()
    assert len(curve.rho) > 20
    for index in range(0, len(curve.rho), 7):
        under_tau = entropy_at(logits, curve.tau[index])
        under_cist = entropy_at_cist(logits, curve.rho[index], floor)
        assert under_tau.mean() == pytest.approx(under_cist.mean(), rel=2e-3)
        assert curve.std_cist[index] == pytest.approx(under_cist.std(), abs=1e-4)
        matched = matched_pair(curves, rho=curve.rho[index], floor=floor).tau
        assert curve.gain[index] == pytest.approx(entropy_at(logits, matched).std() / under_cist.std(), rel=0.01)


def test_the_gain_ends_at_one_where_the_floor_makes_cist_a_fixed_temperature(curves, logits):
    curve = gain_curve(curves)
    assert curve.least == pytest.approx(entropy_at(logits, 1.0).mean(), abs=1e-4)
    assert curve.mean_entropy[0] == pytest.approx(curve.least, rel=5e-3)  # at rho 16 few samples are above the floor
    assert curve.tau[0] == pytest.approx(1.0, rel=5e-3)
    assert curve.gain[0] == pytest.approx(1.0, abs=0.02)
    assert gain_curve(curves, floor=0).least == 0
    given = gain_curve(curves, rho_sweep(curves, floor=2))
    assert (given.floor, given.least) == (2, pytest.approx(entropy_at(logits, 2.0).mean(), abs=1e-4))


def test_the_sentence_says_from_where_the_floor_lets_cist_be_compared():
    x, gain = [0.3, 0.4, 0.55, 0.8, 0.99], [1, 2, 3, 3, 3]
    sentence = gain_sentence(made(x, gain, floor=1.0, least=0.3), 0.15, 0.55)
    assert sentence == (
        "The floor of 1 keeps the mean entropy under CIST above 30 % of ln C; between there and 55 % CIST's entropies "
        "vary 1.0 to 3.0 times less than at the fixed temperature of the same mean"
    )
    assert gain_sentence(made(x, gain, floor=1.0, least=0.3), 0.35, 0.55).startswith(
        "Between 35 % and 55 % of ln C CIST"
    )
    beyond = gain_sentence(made(x[2:], gain[2:], floor=6.0, least=0.55), 0.15, 0.5)
    assert beyond == (
        "The floor of 6 keeps the mean entropy under CIST above 55 % of ln C: between 15 % and 50 % there is no spread "
        "to compare"
    )


def test_the_gain_of_a_real_teacher_turns_against_cist_where_nearly_all_is_uniform(shared_file):
    """The last row of the method's table: a gain of 0.8 at a mean normalised entropy of 0.99."""
    logit_set = read_logits(shared_file("imagenet1k_sample_efflite0_logits.npz"))
    curve = gain_curve(EntropyCurves.from_logits(logit_set), floor=0)
    known = dict(zip((0.21, 0.63), np.interp((0.2076, 0.63), curve.normalised, curve.gain), strict=True))
    assert known[0.21] == pytest.approx(2.4, abs=0.1)
    assert known[0.63] == pytest.approx(6.8, abs=0.3)
    assert np.interp(0.99, curve.normalised, curve.gain) == pytest.approx(0.8, abs=0.05)
    ((start, end),) = curve.less_consistent()
    assert 0.97 < start < 0.99 < end <= COMPARED[1]
    assert gain_sentence(curve, 0.15, 0.55).endswith("; above 98.2 % it is the less consistent one")


def test_ends_are_left_out_and_not_guessed(curves):
    curve = gain_curve(curves)
    assert curve.normalised.min() >= COMPARED[0]
    assert curve.normalised.max() <= COMPARED[1]
    assert np.isfinite(curve.gain).all()


def test_a_table_has_no_gain_where_its_temperatures_end(logits):
    rows = logits * np.where(np.arange(len(logits)) < 5, 8.0, 1.0)[:, None]  # five samples reach the end of it early
    curve = gain_curve(EntropyCurves.from_chunks([rows]), floor=0)
    exact = gain_curve(EntropyCurves.from_logits(LogitSet.create(rows)), floor=0)
    missing = np.isnan(curve.gain)
    assert 0 < missing.sum() < len(missing)
    assert missing[: missing.sum()].all()  # the sharp end
    np.testing.assert_allclose(curve.gain[~missing], exact.gain[~missing], rtol=0.02)


def test_without_any_spread_there_is_no_gain():
    """With two classes CIST gives all samples one entropy."""
    rows = np.random.default_rng(0).normal(size=(100, 2))
    curve = gain_curve(EntropyCurves.from_logits(LogitSet.create(rows)), floor=0)
    assert len(curve.gain) > 10
    assert np.isnan(curve.gain).all()
    assert (curve.std_fixed[5:-5] > 0.01).all()
    assert curve.within(0.15, 0.55) is None
    assert curve.less_consistent() == []


def test_where_cist_alone_does_not_spread_the_sentence_says_so():
    """The best that CIST can do is no gain, as a gain over nothing is no number."""
    rows = np.random.default_rng(0).normal(size=(100, 2))
    sentence = gain_sentence(gain_curve(EntropyCurves.from_logits(LogitSet.create(rows)), floor=0), 0.25, 0.5)
    low, high = map(
        float,
        re.match(
            r"Between 25 % and 50 % of ln C CIST gives every sample the same entropy; .* ([\d.]+) to (.+) nats",
            sentence,
        ).groups(),
    )

    def spread_at(share):
        wanted = share * math.log(2)
        return entropy_at(rows, brentq(lambda tau: entropy_at(rows, tau).mean() - wanted, 0.01, 50)).std()

    spreads = [spread_at(share) for share in np.linspace(0.25, 0.5, 99)]
    assert (low, high) == (pytest.approx(min(spreads), rel=0.01), pytest.approx(max(spreads), rel=0.01))


def test_a_sweep_goes_on_to_a_rho_further_out(logits):
    curves = EntropyCurves.from_logits(LogitSet.create(logits))
    sweep, usual = rho_sweep(curves, reach=40.0), rho_sweep(curves)
    assert sweep.rho[-1] == pytest.approx(40)
    assert (np.diff(sweep.rho) > 0).all()
    np.testing.assert_allclose(sweep.mean[: len(usual.rho)], usual.mean, rtol=0, atol=1e-5)
    assert sweep.mean[-1] == pytest.approx(entropy_at_cist(logits, 40.0).mean(), abs=1e-4)
    free = rho_sweep(curves, reach=40.0, floor=0)
    assert free.mean[-1] == pytest.approx(entropy_at_ratio(logits, 40.0).mean(), abs=1e-4)
    np.testing.assert_allclose(rho_sweep(curves, reach=12.3).rho, usual.rho, rtol=1e-12)
    table = EntropyCurves.from_chunks([logits])
    np.testing.assert_allclose(rho_sweep(table, reach=40.0).mean, sweep.mean, rtol=0, atol=1e-4)
    assert rho_sweep(table, reach=100.0).rho[-1] == pytest.approx(64)  # a table ends there


@pytest.mark.parametrize(
    "rows",
    [np.ones((4, 5)), np.array([[3.0, 1.0, 0.0]]), np.repeat([[5.0, 5.0, 0.0, 0.0]], 4, axis=0)],
    ids=["constant", "one sample", "tied"],
)
def test_rows_that_leave_nothing_to_compare(rows):
    curve = gain_curve(EntropyCurves.from_logits(LogitSet.create(rows)))
    assert not np.isfinite(curve.gain).any()
    assert curve.within(0.0, 1.0) is None
    assert gain_sentence(curve, 0.15, 0.55).endswith("there is no spread to compare")


def test_intervals_of_lower_consistency_end_where_the_gain_crosses_one():
    curve = made([0.1, 0.2, 0.3, 0.5, 0.6, 0.9], [0.5, 2.0, 2.0, 4.0, 0.25, 0.5])
    first, second = curve.less_consistent()
    assert first == (pytest.approx(0.1), pytest.approx(0.15))  # halfway: 0.5 and 2 are as far from 1
    assert second == (pytest.approx(0.55), pytest.approx(0.9))
    assert made([0.1, 0.9], [2, 3]).less_consistent() == []
    assert made([0.1, 0.9], [0.5, 0.4]).less_consistent() == [(pytest.approx(0.1), pytest.approx(0.9))]


def test_the_sentence_in_every_direction():
    x = [0.05, 0.15, 0.3, 0.55, 0.8, 0.99]
    assert "CIST's entropies vary 2.0 to 3.0 times less than at the fixed" in gain_sentence(
        made(x, [2, 2, 3, 2, 2, 2]), 0.15, 0.55
    )
    assert "CIST's entropies vary 1.2 to 2.0 times more than" in gain_sentence(
        made(x, [1, 0.8, 0.5, 0.6, 1, 1]), 0.15, 0.55
    )
    mixed = gain_sentence(made(x, [1, 0.8, 1.5, 2, 3, 3]), 0.15, 0.55)
    assert "from 1.2 times more to 2.0 times less than" in mixed
    assert "about as much as at the fixed" in gain_sentence(made(x, [2, 1.01, 0.99, 1, 2, 2]), 0.15, 0.55)
    assert gain_sentence(made([0.02, 0.14, *x[1:]], [0.5, 2, 2, 2, 2, 2, 2]), 0.15, 0.55).endswith(
        "; below 8 % it is the less consistent one"
    )
    assert "; from " in gain_sentence(made([*x[:4], 0.7, 0.8, 0.9, 0.99], [2, 2, 2, 2, 0.5, 0.5, 2, 2]), 0.15, 0.55)
