"""Steps of the system's clock, seen by real workers and runs: no run is lost by one, and no limit moves with one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cist_core import CistError
from cist_core.processes import age
from cist_core.runs import RunState
from cist_core.runs.records import RECORD_FILE
from cist_core.training import RunDirectory
from tests.runs.workplace import FAKE_ENGINE, Workplace, end, until, write_limits

SETTABLE_CLOCK = Path(__file__).with_name("settable_clock")
WORKER = """
import json, sys
from pathlib import Path
from cist_core.runs import RunStore, Worker
from cist_core.runs.executors.local import LocalExecutor
root, command, settings = sys.argv[1:]
Worker(RunStore(Path(root)), executor=LocalExecutor(command=json.loads(command)), **json.loads(settings)).run()
"""
STEPS = pytest.mark.parametrize("seconds", [-600, 5])


class Clock:
    """Of workers and of the runs that they start; theirs alone."""

    def __init__(self, workplace: Workplace, file: Path) -> None:
        self._workplace, self._file = workplace, file
        self._workers: list[subprocess.Popen[bytes]] = []
        self.move(0)

    def move(self, seconds: float) -> None:
        half = self._file.with_suffix(".partial")
        half.write_text(str(seconds))
        half.replace(self._file)

    def worker(self, behaviours: str, *, grace_seconds: float = 60.0) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(SETTABLE_CLOCK), str(FAKE_ENGINE.parents[2])])
        command = [sys.executable, str(FAKE_ENGINE), behaviours]
        settings = {"tick_seconds": 0.02, "grace_seconds": grace_seconds, "disk_seconds": 0.0}
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self._workplace.store.root), json.dumps(command), json.dumps(settings)],
            env={**os.environ, "PYTHONPATH": path, "CIST_TEST_CLOCK": str(self._file)},
        )
        self._workers.append(process)
        return process

    def next_worker(self, first: subprocess.Popen[bytes]) -> str:
        """Let another take its place; the run that it starts, once it has looked at the one that goes on."""
        first.kill()
        first.wait()
        other = self._workplace.add()
        self.worker("train")
        until(lambda: other in self._workplace.starts())
        return other

    def stop(self) -> None:
        for process in self._workers:
            process.kill()
            process.wait()


@pytest.fixture
def clock(workplace, tmp_path):
    made = Clock(workplace, tmp_path / "moved")
    yield made
    made.stop()


def trains_on(workplace: Workplace, run_id: str) -> None:
    """Whatever the clock says, it does more steps."""
    directory = workplace.store.get(run_id).directory
    step = directory.status().get("step", 0)
    until(lambda: directory.status().get("step", 0) > step + 5, f"for steps: {workplace.store.get(run_id)}")


@STEPS
def test_a_living_run_stays_one_for_workers_before_and_after_a_step_of_the_clock(workplace, clock, seconds):
    write_limits(workplace.store, "concurrent_runs = 2")
    run_id = workplace.add()
    first = clock.worker("train")
    trains_on(workplace, run_id)
    clock.move(seconds)
    trains_on(workplace, run_id)
    assert workplace.state(run_id) is RunState.RUNNING
    other = clock.next_worker(first)
    workplace.store.cancel(run_id)
    workplace.reaches(run_id, RunState.CANCELLED)
    assert workplace.store.get(run_id).reason == "It was cancelled."  # by its own word, not because it seemed gone
    assert workplace.starts() == [run_id, other]


@STEPS
def test_a_run_that_finishes_after_a_step_of_the_clock_has_finished(workplace, clock, seconds):
    run_id = workplace.add()
    clock.worker("train")
    trains_on(workplace, run_id)
    clock.move(seconds)
    trains_on(workplace, run_id)
    (workplace.store.get(run_id).directory.path / "finish").touch()
    workplace.reaches(run_id, RunState.FINISHED)


@pytest.mark.parametrize("again", [False, True], ids=["same worker", "next worker"])
def test_a_step_of_the_clock_uses_up_no_limit(workplace, clock, again):
    write_limits(workplace.store, "concurrent_runs = 2\nwall_seconds = 3600")
    run_id = workplace.add()
    worker = clock.worker("train")
    trains_on(workplace, run_id)
    clock.move(7200)
    if again:
        clock.next_worker(worker)
    else:
        trains_on(workplace, run_id)
    run = workplace.store.get(run_id)
    assert (run.state, run.limit_reason) == (RunState.RUNNING, None)


def test_a_limit_is_used_up_though_the_clock_was_put_back(workplace, clock):
    run_id = workplace.add()
    clock.worker("train")
    trains_on(workplace, run_id)
    clock.move(-7200)
    write_limits(workplace.store, "wall_seconds = 0.1")
    workplace.reaches(run_id, RunState.FAILED)
    assert "stopped after 0.1 seconds" in workplace.store.get(run_id).reason


def test_a_run_that_does_not_listen_is_killed_though_the_clock_was_put_back(workplace, clock):
    run_id = workplace.add()
    clock.worker("stubborn", grace_seconds=0.1)
    trains_on(workplace, run_id)
    clock.move(-7200)
    workplace.store.cancel(run_id)
    workplace.reaches(run_id, RunState.CANCELLED)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts ticks since the boot")
def test_the_age_of_a_process_comes_from_its_ticks(workplace):
    run_id = workplace.add()
    workplace.start("train")
    workplace.trains(run_id)
    started = workplace.store.get(run_id).handle.partition(" since ")[2]
    assert 0 <= age(started) < 600
    assert age(started.replace("boot ", "boot 0")) is None  # of another boot
    assert age("1764214735.25") is None  # of an earlier version


# ---- a directory in which a process trains ---------------------------------------------------------------------------


def contents(directory: RunDirectory) -> dict[str, bytes]:
    """All but the copy of the row, which is the store's."""
    files = [path for path in directory.path.rglob("*.*") if path.name != RECORD_FILE]
    return {str(path.relative_to(directory.path)): path.read_bytes() for path in files}


@pytest.fixture
def held(workplace):
    """A run of which the table says that it was lost, while a process holds the lock of its directory."""
    run = workplace.store.get(workplace.add())
    run.directory.checkpoints.mkdir()
    (run.directory.checkpoints / "step-000000001.pt").write_text("weights")
    run.directory.metrics_file.write_text("{}\n")
    run.stderr_file.write_text("a line of the log")
    run.directory.write_status({"state": "running", "step": 3})
    end(workplace.store, run.id, RunState.LOST)
    script = """
import sys
from pathlib import Path
from cist_core.training import RunDirectory
with RunDirectory(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(run.directory.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield run
    process.communicate(timeout=60)


@pytest.mark.parametrize("verb", ["retry", "delete"])
def test_what_would_remove_files_of_a_process_that_trains_is_refused_and_touches_nothing(workplace, held, verb):
    before = contents(held.directory)
    with pytest.raises(CistError, match=f"Another process is training in {held.directory.path}, so its files are left"):
        getattr(workplace.store, verb)(held.id)
    assert contents(held.directory) == before
    assert workplace.state(held.id) is RunState.LOST


def test_a_worker_starts_nothing_where_a_process_trains_and_touches_nothing(workplace, held):
    before = contents(held.directory)
    other = workplace.add()
    workplace.store.resume(held.id)
    worker = workplace.worker()
    until(lambda: not worker.tick())
    assert contents(held.directory) == before
    run = workplace.store.get(held.id)
    assert run.state is RunState.FAILED
    assert "Another process is training in" in run.reason
    assert workplace.state(other) is RunState.FINISHED
    assert workplace.starts() == [other]
