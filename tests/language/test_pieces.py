"""The text of each token where it stands, and what kind of text that is."""

import pytest

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cist_core.language.pieces import (
    CONTINUATION,
    NUMBER,
    PUNCTUATION,
    SPECIAL,
    TOKEN_TYPES,
    WHITESPACE,
    WORD,
    pieces,
    token_types,
)

TEXT = "The cat's 12 lives: unbelievable!\n\n  Café 3,000 (or so)\tend."


def types_of(ids, texts, **options):
    return [TOKEN_TYPES[number] for number in token_types(ids, texts, **options)]


@pytest.fixture(scope="module")
def byte_level():
    """As GPT-2's: a space is the first letter of a word, and a character may be several tokens."""
    known = Tokenizer(models.BPE())
    known.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    known.train_from_iterator([TEXT], trainer)
    return known


@pytest.fixture(scope="module")
def metaspace():
    """As Llama's: the decoder leaves the space before the first word out."""
    known = Tokenizer(
        models.Unigram([("<unk>", 0.0), *((f"▁{word}", -1.0) for word in ("the", "cat")), ("s", -2.0)], 0)
    )
    known.pre_tokenizer, known.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return known


def test_the_pieces_of_a_text_are_the_text(byte_level):
    ids = byte_level.encode(TEXT.replace("é", "e")).ids
    assert "".join(pieces(ids, byte_level)) == TEXT.replace("é", "e")


def test_a_space_that_the_decoder_writes_only_between_words_is_the_second_word_s(metaspace):
    ids = metaspace.encode("the cats the").ids
    assert list(pieces(ids, metaspace)) == ["the", " cat", "s", " the"]


def test_every_part_of_a_character_has_some_text(byte_level):
    ids = byte_level.encode("Ω", add_special_tokens=False).ids
    assert len(ids) == 2
    assert types_of(ids, list(pieces(ids, byte_level))) == [CONTINUATION, CONTINUATION]


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


def test_what_stands_for_no_text_is_special_and_a_word_after_it_starts(byte_level):
    assert types_of([7, 8, 9], ["the", "<end>", "next"], special={8}) == [WORD, SPECIAL, WORD]
