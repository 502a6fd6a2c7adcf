"""The passages of a text by the measure that colours it: what `tokens.js` shows of one, of all tokens at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.tokens.view import TAUS, Shown, held_temperatures
from cist_core.entropy.curves import EntropyCurves
from cist_core.language.passage import Stretch, stretches
from cist_core.language.token_set import TokenPair, TokenSet
from cist_core.temperature import Cist
from cist_core.wording import three_digits

FloatArray = NDArray[np.floating]

_NAMES = {
    "entropy": ("entropy", "nats"),
    "surprisal": ("surprisal", "nats"),
    "maximum": ("centred maximum m", ""),
    "temperature": ("CIST temperature", ""),
    "weight": ("CIST weight", "× the mean of the text"),
    "divergence": ("KL to the student", "nats"),
    "reverse": ("reverse KL, from the student", "nats"),
    "rank": ("rank of the token", ""),
}
"""Of each measure, and its unit."""
_RULED = ("entropy", "surprisal", "divergence", "reverse")
"""Those that depend on a rule; of the others the temperature and the weight are CIST's."""
_OF_CIST = ("temperature", "weight")
_OF_A_PAIR = ("divergence", "reverse")
_MODELS = {
    "teacher": ("teacher",),
    "student": ("student",),
    "both": ("student", "teacher"),
    "before": ("before",),
    "change": ("student", "before"),
}
"""Whose numbers; of two the first's less the second's."""
_OF_A_STUDENT = ("student", "before", "change")
"""Of these a measure of two models can be, where there is a student."""
_WHOSE = {
    "student": "of the student",
    "both": "student − teacher",
    "before": "of the student before",
    "change": "student − before",
}


class Ranking(NamedTuple):
    """What passages are ranked by.

    Attributes:
        values: of all tokens that were read, ``(n,)``.
        words: which measure this is, under which rule and of which model.
        unit: of the values; empty for none.
        measure: its name; an entropy where there is no student for another.
        compared: whether values are differences, of two models or of both rules.
    """

    values: FloatArray
    words: str
    unit: str
    measure: str
    compared: bool

    def says(self, passage: Stretch | None) -> str:
        """What there is to say of a passage."""
        if passage is None:
            return "no token counts"
        mean, largest = (three_digits(value).replace("-", "−") for value in (passage.mean, passage.largest))
        return f"mean {mean}, largest {largest} {self.unit}".rstrip()


def lowest_temperature(curves: Sequence[EntropyCurves]) -> float:
    """The lowest fixed temperature that the slider has over some tokens, as far as their tables reach."""
    return float(f"{max(TAUS[0], *(each.lowest_temperature * 1.005 for each in curves)):.3g}")


def ranking_of(found: TokenSet | TokenPair, shown: Shown, *, before: TokenPair | None = None) -> Ranking:
    """The measure that is on the screen, of every token of the text.

    Where the rules are matched, it is at the rho that matches tau over all tokens of the text that count, so that
    passages are compared under one rule.

    Args:
        found: what was read.
        shown: where the controls stand.
        before: what the teacher and the student before its training expected of the same text.
    """
    teacher = found.models[0]
    pairs = {"student": found if isinstance(found, TokenPair) else None, "before": before}
    there = {side: pair for side, pair in pairs.items() if pair is not None}
    sides: Mapping[str, TokenSet] = {"teacher": teacher, **{side: pair.student for side, pair in there.items()}}
    measure = "entropy" if shown.measure in _OF_A_PAIR and not there else shown.measure
    joint = measure in (*_OF_A_PAIR, "weight") and bool(there)
    offered = [
        model
        for model, of in _MODELS.items()
        if all(side in sides for side in of) and (not joint or model in _OF_A_STUDENT)
    ]
    model = shown.model if shown.model in offered else offered[0]
    rules = _rules_of(measure, shown.rule)
    curves = {side: tokens.curves(counted_only=False) for side, tokens in sides.items()}
    settled = replace(shown, tau=max(shown.tau, lowest_temperature(list(curves.values()))))
    if "rho" in rules or measure in _OF_CIST:
        settled = settled.with_partner(teacher.curves(counted_only=bool(teacher.facts.counted.any())))

    def values_of(side: str, rule: str) -> FloatArray:
        tokens = sides[side]
        if measure == "entropy":
            return curves[side].at_temperature(settled.tau) if rule == "tau" else _cist(settled).entropy(curves[side])
        if measure == "surprisal":
            return tokens.surprisal(_temperatures(tokens, rule, settled))
        if measure == "maximum":
            return np.asarray(tokens.statistics.maximum)
        if measure == "temperature":
            return held_temperatures(tokens, settled)
        if measure == "weight":
            factors = held_temperatures(teacher, settled)
            product = factors if side == "teacher" else factors * held_temperatures(tokens, settled)
            counted = product[teacher.facts.counted]
            return product / counted.mean() if len(counted) else product
        if measure == "rank":
            return np.asarray(tokens.rank, np.float64)
        pair, both = there[side], [_temperatures(each, rule, settled) for each in (teacher, tokens)]
        return pair.divergence(*both) if measure == "divergence" else pair.reverse_divergence(*both)

    by_rule = [_less([values_of(side, rule) for side in _MODELS[model]]) for rule in rules]
    name, unit = _NAMES[measure]
    said = [name, _rule_in_words(measure, rules, settled)]
    whose = None if joint and model == "student" else _WHOSE.get(model)
    words = ", ".join(filter(None, [" ".join(filter(None, said)), whose]))
    return Ranking(_less(by_rule), words, unit, measure, len(_MODELS[model]) > 1 or len(rules) > 1)


def values_in(
    ranking: Ranking, found: TokenSet | TokenPair, passages: Sequence[Mapping[str, Any]]
) -> list[Stretch | None]:
    """Mean and largest value of each passage, over its tokens that count; None where none does.

    Args:
        ranking: of `ranking_of`.
        found: what was read.
        passages: of `cist_core.language.reading.read`, each with ``sequence`` and ``start``.
    """
    facts = found.models[0].facts
    by_sequence: dict[int, dict[int, Stretch]] = {}
    for passage in passages:
        sequence = passage["sequence"]
        if sequence not in by_sequence:
            rows = np.flatnonzero((facts.sequences == sequence) & facts.counted)
            of_text = stretches(ranking.values[rows], facts.positions[rows])
            by_sequence[sequence] = {each.start: each for each in of_text}
    return [by_sequence[passage["sequence"]].get(passage["start"]) for passage in passages]


def in_order(values: Sequence[Stretch | None], order: str) -> list[int]:
    """The numbers of the passages as an order has them: ``text``, or those of the largest ``mean`` or ``largest`` value
    first; where no token counts last.
    """
    numbers = list(range(len(values)))
    if order == "text":
        return numbers
    keys = [None if value is None else (value.mean if order == "mean" else value.largest) for value in values]
    return sorted(numbers, key=lambda number: np.inf if (key := keys[number]) is None else -key)


def _rules_of(measure: str, rule: str) -> tuple[str, ...]:
    if measure not in _RULED:
        return ("none",)
    return ("rho", "tau") if rule == "difference" else (rule,)


def _rule_in_words(measure: str, rules: Sequence[str], shown: Shown) -> str:
    tau, cist = f"τ = {shown.tau:g}", f"ρ = {shown.rho or 0:g}" + (f", floor {shown.floor:g}" if shown.floor else "")
    if measure in _OF_CIST:
        return f"at {cist}"
    words = {("tau",): f"at {tau}", ("rho",): f"under CIST {cist}", ("rho", "tau"): f"under CIST {cist} − at {tau}"}
    return words.get(tuple(rules), "")


def _cist(shown: Shown) -> Cist:
    assert shown.rho is not None
    return Cist(shown.rho, shown.floor)


def _temperatures(tokens: TokenSet, rule: str, shown: Shown) -> FloatArray | float:
    return shown.tau if rule == "tau" else held_temperatures(tokens, shown)


def _less(values: Sequence[FloatArray]) -> FloatArray:
    """The first, less the second where there is one."""
    return values[0] if len(values) == 1 else np.asarray(values[0] - values[1])
