"""``cist analyze`` on the most probable classes only: bounds of the mean entropy at fixed temperatures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cist_core import CistError, Fixed, TemperatureRule
from cist_core.cli.output import INFERENCE_OPTIONS, print_json, refuse_options, remark, table
from cist_core.logits.top_k import NO_CIST, TopK, read_top_k
from cist_core.wording import percent, three_digits

_DEFAULT_TAUS = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class _Bounds:
    """Of the mean entropy at one temperature, in nats."""

    rule: str
    lower: float
    upper: float
    width: float


def analyze_top_k(options: argparse.Namespace, rules: Sequence[TemperatureRule]) -> None:
    """Print the bounds that the most probable classes leave, as text or JSON.

    Raises:
        CistError: for a file of something else, or options and rules that need the logits of all classes.
    """
    if options.logits is None:
        raise CistError("Expected --vocabulary only together with --logits; a teacher has the logits of all classes.")
    without = ("teacher", "student", "data", "out", "labels", "given_as", "class_map", *INFERENCE_OPTIONS)
    refuse_options(options, without, needs="the logits of all classes", reason=f"{options.logits} holds the top k")
    for rule in rules:
        if not isinstance(rule, Fixed):
            raise CistError(
                f"Expected fixed temperatures for the most probable classes only, but got {rule}; {NO_CIST}."
            )
    top = read_top_k(options.logits, vocabulary=options.vocabulary)
    taus = [rule.tau for rule in rules if isinstance(rule, Fixed)] or list(_DEFAULT_TAUS)
    bounds = [_bounds(top, tau) for tau in taus]
    if "layout" in top.provenance:
        remark(f"{top.provenance['layout']}.")
    if "left out" in top.provenance:
        remark(f"Left out: {top.provenance['left out']}.")
    if "tokens" in top.provenance:
        remark(f"One sample a position: {top.provenance['tokens']}.")
    if options.json:
        record = {"samples": top.num_samples, "classes": top.vocabulary, "k": top.k}
        print_json({**record, "bounds": [asdict(each) for each in bounds]})
        return
    print(_text(top, bounds))


def _bounds(top: TopK, tau: float) -> _Bounds:
    lower, upper = (float(side.mean()) for side in top.entropy_bounds(tau))
    return _Bounds(str(Fixed(tau)), lower, upper, upper - lower)


def _text(top: TopK, bounds: Sequence[_Bounds]) -> str:
    head = ["rule", "at least", "at most", "width", "of ln C"]
    rows = [
        [each.rule, *map(three_digits, (each.lower, each.upper, each.width)), percent(each.width / top.max_entropy)]
        for each in bounds
    ]
    return "\n".join(
        [
            f"{top.num_samples:,} samples, the {top.k} most probable of {top.vocabulary:,} classes",
            "",
            f"Mean entropy of the soft labels in nats, whatever the other classes are (ln C = "
            f"{three_digits(top.max_entropy)})",
            "",
            table(head, rows),
            "",
            f"{NO_CIST}.",
        ]
    )
