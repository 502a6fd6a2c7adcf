"""The sentences say what the numbers say, whichever way they go."""

import numpy as np
import pytest

from cist_core.curves import EntropyCurves
from cist_core.findings import are_matched, comparison, percent, ratio_story, rule_label, three_digits, times
from cist_core.logits import LogitSet
from cist_core.readings import read_rule
from cist_core.rho import matched_pair
from cist_core.temperature import Cist, Fixed, Matched, parse_rule


def mixed_scales(samples: int = 500, classes: int = 10) -> EntropyCurves:
    """One shape, many scales: what CIST is for."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(samples, classes)) * rng.uniform(0.5, 8.0, (samples, 1))
    return EntropyCurves.from_logits(LogitSet.create(logits))


def one_scale_many_shapes(samples: int = 500) -> EntropyCurves:
    """One entropy at one temperature, many centred maxima: what CIST is not for."""
    rng = np.random.default_rng(2)
    logits = np.zeros((samples, 4))
    logits[:, 0] = rng.uniform(1.9, 2.1, samples)
    logits[:, 3] = -rng.uniform(8, 400, samples)  # no probability, but it moves the mean
    return EntropyCurves.from_logits(LogitSet.create(logits))


def pair_of(curves: EntropyCurves, tau: float):
    pair = matched_pair(curves, tau=tau)
    return read_rule(Fixed(pair.tau), curves), read_rule(Cist(pair.rho), curves)


def test_headline_names_the_smaller_spread() -> None:
    fixed, cist = pair_of(mixed_scales(), 2.0)
    sentence = comparison(fixed, cist)
    gain = fixed.profile.std / cist.profile.std
    assert gain > 1.1
    assert f"{gain:.1f} times less than τ = 2" in sentence
    assert sentence.startswith("At the same mean entropy")


def test_headline_turns_against_cist_when_the_data_do() -> None:
    fixed, cist = pair_of(one_scale_many_shapes(), 1.0)
    assert cist.profile.std > 2 * fixed.profile.std
    assert "times more than τ = 1" in comparison(fixed, cist)


def test_headline_refuses_to_compare_unmatched_rules() -> None:
    curves = mixed_scales()
    fixed, cist = read_rule(Fixed(0.5), curves), read_rule(Cist(1.0), curves)
    assert not are_matched(fixed.profile, cist.profile)
    assert comparison(fixed, cist).startswith("Not matched")
    assert "times" not in comparison(fixed, cist)


def test_headline_names_the_parameters_of_both_where_asked_to() -> None:
    fixed, cist = pair_of(mixed_scales(), 2.0)
    assert f"{rule_label(cist.rule)} spreads" in comparison(fixed, cist, in_full=True)


def test_ratio_story_tells_what_is_left() -> None:
    fixed, cist = pair_of(mixed_scales(), 2.0)
    share = cist.profile.std**2 / fixed.profile.std**2
    assert f"{share * 100:.1f} %" in ratio_story(fixed, cist)


def test_constant_logits_have_a_story_too() -> None:
    curves = EntropyCurves.from_logits(LogitSet.create(np.zeros((5, 3))))
    fixed, cist = read_rule(Fixed(1.0), curves), read_rule(Cist(1.0), curves)
    assert "nothing to explain" in ratio_story(fixed, cist)
    assert comparison(fixed, cist)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.6034, "0.603"),
        (12.0, "12.0"),
        (1234.5, "1,230"),
        (0.000012, "1.20e-05"),
        (0.9999, "1.00"),
        (-2.5, "-2.50"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


@pytest.mark.parametrize(("factor", "text"), [(1.26, "1.3"), (12, "12.0"), (99.94, "99.9"), (1234.5, "1,234")])
def test_times(factor: float, text: str) -> None:
    assert times(factor) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.00004, "< 0.01 %"),
        (0.0014, "0.14 %"),
        (0.9996, "> 99.9 %"),
        (0.123456, "12.3 %"),
    ],
)
def test_percent_never_rounds_some_to_none_or_all(share: float, text: str) -> None:
    assert percent(share) == text


def test_rule_labels_use_the_fields_words() -> None:
    assert rule_label(parse_rule("tau=4")) == "τ = 4"
    assert rule_label(parse_rule("cist:rho=3.14")) == "CIST ρ = 3.14"
    assert rule_label(Matched(0.6)) == "oracle H = 0.6"
    assert rule_label(parse_rule("lskd")) == "LSKD τ = 2"
