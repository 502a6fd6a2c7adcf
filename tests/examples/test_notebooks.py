"""The example notebooks run from top to bottom, in a kernel, without a network."""

import ast
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Runs a notebook where its runs and its cache are its own; returns the outputs of its cells of code."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    for name in ("runs", "cache"):
        monkeypatch.setenv(f"CIST_{name.upper()}", str(tmp_path / name))

    def run(name: str) -> list:
        notebook = nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)
        NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]

    return run


def shown(cell, kind: str) -> str:
    return "".join(output.data[kind] for output in cell if kind in output.get("data", {}))


def test_there_are_three_and_all_of_them_are_run_here() -> None:
    own = Path(__file__).read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3
    assert all(f'outputs("{path.stem}")' in own for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_kept(path) -> None:
    """It would go stale; whoever opens a notebook runs it, and so do these tests."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_your_teacher_in_ten_lines(outputs) -> None:
    logits, found, figure, profile = outputs("your_teacher_in_ten_lines")
    assert "Logits: 1,000 samples, 10 classes, accuracy" in shown(logits, "text/html")
    assert "<table>" in shown(found, "text/html")
    assert "vegaEmbed" in shown(figure, "text/html")
    assert "cist:rho=" in shown(profile, "text/html")


def test_its_first_cell_is_ten_lines() -> None:
    notebook = nbformat.read(ROOT / "examples" / "your_teacher_in_ten_lines.ipynb", as_version=4)
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert len([line for line in first.splitlines() if line.strip()]) <= 10


def test_the_loss_in_your_own_loop(outputs) -> None:
    accuracies = ast.literal_eval(shown(outputs("the_loss_in_your_own_loop")[-1], "text/plain"))
    assert set(accuracies) == {"ce", "kd:tau=4", "cist:rho=4"}
    assert all(float(text.rstrip("%")) > 60 for text in accuracies.values())


def test_a_sweep_read_back(outputs) -> None:
    sweep, summary, epochs = outputs("a_sweep_read_back")
    assert "40/40" in "".join(output.get("text", "") for output in sweep)
    for text in ("kd", "cist:rho=4"):
        assert text in shown(summary, "text/plain")
    assert "cist, seed 1" in shown(epochs, "text/html")
