"""``cist evaluate``: what a language model predicts and answers, with every answer in a file."""

import json

import numpy as np
import pytest
import torch
from command_line import run
from scipy.special import log_softmax

pytest.importorskip("transformers")

from tiny_language_models import WORDS, save_tiny_model

from cist_core.language import evaluation
from cist_core.language.evaluation import Question, questions_of, rouge_l
from cist_core.language.models import open_language_model
from cist_core.language.texts import example_of

ASKED = [("w3 w4 w5", " w6 w7 w8 w9"), ("w10 w11", " w12 w13"), ("w3 w4 w5", " w14 w15")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save_tiny_model(folder / name, seed=seed)) for seed, name in enumerate(("student", "teacher"))]


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": asked, "response": right}) for asked, right in ASKED))
    return path


def evaluated(capsys, *arguments):
    code, out, err = run(capsys, "evaluate", *arguments, "--device", "cpu", "--json")
    assert code == 0, err
    return json.loads(out), err


def log_shares(name):
    """Of every token of a response, by the network's own logits, and the tokens."""
    network, found, came = open_language_model(name).network, [], []
    for asked, right in ASKED:
        ids = [int(word[1:]) for word in f"{asked}{right}".split()] + [1]
        first = len(asked.split()) - 1
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([ids])).logits[0, first:-1, :WORDS].double().numpy()
        found.append(log_softmax(logits, axis=1))
        came += ids[first + 1 :]
    return np.concatenate(found), np.array(came)


def test_the_scores_are_those_of_the_models_own_logits(capsys, models, questions):
    record, remarks = evaluated(
        capsys, "--lm", models[0], "--teacher", models[1], "--text", questions, "--batch-size", "2"
    )
    (shares, came), (others, _) = map(log_shares, models)
    nll = -shares[np.arange(len(came)), came]
    assert record["counted_tokens"] == len(came) == 11
    assert record["nll"] == pytest.approx(nll.mean(), abs=1e-5)
    assert record["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-5)
    size = sum(len(right) for _, right in ASKED)
    assert record["bits_per_byte"] == pytest.approx(nll.sum() / (np.log(2) * size), rel=1e-5)
    assert record["accuracy"] == pytest.approx((shares.argmax(1) == came).mean())
    assert record["agreement"] == pytest.approx((shares.argmax(1) == others.argmax(1)).mean())
    assert record["answers"] is None
    assert remarks.count("states in float32") == 2


def test_answers_are_scored_and_kept_and_one_prompt_is_one_question(capsys, models, questions, tmp_path):
    pytest.importorskip("rouge_score")
    file = tmp_path / "answers.jsonl"
    options = ["--lm", models[0], "--text", questions, "--answers", file, "--longest", "4", "--seeds", "3", "5"]
    record, err = evaluated(capsys, *options)
    assert f"Wrote {file}." in err
    head, *kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["prompt"], line["references"]) for line in kept] == [
        ("w3 w4 w5", [" w6 w7 w8 w9", " w14 w15"]),
        ("w10 w11", [" w12 w13"]),
    ]
    found = record["answers"]
    references = [line["references"] for line in kept]
    scores = {name: rouge_l([line["answers"][name] for line in kept], references) for name in ("greedy", "3", "5")}
    assert head["rouge_l"] == scores == {"greedy": found["rouge_l_greedy"], **found["rouge_l_drawn"]}
    assert found["rouge_l_mean"] == pytest.approx((scores["3"] + scores["5"]) / 2)
    assert found["rouge_l_deviation"] == pytest.approx(abs(scores["3"] - scores["5"]) / 2**0.5)
    assert (found["questions"], found["file"]) == (2, str(file))
    assert found["cut"] == sum(len(line["cut"]) for line in kept)
    code, _, err = run(capsys, "evaluate", *options)
    assert code == 2
    assert f"There is {file} already; name another file for --answers, or move it away." in err
    file.unlink()
    code, out, err = run(capsys, "evaluate", *options)
    assert code == 0, err
    assert "ROUGE-L of the answers to 2 questions, in percent: " in out
    assert "Over 2 seeds the standard deviation is " in out


def test_answers_of_the_seeds_before_are_kept_where_one_fails(models, tmp_path, monkeypatch):
    pytest.importorskip("rouge_score")
    model, asked = open_language_model(models[0]), [Question("w3 w4", ("w5",))]
    real = evaluation.answer

    def answer(*arguments, seed, **options):
        if seed == 5:
            raise MemoryError
        return real(*arguments, seed=seed, **options)

    monkeypatch.setattr(evaluation, "answer", answer)
    with pytest.raises(MemoryError):
        evaluation.score_answers(model, asked, tmp_path / "answers.jsonl", seeds=(3, 5), longest=2)
    head, line = map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())
    assert head["rouge_l"] is None
    assert list(line["answers"]) == ["greedy", "3"]


def test_a_prompt_that_ends_in_white_space_is_remarked(capsys, models, tmp_path):
    pytest.importorskip("rouge_score")
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"prompt": "w3 w4 ", "response": "w5"}))
    options = ["--lm", models[0], "--text", path, "--answers", tmp_path / "answers.jsonl", "--longest", "2"]
    record, _ = evaluated(capsys, *options, "--seeds", "3")
    assert any(sentence.startswith("Prompts that end in white space: 1.") for sentence in record["remarks"])


def test_questions_of_a_chat_are_written_by_the_template(models):
    model = open_language_model(models[0])
    model.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    said = [("user", "w3"), ("assistant", "w4"), ("user", "w5"), ("assistant", "w6")]
    record = {"messages": [{"role": role, "content": content} for role, content in said]}
    chat = example_of(record, "talk, line 1")
    (question,) = questions_of([chat], model)
    assert question == Question("<user>w3<assistant>w4<user>w5<assistant>", ("w6",))


def test_what_cannot_be_asked_is_told_in_a_sentence(capsys, models, questions, tmp_path):
    plain, chat = tmp_path / "plain.txt", tmp_path / "chat.jsonl"
    plain.write_text("w3 w4 w5 w6")
    said = json.dumps({"messages": [{"role": "user", "content": "w3"}, {"role": "assistant", "content": "w4"}]})
    chat.write_text(f"{questions.read_text()}\n{said}\n")
    file = tmp_path / "answers.jsonl"
    for arguments, sentence in (
        (["--text", plain, "--answers", file], "plain.txt asks for no answer; expected 'prompt' and 'response'"),
        (["--text", chat, "--answers", file], "chat.jsonl, line 4 is a chat, and chat.jsonl, line 1 is none"),
        (["--text", questions, "--seeds", "3"], "Expected --seeds only together with --answers"),
        (["--text", questions, "--longest", "3"], "Expected --longest only together with --answers"),
        (["--text", questions, "--answers", file, "--longest", "0"], "Expected --longest to be at least 1"),
        (["--text", questions, "--answers", file, "--seeds", "9" * 20], "Expected --seeds from 0 to 2^63 - 1"),
        (["--text", questions, "--answers", questions], "questions.jsonl already; name another file for --answers"),
        (["--text", questions, "--answers", tmp_path], f"There is {tmp_path} already"),
        (["--text", questions, "--batch-size", "0"], "Expected --batch-size to be at least 1"),
        (["--text", questions, "--length", "1"], "Expected --length to be at least 2 tokens"),
    ):
        code, _, err = run(capsys, "evaluate", "--lm", models[0], *arguments)
        assert code == 2
        assert sentence in err
    assert not file.exists()
