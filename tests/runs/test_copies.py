"""Runs that lie in a store alone come back whole or not at all, and are then runs like any other."""

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import run as run_command
from object_stores import on_every_store
from whole_runs import TINY, results, stop_after

from cist_core import CistError
from cist_core.runs import RunState, RunStore
from cist_core.runs.copies import bring_back, fetched_bytes, not_here
from cist_core.runs.executors.local import LocalExecutor
from cist_core.training import RunDirectory
from cist_core.training.engine import train
from cist_core.training.mirror.lease import Lease
from cist_core.training.mirror.listing import copied_runs
from cist_core.training.mirror.store import Store
from cist_core.zoo.kinds.code import NO_CODE
from tests.runs.workplace import until, write_limits

REPOSITORY = Path(__file__).parents[2]
RUN_ID = "20261124-171500-ab12"
HANGS = """
import sys, threading
from cist_core.cli import main
from cist_core.training.mirror.store import Store
fetch = Store.fetch
def hang(self, name, path):
    fetch(self, name, path)
    if name.startswith("checkpoints/"):
        threading.Event().wait()
Store.fetch = hang
sys.exit(main(["runs", "--root", sys.argv[1], "fetch", sys.argv[2]]))
"""
DIES = """
import os, signal, sys
from pathlib import Path
from cist_core.cli import main
rename = Path.rename
def die(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = die
main(["runs", "--root", sys.argv[1], "fetch", sys.argv[2]])
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """A run that was stopped in the middle, and the same one undisturbed; with what a table says of them."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIST_CACHE", str(folder / "cache"))
        with pytest.raises(CistError, match="was stopped"):
            train(TINY, folder / "stopped", should_stop=stop_after(9))
        train(TINY, folder / "finished")
    for name in ("stopped", "finished"):
        record = {
            "id": RUN_ID, "name": "mine", "note": "a note", "state": "running", "sweep": "a-sweep", "attempt": 3,
            "created_at": 1000.0, "queued_at": 1001.0, "started_at": 1002.0, "ended_at": None, "reason": None,
            "stop_requested_at": None, "limit_reason": None, "resume": 0, "executor": "local",
            "handle": "process 1 since tick 1 of boot 0", "working_directory": "/no/such/folder", "owner": None,
        }  # fmt: skip
        (folder / name / "run.json").write_text(json.dumps(record))
        (folder / name / "mirror-id").write_text("the only one")
    return {name: folder / name for name in ("stopped", "finished")}


@pytest.fixture
def copy(url) -> str:
    """Where the copy of a run of the queue lies, or will."""
    return f"{url.rpartition('/')[0]}/{RUN_ID}"


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def runs(root) -> RunStore:
    return RunStore(root)


def put(url: str, directory: Path, **changes: bytes | None) -> None:
    """Copy the files of a run to a store; of those in `changes`, whose dots are written ``_dot_``, another content."""
    changed = {name.replace("_dot_", "."): content for name, content in changes.items()}
    files = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    contents = {name: path.read_bytes() for name, path in files.items() if name != "lock"} | changed
    for name, content in contents.items():
        if content is not None:
            Store(url).write(name, content)


def changed(path: Path, **fields: object) -> bytes:
    return json.dumps(json.loads(path.read_text()) | fields).encode()


def nothing_is_left(root: Path) -> bool:
    """Nor would a table that is made anew find anything."""
    (root / "runs.sqlite").unlink()
    anew = RunStore(root)
    return anew.list_runs() == [] and not [path for path in root.iterdir() if path.is_dir()]


# ---- what comes back -------------------------------------------------------------------------------------------------


@on_every_store
def test_a_stopped_run_comes_back_whole_and_goes_on_to_the_same_metrics(copy, runs, trained):
    put(copy, trained["stopped"])
    (listed,) = not_here(runs, copied_runs(copy.rpartition("/")[0]))
    assert (listed.name, listed.state, listed.title, listed.mark) == (RUN_ID, "cancelled", "mine", "the only one")
    assert listed.epoch == "1 of 4"
    run = bring_back(runs, listed.url)
    assert (run.id, run.state, run.name, run.note, run.group) == (RUN_ID, "cancelled", "mine", "a note", "a-sweep")
    assert (run.created_at, run.attempt, run.handle, run.executor) == (1000.0, 3, None, None)
    assert run.working_directory == runs.root
    assert not_here(runs, [listed]) == []
    there = Store(copy)
    for name in there.names():
        if not name.startswith("lease-") and name != "run.json":
            assert (run.directory.path / name).read_bytes() == there.read(name)
    assert runs.resume(run.id).state is RunState.QUEUED
    train(TINY, run.directory.path, resume=True)
    assert "Resumed after" in run.directory.log_tail(1000)
    assert results(run.directory.path) == results(trained["finished"])


def test_a_finished_run_comes_back_as_finished_and_a_killed_one_as_lost(copy, root, tmp_path, trained):
    put(copy, trained["finished"])
    run = bring_back(RunStore(root), copy)
    assert (run.state, run.reason) == (RunState.FINISHED, None)
    assert run.directory.status() == RunDirectory(trained["finished"]).status()
    put(copy, trained["stopped"], status_dot_json=changed(trained["stopped"] / "status.json", state="running"))
    run = bring_back(RunStore(tmp_path / "other"), copy)
    assert run.state is RunState.LOST
    assert "resume it from its last checkpoint" in run.reason


def test_a_run_that_failed_before_its_first_checkpoint_comes_back_with_its_reason(copy, runs, trained):
    status = json.dumps({"state": "failed", "reason": "The data are gone."}).encode()
    for name in ("config.json", "run.json", "log.txt"):
        Store(copy).write(name, (trained["stopped"] / name).read_bytes())
    Store(copy).write("status.json", status)
    run = bring_back(runs, copy)
    assert (run.state, run.reason) == (RunState.FAILED, "The data are gone.")
    assert run.directory.log_tail()


def test_a_copy_whose_folder_is_no_runs_id_gets_one_and_is_known_again(url, runs, trained):
    put(url, trained["stopped"])
    run = bring_back(runs, url)
    assert run.name == url.rpartition("/")[2]
    assert run.id != RUN_ID
    assert not_here(runs, copied_runs(url)) == []
    with pytest.raises(CistError, match=f"is here already, as {run.id}"):
        bring_back(runs, url)
    assert len(runs.list_runs()) == 1


def test_a_table_that_is_made_anew_knows_the_run(copy, runs, trained):
    put(copy, trained["finished"])
    run = bring_back(runs, copy)
    runs.table_file.unlink()
    assert RunStore(runs.root).get(RUN_ID) == run


def test_the_next_attempt_has_its_copy_where_it_was(copy, runs, trained):
    put(copy, trained["stopped"])
    (runs.root / "executors.toml").write_text(f'[mirror]\nurl = "{copy.rpartition("/")[0]}"\n')
    bring_back(runs, copy)
    command = LocalExecutor().command_for(runs.resume(RUN_ID))
    assert command[-3:] == ["--mirror", copy, "--resume"]


# ---- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ConnectionError("The bucket is away."), OSError(errno.ENOSPC, "No space left")])
def test_a_fetch_that_fails_in_the_middle_leaves_nothing_and_can_be_repeated(copy, runs, trained, monkeypatch, error):
    put(copy, trained["stopped"])
    fetch = Store.fetch

    def fail(self: Store, name: str, path: Path) -> None:
        if name.startswith("checkpoints/"):
            path.write_bytes(b"half")
            raise error
        fetch(self, name, path)

    monkeypatch.setattr(Store, "fetch", fail)
    with pytest.raises(CistError, match=r"The bucket is away|The copy cannot be written to .* \(No space left\)"):
        bring_back(runs, copy)
    monkeypatch.setattr(Store, "fetch", fetch)
    assert nothing_is_left(runs.root)
    assert bring_back(RunStore(runs.root), copy).state is RunState.CANCELLED  # the lease was given back


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_a_fetch_that_is_killed_leaves_nothing_that_is_listed_and_can_be_repeated(copy, runs, trained):
    put(copy, trained["stopped"])
    command = [sys.executable, "-c", HANGS, str(runs.root), copy]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    try:
        until(lambda: list(runs.root.glob(".*/checkpoints/.*")), "for the first checkpoint")
        with pytest.raises(CistError, match="Another process brings a run to"):
            bring_back(runs, copy)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(runs.root.glob(".*.fetched"))
    assert runs.list_runs() == []
    runs.table_file.unlink()
    assert RunStore(runs.root).list_runs() == []
    assert bring_back(runs, copy).id == RUN_ID
    assert not list(runs.root.glob(".*.fetched"))


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_a_fetch_that_is_killed_between_the_directory_and_its_row_can_be_repeated(copy, runs, trained):
    put(copy, trained["stopped"])
    command = [sys.executable, "-c", DIES, str(runs.root), copy]
    died = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False)
    assert died.returncode == -signal.SIGKILL
    assert (runs.root / RUN_ID).is_dir()
    assert runs.list_runs() == []
    run = bring_back(runs, copy)
    assert (run.id, run.name, run.state) == (RUN_ID, "mine", RunState.CANCELLED)
    assert runs.list_runs() == [run]
    with pytest.raises(CistError, match="is here already"):
        bring_back(runs, copy)


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_nor_does_it_leave_a_run_twice_whose_copy_has_no_id(url, runs, trained):
    put(url, trained["stopped"])
    command = [sys.executable, "-c", DIES, str(runs.root), url]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False)
    assert runs.list_runs() == []
    with pytest.raises(CistError, match="is here already, as 2"):
        bring_back(runs, url)
    (run,) = runs.list_runs()
    runs.table_file.unlink()
    assert [again.id for again in RunStore(runs.root).list_runs()] == [run.id]
    assert not list(runs.root.glob("*/.whole"))


def test_a_table_that_is_found_to_be_damaged_while_a_run_gets_its_row_lists_nothing(copy, runs, trained, monkeypatch):
    put(copy, trained["stopped"])
    rename = Path.rename

    def damaged(self: Path, target: Path) -> Path:
        if target.name == RUN_ID:
            runs.table_file.write_bytes(b"no table" * 4096)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", damaged)
    with pytest.raises(CistError):
        bring_back(runs, copy)
    monkeypatch.undo()
    assert nothing_is_left(runs.root)
    assert bring_back(RunStore(runs.root), copy).id == RUN_ID


@pytest.mark.parametrize("unreadable", ["config.json", "run.json", "mirror-id"])
def test_a_file_that_may_be_listed_but_not_read_is_not_taken_for_one_that_is_not_there(
    copy, runs, trained, monkeypatch, unreadable
):
    import fsspec

    put(copy, trained["stopped"])
    memory = fsspec.implementations.memory.MemoryFileSystem
    found = memory.cat_file

    def forbidden(self, path, *rest, **options):
        if path.endswith(unreadable):
            raise PermissionError("Access Denied")
        return found(self, path, *rest, **options)

    monkeypatch.setattr(memory, "cat_file", forbidden)
    with pytest.raises(CistError, match=r"The store of .* cannot be used .*Access Denied"):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)


def test_a_run_that_was_killed_before_its_status_was_copied_is_lost(copy, runs, trained):
    put(copy, trained["stopped"], status_dot_json=None)
    run = bring_back(runs, copy)
    assert run.state is RunState.LOST
    assert "resume it from its last checkpoint" in (run.reason or "")


def test_of_several_copies_those_come_that_can(copy, runs, trained, monkeypatch, capsys):
    monkeypatch.setenv("CIST_RUNS", str(runs.root))
    put(copy, trained["stopped"])
    nothing = f"{copy}-not"
    code, out, err = run_command(capsys, "runs", "--json", "fetch", nothing, copy)
    assert code == 2
    assert [run["id"] for run in json.loads(out)["runs"]] == [RUN_ID]
    assert f"There is no run in {nothing}" in err


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_a_fetch_that_is_told_to_stop_tidies_up(copy, runs, trained):
    put(copy, trained["stopped"])
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS, str(runs.root), copy], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    try:
        until(lambda: list(runs.root.glob(".*/checkpoints/.*")), "for the first checkpoint")
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert nothing_is_left(runs.root)
    (lease,) = (name for name in Store(copy).names() if name.startswith("lease-"))
    assert json.loads(Store(copy).read(lease))["released"] is True


def test_a_row_that_cannot_be_written_leaves_no_directory(copy, runs, trained, monkeypatch):
    put(copy, trained["stopped"])
    adopt = RunStore.adopt

    def locked(self: RunStore, *arguments: object) -> object:
        with sqlite3.connect(self.table_file, isolation_level=None) as holder:
            holder.execute("BEGIN IMMEDIATE")
            return adopt(self, *arguments)

    monkeypatch.setattr(RunStore, "adopt", locked)
    with pytest.raises(CistError, match="locked by another process"):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)


def test_a_run_that_another_machine_trains_is_left_to_it(copy, runs, trained):
    put(copy, trained["stopped"])
    lease = Lease(Store(copy))
    lease.take()
    before = {name: Store(copy).read(name) for name in Store(copy).names() if not name.startswith("lease-")}
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.1):
            lease.renew()

    holder = threading.Thread(target=live)
    holder.start()
    try:
        with pytest.raises(
            CistError, match=f"Another process trains the run in .*{RUN_ID} \\(process {os.getpid()} on "
        ):
            bring_back(runs, copy)
    finally:
        over.set()
        holder.join()
    lease.check()
    assert {name: Store(copy).read(name) for name in before} == before
    assert nothing_is_left(runs.root)


def test_nothing_that_is_there_is_replaced(copy, runs, trained):
    put(copy, trained["stopped"])
    run = bring_back(runs, copy)
    run.directory.log_file.write_text("of this machine")
    with pytest.raises(CistError, match=f"The run {RUN_ID} is here already, and nothing of it is replaced"):
        bring_back(runs, copy)
    assert run.directory.log_file.read_text() == "of this machine"
    shutil.move(run.directory.path, runs.root / "elsewhere")
    with pytest.raises(CistError, match="its directory is gone; delete it, then bring its copy here"):
        bring_back(runs, copy)
    runs.delete(RUN_ID)
    run.directory.path.mkdir()
    (run.directory.path / "mine.txt").write_text("mine")
    with pytest.raises(CistError, match="is there, though the table knows no such run; move it away"):
        bring_back(runs, copy)
    assert [path.name for path in run.directory.path.iterdir()] == ["mine.txt"]


def test_a_deleted_run_can_be_brought_back(copy, runs, trained):
    put(copy, trained["finished"])
    bring_back(runs, copy)
    runs.delete(RUN_ID)
    assert [one.name for one in not_here(runs, copied_runs(copy))] == [RUN_ID]
    assert bring_back(runs, copy).state is RunState.FINISHED


# ---- who may, and how much -------------------------------------------------------------------------------------------


def test_only_the_operator_brings_runs_back_and_they_stay_their_owners(copy, runs, trained):
    put(copy, trained["stopped"], run_dot_json=changed(trained["stopped"] / "run.json", owner="ann@lab.edu"))
    anns = RunStore(runs.root, owner="ann@lab.edu")
    with pytest.raises(CistError, match="only the operator of this machine"):
        bring_back(anns, copy)
    run = bring_back(runs, copy)
    assert run.owner == "ann@lab.edu"
    assert anns.list_runs() == [run]
    assert RunStore(runs.root, owner="bob@lab.edu").list_runs() == []


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ("disk_bytes = 1000", "Expected at most 1,000 bytes in a run, but this one has"),
        ("user_disk_bytes = 1000", r"belongs to ann@lab\.edu, whose runs use 0 bytes of the disk"),
        ("epochs = 2", "Expected at most 2 epochs in a run, but got 4"),
    ],
)
def test_the_limits_hold(copy, runs, trained, limit, sentence):
    put(copy, trained["stopped"], run_dot_json=changed(trained["stopped"] / "run.json", owner="ann@lab.edu"))
    write_limits(runs, limit)
    with pytest.raises(CistError, match=sentence):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)


def test_they_hold_for_a_finished_run_as_it_may_be_trained_again(copy, runs, trained):
    put(copy, trained["finished"])
    write_limits(runs, "epochs = 2")
    with pytest.raises(CistError, match=f"{RUN_ID}: Expected at most 2 epochs in a run, but got 4"):
        bring_back(runs, copy)


def test_a_disk_without_room_is_named_before_anything_is_fetched(copy, runs, trained, monkeypatch):
    put(copy, trained["stopped"])
    monkeypatch.setattr(Store, "fetch", lambda *_: pytest.fail("it fetches"))
    monkeypatch.setattr(Store, "bytes_of", lambda *_: 1 << 62)
    write_limits(runs, f"disk_bytes = {1 << 62}")
    with pytest.raises(CistError, match=r"The run has 4,611,.* bytes, and the disk that holds .* make room there"):
        bring_back(runs, copy)


# ---- what may lie in a bucket ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../escaped.txt", "a\\b.txt"])
def test_names_that_lead_out_of_the_directory_are_refused(copy, runs, trained, monkeypatch, tmp_path, name):
    import fsspec

    put(copy, trained["stopped"])
    memory = fsspec.implementations.memory.MemoryFileSystem
    found = memory.find
    monkeypatch.setattr(memory, "find", lambda self, path, **options: [*found(self, path, **options), f"{path}/{name}"])
    with pytest.raises(CistError, match="which would lead out of a folder"):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_a_link_to_elsewhere_is_not_followed(copy, runs, trained, tmp_path):
    put(copy, trained["stopped"])
    (tmp_path / "secret").write_text("of somebody else")
    (Path(copy.removeprefix("file://")) / "note.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(CistError, match=r"'note\.txt' is a link to somewhere else"):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"seed": ', r"The config\.json in .* is not JSON"),
        (b"[1]", r"Mend the config\.json in"),
        (b'{"seed": "x"}', r"Mend the config\.json in .*seed"),
    ],
)
def test_a_config_that_is_none_is_refused_with_its_address(copy, runs, trained, content, sentence):
    put(copy, trained["stopped"], config_dot_json=content)
    with pytest.raises(CistError, match=sentence):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)


@pytest.mark.parametrize("teacher", ["mnist5k-cnn + evil:build", "evil:build + mnist5k-cnn"])
def test_code_among_the_members_of_an_ensemble_is_code(copy, runs, trained, teacher):
    config = json.loads((trained["stopped"] / "config.json").read_text())
    config["teacher"] = {"name": teacher}
    put(copy, trained["stopped"], config_dot_json=json.dumps(config).encode())
    with pytest.raises(CistError, match="names the code 'evil:build'"):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)


def test_how_much_of_a_run_has_come_counts_its_files_as_they_grow(tmp_path):
    assert fetched_bytes(tmp_path) == 0
    checkpoints = tmp_path / f".{RUN_ID}.fetched" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / ".step-000000001.pt.partial").write_bytes(b"123")
    (checkpoints.parent / "config.json").write_bytes(b"{}")
    (tmp_path / "another").write_bytes(b"of the root")
    assert fetched_bytes(tmp_path) == 5


def test_a_config_that_names_code_is_refused_unless_somebody_has_read_it(copy, runs, trained, monkeypatch):
    config = TINY.changed(student={"architecture": "my_nets.small:build"})
    put(copy, trained["stopped"], config_dot_json=config.model_dump_json().encode())
    with pytest.raises(CistError, match=r"names the code 'my_nets\.small:build'.*--allow-code"):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)
    monkeypatch.setenv(NO_CODE, "1")  # as the Studio is, which nobody can give an option
    with pytest.raises(CistError, match=r"use the command line and add --allow-code"):
        bring_back(runs, copy)
    monkeypatch.delenv(NO_CODE)
    assert bring_back(RunStore(runs.root), copy, allow_code=True).id == RUN_ID


def test_what_a_record_says_is_believed_as_far_as_it_can_be(copy, root, tmp_path, trained):
    record = trained["stopped"] / "run.json"
    odd = changed(record, name="\x1b[31mred " + "x" * 300, sweep="a\u202eb", working_directory=str(tmp_path))
    put(copy, trained["stopped"], run_dot_json=odd)
    run = bring_back(RunStore(root), copy)
    assert run.name.startswith("\\x1b[31mred xxx")
    assert len(run.name) == 80
    assert run.group == "a\\u202eb"
    assert run.working_directory == tmp_path
    wrong = [changed(record, id="20261124-171500-ffff"), changed(record, created_at=1e300), b"{}", b"\xff", b"[" * 9000]
    for number, content in enumerate(wrong):
        put(copy, trained["stopped"], run_dot_json=content)
        run = bring_back(RunStore(tmp_path / f"root-{number}"), copy)
        assert (run.id, run.name, run.note, run.state) == (RUN_ID, "cist-authors", "", RunState.CANCELLED)


def test_a_request_to_stop_and_a_lock_do_not_come_with_the_copy(copy, runs, trained):
    put(copy, trained["stopped"], cancel=b"", lock=b"somebody's")
    run = bring_back(runs, copy)
    assert not run.directory.cancel_file.exists()
    assert run.directory.lock_file.read_bytes() == b""


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_a_file_that_is_a_folder_too_is_refused_and_one_where_none_belongs_does_no_harm(copy, runs, trained):
    put(copy, trained["stopped"], **{"log.txt/x": b"", "mirror-id": None})
    with pytest.raises(CistError, match=r"The copy cannot be written to .*log\.txt"):
        bring_back(runs, copy)
    assert nothing_is_left(runs.root)
    Store(copy).remove("log.txt/x")
    Store(copy).write("mirror-id/x", b"")
    store = RunStore(runs.root)
    bring_back(store, copy)
    assert not_here(store, copied_runs(copy)) == []


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_objects_that_mark_folders_are_no_files(copy, runs, trained):
    import boto3

    put(copy, trained["stopped"])
    bucket, _, key = copy.removeprefix("s3://").partition("/")
    for marker in (f"{key}/", f"{key}/checkpoints/"):
        boto3.client("s3").put_object(Bucket=bucket, Key=marker, Body=b"")
    run = bring_back(runs, copy)
    assert list(run.directory.checkpoints.glob("*.pt"))


def test_an_address_without_a_run_is_named(copy, runs, tmp_path):
    with pytest.raises(CistError, match=f"There is no run in .*{RUN_ID}; 'cist runs --mirror URL' lists"):
        bring_back(runs, copy)
    with pytest.raises(CistError, match="There is no folder"):
        bring_back(runs, f"file://{tmp_path}/typo/{RUN_ID}")
    with pytest.raises(CistError, match="Expected the address of a folder in one of the stores"):
        bring_back(runs, f"sftp://host/{RUN_ID}")
    assert nothing_is_left(runs.root)


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_is_named(url, runs, monkeypatch):
    with pytest.raises(CistError, match=f"s3://no-such-bucket/{RUN_ID}"):
        bring_back(runs, f"s3://no-such-bucket/{RUN_ID}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(CistError, match=f"The store of s3://a-bucket/{RUN_ID} cannot be used"):
        bring_back(runs, f"s3://a-bucket/{RUN_ID}")
    assert nothing_is_left(runs.root)


# ---- the command line ------------------------------------------------------------------------------------------------


@on_every_store
def test_a_run_is_fetched_shown_resumed_cancelled_and_deleted_by_commands(copy, runs, trained, monkeypatch, capsys):
    monkeypatch.setenv("CIST_RUNS", str(runs.root))
    put(copy, trained["stopped"])
    folder = copy.rpartition("/")[0]
    code, out, err = run_command(capsys, "runs", "--mirror", folder, "fetch", RUN_ID)
    assert (code, out) == (0, f"{RUN_ID}  cancelled\n")
    assert f"The copy in {copy} stays as it is: [mirror] in executors.toml does not name it" in err
    assert f"{RUN_ID}  cancelled  mine" in run_command(capsys, "runs")[1]
    assert str(runs.root / RUN_ID) in run_command(capsys, "runs", "show", "ab12")[1]
    assert f"{RUN_ID}  queued" in run_command(capsys, "runs", "resume", "ab12")[1]
    assert f"{RUN_ID}  cancelled" in run_command(capsys, "runs", "cancel", "ab12")[1]
    assert f"{RUN_ID}  deleted" in run_command(capsys, "runs", "delete", "ab12")[1]
    (runs.root / "executors.toml").write_text(f'[mirror]\nurl = "{folder}"\n')
    code, out, err = run_command(capsys, "runs", "fetch", RUN_ID, "--json")
    assert (code, err) == (0, "")
    assert [run["id"] for run in json.loads(out)["runs"]] == [RUN_ID]
    code, out, err = run_command(capsys, "runs", "fetch", copy)
    assert (code, out) == (2, "")
    assert "is here already" in err


def test_commands_name_what_is_missing_or_too_much(copy, runs, monkeypatch, capsys):
    monkeypatch.setenv("CIST_RUNS", str(runs.root))
    code, _, err = run_command(capsys, "runs", "fetch", "ab12")
    assert code == 2
    assert "Expected the address of a copy, such as s3://bucket/runs/ab12, but got 'ab12'" in err
    code, _, err = run_command(capsys, "runs", "--mirror", copy, "show", "ab12")
    assert code == 2
    assert "Expected --mirror only together with 'fetch', or alone; 'show' is about runs that are here" in err
