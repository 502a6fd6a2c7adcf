"""The command in an error runs the pip of the Python that lacks something."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cist_core.installing import pip_install


def test_an_environment_below_the_working_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pip_install("hf") == "pip install 'cist-studio[hf]'"
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert pip_install("hf") == f"{Path('.venv/bin/python')} -m pip install 'cist-studio[hf]'"
