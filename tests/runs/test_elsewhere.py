"""Sweeps and searches whose runs are jobs of a cluster, as the commands start them."""

import json
import sys
from pathlib import Path

import pytest
from command_line import run as cist

from cist_core.runs import RunStore
from cist_core.runs.executors.protocol import executor_named
from tests.runs.workplace import FAKE_ENGINE, Workplace, config


@pytest.fixture(params=["slurm", "ray"])
def executor(request, workplace: Workplace, monkeypatch) -> str:
    """The name of one whose cluster is a stand-in that trains; the commands' worker is in this process."""
    executor_named.cache_clear()  # what an earlier Slurm has said is remembered
    if request.param == "ray":
        request.getfixturevalue("api").trains = True
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    else:
        request.getfixturevalue("slurm")
    monkeypatch.setattr(executor_named(request.param), "command", (sys.executable, str(FAKE_ENGINE), "finish"))
    worker = workplace.worker(
        "fail", say=lambda _: None
    )  # so that no run of this machine passes for one of the cluster
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda _: worker.tick())
    for command in ("sweep", "search"):
        monkeypatch.setattr(f"cist_core.cli.{command}.POLL_SECONDS", 0.01)
    return request.param


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    config().save(path)
    return path


def places(store: RunStore, group: str) -> set[tuple[str | None, str, str]]:
    """Where runs ran, how they ended, and the first word of what they are known by there."""
    return {(run.executor, str(run.state), str(run.handle).split()[0]) for run in store.list_runs(group)}


def test_a_sweep_runs_where_its_command_says(workplace, executor, file, capsys):
    command = ["sweep", file, "--grid", "rho=2,3", "--seeds", 0, 1, "--group", "there", "--executor", executor]
    code, out, err = cist(capsys, *command, "--root", workplace.store.root, "--wait", "--json")
    assert code == 0, err
    settings = json.loads(out)["settings"]
    assert [(each["objective"], each["measures"]["test_accuracy"]["n"]) for each in settings] == [
        ("cist:rho=2", 2),
        ("cist:rho=3", 2),
    ]
    assert places(workplace.store, "there") == {(executor, "finished", "job")}
    assert sorted(workplace.starts()) == sorted(run.id for run in workplace.store.list_runs("there"))


def test_a_search_runs_where_its_command_says(workplace, executor, file, capsys):
    command = ["search", file, "--space", "rho=2,3,4", "--trials", 3, "--at-once", 2, "--group", "there"]
    code, out, err = cist(capsys, *command, "--executor", executor, "--root", workplace.store.root, "--json")
    assert code == 0, err
    assert sorted(run["values"]["rho"] for run in json.loads(out)["runs"]) == ["2", "3", "4"]
    assert places(workplace.store, "there") == {(executor, "finished", "job")}


@pytest.mark.parametrize("command", [["sweep"], ["search", "--space", "rho=2..8", "--group", "there"]])
def test_what_the_cluster_lacks_is_said_before_anything_is_queued(
    workplace, file, monkeypatch, tmp_path, capsys, command
):
    pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, told in (
        ("slurm", "There is no sbatch here"),
        ("clouds", "Expected one of the executors local, ray, sl"),
    ):
        code, _, err = cist(capsys, command[0], file, *command[1:], "--executor", name, "--root", workplace.store.root)
        assert (code, told in err) == (2, True), err
    assert workplace.store.list_runs() == []
