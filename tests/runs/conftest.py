"""A store in a folder of its own; nothing that works on it is left behind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_stores import s3, url  # noqa: F401 - fixtures

from cist_core import CistError
from cist_core.runs import RunStore
from tests.runs.cluster import Cluster
from tests.runs.workplace import EXECUTORS, Workplace


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def workplace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(tmp_path / "runs", EXECUTORS[getattr(request, "param", "local")](request))
    try:
        yield place
    finally:
        with contextlib.suppress(CistError):
            place.stop()


@pytest.fixture
def store(workplace: Workplace) -> RunStore:
    return workplace.store
