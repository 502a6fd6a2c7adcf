"""A language model's predictions on texts, with the tokens that count as samples and their words for people."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cist_core.documents import parse_json, read_document
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.files import write_whole
from cist_core.language.token_set import TokenSet
from cist_core.plain_text import written_out

if TYPE_CHECKING:
    from cist_core.language.sources import AnalysedTexts
    from cist_core.language.texts import Tokens

TOKENS, WORDS = "tokens.safetensors", "words.json"
"""The files of a folder."""
_SHOWN_TOP = 5


@dataclass(frozen=True, eq=False)
class TextPredictions:
    """What the pages of the Studio read of a language model on texts; `cist_core.LogitSet` is the same of images.

    The samples are the N tokens that count. Classes are the V' tokens of the vocabulary that take part.

    Attributes:
        tokens: of all of them, counted or not.
        texts: the text of every token of the set, ``(num_tokens,)``.
        types: their numbers in `cist_core.language.pieces.TOKEN_TYPES`.
        first: the text of the first token of each text, which nothing predicts, by the number of the text.
        vocabulary: the texts of those tokens of the vocabulary that are in the texts or among the most likely.
    """

    tokens: TokenSet
    texts: tuple[str, ...]
    types: NDArray[np.int64]
    first: Mapping[int, str]
    vocabulary: Mapping[int, str]

    @classmethod
    def of(cls, analysed: AnalysedTexts, texts: Sequence[Tokens], tokenizer: Any) -> TextPredictions:
        """Of a token set, the texts it was made from, and the tokenizer that both models of a pair share."""
        from cist_core.language.passage import token_texts
        from cist_core.language.pieces import token_types

        tokens = analysed.tokens
        words: list[str] = []
        types: list[int] = []
        first: dict[int, str] = {}
        special = frozenset(tokenizer.all_special_ids)
        for number, text in enumerate(texts):
            if len(text.ids) < 2:
                continue  # nothing of it is in the set
            of_text = token_texts(text.ids.tolist(), tokenizer)
            first[number] = of_text[0]
            words += of_text[1:]
            types += token_types(text.ids.tolist(), of_text, special=special)[1:]
        ids = np.union1d(tokens.facts.ids, tokens.top_ids[:, :_SHOWN_TOP]).tolist()
        provenance = {**tokens.provenance, "texts": " ".join(analysed.sentences)}
        return cls(
            replace(tokens, provenance=MappingProxyType(provenance)),
            tuple(words),
            np.asarray(types, np.int64),
            first,
            {number: tokenizer.decode([number]) for number in ids},
        )

    def save(self, folder: Path) -> None:
        """Write the token set and the words into a folder; the set, which says that all is there, comes last.

        Raises:
            CistError: if a file cannot be written.
        """
        content = json.dumps(
            {
                "texts": self.texts,
                "types": self.types.tolist(),
                "first": dict(self.first),
                "vocabulary": dict(self.vocabulary),
            }
        )
        write_whole(folder / WORDS, lambda file: file.write_text(content, encoding="utf-8"), what="The words")
        self.tokens.save(folder / TOKENS)

    @classmethod
    def load(cls, folder: Path) -> TextPredictions:
        """Open what `save` wrote; the tables are memory-mapped.

        Raises:
            CistError: if a file is missing or damaged.
        """
        tokens = TokenSet.load(folder / TOKENS)
        try:
            content = parse_json(read_document(folder / WORDS))
            texts, types = tuple(content["texts"]), np.asarray(content["types"], np.int64)
            first, vocabulary = (
                {int(number): str(text) for number, text in content[name].items()} for name in ("first", "vocabulary")
            )
            if not len(texts) == len(types) == tokens.num_tokens:
                raise ValueError(f"{len(texts):,} words for {tokens.num_tokens:,} tokens")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CistError(f"The words of these tokens cannot be read ({error}); add the text again.") from error
        return cls(tokens, texts, types, first, vocabulary)

    # ---- as of any predictions ---------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The tokens that count, by their numbers in the set, ``(N,)``."""
        return np.flatnonzero(self.tokens.facts.counted)

    def curves(self) -> EntropyCurves:
        """The entropy curves of the tokens that count.

        Raises:
            CistError: if none does.
        """
        return self.tokens.curves()

    @property
    def num_samples(self) -> int:
        return len(self.rows)

    @property
    def num_classes(self) -> int:
        return self.tokens.num_classes

    @property
    def left_out(self) -> tuple[int, ...]:
        return self.tokens.left_out

    @property
    def provenance(self) -> Mapping[str, str]:
        return self.tokens.provenance

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of which tokens these are and what the model says of them."""
        tokens = self.tokens
        digest = hashlib.sha256(tokens.tokens_digest.encode())
        for column in (*tokens.statistics, tokens.entropy, tokens.log_partition_at_one, tokens.shifted):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update(repr(tokens.left_out).encode())
        return digest.hexdigest()

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The tokens of the vocabulary that take part as they are shown, ``(V',)``; by number where no text is kept."""
        return tuple(
            visible(self.vocabulary[number]) if number in self.vocabulary else f"token {number:,}"
            for number in self.tokens.kept.tolist()
        )

    @property
    def accuracy(self) -> float:
        """Share of the tokens that are the most likely one."""
        return float(np.mean(self.tokens.rank[self.rows] == 1))

    @property
    def nll(self) -> float:
        """Mean of ``-ln p`` of the actual tokens at temperature 1, in nats; e to it is the perplexity."""
        return float(self.tokens.nll[self.rows].mean(dtype="float64"))

    @property
    def constant_rows(self) -> int:
        return int((self.tokens.statistics.maximum[self.rows] == 0).sum())

    # ---- of each token -----------------------------------------------------------------------------------------------

    @property
    def positions(self) -> NDArray[np.int64]:
        """Their places in their texts, counted from 0, ``(N,)``."""
        return self.tokens.facts.positions[self.rows]

    @cached_property
    def frequencies(self) -> NDArray[np.int64]:
        """How often each one's id is among the tokens that count, ``(N,)``."""
        _, place, count = np.unique(self.tokens.facts.ids[self.rows], return_inverse=True, return_counts=True)
        return np.asarray(count[place])

    @property
    def kinds(self) -> NDArray[np.int64]:
        """Their types, ``(N,)``."""
        return self.types[self.rows]

    @property
    def surprisals(self) -> NDArray[np.float32]:
        """``-ln p`` of the actual tokens at temperature 1, in nats, ``(N,)``."""
        return self.tokens.nll[self.rows]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Of the actual tokens, 1 for the most likely, ``(N,)``."""
        return self.tokens.rank[self.rows].astype(np.int64)

    def word(self, sample: int) -> str:
        """The text of a token that counts, as it is shown."""
        return visible(self.texts[self.rows[sample]])

    def context(self, sample: int, *, before: int = 12, after: int = 4) -> tuple[str, str]:
        """The tokens before and after one that counts, of the same text."""
        row, sequences = int(self.rows[sample]), self.tokens.facts.sequences
        number = int(sequences[row])
        low, high = (int(np.searchsorted(sequences, number, side)) for side in ("left", "right"))
        start = max(low, row - before)
        beginning = self.first.get(number, "") if start == low and row - low < before else ""
        return beginning + "".join(self.texts[start:row]), "".join(self.texts[row + 1 : min(high, row + 1 + after)])


# Marks of direction, blanks of no width, soft hyphens and ends of lines that no keyboard has: tokens of their own.
_UNSEEN = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u2028\u2029\ufeff]")


def visible(text: str) -> str:
    r"""A token's text with its spaces, line ends and whatever else is not seen.

    Example:
        >>> visible(" the"), visible("\n"), visible("\u200b")
        ('·the', '↵', '\\u200b')
    """
    shown = text.replace(" ", "·").replace("\r\n", "↵").replace("\n", "↵").replace("\t", "⇥")
    shown = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", written_out(shown))
    return shown or "(part of a character)"
