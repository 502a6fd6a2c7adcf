"""Sentences computed from the data: the titles of the charts, the same in the app, the report and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cist_core.compare.matching import matched_pair
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature import CIST_FLOOR, Cist, Fixed, Matched, TemperatureRule
from cist_core.temperature.profile import EntropyProfile
from cist_core.temperature.readings import RuleReading
from cist_core.wording import how_many, percent, percent_of, three_digits, times

NO_SPREAD = 1e-4
"""A spread below this, in nats, is rounding: the kernels are exact to about that."""

ABOUT_AS_MUCH = (0.95, 1.05)
"""A consistency gain between these is no difference worth words."""

MANY_AT_FLOOR = 0.1
"""From this share of the samples on it is worth saying what CIST is at its floor."""

NOTHING_SELECTED = "No sample is selected"

_GREEK = {"tau": "τ", "rho": "ρ"}


def rule_label(rule: TemperatureRule) -> str:
    """The rule as a person reads it: ``τ = 4``, ``CIST ρ = 3``, ``CIST ρ = 3, floor = 0``, ``oracle H = 0.6``.

    A floor stands in it only where it is not the default of 1.
    """
    parameters = ", ".join(f"{_GREEK.get(name, name)} = {value:.4g}" for name, value in rule.written.items())
    return parameters if isinstance(rule, Fixed) else f"{rule_name(rule)} {parameters}".rstrip()


def rule_name(rule: TemperatureRule) -> str:
    """The rule's name without its parameters: ``fixed τ``, ``CIST``, ``oracle``; a rule of one's own as registered."""
    return rule.label or rule.name


def are_matched(a: EntropyProfile, b: EntropyProfile) -> bool:
    """Whether two rules have the same mean entropy, up to what a slider step of 0.01 can express."""
    return abs(a.mean - b.mean) <= 0.002 + 0.02 * min(a.mean, b.mean)


def consistency_gain(fixed: EntropyProfile, other: EntropyProfile) -> float | None:
    """``std(H | fixed) / std(H | other)``; None where the other spread is nothing but rounding."""
    return fixed.std / other.std if other.std >= NO_SPREAD else None


HEADLINES = {
    "unmatched": (
        "Not matched: the mean entropy is {mean} nats under {first} and {other_mean} under {second}, so their spreads "
        "cannot be compared"
    ),
    "one label": (
        "With two classes {second} gives {alike} of the samples the same soft label up to the winner: less spread is "
        "less information here"
    ),
    "less": "{second}'s entropies vary {times} times less than at {first}, at the same mean ({mean} nats)",
    "more": "{second}'s entropies vary {times} times more than at {first}, at the same mean ({mean} nats)",
    "level": "{second}'s entropies vary about as much as at {first}, at the same mean ({mean} nats)",
    "second only": "{second}'s entropies vary by {other_spread} nats; at {first} all are the same ({mean} nats)",
    "first only": "{second} gives every sample the same entropy ({mean} nats); at {first} they vary by {spread} nats",
    "neither": "{second} and {first} both give every sample the same entropy ({mean} nats)",
}
"""What `comparison` can say, by `headline_kind`; the report fills the same blanks in the browser."""


def comparison(fixed: RuleReading, other: RuleReading, *, in_full: bool = False) -> str:
    """The headline: which of two rules has the smaller spread, by how much, and whether that can be compared.

    With two classes a rule that holds the ratio gives one soft label up to the winner; that is said in place of a gain.

    Args:
        fixed: the rule to compare with.
        other: the rule that is compared.
        in_full: name both with their parameters, where CIST alone could be several rules.
    """
    a, b = fixed.profile, other.profile
    name = rule_label if in_full else _short
    kind = headline_kind(a, b, other.same_label)
    gain = a.std / b.std if kind in ("less", "more") else 1.0
    sentence = HEADLINES[kind].format(
        first=name(fixed.rule),
        second=name(other.rule),
        mean=three_digits(a.mean),
        other_mean=three_digits(b.mean),
        spread=three_digits(a.std),
        other_spread=three_digits(b.std),
        times=times(max(gain, 1 / gain)),
        alike=how_many(other.same_label),
    )
    return f"T{sentence[1:]}" if sentence.startswith("the ") else sentence  # the oracle has an article


def selection_finding(fixed: RuleReading, other: RuleReading, selected: NDArray[np.bool_]) -> str:
    """What two rules make of the selected samples, beside all of them; no full stop.

    Args:
        fixed: the rule to compare with.
        other: the rule that is compared.
        selected: mask of the samples, ``(N,)``.
    """
    count = int(np.count_nonzero(selected))
    if not count:
        return NOTHING_SELECTED
    here, there = (three_digits(float(reading.entropy[selected].mean())) for reading in (fixed, other))
    of_all, of_all_there = (three_digits(reading.profile.mean) for reading in (fixed, other))
    return (
        f"The {count:,} selected have a mean entropy of {here} nats {_under(fixed.rule)} and {there} "
        f"{_under(other.rule)}; all {fixed.profile.samples:,} have {of_all} and {of_all_there}"
    )


def _under(rule: TemperatureRule) -> str:
    return f"{'at' if isinstance(rule, Fixed) else 'under'} {_short(rule)}"


def headline_kind(fixed: EntropyProfile, other: EntropyProfile, same_label: float) -> str:
    """Which of the `HEADLINES` holds.

    Args:
        fixed: of the rule to compare with.
        other: of the rule that is compared.
        same_label: of that rule, as `RuleReading.same_label`.
    """
    if not are_matched(fixed, other):
        return "unmatched"
    flat, other_flat = fixed.std < NO_SPREAD, other.std < NO_SPREAD
    if flat or other_flat:
        kind = "neither" if flat and other_flat else "first only" if other_flat else "second only"
    else:
        gain = fixed.std / other.std
        kind = "level" if ABOUT_AS_MUCH[0] < gain < ABOUT_AS_MUCH[1] else "less" if gain > 1 else "more"
    return "one label" if same_label and kind in ("less", "first only") else kind


GAINS = {
    "unmatched": "not matched",
    "rounding": "no spread left",
    "one label": "none: one soft label",
    "gain": "{gain} ×",
}
"""What `gain_words` can say, by `gain_kind`; the report fills the same blank in the browser."""


def gain_words(fixed: EntropyProfile, other: EntropyProfile, same_label: float) -> str:
    """The consistency gain of two rules, or why there is none; arguments as `headline_kind`."""
    gain = consistency_gain(fixed, other)
    return GAINS[gain_kind(fixed, other, same_label)].format(gain="" if gain is None else three_digits(gain))


def gain_kind(fixed: EntropyProfile, other: EntropyProfile, same_label: float) -> str:
    """Which of the `GAINS` holds; arguments as `headline_kind`."""
    if not are_matched(fixed, other):
        return "unmatched"
    gain = consistency_gain(fixed, other)
    if same_label and (gain is None or gain > ABOUT_AS_MUCH[1]):
        return "one label"
    return "rounding" if gain is None else "gain"


def findings_of(readings: Sequence[RuleReading], curves: EntropyCurves) -> list[str]:
    """What the numbers of some rules say, in sentences without full stops.

    Every matched pair is compared. Without one, the sentences say which rules are not matched, and what would match
    each base. The bases are the fixed temperatures; where there is none, the first rule. The oracle's spread is 0 by
    construction and compares with nothing.

    Args:
        readings: of one or more rules.
        curves: that they were read on.
    """
    floors = {reading.rule.floor for reading in readings if isinstance(reading.rule, Cist)}
    floor = floors.pop() if len(floors) == 1 else CIST_FLOOR
    if len(readings) == 1:
        return [extremes(readings[0]), *_partner(readings[0].rule, curves, floor)]
    bases = [reading for reading in readings if isinstance(reading.rule, Fixed)] or list(readings[:1])
    others = [reading for reading in readings if not isinstance(reading.rule, Matched)]
    pairs = [(base, other) for base in bases for other in others if type(base.rule) is not type(other.rule)]
    matched = [pair for pair in pairs if are_matched(pair[0].profile, pair[1].profile)]
    if matched:
        return [comparison(*pair, in_full=len(pairs) > 1) for pair in matched]
    unmatched = [_unmatched(pairs)] if len(pairs) > 1 else [comparison(*pair) for pair in pairs]
    return unmatched + [sentence for base in bases for sentence in _partner(base.rule, curves, floor)]


def _unmatched(pairs: Sequence[tuple[RuleReading, RuleReading]]) -> str:
    """That no two of several rules have the same mean entropy."""
    bases, others = (
        " or ".join(dict.fromkeys(rule_label(reading.rule) for reading in side)) for side in zip(*pairs, strict=True)
    )
    return f"Not matched: the mean entropy of {bases} is not that of {others}, so their spreads cannot be compared"


def _partner(rule: TemperatureRule, curves: EntropyCurves, floor: float) -> list[str]:
    """Which rule of the other kind has the mean entropy of a fixed temperature or of CIST; else nothing.

    Args:
        rule: whose partner is looked for.
        curves: of the samples.
        floor: of CIST as the partner of a fixed temperature.
    """
    try:
        if isinstance(rule, Fixed):
            if rule.tau < floor:
                return [
                    f"No rho has the mean entropy of {rule_label(rule)}: the floor of CIST is {floor:g}, and the "
                    "rule cist:rho=R,floor=0 has none"
                ]
            rho = matched_pair(curves, tau=rule.tau, floor=floor).rho
            if rule.tau == floor:
                end = f", where every sample is at the floor of {floor:g}"
            elif floor == CIST_FLOOR:
                end = ""
            else:
                end = f", at a floor of {floor:g}" if floor else ", without a floor"
            return [f"The rho with the mean entropy of {rule_label(rule)} is {three_digits(rho)}{end}"]
        if isinstance(rule, Cist):
            tau = matched_pair(curves, rho=rule.rho, floor=rule.floor).tau
            return [f"The fixed temperature with the mean entropy of {rule_label(rule)} is {three_digits(tau)}"]
    except CistError:  # every soft label is one-hot or uniform already: nothing to match
        pass
    return []


def extremes(reading: RuleReading) -> str:
    """How many soft labels are over-sharp or over-smoothed under one rule."""
    profile = reading.profile
    sharp, smoothed = percent(profile.over_sharp), percent(profile.over_smoothed)
    return f"{rule_label(reading.rule)} leaves {sharp} over-sharp and {smoothed} over-smoothed"


NO_FLOOR_IN_TRAINING = (
    "Without a floor nothing holds the scale of the student's logits: in the gradient mode constant students on "
    "CIFAR-100 ended at 2 to 6 %, where a floor of 1 gave 37 to 41 %"
)
"""What is to be known before one trains images without a floor; no full stop."""


def floor_sentence(floor: float, at_floor: float, student_at_floor: float | None = None) -> str:
    """On how many samples the floor of CIST decides the temperature, and what CIST is there; no full stop.

    Args:
        floor: in logit units.
        at_floor: share of the samples at which it decides the teacher's temperature.
        student_at_floor: the same of the student's, where there is one.
    """
    if floor == 0:
        return "Without a floor every sample has the ratio ρ"
    which, there = f"The floor of {floor:.4g} holds on", f"CIST is KD at τ = {floor:.4g}"
    if student_at_floor is not None:
        teacher, student = how_many(at_floor), how_many(student_at_floor)
        both = f"{which} {teacher} of the samples for the teacher and on {student} for the student"
        many = min(at_floor, student_at_floor) >= MANY_AT_FLOOR
        return f"{both}; where it holds for both, {there}" if many else both
    if at_floor == 1:
        return f"{which} every sample: here {there}"
    return f"{which} {how_many(at_floor)} of the samples{f': there {there}' if at_floor >= MANY_AT_FLOOR else ''}"


def rule_sentences(readings: Sequence[RuleReading]) -> list[str]:
    """What some readings need said besides numbers: `floor_sentence` and `one_label_sentence`, without full stops.

    A floor is named by its rule where there are several of CIST.
    """
    held = [(reading, reading.rule) for reading in readings if isinstance(reading.rule, Cist)]
    sentences = [
        floor_sentence(
            rule.floor,
            reading.profile.at_floor,
            None if reading.student_at_floor is None else float(reading.student_at_floor.mean()),
        )
        for reading, rule in held
    ]
    if len(held) > 1:
        sentences = [
            f"{rule_label(rule)}: {sentence[0].lower()}{sentence[1:]}"
            for (_, rule), sentence in zip(held, sentences, strict=True)
        ]
    lost = (one_label_sentence(reading.rule, reading.same_label) for reading in readings)
    return sentences + [sentence for sentence in lost if sentence]


def one_label_sentence(rule: TemperatureRule, same_label: float) -> str:
    """What a rule that holds the ratio leaves of two classes; no full stop. Empty where it leaves what there was.

    The soft label of two classes is its winner and its ratio: where the ratio is the same, all that a teacher said of
    a sample beyond its winner is gone.

    Args:
        rule: the rule.
        same_label: as `RuleReading.same_label`.
    """
    if not same_label:
        return ""
    return (
        f"With two classes {_short(rule)} gives {how_many(same_label)} of the samples the same soft label up to the "
        "winner: how sure the teacher was of each of them is lost, so a smaller spread is no gain"
    )


def ratio_sentence(fixed: RuleReading, other: RuleReading) -> str:
    """What the ratio explains under a fixed temperature, and what is left when it is held, as far as a floor lets it.

    Where the floor decides, the ratio varies from sample to sample as it does at a fixed temperature.
    """
    a = fixed.variance_parts
    if a.explained is None:
        return "Every sample has the same entropy: there is nothing to explain"
    start = f"Under {_short(fixed.rule)} the ratio explains {percent(a.explained)} of the entropy's variance"
    name, left = _short(other.rule), f"{percent_of(other.variance_parts.variance, a.variance)} of that variance is left"
    if isinstance(other.rule, Cist) and other.profile.samples_at_floor:
        if other.profile.at_floor == 1:
            return f"{start}; under {name} every sample is at the floor of {other.rule.floor:.4g}, and {left}"
        return f"{start}; {name} holds the ratio on {percent(1 - other.profile.at_floor)} of the samples, and {left}"
    if isinstance(other.rule, Cist) or not (explained := other.variance_parts.explained):
        return f"{start}; {name} holds the ratio, and {left}"
    return f"{start}, under {name} {percent(explained)}"


def _short(rule: TemperatureRule) -> str:
    """The rule's name in a sentence about a pair: CIST and the oracle without their parameters."""
    if isinstance(rule, Cist):
        return "CIST"
    if isinstance(rule, Matched):
        return "the oracle"
    return f"τ = {rule.tau:.4g}" if isinstance(rule, Fixed) else rule_label(rule)
