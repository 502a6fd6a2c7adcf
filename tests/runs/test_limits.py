"""`limits.toml`: defaults, what is refused, and how a worker enforces it."""

import pytest

from cist_core import CistError
from cist_core.runs import RunLimits, RunState
from tests.runs.workplace import config, on_every_executor, until, write_limits


def test_without_a_file_the_defaults_hold(store):
    assert store.limits == RunLimits()
    assert store.limits.concurrent_runs == 1


def test_a_file_states_what_differs(store):
    write_limits(store, "concurrent_runs = 3\nwall_seconds = 1.5\n")
    assert store.limits == RunLimits(concurrent_runs=3, wall_seconds=1.5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch = 3", "there is no limit 'epoch'; known are concurrent_runs, queued_runs, epochs"),
        ("epochs = 0", "epochs: input should be greater than or equal to 1, but got 0"),
        ("epochs = 'ten'\nwall_seconds = -1", "epochs: .*got 'ten'; wall_seconds: .*greater than 0, but got -1"),
        ("wall_seconds = inf", "wall_seconds: .*finite"),
        ("epochs 3", "are not TOML"),
    ],
)
def test_a_wrong_file_is_told_in_a_sentence(store, text, sentence):
    write_limits(store, text)
    with pytest.raises(CistError, match=sentence):
        store.add(config())
    assert store.list_runs() == []


def test_a_file_that_cannot_be_read_is_told_in_a_sentence(store):
    (store.root / "limits.toml").mkdir()
    with pytest.raises(CistError, match=r"limits\.toml cannot be read \(Is a directory\)"):
        store.limits  # noqa: B018


def test_a_run_that_is_too_long_is_refused(store):
    write_limits(store, "epochs = 10\nsteps = 100")
    store.add(config(epochs=10))
    with pytest.raises(CistError, match="at most 10 epochs in a run, but got 11; shorten it, or raise 'epochs'"):
        store.add(config(epochs=11))
    with pytest.raises(CistError, match="at most 100 steps in a run, but got 101"):
        store.add(config(epochs=None, steps=101))


def test_a_full_queue_refuses_new_and_resumed_runs(store):
    write_limits(store, "queued_runs = 1")
    first = store.add(config(0)).id
    store.cancel(first)
    store.add(config(1))
    with pytest.raises(CistError, match="at most 1 runs in the queue, but 1 wait and 1 more do not fit"):
        store.add(config(2))
    with pytest.raises(CistError, match="at most 1 runs in the queue"):
        store.resume(first)


@on_every_executor
def test_the_worker_stops_a_run_that_takes_too_long_and_it_saves_first(workplace):
    run_id = workplace.add()
    workplace.start("train")
    workplace.trains(run_id)  # on a busy machine that takes longer than the limit
    write_limits(workplace.store, "wall_seconds = 0.5")
    workplace.reaches(run_id, RunState.FAILED)
    run = workplace.store.get(run_id)
    assert "stopped after 0.5 seconds, the limit for one attempt; resume it" in run.reason
    assert (run.directory.checkpoints / "step.txt").exists()
    write_limits(workplace.store, "")
    workplace.store.resume(run_id)
    workplace.trains(run_id)
    assert workplace.store.get(run_id).directory.status()["first_step"] > 0


@on_every_executor
def test_the_worker_stops_a_run_that_uses_too_much_disk(workplace):
    write_limits(workplace.store, "disk_bytes = 100_000")
    run_id = workplace.add()
    workplace.start("grow")
    workplace.reaches(run_id, RunState.FAILED)
    assert "has grown to 1" in workplace.store.get(run_id).reason
    assert "100,000 are allowed" in workplace.store.get(run_id).reason


@on_every_executor
def test_a_run_over_a_limit_that_does_not_listen_is_killed_and_still_failed_for_the_limit(workplace):
    write_limits(workplace.store, "wall_seconds = 0.2")
    run_id = workplace.add()
    workplace.start("stubborn", grace_seconds=0.1)
    workplace.reaches(run_id, RunState.FAILED)
    assert "stopped after 0.2 seconds" in workplace.store.get(run_id).reason


@on_every_executor
def test_the_limit_of_concurrent_runs_is_kept_and_may_change_meanwhile(workplace):
    write_limits(workplace.store, "concurrent_runs = 2")
    ids = [workplace.add(seed) for seed in range(4)]
    workplace.start("train")
    workplace.trains(ids[0])
    workplace.trains(ids[1])
    assert [workplace.state(run_id) for run_id in ids] == ["running", "running", "queued", "queued"]
    write_limits(workplace.store, "concurrent_runs = 3")
    workplace.trains(ids[2])
    write_limits(workplace.store, "concurrent_runs = nonsense")  # the last limits that could be read stay
    workplace.store.cancel(ids[0])
    workplace.trains(ids[3])
    until(lambda: workplace.state(ids[0]) is RunState.CANCELLED)
