"""What the cache folder may take: what was not read for longest goes, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import time
import warnings
from pathlib import Path

import pytest

from cist_core.cache_limit import MOST_BYTES, cache_limit, keep_within_limit, mark_read
from cist_core.errors import CistError, CistWarning

NAMES = re.compile(r"[0-9a-f]{4}")


def put(path: Path, *, read: int, size: int = 100) -> Path:
    """A file that was read so many seconds after the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (1_000_000 + read, 1_000_000))
    return path


def folder(path: Path, *, read: int) -> Path:
    put(path / "weights", read=read, size=90)
    put(path / "config", read=0, size=10)
    os.utime(path, (1_000_000, 1_000_000))
    return path


@pytest.mark.parametrize(
    ("limit", "left"), [(400, {"aaaa", "bbbb", "cccc", "0000"}), (399, {"aaaa", "cccc", "0000"}), (1, {"0000"})]
)
def test_what_was_not_read_for_longest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, left: set[str]
) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", str(limit))
    put(tmp_path / "aaaa", read=30)
    put(tmp_path / "bbbb", read=10)
    folder(tmp_path / "cccc", read=20)
    new = put(tmp_path / "0000", read=0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        keep_within_limit(new, NAMES)
    assert {path.name for path in tmp_path.iterdir()} == left
    removed = {4: None, 3: "1 that was", 1: "3 that were"}[len(left)]
    assert [removed in str(warning.message) for warning in said] == ([] if removed is None else [True])


def test_what_has_another_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of somebody who keeps them there, and what is being written."""
    monkeypatch.setenv("CIST_CACHE_BYTES", "150")
    for name in (".aaaa.resume", "aaaa.txt", "my thesis/aaaa"):
        put(tmp_path / name, read=0, size=1000)
    put(tmp_path / "bbbb", read=1)
    with pytest.warns(CistWarning, match="CIST_CACHE_BYTES allows more"):
        keep_within_limit(put(tmp_path / "0000", read=2), NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {".aaaa.resume", "aaaa.txt", "my thesis", "0000"}
    assert (tmp_path / "my thesis" / "aaaa").is_file()


def test_a_folder_that_cannot_be_removed_whole_is_no_result_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", "150")
    old, new = folder(tmp_path / "aaaa", read=0), put(tmp_path / "0000", read=1)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("somebody holds a file of it")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.warns(CistWarning):
        keep_within_limit(new, NAMES)
    assert not old.exists()
    assert [path.name.startswith(".aaaa") for path in tmp_path.glob(".*.partial")] == [True]  # for `remove_abandoned`


def test_one_that_stays_counts_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", "250")
    put(tmp_path / "aaaa", read=0)
    put(tmp_path / "bbbb", read=1)
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == "aaaa":
            raise PermissionError("not ours")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.warns(CistWarning, match="1 that was"):
        keep_within_limit(put(tmp_path / "0000", read=2), NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {"aaaa", "0000"}


def test_one_that_is_open_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", "1")
    old, new = put(tmp_path / "aaaa", read=0), put(tmp_path / "0000", read=1)
    with old.open("rb") as stream:
        with pytest.warns(CistWarning):
            keep_within_limit(new, NAMES)
        assert not old.exists()
        assert len(stream.read()) == 100


def test_a_link_that_leads_nowhere_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", "100")
    (tmp_path / "dead").symlink_to(tmp_path / "nothing")
    new = put(tmp_path / "0000", read=0)
    keep_within_limit(new, NAMES)  # without a warning, which would be an error here
    assert new.is_file()


def test_a_read_is_marked_once_a_day_where_the_disk_does_not(tmp_path: Path) -> None:
    result = put(tmp_path / "aaaa", read=0)
    mark_read(result)
    marked = result.stat()
    assert time.time() - marked.st_atime < 60
    assert marked.st_mtime == 1_000_000
    mark_read(result)
    assert result.stat().st_ctime_ns == marked.st_ctime_ns  # not touched
    mark_read(tmp_path / "gone")


def test_the_limit_is_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIST_CACHE_BYTES", raising=False)
    assert cache_limit() == MOST_BYTES
    monkeypatch.setenv("CIST_CACHE_BYTES", "2.5e9")
    assert cache_limit() == 2_500_000_000
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("CIST_CACHE_BYTES", wrong)
        with pytest.raises(CistError, match=f"CIST_CACHE_BYTES .* '{wrong}'"):
            cache_limit()
