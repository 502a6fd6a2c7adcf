"""The sentences say what the numbers say, whichever way they go."""

import re

import numpy as np
import pytest
from reference import centred_maximum, entropy_at, entropy_at_cist

from cist_core.compare.findings import (
    are_matched,
    comparison,
    findings_of,
    floor_sentence,
    ratio_sentence,
    rule_label,
    rule_sentences,
    selection_finding,
)
from cist_core.compare.matching import matched_pair
from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.logit_set import LogitSet
from cist_core.temperature import Cist, Fixed, Matched, parse_rule
from cist_core.temperature.readings import read_rule, read_rules
from cist_core.wording import percent, three_digits, times


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


def pair_of(curves: EntropyCurves, tau: float, floor: float = 0.0):
    pair = matched_pair(curves, tau=tau, floor=floor)
    return read_rule(Fixed(pair.tau), curves), read_rule(pair.cist, curves)


def test_headline_names_the_smaller_spread() -> None:
    fixed, cist = pair_of(mixed_scales(), 2.0)
    sentence = comparison(fixed, cist)
    gain = fixed.profile.std / cist.profile.std
    assert gain > 1.1
    assert sentence.startswith(f"CIST's entropies vary {gain:.1f} times less than at τ = 2, at the same mean (")
    assert f"({three_digits(fixed.profile.mean)} nats)" in sentence


def test_headline_turns_against_cist_when_the_data_do() -> None:
    fixed, cist = pair_of(one_scale_many_shapes(), 1.0)
    assert cist.profile.std > 2 * fixed.profile.std
    assert "times more than at τ = 1," in comparison(fixed, cist)


def test_a_selection_is_described_beside_all_samples() -> None:
    curves = mixed_scales()
    fixed, cist = pair_of(curves, 2.0)
    selected = np.arange(curves.num_samples) < 70
    sentence = selection_finding(fixed, cist, selected)
    here, there = (three_digits(reading.entropy[:70].mean()) for reading in (fixed, cist))
    assert sentence.startswith(f"The 70 selected have a mean entropy of {here} nats at τ = 2 and {there} under CIST")
    assert f"all 500 have {three_digits(fixed.entropy.mean())} and" in sentence
    assert selection_finding(fixed, cist, np.zeros(curves.num_samples, bool)) == "No sample is selected"


def test_headline_refuses_to_compare_unmatched_rules() -> None:
    curves = mixed_scales()
    fixed, cist = read_rule(Fixed(0.5), curves), read_rule(Cist(1.0), curves)
    assert not are_matched(fixed.profile, cist.profile)
    assert comparison(fixed, cist).startswith("Not matched")
    assert "times" not in comparison(fixed, cist)


def two_classes(samples: int = 1000, scale: float = 6.0) -> EntropyCurves:
    rng = np.random.default_rng(3)
    return EntropyCurves.from_logits(LogitSet.create(rng.normal(size=(samples, 2)) * scale))


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_with_two_classes_a_smaller_spread_is_no_victory(floor: float) -> None:
    """The soft label of two classes is a winner and a ratio: what shares a ratio is one soft label."""
    curves = two_classes()
    fixed, cist = pair_of(curves, 4.0, floor)
    maximum, rho = curves.statistics.maximum, cist.rule.rho
    share = float(np.mean(maximum > rho * floor))
    assert cist.same_label == pytest.approx(share, abs=0.002)
    assert (share == 1) is (floor == 0)
    labels = np.sort(cist.ratios[maximum > rho * floor])  # and so is the entropy
    assert labels[-1] - labels[0] < 1e-4
    sentence = comparison(fixed, cist)
    assert "times less" not in sentence
    assert f"gives {'all' if share == 1 else percent(cist.same_label)} of the samples the same soft label" in sentence
    (sentence,) = [sentence for sentence in rule_sentences([fixed, cist]) if "two classes" in sentence]
    assert "is lost, so a smaller spread is no gain" in sentence


@pytest.mark.parametrize("rule", ["lskd:tau=2", "normkd:k=2", "matched:H=0.5"])
def test_other_rules_that_leave_one_soft_label_of_two_classes_are_named_too(rule: str) -> None:
    reading = read_rule(parse_rule(rule), two_classes())
    assert reading.same_label > 0.9
    assert rule_sentences([reading])[0].startswith("With two classes")


def test_what_a_fixed_temperature_or_the_floor_keeps_apart_is_not_called_lost() -> None:
    curves = two_classes()
    assert read_rule(Fixed(2.0), curves).same_label == 0
    held = read_rule(Cist(100.0), curves)  # the floor holds on every sample
    assert held.same_label == 0
    assert not [sentence for sentence in rule_sentences([held]) if "two classes" in sentence]
    assert read_rule(Cist(3.0, floor=0), mixed_scales()).same_label == 0


def test_headline_names_the_parameters_of_both_where_asked_to() -> None:
    fixed, cist = pair_of(mixed_scales(), 2.0)
    assert f"{rule_label(cist.rule)}'s entropies vary" in comparison(fixed, cist, in_full=True)


def test_ratio_sentence_tells_what_is_left() -> None:
    fixed, cist = pair_of(mixed_scales(), 2.0)
    share = cist.profile.std**2 / fixed.profile.std**2
    assert f"{share * 100:.1f} %" in ratio_sentence(fixed, cist)


def test_ratio_sentence_says_where_the_floor_lets_go_of_the_ratio() -> None:
    fixed, cist = pair_of(mixed_scales(), 2.0, floor=1.0)
    assert 0 < cist.profile.at_floor < 1
    left = cist.profile.std**2 / fixed.profile.std**2
    assert ratio_sentence(fixed, cist).endswith(
        f"; CIST holds the ratio on {percent(1 - cist.profile.at_floor)} of the samples, and {left * 100:.1f} % of "
        "that variance is left"
    )
    everywhere = read_rule(Cist(1000.0, floor=2.0), mixed_scales())
    assert ratio_sentence(fixed, everywhere).endswith(
        "; under CIST every sample is at the floor of 2, and 100 % of that variance is left"
    )


@pytest.mark.parametrize(
    ("floor", "at_floor", "student", "sentence"),
    [
        (1.0, 0.031, None, "The floor of 1 holds on 3.1 % of the samples"),
        (0.25, 0.0, None, "The floor of 0.25 holds on none of the samples"),
        (1.0, 0.5, None, "The floor of 1 holds on 50.0 % of the samples: there CIST is KD at τ = 1"),
        (2.0, 1.0, None, "The floor of 2 holds on every sample: here CIST is KD at τ = 2"),
        (
            1.0,
            0.031,
            0.62,
            "The floor of 1 holds on 3.1 % of the samples for the teacher and on 62.0 % for the student",
        ),
        (
            1.0,
            0.5,
            1.0,
            "The floor of 1 holds on 50.0 % of the samples for the teacher and on all for the student; where it holds "
            "for both, CIST is KD at τ = 1",
        ),
        (0.0, 0.0, None, "Without a floor every sample has the ratio ρ"),
    ],
)
def test_the_floor_says_on_how_many_samples_it_holds(floor, at_floor, student, sentence) -> None:
    assert floor_sentence(floor, at_floor, student) == sentence


def test_the_sentences_of_several_floors_name_their_rules() -> None:
    curves = mixed_scales()
    alone = rule_sentences([read_rule(rule, curves) for rule in (Fixed(2.0), Cist(3.0))])
    share = percent(float(np.mean(curves.statistics.maximum < 3.0)))
    assert alone == [f"The floor of 1 holds on {share} of the samples: there CIST is KD at τ = 1"]
    both = rule_sentences([read_rule(rule, curves) for rule in (Cist(3.0), Cist(3.0, floor=0))])
    assert both[0] == f"CIST ρ = 3: t{alone[0][1:]}"
    assert both[1] == "CIST ρ = 3, floor = 0: without a floor every sample has the ratio ρ"
    student = EntropyCurves.from_logits(LogitSet.create(np.eye(10)[np.arange(500) % 10]))
    (beside,) = rule_sentences([read_rule(Cist(3.0), curves.beside(student))])
    assert beside.startswith(f"The floor of 1 holds on {share} of the samples for the teacher and on all for the")
    assert rule_sentences([read_rule(Fixed(2.0), curves)]) == []


def test_constant_logits_have_a_sentence_too() -> None:
    curves = EntropyCurves.from_logits(LogitSet.create(np.zeros((5, 3))))
    fixed, cist = read_rule(Fixed(1.0), curves), read_rule(Cist(1.0), curves)
    assert "nothing to explain" in ratio_sentence(fixed, cist)
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
    assert rule_label(parse_rule("cist:rho=3.14,floor=0")) == "CIST ρ = 3.14, floor = 0"
    assert rule_label(Matched(0.6)) == "oracle H = 0.6"
    assert rule_label(parse_rule("lskd")) == "LSKD τ = 2"


def readings_of(logits, *rules):
    curves = EntropyCurves.from_logits(LogitSet.create(logits))
    return read_rules([parse_rule(rule) for rule in rules], curves), curves


def test_unmatched_rules_are_not_compared_and_the_partner_is_named(logits):
    sentences = findings_of(*readings_of(logits, "tau=2", "cist:rho=9"))
    assert len(sentences) == 2
    assert sentences[0].startswith("Not matched: the mean entropy is ")
    assert not any("times less" in sentence or "times more" in sentence for sentence in sentences)
    rho = float(sentences[1].removeprefix("The rho with the mean entropy of τ = 2 is "))
    assert entropy_at_cist(logits, rho).mean() == pytest.approx(entropy_at(logits, 2).mean(), rel=0.01)


@pytest.mark.parametrize(("floor", "said"), [(0, ", without a floor"), (0.5, ", at a floor of 0.5")])
def test_the_partner_of_a_temperature_has_the_floor_of_the_rules_beside_it(logits, floor, said):
    _, partner = findings_of(*readings_of(logits, "tau=1", f"cist:rho=9,floor={floor}"))[:2]
    assert partner.endswith(said)
    rho = float(partner.removeprefix("The rho with the mean entropy of τ = 1 is ").removesuffix(said))
    found = EntropyCurves.from_logits(LogitSet.create(logits)).at_temperature(
        np.maximum(centred_maximum(logits) / rho, floor)
    )
    assert found.mean() == pytest.approx(entropy_at(logits, 1).mean(), rel=0.01)


def test_at_and_below_the_floor_the_partner_says_what_holds(logits):
    _, below = findings_of(*readings_of(logits, "tau=0.5"))
    assert below == (
        "No rho has the mean entropy of τ = 0.5: the floor of CIST is 1, and the rule cist:rho=R,floor=0 has none"
    )
    _, at = findings_of(*readings_of(logits, "tau=1"))
    largest = three_digits(centred_maximum(logits).max())
    assert at == f"The rho with the mean entropy of τ = 1 is {largest}, where every sample is at the floor of 1"
    _, everywhere = findings_of(*readings_of(logits, "cist:rho=500,floor=2"))
    assert everywhere == "The fixed temperature with the mean entropy of CIST ρ = 500, floor = 2 is 2.00"


def test_every_matched_pair_is_compared_and_no_other(logits):
    readings, curves = readings_of(logits, "tau=1", "tau=2", "cist:rho=1", "lskd:tau=2")
    target = readings[1].profile.mean
    rho = min(np.linspace(1, 8, 1401), key=lambda r: abs(entropy_at_cist(logits, r).mean() - target))
    readings, curves = readings_of(logits, "tau=1", "tau=2", f"cist:rho={rho}", f"matched:H={target}")
    sentences = findings_of(readings, curves)
    assert len(sentences) == 1
    assert re.match(
        r"CIST( ρ = [\d.]+)?'s entropies vary (\d+\.\d times (less|more) than|about as much as) at τ = 2, at the",
        sentences[0],
    )


def test_several_matched_pairs_are_told_apart_by_their_parameters(logits):
    rhos = [matched_pair(readings_of(logits, "tau=2")[1], tau=tau).rho for tau in (2, 4)]
    rules = ["tau=2", "tau=4", *(f"cist:rho={rho}" for rho in rhos)]
    sentences = findings_of(*readings_of(logits, *rules))
    assert len(sentences) == 2
    for sentence, tau, rho in zip(sentences, (2, 4), rhos, strict=True):
        assert f"CIST ρ = {rho:.4g}'s entropies vary" in sentence
        assert f"τ = {tau}" in sentence


def test_several_unmatched_rules_are_all_named(logits):
    sentences = findings_of(*readings_of(logits, "tau=2", "tau=4", "cist:rho=9", "cist:rho=12"))
    assert sentences[0] == (
        "Not matched: the mean entropy of τ = 2 or τ = 4 is not that of CIST ρ = 9 or CIST ρ = 12, "
        "so their spreads cannot be compared"
    )
    assert [sentence.partition(" is ")[0] for sentence in sentences[1:]] == [
        "The rho with the mean entropy of τ = 2",
        "The rho with the mean entropy of τ = 4",
    ]


def test_a_single_rule_says_what_it_leaves_and_what_matches_it(logits):
    first, second = findings_of(*readings_of(logits, "cist:rho=3"))
    assert first.startswith("CIST ρ = 3 leaves")
    tau = float(second.removeprefix("The fixed temperature with the mean entropy of CIST ρ = 3 is "))
    assert entropy_at(logits, tau).mean() == pytest.approx(entropy_at_cist(logits, 3).mean(), rel=0.01)
    assert len(findings_of(*readings_of(logits, "normkd"))) == 1


def test_without_a_fixed_temperature_the_first_rule_is_the_base(logits):
    sentences = findings_of(*readings_of(logits, "cist:rho=3", "cist:rho=4", "normkd:k=40"))
    assert sentences[0].startswith("Not matched")
    assert "NormKD" in sentences[0]
