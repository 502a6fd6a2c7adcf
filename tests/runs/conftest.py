"""A store in a folder of its own; nothing that works on it is left behind."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_stores import s3, url  # noqa: F401 - fixtures

from cist_core import CistError
from cist_core.runs import RunStore
from cist_core.runs.executors.slurm import SlurmExecutor
from tests.runs.cluster import Cluster
from tests.runs.jobs_api import JobsApi
from tests.runs.workplace import EXECUTORS, SLURM_COMMANDS, Workplace


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


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsApi]:
    """Ray, as far as its Jobs API is asked, at the address of the environment."""
    made = JobsApi()
    monkeypatch.setenv("CIST_RAY_ADDRESS", made.address)
    yield made
    made.close()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands are on the path; the folder of its jobs."""
    pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")
    commands, jobs = tmp_path / "bin", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel"):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SLURM_COMMANDS}" {name} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(jobs))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(SlurmExecutor, "look_seconds", 0.5)
    return jobs
