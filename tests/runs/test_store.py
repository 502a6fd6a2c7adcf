"""The table: what each state allows, what is refused and in which words, and many hands on it at once."""

import errno
import json
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cist_core import CistError
from cist_core.runs import RunState, RunStore
from cist_core.runs.records import write_record
from cist_core.training import RunConfig, RunDirectory
from tests.runs.workplace import GONE, config, end


def make_running(store: RunStore, run_id: str) -> None:
    claim = store.claim(100)
    assert claim.run.id == run_id
    claim.started(*GONE)


def test_a_new_run_is_queued_and_has_its_config_in_its_directory(store):
    run = store.add(config(7), note="first", group="g")
    assert (run.state, run.name, run.note, run.group) == ("queued", "cist:rho=4", "first", "g")
    assert (run.started_at, run.ended_at, run.reason, run.attempt, run.handle) == (None, None, None, 0, None)
    assert not run.cancel_requested
    assert run.directory.path == store.root / run.id
    assert run.directory.config() == config(7)
    assert store.get(run.id) == run


def test_runs_are_listed_newest_first_and_by_sweep(store):
    ids = [store.add(config(seed), group=group).id for seed, group in enumerate(["a", "b", "a", None])]
    assert [run.id for run in store.list_runs()] == ids[::-1]
    assert [run.id for run in store.list_runs("a")] == [ids[2], ids[0]]
    assert store.list_runs("c") == []


@pytest.mark.parametrize("how_many", [1, 3])
def test_runs_that_could_not_be_added_do_not_come_back_with_a_lost_table(store, monkeypatch, how_many):
    kept = store.add(config())
    save = RunConfig.save

    def lose(self: RunConfig, path: Path) -> None:
        store.table_file.unlink(missing_ok=True)
        save(self, path)

    monkeypatch.setattr(RunConfig, "save", lose)
    with pytest.raises(CistError, match="rebuilt from the directories of the runs; try again"):
        store.add_all([("", config(seed)) for seed in range(how_many)])
    assert [run.id for run in store.list_runs()] == [kept.id]
    assert [path.name for path in store.root.iterdir() if path.is_dir()] == [kept.id]


def test_a_run_is_added_where_another_process_has_just_rebuilt_the_table_with_it(store, monkeypatch):
    def and_lose(directory: RunDirectory, row: dict[str, object]) -> None:
        write_record(directory, row)
        monkeypatch.undo()
        store.table_file.unlink()
        assert [run.id for run in RunStore(store.root).list_runs()] == [directory.path.name]

    monkeypatch.setattr("cist_core.runs.store.write_record", and_lose)
    run = store.add(config(), name="once")
    assert store.list_runs() == [run]
    assert run.directory.config() == config()


def test_a_living_worker_alone_writes_down_how_a_run_ended(store, monkeypatch):
    run = store.add(config())
    make_running(store, run.id)

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with store.worker_lock():
        looking = RunStore(store.root)
        monkeypatch.setattr("tempfile.TemporaryFile", full)
        looking.reconcile()
        assert looking.get(run.id).state is RunState.LOST
        assert "cannot be written now" in looking.get(run.id).reason
        assert RunStore(store.root).get(run.id).state is RunState.RUNNING


def test_a_directory_that_may_not_be_looked_into_ends_no_list(store, monkeypatch):
    closed, other = store.add(config()), store.add(config(1))
    make_running(store, closed.id)
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> object:
        if path.parent == closed.directory.path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    assert not closed.directory.is_removed()
    store.reconcile()
    assert {run.id: run.state for run in store.list_runs()} == {closed.id: RunState.LOST, other.id: RunState.QUEUED}


def test_ids_are_names_of_directories_and_differ_within_one_second(store):
    ids = [run.id for run in store.add_all([("", config())] * 300)]
    assert len(set(ids)) == 300
    assert all(set(run_id) <= set("0123456789abcdef-") and (store.root / run_id).is_dir() for run_id in ids)


def test_the_root_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CIST_RUNS", str(tmp_path / "elsewhere"))
    assert RunStore().root == tmp_path / "elsewhere"


def test_a_queued_run_is_cancelled_at_once(store):
    run_id = store.add(config()).id
    run = store.cancel(run_id)
    assert (run.state, run.reason) == ("cancelled", "Cancelled before it started.")
    assert store.claim(1) is None


def test_a_running_run_is_told_to_stop_by_a_file(store, monkeypatch):
    monkeypatch.setattr(RunStore, "reconcile", lambda self: None)
    run_id = store.add(config()).id
    make_running(store, run_id)
    run = store.cancel(run_id)
    assert run.state == "running"
    assert run.cancel_requested
    assert run.directory.cancel_file.exists()
    assert store.cancel(run_id).stop_requested_at == run.stop_requested_at  # the grace does not start anew


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.FAILED, RunState.CANCELLED, RunState.LOST])
def test_what_an_ended_run_allows(store, state):
    run_id = store.add(config()).id
    end(store, run_id, state)
    with pytest.raises(CistError, match=f"cannot be cancelled: it is {state} already"):
        store.cancel(run_id)
    if state is RunState.FINISHED:
        with pytest.raises(CistError, match="has finished; retry it"):
            store.resume(run_id)
    else:
        run = store.resume(run_id)
        assert (run.state, run.resume, run.ended_at, run.reason) == ("queued", True, None, None)
        end(store, run_id, state)
    assert store.retry(run_id).resume is False


@pytest.mark.parametrize("action", ["resume", "retry"])
def test_a_run_that_has_not_ended_does_not_start_again(store, action):
    run_id = store.add(config()).id
    with pytest.raises(CistError, match=f"{run_id} is queued; only one that has ended"):
        getattr(store, action)(run_id)
    make_running(store, run_id)
    with pytest.raises(CistError, match=f"{run_id} is running; only one that has ended"):
        getattr(store, action)(run_id)


def test_retry_leaves_nothing_but_config_and_lock_and_follows_no_link(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("data")
    run = store.add(config())
    (run.directory.path / "checkpoints").mkdir()
    (run.directory.path / "checkpoints" / "last").write_text("weights")
    run.directory.metrics_file.write_text("{}\n")
    (run.directory.path / "link").symlink_to(outside)
    end(store, run.id, RunState.FAILED)
    store.retry(run.id)
    assert {path.name for path in run.directory.path.iterdir()} == {"config.json", "run.json", "lock"}
    assert (outside / "precious").exists()


def test_delete_removes_row_and_directory_but_nothing_that_runs(store):
    kept, gone = store.add(config(0)), store.add(config(1))
    make_running(store, kept.id)
    with pytest.raises(CistError, match=f"{kept.id} cannot be deleted while it runs; cancel it first"):
        store.delete(kept.id)
    store.delete(gone.id)
    assert [run.id for run in store.list_runs()] == [kept.id]
    assert kept.directory.config_file.exists()
    assert [path.name for path in store.root.iterdir() if path.is_dir()] == [kept.id]


def test_delete_and_retry_never_leave_the_root(store, tmp_path):
    outside = tmp_path / "outside"
    run = store.add(config())
    run.directory.path.rename(outside)
    run.directory.path.symlink_to(outside)
    end(store, run.id, RunState.LOST)
    with pytest.raises(CistError, match="is a link, so what is in it is left alone"):
        store.retry(run.id)
    store.delete(run.id)
    assert (outside / "config.json").exists()
    assert not run.directory.path.is_symlink()
    for foreign in ("../outside", "", ".", str(outside)):
        with pytest.raises(CistError, match="There is no run"):
            store.delete(foreign)
    assert (outside / "config.json").exists()


def test_a_run_whose_directory_somebody_removed_can_be_deleted(store):
    run = store.add(config())
    shutil.rmtree(run.directory.path)
    store.delete(run.id)
    assert store.list_runs() == []


def test_names_and_notes_change(store):
    run_id = store.add(config(), name="one").id
    assert store.rename(run_id, " two ").name == "two"
    assert store.set_note(run_id, "a note").note == "a note"
    with pytest.raises(CistError, match="needs a name"):
        store.rename(run_id, "  ")
    for act in (store.get, store.cancel, store.resume, store.retry, store.delete):
        with pytest.raises(CistError, match="There is no run 'x'"):
            act("x")
    for act in (store.rename, store.set_note):
        with pytest.raises(CistError, match="There is no run 'x'"):
            act("x", "y")


def test_a_sweep_is_added_whole_or_not_at_all(store):
    (store.root / "limits.toml").write_text("queued_runs = 2")
    with pytest.raises(CistError, match="at most 2 runs in the queue, but 0 wait and 3 more do not fit"):
        store.add_all([("", config(seed)) for seed in range(3)])
    assert store.list_runs() == []
    assert not [path for path in store.root.iterdir() if path.is_dir()]


def test_a_run_whose_claim_says_nothing_stays_in_the_queue(store):
    run_id = store.add(config()).id
    assert store.claim(1).run.id == run_id
    assert store.get(run_id).state == "queued"
    assert store.claim(1).run.id == run_id


def cancel(store: RunStore, run_id: str) -> None:
    store.cancel(run_id)


def queue_anew(store: RunStore, run_id: str) -> None:
    store.cancel(run_id)
    store.resume(run_id)


def delete(store: RunStore, run_id: str) -> None:
    store.delete(run_id)


@pytest.mark.parametrize("leave", [cancel, queue_anew, delete, make_running])
def test_a_run_that_has_left_the_queue_since_it_was_claimed_is_not_taken(store, leave):
    run_id = store.add(config()).id
    claim = store.claim(1)
    leave(store, run_id)
    before = store.list_runs()
    assert not claim.started("local", "another")
    assert not claim.failed("It cannot start.")
    assert store.list_runs() == before


def test_a_process_that_the_table_does_not_know_yet_is_told_that_its_run_was_cancelled(store):
    run = store.add(config())
    store.cancel(run.id)
    assert run.directory.cancel_file.exists()


def test_claims_follow_the_order_of_the_queue_and_the_number_that_may_run(store):
    first, second, third = (store.add(config(seed)).id for seed in range(3))
    make_running(store, first)
    assert store.claim(1) is None
    make_running(store, second)
    end(store, first, RunState.LOST)
    store.resume(first)  # goes to the end of the queue
    make_running(store, third)
    make_running(store, first)
    assert store.get(first).attempt == 2


def test_many_threads_add_change_and_read_at_once(store):
    def visit(seed: int) -> str:
        run = store.add(config(seed), name=f"run {seed}")
        store.set_note(run.id, f"note {seed}")
        store.list_runs()
        return run.id

    with ThreadPoolExecutor(16) as threads:
        ids = list(threads.map(visit, range(60)))
    assert {run.id for run in store.list_runs()} == set(ids)
    assert {run.note.removeprefix("note ") for run in store.list_runs()} == {
        run.name.removeprefix("run ") for run in store.list_runs()
    }


def test_many_stores_are_opened_on_a_new_root_at_once(tmp_path):
    barrier = threading.Barrier(16)

    def visit(_: int) -> int:
        barrier.wait()
        return len(RunStore(tmp_path / "new").list_runs())

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(visit, range(16))) == [0] * 16


def test_the_table_keeps_a_journal_that_readers_do_not_wait_for(store):
    connection = sqlite3.connect(store.table_file)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_root_or_table_that_cannot_be_used_is_told_in_a_sentence(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(CistError, match=r"The folder of runs .*file cannot be made .*; set CIST_RUNS to another"):
        RunStore(file)
    store = RunStore(tmp_path / "runs")
    store.table_file.unlink()
    store.table_file.mkdir()
    with pytest.raises(CistError, match=r"The table of runs .*runs\.sqlite cannot be used"):
        store.list_runs()
    with pytest.raises(CistError, match="cannot be used"):
        RunStore(tmp_path / "runs")
    shutil.rmtree(store.root)
    with pytest.raises(CistError, match=r"The folder of runs .*runs has been removed; start anew"):
        store.list_runs()
    assert not store.root.exists()  # what somebody removed does not come back


def test_a_table_of_a_newer_version_is_left_alone(store):
    connection = sqlite3.connect(store.table_file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CistError, match="of a newer version; update cist-studio"):
        RunStore(store.root)


def test_the_config_on_disk_is_json_that_other_programs_read(store):
    run = store.add(config(3))
    assert json.loads(run.directory.config_file.read_text())["seed"] == 3


def test_a_name_is_one_line_that_fits_into_a_table(store):
    run = store.add(config(), name="a\nname " + 100 * "x")
    assert run.name == "a name " + 72 * "x" + "…"
    assert len(store.rename(run.id, 200 * "y").name) == 80
