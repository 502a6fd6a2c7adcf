"""What Streamlit's test runner leaves behind is put back."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes the app the main module, which every process that multiprocessing starts later would then run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
