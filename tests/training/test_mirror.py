"""Runs that are kept in an object store: an S3 on this machine, the memory of this process, and a folder."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from object_stores import on_every_store
from whole_runs import TINY, results

from cist_core import CistError
from cist_core.cli import main
from cist_core.runs.executors.local import LocalExecutor
from cist_core.runs.store import RunStore
from cist_core.training.engine import train
from cist_core.training.mirror.lease import Lease, LeaseLost
from cist_core.training.mirror.mirror import Mirror
from cist_core.training.mirror.store import Store
from cist_core.training.run_directory import RunDirectory

REPOSITORY = Path(__file__).parents[2]
HOLDER = """
import sys, time
from cist_core.training.mirror.lease import Lease
from cist_core.training.mirror.store import Store
Lease(Store(sys.argv[1])).take()
print("taken", flush=True)
time.sleep(600)
"""

RENEWING = """
import sys, time
from cist_core.training.mirror.lease import Lease, LeaseLost
from cist_core.training.mirror.store import Store
lease = Lease(Store(sys.argv[1]))
lease.take()
print(time.time(), flush=True)
try:
    for _ in range(3000):
        lease.renew()
        time.sleep(0.02)
except LeaseLost:
    print("lost", flush=True)
"""
SETTABLE_CLOCK = REPOSITORY / "tests" / "runs" / "settable_clock"


def mirror(url: str, path: Path, *, resume: bool = False, **seconds: float) -> Mirror:
    made = Mirror(
        url, RunDirectory(path), **{"renew_seconds": 0.05, "stale_seconds": 0.5, "end_seconds": 20.0} | seconds
    )
    made.begin(resume=resume)
    return made


def until(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


# ---- who may write ---------------------------------------------------------------------------------------------------


@on_every_store
def test_who_is_silent_loses_the_lease_and_is_told(url):
    first = Lease(Store(url), stale_seconds=0.2)
    first.take()
    first.renew()
    second = Lease(Store(url), stale_seconds=0.2)
    second.take()
    with pytest.raises(LeaseLost, match="was taken over"):
        first.renew()
    second.renew()
    second.release()
    third = Lease(Store(url), wait=lambda _: pytest.fail("it waits"))
    third.take()
    third.release()
    with pytest.raises(LeaseLost, match="was taken over"):
        first.check()  # also when all who came after it have gone


def test_who_shows_signs_of_life_keeps_the_lease(url):
    first = Lease(Store(url))
    first.take()
    second = Lease(Store(url), wait=lambda _: first.renew())
    with pytest.raises(CistError, match=f"Another process trains the run in {url} \\(process {os.getpid()} on "):
        second.take()
    first.renew()


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_the_lease_of_a_process_of_this_machine_that_was_killed_is_over_at_once(url):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"taken\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()

    def wait(_: float) -> None:
        pytest.fail("it waits")

    Lease(Store(url), wait=wait).take()


@pytest.mark.parametrize("url", ["file"], indirect=True)
@pytest.mark.parametrize("seconds", [-600, 600])
def test_machines_whose_clocks_are_ten_minutes_apart_agree_on_who_has_the_lease(url, tmp_path, seconds):
    moved = tmp_path / "moved"
    moved.write_text(str(seconds))
    path = os.pathsep.join([str(SETTABLE_CLOCK), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": path, "CIST_TEST_CLOCK": str(moved)}
    holder = subprocess.Popen([sys.executable, "-c", RENEWING, url], stdout=subprocess.PIPE, env=environment)
    try:
        assert holder.stdout is not None
        assert float(holder.stdout.readline()) == pytest.approx(time.time() + seconds, abs=300)
        with pytest.raises(CistError, match="Another process trains the run"):
            Lease(Store(url), stale_seconds=120.0).take()
        holder.send_signal(signal.SIGSTOP)
        other = Lease(Store(url), stale_seconds=0.2)
        other.take()
        holder.send_signal(signal.SIGCONT)
        assert holder.stdout.readline() == b"lost\n"
        other.check()
    finally:
        holder.kill()
        holder.communicate()


def test_of_many_that_take_over_one_has_it(url, monkeypatch):
    Lease(Store(url)).take()
    leases = [Lease(Store(url), stale_seconds=0.1) for _ in range(6)]
    barrier, made, create = threading.Barrier(len(leases)), [], Store.create
    at_once = threading.Barrier(len(leases))

    def note(self: Store, name: str, content: bytes) -> None:
        if name == "lease-000000002":  # all have seen the first one, and nobody the second
            at_once.wait(60)
        create(self, name, content)
        made.append(name)

    monkeypatch.setattr(Store, "create", note)

    def take(lease: Lease) -> None:
        barrier.wait()
        with contextlib.suppress(CistError, threading.BrokenBarrierError):
            lease.take()

    threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.count("lease-000000002") == 1


def test_a_lease_that_is_gone_with_all_the_store_is_made_again(url):
    lease = Lease(Store(url))
    lease.take()
    for name in Store(url).names():
        Store(url).remove(name)
    lease.check()
    with pytest.raises(CistError, match="Another process trains"):
        Lease(Store(url), wait=lambda _: lease.renew()).take()


def test_a_store_that_knows_no_conditions_is_refused(url, monkeypatch):
    monkeypatch.setattr(Store, "create", Store.write)
    with pytest.raises(CistError, match="nothing would keep two machines from one run"):
        Lease(Store(url)).take()


def test_a_kind_of_store_of_which_that_is_not_known_is_refused():
    with pytest.raises(
        CistError, match=r"Expected the address of a folder in one of the stores s3, .* but got 'sftp://host/run'"
    ):
        Store("sftp://host/run")


# ---- what is copied --------------------------------------------------------------------------------------------------


@on_every_store
def test_a_run_goes_on_from_the_store_to_the_metrics_of_an_undisturbed_one(url, tmp_path):
    calls = iter(range(9))
    first = mirror(url, tmp_path / "here")
    with pytest.raises(CistError, match=f"go on with: cist distill --run-dir {url} --resume"):
        train(TINY, tmp_path / "here", should_stop=lambda: next(calls, None) is None, mirror=first)
    first.close()
    second = mirror(url, tmp_path / "there", resume=True)
    status = train(TINY, tmp_path / "there", resume=True, mirror=second)
    second.close()
    train(TINY, tmp_path / "whole")
    assert results(tmp_path / "there") == results(tmp_path / "whole")
    assert status["mirror"]["url"] == url
    store = Store(url)
    names = [name for name in store.names() if not name.startswith("lease-")]
    assert {"student.safetensors", "status.json", "log.txt", "metrics.jsonl", "config.json"} <= set(names)
    here = {str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert set(names) == here - {"lock"}
    assert all(store.read(name) == (tmp_path / "there" / name).read_bytes() for name in names)


def test_files_come_in_an_order_that_is_valid_at_any_moment(url, tmp_path, monkeypatch):
    sent: list[str] = []
    write = Store.write

    def note(self: Store, name: str, content: bytes) -> None:
        sent.append(name)
        write(self, name, content)

    monkeypatch.setattr(Store, "write", note)
    train(TINY, tmp_path / "run")
    mirror(url, tmp_path / "run", resume=True).close()
    files = [name for name in sent if not name.startswith("lease")]
    assert files[0] == "config.json"
    assert files[-1] == "status.json"
    assert all(name.startswith("checkpoints/") for name in files[-3:-1])


def test_a_bucket_that_gives_no_answer_for_a_while_holds_up_nothing_and_is_said(url, tmp_path, monkeypatch):
    directory, write = RunDirectory(tmp_path / "run"), Store.write
    copy, away = mirror(url, directory.path), threading.Event()
    away.set()

    def fail(self: Store, name: str, content: bytes) -> None:
        if away.is_set():
            raise ConnectionError("The bucket is away.")
        write(self, name, content)

    monkeypatch.setattr(Store, "write", fail)

    def come_back() -> bool:
        """Once the run has said that its copy is behind."""
        fault = directory.status().get("mirror", {}).get("fault")
        if fault:
            assert fault == "The bucket is away"
            away.clear()
        return False

    status = train(TINY.changed(epochs=60), directory.path, should_stop=come_back, mirror=copy)
    copy.close()
    assert status["state"] == "finished"
    assert not away.is_set()
    log = directory.log_tail(1000)
    assert f"The copy in {url} is behind (The bucket is away); the run goes on" in log
    assert Store(url).read("metrics.jsonl") == directory.metrics_file.read_bytes()
    assert "fault" not in directory.status()["mirror"]


def test_a_bucket_that_hangs_is_waited_for_at_the_end_but_not_for_ever(url, tmp_path, monkeypatch):
    copy = mirror(url, tmp_path / "run", end_seconds=0.2)
    hangs = threading.Event()
    monkeypatch.setattr(Store, "write", lambda *_: hangs.wait())
    assert train(TINY, tmp_path / "run", mirror=copy)["state"] == "finished"
    with pytest.raises(
        CistError, match=r"The copy of .* is not complete .*the same command with --resume completes it"
    ):
        copy.close()
    hangs.set()


def test_a_run_that_another_machine_has_taken_over_ends(url, tmp_path):
    copy = mirror(url, tmp_path / "run", renew_seconds=1000.0)
    Lease(Store(url), stale_seconds=0.1).take()
    with pytest.raises(LeaseLost, match="was taken over"):
        train(TINY.changed(epochs=2000), tmp_path / "run", mirror=copy)
    assert RunDirectory(tmp_path / "run").status()["state"] == "failed"


# ---- the command line ------------------------------------------------------------------------------------------------


def distill(*options: object, **settings: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cist_core", "distill", *map(str, options)]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **settings,
    )


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_after_kill_9_a_run_goes_on_elsewhere_to_the_same_metrics(url, tmp_path):
    config = TINY.changed(epochs=200)  # not finished before the store has been asked for its first checkpoint
    config.save(tmp_path / "config.json")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    store = Store(url)
    process = distill(tmp_path / "config.json", "--run-dir", url, cwd=tmp_path / "here")
    try:
        until(lambda: any(name.startswith("checkpoints/") for name in store.names()), "a checkpoint in the store")
    finally:
        process.kill()
        process.communicate()
    second = distill("--run-dir", url, "--resume", cwd=tmp_path / "there")
    _, said = second.communicate(timeout=150)
    assert second.returncode == 0, said
    (there,) = (tmp_path / "there" / "runs").iterdir()
    log = RunDirectory(there).log_tail(1000)
    assert "Resumed after" in log
    train(config, tmp_path / "whole")
    assert results(there) == results(tmp_path / "whole")


def test_a_run_in_the_store_is_not_overwritten_and_a_finished_one_is_only_fetched(url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    TINY.save(tmp_path / "config.json")
    assert main(["distill", "config.json", "--run-dir", url]) == 0
    assert f"and {url}" in capsys.readouterr().out
    assert main(["distill", "config.json", "--run-dir", url]) == 2
    assert f"There is a run in {url} already; go on with it (--resume)" in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["distill", "--run-dir", url, "--resume"]) == 0
    assert "The run has finished" in capsys.readouterr().out
    (fetched,) = Path("runs").iterdir()
    assert (fetched / "student.safetensors").read_bytes() == Store(url).read("student.safetensors")


def test_several_processes_are_refused(url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["distill", "--preset", "demo", "--run-dir", url]) == 2
    assert "A run of several processes cannot be kept in" in capsys.readouterr().err


def test_runs_of_the_queue_are_copied_where_the_operator_says(tmp_path):
    store = RunStore(tmp_path / "runs")
    run = store.add(TINY)
    executor = LocalExecutor()
    assert "--mirror" not in executor.command_for(run)
    (store.root / "executors.toml").write_text('[mirror]\nurl = "s3://bucket/runs/"\n')
    assert executor.command_for(run)[-3:] == ["--replace-mirror", "--mirror", f"s3://bucket/runs/{run.id}"]
    (store.root / "executors.toml").write_text('[mirror]\nurl = "bucket"\n')
    with pytest.raises(CistError, match=r"Mend \[mirror\] in .*but got url = 'bucket'"):
        executor.command_for(run)


@pytest.fixture
def copied(url, tmp_path, monkeypatch) -> RunDirectory:
    """A stopped run with a copy."""
    directory, calls = RunDirectory(tmp_path / "run"), iter(range(9))
    copy = mirror(url, directory.path)
    with pytest.raises(CistError, match="was stopped"):
        train(TINY, directory.path, should_stop=lambda: next(calls, None) is None, mirror=copy)
    copy.close()
    monkeypatch.chdir(tmp_path)
    TINY.save(tmp_path / "config.json")
    return directory


def until_copied(copy: Mirror, since: float) -> None:
    """Until a copy is complete that is not an earlier attempt's."""
    until(lambda: (copy.said()["copied_at"] or 0.0) >= since, "a copy of now")


def content(url: str) -> dict[str, bytes]:
    store = Store(url)
    return {name: store.read(name) for name in store.names() if not name.startswith("lease-")}


def test_a_run_of_the_queue_that_begins_anew_replaces_its_copy_and_nothing_else(url, copied):
    Store(url).write("checkpoints/step-000000099.pt", b"of an earlier attempt")
    Store(url).write("notes/mine.txt", b"somebody's")
    shutil.rmtree(copied.checkpoints)
    again = ["distill", str(copied.config_file), "--run-dir", str(copied.path), "--mirror", url]
    assert main([*again, "--replace-mirror"]) == 0
    assert "checkpoints/step-000000099.pt" not in Store(url).names()
    assert Store(url).read("notes/mine.txt") == b"somebody's"
    assert Store(url).read("metrics.jsonl") == copied.metrics_file.read_bytes()


def test_a_replacement_that_is_cut_short_is_taken_up_again(url, copied, monkeypatch):
    Store(url).write("stderr.txt", b"of the queue")
    shutil.rmtree(copied.checkpoints)
    remove, count = Store.remove, iter(range(99))

    def cut_short(self: Store, name: str) -> None:
        if not name.startswith(("lease-", "probe-")) and next(count) == 3:
            raise ConnectionError("The bucket is away.")
        remove(self, name)

    monkeypatch.setattr(Store, "remove", cut_short)
    again = ["distill", str(copied.config_file), "--run-dir", str(copied.path), "--mirror", url, "--replace-mirror"]
    assert main(again) == 2
    assert main(again) == 0


def test_a_bucket_that_is_gone_in_the_middle_of_a_copy_is_no_complete_copy(url, copied, monkeypatch):
    def gone(self: Store, name: str, what: bytes) -> None:
        raise FileNotFoundError("The bucket does not exist.")

    copy = mirror(url, copied.path, resume=True, end_seconds=0.3, renew_seconds=1000.0)
    (copied.path / "log.txt").write_text("more")
    monkeypatch.setattr(Store, "write", gone)
    with pytest.raises(CistError, match=r"is not complete \(The bucket does not exist"):
        copy.close()


def test_what_is_gone_here_stays_in_the_copy(url, copied):
    before, began = content(url), time.time()
    copy = mirror(url, copied.path, resume=True, end_seconds=0.3)
    copy.offer()
    until_copied(copy, began)
    # Again where the thread that copies has written a file meanwhile.
    until(lambda: shutil.rmtree(copied.path, ignore_errors=True) or not copied.path.exists(), "the removal")
    copied.path.mkdir()
    copy.offer()
    until(lambda: copy.said()["fault"], "the fault")
    with pytest.raises(CistError, match=r"holds no config\.json any more, as if its disk were gone"):
        copy.close()
    assert content(url) == before


def test_of_checkpoints_that_are_gone_here_the_newest_stays(url, copied):
    older = "checkpoints/step-000000001.pt"
    Store(url).write(older, b"older")
    copy = mirror(url, copied.path, resume=True)
    until(lambda: older not in Store(url).names(), "the removal of one that is replaced")
    before = content(url)
    assert any(name.startswith("checkpoints/") for name in before)
    shutil.rmtree(copied.checkpoints)
    copy.close()
    assert content(url) == before


def test_a_run_that_is_copied_below_another_is_left_alone(url, copied):
    inner = {"two/config.json": b"{}", "two/mirror-id": b"2", "two/checkpoints/step-000000001.pt": b"2"}
    for name, text in inner.items():
        Store(url).write(name, text)
    shutil.rmtree(copied.checkpoints)  # so that what the store has is fetched
    copy = mirror(url, copied.path, resume=True)
    assert any(copied.checkpoints.iterdir())
    assert not (copied.path / "two").exists()
    Store(url).write("two/mirror-id", b"3")
    copy.close()
    assert Store(url).read("two/mirror-id") == b"3"


def test_a_copy_that_was_emptied_is_made_again(url, copied):
    before, began = content(url), time.time()
    copy = mirror(url, copied.path, resume=True)
    until_copied(copy, began)
    for name in Store(url).names():
        Store(url).remove(name)
    copy.close()
    assert content(url) == before


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("how", ["--mirror", "--run-dir"])
def test_a_folder_of_other_files_is_refused_and_left_alone(url, copied, capsys, how, resume):
    parent = url.rpartition("/")[0]
    Store(parent).write("notes.txt", b"mine")
    before = content(parent)
    place = ["--run-dir", str(copied.path), "--mirror", parent] if how == "--mirror" else ["--run-dir", parent]
    assert main(["distill", "config.json", *place, *["--resume"] * resume]) == 2
    assert f"Expected {parent} to be empty or the copy of a run" in capsys.readouterr().err
    assert content(parent) == before


def test_by_hand_a_copy_is_never_replaced(url, copied, tmp_path, capsys):
    before = content(url)
    assert main(["distill", "config.json", "--run-dir", str(tmp_path / "new"), "--mirror", url]) == 2
    assert f"There is a run in {url} already; go on with it (--resume)" in capsys.readouterr().err
    asked = ["distill", "config.json", "--run-dir", str(tmp_path / "new"), "--mirror", url, "--replace-mirror"]
    assert main(asked) == 2
    assert "is not replaced, because" in capsys.readouterr().err
    assert content(url) == before


@pytest.mark.parametrize("how", ["--resume", "--replace-mirror"])
def test_the_copy_of_another_run_is_refused(url, copied, tmp_path, capsys, how):
    before = content(url)
    other = tmp_path / "other"
    TINY.changed(seed=TINY.seed + 1).save(other / "config.json")
    asked = ["distill", str(other / "config.json"), "--run-dir", str(other), "--mirror", url, how]
    assert main(asked) == 2
    assert f"The run in {url} is not the one in {other} (seed of its config differ)" in capsys.readouterr().err
    assert content(url) == before


def test_two_runs_of_the_same_config_are_two_runs(url, copied, tmp_path):
    before = content(url)
    other = RunDirectory(tmp_path / "other")
    calls = iter(range(3))
    with pytest.raises(CistError, match="was stopped"):
        train(TINY, other.path, should_stop=lambda: next(calls, None) is None)
    for with_copy in (False, True):  # of its own
        if with_copy:
            mirror(f"{url}-other", other.path, resume=True).close()
        with pytest.raises(CistError, match=r"is not the one in .*, though it has the same config"):
            mirror(url, other.path, resume=True)
        assert content(url) == before
    empty = mirror(url, tmp_path / "empty", resume=True)
    empty.close()
    assert results(tmp_path / "empty") == results(copied.path)
    mirror(url, copied.path, resume=True).close()


@on_every_store
def test_runs_that_lie_in_the_store_alone_are_listed(url, tmp_path, capsys):
    above = url.rpartition("/")[0]
    assert main(["runs", "--mirror", above]) == 0
    assert capsys.readouterr().out == f"There are no copies of runs in {above}.\n"
    TINY.save(tmp_path / "config.json")
    assert main(["distill", str(tmp_path / "config.json"), "--run-dir", str(tmp_path / "here"), "--mirror", url]) == 0
    shutil.rmtree(tmp_path / "here")
    own = {
        "one/student/config.json": b"{}",
        "two/config.json": b"{}",
        "two/status.json": b"[1]",
        "other.txt": b"no run",
    }
    odd = b'{"state": "' + b"x" * 300 + b'", "deep": ' + b"[" * 900 + b"]" * 900 + b"}"
    for name, text in (own | {"three/config.json": b"{}", "three/status.json": odd}).items():
        Store(above).write(name.replace("one/", url.rpartition("/")[2] + "/"), text)
    capsys.readouterr()
    assert main(["runs", "--mirror", above]) == 0
    _, _, one, three, two, hint = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{re.escape(url)} +finished +4 of 4 +\d+\.\d+ %", one)
    assert re.fullmatch(rf"{re.escape(above)}/two +unknown +- +-", two)
    assert re.fullmatch(rf"{re.escape(above)}/three +unknown +- +-", three)
    assert main(["runs", "--mirror", above, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 3
    for name in ("config.json", "mirror-id"):  # the folder is a run itself, and hides none below it that says it is one
        Store(above).write(name, b"{}")
        Store(f"{above}/two").write("mirror-id", b"2")
    assert main(["runs", "--mirror", above, "--json"]) == 0
    found = {run["url"] for run in json.loads(capsys.readouterr().out)["runs"]}
    assert found == {above, url, f"{above}/two", f"{above}/three"}
    assert main(["runs", "--mirror", f"file://{tmp_path}/typo"]) == 2
    assert "There is no folder" in capsys.readouterr().err
    assert hint.endswith("--resume")
    assert main(["runs", "--mirror", above, "--group", "a"]) == 2
    assert "Expected --group only together with runs of this machine" in capsys.readouterr().err


def test_a_wrong_config_is_named_before_the_store_is_asked(url, copied, tmp_path, capsys):
    before = Store(url).names()
    (tmp_path / "wrong.json").write_text('{"seed": ')
    asked = ["distill", "wrong.json", "--run-dir", str(copied.path), "--mirror", url, "--replace-mirror"]
    assert main(asked) == 2
    assert "is not JSON" in capsys.readouterr().err
    assert Store(url).names() == before


@pytest.mark.parametrize("name", ["../../escaped.txt", "a\\b.txt"])
def test_names_that_lead_out_of_the_directory_are_refused(url, copied, tmp_path, monkeypatch, name):
    names = Store.names
    import fsspec

    found = fsspec.implementations.memory.MemoryFileSystem.find
    monkeypatch.setattr(
        fsspec.implementations.memory.MemoryFileSystem,
        "find",
        lambda self, path, **options: [*found(self, path, **options), f"{path}/{name}"],
    )
    with pytest.raises(CistError, match="which would lead out of a folder"):
        names(Store(url))
    with pytest.raises(CistError, match="which would lead out of a folder"):
        mirror(url, tmp_path / "deep" / "there", resume=True)
    assert not (tmp_path / "escaped.txt").exists()


def test_the_lease_lives_while_a_large_run_is_fetched(url, copied, tmp_path, monkeypatch):
    fetch, renewed = Store.fetch, []
    write = Store.write

    def note(self: Store, name: str, what: bytes) -> None:
        renewed.append(name)
        write(self, name, what)

    def slow(self: Store, name: str, path: Path) -> None:
        if name.startswith("checkpoints/"):
            count = len(renewed)
            until(lambda: len(renewed) > count, "a sign of life")
        fetch(self, name, path)

    monkeypatch.setattr(Store, "write", note)
    monkeypatch.setattr(Store, "fetch", slow)
    mirror(url, tmp_path / "there", resume=True).close()
    assert RunDirectory(tmp_path / "there").config().seed == TINY.seed


def test_a_lease_that_is_lost_at_the_end_is_no_complete_copy(url, tmp_path):
    copy = mirror(url, tmp_path / "run", renew_seconds=1000.0)
    train(TINY, tmp_path / "run", mirror=copy)
    Lease(Store(url), stale_seconds=0.1).take()
    with pytest.raises(LeaseLost, match="was taken over"):
        copy.close()


def test_whoever_slept_between_two_files_overwrites_nothing(url, copied, tmp_path, monkeypatch):
    train(TINY, copied.path, resume=True)
    write, sent = Store.write, []

    def sleep(self: Store, name: str, what: bytes) -> None:
        write(self, name, what)
        if name == "config.json":
            # Whoever still writes to a store of a test before does so.
            monkeypatch.setattr(
                Store, "write", lambda it, *file: sent.append(file[0]) if it.url == url else write(it, *file)
            )
            Lease(Store(url), stale_seconds=0.1).take()

    monkeypatch.setattr(Store, "write", sleep)
    with pytest.raises(LeaseLost, match="was taken over"):
        mirror(url, copied.path, resume=True, renew_seconds=1000.0).close()
    assert sent == []


def test_a_lease_among_the_files_of_the_run_is_not_copied(url, copied):
    (copied.path / "lease-000000999").write_bytes(b"came with aws s3 sync")
    mirror(url, copied.path, resume=True).close()
    assert "lease-000000999" not in Store(url).names()


def test_a_folder_whose_disk_is_not_mounted_is_not_made_anew(tmp_path, capsys):
    url = (tmp_path / "disk" / "runs" / "one").as_uri()
    TINY.save(tmp_path / "config.json")
    assert main(["distill", str(tmp_path / "config.json"), "--run-dir", str(tmp_path / "here"), "--mirror", url]) == 2
    assert f"The folder {tmp_path / 'disk' / 'runs'} of {url} is not there" in capsys.readouterr().err
    assert not (tmp_path / "disk").exists()


def test_a_disk_that_goes_away_between_the_look_and_the_writing_is_not_made_anew(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    store = Store((tmp_path / "disk" / "one").as_uri())
    store.write("checkpoints/step-000000001.pt", b"1")
    (tmp_path / "disk").rename(tmp_path / "away")
    looks = iter([lambda: None, store.check_mounted])
    monkeypatch.setattr(store, "check_mounted", lambda: next(looks)())
    with pytest.raises(CistError, match="as if its disk were not mounted"):
        store.write("checkpoints/step-000000002.pt", b"2")
    assert not (tmp_path / "disk").exists()


def test_an_empty_mount_point_is_not_taken_for_the_disk(tmp_path, capsys):
    disk, away = tmp_path / "disk", tmp_path / "away"
    disk.mkdir()
    url = (disk / "one").as_uri()
    directory = RunDirectory(tmp_path / "here")
    TINY.save(tmp_path / "config.json")
    asked = ["distill", str(tmp_path / "config.json"), "--run-dir", str(directory.path), "--mirror", url]
    assert main(asked) == 0
    began = time.time()
    copy = mirror(url, directory.path, resume=True)
    until_copied(copy, began)

    def unmount():
        away.mkdir()
        (disk / "one").rename(away / "one")

    unmount()
    directory.log_file.write_text("another line")
    copy.offer()
    until(lambda: copy.said()["fault"], "the fault")
    assert f"The folder {disk / 'one'} of {url} is not there" in copy.said()["fault"]
    assert not list(disk.iterdir())
    (away / "one").rename(disk / "one")
    away.rmdir()
    copy.close()
    assert (disk / "one" / "log.txt").read_text() == "another line"

    unmount()
    capsys.readouterr()
    assert main([*asked, "--resume"]) == 2
    assert f"The folder {disk / 'one'} of {url} is not there" in capsys.readouterr().err
    assert not list(disk.iterdir())
    (disk / "one").mkdir()  # it was removed on purpose
    assert main([*asked, "--resume"]) == 0
    assert (disk / "one" / "log.txt").exists()


def test_a_disk_that_is_unmounted_in_the_middle_is_said_and_the_copy_completed_when_it_is_back(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    directory = RunDirectory(tmp_path / "here")
    train(TINY, directory.path)
    copy = mirror((disk / "one").as_uri(), directory.path)
    until(lambda: "status.json" in copy.store.names(), "for the copy")
    disk.rename(tmp_path / "away")
    directory.log_file.write_text("another line")
    copy.offer()
    until(lambda: copy.said()["fault"], "for the fault")
    assert "as if its disk were not mounted" in copy.said()["fault"]
    assert not disk.exists()
    (tmp_path / "away").rename(disk)
    copy.close()
    assert (disk / "one" / "log.txt").read_text() == "another line"
