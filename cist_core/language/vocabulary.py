"""Which token each class of a language model is, and which classes two models share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError

_MOST_NAMED = 3


@dataclass(frozen=True)
class Vocabulary:
    """The classes of a language model by number.

    Attributes:
        tokens: what each is, as the tokenizer writes it; None where no token has that number, which is padding: models
            round the number of their classes up, so Qwen's 151,665 tokens have 151,936 or 152,064.
        beyond: special tokens of the tokenizer that the model has no class for, by number, such as the place of an
            image in Gemma 3, and a pad token that was added later, which has none either: where its number is that of
            a class, this was padding before. No text may contain one.
    """

    tokens: tuple[str | None, ...] = field(repr=False)
    beyond: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, ids: Mapping[str, int], classes: int, special: Collection[str] = (), added_padding: str | None = None
    ) -> Vocabulary:
        """From a tokenizer's ``get_vocab()``, the number of classes of the model, which tokens are special ones, and
        which was added to fill up batches alone.

        Raises:
            CistError: if a token that is not special has a number that the model has no class for, or two tokens have
                one number.

        Example:
            >>> Vocabulary.of({"a": 0, "b": 2}, 4).tokens
            ('a', None, 'b', None)
        """
        tokens: list[str | None] = [None] * classes
        beyond: dict[int, str] = {}
        for token, number in ids.items():
            if (number >= classes and token in special) or token == added_padding:
                beyond[number] = token
                continue
            if not 0 <= number < classes:
                raise CistError(
                    f"The token {token!r} is number {number:,} of the tokenizer, but the model has {classes:,} "
                    "classes; use the tokenizer that the model was trained with."
                )
            if tokens[number] is not None:
                raise CistError(
                    f"The tokens {tokens[number]!r} and {token!r} of the tokenizer have one number, {number:,}; use "
                    "the tokenizer that the model was trained with."
                )
            tokens[number] = token
        return cls(tuple(tokens), beyond)

    def check_ids(self, ids: NDArray[np.int64]) -> None:
        """Refuse tokens that the model has no class for, or that were added to fill up batches.

        Raises:
            CistError: naming the first of them.
        """
        wrong = ids[(ids >= self.size) | np.isin(ids, list(self.beyond))]
        if len(wrong):
            token = self.beyond.get(int(wrong[0]))
            why = (
                f"the model has {self.size:,} classes"
                if wrong[0] >= self.size
                else "that one was added to the tokenizer to fill up batches, and the model does not know it"
            )
            raise CistError(
                f"A text contains the token {wrong[0]:,}{'' if token is None else f', {token!r}'}, but {why}; take it "
                "out of the text."
            )

    @property
    def size(self) -> int:
        """How many classes the model has, padding included."""
        return len(self.tokens)

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """Those that are a token, by number, ascending. The others take part in no soft label, loss or score.

        Example:
            >>> Vocabulary(("a", None, "b", None)).classes.tolist()
            [0, 2]
        """
        return np.asarray([number for number, token in enumerate(self.tokens) if token is not None], np.int64)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of which number is which token: two models have one exactly if `shared_classes` takes them.

        So vocabularies can be compared where neither model nor tokenizer is open.

        Example:
            >>> Vocabulary(("a", "b", None)).sha256 == Vocabulary(("a", "b")).sha256
            True
        """
        end = int(self.classes[-1]) + 1 if len(self.classes) else 0  # padding beyond says nothing
        return hashlib.sha256(json.dumps(self.tokens[:end]).encode()).hexdigest()


def shared_classes(teacher: Vocabulary, student: Vocabulary) -> NDArray[np.int64]:
    """The classes that two models have in common, by number, ascending; the others of both are padding.

    Two vocabularies are one if every number is the same token in both. The models may differ in how many classes of
    padding they have; these take no part, in either. A size alone says nothing: two tokenizers of 32,000 tokens may
    have no number in common.

    Raises:
        CistError: if a number is one token here and another, or none, there; it names both sizes and the first such.

    Example:
        >>> shared_classes(Vocabulary(("a", "b", None, None)), Vocabulary(("a", "b", None))).tolist()
        [0, 1, 2]
    """
    common = min(teacher.size, student.size)
    differing = [
        number
        for number in range(max(teacher.size, student.size))
        if _token(teacher, number) != _token(student, number)
    ]
    if differing:
        shown = "; ".join(
            f"{number:,} is {_said(_token(teacher, number))} in the teacher's and {_said(_token(student, number))} in "
            "the student's"
            for number in differing[:_MOST_NAMED]
        )
        raise CistError(
            f"The teacher's vocabulary ({teacher.size:,} classes) and the student's ({student.size:,}) are not one: "
            f"{len(differing):,} numbers differ, first {shown}. Distillation compares class by class; use models of "
            "one tokenizer."
        )
    return np.arange(common)


def _token(vocabulary: Vocabulary, number: int) -> str | None:
    return vocabulary.tokens[number] if number < vocabulary.size else None


def _said(token: str | None) -> str:
    return "no token" if token is None else repr(token)
