"""``cist rho``: which rho to distill with, and what it gives beside a fixed temperature."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from cist_core import CistError, EntropyCurves, LogitSet
from cist_core.cli.language import add_language_options, asks_for_texts, load_tokens
from cist_core.cli.loading import (
    add_source_options,
    add_student_option,
    add_threshold_options,
    given_class_map,
    given_thresholds,
    load_source,
    load_student,
)
from cist_core.cli.output import add_json_option, print_json, remark, table
from cist_core.cli.source_text import source_record, source_text
from cist_core.compare.anchors import ANCHORS, KD_TAU_1, Anchor, find_anchors
from cist_core.compare.findings import rule_sentences
from cist_core.compare.matching import match_rho
from cist_core.compare.recommendation import (
    RhoOutcome,
    RhoRecommendation,
    range_sentence,
    recommend_rho,
    recommendation_sentence,
    rho_outcome,
)
from cist_core.compare.rho_curves import gain_curve, gain_sentence, rho_sweep
from cist_core.language.sources import AnalysedTexts
from cist_core.temperature import CIST_FLOOR, Cist
from cist_core.temperature.columns import COMPACT
from cist_core.temperature.readings import read_rule
from cist_core.wording import percent, three_digits

_SHARES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
"""Mean normalised entropies of the table of gains."""
_REACH = 1.2
"""How far beyond the recommended rho gains are looked for, as a multiple of it."""
_BAR, _LONGEST_BAR = "█", 30

EXAMPLES = """\
examples:
  cist rho --logits teacher.npz                              what trained best in our runs, else the authors' rho
  cist rho --logits teacher.npz --anchor kd-tau-4            the mean entropy that KD has at tau 4
  cist rho --logits teacher.npz --target 0.4 --range 0.2 0.6
  cist rho --logits teacher.npz --floor 0                    the pure ratio rule: no floor under the temperatures
  cist rho --logits teacher.npz --tau-range 1 4 --json       the range that two temperatures give
  cist rho --teacher mnist5k-cnn --data mnist-5k --student mnist5k-cnn-small --config run.json
  cist rho --lm smollm2 --text story.txt                     a language model; the default anchor is kd-tau-1

anchors: trained-best, what trained best in our runs (where students of ours had about as many classes; docs/claim.md);
authors, the rho of the authors' repository; kd-tau-4 and kd-tau-1, the mean entropy of KD as usual on CIFAR and on
ImageNet; own, that of --target. The default is trained-best where the evidence decides, else authors.

Target and range are mean entropies as shares of ln C. A smaller rho is softer. The gain is the spread of the entropy at
the fixed temperature over that under CIST, at the same mean entropy; below 1, CIST is the less consistent one.
No temperature of CIST falls below the floor: tau_i = max(m_i / rho, floor).
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "rho",
        help="which rho to distill with",
        description="Recommend a rho for a teacher, and show what it gives beside a fixed temperature.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_source_options(parser, "which teacher")
    add_language_options(parser)
    add_student_option(parser, "whose numbers at the same rho are wanted as well")
    wanted = parser.add_argument_group("what is wanted of the soft labels")
    wanted.add_argument(
        "--anchor",
        choices=ANCHORS,
        metavar="NAME",
        help=f"what the rho is chosen by: {', '.join(ANCHORS)} (default: trained-best if that decides, else authors)",
    )
    wanted.add_argument("--target", type=float, metavar="S", help="mean entropy of your own, share of ln C")
    ends = wanted.add_mutually_exclusive_group()
    ends.add_argument(
        "--range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="range of the mean entropy, shares of ln C (default: that of the anchor)",
    )
    ends.add_argument(
        "--tau-range", nargs=2, type=float, metavar=("T1", "T2"), help="the range that two temperatures give"
    )
    wanted.add_argument(
        "--floor",
        type=float,
        metavar="F",
        help="smallest temperature of CIST, in the unit of the logits; 0 is the pure ratio rule (default: 1, and 0 "
        "with --lm: tokens at the floor of 1 are those of KD at tau 1)",
    )
    add_threshold_options(wanted)
    add_json_option(parser)
    parser.add_argument(
        "--config", metavar="FILE", help="also write a config for 'cist distill' (JSON; needs --teacher)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    if options.config is not None and options.teacher is None:
        raise CistError("Expected --config only together with --teacher and --data: a run trains from both.")
    thresholds = given_thresholds(options)
    of_texts = asks_for_texts(options)
    source: LogitSet | AnalysedTexts = load_tokens(options) if of_texts else load_source(options)
    curves = source.tokens.curves() if isinstance(source, AnalysedTexts) else EntropyCurves.from_logits(source)
    if options.floor is None:
        options.floor = 0.0 if of_texts else CIST_FLOOR
    if of_texts and options.anchor is None and options.target is None:
        options.anchor = KD_TAU_1
    low, high = options.range or (None, None)
    found = recommend_rho(
        curves,
        anchor=options.anchor,
        target=options.target,
        low=low,
        high=high,
        tau_range=None if options.tau_range is None else tuple(options.tau_range),
        floor=options.floor,
        **thresholds,
    )
    anchors = find_anchors(curves, floor=options.floor)
    student = None
    if options.student is not None and isinstance(source, LogitSet):
        student_curves = EntropyCurves.from_logits(load_student(options, source))
        curves = curves.beside(student_curves)
        student = rho_outcome(student_curves, found.rho, floor=found.floor, **thresholds)
    if options.json:
        record = {
            **found.to_dict(),
            "anchors": [anchor.to_dict() for anchor in anchors],
            "source": source.record() if isinstance(source, AnalysedTexts) else source_record(source),
        }
        print_json(record if student is None else {**record, "student": student.to_dict()})
    else:
        said = source.text() if isinstance(source, AnalysedTexts) else source_text(source)
        print(_text(said, curves, found, anchors, student))
    if options.config is not None:
        from cist_core.training.suggestion import suggest_config

        config = suggest_config(_short(found.rho), teacher=options.teacher, data=options.data, floor=found.floor)
        own = {"architecture": options.arch, "weights": options.weights}
        config = config.changed(teacher={name: value for name, value in own.items() if value is not None})
        class_map = given_class_map(options)
        if class_map is not None:
            config = config.changed(data={"class_map": class_map})
        config.save(options.config)
        remark(f"Wrote {options.config}; next: cist distill {options.config}")


def _short(rho: float) -> float:
    """A rho that a person would write; the mean entropy moves by less than a thousandth of ln C."""
    return float(f"{rho:.4g}")


def _text(
    source: str,
    curves: EntropyCurves,
    found: RhoRecommendation,
    anchors: Sequence[Anchor],
    student: RhoOutcome | None,
) -> str:
    sweep = rho_sweep(curves, reach=_REACH * found.rho, floor=found.floor)
    parts = [
        source,
        " ".join(f"{sentence}." for sentence in (recommendation_sentence(found), range_sentence(found)) if sentence),
        found.anchor.why,
        "Anchors",
        _anchors(anchors, found),
        f"Entropy of the soft labels in nats (ln C = {three_digits(curves.max_entropy)})",
        _profiles(found.outcome, student),
        " ".join(f"{sentence}." for sentence in rule_sentences([read_rule(Cist(found.rho, found.floor), curves)])),
        "At other mean entropies",
        _gains(curves, found),
        f"{gain_sentence(gain_curve(curves, sweep), found.low, found.high)}.",
    ]
    return "\n\n".join(parts)


def _anchors(anchors: Sequence[Anchor], found: RhoRecommendation) -> str:
    """One line an anchor, the one that is recommended marked; why some cannot be had."""
    offered = [found.anchor if anchor.key == found.anchor.key else anchor for anchor in anchors]
    if found.anchor not in offered:
        offered.append(found.anchor)
    head = ["anchor", "", "rho", "of ln C", "range of ln C"]
    rows = [
        [
            anchor.key,
            anchor.title,
            "-" if anchor.rho is None else three_digits(anchor.rho),
            percent(anchor.target),
            f"{anchor.low:.2f} to {anchor.high:.2f}" if anchor.has_range else "-",
        ]
        for anchor in offered
    ]
    lines = table(head, rows, left=2).splitlines()
    marked = [
        f"{'*' if anchor.key == found.anchor.key else ' '} {line}"
        for anchor, line in zip(offered, lines[2:], strict=True)
    ]
    refused = [f"  {anchor.key}: {anchor.refused}" for anchor in offered if anchor.refused]
    return "\n".join([*(f"  {line}" for line in lines[:2]), *marked, "  * recommended", *refused])


def _profiles(teacher: RhoOutcome, student: RhoOutcome | None) -> str:
    head = ["model", "rule", *(column.name for column in COMPACT)]
    rows = [
        [model, label, *(column.text(rule, profile, without="-") for column in COMPACT)]
        for model, outcome in (("teacher", teacher), ("student", student))
        if outcome is not None
        for label, (rule, profile) in zip(_labels(outcome), outcome.profiles, strict=True)
    ]
    return table(head, rows, left=2)


def _labels(outcome: RhoOutcome) -> list[str]:
    fixed = [] if outcome.matched_tau is None else [f"tau={three_digits(outcome.matched_tau)}"]
    return [*fixed, str(Cist(_short(outcome.rho), outcome.floor))]


def _gains(curves: EntropyCurves, found: RhoRecommendation) -> str:
    """One line a mean entropy, those of the range marked, the gain as a number and as a bar."""
    outcomes = [
        (share, outcome) for share in _SHARES if (outcome := _outcome_at(curves, share, found.floor)) is not None
    ]
    head = ["of ln C", "rho", "tau", "spread at tau", "under CIST", "gain"]
    lines = table(head, [_gain_row(*each) for each in outcomes], left=0).splitlines()
    longest = max((outcome.gain or 0.0 for _, outcome in outcomes), default=1.0)
    inside = [found.has_range and found.low <= share <= found.high for share, _ in outcomes]
    marked = [
        f"{'*' if within else ' '} {line}  {_bar(outcome.gain, longest)}".rstrip()
        for (_, outcome), within, line in zip(outcomes, inside, lines[2:], strict=True)
    ]
    note = [f"  * in {found.anchor.range_name}"] if found.has_range else []
    return "\n".join([*(f"  {line}" for line in lines[:2]), *marked, *note])


def _outcome_at(curves: EntropyCurves, share: float, floor: float) -> RhoOutcome | None:
    try:
        return rho_outcome(curves, match_rho(curves, share * curves.max_entropy, floor=floor), floor=floor)
    except CistError:
        return None  # below the floor, ties, or the end of a table: no rho has this mean entropy


def _gain_row(share: float, outcome: RhoOutcome) -> list[str]:
    numbers = (outcome.rho, outcome.matched_tau, outcome.std_fixed, outcome.std_cist, outcome.gain)
    return [f"{share * 100:.0f} %", *("-" if number is None else three_digits(number) for number in numbers)]


def _bar(gain: float | None, longest: float) -> str:
    if gain is None:
        return ""
    bar = _BAR * max(1, round(_LONGEST_BAR * gain / longest))
    return bar if gain >= 1 else f"{bar} CIST is the less consistent one"
