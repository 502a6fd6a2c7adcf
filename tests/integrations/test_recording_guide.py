"""What docs/recording.md shows can be copied and run."""

import re
from pathlib import Path

import pytest

from cist_core import LogitSet

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "recording.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("needed", "number", "samples"), [("torch", 0, 100), ("lightning", 1, 100), ("transformers", 2, 20)]
)
def test_the_snippet_writes_a_file_of_logits(needed, number, samples, tmp_path, monkeypatch, capsys):
    pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    exec(compile(SNIPPETS[number], f"snippet {number}", "exec"), {})
    recorded = LogitSet.load("teacher.safetensors")
    assert (recorded.num_samples, recorded.num_classes) == (samples, 3)
    assert recorded.labels is not None


def test_there_are_three() -> None:
    assert len(SNIPPETS) == 3
