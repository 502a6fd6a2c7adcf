"""Tables of older versions: nothing is lost, and a run that lives is found again."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cist_core.processes import Child
from cist_core.runs import RunState, RunStore
from tests.runs.workplace import FAKE_ENGINE, Workplace, config, kill, rows, until

TABLE_2 = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    note TEXT NOT NULL,
    state TEXT NOT NULL,
    sweep TEXT,
    created_at REAL NOT NULL,
    queued_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    reason TEXT,
    stop_requested_at REAL,
    limit_reason TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    resume INTEGER NOT NULL DEFAULT 0,
    pid INTEGER,
    pid_created_at REAL,
    working_directory TEXT NOT NULL,
    owner TEXT
)
"""


class OldRoot:
    """A root as version 2 left it, with as many processes as one likes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.connection = sqlite3.connect(path / "runs.sqlite", isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(TABLE_2)
        self.connection.execute("PRAGMA user_version = 2")
        self.children: list[Child] = []

    def add(self, run_id: str, state: str, **columns: object) -> str:
        row = {
            "id": run_id,
            "name": f"the {state} one",
            "note": "a note",
            "state": state,
            "sweep": "s",
            "created_at": 1000.0,
            "queued_at": 1000.0 + len(self.rows()),
            "working_directory": str(self.path),
            "owner": "ann@lab.edu",
            **columns,
        }
        marks = ", ".join("?" * len(row))
        self.connection.execute(f"INSERT INTO runs ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        (self.path / run_id).mkdir()
        config().save(self.path / run_id / "config.json")
        return run_id

    def add_living(self, run_id: str, behaviour: str) -> str:
        """A run whose process trains, as a worker of version 2 has started it."""
        directory = str(self.path / run_id)
        command = [sys.executable, str(FAKE_ENGINE), behaviour, f"{directory}/config.json", "--run-dir", directory]
        child = Child(command, working_directory=self.path, stderr_file=self.path / "stderr.txt")
        self.children.append(child)
        created_at = psutil.Process(child.pid).create_time()
        self.add(run_id, "running", started_at=created_at, attempt=1, pid=child.pid, pid_created_at=created_at)
        child.release()
        return run_id

    def rows(self) -> list[dict[str, object]]:
        return [dict(row) for row in self.connection.execute("SELECT * FROM runs ORDER BY rowid")]

    def close(self) -> None:
        self.connection.close()
        for child in self.children:
            if child.exit_code() is None:
                kill(child.pid)


@pytest.fixture
def old(tmp_path):
    root = OldRoot(tmp_path / "old")
    yield root
    root.close()


def opened(old: OldRoot) -> Workplace:
    return Workplace(old.path)


def test_every_row_is_kept_in_its_order(old):
    old.add("20261101-120000-0002", "finished", attempt=2, resume=1, ended_at=1500.5, started_at=1200.25, pid=7,
            pid_created_at=1200.125, reason=None)  # fmt: skip
    old.add("20261101-120000-0001", "queued", owner=None)
    old.add("20261101-120000-0003", "failed", reason="It cannot start.", limit_reason="too long", stop_requested_at=5.5)
    before = old.rows()
    store = opened(old).store
    finished, queued, failed = (store.get(f"20261101-120000-000{number}") for number in (2, 1, 3))
    assert [run.id[-1] for run in store.list_runs()] == ["3", "1", "2"]  # made in one second: by their rows
    assert (finished.state, finished.attempt, finished.resume) == ("finished", 2, True)
    assert (finished.started_at, finished.ended_at, finished.owner) == (1200.25, 1500.5, "ann@lab.edu")
    assert (finished.executor, finished.handle) == ("local", "process 7 since 1200.125")
    assert (queued.state, queued.executor, queued.handle, queued.owner) == ("queued", None, None, None)
    assert (failed.reason, failed.limit_reason, failed.stop_requested_at) == ("It cannot start.", "too long", 5.5)
    assert (failed.executor, failed.handle) == (None, None)
    after = [dict(row) for row in rows(store, "SELECT * FROM runs ORDER BY rowid")]
    changed = {"pid", "pid_created_at", "executor", "handle"}
    assert [{name: row[name] for name in row.keys() - changed} for row in after] == [
        {name: row[name] for name in row.keys() - changed} for row in before
    ]
    assert rows(store, "PRAGMA user_version")[0][0] == 3
    assert [row["name"] for row in rows(store, "SELECT name FROM sqlite_master WHERE type = 'table'")] == ["runs"]


def test_a_table_that_was_brought_up_to_date_is_like_a_new_one(old, tmp_path):
    new = RunStore(tmp_path / "new")
    query = "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('runs')"
    assert [tuple(row) for row in rows(opened(old).store, query)] == [tuple(row) for row in rows(new, query)]


def test_a_run_that_lives_goes_on_and_the_new_worker_sees_it_finish(old):
    living = old.add_living("20261101-120000-0001", "train")
    waiting = old.add("20261101-120000-0002", "queued")
    place = opened(old)
    try:
        assert place.state(living) is RunState.RUNNING
        place.store.reconcile()
        assert place.state(living) is RunState.RUNNING
        place.start("finish")
        step = place.store.get(living).directory.status().get("step", 0)
        pid = place.trains(living, beyond=step + 5)
        assert pid == old.children[0].pid
        assert place.state(waiting) is RunState.QUEUED  # one at a time
        place.store.cancel(living)
        place.reaches(living, RunState.CANCELLED)
        place.reaches(waiting, RunState.FINISHED)
        assert place.starts() == [living, waiting]
        place.store.resume(living)
        place.reaches(living, RunState.FINISHED)
    finally:
        place.stop()


def test_a_run_that_lives_and_does_not_listen_is_stopped_by_force(old):
    living = old.add_living("20261101-120000-0001", "stubborn")
    place = opened(old)
    try:
        place.trains(living)
        place.store.cancel(living)
        place.start(grace_seconds=0.1)
        place.reaches(living, RunState.CANCELLED)
        assert old.children[0].exit_code() == -9
    finally:
        place.stop()


@pytest.mark.parametrize("pid", ["killed", "somebody else's", None])
def test_a_run_whose_process_is_gone_is_lost(old, pid):
    living = old.add_living("20261101-120000-0001", "train")
    child = old.children[0]
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        kill(child.pid)
        until(lambda: child.exit_code() is not None)
        gone = {"killed": child.pid, "somebody else's": bystander.pid, None: None}[pid]
        created_at = None if pid is None else psutil.Process(bystander.pid).create_time() - 3600
        old.connection.execute("UPDATE runs SET pid = ?, pid_created_at = ?", (gone, created_at))
        (old.path / living / "status.json").unlink(missing_ok=True)
        place = opened(old)
        place.store.reconcile()
        assert place.state(living) is RunState.LOST
        assert psutil.Process(bystander.pid).status() != psutil.STATUS_ZOMBIE
    finally:
        bystander.kill()
        bystander.wait()


def test_many_open_an_old_table_at_once(old):
    ids = [old.add(f"20261101-120000-00{number:02d}", "queued") for number in range(20)]
    barrier = threading.Barrier(12)

    def visit(_: int) -> list[str]:
        barrier.wait()
        return [run.id for run in RunStore(old.path).list_runs()]

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(visit, range(12))) == [ids[::-1]] * 12
