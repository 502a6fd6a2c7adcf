"""``cist analyze``: the entropy profiles of temperature rules on one set of logits."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from cist_core import (
    Cist,
    CistError,
    EntropyCurves,
    TemperatureRule,
    default_pair,
    matched_pair,
    parse_rule,
)
from cist_core.cli.bounds import analyze_top_k
from cist_core.cli.language import add_language_options, asks_for_texts, default_rules, load_tokens, why_these_rules
from cist_core.cli.loading import (
    add_source_options,
    add_student_option,
    add_threshold_options,
    given_thresholds,
    load_source,
    load_student,
)
from cist_core.cli.output import add_json_option, print_json, remark, table
from cist_core.cli.source_text import source_record, source_text
from cist_core.compare.anchors import default_anchor
from cist_core.compare.findings import findings_of, rule_sentences
from cist_core.logits.top_k import is_top_k_file
from cist_core.temperature.columns import COLUMNS
from cist_core.temperature.readings import RuleReading, read_rules
from cist_core.wording import percent, three_digits

EXAMPLES = """\
examples:
  cist analyze --logits teacher.npz                          the matched pair: same mean entropy, two spreads
  cist analyze --logits teacher.npz --tau 1 2 4 --rho 3 5    rules of your choice
  cist analyze --logits teacher.csv --rule matched:H=0.6 --rule lskd:tau=2 --json
  cist analyze --teacher mnist5k-cnn --data mnist-5k --out report.html
  cist analyze --logits topk.npz --vocabulary 50257 --tau 1 2 bounds from ids and log_probs of the most probable classes
  cist analyze --logits capture/ --tau 1                     bounds from a capture of DistillKit
  cist analyze --lm smollm2 --text story.txt                 a language model, token by token

rules: tau=4, cist:rho=3, lskd:tau=2, normkd:k=2, matched:H=0.6 (the oracle), and beside a student dtkd:tau=4. Entropies
are in nats, tau in the unit of the logits, rho has no unit. A share of samples is over-sharp below 5 % and
over-smoothed above 95 % of ln C. No temperature of CIST falls below its floor, 1 by default: cist:rho=3,floor=0 has
none. A share of samples is at the floor; beside a student, its share is told as well.
"""

_COLUMNS = [column for attribute, column in COLUMNS.items() if attribute not in ("q25", "q75", "tau_min", "tau_max")]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "analyze",
        help="entropy of the soft labels under temperature rules",
        description="Profile the entropy of a teacher's soft labels under fixed temperatures, CIST and other rules.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_source_options(parser, "what to analyze")
    add_language_options(parser)
    add_student_option(parser, "for rules that read its logits too, such as dtkd:tau=4, and its share at CIST's floor")
    rules = parser.add_argument_group("rules (default: a fixed temperature and a rho of the same mean entropy)")
    rules.add_argument("--tau", nargs="+", action="extend", default=[], metavar="T", help="fixed temperatures")
    rules.add_argument("--rho", nargs="+", action="extend", default=[], metavar="R", help="CIST at these ratios")
    rules.add_argument("--rule", nargs="+", action="extend", default=[], metavar="TEXT", help="any rule, as text")
    add_threshold_options(rules)
    add_json_option(parser)
    parser.add_argument(
        "--vocabulary",
        type=int,
        metavar="V",
        help="--logits holds only the most probable of V classes ('ids' and 'log_probs'): print bounds",
    )
    parser.add_argument("--out", metavar="FILE", help="also write a report: one HTML file with sliders, opens offline")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    if options.out is not None and not options.out.lower().endswith((".html", ".htm")):
        raise CistError(f"Expected the report of --out to end in .html, but got '{options.out}'.")
    thresholds = given_thresholds(options)
    rules = _given_rules(options)
    if asks_for_texts(options):
        _analyze_texts(options, rules, thresholds)
        return
    if options.vocabulary is not None or (options.logits is not None and is_top_k_file(options.logits)):
        analyze_top_k(options, rules)
        return
    logit_set = load_source(options)
    curves = EntropyCurves.from_logits(logit_set)
    if options.student is not None:
        curves = curves.beside(EntropyCurves.from_logits(load_student(options, logit_set)))
    readings = read_rules(rules or _default_rules(curves), curves, **thresholds)
    if not rules:
        remark(_why_this_pair(readings, curves))
    if options.json:
        profiles = [_record(reading) for reading in readings]
        print_json({**source_record(logit_set), "profiles": profiles})
    else:
        print(_text(source_text(logit_set), curves, readings))
    if options.out is not None:
        from cist_core.report import write_report

        write_report(options.out, logit_set, curves, readings)
        remark(f"Wrote {options.out}.")


def _analyze_texts(
    options: argparse.Namespace, rules: Sequence[TemperatureRule], thresholds: Mapping[str, float]
) -> None:
    """The same of a language model on texts, token by token."""
    found = load_tokens(options)
    curves = found.tokens.curves()
    readings = read_rules(rules or default_rules(curves), curves, **thresholds)
    if not rules:
        remark(why_these_rules(curves))
    if options.json:
        print_json({**found.record(), "profiles": [_record(reading) for reading in readings]})
    else:
        print(_text(found.text(), curves, readings))


def _record(reading: RuleReading) -> dict[str, Any]:
    record = {**reading.profile.to_dict(), **reading.association.to_dict()}
    if isinstance(reading.rule, Cist):
        record["floor"] = reading.rule.floor
    if reading.student_at_floor is not None:
        record["student_at_floor"] = float(reading.student_at_floor.mean())
        record["student_samples_at_floor"] = int(reading.student_at_floor.sum())
    return record


def _given_rules(options: argparse.Namespace) -> list[TemperatureRule]:
    texts = [f"tau={tau}" for tau in options.tau] + [f"cist:rho={rho}" for rho in options.rho] + options.rule
    return list(dict.fromkeys(map(parse_rule, texts)))


def _default_rules(curves: EntropyCurves) -> list[TemperatureRule]:
    """The default pair in numbers that a person would write, still matched: the temperature belongs to that ρ."""
    rho = float(f"{default_pair(curves).rho:.3g}")
    tau = float(f"{matched_pair(curves, rho=rho).tau:.4g}")
    return [parse_rule(f"tau={tau}"), parse_rule(f"cist:rho={rho}")]


def _why_this_pair(readings: Sequence[RuleReading], curves: EntropyCurves) -> str:
    pair = " and ".join(str(reading.rule) for reading in readings)
    share, anchor = readings[0].profile.normalised_mean, default_anchor(curves)
    uncertainty = f" ({anchor.uncertainty})" if anchor.uncertainty else ""
    return (
        f"No rule was given: {pair} are the pair whose mean entropy is {percent(share)} of ln C, "
        f"{anchor.title}{uncertainty}."
    )


def _text(source: str, curves: EntropyCurves, readings: Sequence[RuleReading]) -> str:
    head = ["rule", *(column.name for column in _COLUMNS)]
    rows = [_row(reading) for reading in readings]
    return "\n".join(
        [
            source,
            "",
            f"Entropy of the soft labels in nats (ln C = {three_digits(curves.max_entropy)})",
            "",
            table(head, rows),
            "",
            *(f"{sentence}." for sentence in [*findings_of(readings, curves), *rule_sentences(readings)]),
        ]
    )


def _row(reading: RuleReading) -> list[str]:
    cells = (column.text(reading.rule, reading.profile, without="-") for column in _COLUMNS)
    return [str(reading.rule), *cells]
