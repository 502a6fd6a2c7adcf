"""What Streamlit's test runner leaves behind is put back, and what it does again for every app is done once."""

import sys
from collections.abc import Iterator

import pytest
from streamlit.components.v2 import manifest_scanner

from tests.app.driver import ReadHere


@pytest.fixture(autouse=True)
def _main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes the app the main module, which every process that multiprocessing starts later would then run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session", autouse=True)
def _installed_components() -> Iterator[None]:
    """It looks for components through the metadata of every installed package, for every app, where a server does once.

    That takes longer than the app's first picture, and grows with what is installed.
    """
    found = manifest_scanner.scan_component_manifests()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", lambda: found)
        yield


@pytest.fixture
def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are read in this process, for the tests that are about what is shown of them."""
    monkeypatch.setattr("app.tokens.readings.Child", ReadHere)
