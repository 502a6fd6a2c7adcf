"""Temperature rules against the published formulas, written out in float64 NumPy."""

import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import centred_maximum, entropy_at, hard_rows

from cist_core import (
    Cist,
    CistError,
    EntropyCurves,
    Fixed,
    LogitSet,
    Lskd,
    Matched,
    NormKd,
    TemperatureRule,
    parse_rule,
    read_logits,
    register_rule,
    rule_names,
)
from cist_core import temperature as temperature_module
from cist_core.findings import rule_label

ALL = [Fixed(4), Cist(3), Lskd(), NormKd(), Matched(0.6)]


def curves_of(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


@pytest.fixture
def curves(logits):
    return curves_of(logits)


def test_fixed_is_the_same_for_every_sample(curves):
    np.testing.assert_array_equal(Fixed(2.5).temperatures(curves), np.full(300, 2.5))


def test_cist_divides_the_centred_maximum_by_rho(curves, logits):
    rule = Cist(3)
    np.testing.assert_allclose(rule.temperatures(curves), centred_maximum(logits) / 3, rtol=1e-5)
    np.testing.assert_allclose(rule.ratios(curves), 3, rtol=1e-12)


def test_lskd_is_the_sample_deviation_times_tau(curves, logits):
    z = logits.astype(np.float64)
    expected = (np.sqrt(((z - z.mean(1, keepdims=True)) ** 2).sum(1) / 9) + 1e-7) * 2
    np.testing.assert_allclose(Lskd().temperatures(curves), expected, rtol=1e-5)
    np.testing.assert_allclose(Lskd(tau=3).temperatures(curves), expected * 1.5, rtol=1e-5)


def test_normkd_is_the_sample_deviation_times_k(curves, logits):
    expected = logits.astype(np.float64).std(axis=1, ddof=1) * 2
    np.testing.assert_allclose(NormKd().temperatures(curves), expected, rtol=1e-5)
    np.testing.assert_allclose(NormKd(k=0.5).temperatures(curves), expected / 4, rtol=1e-5)


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_the_entropy_of_a_rule_is_that_of_its_temperatures(curves, logits, rule):
    expected = entropy_at(logits, rule.temperatures(curves))
    np.testing.assert_allclose(rule.entropy(curves), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_ratios_are_the_centred_maximum_over_the_temperature(curves, logits, rule):
    expected = centred_maximum(logits) / rule.temperatures(curves)
    np.testing.assert_allclose(rule.ratios(curves), expected, rtol=1e-5)


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_adding_a_constant_to_the_logits_changes_no_temperature(logits, rule):
    logits = np.round(logits * 256) / np.float32(256)  # so that the sums are exact
    moved, still = rule.temperatures(curves_of(logits + np.float32(64))), rule.temperatures(curves_of(logits))
    np.testing.assert_allclose(moved, still, rtol=2e-5)


@pytest.mark.parametrize("rule", [rule for rule in ALL if not isinstance(rule, Fixed)], ids=str)
def test_rules_of_the_sample_scale_with_the_logits(curves, logits, rule):
    scaled = curves_of(logits * np.float32(8))
    np.testing.assert_allclose(rule.temperatures(scaled), 8 * rule.temperatures(curves), rtol=2e-4)


@pytest.mark.parametrize("rule", ALL, ids=str)
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_no_row_gives_a_temperature_that_is_not_positive_and_finite(rule, classes):
    curves = curves_of(hard_rows(classes))
    temperatures = rule.temperatures(curves)
    assert temperatures.shape == (curves.num_samples,)
    assert np.all(np.isfinite(temperatures) & (temperatures > 0))
    entropy = rule.entropy(curves)
    assert np.all((entropy >= 0) & (entropy <= curves.max_entropy + 1e-5))


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_a_constant_row_has_the_largest_entropy(rule):
    curves = curves_of(np.array([[7.0] * 5, [9.0, 1.0, 0.0, 0.0, 0.5]], np.float32))
    assert rule.entropy(curves)[0] == pytest.approx(math.log(5), abs=1e-6)
    assert rule.ratios(curves)[0] == 0


@pytest.mark.parametrize("H", [0.01, 0.3, 1.0, 2.2])
def test_the_oracle_gives_every_sample_the_wanted_entropy(logits, H):
    curves = curves_of(logits)
    rule = Matched(H)
    np.testing.assert_allclose(entropy_at(logits, rule.temperatures(curves)), H, rtol=0, atol=1e-4)


def test_the_oracle_on_real_logits(shared_file):
    for name in ("cifar10_resnet56_test_logits.npz", "imagenet1k_sample_efflite0_logits.npz"):
        logit_set = read_logits(shared_file(name))
        temperatures = Matched(0.6).temperatures(EntropyCurves.from_logits(logit_set))
        np.testing.assert_allclose(entropy_at(logit_set.logits, temperatures), 0.6, rtol=0, atol=1e-4)


def test_the_oracle_comes_as_close_as_a_tie_allows():
    tied = np.array([[4.0, 4.0, 4.0, 0.0, 0.0]], np.float32)
    entropy = Matched(0.5).entropy(curves_of(tied))
    assert entropy[0] == pytest.approx(math.log(3), abs=1e-4)


def test_the_oracle_from_a_stream(logits):
    streamed = EntropyCurves.from_chunks([logits])
    reachable = entropy_at(logits, centred_maximum(logits) / 16).max()
    wanted = reachable + 0.05
    assert wanted < math.log(10)
    entropy = entropy_at(logits, Matched(wanted).temperatures(streamed))
    np.testing.assert_allclose(entropy, wanted, rtol=0, atol=3e-4)
    with pytest.raises(
        CistError, match=r"H = 0\.01 nats only beyond the table of this stream; choose a larger H, or load"
    ):
        Matched(0.01).temperatures(streamed)


def test_the_oracle_refuses_an_entropy_that_no_row_can_have(curves):
    with pytest.raises(
        CistError, match=r"'matched:H=2\.4' to be below ln C = 2\.3026 nats for 10 classes; choose a smaller"
    ):
        Matched(2.4).temperatures(curves)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("tau=4", Fixed(4)),
        (" tau = 4.0 ", Fixed(4)),
        ("fixed:tau=4", Fixed(4)),
        ("cist:rho=3", Cist(3)),
        (" cist: rho = 3e0 ", Cist(3)),
        ("lskd", Lskd(2)),
        ("lskd:tau=2.5", Lskd(2.5)),
        ("normkd:k=2", NormKd(2)),
        ("matched:H=0.6", Matched(0.6)),
    ],
)
def test_rules_are_read_from_text(text, rule):
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Fixed(4), "tau=4"),
        (Fixed(0.5), "tau=0.5"),
        (Cist(3.0), "cist:rho=3"),
        (Cist(1e-3), "cist:rho=0.001"),
        (Cist(np.float32(2.5)), "cist:rho=2.5"),
        (Lskd(), "lskd:tau=2"),
        (NormKd(k=np.int64(3)), "normkd:k=3"),
        (Matched(0.6), "matched:H=0.6"),
    ],
)
def test_rules_are_written_in_one_form(rule, text):
    assert str(rule) == text


@given(
    st.sampled_from([Fixed, Cist, Lskd, NormKd, Matched]),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False),
)
def test_what_is_written_reads_back_as_the_same_rule(rule_class, value):
    rule = rule_class(value)
    assert parse_rule(str(rule)) == rule
    assert str(parse_rule(str(rule))) == str(rule)


EXAMPLES = re.escape("cist:rho=..., tau=..., lskd:tau=..., matched:H=..., normkd:k=...")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("softmax:tau=4", f"There is no temperature rule 'softmax' in 'softmax:tau=4'; known are {EXAMPLES}"),
        ("", f"There is no temperature rule '' in ''; known are {EXAMPLES}"),
        ("tau", "There is no temperature rule 'tau' in 'tau'"),
        ("cist", "The rule 'cist' in 'cist' lacks rho; write one of cist:rho"),
        ("cist:", "The rule 'cist' in 'cist:' lacks rho"),
        ("cist:tau=4", "The rule 'cist' has no parameter 'tau' in 'cist:tau=4'; write one of cist:rho"),
        ("cist:3", "The rule 'cist' has no parameter '3'"),
        ("rho=3", "The rule 'fixed' has no parameter 'rho' in 'rho=3'; write one of cist:rho"),
        ("tau=", "Expected tau in 'tau=' to be a positive number, but got ''"),
        ("tau=four", "Expected tau in 'tau=four' to be a positive number, but got 'four'"),
        ("tau=4,tau=5", "The parameter 'tau' stands twice in 'tau=4,tau=5'; give it one value"),
        ("tau=0", "Expected tau of the rule 'fixed' to be a positive number, but got 0"),
        ("tau=-1", "Expected tau of the rule 'fixed' to be a positive number, but got -1"),
        ("tau=nan", "Expected tau of the rule 'fixed' to be a positive number, but got nan"),
        ("cist:rho=inf", "Expected rho of the rule 'cist' to be a positive number, but got inf"),
    ],
)
def test_bad_rules_are_refused_with_what_would_do(text, message):
    with pytest.raises(CistError, match=message):
        parse_rule(text)


@pytest.mark.parametrize("value", ["4", None, 0, -1.0, math.nan, math.inf, [4]])
def test_bad_parameters_are_refused_in_code_as_well(value):
    with pytest.raises(CistError, match="Expected rho of the rule 'cist' to be a positive number"):
        Cist(value)


@pytest.fixture
def registry(monkeypatch):
    """The known rules, restored after the test."""
    monkeypatch.setattr(temperature_module, "_RULES", dict(temperature_module._RULES))


@pytest.mark.usefixtures("registry")
def test_a_rule_of_ones_own(curves, logits):
    @register_rule("gap")
    @dataclass(frozen=True)
    class Gap(TemperatureRule):
        slope: float = 1.0
        base: float = 0.5

        def temperatures(self, curves):
            return self.slope * curves.statistics.gap + self.base

    rule = parse_rule("gap:slope=2")
    assert rule == Gap(2.0)
    assert str(rule) == "gap:slope=2,base=0.5"
    assert parse_rule(str(rule)) == rule
    assert "gap" in rule_names()
    ordered = np.sort(logits, axis=1)
    np.testing.assert_allclose(rule.temperatures(curves), 2 * (ordered[:, -1] - ordered[:, -2]) + 0.5, rtol=1e-5)
    with pytest.raises(CistError, match=re.escape("gap:slope=...,base=...")):
        parse_rule("none")


@pytest.mark.usefixtures("registry")
def test_a_rule_without_parameters_is_its_name(curves):
    @register_rule("gapless")
    @dataclass(frozen=True)
    class Gapless(TemperatureRule):
        def temperatures(self, curves):
            return np.ones(curves.num_samples)

    assert str(Gapless()) == "gapless"
    assert parse_rule("gapless") == Gapless()
    assert rule_label(Gapless()) == "gapless"


@pytest.mark.usefixtures("registry")
def test_a_name_belongs_to_one_rule():
    with pytest.raises(ValueError, match=r"The rule name 'cist' belongs to cist_core.temperature.Cist already"):

        @register_rule("cist")
        @dataclass(frozen=True)
        class Other(TemperatureRule):
            def temperatures(self, curves):
                return np.ones(curves.num_samples)

    assert parse_rule("cist:rho=3") == Cist(3)
    assert register_rule("cist")(Cist) is Cist  # a module that is loaded twice registers twice


def test_the_built_in_rules_have_their_names():
    assert {"fixed", "cist", "lskd", "normkd", "matched"} <= set(rule_names())
