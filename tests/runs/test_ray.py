"""Runs on Ray: what is asked of its Jobs API, and real runs on a cluster of several nodes on this machine."""

import contextlib
import json
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from object_stores import access_to
from ray_cluster import Cluster, a_cluster
from whole_runs import TINY, results

from cist_core import CistError
from cist_core.runs import Run, RunState, RunStore, Worker
from cist_core.runs.copies import bring_back
from cist_core.runs.executors.protocol import ExecutorUnreachable, executor_named
from cist_core.runs.executors.ray_jobs import RayExecutor
from cist_core.training import RunConfig
from cist_core.training.engine import train
from cist_core.training.mirror.store import Store
from tests.runs.jobs_api import JobsApi
from tests.runs.workplace import FAKE_ENGINE, Workplace, config, until

DIED = (
    "Job supervisor actor died: The actor died unexpectedly before finishing this task.\n\tclass_name: JobSupervisor\n"
    "\tactor_id: b3fe\nThe actor died because its node has died. Node Id: 8c4d"
)


@pytest.fixture
def worker(workplace, api) -> Worker:
    return workplace.worker()


def the_job(api: JobsApi) -> dict[str, object]:
    (job,) = api.jobs.values()
    return job


def test_where_the_address_is_set_runs_are_queued_for_ray_with_their_resources(workplace, api, worker, monkeypatch):
    monkeypatch.setenv("CIST_NO_CODE", "1")
    run = workplace.store.get(workplace.add())
    assert run.executor == "ray"
    (workplace.store.root / "executors.toml").write_text(
        '[ray]\naddress = "http://elsewhere:8265"\nnum_cpus = 4\nnum_gpus = 0.5\nresources = { fast = 1 }\n'
    )
    worker.tick()
    asked = next(content for method, path, content in api.asked if (method, path) == ("POST", "/api/jobs/"))
    assert asked["submission_id"] == f"{run.id}-0"
    assert asked["entrypoint"] == (
        f"cd {run.working_directory} && exec {sys.executable} -P -m cist_core distill --allow-code "
        f"{run.directory.config_file} --run-dir {run.directory.path} </dev/null 2>{run.stderr_file}"
    )
    reserved = {name: value for name, value in asked.items() if name.startswith("entrypoint_")}
    assert reserved == {"entrypoint_num_cpus": 4, "entrypoint_num_gpus": 0.5, "entrypoint_resources": {"fast": 1}}
    environment = asked["runtime_env"]["env_vars"]
    assert environment["CIST_NO_CODE"] == "1"  # what must not run here must not run there
    assert workplace.store.get(run.id).handle == f"job {run.id}-0 at {api.address}"


@pytest.mark.parametrize(
    ("machine", "cpus", "gpus"), [({"threads": 3}, 3, 0), ({"device": "cuda"}, 1, 1), ({"device": "cpu"}, 1, 0)]
)
def test_resources_follow_from_the_config_of_the_run(workplace, api, worker, machine, cpus, gpus):
    run = workplace.store.get(workplace.add())
    content = json.loads(run.directory.config_file.read_text())
    run.directory.config_file.write_text(json.dumps({**content, "machine": {**content["machine"], **machine}}))
    worker.tick()
    asked = next(content for method, path, content in api.asked if path == "/api/jobs/")
    assert (asked["entrypoint_num_cpus"], asked["entrypoint_num_gpus"]) == (cpus, gpus)


@pytest.mark.parametrize(
    ("job", "state", "reason"),
    [
        ({"status": "STOPPED", "message": "Job was intentionally stopped."}, "lost", "Ray says: Job was intentionally"),
        ({"status": "FAILED", "driver_exit_code": -9}, "lost", "was ended by SIGKILL"),
        (
            {"status": "FAILED", "error_type": "RUNTIME_ENV_SETUP_FAILURE", "message": "No\n disk."},
            "lost",
            "Ray says: No disk; resume it",
        ),
        ({"status": "FAILED", "driver_exit_code": 127}, "failed", "exit code 127"),
        ({"status": "SUCCEEDED"}, "lost", "ended without saying that it had finished"),
    ],
)
def test_what_ray_says_of_the_end_of_a_job_is_told(workplace, api, worker, job, state, reason):
    run_id = workplace.add()
    worker.tick()
    the_job(api).update(job)
    worker.tick()
    run = workplace.store.get(run_id)
    assert run.state == state
    assert reason in run.reason


@pytest.mark.parametrize(
    ("died", "told"),
    [
        (True, "says: Job supervisor actor died: The actor died unexpectedly before finishing this task"),
        (False, "knows no job {id}-0 at {address}, as after the end of its head node"),
    ],
)
def test_a_run_that_ray_has_lost_goes_on_as_another_job(workplace, api, worker, died, told, capsys):
    """Its node has died, or the head node, and with it all that Ray knew."""
    run_id = workplace.add()
    worker.tick()
    if died:
        the_job(api).update(status="FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED", message=DIED)
    else:
        api.jobs.clear()
    worker.tick()
    told = told.format(id=run_id, address=api.address)
    assert f"{run_id} lost: Ray {told}; it goes on from its last checkpoint.\n" in capsys.readouterr().out
    run = workplace.store.get(run_id)
    assert (run.state, run.attempt) == (RunState.RUNNING, 2)
    assert api.asked[-1][2]["submission_id"] == f"{run_id}-1"
    assert "--resume" in api.asked[-1][2]["entrypoint"]


def test_where_a_process_still_trains_the_run_does_not_go_on_twice(workplace, api, worker, capsys):
    """A node that is out of reach may work on."""
    run_id = workplace.add()
    worker.tick()
    api.jobs.clear()
    other = workplace.add()
    with workplace.store.get(run_id).directory.locked():
        worker.tick()
    assert re.search(f"training in .* The run {run_id} goes on once it has ended", capsys.readouterr().out)
    assert workplace.state(run_id) is RunState.QUEUED
    assert workplace.state(other) is RunState.RUNNING  # the others of its executor do not wait for it
    worker.tick()
    assert workplace.store.get(run_id).attempt == 2


def test_a_job_that_was_submitted_before_the_worker_died_is_not_submitted_again(workplace, api, worker):
    run = workplace.store.get(workplace.add())
    first = executor_named("ray").start(run)
    worker.tick()
    assert workplace.store.get(run.id).handle == first
    assert [path for method, path, _ in api.asked if method == "POST"] == ["/api/jobs/"]


@pytest.mark.parametrize(
    ("status", "said", "state"), [("SUCCEEDED", "finished", "finished"), ("FAILED", "failed", "failed")]
)
def test_a_job_that_has_ended_before_the_table_had_it_is_not_submitted_again(
    workplace, api, worker, status, said, state
):
    run = workplace.store.get(workplace.add())
    first = executor_named("ray").start(run)
    the_job(api).update(status=status, driver_exit_code=0 if status == "SUCCEEDED" else 2)
    run.directory.write_status({"state": said})
    until(lambda: not worker.tick())
    ended = workplace.store.get(run.id)
    assert (ended.state, ended.handle, ended.attempt) == (state, first, 1)
    assert len(api.jobs) == 1


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_job_that_has_ended_without_a_word_of_its_run_is_submitted_anew_and_resumes(workplace, api, worker, status):
    """As after its directory was cleared, or where the process was killed."""
    run = workplace.store.get(workplace.add())
    executor_named("ray").start(run)
    the_job(api).update(status=status)
    worker.tick()
    assert workplace.store.get(run.id).handle == f"job {run.id}-0-2 at {api.address}"
    assert "--resume" in api.asked[-1][2]["entrypoint"]


def test_a_run_that_is_cancelled_while_ray_takes_its_job_does_not_run(workplace, api, worker, capsys):
    run_id = workplace.add()
    answer = api.answer

    def slow(method: str, path: str, content: dict[str, object]) -> tuple[int, object]:
        if (method, path) == ("POST", "/api/jobs/"):
            workplace.store.cancel(run_id)
        return answer(method, path, content)

    api.answer = slow
    worker.tick()
    run = workplace.store.get(run_id)
    assert (run.state, run.reason) == (RunState.CANCELLED, "Cancelled before it started.")
    assert api.asked[-1][:2] == ("POST", f"/api/jobs/{run_id}-0/stop")
    assert run.directory.cancel_file.exists()  # for where Ray does not hear
    assert f"{run_id} has left the queue while it was started" in capsys.readouterr().out


def test_a_job_that_was_stopped_before_the_table_had_it_is_not_taken_for_the_run(workplace, api, worker, monkeypatch):
    run = workplace.store.get(workplace.add())

    def full(self: object, *_: str) -> None:
        raise CistError("The table of runs cannot be used (database or disk is full).")

    with monkeypatch.context() as patch:
        patch.setattr("cist_core.runs.store.Claim.started", full)
        with pytest.raises(CistError, match="is full"):
            worker.tick()
    assert api.asked[-1][1] == f"/api/jobs/{run.id}-0/stop"
    worker.tick()
    assert workplace.state(run.id) is RunState.QUEUED  # it still stops
    the_job(api).update(status="STOPPED", message="Job was intentionally stopped.")
    worker.tick()
    assert workplace.store.get(run.id).handle == f"job {run.id}-0-2 at {api.address}"
    worker.tick()
    assert workplace.state(run.id) is RunState.RUNNING


@pytest.mark.parametrize("said", ["<h1>404 Not Found</h1><p>nginx</p>", "404: Not Found"])
def test_a_404_that_is_none_of_the_api_loses_no_run(workplace, api, worker, said):
    run_id = workplace.add()
    worker.tick()
    api.fault = (404, said)
    worker.tick()
    workplace.store.reconcile()
    assert (workplace.state(run_id), workplace.store.get(run_id).attempt) == (RunState.RUNNING, 1)


def test_while_the_api_is_waited_for_the_table_is_free_and_it_is_then_left_alone(workplace, api):
    worker = workplace.worker("train", silent_seconds=600.0)
    run_id = workplace.add()
    answer, free = api.answer, []

    def slow(method: str, path: str, content: dict[str, object]) -> tuple[int, object]:
        if method == "GET":
            return answer(method, path, content)
        api.asked.append((method, path, content))
        # Another connection writes while the API is waited for.
        free.append(workplace.store.add(config(7), executor="local").id)
        return 503, "hangs"

    api.answer = slow
    with pytest.raises(ExecutorUnreachable, match="hangs"):
        worker.tick()
    api.answer = answer
    with pytest.raises(ExecutorUnreachable, match="hangs"):
        worker.tick()
    assert [path for method, path, _ in api.asked if method == "POST"] == ["/api/jobs/"]
    assert [workplace.state(run_id) for run_id in (run_id, *free)] == [RunState.QUEUED, RunState.RUNNING]
    handle = workplace.store.get(free[0]).handle
    worker.executor.stop(handle, force=True)
    until(lambda: worker.executor.poll(handle) is not None)


def test_a_run_whose_cluster_is_gone_for_good_can_be_cancelled_and_deleted(workplace, api):
    worker = workplace.worker(grace_seconds=0.01)
    run_id = workplace.add()
    worker.tick()
    api.fault = (503, "gone")
    workplace.store.cancel(run_id)
    directory = workplace.store.get(run_id).directory
    with directory.locked():
        for _ in range(3):
            worker.tick()
            time.sleep(0.02)
    assert workplace.state(run_id) is RunState.RUNNING  # somebody trains there
    worker.tick()
    run = workplace.store.get(run_id)
    assert run.state is RunState.CANCELLED
    assert "'ray' gives no answer, and nothing trains in its directory" in run.reason
    assert directory.cancel_file.exists()  # for a job that begins all the same
    workplace.store.delete(run_id)


def test_a_worker_starts_while_somebody_waits_for_the_api(workplace, api, worker):
    workplace.add()
    worker.tick()
    answer, locked = api.answer, []

    def look(*asked: object) -> tuple[int, object]:
        locked.append(workplace.store.has_worker())
        return answer(*asked)

    api.answer = look
    workplace.store.reconcile()
    assert locked == [False]


def test_an_api_that_gives_no_answer_loses_nothing(workplace, api, worker):
    running = workplace.add()
    worker.tick()
    api.fault = (503, "starting")
    waiting = workplace.add()
    with pytest.raises(ExecutorUnreachable, match="cannot answer now"):
        worker.tick()
    workplace.store.reconcile()
    assert [workplace.state(run_id) for run_id in (running, waiting)] == ["running", "queued"]
    api.fault = (400, "no such resource")
    worker.tick()
    assert workplace.store.get(waiting).reason == f"Ray at {api.address} refuses the job (no such resource)."


def test_an_api_that_gives_no_answer_is_not_asked_about_each_run(workplace, api, worker):
    """An answer that does not come is waited for."""
    ids = [workplace.add() for _ in range(3)]
    worker.tick()
    api.fault = (503, "starting")
    for look in (worker.tick, workplace.store.reconcile):
        api.asked.clear()
        look()
        assert [method for method, _, _ in api.asked] == ["GET"]
    assert {workplace.state(run_id) for run_id in ids} == {RunState.RUNNING}


def test_without_a_connection_runs_wait(workplace, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("CIST_RAY_ADDRESS", f"http://127.0.0.1:{port}")
    run_id = workplace.add()
    with pytest.raises(ExecutorUnreachable, match=f"Ray at http://127.0.0.1:{port} gives no answer .*refused"):
        workplace.worker().tick()
    assert workplace.state(run_id) is RunState.QUEUED


@pytest.mark.parametrize("address", ["ray://head:10001", "head:6379", "file:///etc/passwd"])
def test_another_address_than_that_of_the_dashboard_is_refused(workplace, monkeypatch, address):
    monkeypatch.setenv("CIST_RAY_ADDRESS", address)
    with pytest.raises(CistError, match=f"Expected the address of Ray's dashboard.*but got '{address}'"):
        workplace.add()


def test_a_run_on_several_workers_is_a_job_that_asks_for_them_itself(workplace, api, worker):
    settings = workplace.store.root / "executors.toml"
    settings.write_text("[ray]\nworkers = 2\nnum_cpus = 3\nmemory = 1000\nresources = { fast = 1 }\n")
    run = workplace.store.get(workplace.add())
    worker.tick()
    asked = next(content for method, path, content in api.asked if (method, path) == ("POST", "/api/jobs/"))
    reserved = {name: value for name, value in asked.items() if name.startswith("entrypoint_")}
    assert reserved == {"entrypoint_num_cpus": 0, "entrypoint_num_gpus": 0}
    each = shlex.quote('{"CPU": 3.0, "GPU": 0, "memory": 1000, "fast": 1.0}')
    place = f"{run.directory.config_file} --run-dir {run.directory.path}"
    assert f"-m cist_core.runs.ray_workers {place} --workers 2 --resources {each} <" in asked["entrypoint"]
    settings.write_text('[ray]\nworkers = 2\n\n[mirror]\nurl = "s3://bucket/runs"\n')
    other = workplace.add()
    worker.tick()
    asked = [content for method, path, content in api.asked if (method, path) == ("POST", "/api/jobs/")][-1]
    assert f" --mirror s3://bucket/runs/{other} <" in asked["entrypoint"]


def test_wrong_settings_fail_a_run_in_a_sentence(workplace, api, worker):
    (workplace.store.root / "executors.toml").write_text("[ray]\nnum_gpus = -1\n")
    run_id = workplace.add()
    worker.tick()
    assert "Mend [ray] in" in workplace.store.get(run_id).reason
    assert "num_gpus: input should be greater than or equal to 0" in workplace.store.get(run_id).reason


# ---- a cluster of three nodes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(s3) -> Iterator[Cluster]:
    """Its nodes have keys of the S3 of these tests, as those of an operator have them of his."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in access_to(s3).items():
            patch.setenv(name, value)
        with a_cluster() as made:
            yield made


@pytest.fixture
def on_ray(cluster, tmp_path, monkeypatch) -> Workplace:
    """Runs are queued for the cluster; a worker of this process starts them."""
    monkeypatch.setenv("CIST_RAY_ADDRESS", cluster.address)
    return Workplace(tmp_path / "runs")


def ask(place: Workplace, run_id: str) -> dict[str, object]:
    """What Ray says of the current job of a run."""
    job = RayExecutor().job(place.store.get(run_id).handle)
    assert job is not None
    return job


def work(worker: Worker, until_it_holds: Callable[[], object], what: str) -> None:
    """Tick as a worker does, through the seconds in which Ray cannot be asked.

    The bound is against waiting for ever: Ray starts a dozen processes for a run of two workers, each of which imports
    it, and that takes minutes where others want the processors as well.
    """

    def tick() -> object:
        with contextlib.suppress(ExecutorUnreachable):
            worker.tick()
        time.sleep(0.1)
        return until_it_holds()

    until(tick, what, seconds=400.0)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_a_run_whose_node_is_killed_goes_on_elsewhere_to_the_same_metrics(url, on_ray, cluster, tmp_path):
    """Both attempts write one copy in an S3, from which the run is brought back."""
    bucket = url.removesuffix("/one")
    (on_ray.store.root / "executors.toml").write_text(f'[mirror]\nurl = "{bucket}"\n')
    config = TINY.changed(epochs=120)
    run = on_ray.store.add(config)
    worker = on_ray.worker()
    work(worker, lambda: any(run.directory.checkpoints.glob("*.pt")), "for a checkpoint")
    first = ask(on_ray, run.id)
    cluster.kill_node_of(first)
    work(worker, lambda: on_ray.store.get(run.id).attempt == 2, "for another attempt")
    train(config, tmp_path / "whole")  # meanwhile, undisturbed
    work(worker, lambda: on_ray.store.get(run.id).state.ended, "for the end")
    ended = on_ray.store.get(run.id)
    assert (ended.state, ended.reason) == (RunState.FINISHED, None)
    assert ask(on_ray, run.id)["driver_node_id"] != first["driver_node_id"]
    assert "Resumed after" in run.directory.log_tail(1000)
    assert results(run.directory.path) == results(tmp_path / "whole")
    check_copy(run, f"{bucket}/{run.id}", tmp_path)


def check_copy(run: Run, url: str, folder: Path) -> None:
    """The copy in a store is the whole run."""
    fetched = bring_back(RunStore(folder / "elsewhere"), url)
    assert fetched.state is RunState.FINISHED
    assert results(fetched.directory.path) == results(run.directory.path)


def on_two_workers(place: Workplace, config: RunConfig, *, mirror: str | None = None) -> Run:
    """Queue a run whose workers are on a node each, as every node has one CPU."""
    pytest.importorskip("ray.train.torch", reason="the extra 'ray' brings Ray Train, which is not installed")
    copies = "" if mirror is None else f'\n[mirror]\nurl = "{mirror}"\n'
    (place.store.root / "executors.toml").write_text(f"[ray]\nworkers = 2\n{copies}")
    return place.store.add(config)


def by_two_processes(config: RunConfig, folder: Path) -> list[dict[str, float]]:
    """The metrics of two processes of this machine, without Ray."""
    config.save(folder / "config.json")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "cist_core", "distill", str(folder / "config.json"), "--run-dir", str(folder / "two")]
    subprocess.run(command, check=True, capture_output=True)
    return results(folder / "two")


@pytest.mark.slow
@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_a_run_on_two_workers_of_which_a_node_is_killed_goes_on_to_the_same_metrics(url, on_ray, cluster, tmp_path):
    """It goes on as the same job, once there is a node for each worker again, to those of two processes of one machine.

    The first worker copies it to an S3.
    """
    config = TINY.changed(epochs=120)
    run = on_two_workers(on_ray, config, mirror=url.removesuffix("/one"))
    worker = on_ray.worker()
    work(worker, lambda: any(run.directory.checkpoints.glob("*.pt")), "for a checkpoint")
    cluster.replace(cluster.nodes[-1])
    work(worker, lambda: on_ray.store.get(run.id).state.ended, "for the end")
    ended = on_ray.store.get(run.id)
    assert (ended.state, ended.reason) == (RunState.FINISHED, None), ended.stderr_file.read_text()[-3000:]
    assert ended.attempt == 1
    assert run.directory.status()["processes"] == 2
    assert "Resumed after" in run.directory.log_tail(1000)
    assert results(run.directory.path) == by_two_processes(config, tmp_path)
    check_copy(run, f"{url.removesuffix('/one')}/{run.id}", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_a_run_on_two_workers_whose_copy_is_refused_fails_in_its_sentence(url, on_ray, cluster):
    bucket = url.removesuffix("/one")
    run = on_two_workers(on_ray, TINY, mirror=bucket)
    Store(f"{bucket}/{run.id}").write("notes.txt", b"of somebody else")
    worker = on_ray.worker()
    work(worker, lambda: on_ray.store.get(run.id).state.ended, "for the end")
    ended = on_ray.store.get(run.id)
    assert ended.state is RunState.FAILED
    assert f"Expected {bucket}/{run.id} to be empty or the copy of a run, but it holds notes.txt" in ended.reason
    assert Store(f"{bucket}/{run.id}").read("notes.txt") == b"of somebody else"


@pytest.mark.slow
def test_cancelling_a_run_on_two_workers_ends_all_of_its_processes(on_ray):
    run = on_two_workers(on_ray, TINY.changed(epochs=9_000))
    worker = on_ray.worker()
    work(worker, lambda: any(run.directory.checkpoints.glob("*.pt")), "for a checkpoint")
    assert len(of_the_run("RayTrainWorker")) == 2
    assert of_the_run(str(run.directory.path))
    on_ray.store.cancel(run.id)
    work(worker, lambda: on_ray.store.get(run.id).state.ended, "for the end")
    assert on_ray.store.get(run.id).state is RunState.CANCELLED
    until(lambda: not of_the_run("RayTrainWorker") + of_the_run(str(run.directory.path)), "for the processes")
    assert run.directory.status()["state"] == "cancelled"


def of_the_run(word: str) -> list[str]:
    """The command lines with this word in it of the processes that the nodes of this test have started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            found.append(" ".join(process.cmdline()))
    return [line for line in found if word in line]


@pytest.mark.slow
def test_a_run_on_ray_is_told_to_stop_by_its_file_or_by_a_signal(on_ray, monkeypatch):
    monkeypatch.setattr(executor_named("ray"), "command", (sys.executable, str(FAKE_ENGINE), "train,deaf"))
    worker = on_ray.worker(grace_seconds=1.0)
    for seed, words in enumerate(("It was cancelled.", "It was stopped by SIGTERM.")):
        run_id = on_ray.add(seed)
        work(worker, lambda: on_ray.alive(run_id), "for the job")  # noqa: B023
        on_ray.trains(run_id)
        on_ray.store.cancel(run_id)
        work(worker, lambda: on_ray.state(run_id).ended, "for the end")  # noqa: B023
        run = on_ray.store.get(run_id)
        assert (run.state, run.reason) == (RunState.CANCELLED, words)
        assert "a line of the log" in run.stderr_file.read_text()


@pytest.mark.slow
def test_when_the_head_node_has_died_all_is_known_from_the_directories(on_ray, cluster, monkeypatch):
    """The table of runs is lost as well."""
    monkeypatch.setattr(executor_named("ray"), "command", (sys.executable, str(FAKE_ENGINE), "train"))
    said: list[str] = []
    worker = on_ray.worker(say=said.append)
    run_id = on_ray.add(note="kept")
    work(worker, lambda: on_ray.store.get(run_id).handle, "for the job")
    on_ray.trains(run_id)
    cluster.close()
    on_ray.store.table_file.unlink()
    store = RunStore(on_ray.store.root)
    run = store.get(run_id)
    assert (run.state, run.executor, run.note) == (RunState.RUNNING, "ray", "kept")
    store.reconcile()
    worker.tick()
    assert "gives no answer" in said[-1]
    assert store.get(run_id).state is RunState.RUNNING
    cluster.start()
    work(worker, lambda: store.get(run_id).attempt == 2 and store.get(run_id).handle, "for another attempt")
    on_ray.trains(run_id)
    (run.directory.path / "finish").touch()
    work(worker, lambda: store.get(run_id).state.ended, "for the end")
    assert store.get(run_id).state is RunState.FINISHED
