"""Texts become tokens: the ids of the whole, the roles of the parts."""

import json
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from cist_core import CistError
from cist_core.language.texts import Example, Piece, example_of, load_texts, read_texts, remarks, tokenise, tokenise_all

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module", params=[False, True], ids=["offsets-whole", "offsets-without-space"])
def tokenizer(request):
    """A byte-level BPE that knows a few words, whose offsets leave out spaces or not."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.post_processor = processors.ByteLevel(trim_offsets=request.param)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    words.train_from_iterator(["the answer is four hundred and the question is an answer"] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")
    fast.chat_template = CHAT
    return fast


def written(tokens, tokenizer, role):
    """The text of the tokens of one role."""
    return tokenizer.decode(tokens.ids[tokens.roles == role], clean_up_tokenization_spaces=False)


def test_prompt_and_response_are_tokenised_together(tokenizer):
    example = Example("one", (Piece("prompt", "the question is"), Piece("response", " an answer")))
    tokens = tokenise(example, tokenizer, longest=100)
    whole = tokenizer("the question is an answer")["input_ids"]
    assert tokens.ids.tolist() == [*whole, tokenizer.eos_token_id]
    assert written(tokens, tokenizer, "prompt") == "the question is"
    assert written(tokens, tokenizer, "response") == " an answer<end>"
    assert tokens.counted.tolist() == (tokens.roles == "response").tolist()
    assert tokens.straddling == 0


def test_a_token_over_the_seam_is_the_prompts_and_is_counted(tokenizer):
    example = Example("one", (Piece("prompt", "the question is "), Piece("response", "an answer")))
    tokens = tokenise(example, tokenizer, longest=100)
    assert written(tokens, tokenizer, "prompt") == "the question is an"
    assert tokens.straddling == 1


def test_the_true_end_counts_where_padding_has_its_id(tokenizer):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    tokens = tokenise(example_of({"text": "four"}, "x"), tokenizer, longest=100)
    assert tokens.ids[-1] == tokenizer.eos_token_id
    assert tokens.counted[-1]


def test_characters_of_several_bytes_keep_their_role(tokenizer):
    example = Example("one", (Piece("prompt", "naïve 🙂"), Piece("response", "🙃 é")))
    tokens = tokenise(example, tokenizer, longest=100)
    assert written(tokens, tokenizer, "prompt") == "naïve 🙂"
    assert written(tokens, tokenizer, "response") == "🙃 é<end>"


def test_what_is_too_long_is_cut_and_counted(tokenizer):
    tokens = tokenise(example_of({"text": "the answer is four hundred"}, "x"), tokenizer, longest=3)
    assert len(tokens.ids) == len(tokens.roles) == len(tokens.counted) == 3
    assert tokens.left_out == len(tokenizer("the answer is four hundred")["input_ids"]) + 1 - 3


def test_a_plain_text_is_read_to_its_end_in_parts(tokenizer):
    whole = tokenise(example_of({"text": "the answer is four hundred"}, "x"), tokenizer, longest=100)
    for longest in range(2, len(whole.ids) + 2):
        parts = tokenise_all([example_of({"text": "the answer is four hundred"}, "x")], tokenizer, longest=longest)
        assert max(len(part.ids) for part in parts) <= longest
        predicted = [part.ids[1:].tolist() for part in parts]
        assert sum(predicted, []) == whole.ids[1:].tolist()  # noqa: RUF017
        assert [bool(part.counted[0]) for part in parts] == [True] + [False] * (len(parts) - 1)
        assert all(part.counted[1:].all() and part.left_out == 0 for part in parts)
        assert all(after.ids[0] == before.ids[-1] for before, after in pairwise(parts))
    assert parts[0].name == "x"


@pytest.mark.parametrize("longest", [5, 16, 1000])
def test_the_bytes_of_a_text_are_those_of_its_tokens_wherever_it_is_cut(tokenizer, longest):
    text = "Ωμέγα и Ж, 日本語のテキスト 🙂: the answer is four \n" * 8
    parts = tokenise_all([example_of({"text": text}, "x")], tokenizer, longest=longest)
    first = parts[0].bytes[0]
    assert first == len("Ω".encode())  # one token of two bytes has both
    assert first + sum(part.counted_bytes for part in parts) == len(text.encode())
    assert parts[-1].bytes[-1] == 0  # the end


def test_the_bytes_of_a_response_are_its_own(tokenizer):
    example = Example("one", (Piece("prompt", "naïve 🙂"), Piece("response", " 🙃 é four ")))
    assert tokenise(example, tokenizer, longest=100).counted_bytes == len(" 🙃 é four ".encode())
    chat = {"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": "fö <end>ur"}]}
    tokens = tokenise(example_of(chat, "chat"), tokenizer, longest=100)
    assert tokens.counted_bytes == len("fö ur\n".encode())  # a special token is no text


def test_spaces_that_a_tokenizer_drops_are_bytes_all_the_same():
    words = {"<u>": 0, "</s>": 1, "▁Who": 2, "▁Noah": 3, "▁son": 4}
    known = Tokenizer(models.WordLevel(words, unk_token="<u>"))
    known.pre_tokenizer, known.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=known, eos_token="</s>", unk_token="<u>")
    question = example_of({"prompt": "Who", "response": " Noah son"}, "x")
    assert tokenise(question, fast, longest=64).counted_bytes == len(" Noah son")
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=known, eos_token="</s>", unk_token="<u>")
    question = example_of({"prompt": "Who", "response": " is this  \n"}, "x")
    assert tokenise(question, fast, longest=64).counted_bytes == len(" is this  \n")


def test_what_is_cut_or_does_not_count_is_said(tokenizer):
    question = Example("one", (Piece("prompt", "the question is "), Piece("response", "an answer")))
    long = Example("two", (Piece("prompt", "the question is the question is"), Piece("response", " four")))
    texts = tokenise_all([question, long], tokenizer, longest=6)
    said = remarks(texts)
    assert said[0] == "Tokens that begin in a prompt and end in a response belong to the prompt and do not count: 1."
    assert "Texts longer than what is read at once: 1 of 2; tokens left out at their ends: " in said[1]
    assert said[2] == "Texts that have no token that counts: 1 of 2."
    assert remarks(tokenise_all([example_of({"text": "four hundred"}, "x")], tokenizer, longest=9)) == []
    parts = tokenise_all([example_of({"text": "the answer is four hundred"}, "x")], tokenizer, longest=3)
    assert remarks(parts) == [
        "Plain texts longer than what is read at once are read in parts, each without what stands before it; "
        f"texts: 1, parts: {len(parts)}."
    ]
    assert remarks([*parts, *texts, *parts])[-2].endswith(f"texts: 2, parts: {2 * len(parts)}.")


def test_special_tokens_that_a_text_spells_are_counted(tokenizer):
    examples = [example_of({"text": "four<end> hundred <end>"}, "x"), example_of({"text": "four"}, "y")]
    for longest in (3, 100):
        said = remarks(tokenise_all(examples, tokenizer, longest=longest))
        assert said[0] == "Places where a text spells a special token, which the model reads as that token: 2."
    assert tokenise(examples[0], tokenizer, longest=100).ids.tolist().count(tokenizer.eos_token_id) == 3


def test_a_chat_is_written_by_the_template_and_answers_count(tokenizer):
    record = {
        "messages": [
            {"role": "user", "content": "the question"},
            {"role": "assistant", "content": "four"},
            {"role": "user", "content": "an answer"},
            {"role": "assistant", "content": "hundred"},
        ]
    }
    tokens = tokenise(example_of(record, "chat"), tokenizer, longest=200)
    text = tokenizer.apply_chat_template(record["messages"], tokenize=False)
    assert tokens.ids.tolist() == tokenizer(text)["input_ids"]
    assert written(tokens, tokenizer, "assistant") == "four\nhundred\n"
    assert tokens.counted.tolist() == (tokens.roles == "assistant").tolist()


def test_a_template_is_asked_only_for_what_stands_before_and_after_an_answer(tokenizer):
    """Such as that of Qwen 3.5 or Mistral, which refuse a system message alone, or write it into the question."""
    tokenizer.chat_template = (
        "{% if messages[-1].role == 'system' %}{{ raise_exception('no question') }}{% endif %}"
        "{% for m in messages if m.role != 'system' %}<{{ m.role }}>"
        "{% if loop.first and messages[0].role == 'system' %}{{ messages[0].content }} {% endif %}{{ m.content }}\n"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    messages = [
        {"role": "system", "content": "the hundred"},
        {"role": "user", "content": "the question"},
        {"role": "assistant", "content": "four"},
        {"role": "user", "content": "an answer"},
    ]
    try:
        tokens = tokenise(example_of({"messages": messages}, "chat"), tokenizer, longest=200)
    finally:
        tokenizer.chat_template = CHAT
    assert written(tokens, tokenizer, "assistant") == "four\n"
    assert written(tokens, tokenizer, "prompt") == "<user>the hundred the question\n<assistant><user>an answer\n"
    assert tokens.counted.tolist() == (tokens.roles == "assistant").tolist()


def test_an_end_that_the_tokenizer_writes_is_not_written_twice(tokenizer):
    before = tokenizer.backend_tokenizer.post_processor
    end = ("<end>", tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[end])
    try:
        asked = Example("one", (Piece("prompt", "the question is"), Piece("response", " an answer")))
        for example in (example_of({"text": "four hundred"}, "x"), asked):
            tokens = tokenise(example, tokenizer, longest=100)
            assert np.count_nonzero(tokens.ids == tokenizer.eos_token_id) == 1
            assert tokens.ids[-1] == tokenizer.eos_token_id
            assert tokens.counted[-1]
    finally:
        tokenizer.backend_tokenizer.post_processor = before


def test_a_template_that_rewrites_is_refused(tokenizer):
    tokenizer.chat_template = "{{ messages | length }} messages{% for m in messages %}{{ m.content }}{% endfor %}"
    record = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    try:
        with pytest.raises(CistError, match="changes earlier messages"):
            tokenise(example_of(record, "chat"), tokenizer, longest=200)
    finally:
        tokenizer.chat_template = CHAT


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ([1], "is no object"),
        ({"prompt": "a", "response": "b", "text": "c"}, "has 'text' and 'prompt' with 'response', of which only one"),
        ({"messages": [], "text": "c"}, "has 'messages' and 'text', of which only one can be its text; keep that one"),
        ({"prompt": "a", "response": "b", "output": "c"}, "has 'prompt' with 'response' and 'prompt' with 'output'"),
        ({"prompt": "a"}, "has the fields 'prompt'; expected 'text'"),
        ({"prompt": "a", "response": 3}, "'response' is int, not text"),
        ({"messages": "hello"}, "is no list of messages"),
        ({"messages": [{"role": "user"}]}, "message 1 has no 'role' and 'content'"),
        ({"text": "a\ud800"}, "half of a surrogate pair at character 1"),
    ],
)
def test_a_wrong_record_is_told_in_a_sentence(record, sentence):
    with pytest.raises(CistError, match=sentence):
        example_of(record, "file, line 2")


def test_files(tmp_path):
    lines = tmp_path / "two.jsonl"
    lines.write_text(
        json.dumps({"prompt": "a", "output": "b\u2028c"}, ensure_ascii=False)
        + "\n\n"
        + json.dumps({"text": "d"})
        + "\n"
    )
    examples = read_texts(lines)
    assert [example.pieces[-1].text for example in examples] == ["b\u2028c", "d"]
    assert examples[1].name == "two.jsonl, line 3"
    (tmp_path / "plain.txt").write_text("In the beginning")
    with pytest.raises(CistError, match=r"'test' for .*plain\.txt, which is one set; leave it out"):
        load_texts(tmp_path / "plain.txt", split="test")
    assert read_texts(tmp_path / "plain.txt")[0].pieces == (Piece("text", "In the beginning"),)
    assert example_of({"id": 3, "prompt": "p", "text": "a"}, "x").pieces == (Piece("text", "a"),)
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    assert read_texts(tmp_path / "marked.txt")[0].pieces == (Piece("text", "one\r\ntwo\n"),)
    (tmp_path / "marked.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n')
    assert [example.pieces[0].text for example in read_texts(tmp_path / "marked.jsonl")] == ["a", "b"]
    (tmp_path / "latin.txt").write_bytes(b"na\xefve")
    with pytest.raises(CistError, match=r"latin.txt is not text in UTF-8 \(byte 2\)"):
        read_texts(tmp_path / "latin.txt")
    (tmp_path / "wrong.jsonl").write_text('{"text": "a"}\n{"text": ')
    with pytest.raises(CistError, match=r"wrong.jsonl, line 2 is not JSON \(Expecting value at character 10\)"):
        read_texts(tmp_path / "wrong.jsonl")


def test_a_chat_needs_a_template(tokenizer):
    tokenizer.chat_template = None
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    try:
        with pytest.raises(CistError, match=r"^x is a chat, and this model has no chat template; give 'prompt' and"):
            tokenise(example_of(chat, "x"), tokenizer, longest=9)
    finally:
        tokenizer.chat_template = CHAT


def test_a_name_twice_on_a_line_is_refused(tmp_path):
    (tmp_path / "twice.jsonl").write_text('{"text": "a", "text": "b"}\n')
    with pytest.raises(CistError, match=r"twice.jsonl, line 1 is not JSON \('text' stands twice in one object\)"):
        load_texts(tmp_path / "twice.jsonl")


def test_a_data_set_of_the_hub(monkeypatch):
    datasets = pytest.importorskip("datasets")
    dolly = datasets.Dataset.from_dict({"prompt": ["the question is "] * 2, "response": ["four", "hundred"]})
    asked = []

    def load(repo, config, *, split, download_config):
        asked.append((repo, config, split, download_config.local_files_only))
        return dolly

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_, **__: ["train", "val"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    examples = load_texts("hf:some/dolly:small", split="validation")
    assert [example.pieces[1].text for example in examples] == ["four", "hundred"]
    assert examples[1].name == "hf:some/dolly:small, validation, row 2"
    assert asked == [("some/dolly", "small", "val", True)]
    with pytest.raises(CistError, match="'hf:some/dolly' has no split 'test'; there are: train, validation"):
        load_texts("hf:some/dolly", split="test")
    with pytest.raises(CistError, match="to name a repository of the Hugging Face hub"):
        load_texts("hf:../dolly")


def test_ids_are_whole_numbers(tokenizer):
    assert tokenise(example_of({"text": "four"}, "x"), tokenizer, longest=9).ids.dtype == np.int64
