"""A store in a folder of its own; nothing that works on it is left behind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cist_core import CistError
from cist_core.runs import RunStore
from tests.runs.workplace import Workplace


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(tmp_path / "runs")
    try:
        yield place
    finally:
        with contextlib.suppress(CistError):
            place.stop()


@pytest.fixture
def store(workplace: Workplace) -> RunStore:
    return workplace.store
