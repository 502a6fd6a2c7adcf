"""What a language model says of texts, by the names of both: for the command line, scripts and the Studio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cist_core.errors import CistError
from cist_core.logits.choices import LIKE_MASKS, chosen_at
from cist_core.progress import ProgressCallback
from cist_core.wording import LARGEST_LOG, perplexity, three_digits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cist_core.language.models import LanguageModel
    from cist_core.language.texts import Example, Tokens
    from cist_core.language.token_set import TokenSet

LENGTH = 2_048
"""Tokens of a text that are read at once unless something else is asked for: memory grows with their square."""


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
            f"{tokens.num_classes:,}; {three_digits(nll)} nats a token (perplexity {perplexity(nll)})"
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
            "perplexity": math.exp(self.nll) if self.nll < LARGEST_LOG else None,
            "precision": tokens.provenance["precision"],
            "remarks": list(self.sentences),
        }


def open_texts(
    name: str,
    source: str | Path,
    *,
    length: int | None = None,
    split: str | None = None,
    device: str = "auto",
    download: bool = False,
) -> tuple[LanguageModel, list[Tokens]]:
    """A language model, and texts as it reads them; arguments as `load_tokens`.

    Raises:
        CistError: as `load_tokens`.
    """
    from cist_core.language.models import open_language_model
    from cist_core.language.texts import load_texts

    length = _checked(length)
    examples = load_texts(source, split=split, download=download)
    model = open_language_model(name, device=device, download=download)
    return model, tokens_for([model], examples, length=length)


def tokens_for(
    models: Sequence[LanguageModel], examples: Iterable[Example], *, length: int | None = None
) -> list[Tokens]:
    """Texts as models of one vocabulary read them, through the tokenizer of the first.

    The tokens of one vocabulary may be cut from a text in other ways: by other merges, with or without a beginning.
    Models are compared token by token, so all read the ids of the first. For a student that is distilled under this
    teacher these are the right ones whatever its own tokenizer does, and it is saved with the teacher's; so a
    difference is no error. But a model that was trained on other ids reads something strange to it, so each text that a
    further model's own tokenizer would cut otherwise has that model's name in `Tokens.cut_otherwise`, and
    `cist_core.language.texts.remarks` says so.

    Args:
        models: one or more; none reads more at once than the shortest can.
        examples: see `cist_core.language.texts.load_texts`.
        length: as in `load_tokens`.

    Raises:
        CistError: as `cist_core.language.texts.tokenise`, or for a length of less than two.
    """
    from cist_core.language.texts import tokenise_all

    first, *further = models
    longest = min(_checked(length), *(model.longest for model in models))
    others = [(model.name, model.tokenizer) for model in further if model.tokenizer_sha256 != first.tokenizer_sha256]
    return tokenise_all(examples, first.tokenizer, longest=longest, others=others)


def _checked(length: int | None) -> int:
    length = LENGTH if length is None else length
    if length < 2:
        raise CistError(
            f"Expected --length to be at least 2 tokens, of which one predicts the other, but got {length}."
        )
    return length


def load_tokens(
    name: str,
    source: str | Path,
    *,
    length: int | None = None,
    split: str | None = None,
    device: str = "auto",
    download: bool = False,
    progress: ProgressCallback | None = None,
) -> AnalysedTexts:
    """What a language model says of texts, cached as `cist_core.language.inference.infer_tokens` does.

    Args:
        name: of the model; see `cist_core.language.models.open_language_model`.
        source: of the texts; see `cist_core.language.texts.load_texts`.
        length: tokens of a text that are read at once, `LENGTH` by default and no more than the model reads.
        split: of a data set of the hub.
        device: where the model runs.
        download: whether what is not on this machine may be fetched.
        progress: told how many tokens are done.

    Raises:
        CistError: if the model or the texts cannot be read.
    """
    from cist_core.language.inference import infer_tokens

    model, texts = open_texts(name, source, length=length, split=split, device=device, download=download)
    return describe_tokens(model, texts, infer_tokens(model, texts, progress=progress))


def describe_tokens(model: LanguageModel, texts: Sequence[Tokens], tokens: TokenSet) -> AnalysedTexts:
    """The token set of a model on texts, with what there is to say of them."""
    from cist_core.language.texts import further_parts, remarks

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
        named = ", ".join(map(repr, beyond.values()))
        sentences.append(f"Special tokens that the model has no class for, or none of its own: {named}.")
    num_texts = len(set(tokens.facts.sequences.tolist())) - further_parts(texts)
    return AnalysedTexts(tokens, num_texts, tuple(sentences))
