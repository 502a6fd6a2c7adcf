"""Temperature rules against the published formulas, written out in float64 NumPy."""

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import centred_maximum, cist_temperatures, entropy_at, hard_rows

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
from cist_core.compare.findings import rule_label, rule_name
from cist_core.temperature import Dtkd, rule_class, rules

ALL = [Fixed(4), Cist(3), Cist(3, floor=0), Lskd(), NormKd(), Matched(0.6)]


def curves_of(logits):
    return EntropyCurves.from_logits(LogitSet.create(logits))


@pytest.fixture
def curves(logits):
    return curves_of(logits)


def test_fixed_is_the_same_for_every_sample(curves):
    np.testing.assert_array_equal(Fixed(2.5).temperatures(curves), np.full(300, 2.5))


def test_cist_without_a_floor_divides_the_centred_maximum_by_rho(curves, logits):
    rule = Cist(3, floor=0)
    np.testing.assert_allclose(rule.temperatures(curves), centred_maximum(logits) / 3, rtol=1e-5)
    np.testing.assert_allclose(rule.ratios(curves), 3, rtol=1e-12)
    assert not rule.at_floor(curves).any()


@pytest.mark.parametrize(("floor", "binds"), [(0.05, "nowhere"), (1.0, "somewhere"), (100.0, "everywhere")])
def test_no_temperature_of_cist_falls_below_its_floor(curves, logits, floor, binds):
    """``tau_i = max(m_i / rho, floor)``, so that ``r_i = min(rho, m_i / floor)``."""
    rule, maximum = Cist(3, floor), centred_maximum(logits)
    np.testing.assert_allclose(rule.temperatures(curves), np.maximum(maximum / 3, floor), rtol=1e-6)
    np.testing.assert_allclose(rule.ratios(curves), np.minimum(3, maximum / floor), rtol=1e-6)
    np.testing.assert_array_equal(rule.at_floor(curves), maximum / 3 < floor)
    share = rule.at_floor(curves).mean()
    assert binds == {0: "nowhere", 1: "everywhere"}.get(share, "somewhere")


@pytest.mark.parametrize("rho", [2.91, 3.37, 4.13])
def test_above_its_floor_cist_has_one_ratio_to_the_last_bit(curves, rho):
    """Of ``m / (m / rho)`` the rounding would give ranks their order."""
    rule = Cist(rho)
    above = ~rule.at_floor(curves)
    assert 0 < above.sum() < 300
    assert set(rule.ratios(curves)[above].tolist()) == {rho}
    np.testing.assert_allclose(rule.ratios(curves), curves.statistics.maximum / rule.temperatures(curves), rtol=1e-12)


def test_the_floor_of_cist_is_one_unless_another_is_named(curves, logits):
    assert Cist(3) == Cist(3, floor=1)
    maximum = centred_maximum(logits)
    assert 0 < np.sum(maximum < 3) < 300
    np.testing.assert_allclose(Cist(3).temperatures(curves), np.maximum(maximum / 3, 1), rtol=1e-6)


def test_at_the_floor_cist_is_the_fixed_temperature(curves):
    np.testing.assert_allclose(Cist(1e6, floor=2).entropy(curves), Fixed(2).entropy(curves), rtol=0, atol=1e-5)
    assert Cist(1e6, floor=2).at_floor(curves).all()


def test_rules_without_a_floor_are_nowhere_at_it(curves):
    for rule in (Fixed(4), Lskd(), NormKd(), Matched(0.6)):
        assert not rule.at_floor(curves).any()
        assert rule.student_at_floor(curves) is None
        assert not rule.student_at_floor(curves.beside(curves)).any()


def test_the_student_beside_has_a_floor_of_its_own(curves, logits):
    student = curves_of(logits / 2)
    assert Cist(3).student_at_floor(curves) is None
    joined = curves.beside(student)
    np.testing.assert_array_equal(Cist(3).student_at_floor(joined), centred_maximum(logits / 2) < 3)
    np.testing.assert_array_equal(Cist(3).at_floor(joined), Cist(3).at_floor(curves))


@pytest.mark.parametrize("floor", [0.0, 0.5, 1.0, 3.0])
def test_closed_forms_of_cist_with_a_floor(floor):
    """Two classes, and rows whose other classes are equal, at the ratio ``min(rho, m / floor)``."""
    pairs = np.array([[6.0, 0.0], [0.0, 3.0], [0.5, 0.0]])
    ratio = np.minimum(2.0, pairs.max(1) / 2 / floor) if floor else np.full(3, 2.0)
    p = 1 / (1 + np.exp(-2 * ratio))
    expected = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    np.testing.assert_allclose(Cist(2, floor).entropy(curves_of(pairs)), expected, rtol=0, atol=1e-6)
    tops = np.array([12.0, 6.0, 2.0, 0.1])
    rows = np.zeros((4, 7))
    rows[:, 2] = tops
    m = tops * 6 / 7
    ratio = np.minimum(2.0, m / floor) if floor else np.full(4, 2.0)
    odds = 6 * np.exp(-ratio * 7 / 6)  # against the top class
    expected = np.log1p(odds) + odds / (1 + odds) * ratio * 7 / 6
    np.testing.assert_allclose(Cist(2, floor).entropy(curves_of(rows)), expected, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize("rule", [rule for rule in ALL if rule not in (Fixed(4), Cist(3))], ids=str)
def test_rules_of_the_sample_scale_with_the_logits(curves, logits, rule):
    scaled = curves_of(logits * np.float32(8))
    np.testing.assert_allclose(rule.temperatures(scaled), 8 * rule.temperatures(curves), rtol=2e-4)


def test_the_floor_does_not_scale_with_the_logits(curves, logits):
    """Larger logits leave it behind; that is what holds a student's scale from below."""
    scaled = curves_of(logits * np.float32(8))
    np.testing.assert_allclose(Cist(3, floor=8).temperatures(scaled), 8 * Cist(3).temperatures(curves), rtol=1e-6)
    assert Cist(3).at_floor(scaled).sum() < Cist(3).at_floor(curves).sum()


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


@pytest.mark.parametrize("rho", [0.5, 3.0, 15.0])
@pytest.mark.parametrize("floor", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_cist_on_hard_rows_is_that_of_scipy(classes, floor, rho):
    rows = hard_rows(classes)
    rule, curves = Cist(rho, floor), curves_of(rows)
    np.testing.assert_allclose(rule.temperatures(curves), cist_temperatures(rows, rho, floor), rtol=1e-5, atol=2e-6)
    # Above the guard of 1e-6 the entropy is that of the formula, floor or not.
    exact = entropy_at(rows, cist_temperatures(rows, rho, floor))
    np.testing.assert_allclose(rule.entropy(curves), exact, rtol=0, atol=1e-4)


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
        CistError, match=r"H = 0\.01 nats only beyond the table of these curves; choose a larger H, or load"
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
        ("cist:rho=3,floor=1", Cist(3)),
        ("cist:rho=3,floor=0", Cist(3, floor=0)),
        ("cist: floor=0.5, rho=3", Cist(3, floor=0.5)),
        (" cist: rho = 3e0 ", Cist(3)),
        ("lskd", Lskd(2)),
        ("lskd:tau=2.5", Lskd(2.5)),
        ("normkd:k=2", NormKd(2)),
        ("dtkd", Dtkd(4)),
        ("dtkd:tau=2", Dtkd(2)),
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
        (Cist(3, floor=1.0), "cist:rho=3"),
        (Cist(3, floor=0), "cist:rho=3,floor=0"),
        (Cist(3, floor=np.float32(0.5)), "cist:rho=3,floor=0.5"),
        (Cist(np.float32(2.5)), "cist:rho=2.5"),
        (Lskd(), "lskd:tau=2"),
        (NormKd(k=np.int64(3)), "normkd:k=3"),
        (Matched(0.6), "matched:H=0.6"),
    ],
)
def test_rules_are_written_in_one_form(rule, text):
    assert str(rule) == text


@given(
    st.sampled_from([Fixed, Cist, Lskd, NormKd, Dtkd, Matched]),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False),
    st.floats(min_value=0, allow_infinity=False, allow_nan=False),
)
def test_what_is_written_reads_back_as_the_same_rule(rule_class, value, floor):
    rule = Cist(value, floor) if rule_class is Cist else rule_class(value)
    assert parse_rule(str(rule)) == rule
    assert str(parse_rule(str(rule))) == str(rule)


EXAMPLES = re.escape("cist:rho=...,floor=..., dtkd:tau=..., tau=..., lskd:tau=..., matched:H=..., normkd:k=...")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("softmax:tau=4", f"There is no temperature rule 'softmax' in 'softmax:tau=4'; known are {EXAMPLES}"),
        ("", f"There is no temperature rule '' in ''; known are {EXAMPLES}"),
        ("tau", "There is no temperature rule 'tau' in 'tau'"),
        ("cist", "The rule 'cist' needs rho; write for example 'cist:rho=...'"),
        ("cist:", "The rule 'cist' needs rho"),
        ("cist:tau=4", "The rule 'cist' has no parameter 'tau'; it knows rho, floor"),
        ("cist:3", "The rule 'cist' has no parameter '3'"),
        ("rho=3", "The rule 'fixed' has no parameter 'rho' in 'rho=3'; write one of cist:rho"),
        ("tau=", "Expected tau of the rule 'fixed' to be a positive number, but got ''"),
        ("tau=four", "Expected tau of the rule 'fixed' to be a positive number, but got 'four'"),
        ("tau=4,tau=5", "The parameter 'tau' of the rule 'fixed' stands twice; give it one value"),
        ("tau=0", "Expected tau of the rule 'fixed' to be a positive number, but got '0'"),
        ("tau=-1", "Expected tau of the rule 'fixed' to be a positive number, but got '-1'"),
        ("tau=nan", "Expected tau of the rule 'fixed' to be a positive number, but got 'nan'"),
        ("cist:rho=3,floor=-1", "Expected floor of the rule 'cist' to be 0 or a positive number, but got '-1'"),
        ("cist:rho=3,floor=low", "Expected floor of the rule 'cist' to be 0 or a positive number, but got 'low'"),
        ("cist:floor=1", "The rule 'cist' needs rho"),
        ("cist:rho=3,flor=1", "The rule 'cist' has no parameter 'flor'; it knows rho, floor. Did you mean 'floor'?"),
        ("cits:rho=3", "known are .* Did you mean 'cist'?"),
        ("cist:rho=inf", "Expected rho of the rule 'cist' to be a positive number, but got 'inf'"),
    ],
)
def test_bad_rules_are_refused_with_what_would_do(text, message):
    with pytest.raises(CistError, match=message):
        parse_rule(text)


@pytest.mark.parametrize("value", ["4", None, 0, -1.0, math.nan, math.inf, [4]])
def test_bad_parameters_are_refused_in_code_as_well(value):
    with pytest.raises(CistError, match="Expected rho of the rule 'cist' to be a positive number"):
        Cist(value)


@pytest.mark.usefixtures("own_rules")
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


@pytest.mark.usefixtures("own_rules")
def test_a_rule_without_parameters_is_its_name(curves):
    @register_rule("gapless")
    @dataclass(frozen=True)
    class Gapless(TemperatureRule):
        def temperatures(self, curves):
            return np.ones(curves.num_samples)

    assert str(Gapless()) == "gapless"
    assert parse_rule("gapless") == Gapless()
    assert rule_label(Gapless()) == "gapless"


@pytest.mark.usefixtures("own_rules")
def test_a_name_belongs_to_one_rule():
    with pytest.raises(
        ValueError, match=r"The rule name 'cist' belongs to cist_core.temperature.rules.cist.Cist already"
    ):

        @register_rule("cist")
        @dataclass(frozen=True)
        class Other(TemperatureRule):
            def temperatures(self, curves):
                return np.ones(curves.num_samples)

    assert parse_rule("cist:rho=3") == Cist(3)
    assert register_rule("cist")(Cist) is Cist  # a module that is loaded twice registers twice


def test_a_label_names_the_floor_only_where_it_is_not_the_default():
    assert rule_label(Cist(3)) == "CIST ρ = 3"
    assert rule_label(Cist(3, floor=0)) == "CIST ρ = 3, floor = 0"
    assert rule_label(Cist(3, floor=0.5)) == "CIST ρ = 3, floor = 0.5"


def test_the_built_in_rules_have_their_names():
    assert {"fixed", "cist", "lskd", "normkd", "dtkd", "matched"} <= set(rule_names())
    assert rule_class("lskd") is Lskd
    with pytest.raises(CistError, match=f"There is no temperature rule 'none'; known are {EXAMPLES}"):
        rule_class("none")


def test_every_file_in_the_folder_of_rules_registers_one_with_its_words_for_the_screen():
    files = {path.stem for path in Path(rules.__file__).parent.glob("*.py")} - {"__init__"}
    built_in = [rule_class(name) for name in rule_names()]
    homes = {rule.__module__.rpartition(".")[2] for rule in built_in if rule.__module__.startswith(rules.__name__)}
    assert homes == files
    labels = [rule_name(rule) for rule in (Fixed(4), Cist(3), Lskd(), NormKd(), Dtkd(), Matched(0.6))]
    assert labels == ["fixed τ", "CIST", "LSKD", "NormKD", "DTKD", "oracle"]


@pytest.mark.usefixtures("own_rules")
def test_a_rule_is_one_new_file(tmp_path, monkeypatch):
    """The label on screen, the text of links and the parsing all come from that file."""
    (tmp_path / "spread_rule.py").write_text(
        """
from dataclasses import dataclass
from typing import ClassVar

from cist_core.temperature import TemperatureRule, register_rule

@register_rule("gap-times")
@dataclass(frozen=True)
class GapTimes(TemperatureRule):
    label: ClassVar[str] = "Gap"
    slope: float = 1.0

    def temperatures(self, curves):
        return self.slope * (curves.statistics.gap + 1)
"""
    )
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(tmp_path)])
    exec(Path(rules.__file__).read_text(), {"__name__": rules.__name__, "__path__": [str(tmp_path)]})
    assert rule_label(parse_rule("gap-times:slope=3")) == "Gap slope = 3"
    sys.modules.pop(f"{rules.__name__}.spread_rule")


def pair_of_rows():
    """A teacher and a student: ordinary rows, negative and zero maxima on either side, and constant ones."""
    rng = np.random.default_rng(4)
    teacher, student = (rng.standard_normal((60, 6)).astype(np.float32) * scale for scale in (5, 2))
    teacher[:10] -= 40  # every logit negative
    student[5:15] -= 40
    teacher[15:20] -= teacher[15:20].max(axis=1, keepdims=True)  # stored less the row maximum
    teacher[20:25], student[23:28] = 3.0, 0.0  # constant rows, three of them on both sides
    teacher[28:30] = -3.0
    student[29] = -1.0
    return teacher, student


def test_dtkd_shares_out_twice_the_temperature_by_the_raw_maxima():
    teacher, student = pair_of_rows()
    usual = (teacher.max(1) > 0) & (student.max(1) > 0)
    assert 30 < usual.sum() < 50
    a, b = teacher.max(1).astype(np.float64), student.max(1).astype(np.float64)
    given = Dtkd(tau=3).temperatures(curves_of(teacher).beside(curves_of(student)))
    np.testing.assert_allclose(given[usual], (2 * 3 * a / (a + b))[usual], rtol=1e-6)
    swapped = Dtkd(tau=3).temperatures(curves_of(student).beside(curves_of(teacher)))
    np.testing.assert_allclose((given + swapped)[usual], 6, rtol=1e-6)


def test_dtkd_gives_the_temperatures_of_training():
    torch = pytest.importorskip("torch")

    from cist_core.objectives import Batch

    teacher, student = pair_of_rows()
    batch = Batch.create(
        student_logits=torch.tensor(student), teacher_logits=torch.tensor(teacher), labels=torch.zeros(60, dtype=int)
    )
    expected, _ = Dtkd(tau=4).torch_pair(batch.teacher, batch.student)
    given = Dtkd(tau=4).temperatures(curves_of(teacher).beside(curves_of(student)))
    np.testing.assert_allclose(given, expected.numpy(), rtol=1e-5)
    assert (given[23:25] == 4).all()  # constant on both sides: the base temperature


def test_dtkd_says_that_it_needs_a_student(curves):
    with pytest.raises(CistError, match=r"'dtkd:tau=4' needs a student .*; choose one \(--student"):
        Dtkd().temperatures(curves)


def test_curves_join_a_student_of_the_same_samples_and_stay_as_they_are(curves, logits):
    student = curves_of(logits[:, ::-1] / 2)
    joined = curves.beside(student)
    assert joined.student is student.statistics
    assert curves.student is None
    np.testing.assert_array_equal(joined.at_ratio(3.0), curves.at_ratio(3.0))
    with pytest.raises(CistError, match=r"on the teacher's 300 samples, but got 299; use the same data and split"):
        curves.beside(curves_of(logits[:-1]))
