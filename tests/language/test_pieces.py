"""What kind of text a token is."""

import pytest

from cist_core.language.pieces import (
    CONTINUATION,
    NUMBER,
    PUNCTUATION,
    SPECIAL,
    TOKEN_TYPES,
    WHITESPACE,
    WORD,
    token_types,
)


def types_of(ids, texts, **options):
    return [TOKEN_TYPES[number] for number in token_types(ids, texts, **options)]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["The", " cat", "'s", " 12", ":"], [WORD, WORD, CONTINUATION, NUMBER, PUNCTUATION]),
        ([" liv", "es", ":"], [WORD, CONTINUATION, PUNCTUATION]),
        (["end", ".", "\n\n", "Next"], [WORD, PUNCTUATION, WHITESPACE, WORD]),
        ([" (", "or", " so", ")"], [PUNCTUATION, WORD, WORD, PUNCTUATION]),
        (["x", "2", "y"], [WORD, NUMBER, CONTINUATION]),
    ],
)  # fmt: skip
def test_types(texts, expected):
    assert types_of(range(len(texts)), texts) == expected


def test_what_stands_for_no_text_is_special_and_a_word_after_it_starts():
    assert types_of([7, 8, 9], ["the", "<end>", "next"], special={8}) == [WORD, SPECIAL, WORD]


def test_a_part_of_a_character_continues_and_the_last_is_what_the_character_is():
    assert types_of(range(5), ["caf", "", "é", "", "”"]) == [
        WORD,
        CONTINUATION,
        CONTINUATION,
        CONTINUATION,
        PUNCTUATION,
    ]
