"""What a language model is worth, against transformers' own loss and rouge-score's own numbers."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from scipy.special import log_softmax
from tiny_language_models import CLASSES, WORDS, save_tiny_model
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from cist_core import CistError
from cist_core.language import evaluation
from cist_core.language.evaluation import Question, answer, rouge_l, score_answers, score_texts, score_tokens
from cist_core.language.head import Head
from cist_core.language.inference import infer_tokens
from cist_core.language.models import open_language_model
from cist_core.language.texts import example_of, tokenise


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return open_language_model(str(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")))


@pytest.fixture(scope="module")
def texts(model):
    generator = np.random.default_rng(0)
    lengths = (3, 9, 17, 2, 30)
    words = [" ".join(f"w{word}" for word in generator.integers(20, WORDS, length)) for length in lengths]
    return [tokenise(example_of({"text": text}, "a text"), model.tokenizer, longest=64) for text in words]


def test_perplexity_is_that_of_transformers(texts, tmp_path):
    model = open_language_model(str(save_tiny_model(tmp_path, words=CLASSES)))  # without classes that are no token
    nll, count = 0.0, 0
    for text in texts:
        ids = torch.from_numpy(text.ids)[None]
        with torch.inference_mode():
            mean = model.network(input_ids=ids, labels=ids).loss.item()
        nll += mean * (len(text.ids) - 1)
        count += len(text.ids) - 1
    scores = score_texts(model, texts)
    assert scores.tokens == count
    assert scores.perplexity == pytest.approx(math.exp(nll / count), rel=1e-5)


def test_classes_that_are_no_token_take_part_in_no_score(model, texts, monkeypatch, tmp_path):
    """As in the analysis, and against SciPy."""
    monkeypatch.setenv("CIST_CACHE", str(tmp_path))
    nll, right = [], []
    for text in texts:
        with torch.inference_mode():
            logits = model.network(input_ids=torch.from_numpy(text.ids)[None]).logits[0, :-1, :WORDS].double().numpy()
        nll += (-log_softmax(logits, 1)[np.arange(len(logits)), text.ids[1:]]).tolist()
        right += (logits.argmax(1) == text.ids[1:]).tolist()
    scores, found = score_texts(model, texts), infer_tokens(model, texts)
    assert scores.nll == pytest.approx(np.mean(nll), abs=1e-5)
    assert scores.nll == pytest.approx(found.nll[found.facts.counted].mean(), abs=1e-5)
    assert scores.right == sum(right)


def test_padding_may_lie_between_tokens():
    generator = np.random.default_rng(1)
    weight, states = (generator.standard_normal(shape).astype(np.float32) for shape in ((9, 4), (20, 4)))
    classes, bias = np.array([0, 1, 4, 5, 8]), np.where(np.isin(np.arange(9), [2, 3]), 50, 0).astype(np.float32)
    ids = generator.choice(classes, 20)
    head = Head(torch.from_numpy(weight), torch.from_numpy(bias))
    scores = score_tokens(torch.from_numpy(states), torch.from_numpy(ids), head, torch.from_numpy(classes))
    logits = (states.astype(np.float64) @ weight.T.astype(np.float64))[:, classes]
    expected = -log_softmax(logits, 1)[np.arange(20), np.searchsorted(classes, ids)]
    np.testing.assert_allclose(scores.nll, expected, atol=1e-5)
    assert scores.answers.tolist() == classes[logits.argmax(1)].tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_neither_the_batch_size_nor_padding_changes_perplexity(model, texts, batch_size):
    whole, parts = score_texts(model, texts), score_texts(model, texts, batch_size=batch_size)
    assert parts.nll == pytest.approx(whole.nll, abs=1e-6)
    assert (parts.tokens, parts.right, parts.bytes) == (whole.tokens, whole.right, whole.bytes)


def test_an_added_padding_token_changes_nothing(model, texts):
    padded = [
        text._replace(
            ids=np.append(text.ids, 1),
            roles=np.append(text.roles, "text"),
            counted=np.append(text.counted, False),
            bytes=np.append(text.bytes, 0),
        )
        for text in texts
    ]
    assert score_texts(model, padded).nll == pytest.approx(score_texts(model, texts).nll, abs=1e-6)


def add_pad_token(folder):
    """As those do who want to pad in batches, and leave the embeddings as they are."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.add_special_tokens({"pad_token": "[PAD]"}) == 1
    tokenizer.save_pretrained(folder)
    return open_language_model(str(folder))


def scored(model, **options):
    given = [{"text": "w30 w40 w50"}, {"prompt": "w20 w21", "response": " w22 w23 w24 w25"}, {"text": "w60 w61"}]
    texts = [tokenise(example_of(each, "a text"), model.tokenizer, longest=64) for each in given]
    return score_texts(model, texts, **options)


@pytest.mark.parametrize("words", [CLASSES, WORDS], ids=["no-class-is-free", "a-class-of-padding-is"])
def test_a_tokenizer_with_an_added_pad_token_gives_the_same_perplexity_and_bits_per_byte(tmp_path, words):
    plain = open_language_model(str(save_tiny_model(tmp_path, words=words)))
    before = scored(plain)
    model = add_pad_token(tmp_path)
    assert model.head.num_classes == CLASSES
    assert model.vocabulary.beyond == {words: "[PAD]"}
    after = scored(model)
    assert (after.tokens, after.bytes, after.right) == (before.tokens, before.bytes, before.right)
    assert after.perplexity == pytest.approx(before.perplexity, rel=1e-6)
    assert after.bits_per_byte == pytest.approx(before.bits_per_byte, rel=1e-6)
    assert scored(model, compared_with=plain).agreement == 1  # and it is the same vocabulary
    written = tokenise(example_of({"text": "w30 [PAD] w40"}, "a text"), model.tokenizer, longest=64)
    with pytest.raises(CistError, match=rf"A text contains the token {words}, '\[PAD\]', but .* take it out"):
        score_texts(model, [written])


def test_a_pad_token_among_the_tokens_of_a_model_takes_part(tmp_path):
    """As that of OPT or BLOOM: it was not added after the others."""
    folder = save_tiny_model(tmp_path)
    written = json.loads((folder / "tokenizer_config.json").read_text()) | {"pad_token": "w7"}
    (folder / "tokenizer_config.json").write_text(json.dumps(written))
    model = open_language_model(str(folder))
    assert model.tokenizer.pad_token == "w7"
    assert (model.vocabulary.beyond, len(model.vocabulary.classes)) == ({}, WORDS)


def test_bits_per_byte_count_the_bytes_of_the_text(model, texts):
    scores = score_texts(model, texts)
    # All words but the first one of each text, and the spaces before them.
    written = sum(len("".join(f" w{number}" for number in text.ids[1:-1])) for text in texts)
    assert scores.bytes == written
    assert scores.bits_per_byte == pytest.approx(scores.nll_sum / math.log(2) / written)


def test_an_end_alone_has_no_bits_per_byte(model):
    end = tokenise(example_of({"prompt": "w5", "response": ""}, "a text"), model.tokenizer, longest=64)
    scores = score_texts(model, [end])
    assert (scores.tokens, scores.bytes, scores.bits_per_byte) == (1, 0, math.inf)
    assert math.isfinite(scores.nll)


def test_chunks_of_logits_change_nothing(model, texts, monkeypatch):
    whole = score_texts(model, texts)
    monkeypatch.setattr(evaluation, "CHUNK_VALUES", 200)
    assert score_texts(model, texts).nll == pytest.approx(whole.nll, abs=1e-6)


def test_a_model_agrees_with_itself_and_less_with_another(model, texts, tmp_path):
    other = open_language_model(str(save_tiny_model(tmp_path / "other", seed=1)))
    assert score_texts(model, texts, compared_with=model, batch_size=2).agreement == 1
    assert score_texts(model, texts, compared_with=other).agreement < 1
    assert score_texts(model, texts).agreement is None


def test_models_of_two_vocabularies_do_not_agree(model, texts, tmp_path):
    other = open_language_model(str(save_tiny_model(tmp_path, words=50)))
    with pytest.raises(CistError, match="are not one: 40 numbers differ, first 50 is no token"):
        score_texts(model, texts, compared_with=other)


def test_texts_of_which_nothing_counts_have_no_score(model, texts):
    silent = [text._replace(counted=np.zeros_like(text.counted)) for text in texts]
    with pytest.raises(CistError, match="No token of these texts counts"):
        score_texts(model, silent)


def test_the_most_probable_answer_is_that_of_one_token_after_another(model):
    prompt = "w5 w6 w7"
    ids = model.tokenizer(prompt)["input_ids"]
    for _ in range(6):
        with torch.inference_mode():
            ids.append(int(model.network(input_ids=torch.tensor([ids])).logits[0, -1, :WORDS].argmax()))
    expected = ids[3:]
    expected = expected[: expected.index(1)] if 1 in expected else expected
    written = answer(model, [prompt, "w8"], longest=6)
    assert written[0].text == model.tokenizer.decode(expected, skip_special_tokens=True)
    assert written[0].cut == (len(expected) == 6)
    assert answer(model, [prompt], longest=6) == written[:1]  # padding of a neighbour does not matter


def test_a_long_prompt_does_not_shorten_the_answer_of_its_neighbour(model, tmp_path):
    endless = open_language_model(str(save_tiny_model(tmp_path)))
    endless.network.generation_config.eos_token_id = None
    endless.tokenizer.eos_token = None
    alone = answer(endless, ["w5 w6"], longest=40)
    beside = answer(endless, [" ".join(["w7"] * 60), "w5 w6"], longest=40)
    assert beside[1] == alone[0]
    assert [len(found.text.split()) for found in beside] == [4, 40]
    assert [found.cut for found in beside] == [True, True]


def test_settings_of_the_model_do_not_change_the_most_probable_answer(tmp_path):
    folder = save_tiny_model(tmp_path)
    plain = answer(open_language_model(str(folder)), ["w5 w6", "w8"], longest=12)
    settings = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "num_beams": 2, "bad_words_ids": [[7], [9]]}
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    model = open_language_model(str(folder))
    assert answer(model, ["w5 w6", "w8"], longest=12) == plain
    assert model.network.generation_config.repetition_penalty == 5  # left as it was


def test_each_token_that_ends_an_answer_does(model, tmp_path):
    endless = open_language_model(str(save_tiny_model(tmp_path)))
    (found,) = answer(endless, ["w5 w6"], longest=12)
    last = found.text.split()[-1]
    endless.network.generation_config.eos_token_id = [1, endless.tokenizer.get_vocab()[last]]
    (shorter,) = answer(endless, ["w5 w6"], longest=12)
    assert not shorter.cut
    assert last not in shorter.text.split()
    assert found.text.startswith(shorter.text)


def test_drawn_answers_follow_their_seed_and_leave_the_generator_alone(model):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (answer(model, ["w5 w6"], seed=seed, longest=12) for seed in (10, 10, 20))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_a_prompt_that_a_template_has_written_gets_no_second_beginning(model):
    plain = answer(model, ["w5 w6"], longest=12)
    told = []
    before = model.tokenizer.backend_tokenizer.post_processor
    beginning = ("w9", model.tokenizer.convert_tokens_to_ids("w9"))
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="w9 $A", special_tokens=[beginning])
    try:
        written = answer(model, ["w5 w6"], longest=12, templated=True, progress=lambda *done: told.append(done))
        begun = answer(model, ["w5 w6"], longest=12)
    finally:
        model.tokenizer.backend_tokenizer.post_processor = before
    assert written == plain != begun
    assert told == [(1, 1)]


def test_a_prompt_that_fills_the_model_is_refused(model):
    with pytest.raises(CistError, match="A prompt has 64 tokens"):
        answer(model, [" ".join(["w5"] * 64)])


def test_rouge_takes_the_best_reference_and_the_stems_of_words():
    pytest.importorskip("rouge_score")
    # Longest common subsequence of 3 of 4 and 3 words: F = 2 (3/4) (3/3) / (3/4 + 3/3).
    assert rouge_l(["the cats sat down"], [["something else", "the cat sat"]]) == pytest.approx(100 * 6 / 7)
    assert rouge_l(["a b", "c"], [["a b"], ["d"]]) == pytest.approx(50)
    with pytest.raises(CistError, match="1 answers to 2 questions"):
        rouge_l(["a"], [["a"], ["b"]])


def test_answers_are_kept_beside_their_scores(model, tmp_path):
    pytest.importorskip("rouge_score")
    questions = [Question("w5 w6", ("w7 w8", "w9")), Question("w10", ("w11",))]
    told = []
    scores = score_answers(
        model,
        questions,
        tmp_path / "answers.jsonl",
        seeds=(10, 20),
        longest=5,
        progress=lambda *done: told.append(done),
    )
    assert told == [(2, 6), (4, 6), (6, 6)]
    head, *lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert head["rouge_l"] == {"greedy": scores.greedy, **{str(seed): score for seed, score in scores.drawn.items()}}
    assert [line["prompt"] for line in lines] == ["w5 w6", "w10"]
    assert lines[0]["answers"].keys() == {"greedy", "10", "20"}
    assert sum(len(line["cut"]) for line in lines) == scores.cut
    assert scores.mean == pytest.approx(sum(scores.drawn.values()) / 2)
    assert dataclasses.replace(scores, drawn={10: 1.0}).deviation == 0


def test_answers_are_not_asked_for_where_they_cannot_be_scored_or_kept(model, tmp_path, monkeypatch):
    pytest.importorskip("rouge_score")
    monkeypatch.setattr(evaluation, "answer", None)
    questions = [Question("w5", ("w6",))]
    with pytest.raises(CistError, match="The answers cannot be written to"):
        score_answers(model, questions, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CistError, match="The answers cannot be written to"):
        score_answers(model, questions, tmp_path / "file" / "answers.jsonl")
    with pytest.raises(CistError, match="a reference or more"):
        score_answers(model, [Question("w5", ())], tmp_path / "answers.jsonl")
    monkeypatch.setattr(evaluation, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(CistError, match="ROUGE-L needs rouge-score"):
        score_answers(model, questions, tmp_path / "answers.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_answers_outlive_a_failure_to_score_them(model, tmp_path, monkeypatch):
    pytest.importorskip("rouge_score")

    def stopped(answers, references):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "rouge_l", stopped)
    with pytest.raises(KeyboardInterrupt):
        score_answers(model, [Question("w5", ("w6",))], tmp_path / "answers.jsonl", seeds=(10,), longest=5)
    head, line = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert head["rouge_l"] is None
    assert line["answers"]["greedy"] == answer(model, ["w5"], longest=5)[0].text
