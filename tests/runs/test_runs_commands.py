"""`cist runs`, `cist sweep`, `cist worker` and `ensure_worker`: real processes, and the real engine at the end."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from command_line import run

from cist_core import CistError
from cist_core.runs import RunState, RunStore, ensure_worker
from cist_core.runs import worker as worker_module
from cist_core.runs.worker import started_workers
from cist_core.training.logit_scale import ScaleFault
from tests.runs.workplace import GONE, config, until


@pytest.fixture(autouse=True)
def root(monkeypatch, workplace, tmp_path):
    monkeypatch.setenv("CIST_RUNS", str(workplace.store.root))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    return workplace.store.root


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "config.json"
    config(epochs=None, steps=4).save(path)
    return path


def run_json(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def finish(store, run_id, **status):
    """As if a worker had trained it."""
    claim = store.claim(1000)
    assert claim.run.id == run_id
    claim.started(*GONE)
    status = {"state": "finished", "updated_at": time.time() + 1, **status}
    store.get(run_id).directory.write_status(status)
    store.reconcile()


# ---- cist runs -------------------------------------------------------------------------------------------------------


def test_a_run_of_a_preset_is_listed_by_its_name_and_shown_with_its_values(capsys, workplace):
    run_id = workplace.store.add(config(objective="cist-authors")).id
    assert run(capsys, "runs")[1].splitlines()[2].split()[:3] == [run_id, "queued", "cist-authors"]
    shown = run(capsys, "runs", "show", run_id)[1].splitlines()
    assert ["objective", "cist:rho=3,lambda_kl=8"] in [line.split() for line in shown]
    assert ["preset", "cist-authors"] in [line.split() for line in shown]
    assert run_json(capsys, "runs", "show", run_id)["config"]["objective"]["preset"] == "cist-authors"
    other = workplace.add(0)
    assert not any(line.startswith("preset") for line in run(capsys, "runs", "show", other)[1].splitlines())


def test_a_run_whose_students_scale_is_at_fault_says_so(capsys, workplace):
    fault = ScaleFault("collapsed", 2, 0.0365, 16.7)
    run_id = workplace.add(0)
    finish(workplace.store, run_id, epoch=3, epochs=3, logit_scale=fault.to_dict(), warnings=["They have collapsed."])
    _, out, _ = run(capsys, "runs")
    assert f"{run_id}  finished, collapsed  " in out
    _, out, _ = run(capsys, "runs", "show", run_id)
    assert re.search(r"^state +finished, collapsed$", out, re.MULTILINE)
    assert re.search(r"^warnings +They have collapsed\.$", out, re.MULTILINE)
    assert run_json(capsys, "runs")["runs"][0]["status"]["logit_scale"]["state"] == "collapsed"


def test_runs_are_listed(capsys, workplace):
    code, said, err = run(capsys, "runs")
    assert (code, err) == (0, "")
    assert said.startswith(f"There are no runs in {workplace.store.root}; 'cist distill --executor local' adds one")
    first, second = workplace.add(0, group="g"), workplace.add(1, name="mine")
    finish(workplace.store, first, epoch=3, epochs=3, last_val_accuracy=0.75)
    code, out, _ = run(capsys, "runs")
    assert code == 0
    lines = out.splitlines()
    assert lines[2].split() == [second, "queued", "mine", "-", "-", "-"]
    assert lines[3].split() == [first, "finished", "cist:rho=4", "g", "3", "of", "3", "75.0", "%"]
    record = run_json(capsys, "runs", "--group", "g")
    assert record["root"] == str(workplace.store.root)
    assert [item["id"] for item in record["runs"]] == [first]
    assert record["runs"][0]["status"]["last_val_accuracy"] == 0.75


def test_owners_are_listed_where_somebody_signed_in_to_start_a_run(capsys, workplace):
    hers = RunStore(workplace.store.root, owner="ann@lab.edu").add(config()).id
    keepers = workplace.add()
    lines = run(capsys, "runs")[1].splitlines()
    assert lines[2].split() == [keepers, "queued", "cist:rho=4", "-", "-", "-", "-"]
    assert lines[3].split() == [hers, "queued", "cist:rho=4", "-", "ann@lab.edu", "-", "-"]
    assert "ann@lab.edu" in run(capsys, "runs", "show", hers)[1]
    assert [item["owner"] for item in run_json(capsys, "runs")["runs"]] == [None, "ann@lab.edu"]
    assert run(capsys, "runs", "cancel", hers) == (0, f"{hers}  cancelled\n", "")


def test_one_run_is_shown(capsys, workplace):
    run_id = workplace.add(0, note="a note")
    code, out, _ = run(capsys, "runs", "show", run_id.rpartition("-")[2])
    assert code == 0
    assert run_id in out
    assert "a note" in out
    assert str(workplace.store.get(run_id).directory.path) in out
    record = run_json(capsys, "runs", "show", run_id)
    assert record["config"]["seed"] == 0
    assert record["state"] == "queued"


def test_runs_are_cancelled_queued_again_and_deleted(capsys, workplace):
    ids = [workplace.add(seed) for seed in range(2)]
    assert run(capsys, "runs", "cancel", *ids)[1] == "".join(f"{run_id}  cancelled\n" for run_id in ids)
    assert [item["state"] for item in run_json(capsys, "runs", "resume", ids[0])["runs"]] == ["queued"]
    code, out, _ = run(capsys, "runs", "retry", ids[1])
    assert code == 0
    assert "cist worker" in out
    assert run(capsys, "runs", "delete", ids[1])[1] == f"{ids[1]}  deleted\n"
    assert [item.id for item in workplace.store.list_runs()] == [ids[0]]


def test_a_wrong_id_or_state_is_told_in_a_sentence(capsys, workplace):
    run_id = workplace.add()
    code, out, err = run(capsys, "runs", "resume", run_id)
    assert (code, out) == (2, "")
    assert err == f"cist: The run {run_id} is queued; only one that has ended starts again.\n"
    for verb in ("show", "cancel", "delete"):
        code, _, err = run(capsys, "runs", verb, "nothing")
        assert code == 2
        assert "There is no run 'nothing'" in err


def test_looking_settles_what_nobody_watches(capsys, workplace):
    run_id = workplace.add()
    claim = workplace.store.claim(1)
    claim.started(*GONE)
    assert run_json(capsys, "runs", "show", run_id)["state"] == "lost"


# ---- cist sweep ------------------------------------------------------------------------------------------------------


def test_a_sweep_is_queued_and_summed_up(capsys, workplace, base):
    options = ["--objective", "kd", "cist", "--grid", "tau=2", "rho=3", "--seeds", 0, 1, "--group", "s"]
    record = run_json(capsys, "sweep", base, *options)
    assert record["group"] == "s"
    runs = [workplace.store.get(run_id) for run_id in record["runs"]]
    assert [item.name for item in runs] == [
        "kd:tau=2, seed 0",
        "kd:tau=2, seed 1",
        "cist:rho=3, seed 0",
        "cist:rho=3, seed 1",
    ]
    for item, accuracy in zip(runs[:3], (0.80, 0.90, 0.70), strict=True):
        finish(workplace.store, item.id, test_accuracy=accuracy, last_val_accuracy=accuracy)
    code, out, err = run(capsys, "sweep", "--summary", "s")
    assert code == 0
    assert out.splitlines()[2].split()[:6] == ["kd:tau=2", "2", "of", "2", "85.00", "%"]
    assert out.splitlines()[3].split()[:6] == ["cist:rho=3", "1", "of", "2", "70.00", "%"]
    assert err == "1 of 4 runs have not ended yet.\n"
    settings = run_json(capsys, "sweep", "--summary", "s")["settings"]
    assert settings[0]["measures"]["test_accuracy"]["mean"] == pytest.approx(0.85)
    assert settings[1]["measures"]["test_accuracy"]["sd"] is None
    fault = ScaleFault("running away", 2, 153.0, 16.7)
    finish(workplace.store, runs[3].id, test_accuracy=0.1, logit_scale=fault.to_dict())
    said = run(capsys, "sweep", "--summary", "s")[2]
    assert said == f"The student's logits of {runs[3].id} {fault}.\n"
    assert run_json(capsys, "sweep", "--summary", "s")["logit_scale"] == {runs[3].id: "running away"}
    assert "already; choose another name" in run(capsys, "sweep", base, "--group", "s")[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "is required"),
        (["--preset", "nothing"], "There is no preset 'nothing'"),
        (["/no/config.json"], "cannot be read"),
        (["--preset", "demo", "--grid", "zeta=1"], "'zeta' is no parameter"),
        (["--summary", "nothing"], "There is no sweep 'nothing'"),
        (["--summary", "x", "--seeds", "1"], "Expected --seeds only together with a new sweep"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(capsys, workplace, arguments, sentence):
    code, _, err = run(capsys, "sweep", *arguments)
    assert code == 2
    assert sentence in err
    assert workplace.store.list_runs() == []


# ---- cist worker, with the real engine -------------------------------------------------------------------------------


def test_cist_worker_says_what_it_does_and_leaves_on_a_signal(workplace):
    command = [sys.executable, "-m", "cist_core", "worker", "--root", str(workplace.store.root)]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert f"working on {workplace.store.root}" in worker.stderr.readline()
    until(workplace.store.has_worker)
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert err.endswith("left; runs that have started go on\n")


@pytest.mark.slow
def test_a_sweep_waits_for_a_worker_that_it_starts_and_the_engine_fills_the_summary(
    capsys, workplace, base, monkeypatch
):
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.5)
    code, out, err = run(capsys, "sweep", base, "--grid", "teacher.name=mnist5k-cnn,nothing", "--group", "s", "--wait")
    assert code == 2  # so that a script notices
    assert "1 of 2 runs of the sweep 's' did not finish" in err
    assert "'nothing'" in err  # in the words of the engine
    rows = {line.split()[1]: line for line in out.splitlines()[2:]}
    assert set(rows) == {"name=mnist5k-cnn", "name=nothing"}
    assert "1 of 1" in rows["name=mnist5k-cnn"]
    assert "0 of 1" in rows["name=nothing"]
    states = [item.state for item in workplace.store.list_runs("s")[::-1]]
    assert states == ["finished", "failed"]
    until(lambda: not workplace.store.has_worker(), "for the idle worker to leave")


@pytest.mark.slow
def test_a_worker_is_started_once_and_its_run_outlives_it_and_is_resumed(workplace):
    store = workplace.store
    run_id = store.add(config(epochs=None, steps=1_000_000)).id
    ensure_worker(store)
    ensure_worker(store)
    pid = workplace.trains(run_id)
    ensure_worker(store)
    worker = started_workers[store.root]
    assert os.getsid(worker.pid) == worker.pid  # in a session of its own: closing the terminal does not reach it
    assert os.getsid(pid) == pid
    worker.kill()
    worker.wait()
    ensure_worker(store)
    assert started_workers[store.root] is not worker
    until(store.has_worker)
    store.cancel(run_id)
    workplace.reaches(run_id, RunState.CANCELLED)
    stopped_at = store.get(run_id).directory.status()["step"]
    store.resume(run_id)
    workplace.trains(run_id, beyond=stopped_at)
    assert not store.get(run_id).cancel_requested
    os.kill(workplace.trains(run_id), signal.SIGKILL)
    workplace.reaches(run_id, RunState.LOST)


def test_a_worker_that_cannot_work_is_told_once_and_tried_again(workplace):
    store = workplace.store
    (store.root / "limits.toml").write_text("nonsense")
    ensure_worker(store)
    until(lambda: started_workers[store.root].poll() is not None)
    with pytest.raises(CistError, match=r"has failed; .*worker\.log says why"):
        ensure_worker(store)
    assert "are not TOML" in (store.root / "worker.log").read_text()
    (store.root / "limits.toml").unlink()
    ensure_worker(store)
    until(store.has_worker)


# ---- elsewhere -------------------------------------------------------------------------------------------------------


def test_an_executor_is_named_by_the_command_and_shown(capsys, workplace, base, monkeypatch):
    ensured = []
    monkeypatch.setattr("cist_core.runs.ensure_worker", ensured.append)
    code, out, err = run(capsys, "distill", base, "--seed", 3, "--executor", "local")
    assert code == 0, err
    (queued,) = workplace.store.list_runs()
    assert (queued.executor, queued.directory.config().seed) == ("local", 3)
    assert out == f"Queued {queued.id} for local; 'cist runs show {queued.id}' says how it goes\n"
    assert [store.root for store in ensured] == [workplace.store.root]
    assert ["runs", "on", "local"] in [line.split() for line in run(capsys, "runs", "show", queued.id)[1].splitlines()]
    monkeypatch.setenv("CIST_RAY_ADDRESS", "http://127.0.0.1:9")
    for options, executor in (([], "ray"), (["--executor", "local"], "local")):
        found = run_json(capsys, "sweep", base, "--seeds", 0, 1, "--group", f"on {executor}", *options)
        assert [workplace.store.get(run_id).executor for run_id in found["runs"]] == [executor] * 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--executor", "clouds"], "Expected one of the executors local, .*but got 'clouds'"),
        (["--executor", "local", "--run-dir", "runs/one"], "--run-dir only together with a run in the foreground"),
        (["--root", "runs"], "Expected --executor together with --root"),
    ],
)
def test_what_goes_with_an_executor_and_what_does_not_is_told(capsys, workplace, base, options, told):
    code, _, err = run(capsys, "distill", base, *options)
    assert (code, re.search(told, err) is not None) == (2, True), err
    assert workplace.store.list_runs() == []
