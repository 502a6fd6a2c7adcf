"""``--lm NAME --text FILE``: what a language model says of texts, in the commands that analyse logits."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cist_core import CistError, TemperatureRule, parse_rule
from cist_core.cli.interrupt import ends_on_interrupt
from cist_core.cli.output import ProgressBar, refuse_options, remark
from cist_core.compare.matching import matched_pair
from cist_core.logits.choices import LIKE_MASKS, chosen_at
from cist_core.wording import three_digits

if TYPE_CHECKING:
    from cist_core.entropy.curves import EntropyCurves
    from cist_core.language.token_set import TokenSet

LENGTH = 2_048
"""Tokens of a text that are read at once unless ``--length`` says otherwise: memory grows with their square."""
_OF_IMAGES = (
    "data", "student", "out", "config", "labels", "given_as", "class_map", "arch", "weights",
    "precision", "limit", "seed", "vocabulary",
)  # fmt: skip


@dataclass(frozen=True)
class AnalysedTexts:
    """A token set, and what there is to say of the model and the texts.

    Attributes:
        tokens: counted or not.
        num_texts: those that have a token to predict.
        sentences: what whoever reads the result should know.
    """

    tokens: TokenSet
    num_texts: int
    sentences: tuple[str, ...]

    def text(self) -> str:
        """The size and the loss, and below it one sentence for all that is to be known."""
        tokens = self.tokens
        counted = int(tokens.facts.counted.sum())
        nll = self.nll
        first = (
            f"Tokens: {tokens.num_tokens:,}, of which {counted:,} count; texts: {self.num_texts:,}; vocabulary: "
            f"{tokens.num_classes:,}; {three_digits(nll)} nats a token (perplexity {three_digits(math.exp(nll))})"
        )
        return "\n".join([first, *self.sentences])

    @property
    def nll(self) -> float:
        """Mean of the tokens that count, in nats."""
        return float(self.tokens.nll[self.tokens.facts.counted].mean(dtype="float64"))

    def record(self) -> dict[str, Any]:
        """The same for JSON."""
        tokens = self.tokens
        return {
            "tokens": tokens.num_tokens,
            "counted_tokens": int(tokens.facts.counted.sum()),
            "texts": self.num_texts,
            "vocabulary": tokens.vocabulary_size,
            "left_out_classes": list(tokens.left_out),
            "nll": self.nll,
            "perplexity": math.exp(self.nll),
            "precision": tokens.provenance["precision"],
            "remarks": list(self.sentences),
        }


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
    length = LENGTH if options.length is None else options.length
    if length < 2:
        raise CistError(
            f"Expected --length to be at least 2 tokens, of which one predicts the other, but got {length}."
        )
    from cist_core.language.inference import infer_tokens
    from cist_core.language.models import open_language_model
    from cist_core.language.texts import further_parts, load_texts, remarks, tokenise_all

    with ends_on_interrupt(), ProgressBar(f"Running {options.lm}", "tokens") as running:
        examples = load_texts(options.text, split=options.split, download=options.download)
        model = open_language_model(options.lm, device=options.device or "auto", download=options.download)
        texts = tokenise_all(examples, model.tokenizer, longest=min(model.longest, length))
        tokens = infer_tokens(model, texts, progress=running)
    sentences = [f"Precision: {model.precision}.", *remarks(texts)]
    if tokens.left_out:
        sentences.append(f"Classes that are no token of the tokenizer are left out: {len(tokens.left_out):,}.")
    constant = int((tokens.statistics.maximum[tokens.facts.counted] == 0).sum())
    if constant:
        sentences.append(f"Tokens whose logits are all equal: {constant:,}; their entropy is ln V at any rule.")
    like_masks = chosen_at(tokens.provenance, LIKE_MASKS)
    if like_masks is not None:
        sentences.append(like_masks)
    beyond = model.vocabulary.beyond
    if beyond:
        sentences.append(f"Special tokens that the model has no class for: {', '.join(map(repr, beyond.values()))}.")
    sentences.append("Samples are the tokens that count.")
    num_texts = len(set(tokens.facts.sequences.tolist())) - further_parts(texts)
    found = AnalysedTexts(tokens, num_texts, tuple(sentences))
    if options.json:
        for sentence in sentences:
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
