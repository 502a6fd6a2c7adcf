"""The app's start looks after runs that were left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import background
from cist_core import runs
from cist_core.runs import RunStore
from cist_core.training import preset


def test_waiting_runs_get_a_worker_and_none_is_started_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIST_RUNS", str(tmp_path))
    woken: list[Path] = []
    monkeypatch.setattr(runs, "ensure_worker", lambda store: woken.append(store.root))
    background.wake_worker.clear()
    background.wake_worker()
    assert woken == []
    RunStore().add(preset("demo"))
    background.wake_worker.clear()
    background.wake_worker()
    assert woken == [tmp_path]
    background.wake_worker.clear()


def test_a_folder_of_runs_that_cannot_be_made_does_not_stop_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CIST_RUNS", str(tmp_path / "file" / "runs"))
    background.wake_worker.clear()
    background.wake_worker()
    background.wake_worker.clear()
