"""What is added is opened in a process of its own, and nothing but what may be read is opened."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from security.forge import flag_beside, payload

from cist_core import CistError, LogitSet, read_logits
from cist_core.added import Added, AddedState, AddedStore, AddSpec, Entry, PreviewImage, Progress
from cist_core.added.entry import ENTRY, OPENING_SECONDS, PREVIEW, PROGRESS, SECONDS, too_slow, write_json
from cist_core.added.roots import check_paths
from cist_core.added.snapshot import MOST_FILES
from cist_core.added.store import CANCEL_SECONDS, MOST_OF_ONE, OVERDUE_SECONDS
from cist_core.processes import is_alive


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddedStore:
    monkeypatch.delenv("CIST_ROOTS", raising=False)
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    return AddedStore(tmp_path / "added")


@pytest.fixture
def added(store: AddedStore) -> Added:
    return store.draft(title="My teacher")


def wait(store: AddedStore, added: Added, seconds: float = 120) -> Added:
    deadline = time.monotonic() + seconds
    while (found := store.snapshot(added.id)).state.at_work:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        store.reap()
    return found


def upload(added: Added, name: str, **arrays: np.ndarray) -> str:
    path = added.place_for(name, "teacher")
    np.savez(path, **arrays)
    return str(path)


def test_logits_come_through_unchanged_with_their_labels(
    store: AddedStore, added: Added, logits: np.ndarray, labels: np.ndarray
) -> None:
    spec = AddSpec.of(title="Mine", logits={"teacher": upload(added, "mine.npz", logits=logits, labels=labels)})
    store.start_preview(added.id, spec)
    added = wait(store, added)
    assert added.state is AddedState.PREVIEWED, added.reason
    preview = added.preview
    expected = LogitSet.create(logits, labels)
    assert (preview.num_samples, preview.num_classes, preview.accuracy) == (300, 10, expected.accuracy)
    store.start(added.id, spec)
    added = wait(store, added)
    assert added.state is AddedState.READY, added.reason
    found = LogitSet.load(added.logit_file)
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_array_equal(found.labels, labels)
    assert added.shape == (300, 10)
    assert (added.progress.done, added.progress.total) == (300, 300)


def test_a_file_that_cannot_be_read_fails_with_the_sentence_of_its_reader(store: AddedStore, added: Added) -> None:
    path = added.place_for("evil.pt", "teacher")
    flag = flag_beside(path)
    path.write_bytes(payload(path))
    store.start_preview(added.id, AddSpec.of(title="Mine", logits={"teacher": str(path)}))
    added = wait(store, added)
    assert added.state is AddedState.FAILED
    assert "evil.pt" in added.reason
    assert "run code" in added.reason
    assert not flag.exists()
    assert pickle.loads(path.read_bytes()) is None  # the payload would have worked
    assert flag.exists()


def test_a_model_answers_its_data(store: AddedStore, added: Added) -> None:
    spec = AddSpec.of(
        title="Digits", model={"teacher": "mnist5k-mlp", "data": "mnist-5k", "limit": 200, "seed": 3, "split": "test"}
    )
    store.start_preview(added.id, spec)
    added = wait(store, added)
    assert added.state is AddedState.PREVIEWED, added.reason
    preview = added.preview
    assert (preview.num_samples, preview.num_classes, preview.sample_size) == (200, 10, 200)
    assert preview.accuracy > 0.85
    assert len(preview.images) == 12
    assert {image.label for image in preview.images} == set("0123456789")
    assert all(image.uri.startswith("data:image/png;base64,") for image in preview.images)
    store.start(added.id, spec)
    added = wait(store, added)
    assert added.state is AddedState.READY, added.reason
    found = LogitSet.load(added.logit_file)
    assert found.num_samples == 200
    np.testing.assert_array_equal(np.bincount(found.labels), np.full(10, 20))


def test_cancelled_work_leaves_nothing_and_can_be_started_again(store: AddedStore, added: Added) -> None:
    spec = AddSpec.of(title="Digits", model={"teacher": "mnist5k-mlp", "data": "mnist-5k"})
    store.start(added.id, spec)
    with pytest.raises(CistError, match="wait, or cancel"):
        store.start(added.id, spec)
    store.cancel(added.id)
    added = wait(store, added)
    assert added.state is AddedState.CANCELLED
    assert not added.logit_file.exists()
    store.start(added.id, spec)
    added = wait(store, added)
    assert added.state is AddedState.READY, added.reason


@pytest.mark.parametrize(
    "answers",
    [
        {"logits": {"teacher": "/etc/passwd"}},
        {"logits": {"teacher": "uploads/teacher/mine.npz"}},
        {"logits": {"teacher": "{mine}", "labels": "{mine}/../../../../entry.json"}},
        {"logits": {"teacher": "{mine}", "student": "/etc/passwd"}},
        {"model": {"teacher": "/etc/passwd", "data": "mnist-5k"}},
        {"model": {"teacher": "mnist5k-cnn + /etc/passwd", "data": "mnist-5k"}},
        {"model": {"teacher": "mnist5k-cnn", "data": "/etc"}},
        {"model": {"teacher": "hf:../../etc", "data": "mnist-5k"}},
        {"model": {"teacher": "hf:/etc/passwd", "data": "mnist-5k"}},
    ],
)
def test_what_was_neither_uploaded_nor_opened_is_refused(
    store: AddedStore, added: Added, logits: np.ndarray, answers: dict
) -> None:
    mine = upload(added, "mine.npz", logits=logits)
    spec = AddSpec.of(**json.loads(json.dumps({"title": "x", **answers}).replace("{mine}", mine)))
    with pytest.raises(CistError, match="not uploaded, and is not in a folder that may be read"):
        store.start_preview(added.id, spec)
    assert store.snapshot(added.id).state is AddedState.DRAFT


def test_a_link_among_the_uploads_does_not_lead_out(
    store: AddedStore, added: Added, logits: np.ndarray, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.npz"
    np.savez(secret, logits=logits)
    link = added.place_for("mine.npz", "teacher")
    link.symlink_to(secret)
    with pytest.raises(CistError, match="not uploaded"):
        store.start(added.id, AddSpec.of(title="x", logits={"teacher": str(link)}))


def test_server_paths_are_open_below_a_root_to_those_who_may(
    store: AddedStore, added: Added, logits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "mine.npz", logits=logits)
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path))
    spec = AddSpec.of(title="x", logits={"teacher": str(tmp_path / "mine.npz")})
    with pytest.raises(CistError, match="not uploaded"):
        store.start(added.id, spec, server_paths=False)
    store.start(added.id, spec)
    added = wait(store, added)
    assert added.state is AddedState.READY, added.reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet20-12fca82f.th", "resnet20-12fca82f.th"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\log its.NPZ", "log_its.npz"),
        ("..", "file"),
        ("<script>.npz", "script.npz"),
        ("a" * 300 + ".npz", "a" * 60 + ".npz"),
        ("\0.npz", "file.npz"),
        ("логиты.npy", "file.npy"),
    ],
)
def test_uploaded_files_get_tidy_names_inside_their_folder(added: Added, name: str, expected: str) -> None:
    path = added.place_for(name, "teacher")
    assert path.name == expected
    assert path.resolve().is_relative_to(added.uploads.resolve())


def test_ids_cannot_be_guessed_and_only_ids_become_paths(store: AddedStore) -> None:
    first, second = store.draft(title="Mine & yours <b>"), store.draft(title="Mine & yours <b>")
    assert first.id != second.id
    assert first.id.startswith("mine-yours-b-")
    assert store.snapshot(first.id).id == first.id
    for wrong in ("../added", "..", "", "mine-0000000000000000", f"{first.id}/uploads", f"{first.id}\n"):
        with pytest.raises(CistError, match="nothing added under"):
            store.snapshot(wrong)


def test_people_list_and_change_their_own_and_look_at_anothers(store: AddedStore) -> None:
    ann, bob = AddedStore(store.root, owner="a@x.org"), AddedStore(store.root, owner="b@x.org")
    mine, other, nobodys = ann.draft(), bob.draft(), store.draft()
    assert (mine.owner, other.owner, nobodys.owner) == ("a@x.org", "b@x.org", None)
    assert [added.id for added in ann.list_added()] == [mine.id]
    assert store.list_added() == []
    assert {added.id for added in store.list_all()} >= {mine.id}
    assert ann.snapshot(other.id).id == other.id
    for foreign in (other, nobodys):
        for change in (ann.own_snapshot, ann.delete):
            with pytest.raises(CistError, match="added by somebody else"):
                change(foreign.id)
        assert foreign.folder.is_dir()
    store.delete(other.id)  # the operator


def test_one_person_has_a_few_at_work_and_leaves_room_for_others(store: AddedStore) -> None:
    ann, bob = AddedStore(store.root, owner="a@x.org"), AddedStore(store.root, owner="b@x.org")
    spec = AddSpec.of(title="Digits", model={"teacher": "mnist5k-mlp", "data": "mnist-5k"})
    busy = [ann.draft() for _ in range(MOST_OF_ONE + 1)]
    for added in busy[:-1]:
        ann.start(added.id, spec)
    with pytest.raises(CistError, match="of your files are being read"):
        ann.start(busy[-1].id, spec)
    bob.check_work("b@x.org")
    for added in busy[:-1]:
        ann.delete(added.id)


def test_files_of_one_name_stay_apart_and_their_number_has_an_end(added: Added) -> None:
    names = []
    for _ in range(MOST_FILES):
        path = added.place_for("模型.pt", "teacher")
        path.touch()
        names.append(path.name)
    assert names[:3] == ["file.pt", "file-2.pt", "file-3.pt"]
    with pytest.raises(CistError, match="remove some first"):
        added.place_for("another.pt", "teacher")


def test_the_child_asks_again_what_may_be_read(added: Added, logits: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "secret.npz", logits=logits)
    entry = json.loads((added.folder / "entry.json").read_text())
    entry["spec"] = AddSpec.of(title="x", logits={"teacher": str(tmp_path / "secret.npz")}).model_dump()
    (added.folder / "entry.json").write_text(json.dumps(entry))
    assert (
        subprocess.run([sys.executable, "-m", "cist_core.added", "add", str(added.folder)], check=False).returncode == 2
    )
    assert "was not uploaded" in (added.folder / "failure.txt").read_text()
    assert not added.logit_file.exists()


def test_what_is_old_and_nobodys_makes_room(store: AddedStore, added: Added, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = AddedStore(store.root, owner="a@x.org").draft()
    for one in (added, mine):
        one.logit_file.write_bytes(bytes(100_000))
        entry = json.loads((one.folder / "entry.json").read_text())
        (one.folder / "entry.json").write_text(json.dumps({**entry, "created_at": time.time() - 30 * 24 * 3600}))
    monkeypatch.setenv("CIST_ADDED_BYTES", "1.5e5")
    store.check_room()
    assert not added.folder.exists()
    assert mine.folder.exists()
    with pytest.raises(CistError, match="CIST_ADDED_BYTES"):
        store.check_room(arriving=100_000)


def test_deleting_ends_the_work_and_removes_every_file(store: AddedStore, added: Added) -> None:
    store.start(added.id, AddSpec.of(title="Digits", model={"teacher": "mnist5k-mlp", "data": "mnist-5k"}))
    store.delete(added.id)
    assert not added.folder.exists()
    with pytest.raises(CistError):
        store.snapshot(added.id)


def test_a_full_store_and_a_forgotten_draft(store: AddedStore, added: Added, monkeypatch: pytest.MonkeyPatch) -> None:
    added.place_for("x.npz", "teacher").write_bytes(bytes(100_000))
    monkeypatch.setenv("CIST_ADDED_BYTES", "5e4")
    with pytest.raises(CistError, match="CIST_ADDED_BYTES"):
        store.draft()
    monkeypatch.delenv("CIST_ADDED_BYTES")
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(added.folder, (long_ago, long_ago))
    store.draft()
    assert not added.folder.exists()


def test_memory_is_bounded_and_the_sentence_says_so(
    store: AddedStore, added: Added, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIST_ADDED_MEMORY", "3e8")  # enough for logits, not for torch with a network
    store.start(added.id, AddSpec.of(title="x", model={"teacher": "mnist5k-mlp", "data": "mnist-5k"}))
    added = wait(store, added)
    assert added.state is AddedState.FAILED
    assert "CIST_ADDED_MEMORY" in added.reason


def test_a_process_that_dies_without_a_word_is_a_failure_with_a_sentence(store: AddedStore, added: Added) -> None:
    store.start(added.id, AddSpec.of(title="Digits", model={"teacher": "mnist5k-mlp", "data": "mnist-5k"}))
    os.kill(json.loads((added.folder / "entry.json").read_text())["pid"], 9)
    added = wait(store, added)
    assert added.state is AddedState.FAILED
    assert "memory" in added.reason


def test_answers_that_do_not_fit_together_are_named() -> None:
    with pytest.raises(CistError, match="either logits or a model"):
        AddSpec.of(title="x")
    with pytest.raises(CistError, match=r"model\.limit.*greater than or equal to 1"):
        AddSpec.of(title="x", model={"teacher": "a", "data": "b", "limit": 0})


# Looking changes nothing, reaping ends and records

DIGITS = AddSpec.of(title="Digits", model={"teacher": "mnist5k-mlp", "data": "mnist-5k"})


@pytest.fixture
def stuck(added: Added) -> Iterator[subprocess.Popen]:
    """A process that the entry names as the one at work; it neither reports nor ends."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    at_work = {
        "spec": DIGITS,
        "task": "add",
        "pid": process.pid,
        "pid_created_at": psutil.Process(process.pid).create_time(),
    }
    Entry.read(added.folder).model_copy(update=at_work).write(added.folder)
    yield process
    process.kill()
    process.wait()


def cancelled_long_ago(folder: Path) -> None:
    ago = time.time() - CANCEL_SECONDS - 1
    Entry.read(folder).model_copy(update={"cancelled_at": ago}).write(folder)


def began_long_ago(folder: Path) -> None:
    ago = time.monotonic() - SECONDS["add"] - OVERDUE_SECONDS - 1
    write_json(folder / PROGRESS, Progress(0, 0, None, ago), what="The progress")


def test_a_language_model_has_time_to_be_opened_before_it_is_too_slow(store: AddedStore, added: Added, stuck) -> None:
    texts = AddSpec.of(title="story", language={"model": "smollm2", "texts": "story.txt"})

    def previews_since(seconds: float) -> AddedState:
        Entry.read(added.folder).model_copy(update={"spec": texts, "task": "preview"}).write(added.folder)
        began = Progress(0, 0, None, time.monotonic() - seconds - OVERDUE_SECONDS)
        write_json(added.folder / PROGRESS, began, what="The progress")
        store.reap()
        return store.snapshot(added.id).state

    assert previews_since(SECONDS["preview"] + 30) is AddedState.PREVIEWING
    assert previews_since(SECONDS["preview"] + OPENING_SECONDS + 1) is AddedState.FAILED
    assert store.snapshot(added.id).reason == too_slow("preview", texts)
    assert "use a smaller model, or try again" in too_slow("preview", texts)
    assert "with its CIST_CACHE: the token set is found here then" in too_slow("add", texts)
    assert "'cist infer'" in too_slow("preview", DIGITS)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overdue", [cancelled_long_ago, began_long_ago])
def test_a_snapshot_neither_ends_a_process_nor_writes_a_file(store: AddedStore, added: Added, stuck, overdue) -> None:
    overdue(added.folder)
    before = contents(store.root)
    for _ in range(100):
        assert store.snapshot(added.id).state is AddedState.RUNNING
    store.ready()
    assert stuck.poll() is None
    assert contents(store.root) == before


@pytest.mark.parametrize(
    ("overdue", "state", "reason"),
    [
        (cancelled_long_ago, AddedState.CANCELLED, None),
        (began_long_ago, AddedState.FAILED, "It took longer than 43,200 seconds"),
    ],
)
def test_reaping_ends_an_overdue_process_and_records_it(
    store: AddedStore, added: Added, stuck, overdue, state, reason
) -> None:
    overdue(added.folder)
    store.reap()
    assert stuck.wait(timeout=10) == -9
    entry = Entry.read(added.folder)
    assert (entry.pid, entry.pid_created_at, entry.spec) == (None, None, DIGITS)
    found = store.snapshot(added.id)
    assert found.state is state
    assert found.reason is None if reason is None else found.reason.startswith(reason)


@pytest.mark.parametrize("has_begun", [False, True])
def test_reaping_leaves_alone_what_is_in_time_or_waits_for_its_turn(
    store: AddedStore, added: Added, stuck, has_begun
) -> None:
    if has_begun:
        write_json(added.folder / PROGRESS, Progress(0, 0, None, time.monotonic()), what="The progress")
    before = contents(store.root)
    store.reap()
    assert stuck.poll() is None
    assert contents(store.root) == before


def test_reaping_records_a_process_that_died_without_a_word(store: AddedStore, added: Added, stuck) -> None:
    stuck.kill()
    stuck.wait()
    seen = store.snapshot(added.id)
    store.reap()
    assert Entry.read(added.folder).pid is None
    assert store.snapshot(added.id) == seen
    assert seen.state is AddedState.FAILED


def test_a_child_says_when_its_turn_came(store: AddedStore, added: Added) -> None:
    before = time.monotonic()
    store.start(added.id, DIGITS)
    found = wait(store, added)
    assert before < found.progress.began_at < time.monotonic()
    deadline = time.monotonic() + 60
    while Entry.read(added.folder).pid is not None:  # with its logits written, it has still to end
        assert time.monotonic() < deadline
        time.sleep(0.05)
        store.reap()
    assert store.snapshot(added.id).state is AddedState.READY


def test_where_no_file_can_be_locked_that_is_said(store: AddedStore, added: Added, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(CistError, match=r"no file can be locked \(Function not implemented\); set CIST_ADDED to"):
        store.cancel(added.id)


def test_only_the_owner_starts_and_cancels(store: AddedStore) -> None:
    ann, bob = AddedStore(store.root, owner="a@x.org"), AddedStore(store.root, owner="b@x.org")
    mine = ann.draft()
    for change in (
        lambda: bob.start(mine.id, DIGITS),
        lambda: bob.start_preview(mine.id, DIGITS),
        lambda: bob.cancel(mine.id),
    ):
        with pytest.raises(CistError, match="added by somebody else"):
            change()
    assert ann.snapshot(mine.id).state is AddedState.DRAFT


OLD_ENTRY = """
{"owner": "a@x.org", "created_at": 1790000000.25,
 "spec": {"title": "Mine", "logits": null, "model": {"teacher": "mnist5k-mlp", "architecture": null, "weights": null,
  "preprocessing": {"resize": true}, "data": "mnist-5k", "split": "test", "limit": 200, "seed": 3,
  "class_map": {"0": "zero"}, "download": false}},
 "server_paths": true, "task": "preview", "pid": 4000000, "pid_created_at": 1790000001.5, "cancelled_at": null}
"""
OLD_PREVIEW = """
{"name": "mnist5k-mlp", "num_samples": 200, "num_classes": 10, "architecture": "mlp", "parameters": 101770,
 "class_names": ["0", "1"], "accuracy": 0.93, "sample_size": 200, "preprocessing": {"mean": [0.1307]},
 "warnings": ["Low."], "facts": {"licence": "MIT"}, "split": "test", "seconds": 1.5,
 "images": [{"uri": "data:,", "label": "7", "prediction": "1", "probability": 0.5}]}
"""


def test_files_of_an_earlier_version_are_read(store: AddedStore, added: Added) -> None:
    (added.folder / ENTRY).write_text(OLD_ENTRY)
    (added.folder / PREVIEW).write_text(OLD_PREVIEW)
    (added.folder / PROGRESS).write_text('{"done": 3, "total": 200, "seconds_left": 2.5}')
    assert not is_alive(4000000, 1790000001.5)
    found = store.snapshot(added.id)
    assert (found.owner, found.created_at, found.title) == ("a@x.org", 1790000000.25, "Mine")
    assert (found.state, found.reason) == (AddedState.PREVIEWED, None)
    assert (found.spec.model.limit, found.spec.model.class_map) == (200, {"0": "zero"})
    assert Entry.read(added.folder).server_paths
    assert (found.preview.class_names, found.preview.accuracy, found.preview.remarks) == (("0", "1"), 0.93, ())
    assert found.preview.images == (PreviewImage("data:,", "7", "1", 0.5),)
    assert (found.progress.done, found.progress.total, found.progress.seconds_left) == (3, 200, 2.5)
    store.reap()
    assert store.snapshot(added.id) == found


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": null}', '{"owner": 3, "created_at": "yesterday"}'])
def test_a_damaged_entry_is_named_and_hides_nothing_else(store: AddedStore, added: Added, content: str) -> None:
    other = store.draft()
    (added.folder / ENTRY).write_text(content)
    with pytest.raises(CistError, match=f"'{added.id}' is gone or damaged"):
        store.snapshot(added.id)
    store.reap()
    store.check_work(None)
    assert store.snapshot(other.id).state is AddedState.DRAFT


def test_logits_at_hand_are_added_as_if_uploaded(store: AddedStore, logits: np.ndarray) -> None:
    given = LogitSet.create(logits)
    added = store.add_logits(given, title="At hand")
    assert (added.state, added.title, added.owner) == (AddedState.READY, "At hand", store.owner)
    assert added.spec is not None
    assert added.spec.logits is not None
    assert LogitSet.load(added.logit_file).fingerprint == given.fingerprint
    check_paths(added.spec, added.uploads, server_paths=False)  # it can be read again from what was added
    assert read_logits(added.spec.logits.teacher).fingerprint == given.fingerprint
