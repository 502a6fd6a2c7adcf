"""Child processes and what they may find in the folder that they start in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cist_core.processes import PYTHON
from tests.studio import ROOT

STRANGE = 'raise SystemExit("a file of somebody else was run")\n'


@pytest.mark.parametrize("name", ["json.py", "numpy.py", "cist_core.py"])
def test_files_in_the_working_directory_are_no_modules(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(STRANGE)
    command = [*PYTHON, "-m", "cist_core", "models", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_process_of_ours_is_started_so() -> None:
    paths = [path for folder in ("cist_core", "app", "pages") for path in ROOT.glob(f"{folder}/**/*.py")]
    assert [path.name for path in paths if "sys.executable" in path.read_text(encoding="utf-8")] == ["processes.py"]
