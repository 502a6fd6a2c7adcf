"""`make run CPU=1` takes torch from the index without CUDA, and from PyPI where that cannot be reached."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Stands for Python: makes "virtual environments" of itself, and writes down what pip would have installed.
PYTHON = """\
#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
    *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/streamlit ;;
    *--index-url*) exit $UNREACHABLE ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Runs `make` in a folder where nothing is installed; returns its output and what was called."""
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    python, calls = tmp_path / "python", tmp_path / "calls.txt"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(*arguments: str, unreachable: int = 0) -> tuple[str, list[str]]:
        calls.write_text("")
        environment = {"PATH": os.environ["PATH"], "CALLS": str(calls), "UNREACHABLE": str(unreachable)}
        done = subprocess.run(
            ["make", *arguments, f"PYTHON={python}"], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        called = calls.read_text().splitlines()
        return done.stdout, [line for line in called if any(kind in line for kind in ("pip install", "run", "bench"))]

    return run


def test_torch_without_cuda(make) -> None:
    said, (torch, project, run) = make("run", "CPU=1")
    assert "--index-url https://download.pytorch.org/whl/cpu torch>=2.6 torchvision>=0.21" in torch
    assert project.endswith("-e .[studio]")
    assert run == "run app/server.py --server.port 8501"
    assert "about 2 GB on disk" in said
    assert "PyPI" not in said


def test_an_index_that_cannot_be_reached_is_said_and_does_not_stop_it(make) -> None:
    said, calls = make("run", "CPU=1", unreachable=1)
    assert "https://download.pytorch.org/whl/cpu gave no torch, so it comes from PyPI" in said
    assert len(calls) == 3


def test_without_cpu_the_size_and_the_other_choice_are_said(make) -> None:
    said, calls = make("run")
    assert not any("--index-url" in call for call in calls)
    assert "about 7 GB" in said
    assert "CPU=1" in said


def test_a_choice_that_comes_too_late_is_said(make, tmp_path) -> None:
    make("run")
    assert "brings CUDA" not in make("run", "CPU=1")[0]
    (tmp_path / ".venv" / "lib" / "python3.12" / "site-packages" / "nvidia").mkdir(parents=True)
    assert "The torch in .venv brings CUDA: 'make clean' and" in make("run", "CPU=1")[0]
    assert "brings CUDA" not in make("run")[0]


def test_bench_measures_the_kernels_the_training_step_and_the_token_sets_of_what_ships(make) -> None:
    _, calls = make("bench")
    assert calls[-3:] == ["benchmarks/bench.py", "benchmarks/training.py", "benchmarks/tokens.py"]


def test_the_requirements_of_torch_are_those_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for requirement in ("torch>=2.6", "torchvision>=0.21"):
        assert f'"{requirement}"' in project
        assert f"'{requirement}'" in makefile
