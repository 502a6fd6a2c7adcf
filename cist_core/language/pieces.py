"""What kind of text a token is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

WORD, CONTINUATION, PUNCTUATION, NUMBER, WHITESPACE, SPECIAL = (
    "word start", "continuation", "punctuation", "number", "whitespace", "special",
)  # fmt: skip
TOKEN_TYPES = (WORD, CONTINUATION, PUNCTUATION, NUMBER, WHITESPACE, SPECIAL)
"""Every type of token, by its number."""


def token_types(ids: Sequence[int], texts: Sequence[str], *, special: Collection[int] = ()) -> list[int]:
    """The type of each token, as its number in `TOKEN_TYPES`.

    A token with a letter starts a word if a space stands in or before it, or if what stands before it ends with no
    letter and no digit; else it continues one. Of the others, those with a digit are numbers.

    Args:
        ids: of the tokens of one text, in their order.
        texts: of these, from `cist_core.language.passage.token_texts`.
        special: the ids that stand for no text, such as an end.

    Example:
        >>> [TOKEN_TYPES[number] for number in token_types(range(5), ["Un", "do", " 12", ",", " it"])]
        ['word start', 'continuation', 'number', 'punctuation', 'word start']
    """
    found, before = [], " "
    for number, text in zip(ids, texts, strict=True):
        found.append(TOKEN_TYPES.index(SPECIAL if number in special else _type_of(text, before)))
        before = " " if number in special else text or before
    return found


def _type_of(text: str, before: str) -> str:
    if text and not text.strip():
        return WHITESPACE
    if any(letter.isalpha() for letter in text):
        return CONTINUATION if not text[0].isspace() and before[-1].isalnum() else WORD
    if any(letter.isnumeric() for letter in text):
        return NUMBER
    # A part of a character, whose text stands at its last part, is no mark of its own.
    return CONTINUATION if not text or "\N{REPLACEMENT CHARACTER}" in text else PUNCTUATION
