"""What the commands say about files of logits: what they were given as, labels of their own file, the top k."""

import json

import numpy as np
import pytest
from command_line import run
from reference import entropy_at
from scipy.special import log_softmax, softmax

from cist_core import LogitSet


def run_json(capsys, *arguments):
    """The one JSON object that a command prints, and its remarks."""
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out), err


@pytest.fixture
def probabilities(tmp_path, logits):
    path = tmp_path / "probabilities.npy"
    np.save(path, softmax(logits.astype(np.float64), axis=1))
    return path


@pytest.fixture
def label_file(tmp_path, labels):
    path = tmp_path / "labels.npy"
    np.save(path, labels)
    return path


def test_probabilities_and_labels_of_their_own_file(capsys, probabilities, label_file, logits, labels):
    arguments = ["analyze", "--logits", probabilities, "--labels", label_file, "--tau", 2]
    record, err = run_json(capsys, *arguments)
    assert err == "Given as probabilities; their logarithms were taken.\n"
    assert record["profiles"][0]["mean"] == pytest.approx(entropy_at(logits, 2).mean(), abs=1e-4)
    _, out, _ = run(capsys, *arguments)
    assert f"accuracy {100 * np.mean(logits.argmax(axis=1) == labels):.1f} %" in out


def test_rho_and_convert_take_the_same_options(capsys, tmp_path, probabilities, label_file):
    source = ["--labels", label_file, "--given-as", "probabilities"]
    record, _ = run_json(capsys, "rho", "--logits", probabilities, *source)
    assert record["rho"] > 1
    out = tmp_path / "out.safetensors"
    _, err = run_json(capsys, "convert", probabilities, out, *source)
    assert "Given as probabilities" in err
    converted = LogitSet.load(out)
    assert converted.labels is not None
    assert converted.provenance["given_as"].startswith("probabilities")


def test_token_logits_are_told(capsys, tmp_path, logits):
    np.savez(tmp_path / "t.npz", logits=logits.reshape(30, 10, 10), mask=np.arange(300).reshape(30, 10) % 2)
    record, err = run_json(capsys, "analyze", "--logits", tmp_path / "t.npz", "--tau", 2)
    assert record["samples"] == 150
    assert err == (
        "Token logits, one sample a position: 150 of 300 positions of 30 sequences; of (30, 10, 10), the last axis is "
        "read as the classes, which the shape does not tell; left out: masked out.\n"
    )


@pytest.fixture
def top_k(tmp_path, logits):
    log_probs = log_softmax(logits.astype(np.float64), axis=1)
    ids = np.argsort(-log_probs, axis=1)[:, :3]
    np.savez(tmp_path / "topk.npz", ids=ids, log_probs=np.take_along_axis(log_probs, ids, axis=1))
    return tmp_path / "topk.npz"


def test_the_top_k_have_bounds(capsys, top_k, logits):
    record, err = run_json(capsys, "analyze", "--logits", top_k, "--vocabulary", 10, "--tau", 1, 3)
    assert err == ""
    assert (record["samples"], record["classes"], record["k"]) == (300, 10, 3)
    for each, tau in zip(record["bounds"], (1, 3), strict=True):
        assert each["rule"] == f"tau={tau}"
        assert each["lower"] <= entropy_at(logits, tau).mean() <= each["upper"]
        assert each["width"] == pytest.approx(each["upper"] - each["lower"])
    code, out, _ = run(capsys, "analyze", "--logits", top_k, "--vocabulary", 10)
    assert code == 0
    assert "the 3 most probable of 10 classes" in out
    assert all(text in out for text in ("tau=1", "tau=2", "tau=4", "CIST is not among them: its temperature needs"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--logits", "TOPK"], "the number of classes is not in it; give it with --vocabulary V"),
        (["--logits", "TOPK", "--vocabulary", "10", "--rho", "3"], "but got cist:rho=3; CIST is not among them"),
        (["--logits", "TOPK", "--vocabulary", "10", "--out", "r.html"], "Expected --out only together with the logits"),
        (["--logits", "TOPK", "--vocabulary", "2"], "Expected ids from 0 to 1"),
        (
            ["--logits", "FULL", "--vocabulary", "10"],
            "found the arrays ['labels', 'logits'], but not 'ids' and 'log_probs'",
        ),
        (
            ["--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--vocabulary", "10"],
            "Expected --vocabulary only together",
        ),
        (
            ["--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--labels", "l.npy"],
            "Expected --labels only together with",
        ),
        (["--logits", "FULL", "--given-as", "probabilities"], "they look like logits: use --given-as logits"),
        (["--logits", "FULL", "--given-as", "odds"], "invalid choice: 'odds'"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(capsys, top_k, file, arguments, message):
    given = [argument.replace("TOPK", str(top_k)).replace("FULL", file) for argument in arguments]
    code, out, err = run(capsys, "analyze", *given)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_students_file_is_read_as_the_teachers_is(capsys, tmp_path, file, logits, labels):
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))  # of independent classes: the user has to say what they are
    np.savez(tmp_path / "student.npz", probs=scores, labels=labels)
    arguments = ["analyze", "--logits", file, "--student", tmp_path / "student.npz", "--tau", 2]
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "student.npz: 'probs' lies between 0 and 1, but its rows sum to" in err
    code, _, err = run(capsys, *arguments, "--given-as", "logits")
    assert code == 0
    assert "Given as" not in err
    code, _, err = run(
        capsys, "analyze", "--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--student", tmp_path / "student.npz"
    )
    assert code == 2
    assert "student.npz: 'probs' lies between 0 and 1" in err
    code, _, err = run(capsys, "analyze", "--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--given-as", "logits")
    assert code == 2
    assert "Expected --given-as only together with --logits, or --student with a file; models return logits" in err
