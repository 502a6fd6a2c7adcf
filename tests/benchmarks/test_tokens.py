"""What a token set costs, measured with tiny models: the same process, figures and result file."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

pytest.importorskip("transformers")

import tokens
from tiny_language_models import save_tiny_model

TOKENS = Path(__file__).parents[2] / "benchmarks" / "tokens.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process as Linux tells it")


def measure(folder, *options, names=("tiny",)):
    models = [str(save_tiny_model(folder / name)) for name in names]
    text = folder / "text.txt"
    text.write_text(" ".join(f"w{20 + 7 * number % 60}" for number in range(600)))
    command = [sys.executable, str(TOKENS), "--lm", *models, "--text", str(text), "--length", "32"]
    command += ["--output", str(folder / "tokens.json"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def in_this_process(monkeypatch):
    """Commands run here, for the tests that are about their rows and sentences: importing torch takes seconds."""
    run_there = subprocess.run

    def run(command, **options):
        if command[:2] != [sys.executable, str(TOKENS)]:
            return run_there(command, **options)
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr("sys.argv", command[1:])
            try:
                tokens.main()
            except SystemExit as stop:
                code = 1
                print(stop, file=err)
        sys.stderr.write(err.getvalue())  # a child's is its parent's
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    monkeypatch.setattr(subprocess, "run", run)


def test_a_row_has_times_memory_size_and_errors(tmp_path):
    ended = measure(tmp_path, "--tokens", "500")
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads((tmp_path / "tokens.json").read_text())
    assert 500 <= row["tokens"] < 531
    assert 400 <= row["checked_tokens"] < 431
    assert (row["length"], row["vocabulary"]) == (32, 97)
    assert row["machine"]["cores"] == os.cpu_count()
    assert {"processor", "load_average", "torch", "transformers"} < row["machine"].keys()
    forward = sum(row["steps"][what]["processor_seconds"] for what in ("states", "logits"))
    assert row["processor_share"] == pytest.approx(row["steps"]["token set"]["processor_seconds"] / forward)
    assert 2_000 < row["bytes_a_token"] < 4_000
    assert row["memory_bytes"].keys() == {"reading", "writing"}
    assert all(0 <= size < 2e9 for size in row["memory_bytes"].values())
    assert {"rho 2", "rho 30"} < row["largest_errors"].keys()
    assert 0 < max(row["largest_errors"].values()) < 1e-4
    assert "bytes a token on the disk" in ended.stdout


def test_each_model_has_a_row_that_takes_the_place_of_its_earlier_one(in_this_process, tmp_path):
    def rows():
        return json.loads((tmp_path / "tokens.json").read_text())

    ended = measure(tmp_path, "--tokens", "100", names=("one", "other"))
    assert ended.returncode == 0, ended.stderr
    first, second = rows()
    assert [Path(row["model"]).name for row in (first, second)] == ["one", "other"]
    assert measure(tmp_path, "--tokens", "100", names=("one",)).returncode == 0
    again, same = rows()
    assert again["model"] == first["model"]
    assert again["steps"] != first["steps"]
    assert same == second
    assert measure(tmp_path, "--tokens", "200", names=("one",)).returncode == 0
    assert len(rows()) == 3


def test_texts_that_are_too_short_are_refused(in_this_process, tmp_path):
    ended = measure(tmp_path, "--tokens", "5000")
    assert ended.returncode == 1
    assert "have 600 tokens that are predicted, but 5,000 were asked for" in ended.stderr
    assert not (tmp_path / "tokens.json").exists()
