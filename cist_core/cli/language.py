"""``--lm NAME --text FILE``: what a language model says of texts, in the commands that analyse logits."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cist_core import CistError, TemperatureRule, parse_rule
from cist_core.cli.interrupt import ends_on_interrupt
from cist_core.cli.output import ProgressBar, refuse_options, remark
from cist_core.compare.matching import matched_pair
from cist_core.language.sources import LENGTH, AnalysedTexts

if TYPE_CHECKING:
    from cist_core.entropy.curves import EntropyCurves

_OF_IMAGES = (
    "data", "student", "out", "config", "labels", "given_as", "class_map", "arch", "weights",
    "precision", "limit", "seed", "vocabulary",
)  # fmt: skip


def add_language_options(parser: Any) -> None:
    """``--lm``, ``--text`` and ``--length``; ``--split``, ``--device`` and ``--download`` hold for them too."""
    group = parser.add_argument_group("or a language model on texts (extra language)")
    group.add_argument("--lm", metavar="NAME", help="a language model ('cist models')")
    group.add_argument(
        "--text",
        metavar="FILE",
        help="plain text, .jsonl (text; prompt and response; or messages), or hf:OWNER/NAME (--split, default: train)",
    )
    group.add_argument(
        "--length",
        type=int,
        metavar="L",
        help=f"tokens of a text that are read at once, {LENGTH:,} by default and no more than the model reads: longer "
        "plain texts are read in parts, prompts with responses and chats are cut; memory grows with its square",
    )


def asks_for_texts(options: argparse.Namespace) -> bool:
    """Whether the options of `add_language_options` are given.

    Raises:
        CistError: if only ``--length`` is.
    """
    if options.lm is not None or options.text is not None:
        return True
    refuse_options(options, ["length"], needs="--lm and --text", reason="samples have no length")
    return False


def load_tokens(options: argparse.Namespace) -> AnalysedTexts:
    """What the model that `add_language_options` names says of the texts.

    Raises:
        CistError: if the options do not fit together, or what they name cannot be read.
    """
    if options.lm is None or options.text is None:
        raise CistError("Expected --lm NAME together with --text FILE.")
    for name in ("logits", "teacher"):
        if getattr(options, name) is not None:
            raise CistError(f"Expected one source, but got --lm and --{name}; leave one of them out.")
    refuse_options(
        options,
        [name for name in _OF_IMAGES if hasattr(options, name)],
        needs="--logits or --teacher",
        reason="a language model reads texts",
    )
    from cist_core.language.sources import load_tokens as load

    with ends_on_interrupt(), ProgressBar(f"Running {options.lm}", "tokens") as running:
        found = load(
            options.lm,
            options.text,
            length=options.length,
            split=options.split,
            device=options.device or "auto",
            download=options.download,
            progress=running,
        )
    found = replace(found, sentences=(*found.sentences, "Samples are the tokens that count."))
    if options.json:
        for sentence in found.sentences:
            remark(sentence)
    return found


def default_rules(curves: EntropyCurves) -> Sequence[TemperatureRule]:
    """A fixed temperature of 1, where distillation of language models starts, and rho of the same mean entropy.

    Where the table does not reach temperature 1, the lowest that it reaches stands in its place.

    With CIST's own floor of 1 no rho reaches it while a temperature lies above the floor, so that pair has none; the
    same rho with the floor stands beside it.
    """
    tau = curves.reachable(1.0)
    rho = float(f"{matched_pair(curves, tau=tau, floor=0.0).rho:.4g}")
    return [parse_rule(text) for text in (f"tau={tau:g}", f"cist:rho={rho},floor=0", f"cist:rho={rho}")]


def why_these_rules(curves: EntropyCurves) -> str:
    """Where `default_rules` come from."""
    tau = curves.reachable(1.0)
    first = (
        "tau=1 is where distillation of language models starts"
        if tau == 1
        else f"tau={tau:g} is the lowest temperature that the table reaches, as it ends at the ratio "
        f"{curves.max_ratio:g} and the largest centred maximum is {curves.statistics.maximum.max():.4g} (distillation "
        "of language models starts at tau=1)"
    )
    return (
        f"No rule was given: {first}, the rho has the same mean entropy without a floor, and the third rule is that "
        "rho with CIST's floor of 1."
    )
