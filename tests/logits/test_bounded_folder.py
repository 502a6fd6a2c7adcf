"""What makes room in a folder of the cache, and what stays there."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from cist_core.errors import CistError
from cist_core.logits.bounded_folder import RECENT_SECONDS, make_room, mark_used
from cist_core.partial_files import lock_file

LONG_AGO = time.time() - 100 * RECENT_SECONDS
MAP = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print("mapped", flush=True)
sys.stdin.read()
"""


class Folder:
    """Entries of 1,000 bytes, each a file or a folder with one; ``number`` 0 was used longest ago."""

    def __init__(self, path, kind):
        self.path, self.kind = path / "entries", kind
        self.path.mkdir()

    def entry(self, number):
        return self.path / f"entry-{number}"

    def file(self, number):
        return self.entry(number) if self.kind == "files" else self.entry(number) / "content"

    def fill(self, count):
        for number in range(count):
            self.file(number).parent.mkdir(exist_ok=True)
            self.file(number).write_bytes(bytes(1000))
            for path in (self.file(number), self.entry(number)):
                os.utime(path, (LONG_AGO + number, LONG_AGO + number))
        return self

    def kept(self):
        return [number for number in range(9) if self.entry(number).exists()]

    def make_room(self, most_bytes, size=1000):
        make_room(self.entry(9), size, most_bytes=most_bytes)
        return self.kept()


@pytest.fixture(params=["files", "folders"])
def folder(request, tmp_path):
    return Folder(tmp_path, request.param)


@pytest.mark.parametrize(
    ("most_bytes", "kept"), [(10_000, [0, 1, 2]), (4000, [0, 1, 2]), (3999, [1, 2]), (2000, [2]), (1000, [])]
)
def test_whole_entries_go_until_all_are_within_the_bound(folder, most_bytes, kept):
    assert folder.fill(3).make_room(most_bytes) == kept


def test_what_is_used_again_goes_after_the_others(folder, monkeypatch):
    folder.fill(3)
    monkeypatch.setattr("cist_core.logits.bounded_folder.RECENT_SECONDS", 0)
    before = [folder.file(number).stat().st_mtime_ns for number in range(3)]
    mark_used(folder.entry(0))
    assert [folder.file(number).stat().st_mtime_ns for number in range(3)] == before  # known by them
    assert folder.make_room(2000) == [0]
    assert folder.make_room(1000) == []
    assert list(folder.path.iterdir()) == []  # nor what it was marked by


def test_to_use_what_is_not_there_leaves_nothing(folder):
    mark_used(folder.entry(3))
    assert list(folder.path.iterdir()) == []


def test_what_was_used_a_moment_ago_stays_though_the_bound_is_not_kept(folder):
    folder.fill(3)
    mark_used(folder.entry(0))
    now = time.time()
    os.utime(folder.entry(1), (now, now))
    assert folder.make_room(1000) == [0, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what is mapped")
@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_a_process_has_mapped_stays_until_it_lets_go(folder, elsewhere):
    folder.fill(2)
    if elsewhere:
        command = [sys.executable, "-c", MAP, folder.file(0)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            assert folder.make_room(1000) == [0]
            process.stdin.close()
    else:
        mapped = np.memmap(folder.file(0), np.uint8, mode="r")
        assert folder.make_room(1000) == [0]
        assert mapped.sum() == 0
        del mapped
    assert folder.make_room(1000) == []


def test_what_is_being_written_stays_and_counts(folder):
    folder.fill(2)
    beside = folder.path if folder.kind == "files" else folder.entry(0)
    partial = beside / ".entry-5.0.partial"
    with lock_file(partial) as stream:
        stream.write(bytes(500))
        stream.flush()
        os.utime(partial, (LONG_AGO, LONG_AGO))
        os.utime(folder.entry(0), (LONG_AGO, LONG_AGO))
        kept = folder.make_room(3000)
        assert partial.exists()
    assert kept == ([1] if folder.kind == "files" else [0])


def test_what_an_earlier_writer_of_the_same_entry_has_left_does_not_count_twice(tmp_path):
    folder = Folder(tmp_path, "files").fill(1)
    (folder.path / ".entry-9.resume").write_bytes(bytes(1000))
    assert folder.make_room(2000) == [0]


def test_nothing_goes_where_the_disk_has_no_room_even_so(folder, monkeypatch):
    folder.fill(2)
    monkeypatch.setattr("cist_core.logits.scratch.KEPT_FREE_BYTES", 1 << 60)
    with pytest.raises(CistError, match=r"has .* GiB left; make room there"):
        folder.make_room(10_000)
    assert folder.kept() == [0, 1]
