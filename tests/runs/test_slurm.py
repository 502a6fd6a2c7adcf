"""Runs on Slurm: jobs of a stand-in for its commands, and what a job does under submitit's local executor."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cist_core import CistError
from cist_core.runs import RunState
from cist_core.runs.attempt import Attempt, Ticket
from cist_core.runs.executors.protocol import ExecutorUnreachable, executor_named
from cist_core.runs.executors.slurm import SlurmExecutor
from tests.runs.workplace import FAKE_ENGINE, SLURM_COMMANDS, Workplace, until

submitit = pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")


@pytest.fixture
def place(slurm, workplace, monkeypatch):
    """A workplace whose workers run processes of this machine, and Slurm beside it."""
    executor_named.cache_clear()  # what an earlier Slurm has said is remembered
    monkeypatch.setattr(executor_named("slurm"), "command", (sys.executable, str(FAKE_ENGINE), "finish,train,fail"))
    return workplace


def queue(place: Workplace, seed: int, **more: object) -> str:
    return place.add(seed, executor="slurm", **more)


def tell(jobs: Path, *arguments: str) -> None:
    """The stand-in ends a job."""
    script = f"import sys; sys.path.insert(0, {str(SLURM_COMMANDS.parent)!r}); import slurm_commands; "
    subprocess.run([sys.executable, "-c", script + arguments[0]], check=True)


def test_a_run_that_is_queued_for_slurm_becomes_a_job_there_and_ends_as_on_this_machine(place, slurm):
    said = []
    worker = place.worker("finish", say=said.append)
    finished, failed, here = queue(place, 0), queue(place, 2), place.add(0)
    until(lambda: not worker.tick())
    assert [place.state(run_id) for run_id in (finished, failed, here)] == ["finished", "failed", "finished"]
    assert [place.store.get(run_id).executor for run_id in (finished, failed, here)] == ["slurm", "slurm", "local"]
    assert place.store.get(failed).reason == "The loss is not a number at step 3; lower the learning rate."
    assert len(list(slurm.glob("*.leader"))) == 2
    assert "a line of the log" in place.store.get(finished).stderr_file.read_text()
    # Slurm queues by itself, so both were there at once, although one run may run on this machine.
    assert [line.partition(" ")[0] for line in said if "started as job" in line] == [finished, failed]


def test_what_is_asked_of_slurm_stands_in_a_file(place, slurm):
    (place.store.root / "executors.toml").write_text(
        '[slurm]\nslurm_partition = "gpu"\ngpus_per_node = 2\ntimeout_min = 90\n'
    )
    run = place.store.get(queue(place, 0))
    worker = place.worker()
    until(lambda: not worker.tick())
    script = next((run.directory.path / "slurm").glob("*_submission.sh")).read_text()
    for line in ("partition=gpu", "gpus-per-node=2", "time=90", f"job-name=cist-{run.id}", "signal=USR2@90"):
        assert f"#SBATCH --{line}\n" in script


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("[slurm]\nslurm_partition = 'nowhere'", "invalid partition specified: nowhere"),
        ("[slurm]\ngpu = 1", r"Mend \[slurm\] in .*executors.toml: .*gpu"),
        ("slurm = 3", r"Expected a table \[slurm\] in .*executors.toml, but got slurm = 3"),
        ("[slurm", "are not TOML"),
    ],
)
def test_a_job_that_slurm_does_not_take_fails_with_its_words(place, settings, reason):
    (place.store.root / "executors.toml").write_text(settings)
    run_id = queue(place, 0)
    place.worker().tick()
    run = place.store.get(run_id)
    assert run.state is RunState.FAILED
    assert re.search(reason, run.reason), run.reason


def test_runs_wait_while_slurm_gives_no_answer_and_those_of_this_machine_do_not(place, slurm):
    (slurm / "down").touch()
    on_slurm, here = queue(place, 0), place.add(0)
    worker = place.worker("finish")

    def here_is_over() -> bool:
        with pytest.raises(ExecutorUnreachable, match="Unable to contact slurm controller"):
            worker.tick()
        return place.state(here) is RunState.FINISHED

    until(here_is_over)
    assert place.state(on_slurm) is RunState.QUEUED
    assert place.store.get(on_slurm).attempt == 0
    (slurm / "down").unlink()
    until(lambda: not worker.tick())
    assert place.state(on_slurm) is RunState.FINISHED


def test_a_run_on_slurm_is_cancelled_by_its_file_and_resumes_as_another_job(place, slurm):
    run_id = queue(place, 1)
    worker = place.worker()
    worker.tick()
    place.trains(run_id)
    place.store.cancel(run_id)
    until(lambda: not worker.tick())
    assert place.state(run_id) is RunState.CANCELLED
    step = place.store.get(run_id).directory.status()["step"]
    (place.store.get(run_id).directory.path / "finish").touch()
    place.store.resume(run_id)
    until(lambda: not worker.tick())
    run = place.store.get(run_id)
    assert (run.state, run.attempt, run.directory.status()["first_step"]) == (RunState.FINISHED, 2, step)
    assert len(list(slurm.glob("*.leader"))) == 2


@pytest.mark.parametrize("force", [False, True])
def test_slurm_ends_a_job_by_signals(place, force):
    run_id = queue(place, 1)
    place.worker().tick()
    place.trains(run_id)
    handle = place.store.get(run_id).handle
    executor = SlurmExecutor()  # another process would have no other
    executor.stop(handle, force=force)
    until(lambda: executor.poll(handle) is not None)
    how = executor.poll(handle)
    if force:
        assert (how.code, how.reason) == (None, "Slurm says CANCELLED BY 1000 of job 1")
    else:
        assert how.code == 130  # of an engine that has saved where it is
    executor.stop(handle, force=True)  # nothing happens to what has ended


def test_a_run_goes_on_elsewhere_when_its_node_has_failed(place, slurm):
    run_id = queue(place, 1)
    worker = place.worker()
    worker.tick()
    place.trains(run_id)
    tell(slurm, "slurm_commands.end('1', 'NODE_FAIL', by_force=True)")
    until(lambda: worker.tick() and place.store.get(run_id).attempt == 2)
    place.trains(run_id)
    (place.store.get(run_id).directory.path / "finish").touch()
    until(lambda: not worker.tick())
    assert place.state(run_id) is RunState.FINISHED
    assert place.starts() == [run_id] * 2


def test_a_run_whose_node_fails_each_time_is_left_lost(place, slurm):
    (place.store.root / "limits.toml").write_text("attempts = 2")
    run_id = queue(place, 1)
    worker = place.worker()
    for number in (1, 2):
        until(lambda number=number: worker.tick() and place.store.get(run_id).attempt == number)
        place.trains(run_id)
        tell(slurm, f"slurm_commands.end('{number}', 'NODE_FAIL', by_force=True)")
    until(lambda: not worker.tick())
    run = place.store.get(run_id)
    assert (run.state, run.attempt) == (RunState.LOST, 2)
    assert run.reason == "Slurm says NODE_FAIL of job 2; resume it from its last checkpoint."


def test_a_job_that_the_table_never_had_does_nothing(place, slurm):
    """As of a worker that died after it had submitted a job: the next one submits another."""
    run = place.store.get(queue(place, 0))
    first = executor_named("slurm").start(run)
    worker = place.worker()
    until(lambda: not worker.tick())
    assert place.state(run.id) is RunState.FINISHED
    until(lambda: executor_named("slurm").poll(first) is not None)
    assert place.starts() == [run.id]


def test_a_job_that_begins_before_its_release_waits_for_it(place, slurm):
    """Also where an earlier attempt had its release."""
    run_id = queue(place, 1)
    worker = place.worker()
    worker.tick()
    place.trains(run_id)
    place.store.cancel(run_id)
    until(lambda: not worker.tick())
    run = place.store.resume(run_id)
    claim = place.store.claim(1)
    handle = executor_named("slurm").start(claim.run)
    claim.started("slurm", handle)
    until(
        lambda: "Starting with JobEnvironment" in "".join(map(Path.read_text, run.directory.path.glob("slurm/2_*.out")))
    )
    assert executor_named("slurm").poll(handle) is None  # which releases it, as the worker may have died before
    place.trains(run_id)
    assert place.starts() == [run_id] * 2


def test_what_slurm_needs_is_said_when_a_run_is_queued(workplace, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CistError, match="There is no sbatch here"):
        workplace.add(0, executor="slurm")
    with pytest.raises(CistError, match=r"one of the executors local, ray, slurm.*but got 'clouds'"):
        workplace.add(0, executor="clouds")
    assert workplace.store.list_runs() == []


# ---- under submitit's local executor ---------------------------------------------------------------------------------


def submit(folder: Path, behaviour: str) -> tuple[Ticket, "submitit.Job[None]"]:
    from cist_core.training import preset

    directory = folder / "run"
    directory.mkdir()
    preset("demo").changed(seed=0).save(directory / "config.json")
    ticket = Ticket(directory / "slurm", "aa")
    ticket.prepare()
    command = [sys.executable, str(FAKE_ENGINE), behaviour, str(directory / "config.json"), "--run-dir", str(directory)]
    executor = submitit.AutoExecutor(ticket.folder, cluster="local")
    executor.update_parameters(timeout_min=5)
    return ticket, executor.submit(Attempt(command, directory, directory / "stderr.txt", ticket))


@pytest.fixture
def source_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_a_job_waits_until_its_ticket_is_valid_and_leaves_the_exit_code(tmp_path, source_path):
    ticket, job = submit(tmp_path, "fail")
    assert ticket.is_valid() is None
    assert not (tmp_path / "starts.txt").exists()
    ticket.validate()
    until(lambda: ticket.exit_code() is not None)
    assert ticket.exit_code() == 2
    job.wait()


def test_a_job_whose_time_is_up_saves_and_resumes_in_its_next_turn(tmp_path, source_path):
    ticket, job = submit(tmp_path, "train")
    ticket.validate()
    starts, status = tmp_path / "starts.txt", tmp_path / "run" / "status.json"
    until(lambda: status.exists() and '"running"' in status.read_text())
    (task,) = psutil.Process(int(job.job_id)).children()
    task.send_signal(signal.SIGUSR2)  # as Slurm does 90 seconds before
    until(lambda: starts.read_text().split() == ["run", "run"])
    (tmp_path / "run" / "finish").touch()
    until(lambda: ticket.exit_code() is not None)
    assert ticket.exit_code() == 0
    assert '"first_step": 0' not in status.read_text()
    job.wait()
