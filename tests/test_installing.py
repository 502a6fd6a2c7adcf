"""The command in an error runs the pip of the Python that lacks something."""

from __future__ import annotations

import sys

import pytest

from cist_core.installing import pip_install


@pytest.mark.parametrize(
    ("prefix", "active", "python"),
    [
        ("/lab/.venv", None, ".venv/bin/python -m "),
        ("/lab/.venv", "/lab/.venv", ""),
        ("/lab/a b", "/lab/.venv", "'a b/bin/python' -m "),
        ("/usr", None, ""),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="paths are those of Linux and macOS")
def test_an_environment_that_is_not_active_is_named(
    prefix: str, active: str | None, python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    if active is not None:
        monkeypatch.setenv("VIRTUAL_ENV", active)
    assert pip_install("hf") == f"{python}pip install 'cist-studio[hf]'"
