"""Shared by all tests: real data where it is at hand, and example logits."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from cist_core import LogitSet
from cist_core.temperature import rule

ROOT = Path(__file__).resolve().parent.parent

# The first call of a kernel compiles it, which a deadline would report as a flaky test.
settings.register_profile("cist", deadline=None, max_examples=60)
settings.load_profile("cist")


@pytest.fixture(scope="session", autouse=True)
def _runs_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The runs of whoever tests are neither shown nor started, and nothing is added to what they have added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIST_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("CIST_ADDED", str(tmp_path_factory.mktemp("added")))
        yield


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """The path of a real data file by its name; the test is skipped where the file is absent."""
    folder = Path(os.environ.get("CIST_SHARED_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"needs the real data file {name}; set CIST_SHARED_DATA to its folder")
        return path

    return find


@pytest.fixture
def logits() -> np.ndarray:
    """300 x 10 float32 rows like a teacher's: some confident, some not, each with its own offset."""
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((300, 10)) * rng.uniform(0.5, 6.0, (300, 1)) + rng.uniform(-20, 20, (300, 1))
    return rows.astype(np.float32)


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 10, 300)


@pytest.fixture
def logit_set(logits: np.ndarray, labels: np.ndarray) -> LogitSet:
    names = [f"class {index}" for index in range(10)]
    return LogitSet.create(logits, labels, class_names=names, provenance={"teacher": "example", "data": "random"})


@pytest.fixture
def own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temperature rules that a test registers are forgotten after it."""
    monkeypatch.setattr(rule, "RULES", dict(rule.RULES))


@pytest.fixture
def own_objectives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objectives that a test registers are forgotten after it."""
    from cist_core.objectives import registry

    monkeypatch.setattr(registry, "OBJECTIVES", dict(registry.OBJECTIVES))


@pytest.fixture
def file(tmp_path, logit_set):
    """The logit set as a file."""
    path = tmp_path / "teacher.safetensors"
    logit_set.save(path)
    return str(path)
