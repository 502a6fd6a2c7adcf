"""Two tokenizers of one vocabulary may cut one text into other tokens: by other merges, or with a beginning."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("transformers")

from tiny_language_models import END, save_tiny_model
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from cist_core import CistError
from cist_core.language.inference import infer_pair, infer_tokens
from cist_core.language.models import open_language_model
from cist_core.language.sources import tokens_for
from cist_core.language.teacher_cache import open_teacher_cache
from cist_core.language.texts import example_of, remarks
from cist_core.language.vocabulary import shared_classes

BEGINNING = "<begin>"
TOKENS = {token: number for number, token in enumerate(["a", END, BEGINNING, "b", "c", "ab", "bc"])}
MERGES = [("a", "b"), ("b", "c")]
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"


def save_tokenizer(folder, merges=MERGES, *, beginning=False, end=END, chat_template=None):
    known = Tokenizer(models.BPE(TOKENS, merges))
    if beginning:
        known.post_processor = processors.TemplateProcessing(
            single=f"{BEGINNING} $A", special_tokens=[(BEGINNING, TOKENS[BEGINNING])]
        )
    fast = PreTrainedTokenizerFast(tokenizer_object=known, eos_token=end, pad_token=END, bos_token=BEGINNING)
    fast.chat_template = chat_template
    fast.save_pretrained(folder)


OTHERS = {
    "other merges": {"merges": MERGES[::-1]},
    "a beginning": {"beginning": True},
    "another end": {"end": BEGINNING},
}


@pytest.fixture
def first(tmp_path, monkeypatch):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    save_tokenizer(save_tiny_model(tmp_path / "first"), chat_template=CHAT)
    return open_language_model(str(tmp_path / "first"))


@pytest.fixture(params=OTHERS)
def other(tmp_path, request):
    """The same weights and the same vocabulary."""
    save_tokenizer(save_tiny_model(tmp_path / "other"), **OTHERS[request.param])
    return open_language_model(str(tmp_path / "other"))


def test_the_numbers_are_the_same_tokens_and_the_text_is_not(first, other):
    assert shared_classes(first.vocabulary, other.vocabulary).tolist()
    text = example_of({"text": "abc"}, "a text")
    (ours,), (theirs,) = tokens_for([first], [text]), tokens_for([other], [text])
    assert ours.ids.tolist() == [TOKENS["ab"], TOKENS["c"], TOKENS[END]]
    assert theirs.ids.tolist() != ours.ids.tolist()


def test_what_they_say_of_the_text_is_not_compared(first, other):
    text = example_of({"text": "abcabc"}, "a text")
    ours, theirs = (infer_tokens(model, tokens_for([model], [text])) for model in (first, other))
    with pytest.raises(CistError, match="Expected two token sets of the same texts, but"):
        ours.check_same_tokens(theirs)


def test_the_states_of_one_are_not_used_for_the_other(first, other, tmp_path):
    text = example_of({"text": "abc"}, "a text")
    open_teacher_cache(tmp_path / "states", first, tokens_for([first], [text]))
    same_tokenizer = dataclasses.replace(other, tokenizer_sha256=first.tokenizer_sha256)
    for model, said in ((other, "its tokenizer, the texts"), (same_tokenizer, "the texts")):
        with pytest.raises(CistError, match=f"made with others: {said} changed since"):
            open_teacher_cache(tmp_path / "states", model, tokens_for([model], [text]))


def test_a_model_that_would_cut_a_text_otherwise_reads_the_ids_of_the_first_and_is_named(first, other):
    texts = [example_of({"prompt": "abc", "response": "abc"}, "line 1"), example_of({"text": "abcabc"}, "line 2")]
    found = tokens_for([first, other], texts)
    for text, alone in zip(found, tokens_for([first], texts), strict=True):
        np.testing.assert_array_equal(text.ids, alone.ids)
        assert (text.cut_otherwise, alone.cut_otherwise) == (("other",), ())
    (said,) = [each for each in remarks(found) if "would cut" in each]
    assert said.startswith("The tokenizer of other would cut some texts into other tokens, first line 1; other reads")
    assert infer_pair(first, other, found).divergence(1.0, 1.0) == pytest.approx(0, abs=1e-5)  # the same weights


def test_every_part_of_a_long_text_is_marked(first, tmp_path):
    save_tokenizer(save_tiny_model(tmp_path / "other"), MERGES[::-1])
    parts = tokens_for(
        [first, open_language_model(str(tmp_path / "other"))], [example_of({"text": "abc" * 9}, "t")], length=8
    )
    assert len(parts) > 2
    assert all(part.cut_otherwise == ("other",) for part in parts)


def test_where_both_cut_alike_nothing_is_said(first, tmp_path):
    """What differs lies beyond what is read, or the files of the tokenizers alone do."""
    save_tokenizer(save_tiny_model(tmp_path / "other"), MERGES[::-1])
    other = open_language_model(str(tmp_path / "other"))
    texts = [
        example_of({"text": "abab"}, "a text"),
        example_of({"prompt": "ab", "response": "ababababc"}, "a long one"),
        example_of({"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "ab"}]}, "a chat"),
    ]
    found = tokens_for([first, other], texts, length=4)
    assert {text.cut_otherwise for text in found} == {()}
    assert other.tokenizer_sha256 != first.tokenizer_sha256
