"""A language model on texts as the pages of the Studio read it."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

pytest.importorskip("transformers")

from tiny_language_models import CLASSES, WORDS, save_tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cist_core import CistError
from cist_core.language.models import open_language_model
from cist_core.language.pieces import TOKEN_TYPES
from cist_core.language.sources import load_tokens, open_texts
from cist_core.language.text_predictions import TOKENS, TextPredictions, visible
from cist_core.language.text_predictions import WORDS as WORDS_FILE

LINES = '{"prompt": "w3 w4", "response": " w5 w6 w5"}\n{"text": "w7 w5 w8 w9 w5"}\n'


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", scale=8.0))


@pytest.fixture
def found(model, monkeypatch, tmp_path) -> TextPredictions:
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "texts.jsonl").write_text(LINES)
    opened, texts = open_texts(model, tmp_path / "texts.jsonl")
    return TextPredictions.of(load_tokens(model, tmp_path / "texts.jsonl"), texts, opened.tokenizer)


def test_the_samples_are_the_tokens_that_count(found, model):
    """The response of the first text, and all but the first token of the second, each with its end."""
    assert [found.word(sample) for sample in range(found.num_samples)] == [
        "·w5", "·w6", "·w5", "·<end>", "·w5", "·w8", "·w9", "·w5", "·<end>",
    ]  # fmt: skip
    assert found.positions.tolist() == [2, 3, 4, 5, 1, 2, 3, 4, 5]
    counts = Counter([5, 6, 5, 1, 5, 8, 9, 5, 1])
    assert found.frequencies.tolist() == [counts[number] for number in (5, 6, 5, 1, 5, 8, 9, 5, 1)]
    assert [TOKEN_TYPES[kind] for kind in found.kinds[2:5]] == ["word start", "special", "word start"]
    assert (found.num_classes, found.left_out) == (WORDS, tuple(range(WORDS, CLASSES)))
    assert found.curves().num_samples == found.num_samples == 9


def test_loss_accuracy_and_ranks_are_those_of_the_models_own_logits(found, model):
    opened = open_language_model(model)
    rows = []
    for ids, first in (([3, 4, 5, 6, 5, 1], 1), ([7, 5, 8, 9, 5, 1], 0)):
        with torch.inference_mode():
            logits = opened.network(input_ids=torch.tensor([ids])).logits[0, :-1, :WORDS].double().numpy()
        rows += [(logits[at], ids[at + 1]) for at in range(first, len(ids) - 1)]
    surprisal = [-log_softmax(logits)[number] for logits, number in rows]
    ranks = [1 + int((logits > logits[number]).sum()) for logits, number in rows]
    np.testing.assert_allclose(found.surprisals, surprisal, atol=1e-4)
    assert found.ranks.tolist() == ranks
    assert found.nll == pytest.approx(np.mean(surprisal), abs=1e-4)
    assert found.accuracy == pytest.approx(np.mean(np.equal(ranks, 1)))


def test_characters_of_several_tokens_are_whole_and_have_their_types(model, monkeypatch, tmp_path):
    """With a token for every byte, as GPT-2 has it for what it has no words for."""
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "texts.jsonl").write_text(LINES)
    known = Tokenizer(models.BPE())
    known.pre_tokenizer, known.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    known.train_from_iterator([], trainers.BpeTrainer(vocab_size=256, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=known)
    text = "Schöne Grüße, café naïve — it’s “so”"
    ids = np.asarray(known.encode(text).ids)
    assert len(ids) == len(text.encode()) > len(text)
    analysed = load_tokens(model, tmp_path / "texts.jsonl")
    found = TextPredictions.of(analysed, [SimpleNamespace(ids=ids)], tokenizer)
    assert found.first[0] + "".join(found.texts) == text
    types = [(word, TOKEN_TYPES[kind]) for word, kind in zip(found.texts, found.types, strict=True) if word]
    for letter in "öüßéï":
        assert (letter, "continuation") in types
    assert {kind for word, kind in types if word in ",—’“”"} == {"punctuation"}
    assert {kind for word, kind in types if word.isascii() and word.isalpha()} == {"continuation", "word start"}


def test_the_context_of_a_token_stays_in_its_text(found):
    assert found.context(0) == ("w3 w4", " w6 w5 <end>")
    assert found.context(4) == ("w7", " w8 w9 w5 <end>")
    assert found.context(8, before=2) == (" w9 w5", "")


def test_what_was_saved_is_read_again(found, tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    found.save(folder)
    read = TextPredictions.load(folder)
    assert read.fingerprint == found.fingerprint
    assert (read.texts, dict(read.first), dict(read.vocabulary)) == (found.texts, found.first, found.vocabulary)
    assert read.class_names == found.class_names
    assert "Precision: weights in float32" in read.provenance["texts"]


def test_words_of_other_tokens_are_refused(found, tmp_path):
    found.save(tmp_path)
    (tmp_path / WORDS_FILE).write_text('{"texts": ["w1"], "types": [0], "first": {}, "vocabulary": {}}')
    with pytest.raises(CistError, match=r"words of these tokens cannot be read \(1 words for 10 tokens\)"):
        TextPredictions.load(tmp_path)
    (tmp_path / TOKENS).unlink()
    with pytest.raises(CistError):
        TextPredictions.load(tmp_path)


def test_spaces_and_line_ends_are_to_be_seen():
    assert visible(" a\tb\r\n") == "·a⇥b↵"
    assert visible("\x1b") == "\\x1b"
