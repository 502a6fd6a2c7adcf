"""A stretch of text as people read it: its tokens as words, and what a model expected at each of them.

Everything that a page needs to show soft labels at any temperature is in it, and the model is not needed any more.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cist_core import kernels
from cist_core.entropy.curves import EntropyCurves
from cist_core.language.pieces import token_types
from cist_core.language.texts import COUNTED, FastTokenizer, Tokens
from cist_core.language.token_set import TokenPair, TokenSet

LONGEST = 512
"""Tokens that a page shows at once."""
MOST_LIKELY = 10
"""Tokens that are named wherever one was predicted."""

_BROKEN = "\ufffd"  # what a tokenizer writes for bytes that are no whole character
_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTES = {chr(byte): byte for byte in _PRINTED} | {
    chr(0x100 + number): byte for number, byte in enumerate(sorted({*range(0x100)} - {*_PRINTED}))
}
"""The letter that a vocabulary of bytes, as that of GPT-2, writes for each: its own where that is printed."""


class Stretch(NamedTuple):
    """Where the most unusual tokens stand.

    Attributes:
        start: the first token, by its position in the text.
        mean: of the measure over the stretch.
        largest: of the measure in it.
    """

    start: int
    mean: float
    largest: float


def stretches(values: NDArray[np.floating], positions: NDArray[np.int64], *, length: int = LONGEST) -> list[Stretch]:
    """A text cut into stretches of one length, the last one shorter, with a measure of the tokens in each.

    Args:
        values: of the predicted tokens, ``(n,)``.
        positions: of these in the text, ascending.
        length: tokens a stretch.

    Example:
        >>> stretches(np.array([1.0, 3.0, 5.0]), np.array([1, 2, 3]), length=2)
        [Stretch(start=0, mean=1.0, largest=1.0), Stretch(start=2, mean=4.0, largest=5.0)]
    """
    found = []
    for start in range(0, int(positions[-1]) + 1 if len(positions) else 0, length):
        inside = values[(positions >= start) & (positions < start + length)]
        if len(inside):
            found.append(Stretch(start, float(inside.mean()), float(inside.max())))
    return found


def rows_of(tokens: TokenSet, sequence: int, start: int, *, length: int = LONGEST) -> NDArray[np.int64]:
    """Which tokens of a set are those of a stretch of a text, in the order of the text."""
    facts = tokens.facts
    return np.flatnonzero(
        (facts.sequences == sequence) & (facts.positions >= start) & (facts.positions < start + length)
    )


def curves_of(tokens: TokenSet, rows: NDArray[np.int64]) -> EntropyCurves:
    """The entropy curves of some tokens."""
    statistics = kernels.RowStatistics(*(column[rows] for column in tokens.statistics))
    return EntropyCurves(statistics, tokens.num_classes, table=tokens.table[rows], fits_memory=False)


def describe(
    read: TokenSet | TokenPair,
    tokens: Tokens,
    tokenizer: FastTokenizer,
    *,
    before: TokenPair | None = None,
    sequence: int = 0,
    start: int = 0,
    length: int = LONGEST,
) -> dict[str, Any]:
    """Some tokens of a text, as JSON can hold them.

    Args:
        read: what a model, or a teacher and a student, expected of the text, perhaps among others.
        tokens: the text.
        tokenizer: that made them.
        before: what the teacher and the student before its training expected of the same texts.
        sequence: the number of the text in what was read.
        start: the first token to show.
        length: how many at most.

    Returns:
        ``tokens``, one object each, with ``text``, ``type`` (its number in `cist_core.language.pieces.TOKEN_TYPES`),
        ``role``, ``counted``, ``position``, ``id`` and ``bytes``; ``names``
        of all ids; ``nodes``, the ratios of the curves; ``classes``, how many take part; ``prompts``, the roles that do
        not count; ``teacher``, and ``student`` and ``before`` or None. These have ``tokens``: for every token that was
        predicted ``maximum`` (m), ``rank``, ``shifted`` (its logit minus the largest) and ``top`` (ids and shifted
        logits of the most likely), None for others; and ``curves``, base64 of float32: for every predicted token H,
        dH/dr and ln Z at each node. Those of a student have ``cross``, likewise of D and dD/dr, see
        `kernels.cross_table`, and ``reverse``, with the models exchanged.
    """
    teacher = read.models[0]
    pairs = {"student": read if isinstance(read, TokenPair) else None, "before": before}
    models = [teacher, *(pair.student for pair in pairs.values() if pair is not None)]
    of_stretch = rows_of(teacher, sequence, start, length=length)
    row_at = dict(zip(teacher.facts.positions[of_stretch].tolist(), of_stretch.tolist(), strict=True))
    positions = range(start, min(start + length, len(tokens.ids)))
    rows = [row_at.get(position) for position in positions]
    ids, texts = tokens.ids.tolist(), token_texts(tokens.ids.tolist(), tokenizer)
    types = token_types(ids, texts, special=frozenset(tokenizer.all_special_ids))
    names: dict[int, str] = {}
    for position, row in zip(positions, rows, strict=True):
        if row is not None:
            for model in models:
                for token in (*model.top_ids[row, :MOST_LIKELY].tolist(), ids[position]):
                    names.setdefault(token, token_name(token, ids[position - 1], tokenizer))
    return {
        "tokens": [
            {
                "text": texts[position],
                "type": types[position],
                "role": str(tokens.roles[position]),
                "counted": bool(tokens.counted[position]),
                "position": position,
                "id": ids[position],
                "bytes": int(tokens.bytes[position]),
            }
            for position in positions
        ],
        "names": names,
        "nodes": kernels.ratio_grid().tolist(),
        "classes": teacher.num_classes,
        "prompts": sorted({str(role) for role in tokens.roles} - COUNTED),
        "teacher": _expected(teacher, rows),
        **{name: None if pair is None else _compared(pair, rows) for name, pair in pairs.items()},
    }


def _compared(pair: TokenPair, rows: Sequence[int | None]) -> dict[str, Any]:
    """What a student expected, and what lies between its teacher and it."""
    predicted = [row for row in rows if row is not None]
    tables = {"cross": pair.cross, "reverse": pair.reverse}
    return _expected(pair.student, rows) | {name: _packed(table[predicted]) for name, table in tables.items()}


def _expected(model: TokenSet, rows: Sequence[int | None]) -> dict[str, Any]:
    """What a model expected at each place."""
    predicted = [row for row in rows if row is not None]
    curves = np.concatenate([model.table[predicted], model.log_partition[predicted][..., None]], axis=2)
    return {"tokens": [None if row is None else _prediction(model, row) for row in rows], "curves": _packed(curves)}


def _prediction(model: TokenSet, row: int) -> dict[str, Any]:
    top = zip(model.top_ids[row, :MOST_LIKELY].tolist(), model.top[row, :MOST_LIKELY], strict=True)
    return {
        "maximum": _short(model.statistics.maximum[row]),
        "rank": int(model.rank[row]),
        "shifted": _short(model.shifted[row]),
        "top": [[token, _short(shifted)] for token, shifted in top],
    }


def _packed(array: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def token_texts(ids: Sequence[int], tokenizer: FastTokenizer) -> list[str]:
    """The text of each token, which joined are the whole.

    A character whose bytes are spread over several tokens stands at the last of them, and the others have none.
    """
    found: list[str] = []
    decoded: dict[tuple[int, ...], str] = {}  # the same pairs come again and again
    known = begun = 0  # tokens whose text is written; where the one before them begins, for tokenizers that join words
    for end in range(1, len(ids) + 1):
        both = tuple(ids[begun:known]), tuple(ids[begun:end])
        for part in both:
            if part not in decoded:
                decoded[part] = _decode(part, tokenizer)
        before, now = (decoded[part] for part in both)
        if now.endswith(_BROKEN) and end < len(ids):
            found.append("")
            continue
        found.append(now[len(before) :])
        begun, known = known, end
    return found


def token_name(token: int, before: int, tokenizer: FastTokenizer) -> str:
    """A token as it would follow another, with its space; where it is no whole character, by its bytes."""
    text = _decode([before, token], tokenizer)[len(_decode([before], tokenizer)) :]
    if text and _BROKEN not in text:
        return text
    written = str(tokenizer.convert_ids_to_tokens(token))
    if written.startswith("<0x"):  # the vocabulary says its byte
        return written
    codes = [f"{_BYTES[letter]:02X}" for letter in written if letter in _BYTES]
    return f"{'byte' if len(codes) == 1 else 'bytes'} {' '.join(codes)}" if len(codes) == len(written) else written


def _decode(ids: Sequence[int], tokenizer: FastTokenizer) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _short(value: np.floating) -> float:
    return float(f"{float(value):.6g}")
