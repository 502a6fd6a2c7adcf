"""The worker: every way in which a run ends, cancelling one that does not want to stop, and two workers at once."""

import os
import time

import psutil
import pytest

from cist_core.processes import Child, is_alive
from cist_core.runs import RunState, RunStore
from cist_core.runs.executors.local import process_handle
from tests.runs.workplace import config, kill, on_every_executor, until


@on_every_executor
@pytest.mark.parametrize(
    ("behaviour", "state", "reason"),
    [
        ("finish", "finished", None),
        ("fail", "failed", "The loss is not a number at step 3; lower the learning rate."),
        ("crash", "failed", "MemoryError: no memory for 3 TB"),
        ("mute", "lost", "The process ended without saying that it had finished; resume it from its last checkpoint."),
    ],
)
def test_how_a_process_ended_becomes_the_state_and_the_reason(workplace, behaviour, state, reason):
    run_id = workplace.add()
    workplace.start(behaviour)
    until(lambda: workplace.state(run_id).ended)
    run = workplace.store.get(run_id)
    assert (run.state, run.reason) == (state, reason)
    assert run.attempt == 1
    assert run.created_at <= run.started_at <= run.ended_at


@on_every_executor
def test_a_run_writes_its_standard_error_into_its_directory(workplace):
    run_id = workplace.add()
    workplace.start("crash")
    workplace.reaches(run_id, RunState.FAILED)
    text = workplace.store.get(run_id).stderr_file.read_text()
    assert "a line of the log" in text
    assert "Traceback" in text


@on_every_executor
def test_a_run_starts_where_it_was_added(workplace, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    run_id = workplace.add()
    monkeypatch.chdir(tmp_path)
    workplace.start("train")
    assert psutil.Process(workplace.trains(run_id)).cwd() == str(here)


@on_every_executor
def test_a_run_whose_folder_is_gone_fails_and_the_next_one_runs(workplace, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    lonely = workplace.add()
    monkeypatch.chdir(tmp_path)
    here.rmdir()
    other = workplace.add()
    workplace.start()
    workplace.reaches(other, RunState.FINISHED)
    assert workplace.store.get(lonely).reason == f"It cannot start (No such file or directory: {here})."


@on_every_executor
def test_a_command_that_does_not_exist_is_a_failed_run(workplace):
    run_id = workplace.add()
    worker = workplace.worker()
    worker.executor.command = ("/no/such/program",)
    until(lambda: not worker.tick())
    assert workplace.state(run_id) is RunState.FAILED
    assert "/no/such/program" in workplace.store.get(run_id).reason


@on_every_executor
def test_resume_continues_and_retry_starts_from_scratch(workplace):
    run_id = workplace.add()
    workplace.start("train")
    workplace.trains(run_id, beyond=5)
    workplace.store.cancel(run_id)
    workplace.reaches(run_id, RunState.CANCELLED)
    assert workplace.store.get(run_id).reason == "It was cancelled."
    assert not workplace.store.get(run_id).directory.cancel_file.exists()
    workplace.store.resume(run_id)
    workplace.trains(run_id)
    run = workplace.store.get(run_id)
    assert run.attempt == 2
    assert run.directory.status()["first_step"] > 5
    workplace.store.cancel(run_id)
    workplace.reaches(run_id, RunState.CANCELLED)
    workplace.store.retry(run_id)
    workplace.trains(run_id)
    assert workplace.store.get(run_id).directory.status()["first_step"] == 0


@on_every_executor
@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("deaf", "It was stopped by SIGTERM."),
        ("stubborn", "It was ended by force; resume it from its last checkpoint."),
    ],
)
def test_a_run_that_does_not_see_the_file_gets_signals(workplace, behaviour, reason):
    run_id = workplace.add()
    workplace.start(behaviour, grace_seconds=0.2)
    pid = workplace.trains(run_id)
    workplace.store.cancel(run_id)
    workplace.reaches(run_id, RunState.CANCELLED)
    assert workplace.store.get(run_id).reason == reason
    assert not psutil.pid_exists(pid)


def test_a_second_worker_leaves_and_says_so(workplace, monkeypatch):
    monkeypatch.setattr("cist_core.runs.worker.LOCK_SECONDS", 0.0)
    run_id = workplace.add()
    workplace.start("train")
    workplace.trains(run_id)
    assert workplace.worker("train").run() is False


@on_every_executor
def test_an_idle_worker_leaves(workplace):
    run_id = workplace.add()
    worker = workplace.start(idle_seconds=0.0)
    worker.join(60)
    assert worker.exitcode == 0
    assert workplace.state(run_id) is RunState.FINISHED


def test_a_run_that_is_added_while_an_idle_worker_leaves_is_not_forgotten(workplace):
    """Whoever adds it sees the lock held and starts no worker, so the leaving one has to look again."""
    worker = workplace.worker(idle_seconds=0.0)
    added = []
    tick = worker.tick

    def tick_and_add() -> bool:
        busy = tick()
        if not busy and not added:
            added.append(workplace.add())
        return busy

    worker.tick = tick_and_add
    assert worker.run() is True
    assert workplace.state(added[0]) is RunState.FINISHED


def test_a_worker_leaves_when_its_root_is_removed(workplace, tmp_path):
    worker = workplace.start()
    until(lambda: (workplace.store.root / "worker.lock").exists())
    workplace.store.root.rename(tmp_path / "away")
    worker.join(60)
    assert worker.exitcode == 0


@pytest.mark.parametrize("moment", ["worker_lock", "kept_open", "running", "has_queued", "claim"])
@pytest.mark.parametrize("lock", [True, False], ids=["lock made anew", "nothing made anew"])
def test_a_worker_leaves_whenever_its_root_is_removed(workplace, tmp_path, monkeypatch, moment, lock):
    """At every moment that a removal may come in between, also if the folder was just made anew for the lock's file."""
    worker = workplace.worker(idle_seconds=0.0)
    asked = getattr(worker.store, moment)

    def after_the_removal(*values: object, **named: object) -> object:
        if worker.store.table_file.exists():
            worker.store.root.rename(tmp_path / "away")
            if lock:
                worker.store.root.mkdir()
                (worker.store.root / "worker.lock").touch()
        return asked(*values, **named)

    monkeypatch.setattr(worker.store, moment, after_the_removal)
    assert worker.run() is True
    assert not worker.store.table_file.exists()


@on_every_executor
def test_two_workers_at_once_start_every_run_once(workplace):
    ids = [run.id for run in workplace.store.add_all([("", config(seed)) for seed in range(12)])]
    (workplace.store.root / "limits.toml").write_text("concurrent_runs = 4")
    workers = [workplace.start(idle_seconds=0.0) for _ in range(2)]
    for worker in workers:
        worker.join(120)
    assert sorted(workplace.starts()) == sorted(ids)
    assert {workplace.state(run_id) for run_id in ids} == {RunState.FINISHED}


def claim_all(root, path):
    """Take every run without asking for the worker's lock."""
    store = RunStore(root)
    with path.open("w") as file:
        while True:
            claim = store.claim(1000)
            if claim is None:
                return
            if claim.started("local", process_handle(os.getpid(), time.time())):
                file.write(claim.run.id + "\n")


def test_no_two_processes_claim_one_run_even_without_the_lock(workplace, tmp_path):
    import multiprocessing

    ids = [run.id for run in workplace.store.add_all([("", config(seed)) for seed in range(200)])]
    files = [tmp_path / f"claimed-{index}" for index in range(4)]
    fork = multiprocessing.get_context("fork")
    claimers = [fork.Process(target=claim_all, args=(workplace.store.root, file)) for file in files]
    for claimer in claimers:
        claimer.start()
    for claimer in claimers:
        claimer.join(120)
        assert claimer.exitcode == 0
    claimed = [line for file in files for line in file.read_text().split()]
    assert sorted(claimed) == sorted(ids)


def test_a_child_does_nothing_before_it_is_released_or_when_it_is_abandoned(tmp_path):
    trace = tmp_path / "trace"
    child = Child(["touch", str(trace)], working_directory=tmp_path, stderr_file=tmp_path / "stderr")
    assert is_alive(child.pid, child.started)
    time.sleep(0.1)
    assert not trace.exists()
    child.abandon()
    assert child.exit_code() == 1
    assert not trace.exists()
    child = Child(["touch", str(trace)], working_directory=tmp_path, stderr_file=tmp_path / "stderr")
    child.release()
    until(lambda: child.exit_code() is not None)
    assert trace.exists()


def test_a_process_is_known_by_its_start_time_too(tmp_path):
    child = Child(["sleep", "60"], working_directory=tmp_path, stderr_file=tmp_path / "stderr")
    child.release()
    assert is_alive(child.pid, child.started)
    assert not is_alive(child.pid, child.started.replace("tick ", "tick 1"))
    assert not is_alive(child.pid, "tick 7 of boot 0-0")
    assert not is_alive(None, None)
    kill(child.pid)
    until(lambda: not is_alive(child.pid, child.started), "for a process that nobody has waited for yet")
    assert child.exit_code() == -9
