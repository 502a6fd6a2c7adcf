"""A table of runs that is lost or damaged comes back from the directories of the runs, and that is said."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import run as cist

from cist_core import CistError
from cist_core.processes import start_of
from cist_core.runs import RunState, RunStore
from cist_core.runs.executors.local import process_handle
from cist_core.runs.records import RECORD_FILE
from tests.runs.workplace import GONE, config, rows, until

ANN, BOB = "ann@lab.edu", "bob@lab.edu"
NOISE = random.Random(0).randbytes(20_000)


def remove(table: Path) -> bytes | None:
    table.unlink()
    return None


def empty(table: Path) -> bytes | None:
    table.write_bytes(b"")
    return None


def halve(table: Path) -> bytes | None:
    os.truncate(table, table.stat().st_size // 2)
    return table.read_bytes()


def randomise(table: Path) -> bytes | None:
    table.write_bytes(NOISE)
    return NOISE


def somebody_elses(table: Path) -> bytes | None:
    table.unlink()
    with sqlite3.connect(table) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    return table.read_bytes()


DAMAGES = pytest.mark.parametrize("damage", [remove, empty, halve, randomise, somebody_elses])


@DAMAGES
def test_every_run_comes_back_as_the_table_had_it(store, damage):
    queued = [RunStore(store.root, owner=owner).add(config(seed), name=f"of {owner}", note="a note: «α»", group="sweep")
              for seed, owner in enumerate((None, ANN, BOB, ANN))]  # fmt: skip
    for owner_store, run in zip((store, RunStore(store.root, owner=ANN)), queued, strict=False):
        owner_store.rename(run.id, "renamed")
    store.cancel(queued[3].id)
    store.resume(queued[3].id)
    claim = store.claim(9)
    claim.started(*GONE)
    gone = claim.run.id
    claim = store.claim(9)
    claim.failed("It cannot start.")
    before = rows(store, "SELECT * FROM runs ORDER BY rowid")
    lost = damage(store.table_file)
    again = RunStore(store.root)
    order = "SELECT * FROM runs ORDER BY queued_at"
    assert [dict(row) for row in rows(again, order)] == sorted(map(dict, before), key=lambda row: row["queued_at"])
    assert [run.id for run in RunStore(store.root, owner=ANN).list_runs()] == [queued[3].id, queued[1].id]
    assert "was rebuilt from the directories of 4 runs: 2 queued, 1 running, 1 failed." in again.rebuilt
    aside = list(store.root.glob("runs.sqlite.damaged-*"))
    assert [file.read_bytes() for file in aside] == ([] if lost is None else [lost])
    assert all(file.name in again.rebuilt for file in aside)
    again.reconcile()
    assert again.get(gone).state is RunState.LOST


def test_damage_beyond_the_first_page_is_mended(store):
    runs = store.add_all([("", config(seed)) for seed in range(60)])
    with store.table_file.open("r+b") as table:
        table.seek(8192)
        table.write((NOISE * 9)[: store.table_file.stat().st_size - 8192])
    assert {run.id for run in store.list_runs()} == {run.id for run in runs}
    assert "was damaged" in store.rebuilt
    with sqlite3.connect(store.table_file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.parametrize("change", ["state = 'queqed'", "note = CAST(x'ff80' AS TEXT)"])
def test_a_row_that_cannot_be_one_is_mended(store, change):
    run = store.add(config(), note="a note")
    for look in (store.list_runs, lambda: [store.get(run.id)]):
        with sqlite3.connect(store.table_file) as connection:
            connection.execute(f"UPDATE runs SET {change}")
        connection.close()
        assert [(found.state, found.note) for found in look()] == [(RunState.QUEUED, "a note")]
        assert "was damaged" in store.rebuilt
        store.forget_rebuilt()


def test_a_new_root_has_nothing_to_say(tmp_path):
    assert RunStore(tmp_path / "runs").rebuilt is None


def test_a_table_that_is_set_aside_replaces_none_that_was_before(store, monkeypatch):
    store.add(config())
    monkeypatch.setattr(time, "strftime", lambda *_: "20261127-120000")
    for content in (b"first" * 99, b"second" * 99):
        store.table_file.write_bytes(content)
        assert len(RunStore(store.root).list_runs()) == 1
    aside = sorted(store.root.glob("runs.sqlite.damaged-*"))
    assert [file.read_bytes() for file in aside] == [b"first" * 99, b"second" * 99]


@pytest.mark.parametrize("damage", [remove, randomise])
def test_a_run_that_lives_goes_on_and_is_not_started_twice(workplace, damage):
    living, waiting = workplace.add(0), workplace.add(1)
    first = workplace.start("train,finish")
    workplace.trains(living)
    damage(workplace.store.table_file)
    assert workplace.state(living) is RunState.RUNNING  # found by whoever looks first, the worker or we
    step = workplace.store.get(living).directory.status()["step"]
    workplace.trains(living, beyond=step)
    first.kill()  # and the next worker finds it as well
    first.join()
    remove(workplace.store.table_file)
    workplace.start("train,finish")
    step = workplace.store.get(living).directory.status()["step"]
    workplace.trains(living, beyond=step + 5)
    assert workplace.state(waiting) is RunState.QUEUED  # one at a time
    workplace.store.cancel(living)
    workplace.reaches(living, RunState.CANCELLED)
    workplace.reaches(waiting, RunState.FINISHED)
    assert workplace.starts() == [living, waiting]


def test_without_a_record_a_run_is_what_it_says_of_itself_and_the_operators(store):
    anns = RunStore(store.root, owner=ANN)
    runs = {state: anns.add(config(), name="a name") for state in ("finished", "failed", "cancelled", "running", "")}
    living = anns.add(config())
    for state, run in runs.items():
        if state:
            run.directory.write_status({"state": state, "reason": "A reason.", "updated_at": 5.0, "started_at": 2.0,
                                        "pid": os.getpid()})  # fmt: skip
    process = subprocess.Popen([sys.executable, Path(__file__).with_name("holds_directory.py"), living.directory.path])
    try:
        until(lambda: living.directory.status().get("state") == "running")
        for number, run in enumerate([*runs.values(), living]):
            record = run.directory.path / RECORD_FILE
            record.write_bytes([b"", b"null", b'{"id": 1}', NOISE, b"[" * 100_000, b"{}"][number])
        store.table_file.unlink()
        again = RunStore(store.root)
        states = {state: again.get(run.id) for state, run in runs.items()}
        assert {said: str(run.state) for said, run in states.items()} == {
            "finished": "finished", "failed": "failed", "cancelled": "cancelled", "running": "lost", "": "cancelled",
        }  # fmt: skip
        assert (states["failed"].reason, states["failed"].started_at, states["failed"].ended_at) == ("A reason.", 2, 5)
        assert "resume it" in states[""].reason
        assert states["failed"].name == "cist"
        again.reconcile()
        assert again.get(living.id).state is RunState.RUNNING
        assert again.get(living.id).handle == process_handle(process.pid, start_of(process.pid))
        assert not again.has_queued()
        assert RunStore(store.root, owner=ANN).list_runs() == []
        assert {run.owner for run in again.list_runs()} == {None}
        assert "Of 6 name, note, sweep and owner are not known any more; they belong to the operator" in again.rebuilt
    finally:
        process.kill()
        process.wait()
    again.reconcile()
    assert again.get(living.id).state is RunState.LOST


def test_a_record_with_half_a_character_hides_no_other_run(store):
    damaged, whole = store.add(config()), store.add(config(1), name="whole")
    record = damaged.directory.path / RECORD_FILE
    record.write_text(json.dumps({**json.loads(record.read_text()), "note": "a\ud800"}))
    store.table_file.unlink()
    assert {run.id: run.name for run in RunStore(store.root).list_runs()} == {damaged.id: "cist", whole.id: "whole"}


def test_folders_of_others_and_copies_of_runs_become_no_runs_of_somebody(store):
    run = RunStore(store.root, owner=ANN).add(config())
    (store.root / "my notes").mkdir()
    config().save(store.root / "my notes" / "config.json")
    copy = store.root / "20261101-120000-ab12"
    copy.mkdir()
    for name in ("config.json", RECORD_FILE):
        (copy / name).write_bytes((run.directory.path / name).read_bytes())
    store.table_file.unlink()
    assert {found.id: found.owner for found in RunStore(store.root).list_runs()} == {run.id: ANN, copy.name: None}


def test_a_run_that_an_older_version_added_gets_its_record_when_a_worker_starts(store):
    run = RunStore(store.root, owner=ANN).add(config())
    (run.directory.path / RECORD_FILE).unlink()
    with store.kept_open():
        pass
    store.table_file.unlink()
    assert [found.owner for found in RunStore(store.root).list_runs()] == [ANN]


def test_damage_that_is_found_by_a_change_is_mended_and_said(store):
    run = store.add(config())
    store.table_file.write_bytes(NOISE)
    with pytest.raises(CistError, match=r"is damaged .* rebuilt from the directories of the runs; try again"):
        store.rename(run.id, "new")
    assert store.rename(run.id, "new").name == "new"


def test_many_find_a_lost_table_at_once(store):
    ids = [store.add(config(seed)).id for seed in range(10)]
    store.table_file.unlink()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: [run.id for run in RunStore(store.root).list_runs()], range(8)))
    assert found == [ids[::-1]] * 8


def test_the_terminal_says_so_until_the_notice_is_removed(store, capsys):
    store.add(config())
    store.table_file.unlink()
    for _ in range(2):
        code, out, err = cist(capsys, "runs", "--json", "--root", str(store.root))
        assert code == 0
        assert out.startswith("{")
        assert "the table of runs was missing or empty. It was rebuilt from the directories of 1 run: 1 queued" in err
        assert f"Remove {store.notice_file} when you have read this." in err
    store.forget_rebuilt()
    assert cist(capsys, "runs", "--root", str(store.root))[2] == ""


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA locking_mode = EXCLUSIVE")
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_table_that_somebody_holds_answers_within_five_seconds(store):
    run = store.add(config())
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.table_file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        started = time.monotonic()
        with pytest.raises(CistError, match="is locked by another process for more than 3 seconds; try again"):
            store.rename(run.id, "new")
        assert time.monotonic() - started < 5
    finally:
        holder.communicate()
    assert store.rename(run.id, "new").name == "new"
