"""Texts side by side for a language model, and which hidden state predicts which token.

Everything follows the lengths of the texts, never the ids of tokens: padding may have the id of an end of text that
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cist_core.errors import CistError
from cist_core.language.texts import Tokens

PADDING = -1
"""The number of the text at places that hold none."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of tokens, B of them, L long.

    Attributes:
        ids: ``(B, L)`` int64; any at padding.
        texts: ``(B, L)`` int64, which text a token is of, by its place in the list that the batch was made from;
            `PADDING` where it is of none.
        position_ids: ``(B, L)`` int64, from 0 in every text, also behind padding at the left.
        counted: ``(B, L)`` bool, whether predicting the token counts; never the first of a text, which nothing
            predicts.
        packed: whether a row may hold several texts.
    """

    ids: Tensor
    texts: Tensor
    position_ids: Tensor
    counted: Tensor
    packed: bool = False

    @property
    def attention_mask(self) -> Tensor | None:
        """``(B, L)`` int64, 1 at tokens and 0 at padding.

        None for packed rows: transformers reads from ``position_ids`` where a text begins, and lets tokens look at
        those of their own text, only if there is no mask.
        """
        return None if self.packed else (self.texts != PADDING).long()

    def predictions(self, *, counted_only: bool = True) -> Predictions:
        """The counted tokens, or all that something predicts, and where the states that predict them are."""
        wanted = self.counted if counted_only else (self.texts != PADDING) & (self.position_ids > 0)
        row, column = wanted.nonzero(as_tuple=True)
        return Predictions(
            row * self.ids.shape[1] + column - 1,
            self.ids[row, column],
            self.texts[row, column],
            self.position_ids[row, column],
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        ids, texts, position_ids, counted = (
            tensor.to(device) for tensor in (self.ids, self.texts, self.position_ids, self.counted)
        )
        return Batch(ids, texts, position_ids, counted, self.packed)


class Predictions(NamedTuple):
    """Tokens of a batch that something predicts, n of them, row by row.

    Attributes:
        places: ``(n,)`` int64, of the states that predict them: ``hidden.flatten(0, 1)[places]`` is ``(n, D)``.
        ids: ``(n,)`` int64, the tokens.
        texts: ``(n,)`` int64, which text each is of.
        positions: ``(n,)`` int64, of each token in its text.
    """

    places: Tensor
    ids: Tensor
    texts: Tensor
    positions: Tensor


def pad(texts: Sequence[Tokens], *, side: Literal["left", "right"] = "right", length: int | None = None) -> Batch:
    """One text a row, with padding.

    Args:
        texts: at least one, each of a token or more.
        side: where the padding is; at the left for generating, when all rows end together.
        length: L; by default that of the longest.

    Raises:
        CistError: if a text is empty or longer than ``length``.
    """
    length = _check(texts, length)
    batch = _empty(len(texts), length)
    for number, text in enumerate(texts):
        _put(batch, number, 0 if side == "right" else length - len(text.ids), number, text)
    return batch


def pack(texts: Sequence[Tokens], *, length: int) -> Batch:
    """Several texts a row, in the order of the list, each row filled as far as the next text fits.

    They do not see each other in networks that keep them apart (`cist_core.language.models.LanguageModel` refuses the
    others).

    Args:
        texts: at least one.
        length: L.

    Raises:
        CistError: as `pad`.
    """
    _check(texts, length)
    rows: list[list[int]] = [[]]
    room = length
    for number, text in enumerate(texts):
        if len(text.ids) > room:
            rows.append([])
            room = length
        rows[-1].append(number)
        room -= len(text.ids)
    batch = _empty(len(rows), length, packed=True)
    for row, numbers in enumerate(rows):
        start = 0
        for number in numbers:
            _put(batch, row, start, number, texts[number])
            start += len(texts[number].ids)
    return batch


def _check(texts: Sequence[Tokens], length: int | None) -> int:
    if not texts:
        raise CistError("Expected at least one text for a batch, but got none.")
    longest = max(len(text.ids) for text in texts)
    for text in texts:
        if not len(text.ids):
            raise CistError(f"{text.name} has no tokens; leave it out.")
        if length is not None and len(text.ids) > length:
            raise CistError(f"{text.name} has {len(text.ids):,} tokens, and a row only {length:,}; use longer rows.")
    return longest if length is None else length


def _empty(rows: int, length: int, *, packed: bool = False) -> Batch:
    """Padding alone. Its positions are all 0, so in a packed row every place of padding is a text of its own."""
    zeros = torch.zeros(rows, length, dtype=torch.int64)
    return Batch(
        zeros, torch.full_like(zeros, PADDING), zeros.clone(), torch.zeros(rows, length, dtype=torch.bool), packed
    )


def _put(batch: Batch, row: int, start: int, number: int, text: Tokens) -> None:
    place = (row, slice(start, start + len(text.ids)))
    batch.ids[place] = torch.from_numpy(text.ids)
    batch.texts[place] = number
    batch.position_ids[place] = torch.arange(len(text.ids))
    batch.counted[place] = torch.from_numpy(text.counted)
    batch.counted[row, start] = False
