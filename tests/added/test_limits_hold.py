"""Limits that a library cannot talk its way out of, with real processes: time, Ctrl-C, and what a kill leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cist_core.added import AddedState, AddedStore, AddSpec
from cist_core.added.entry import Entry
from cist_core.partial_files import ABANDONED_SECONDS, lock_file, remove_abandoned

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A classifier of digits that computes for ever, in one call of a library: a loop of 2^63 - 1 turns."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    make, of_numpy, kinds = onnx.helper, onnx.numpy_helper.from_array, onnx.TensorProto
    images = ["n", 1, 28, 28]
    body = make.make_graph(
        [make.make_node("Identity", ["go"], ["go_on"]), make.make_node("Sin", ["x"], ["y"])],
        "body",
        [
            make.make_tensor_value_info("turn", kinds.INT64, []),
            make.make_tensor_value_info("go", kinds.BOOL, []),
            make.make_tensor_value_info("x", kinds.FLOAT, ["n", 784]),
        ],
        [
            make.make_tensor_value_info("go_on", kinds.BOOL, []),
            make.make_tensor_value_info("y", kinds.FLOAT, ["n", 784]),
        ],
    )
    nodes = [
        make.make_node("Flatten", ["images"], ["flat"]),
        make.make_node("Loop", ["turns", "true", "flat"], ["turned"], body=body),
        make.make_node("MatMul", ["turned", "weight"], ["logits"]),
    ]
    constants = [
        of_numpy(np.ones((784, 10), np.float32), "weight"),
        of_numpy(np.array(2**63 - 1), "turns"),
        of_numpy(np.array(True), "true"),
    ]
    graph = make.make_graph(
        nodes,
        "endless",
        [make.make_tensor_value_info("images", kinds.FLOAT, images)],
        [make.make_tensor_value_info("logits", kinds.FLOAT, ["n", 10])],
        constants,
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "endless.onnx"
    path.write_bytes(model.SerializeToString())
    return path


CHILD = """
import sys
from cist_core.added import __main__ as child, entry
entry.SECONDS["preview"] = 4
sys.exit(child.main(["preview", sys.argv[1]]))
"""


def test_a_library_that_never_comes_back_is_killed_when_the_time_is_up(endless: Path, tmp_path: Path) -> None:
    store = AddedStore(tmp_path / "added")
    added = store.draft()
    path = added.place_for("endless.onnx", "teacher")
    shutil.copy(endless, path)
    spec = AddSpec.of(title="endless", model={"teacher": str(path), "data": "mnist-5k"})
    Entry.read(added.folder).model_copy(update={"spec": spec, "task": "preview"}).write(added.folder)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(added.folder)], start_new_session=True)
    try:
        assert child.wait(timeout=120) == 2
    finally:
        child.kill()
    found = store.snapshot(added.id)
    assert found.state is AddedState.FAILED
    assert found.reason is not None
    assert found.reason.startswith("It took longer than 4 seconds; use a smaller file")
    with pytest.raises(ProcessLookupError):  # nobody of its group goes on
        os.killpg(child.pid, 0)


def test_ctrl_c_ends_inference_in_the_middle_of_a_librarys_work(endless: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    command = [
        sys.executable,
        "-m",
        "cist_core",
        "infer",
        "--teacher",
        str(endless),
        "--data",
        "mnist-5k",
        "--out",
        out,
    ]
    child = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CIST_CACHE": str(tmp_path / "cache")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        _wait_until_it_computes(child.pid)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "Interrupted" in said
    assert "Traceback" not in said


def _wait_until_it_computes(pid: int) -> None:
    """Until the library is loaded and a thread that is not Python's own has been busy for a while."""
    import psutil

    process, ends = psutil.Process(pid), time.monotonic() + 120
    while time.monotonic() < ends:
        loaded = any("onnxruntime" in each.path for each in process.memory_maps())
        if loaded:
            time.sleep(3)
            return
        time.sleep(0.2)
    raise AssertionError("it never came to the library")


def test_what_killed_processes_have_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    old, new = time.time() - ABANDONED_SECONDS - 1, time.time()
    files = {
        f".a.json.{dead.pid}.partial": (old, False),
        f".b.json.{os.getpid()}.partial": (old, True),  # its process lives
        f".c.json.{dead.pid}.partial": (new, True),  # may be another machine's
        ".d.gz.0123abcd.partial": (old, False),
        ".e.safetensors.0123abcd.partial": (old, True),  # locked, by whoever fills it for hours
        "f.partial": (old, True),  # somebody's own file
    }
    for name, (changed, _) in files.items():
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (changed, changed))
    lock = lock_file(tmp_path / ".e.safetensors.0123abcd.partial")
    assert lock is not None
    assert lock_file(tmp_path / ".e.safetensors.0123abcd.partial") is None
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "inside").write_bytes(b"x")
    os.utime(tmp_path / ".folder.partial", (old, old))
    with lock:
        remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {name for name, (_, stays) in files.items() if stays}


def test_the_store_and_a_download_clear_away_what_was_left(tmp_path: Path) -> None:
    from cist_core.data.download import fetch
    from cist_core.errors import CistError

    store = AddedStore(tmp_path / "added")
    folder, sets = store.draft().folder, tmp_path / "sets"
    sets.mkdir()
    for left in (folder / ".preview.json.0abc.partial", sets / ".images.gz.0abc.partial"):
        left.write_bytes(b"x")
        os.utime(left, (0, 0))
    store.draft()
    with pytest.raises(CistError):
        fetch(["http://127.0.0.1:9/none"], sets / "images.gz", "0")
    assert not list(tmp_path.rglob("*.partial"))
