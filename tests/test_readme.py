"""What the README tells people to type works."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from cist_core.cli import main

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def folder_with_logits(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 10)) * rng.uniform(1, 8, (300, 1))
    np.savez(tmp_path / "my_logits.npz", logits=logits.astype(np.float32), labels=rng.integers(0, 10, 300))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIST_RUNS", str(tmp_path / "background"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("   #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("cist ")]


def test_there_is_something_to_try() -> None:
    assert len(commands()) >= 6
    assert len(blocks("python")) == 1


# `cist infer` with a foreign checkpoint needs one, a sweep takes minutes, the Studio stays: their tests run them.
ELSEWHERE = ("cist infer", "cist sweep", "cist studio")
QUICK = [command for command in commands() if not command.startswith(ELSEWHERE)]


@pytest.mark.parametrize("command", QUICK)
def test_command(command: str, capsys) -> None:
    # A run here does with one epoch of few images: that the demo learns in all of its own is a test of the engine.
    shorter = ["--set", "epochs=1", "--set", "data.train_samples=200"] if command.startswith("cist distill") else []
    assert main([*shlex.split(command)[1:], *shorter]) == 0
    assert capsys.readouterr().out.strip()


def test_python(capsys) -> None:
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.count("EntropyProfile(") == 2
