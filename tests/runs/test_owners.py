"""Runs of several people: who sees and changes what, whose turn it is, and what one person may use."""

import sqlite3

import pytest

from cist_core import CistError
from cist_core.processes import PYTHON
from cist_core.runs import RunLimits, RunState, RunStore
from cist_core.runs.executors.protocol import executor_named
from tests.runs.workplace import GONE, config, end, rows, write_limits

ANN, BOB = "ann@lab.edu", "bob@lab.edu"
TABLE_1 = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, note TEXT NOT NULL, state TEXT NOT NULL, sweep TEXT,
    created_at REAL NOT NULL, queued_at REAL NOT NULL, started_at REAL, ended_at REAL, reason TEXT,
    stop_requested_at REAL, limit_reason TEXT, attempt INTEGER NOT NULL DEFAULT 0, resume INTEGER NOT NULL DEFAULT 0,
    pid INTEGER, pid_created_at REAL, working_directory TEXT NOT NULL
)
"""


@pytest.fixture
def anns(store) -> RunStore:
    return RunStore(store.root, owner=ANN)


@pytest.fixture
def bobs(store) -> RunStore:
    return RunStore(store.root, owner=BOB)


def claim(store: RunStore, *at_once: int) -> str | None:
    """The id of the run that starts next, as if a worker had started it."""
    taken = store.claim(*at_once)
    if taken is None:
        return None
    taken.started(*GONE)
    return taken.run.id


# ---- who sees and changes what ---------------------------------------------------------------------------------------


def test_a_run_belongs_to_whom_the_store_acts_for(store, anns, bobs):
    keepers, hers, his = store.add(config(0)), anns.add(config(1), group="g"), bobs.add(config(2), group="g")
    assert [run.owner for run in (keepers, hers, his)] == [None, ANN, BOB]
    assert anns.list_runs() == [hers]
    assert bobs.list_runs("g") == [his]
    assert bobs.list_runs("h") == []
    assert store.list_runs() == [his, hers, keepers]
    assert (store.count_active(), anns.count_active()) == (3, 3)


def test_a_run_of_somebody_has_an_id_that_nobody_guesses(store, anns):
    assert len(store.add(config()).id.rpartition("-")[2]) == 4
    assert len(anns.add(config()).id.rpartition("-")[2]) == 16


@pytest.mark.parametrize("owner", [None, ANN])
@pytest.mark.parametrize(
    "change",
    [
        lambda store, run: store.cancel(run),
        lambda store, run: store.resume(run),
        lambda store, run: store.retry(run),
        lambda store, run: store.delete(run),
        lambda store, run: store.rename(run, "mine"),
        lambda store, run: store.set_note(run, "mine"),
        lambda store, run: store.get_owned(run),
    ],
    ids=["cancel", "resume", "retry", "delete", "rename", "note", "own"],
)
@pytest.mark.parametrize("state", ["queued", "lost"])
def test_nobody_changes_or_takes_away_what_is_somebody_elses(store, bobs, owner, change, state):
    run = RunStore(store.root, owner=owner).add(config(), name="hers")
    if state == "lost":
        end(store, run.id, RunState.LOST)
    before = store.get(run.id)
    with pytest.raises(CistError, match=f"The run {run.id} belongs to somebody else: you can look at it, but not"):
        change(bobs, run.id)
    assert store.get(run.id) == before == bobs.get(run.id)
    assert not bobs.owns(before)


def test_everybody_changes_their_own_and_the_keeper_all(store, anns):
    for changer in (anns, store):
        run = anns.add(config())
        assert changer.owns(run)
        assert changer.rename(run.id, "hers").owner == ANN
        changer.cancel(run.id)
        assert changer.retry(run.id).owner == ANN
        changer.cancel(run.id)
        assert changer.get_owned(run.id).name == "hers"
        changer.delete(run.id)
    assert store.list_runs() == []


def test_a_table_of_version_1_keeps_its_rows_which_are_the_keepers(tmp_path):
    root = tmp_path / "old"
    root.mkdir()
    with sqlite3.connect(root / "runs.sqlite") as connection:
        connection.execute(TABLE_1)
        connection.execute(
            "INSERT INTO runs (id, name, note, state, created_at, queued_at, working_directory) "
            "VALUES ('20261101-120000-ab12', 'old', 'a note', 'lost', 1.0, 2.0, '/')"
        )
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    for store in (RunStore(root), RunStore(root)):
        (run,) = store.list_runs()
        assert (run.id, run.name, run.note, run.state, run.owner) == (
            "20261101-120000-ab12", "old", "a note", "lost", None,
        )  # fmt: skip
    assert RunStore(root, owner=ANN).list_runs() == []
    RunStore(root, owner=ANN).add(config())
    assert [run.owner for run in store.list_runs()] == [ANN, None]
    assert rows(store, "PRAGMA user_version")[0][0] == 3


# ---- whose turn it is ------------------------------------------------------------------------------------------------


def test_people_take_turns_and_each_ones_runs_go_in_their_order(store, anns, bobs):
    hers = [anns.add(config(seed)).id for seed in range(3)]
    his = [bobs.add(config(seed)).id for seed in range(2)]
    keepers = store.add(config()).id
    assert [claim(store, 9, 9) for _ in range(7)] == [hers[0], his[0], keepers, hers[1], his[1], hers[2], None]


def test_somebody_who_has_reached_the_limit_is_passed_over(store, anns, bobs):
    hers = [anns.add(config(seed)).id for seed in range(2)]
    assert claim(store, 9, 1) == hers[0]
    assert claim(store, 9, 1) is None
    his = bobs.add(config()).id
    keepers = [store.add(config(seed)).id for seed in range(2)]
    assert [claim(store, 9, 1) for _ in range(4)] == [his, *keepers, None]
    end(store, hers[0], RunState.FINISHED)
    assert claim(store, 4, 1) == hers[1]


def test_the_worker_keeps_the_limit_of_a_person(workplace, anns, bobs):
    write_limits(workplace.store, "concurrent_runs = 3\nuser_runs_at_once = 1")
    hers = [anns.add(config(seed)).id for seed in range(2)]
    his = bobs.add(config()).id
    workplace.start("train")
    workplace.trains(hers[0])
    workplace.trains(his)
    assert workplace.state(hers[1]) is RunState.QUEUED
    anns.cancel(hers[0])
    workplace.trains(hers[1])


# ---- what one person may use -----------------------------------------------------------------------------------------


def test_a_person_queues_no_more_than_allowed_and_leaves_room_for_others(store, anns, bobs):
    write_limits(store, "user_queued_runs = 2")
    first = anns.add(config(0)).id
    with pytest.raises(CistError, match="at most 2 runs of one person in the queue, but 1 of yours wait and 2 more"):
        anns.add_all([("", config(1)), ("", config(2))])
    assert len(anns.list_runs()) == 1
    anns.cancel(first)
    anns.add_all([("", config(1)), ("", config(2))])
    with pytest.raises(CistError, match="have 'user_queued_runs' in limits"):
        anns.resume(first)
    bobs.add_all([("", config(1)), ("", config(2))])
    store.add_all([("", config(seed)) for seed in range(3)])  # the keeper has no such limit
    store.resume(first)


def test_a_person_whose_runs_fill_their_share_of_the_disk_deletes_some_first(store, anns, bobs):
    run = anns.add(config())
    anns.cancel(run.id)
    write_limits(store, f"user_disk_bytes = {run.directory.bytes_used()}")
    for more in (lambda: anns.add(config()), lambda: anns.resume(run.id)):
        with pytest.raises(CistError, match=r"Your runs use [\d,]+ bytes of the disk and [\d,]+ are allowed; delete"):
            more()
    bobs.add(config())
    store.resume(run.id)
    anns.cancel(run.id)
    anns.delete(run.id)
    anns.add(config())


def test_the_queue_of_all_is_a_limit_for_everybody(store, anns):
    write_limits(store, "queued_runs = 1")
    store.add(config())
    with pytest.raises(CistError, match="at most 1 runs in the queue, but 1 wait"):
        anns.add(config())


def test_limits_of_a_person_have_defaults(store):
    assert (store.limits.user_runs_at_once, store.limits.user_queued_runs) == (1, 100)
    write_limits(store, "user_runs_at_once = 0")
    with pytest.raises(CistError, match="user_runs_at_once: input should be greater than or equal to 1"):
        RunLimits.load(store.root)


@pytest.mark.parametrize("name", ["local", "ray", "slurm"])
def test_runs_of_visitors_are_told_to_run_no_code_whoever_has_started_the_worker(store, anns, name):
    executor = executor_named(name)
    mine, anns_own = store.add(config()), anns.add(config())
    assert executor.command_for(mine)[:6] == [*PYTHON, "-m", "cist_core", "distill", "--allow-code"]
    assert executor.command_for(anns_own)[:6] == [*PYTHON, "-m", "cist_core", "distill", "--no-code"]
