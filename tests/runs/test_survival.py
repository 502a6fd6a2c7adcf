"""What a run survives: workers, processes and machines that go down, full disks, read-only folders."""

import contextlib
import errno
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cist_core import CistError
from cist_core.runs import RunState, RunStore
from cist_core.runs.executors.local import LocalExecutor, process_handle
from cist_core.runs.executors.protocol import executor_of
from tests.runs.workplace import config, kill, on_every_executor, until


@on_every_executor
def test_a_run_outlives_its_worker_and_the_next_one_sees_it_finish(workplace):
    run_id = workplace.add()
    first = workplace.start("train")
    workplace.trains(run_id)
    first.kill()
    first.join()
    assert workplace.alive(run_id)
    assert workplace.state(run_id) is RunState.RUNNING
    workplace.start("train")
    workplace.trains(run_id, beyond=workplace.store.get(run_id).directory.status()["step"] + 2)
    workplace.store.cancel(run_id)
    workplace.reaches(run_id, RunState.CANCELLED)
    assert workplace.starts() == [run_id]  # it was watched, not started again


@on_every_executor
def test_an_adopted_run_that_finishes_is_finished(workplace, tmp_path):
    run_id = workplace.add()
    first = workplace.start("finish")
    until(workplace.starts)
    first.kill()
    first.join()
    workplace.start("finish")
    workplace.reaches(run_id, RunState.FINISHED)
    assert workplace.starts() == [run_id]


@on_every_executor
def test_a_run_that_finished_while_no_worker_lived_is_finished(workplace):
    run_id = workplace.add()
    first = workplace.start("train")
    workplace.trains(run_id)
    first.kill()
    first.join()
    run = workplace.store.get(run_id)
    run.directory.cancel_file.touch()  # it saves and ends
    until(lambda: not workplace.alive(run_id))
    assert workplace.state(run_id) is RunState.RUNNING  # nobody has looked
    workplace.store.reconcile()
    assert workplace.state(run_id) is RunState.CANCELLED


@on_every_executor
def test_an_adopted_run_that_does_not_stop_is_killed(workplace):
    run_id = workplace.add()
    first = workplace.start("stubborn")
    pid = workplace.trains(run_id)
    first.kill()
    first.join()
    workplace.store.cancel(run_id)
    workplace.start("stubborn", grace_seconds=0.1)
    workplace.reaches(run_id, RunState.CANCELLED)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@on_every_executor
def test_a_killed_process_is_a_lost_run_that_can_be_resumed_and_the_next_run_starts(workplace):
    victim, other = workplace.add(0), workplace.add(1)
    workplace.start("train,finish")
    kill(workplace.trains(victim))
    workplace.reaches(victim, RunState.LOST)
    assert "ended by SIGKILL" in workplace.store.get(victim).reason
    assert "resume it from its last checkpoint" in workplace.store.get(victim).reason
    workplace.reaches(other, RunState.FINISHED)
    workplace.store.resume(victim)
    workplace.trains(victim)
    assert workplace.store.get(victim).attempt == 2


def test_worker_and_process_killed_together_leave_a_lost_run(workplace):
    run_id = workplace.add()
    worker = workplace.start("train")
    pid = workplace.trains(run_id)
    worker.kill()
    kill(pid)
    worker.join()
    workplace.start("train")
    workplace.reaches(run_id, RunState.LOST)
    assert "is gone and left no word" in workplace.store.get(run_id).reason
    assert workplace.starts() == [run_id]


@on_every_executor
def test_what_an_earlier_attempt_said_does_not_count(workplace):
    run_id = workplace.add()
    worker = workplace.start("train")
    workplace.trains(run_id)
    workplace.store.cancel(run_id)
    workplace.reaches(run_id, RunState.CANCELLED)
    worker.kill()
    worker.join()
    workplace.store.resume(run_id)
    worker = workplace.start("silent")
    until(lambda: len(workplace.starts()) == 2)
    worker.kill()
    worker.join()
    executor, handle = executor_of(workplace.store.get(run_id))
    executor.stop(handle, force=True)
    until(lambda: not workplace.alive(run_id))
    workplace.store.reconcile()
    assert workplace.state(run_id) is RunState.LOST


@on_every_executor
@pytest.mark.parametrize("behaviour", ["train", "silent"], ids=["notices", "does not notice"])
def test_a_run_whose_directory_is_removed_ends_and_leaves_no_process(workplace, behaviour):
    run_id, other = workplace.add(0), workplace.add(1)
    workplace.start(f"{behaviour},finish", grace_seconds=0.1)
    until(workplace.starts)
    run = workplace.store.get(run_id)
    run.directory.path.rename(workplace.store.root / "removed")
    workplace.reaches(run_id, RunState.FAILED)
    assert workplace.store.get(run_id).reason == (
        f"Its directory {run.directory.path} was removed, and its files with it; delete the run."
    )
    assert not workplace.alive(run_id)
    assert not run.directory.path.exists()
    workplace.reaches(other, RunState.FINISHED)


def test_after_a_restart_of_the_machine_another_process_with_the_same_pid_is_left_alone(workplace):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        run_id = workplace.add()
        claim = workplace.store.claim(1)
        handle = process_handle(bystander.pid, psutil.Process(bystander.pid).create_time() - 3600)
        claim.started("local", handle)
        workplace.store.cancel(run_id)
        assert workplace.state(run_id) is RunState.CANCELLED
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@on_every_executor
@pytest.mark.parametrize("alive", [True, False], ids=["process alive", "process gone"])
def test_cancelling_needs_no_worker(workplace, alive):
    run_id = workplace.add()
    worker = workplace.start("train")
    pid = workplace.trains(run_id)
    worker.kill()
    worker.join()
    if not alive:
        kill(pid)
        until(lambda: not workplace.alive(run_id))
    workplace.store.cancel(run_id)
    until(lambda: not workplace.alive(run_id))
    workplace.store.reconcile()
    assert workplace.state(run_id) is RunState.CANCELLED


def test_a_worker_killed_between_claim_and_start_starts_nothing_and_loses_nothing(workplace):
    """The process waits for a word that comes after the commit, and ends when the worker does."""
    run_id = workplace.add()
    script = f"""
import os, signal, sys
from pathlib import Path
from cist_core.runs import RunStore, Worker
from cist_core.runs.executors.local import LocalExecutor
class Deadly(LocalExecutor):
    def start(self, run):
        print(super().start(run), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
executor = Deadly(command=["touch", {str(workplace.store.root / "trace")!r}])
Worker(RunStore(Path({str(workplace.store.root)!r})), executor=executor).tick()
"""
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert outcome.returncode == -9, outcome.stderr
    until(lambda: LocalExecutor().poll(outcome.stdout.strip()) is not None)
    assert not (workplace.store.root / "trace").exists()
    assert workplace.state(run_id) is RunState.QUEUED
    workplace.start("finish")
    workplace.reaches(run_id, RunState.FINISHED)


# ---- disks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(path: Path, options: str):
    """A file system of its own at ``path``; the test is skipped where none may be mounted."""
    path.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", options, "cist-test", str(path)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs (root in most containers and machines has it)")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_under_a_run_is_a_failed_run_and_the_others_go_on(workplace):
    ids = [workplace.add(seed) for seed in range(3)]
    directory = workplace.store.get(ids[1]).directory
    text = directory.config_file.read_text()
    with mounted(directory.path, "size=256k"):
        directory.config_file.write_text(text)
        workplace.start("finish,fill,finish")
        workplace.reaches(ids[2], RunState.FINISHED)
        victim = workplace.store.get(ids[1])
        assert victim.state is RunState.FAILED
        assert "No space left on device" in victim.reason or "is full" in victim.reason
        assert workplace.state(ids[0]) is RunState.FINISHED
        workplace.stop()
        workplace.workers.clear()


def test_a_full_disk_under_everything_is_written_down_once_there_is_room(tmp_path):
    from tests.runs.workplace import Workplace

    with mounted(tmp_path / "runs", "size=700k"):
        workplace = Workplace(tmp_path / "runs")
        done, victim = workplace.add(0), workplace.add(1)
        try:
            workplace.start("finish,fill")
            run = None

            def ended() -> bool:
                nonlocal run
                run = workplace.store.get(victim)
                return run.handle is not None and not workplace.alive(victim)

            until(ended)
            (run.directory.path / "growth").unlink()
            workplace.reaches(victim, RunState.FAILED)
            assert workplace.store.get(victim).reason
            assert workplace.state(done) is RunState.FINISHED
            workplace.store.retry(victim)
        finally:
            workplace.stop()


def fill(root: Path) -> None:
    with contextlib.suppress(OSError), (root / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_how_runs_end_on_a_full_disk_is_written_down_while_it_is_full_and_the_queue_goes_on(tmp_path):
    from tests.runs.workplace import Workplace

    with mounted(tmp_path / "runs", "size=1m"):
        workplace = Workplace(tmp_path / "runs")
        victims = [workplace.add(seed) for seed in range(3)]
        try:
            workplace.start("fill")
            until(lambda: workplace.store.get(victims[0]).handle is not None)
            fill(workplace.store.root)
            all_fail_for_the_disk(workplace, victims)
        finally:
            workplace.stop()


def all_fail_for_the_disk(workplace, victims):
    for victim in victims:
        workplace.reaches(victim, RunState.FAILED)
        assert workplace.store.get(victim).reason.endswith("is full.")


def test_a_table_that_was_rebuilt_has_room_kept_as_well(tmp_path):
    from tests.runs.workplace import Workplace

    with mounted(tmp_path / "runs", "size=1m"):
        workplace = Workplace(tmp_path / "runs")
        victims = [workplace.add(seed) for seed in range(3)]
        table = workplace.store.table_file
        journal = table.with_name("runs.sqlite-wal")
        try:
            workplace.start("fill")
            until(lambda: workplace.store.get(victims[0]).handle is not None)
            for file in (table, journal):
                file.unlink()
            until(lambda: journal.exists() and journal.stat().st_size > 60_000, "for the journal to have room again")
            fill(workplace.store.root)
            all_fail_for_the_disk(workplace, victims)
        finally:
            workplace.stop()


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_dead_runs_are_not_running_where_nothing_can_be_written(tmp_path, fault):
    from tests.runs.workplace import Workplace

    root = tmp_path / "runs"
    with mounted(root, "size=1m"):
        workplace = Workplace(root)
        victim, waiting = workplace.add(0), workplace.add(1)
        try:
            worker = workplace.start("train")
            pid = workplace.trains(victim)
            worker.kill()
            worker.join()
            kill(pid)
            until(lambda: not workplace.alive(victim))
            if fault == "full":
                fill(root)
            else:
                subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
            store = RunStore(root)
            store.reconcile()
            states = {run.id: run.state for run in store.list_runs()}
            assert states == {victim: RunState.LOST, waiting: RunState.QUEUED}
            assert "The table of runs cannot be written now" in store.get(victim).reason
            if fault == "full":
                (root / "ballast").unlink()
            else:
                subprocess.run(["mount", "-o", "remount,rw", str(root)], check=True)
            store.reconcile()
            assert RunStore(root).get(victim).state is RunState.LOST
            assert "cannot be written" not in RunStore(root).get(victim).reason
        finally:
            workplace.stop()


def test_a_worker_whose_log_cannot_be_written_works_on(workplace):
    def full(line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ids = [workplace.add(seed) for seed in range(2)]
    shutil.rmtree(workplace.store.get(ids[0]).directory.path)
    worker = workplace.worker(say=full)
    until(lambda: not worker.tick())
    assert [workplace.state(run_id) for run_id in ids] == ["failed", "finished"]


def test_a_full_disk_refuses_new_runs_in_a_sentence_and_keeps_the_old(tmp_path):
    with mounted(tmp_path / "runs", "size=300k"):
        store = RunStore(tmp_path / "runs")
        kept = store.add(config())
        with contextlib.suppress(OSError), (store.root / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with pytest.raises(CistError, match=r"cannot be (written|made|used)"):
            store.add_all([("", config(seed)) for seed in range(100)])
        assert store.list_runs() == RunStore(store.root).list_runs() == [kept]
        assert [path.name for path in store.root.iterdir() if path.is_dir()] == [kept.id]
        (store.root / "ballast").unlink()
        store.add(config())


def test_a_run_directory_that_cannot_be_written_is_a_failed_run_and_the_others_go_on(workplace):
    ids = [workplace.add(seed) for seed in range(2)]
    directory = workplace.store.get(ids[0]).directory
    with mounted(directory.path, "ro"):
        workplace.start("finish")
        workplace.reaches(ids[1], RunState.FINISHED)
        victim = workplace.store.get(ids[0])
        assert victim.state is RunState.FAILED
        assert "It cannot start (Read-only file system" in victim.reason
        with pytest.raises(CistError, match="cannot be removed"):
            workplace.store.delete(ids[0])
        workplace.stop()
        workplace.workers.clear()
    workplace.store.delete(ids[0])


def test_a_disk_that_becomes_read_only_under_a_run_is_a_failed_run_and_the_others_go_on(workplace, tmp_path):
    """As ext4 does by itself when the disk fails."""
    ids = [workplace.add(seed) for seed in range(2)]
    run = workplace.store.get(ids[0])
    image, text = tmp_path / "disk.img", run.directory.config_file.read_text()
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    made = shutil.which("mkfs.ext4") and not subprocess.run(["mkfs.ext4", "-q", image], check=False).returncode
    mount = ["mount", "-t", "ext4", "-o", "loop", str(image), str(run.directory.path)]
    if not made or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount an image of a file system (root in most machines has it)")
    try:
        run.directory.config_file.write_text(text)
        workplace.start("train,finish")
        workplace.trains(ids[0])
        subprocess.run(["mount", "-o", "remount,abort", str(run.directory.path)], check=True)
        workplace.reaches(ids[0], RunState.FAILED)
        reason = workplace.store.get(ids[0]).reason
        assert f"Nothing can be written to {run.directory.path} (Read-only file system)." in reason
        workplace.reaches(ids[1], RunState.FINISHED)
    finally:
        subprocess.run(["umount", "--lazy", str(run.directory.path)], check=True)


def test_a_file_in_place_of_a_run_directory_is_a_failed_run_and_the_others_go_on(workplace):
    ids = [workplace.add(seed) for seed in range(2)]
    directory = workplace.store.get(ids[0]).directory.path
    shutil.rmtree(directory)
    directory.write_text("a file")
    workplace.start("finish")
    workplace.reaches(ids[1], RunState.FINISHED)
    victim = workplace.store.get(ids[0])
    assert victim.state is RunState.FAILED
    assert "It cannot start (Not a directory" in victim.reason


def test_a_read_only_root_is_told_in_a_sentence(tmp_path):
    with mounted(tmp_path / "runs", "ro"), pytest.raises(CistError, match="cannot be used"):
        RunStore(tmp_path / "runs")
