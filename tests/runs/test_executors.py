"""What every executor promises, what the local one does beyond that, and one that gives no answer."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cist_core import CistError
from cist_core.runs import RunState, RunStore
from cist_core.runs.executors.local import LocalExecutor, process_handle
from cist_core.runs.executors.protocol import Executor, ExecutorUnreachable, Exit, executor_named
from tests.runs.cluster import ClusterExecutor
from tests.runs.workplace import GONE, Workplace, kill, on_every_executor, until, write_limits

on_the_cluster = pytest.mark.parametrize("workplace", ["cluster"], indirect=True)


def begin(workplace: Workplace, executor: Executor) -> tuple[str, str]:
    """Start the next run by hand, as a worker does; its id and handle."""
    claim = workplace.store.claim(100)
    handle = executor.start(claim.run)
    claim.started(executor.name, handle)
    executor.release(handle)
    return claim.run.id, handle


def ends(executor: Executor, handle: str) -> Exit:
    until(lambda: executor.poll(handle) is not None, f"for the end of {handle}")
    return executor.poll(handle)


@on_every_executor
@pytest.mark.parametrize(("behaviour", "code"), [("finish", 0), ("fail", 2), ("crash", 1)])
def test_the_exit_code_is_told_as_often_as_one_asks(workplace, behaviour, code):
    workplace.add()
    executor = workplace.executor(behaviour)
    _, handle = begin(workplace, executor)
    assert [ends(executor, handle).code for _ in range(3)] == [code] * 3


@on_every_executor
def test_a_handle_works_in_another_executor_of_its_kind(workplace):
    workplace.add()
    executor = workplace.executor("train")
    run_id, handle = begin(workplace, executor)
    workplace.trains(run_id)
    assert workplace.store.get(run_id).handle == handle
    other = executor_named(executor.name)
    assert type(other) is type(executor)
    assert other is not executor
    assert other.poll(handle) is None
    other.stop(handle, force=False)
    assert ends(executor, handle).code == 130  # of an engine that has saved where it is
    assert other.poll(handle) is not None


@on_every_executor
def test_what_does_not_want_to_stop_is_stopped_by_force(workplace):
    workplace.add()
    executor = workplace.executor("stubborn")
    run_id, handle = begin(workplace, executor)
    pid = workplace.trains(run_id)
    executor.stop(handle, force=False)
    workplace.trains(run_id, beyond=workplace.store.get(run_id).directory.status()["step"] + 5)
    assert executor.poll(handle) is None
    executor.stop(handle, force=True)
    end = ends(executor, handle)
    assert end.code is None
    assert "was ended by SIGKILL" in end.reason
    assert not psutil.pid_exists(pid)
    executor.stop(handle, force=False)
    executor.stop(handle, force=True)


@on_every_executor
def test_force_reaches_what_a_run_has_started(workplace):
    """As the processes that load images."""
    script = """
import subprocess, sys
loader = subprocess.Popen(["sleep", "600"])
print(loader.pid, file=sys.stderr, flush=True)
loader.wait()
"""
    run = workplace.store.get(workplace.add())
    executor = workplace.executor()
    executor.command = (sys.executable, "-c", script)
    _, handle = begin(workplace, executor)
    until(lambda: run.stderr_file.exists() and run.stderr_file.read_text().endswith("\n"))
    executor.stop(handle, force=True)
    ends(executor, handle)
    until(lambda: gone(int(run.stderr_file.read_text())))


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@on_every_executor
def test_a_worker_that_dies_before_the_table_has_the_handle_starts_a_run_once(workplace):
    """The end of its process is all that happens to a worker that is killed: nobody tells the executor."""
    run_id = workplace.add()
    script = Path(__file__).with_name("dies_at_commit.py")
    executor = workplace.executor("train")
    url = executor.url if isinstance(executor, ClusterExecutor) else ""
    command = [sys.executable, str(script), str(workplace.store.root), url, *executor.command]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert workplace.state(run_id) is RunState.QUEUED
    workplace.start("train")
    workplace.trains(run_id)
    assert workplace.store.get(run_id).attempt == 1
    assert workplace.starts() == [run_id]


# ---- no answer -------------------------------------------------------------------------------------------------------


@on_the_cluster
def test_an_executor_that_gives_no_answer_loses_and_fails_no_run(workplace, cluster):
    write_limits(workplace.store, "concurrent_runs = 2")
    said = []
    worker = workplace.worker("train,finish", say=said.append)
    running = workplace.add(0)
    worker.tick()
    workplace.trains(running)
    waiting = workplace.add(1)
    with cluster.unreachable():
        for _ in range(2):
            with pytest.raises(ExecutorUnreachable, match="gives no answer"):
                worker.tick()
        workplace.store.reconcile()
        workplace.store.cancel(running)
        assert [workplace.state(run_id) for run_id in (running, waiting)] == ["running", "queued"]
        assert workplace.store.get(waiting).attempt == 0
        assert all("gives no answer" in workplace.store.get(run_id).reason for run_id in (running, waiting))
    assert [line for line in said if "gives no answer" in line] == said[1:]
    assert len(said) == 2
    until(lambda: not worker.tick())
    assert [workplace.state(run_id) for run_id in (running, waiting)] == ["cancelled", "finished"]
    assert workplace.store.get(waiting).reason is None


@on_the_cluster
def test_the_next_worker_takes_back_that_there_was_no_answer(workplace, cluster):
    worker = workplace.worker("train")
    run_id = workplace.add()
    worker.tick()
    with cluster.unreachable():
        worker.tick()
    assert "gives no answer" in workplace.store.get(run_id).reason
    workplace.worker("train").tick()
    run = workplace.store.get(run_id)
    assert (run.state, run.reason) == (RunState.RUNNING, None)


@on_every_executor
def test_a_stop_that_did_not_arrive_is_repeated(workplace):
    worker = workplace.worker("stubborn", grace_seconds=0.2)  # it is given up two graces after a silence
    run_id = workplace.add()
    worker.tick()
    workplace.trains(run_id)
    stop, failures = worker.executor.stop, []

    def deaf_at_first(handle: str, *, force: bool) -> None:
        if len(failures) < 2:
            failures.append(force)
            raise ExecutorUnreachable("The line is dead.")
        stop(handle, force=force)

    worker.executor.stop = deaf_at_first
    workplace.store.cancel(run_id)
    until(lambda: not worker.tick())
    assert len(failures) == 2
    assert workplace.state(run_id) is RunState.CANCELLED


def test_the_runs_of_an_executor_that_is_not_installed_stay_as_they_are(workplace):
    write_limits(workplace.store, "concurrent_runs = 2")
    foreign, own = workplace.add(0), workplace.add(1)
    claim = workplace.store.claim(1)
    claim.started("nowhere", "anything")
    said = []
    worker = workplace.worker("finish", say=said.append)
    until(lambda: worker.tick() and workplace.state(own) is RunState.FINISHED)
    workplace.store.reconcile()
    assert workplace.state(foreign) is RunState.RUNNING
    assert [line for line in said if "There is no executor 'nowhere' here; known are local" in line]


@pytest.mark.parametrize("ours", [LocalExecutor, ClusterExecutor])
def test_a_worker_asks_the_executor_that_has_a_run_whichever_starts_new_ones(workplace, cluster, ours):
    engine = workplace.executor("train").command
    executors = [LocalExecutor(command=engine), ClusterExecutor(cluster.url, command=engine)]
    ids = [workplace.add() for _ in executors]
    handles = [begin(workplace, executor)[1] for executor in executors]
    (worker_executor,) = (executor for executor in executors if isinstance(executor, ours))
    worker = workplace.worker()
    worker.executor = worker_executor
    for run_id in ids:
        workplace.trains(run_id)
        workplace.store.cancel(run_id)
    until(lambda: not worker.tick())
    assert [workplace.state(run_id) for run_id in ids] == ["cancelled"] * 2
    assert [ends(*pair).code for pair in zip(executors, handles, strict=True)] == [130, 130]


@on_every_executor
@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_on_a_file_system_without_locks_nothing_starts(workplace, monkeypatch, reason):
    """As on some network file systems: two machines could train in one directory."""
    run_id = workplace.add()

    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse)
        workplace.worker("finish").tick()
    assert workplace.starts() == []
    assert workplace.store.get(run_id).reason == f"It cannot start ({os.strerror(reason)})."


@on_every_executor
def test_what_was_started_is_written_down_before_anything_else(workplace, monkeypatch):
    run_id = workplace.add()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(type(workplace.store), "say_why_unheard", refuse)
        with contextlib.suppress(OSError):
            workplace.worker("finish").tick()
        assert workplace.store.get(run_id).state is RunState.RUNNING


# ---- processes of this machine ---------------------------------------------------------------------------------------


@pytest.fixture
def bystander():
    """Leads a group, as a run does, so that a signal to the group of its pid would reach it."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


@pytest.mark.parametrize("seconds", [-3600, -3, 3, 3600])
def test_a_later_process_with_the_same_pid_is_not_taken_for_a_run(bystander, seconds):
    handle = process_handle(bystander.pid, bystander.create_time() + seconds)
    executor = LocalExecutor()
    assert executor.poll(handle) == Exit(
        reason="The process is gone and left no word, as after a restart of the machine"
    )
    executor.stop(handle, force=False)
    executor.stop(handle, force=True)
    with pytest.raises(psutil.TimeoutExpired):
        bystander.wait(0.2)


@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_a_process_is_known_again_after_the_clock_was_corrected(bystander, seconds):
    handle = process_handle(bystander.pid, bystander.create_time() + seconds)
    assert LocalExecutor().poll(handle) is None


@pytest.mark.parametrize("handle", [GONE[1], "", "process 1", "job 7"])
def test_a_handle_without_a_process_is_gone_and_stopping_it_does_nothing(handle):
    executor = LocalExecutor()
    assert executor.poll(handle).code is None
    executor.stop(handle, force=False)
    executor.stop(handle, force=True)


def test_a_process_that_was_killed_is_told_from_one_that_failed(workplace):
    workplace.add()
    executor = workplace.executor("train")
    run_id, handle = begin(workplace, executor)
    kill(workplace.trains(run_id))
    assert ends(executor, handle) == Exit(
        reason="The process was ended by SIGKILL (somebody, or the system when memory ran out)"
    )


def test_what_is_stopped_before_its_release_does_nothing(workplace):
    workplace.add()
    executor = workplace.executor("train")
    claim = workplace.store.claim(1)
    handle = executor.start(claim.run)
    claim.started(executor.name, handle)
    assert executor.poll(handle) is None
    executor.stop(handle, force=True)
    assert executor.poll(handle) is not None
    assert workplace.starts() == []


def test_a_table_that_cannot_be_written_lets_nothing_start(workplace, monkeypatch):
    run_id = workplace.add()
    worker = workplace.worker("train")

    def full(self: object, *_: str) -> None:
        raise CistError("The table of runs cannot be used (database or disk is full).")

    with monkeypatch.context() as patch:
        patch.setattr("cist_core.runs.store.Claim.started", full)
        with pytest.raises(CistError, match="is full"):
            worker.tick()
    assert workplace.state(run_id) is RunState.QUEUED
    assert workplace.starts() == []
    worker.tick()
    workplace.trains(run_id)
    assert workplace.starts() == [run_id]
    worker.executor.stop(workplace.store.get(run_id).handle, force=True)
    until(lambda: not worker.tick())


def test_runs_of_this_machine_are_what_a_worker_starts_by_default(store):
    from cist_core.runs import Worker

    assert type(Worker(RunStore(store.root)).executor) is LocalExecutor
