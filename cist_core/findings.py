"""Sentences computed from the data: the titles of the charts, the same in the app, the report and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from cist_core.temperature import Cist, Fixed, Matched, TemperatureRule
from cist_core.temperature.profile import EntropyProfile
from cist_core.temperature.readings import RuleReading
from cist_core.wording import how_many, percent, percent_of, three_digits, times

NO_SPREAD = 1e-4
"""A spread below this, in nats, is rounding: the kernels are exact to about that."""

ABOUT_AS_MUCH = (0.95, 1.05)
"""A consistency gain between these is no difference worth words."""

MANY_AT_FLOOR = 0.1
"""From this share of the samples on it is worth saying what CIST is at its floor."""

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
        "do not compare"
    ),
    "one label": (
        "With two classes {second} gives {alike} of the samples the same soft label up to the winner: less spread is "
        "less information here"
    ),
    "less": "At the same mean entropy ({mean} nats) {second} spreads {times} times less than {first}",
    "more": "At the same mean entropy ({mean} nats) {second} spreads {times} times more than {first}",
    "level": "At the same mean entropy ({mean} nats) {second} spreads about as much as {first}",
    "second only": "At the same mean entropy ({mean} nats) {second} spreads {other_spread} nats, {first} not at all",
    "first only": "At the same mean entropy ({mean} nats) {second} spreads not at all, {first} {spread} nats",
    "neither": "At the same mean entropy ({mean} nats) {second} spreads not at all, {first} not at all",
}
"""What `comparison` can say; the report fills the same blanks in the browser."""


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
    kind = _headline(fixed, other)
    gain = a.std / b.std if kind in ("less", "more") else 1.0
    return HEADLINES[kind].format(
        first=name(fixed.rule),
        second=name(other.rule),
        mean=three_digits(a.mean),
        other_mean=three_digits(b.mean),
        spread=three_digits(a.std),
        other_spread=three_digits(b.std),
        times=times(max(gain, 1 / gain)),
        alike=how_many(other.same_label),
    )


def _headline(fixed: RuleReading, other: RuleReading) -> str:
    """Which of the `HEADLINES` holds."""
    a, b = fixed.profile, other.profile
    if not are_matched(a, b):
        return "unmatched"
    flat, other_flat = a.std < NO_SPREAD, b.std < NO_SPREAD
    if flat or other_flat:
        kind = "neither" if flat and other_flat else "first only" if other_flat else "second only"
    else:
        gain = a.std / b.std
        kind = "level" if ABOUT_AS_MUCH[0] < gain < ABOUT_AS_MUCH[1] else "less" if gain > 1 else "more"
    return "one label" if other.same_label and kind in ("less", "first only") else kind


GAINS = {
    "unmatched": "not matched",
    "rounding": "no spread left",
    "one label": "none: one soft label",
    "gain": "{gain} ×",
}
"""What `gain_words` can say; the report fills the same blank in the browser."""


def gain_words(fixed: EntropyProfile, other: EntropyProfile, same_label: float) -> str:
    """The consistency gain of two rules, or why there is none.

    Args:
        fixed: of the rule to compare with.
        other: of the rule that is compared.
        same_label: of that rule, as `RuleReading.same_label`.
    """
    if not are_matched(fixed, other):
        return GAINS["unmatched"]
    gain = consistency_gain(fixed, other)
    if same_label and (gain is None or gain > ABOUT_AS_MUCH[1]):
        return GAINS["one label"]
    return GAINS["rounding"] if gain is None else GAINS["gain"].format(gain=three_digits(gain))


def extremes(reading: RuleReading) -> str:
    """How many soft labels are over-sharp or over-smoothed under one rule."""
    profile = reading.profile
    sharp, smoothed = percent(profile.over_sharp), percent(profile.over_smoothed)
    return f"{rule_label(reading.rule)} leaves {sharp} over-sharp and {smoothed} over-smoothed"


def floor_story(floor: float, at_floor: float, student_at_floor: float | None = None) -> str:
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


def rule_stories(readings: Sequence[RuleReading]) -> list[str]:
    """What has to be said of some readings besides their numbers: `floor_story` and `one_label_story`, no full stops.

    A floor is named by its rule where there are several of CIST.
    """
    held = [(reading, reading.rule) for reading in readings if isinstance(reading.rule, Cist)]
    stories = [
        floor_story(
            rule.floor,
            reading.profile.at_floor,
            None if reading.student_at_floor is None else float(reading.student_at_floor.mean()),
        )
        for reading, rule in held
    ]
    if len(held) > 1:
        stories = [
            f"{rule_label(rule)}: {story[0].lower()}{story[1:]}" for (_, rule), story in zip(held, stories, strict=True)
        ]
    lost = (one_label_story(reading.rule, reading.same_label) for reading in readings)
    return stories + [story for story in lost if story]


def one_label_story(rule: TemperatureRule, same_label: float) -> str:
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


def ratio_story(fixed: RuleReading, other: RuleReading) -> str:
    """What the ratio explains under a fixed temperature, and what is left when it is held, as far as a floor lets it.

    Where the floor decides, the ratio varies from sample to sample as it does at a fixed temperature.
    """
    a, b = fixed.association, other.association
    if a.explained is None:
        return "Every sample has the same entropy: there is nothing to explain"
    start = f"Under {_short(fixed.rule)} the ratio explains {percent(a.explained)} of the entropy's variance"
    name, left = _short(other.rule), f"{percent_of(b.variance, a.variance)} of that variance is left"
    if isinstance(other.rule, Cist) and other.profile.samples_at_floor:
        if other.profile.at_floor == 1:
            return f"{start}; under {name} every sample is at the floor of {other.rule.floor:.4g}, and {left}"
        return f"{start}; {name} holds the ratio on {percent(1 - other.profile.at_floor)} of the samples, and {left}"
    if b.explained == 0 or b.explained is None:
        return f"{start}; {name} holds the ratio, and {left}"
    return f"{start}, under {name} {percent(b.explained)}"


def _spread(std: float) -> str:
    return "not at all" if std < NO_SPREAD else f"{three_digits(std)} nats"


def _short(rule: TemperatureRule) -> str:
    if isinstance(rule, Cist):
        return "CIST"
    if isinstance(rule, Matched):
        return "the oracle"
    return f"τ = {rule.tau:.4g}" if isinstance(rule, Fixed) else rule_label(rule)
