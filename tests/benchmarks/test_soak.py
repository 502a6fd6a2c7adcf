"""The soak, for half a minute: what an hour of it does is all done once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soak

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_half_a_minute_of_everything_at_once_loses_nothing(tmp_path):
    output = tmp_path / "soak.json"
    options = ["--minutes", "0.6", "--people", "2", "--epochs", "4", "--no-linger", "--output", str(output)]
    ended = subprocess.run([sys.executable, str(SOAK), *options], capture_output=True, text=True, check=False)
    found = json.loads(output.read_text())
    assert (found["faults"], ended.returncode) == ([], 0), ended.stderr
    for what in ("people", "runs", "uploads", "finished runs compared", "steps of the clock"):
        assert found["done"][what] > 0, what


def test_a_length_that_is_none_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [str(SOAK), "--minutes", "0"])
    with pytest.raises(SystemExit) as ended:
        soak.main()
    assert ended.value.code == 2
    assert "expected up to a day" in capsys.readouterr().err
