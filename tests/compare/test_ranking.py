"""The ranking against SciPy's own entropies and resamples drawn one by one."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from reference import entropy_at, entropy_at_cist

from cist_core import Cist, CistError, EntropyCurves, Fixed, LogitSet, Matched, TemperatureRule, read_logits
from cist_core.compare.ranking import match_rule, rank_rules, ranking_finding
from cist_core.temperature import register_rule


@pytest.fixture
def curves(logits) -> EntropyCurves:
    return EntropyCurves.from_logits(LogitSet.create(logits))


def by_name(ranking):
    return {rule.name: rule for rule in ranking}


def test_every_rule_is_brought_to_the_mean_entropy_and_ranked_by_the_spread_that_scipy_finds(logits, curves):
    student = EntropyCurves.from_logits(LogitSet.create(logits[:, ::-1] / 3))
    curves = curves.beside(student)
    ranking = rank_rules(curves, 1.2, resamples=50)
    assert {rule.name for rule in ranking} >= {"fixed", "cist", "lskd", "normkd", "dtkd", "matched"}
    assert [rule.reason for rule in ranking] == [None] * len(ranking)
    for rule in ranking:
        entropy = entropy_at(logits, rule.rule.temperatures(curves))
        assert entropy.mean() == pytest.approx(1.2, abs=5e-4)
        assert rule.std == pytest.approx(entropy.std(), abs=5e-4)
    spreads = [rule.std for rule in ranking]
    np.testing.assert_allclose(spreads, sorted(spreads), atol=1e-6)  # rules that tie differ by rounding
    assert ranking[0].name == "matched"
    assert ranking[0].std < 1e-4


def test_intervals_are_those_of_resamples_drawn_one_by_one(logits, curves):
    ranked = by_name(rank_rules(curves, 1.2, rules=["fixed", "cist"], resamples=2000, seed=3))
    fixed, cist = (entropy_at(logits, ranked[name].rule.temperatures(curves)) for name in ("fixed", "cist"))
    rng = np.random.default_rng(11)
    drawn = rng.integers(0, 300, (4000, 300))
    spreads, gains = cist[drawn].std(axis=1), fixed[drawn].std(axis=1) / cist[drawn].std(axis=1)
    width = np.ptp(np.quantile(spreads, [0.025, 0.975]))
    np.testing.assert_allclose(ranked["cist"].interval, np.quantile(spreads, [0.025, 0.975]), atol=0.1 * width)
    width = np.ptp(np.quantile(gains, [0.025, 0.975]))
    np.testing.assert_allclose(ranked["cist"].gain_interval, np.quantile(gains, [0.025, 0.975]), atol=0.1 * width)
    assert ranked["cist"].gain == pytest.approx(fixed.std() / cist.std(), rel=1e-3)
    assert ranked["fixed"].gain is None


@pytest.mark.usefixtures("own_rules")
def test_the_gain_is_compared_on_the_same_resamples(curves):
    """Spreads of unpaired resamples would leave the gain of a rule over itself uncertain."""
    _register_twin()
    twin = by_name(rank_rules(curves, 1.2, rules=["twin", "cist"]))["twin"]
    assert twin.gain == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(twin.gain_interval, 1, atol=1e-4)
    assert twin.interval.high - twin.interval.low > 0.01


def _register_twin():
    @register_rule("twin")
    @dataclass(frozen=True)
    class Twin(TemperatureRule):
        """A fixed temperature, written as its cube."""

        cube: float

        def temperatures(self, curves):
            return np.full(curves.num_samples, self.cube ** (1 / 3))


def test_a_confidence_of_more_is_a_wider_interval_and_a_seed_gives_it_again(curves):
    narrow, wide = (
        by_name(rank_rules(curves, 1.2, rules=["cist"], confidence=level))["cist"].interval for level in (0.5, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high
    again = by_name(rank_rules(curves, 1.2, rules=["cist"], confidence=0.5))["cist"].interval
    other = by_name(rank_rules(curves, 1.2, rules=["cist"], confidence=0.5, seed=1))["cist"].interval
    assert again == narrow != other


def test_lskd_and_normkd_tie_and_nothing_else_does(curves):
    ranked = by_name(rank_rules(curves, 1.2, resamples=10))
    assert ranked["lskd"].same_as == ("NormKD",)
    assert ranked["normkd"].same_as == ("LSKD",)
    assert ranked["cist"].same_as == ranked["fixed"].same_as == ()
    assert ranked["lskd"].std == pytest.approx(ranked["normkd"].std, abs=1e-6)


@pytest.mark.usefixtures("own_rules")
def test_rules_that_cannot_be_matched_come_last_with_the_reason(curves):
    @register_rule("two")
    @dataclass(frozen=True)
    class Two(TemperatureRule):
        a: float = 1.0
        b: float = 1.0

        def temperatures(self, curves):
            return np.full(curves.num_samples, self.a + self.b)

    @register_rule("steady")
    @dataclass(frozen=True)
    class Steady(TemperatureRule):
        """No parameter of it reaches a mean entropy of 1.2 nats."""

        power: float = 1.0

        def temperatures(self, curves):
            return np.full(curves.num_samples, 1e6)

    ranking = rank_rules(curves, 1.2, resamples=10)
    reasons = {rule.name: rule.reason for rule in ranking if rule.reason is not None}
    assert set(reasons) == {"dtkd", "steady", "two"}
    assert [rule.name for rule in ranking[-3:]] == ["dtkd", "steady", "two"]
    assert "needs a student" in reasons["dtkd"]
    assert "has 2 parameters; only a rule with exactly one" in reasons["two"]
    assert "No power of the rule 'steady' gives these samples a mean entropy of 1.2 nats" in reasons["steady"]
    assert all(rule.interval is None and rule.gain is None for rule in ranking[-3:])


def test_a_rule_that_sharpens_as_its_parameter_grows_is_found_as_well(curves):
    direct = match_rule(Cist, curves, 1.2, floor=0)

    @dataclass(frozen=True)
    class Inverse(TemperatureRule):
        rho: float

        def temperatures(self, curves):
            return np.maximum(curves.statistics.maximum / self.rho, 1e-6)

    assert match_rule(Inverse, curves, 1.2).rho == pytest.approx(direct.rho, rel=1e-4)
    assert match_rule(Fixed, curves, 1.2).tau == pytest.approx(match_rule(Fixed, curves, 1.2, near=0.1).tau, rel=1e-4)


@pytest.mark.parametrize("floor", [0.0, 0.4, 1.0])
def test_cist_is_matched_with_its_floor(curves, logits, floor):
    found = match_rule(Cist, curves, 1.2, floor=floor)
    assert found.floor == floor
    assert entropy_at_cist(logits, found.rho, floor).mean() == pytest.approx(1.2, abs=1e-4)
    assert by_name(rank_rules(curves, 1.2, rules=["cist"], resamples=2, floor=floor))["cist"].rule == found


def test_below_the_floor_cist_cannot_be_matched_and_says_why(curves):
    ranking = rank_rules(curves, 0.9, rules=["cist", "fixed", "lskd"], resamples=10)
    assert ranking[-1].name == "cist"
    assert "as no temperature of CIST falls below its floor of 1" in ranking[-1].reason
    assert by_name(rank_rules(curves, 0.9, rules=["cist"], resamples=10, floor=0.5))["cist"].reason is None


def test_at_the_floor_cist_and_the_fixed_temperature_are_one_rule(curves):
    mean = float(Fixed(1.0).entropy(curves).mean(dtype=np.float64))
    ranked = by_name(rank_rules(curves, mean, rules=["cist", "fixed"], resamples=10))
    assert ranked["cist"].same_as == ("fixed τ",)
    assert ranked["cist"].profile.at_floor == pytest.approx(1, abs=0.01)


def test_the_oracle_of_tied_rows_makes_up_for_them(logits):
    tied = logits.copy()
    tied[:60, :3] = tied[:60].max(axis=1, keepdims=True)  # these never fall below ln 3
    curves = EntropyCurves.from_logits(LogitSet.create(tied))
    oracle = match_rule(Matched, curves, 0.6)
    assert oracle.H < 0.5
    assert entropy_at(tied, oracle.temperatures(curves)).mean() == pytest.approx(0.6, abs=1e-3)
    ranked = by_name(rank_rules(curves, 0.6, rules=["matched", "fixed"], resamples=50))["matched"]
    assert ranked.std > 0.1
    assert ranked.gain > 1


def test_a_stream_ranks_what_its_table_reaches(logits):
    streamed = EntropyCurves.from_chunks([logits])
    exact = by_name(rank_rules(EntropyCurves.from_logits(LogitSet.create(logits)), 1.2, resamples=10))
    ranked = by_name(rank_rules(streamed, 1.2, resamples=10))
    for name in ("fixed", "cist", "lskd", "normkd"):
        assert ranked[name].std == pytest.approx(exact[name].std, abs=5e-4)
    sharp = entropy_at(logits, np.sort(logits, axis=1)[:, -1] / 16 * 0 + 1).mean() / 1000
    with pytest.raises(CistError):
        rank_rules(streamed, sharp)


def test_what_cannot_be_ranked_is_refused(curves):
    with pytest.raises(CistError, match="at least two samples to rank rules by their spread, but there is one"):
        rank_rules(EntropyCurves.from_logits(LogitSet.create([[1.0, 0.0]])), 0.5)
    with pytest.raises(CistError, match="at least two resamples and a confidence between 0 and 1, but got 1 and 2"):
        rank_rules(curves, 1.2, resamples=1, confidence=2)
    with pytest.raises(CistError, match="There is no temperature rule 'none'"):
        rank_rules(curves, 1.2, rules=["none"])
    with pytest.raises(CistError, match="cannot be matched"):
        rank_rules(curves, 3.0)


def equal_deviations(count: int = 200) -> EntropyCurves:
    """Rows of one deviation and two shapes. Where they are nearly uniform, ``ln C - H`` is half the variance of the
    scaled logits: a fixed temperature and LSKD give them one entropy, CIST does not.
    """
    rows = np.random.default_rng(0).standard_normal((count, 10))
    rows[: count // 2] = np.eye(10)[np.arange(count // 2) % 10]
    rows /= rows.std(axis=1, keepdims=True)
    return EntropyCurves.from_logits(LogitSet.create((3 * rows).astype(np.float32)))


def test_the_finding_says_who_leads_and_by_how_much(shared_file):
    real = EntropyCurves.from_logits(read_logits(shared_file("cifar10_resnet56_test_logits.npz")))
    ranking = rank_rules(real, 0.25 * math.log(10), resamples=100)
    expected = (
        "CIST is the most consistent rule here: 2.8 times less spread than fixed τ; the oracle is 0 by construction"
    )
    assert ranking_finding(ranking) == expected


def test_the_finding_is_honest_where_cist_does_not_lead():
    ranking = rank_rules(equal_deviations(), 0.98 * math.log(10), resamples=100)
    cist = by_name(ranking)["cist"]
    assert cist.gain < 0.6
    assert cist.gain_interval.high < 0.6
    finding = ranking_finding(ranking)
    assert finding.startswith("fixed τ, LSKD and NormKD are one rule here and the most consistent")
    without = ranking_finding(rank_rules(equal_deviations(), 0.98 * math.log(10), rules=["cist", "fixed"]))
    assert without.startswith("fixed τ is the most consistent rule here")
    assert "under CIST" in without


def test_the_finding_says_that_intervals_meet(logits):
    few = EntropyCurves.from_logits(LogitSet.create(logits[:8]))
    ranking = rank_rules(few, 1.2, rules=["cist", "fixed", "lskd"], resamples=200)
    first, second = ranking[:2]
    assert first.interval.meets(second.interval)
    assert f"but barely: its interval overlaps {second.label}'s" in ranking_finding(ranking)


def test_the_finding_names_all_rules_that_tie_at_the_top(curves):
    finding = ranking_finding(rank_rules(curves, 1.2, rules=["lskd", "normkd", "fixed"], resamples=50))
    assert finding.startswith("LSKD and NormKD are one rule here and the most consistent: ")
    only = ranking_finding(rank_rules(curves, 1.2, rules=["lskd", "normkd"], resamples=50))
    assert only == "LSKD and NormKD give every sample the same entropy here: no rule is more consistent than another"


def test_the_finding_of_rows_that_do_not_differ():
    same = EntropyCurves.from_logits(LogitSet.create([[4.0, 1.0, 0.0]] * 5))
    assert ranking_finding(rank_rules(same, 0.5, resamples=10)).startswith("No rule spreads: every sample has the same")


def test_the_finding_where_the_ratio_fixes_the_entropy():
    """With all other classes equal, every rule that scales with the row gives one entropy; a fixed one does not."""
    rows = np.eye(10)[np.arange(40) % 10] * np.linspace(1, 20, 40)[:, None]
    curves = EntropyCurves.from_logits(LogitSet.create(rows.astype(np.float32)))
    finding = ranking_finding(rank_rules(curves, 0.6, rules=["fixed", "cist", "lskd"], resamples=10, floor=0))
    assert finding == "CIST and LSKD are one rule here and the most consistent: they do not spread at all"
