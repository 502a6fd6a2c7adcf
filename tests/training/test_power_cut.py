"""What a power cut leaves of a real run, on a disk of its own that keeps only what was flushed; and a removed one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from whole_runs import TINY, results, stop_after

from cist_core.errors import Cancelled
from cist_core.files import move_into_place
from cist_core.training import RunDirectory
from cist_core.training.checkpoints import load_checkpoint
from cist_core.training.engine import train

LONGER = TINY.changed(epochs=20)


class Disk:
    """An image of a file system that writes nothing of its own accord, and what it holds when the power fails."""

    # The kernel would commit its journal every 5 seconds, and flush a file that a rename puts in place of another.
    OPTIONS = "loop,commit=3600,noauto_da_alloc"

    def __init__(self, folder: Path) -> None:
        self.image, self.path = folder / "disk.img", folder / "disk"
        self.path.mkdir()
        with self.image.open("wb") as file:
            file.truncate(32 * 2**20)
        made = shutil.which("mkfs.ext4") and not self._call("mkfs.ext4", "-q", str(self.image))
        if not made or self._mount():
            pytest.skip("needs the right to mount an image of a file system (root in most machines has it)")

    def as_it_is(self) -> Path:
        """What a power cut would leave at this moment: a copy, without what the system has not written yet."""
        return Path(shutil.copyfile(self.image, self.image.with_suffix(".left")))

    def put_back(self, left: Path) -> None:
        self.unmount()
        left.replace(self.image)
        assert self._mount() == 0

    def unmount(self) -> None:
        self._call("umount", str(self.path))

    def _mount(self) -> int:
        return self._call("mount", "-t", "ext4", "-o", self.OPTIONS, str(self.image), str(self.path))

    @staticmethod
    def _call(*command: str) -> int:
        return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path)
    yield made
    made.unmount()


def epochs_of(directory: RunDirectory) -> list[float]:
    return [row["epoch"] for row in directory.metrics()]


def test_all_rows_up_to_the_checkpoint_survive_a_power_cut_and_the_run_goes_on(disk: Disk, tmp_path: Path) -> None:
    train(LONGER, tmp_path / "whole")
    LONGER.save(tmp_path / "config.json")
    cut = RunDirectory(disk.path / "runs" / "cut")
    command = [sys.executable, "-m", "cist_core", "distill", str(tmp_path / "config.json"), "--run-dir", str(cut.path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while len(cut.metrics()) < 6:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:  # it may be writing
            time.sleep(0.01)
        left = disk.as_it_is()
    finally:
        process.kill()
        process.wait()
    disk.put_back(left)

    state = load_checkpoint(cut.checkpoints)
    assert state is not None
    epochs = state["step"] // (cut.status()["steps"] // LONGER.epochs)
    assert epochs >= 5  # the sixth may have been cut short
    assert [row["epoch"] for row in cut.metrics()][:epochs] == list(range(1, epochs + 1))
    log = cut.log_file.read_bytes()
    assert f"Epoch {epochs} of {LONGER.epochs}: ".encode() in log
    assert b"\0" not in log[: log.rindex(f"Epoch {epochs} of".encode())]

    assert train(LONGER, cut.path, resume=True)["warnings"] == []
    assert results(cut.path) == results(tmp_path / "whole")
    assert "\0" not in cut.log_file.read_text()


def test_a_folder_that_was_moved_into_place_is_whole_after_a_power_cut(disk: Disk) -> None:
    partial, folder = disk.path / ".model.partial", disk.path / "model"
    (partial / "tokenizer").mkdir(parents=True)
    for file in (partial / "model.safetensors", partial / "tokenizer" / "vocabulary.json"):
        file.write_bytes(b"w" * 100_000)
    move_into_place(partial, folder)
    (disk.path / "never flushed").write_bytes(b"w" * 100_000)
    disk.put_back(disk.as_it_is())
    assert not (disk.path / "never flushed").exists()
    assert not partial.exists()
    files = (folder / "model.safetensors", folder / "tokenizer" / "vocabulary.json")
    assert [file.read_bytes() for file in files] == [b"w" * 100_000] * 2


def stopped(path: Path, steps: int = 32) -> RunDirectory:
    with pytest.raises(Cancelled):
        train(LONGER, path, should_stop=stop_after(steps))
    return RunDirectory(path)


def test_rows_that_are_gone_are_named_in_log_and_status(tmp_path: Path) -> None:
    cut = stopped(tmp_path / "run")
    lines = cut.metrics_file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    lost = [bytes(len(line)) for line in lines[1:3]]  # a block that the disk never had
    cut.metrics_file.write_bytes(b"".join([lines[0], *lost, lines[3], lines[4][:50]]))
    status = train(LONGER, cut.path, resume=True)
    (warning,) = status["warnings"]
    assert warning.startswith("The metrics of epochs 2 to 3 and 5 to 6 are gone from metrics.jsonl")
    assert cut.status()["warnings"] == [warning]
    assert f"WARNING {warning}" in cut.log_file.read_text()
    assert status["state"] == "finished"
    assert [row["epoch"] for row in cut.metrics()] == [1, 4, *range(7, 21)]


@pytest.mark.parametrize("tail", [bytes(300), b"2026-11-27 03:00:00 INFO Epo", b"2026-11-27 03:00" + bytes(5)])
def test_what_is_cut_off_the_log_is_said(tmp_path: Path, tail: bytes) -> None:
    cut = stopped(tmp_path / "run")
    log = cut.log_file.read_bytes()
    with cut.log_file.open("ab") as file:
        file.write(tail)
    with pytest.raises(Cancelled):
        train(LONGER, cut.path, resume=True, should_stop=stop_after(1))
    now = cut.log_file.read_bytes()
    assert now.startswith(log)
    said = f"The last {len(tail)} bytes of this log were no whole lines, as after a power cut; they were cut off."
    assert said in now[len(log) :].decode().splitlines()[0]
    assert b"\0" not in now


def test_a_run_whose_directory_is_removed_ends_and_does_not_bring_it_back(tmp_path: Path) -> None:
    LONGER.changed(epochs=100_000).save(tmp_path / "config.json")
    directory = RunDirectory(tmp_path / "runs" / "one")
    command = [sys.executable, "-m", "cist_core", "distill", "config.json", "--run-dir", str(directory.path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
    try:
        deadline = time.monotonic() + 300
        while not directory.metrics():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        directory.path.rename(tmp_path / "removed")  # at once: a folder that is written to cannot always be emptied
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    sentence = f"The run directory {directory.path} was removed while the run went on, so the run was ended."
    assert (process.returncode, said.splitlines()[-1]) == (2, f"cist: {sentence}")
    assert not directory.path.exists()
