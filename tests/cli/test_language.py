"""``--lm`` and ``--text``: language models in the commands that analyse logits."""

import json
import re

import numpy as np
import pytest
import torch
from command_line import run
from scipy.special import log_softmax

pytest.importorskip("transformers")

from tiny_language_models import WORDS, save_tiny_model

from cist_core.language.models import open_language_model

TEXT = "w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", scale=10.0)


@pytest.fixture
def command(model, monkeypatch, tmp_path):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(TEXT)
    return ["--lm", str(model), "--text", str(tmp_path / "text.txt"), "--device", "cpu"]


def run_json(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out), err


def test_analyze_tells_the_loss_and_the_entropies(capsys, command, model):
    record, remarks = run_json(capsys, "analyze", *command)
    opened = open_language_model(str(model))
    ids = torch.tensor([[*range(3, 15), 1]])
    with torch.inference_mode():
        logits = opened.network(input_ids=ids).logits[0, :-1, :WORDS].double().numpy()
    shares = log_softmax(logits, axis=1)
    assert (record["tokens"], record["counted_tokens"], record["texts"]) == (12, 12, 1)
    assert record["nll"] == pytest.approx(-shares[np.arange(12), ids[0, 1:]].mean(), abs=1e-4)
    assert record["perplexity"] == pytest.approx(np.exp(record["nll"]))
    fixed, ratio, floored = record["profiles"]
    assert fixed["rule"] == "tau=1"
    assert fixed["mean"] == pytest.approx(-(np.exp(shares) * shares).sum(axis=1).mean(), abs=1e-4)
    assert ratio["mean"] == pytest.approx(fixed["mean"], abs=1e-3)
    assert (ratio["floor"], floored["floor"]) == (0.0, 1.0)
    assert record["left_out_classes"] == list(range(WORDS, 97))
    assert "weights in float32, states in float32, logits in float32" in remarks
    code, out, remarks = run(capsys, "analyze", *command, "--tau", "1", "2")
    assert code == 0, remarks
    assert "Tokens: 12, of which 12 count; texts: 1; vocabulary: 90" in out
    assert "Classes that are no token of the tokenizer are left out: 7." in out
    assert "No rule was given" not in remarks


def test_rho_starts_at_tau_1_without_a_floor(capsys, command):
    record, _ = run_json(capsys, "rho", *command)
    assert record["anchor"]["key"] == "kd-tau-1"
    assert record["matched_tau"] == pytest.approx(1.0, abs=1e-3)
    assert record["source"]["counted_tokens"] == 12
    code, out, err = run(capsys, "rho", *command)
    assert code == 0, err
    assert "there is no spread to compare" not in out


def test_prompts_are_left_out_of_the_entropies(capsys, command, tmp_path):
    (tmp_path / "asked.jsonl").write_text(json.dumps({"prompt": "w3 w4 w5", "response": " w6 w7"}))
    command[3] = str(tmp_path / "asked.jsonl")
    record, _ = run_json(capsys, "analyze", *command)
    assert (record["tokens"], record["counted_tokens"]) == (5, 3)


def test_a_long_text_is_read_in_parts(capsys, command):
    record, remarks = run_json(capsys, "analyze", *command, "--length", "5")
    assert (record["tokens"], record["counted_tokens"], record["texts"]) == (12, 12, 1)
    assert "texts: 1, parts: 3" in remarks
    whole, remarks = run_json(capsys, "analyze", *command)
    assert whole["nll"] != pytest.approx(record["nll"], abs=1e-3)
    assert "parts" not in remarks


@pytest.mark.parametrize("name", ["analyze", "rho"])
def test_a_table_that_does_not_reach_tau_1_is_said(capsys, command, tmp_path, name):
    command[1] = str(save_tiny_model(tmp_path / "large", scale=200.0))
    record, remarks = run_json(capsys, name, *command)
    code, out, err = run(capsys, name, *command)
    assert code == 0, err
    tau = float(
        re.search(
            r"tau=([\d.]+) is the lowest temperature" if name == "analyze" else r"τ = ([\d.]+), the lowest",
            out + remarks,
        )[1]
    )
    assert tau > 1
    if name == "analyze":
        assert record["profiles"][0]["rule"] == f"tau={tau:g}"
        code, _, err = run(capsys, name, *command, "--tau", "1")
        assert code == 2
        assert "use a higher temperature" in err
        assert "into memory" not in err
    else:
        assert record["matched_tau"] == pytest.approx(tau, rel=1e-3)


def test_options_that_do_not_fit_are_refused(capsys, command, tmp_path):
    np.savez(tmp_path / "topk.npz", ids=np.array([[0, 1]]), log_probs=np.log([[0.6, 0.3]]))
    top_k = ["--logits", str(tmp_path / "topk.npz")]
    for arguments, sentence in (
        (["analyze", "--lm", "smollm2"], "Expected --lm NAME together with --text FILE."),
        (["analyze", "--text", "a.txt"], "Expected --lm NAME together with --text FILE."),
        (["analyze", *command, "--length", "1"], "Expected --length to be at least 2 tokens"),
        (["rho", "--logits", "a.npz", "--length", "9"], "Expected --length only together with --lm and --text"),
        (["analyze", *command, "--split", "train"], "Expected a split only of a data set of the Hugging Face hub"),
        (["analyze", *command, "--data", "mnist-5k"], "Expected --data only together with --logits or --teacher"),
        (["analyze", *command, *top_k], "Expected one source, but got --lm and --logits; leave one of them out."),
        (["analyze", *command, "--vocabulary", "9"], "Expected --vocabulary only together with --logits or --teacher"),
        (["analyze", *command, "--out", "a.html"], "Expected --out only together with --logits or --teacher"),
        (["rho", *command, "--student", "a"], "Expected --student only together with --logits or --teacher"),
        (
            ["rho", *command, "--teacher", "a"],
            "Expected one source, but got --lm and --teacher; leave one of them out.",
        ),
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert sentence in err
