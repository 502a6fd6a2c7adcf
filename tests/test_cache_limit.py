"""What the cache folder may take: what was not read for longest goes, nothing that is new or being written."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from cist_core.cache_limit import MOST_BYTES, cache_limit, keep_within_limit
from cist_core.errors import CistError, CistWarning


def put(path: Path, *, read: int, size: int = 100) -> Path:
    """A file that was read so many seconds after the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (1_000_000 + read, 1_000_000))
    return path


@pytest.mark.parametrize(("limit", "left"), [(400, {"a", "b", "c", "new"}), (399, {"a", "c", "new"}), (1, {"new"})])
def test_what_was_not_read_for_longest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, left: set[str]
) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", str(limit))
    put(tmp_path / "a", read=30)
    put(tmp_path / "b", read=10)
    put(tmp_path / "c" / "weights", read=20, size=90)
    put(tmp_path / "c" / "config", read=0, size=10)
    new = put(tmp_path / "new", read=0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        keep_within_limit(new)
    assert {path.name for path in tmp_path.iterdir()} == left
    removed = {4: None, 3: "1 that was", 1: "3 that were"}[len(left)]
    assert [removed in str(warning.message) for warning in said] == ([] if removed is None else [True])


def test_what_is_being_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", "150")
    put(tmp_path / ".a.resume", read=0, size=1000)
    put(tmp_path / "b", read=1)
    with pytest.warns(CistWarning, match="CIST_CACHE_BYTES allows more"):
        keep_within_limit(put(tmp_path / "new", read=2))
    assert {path.name for path in tmp_path.iterdir()} == {".a.resume", "new"}


def test_one_that_is_open_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", "1")
    old, new = put(tmp_path / "a", read=0), put(tmp_path / "new", read=1)
    with old.open("rb") as stream:
        with pytest.warns(CistWarning):
            keep_within_limit(new)
        assert not old.exists()
        assert len(stream.read()) == 100


def test_a_link_that_leads_nowhere_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_CACHE_BYTES", "100")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    new = put(tmp_path / "new", read=0)
    keep_within_limit(new)  # without a warning, which would be an error here
    assert new.is_file()


def test_the_limit_is_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIST_CACHE_BYTES", raising=False)
    assert cache_limit() == MOST_BYTES
    monkeypatch.setenv("CIST_CACHE_BYTES", "2.5e9")
    assert cache_limit() == 2_500_000_000
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("CIST_CACHE_BYTES", wrong)
        with pytest.raises(CistError, match=f"CIST_CACHE_BYTES .* '{wrong}'"):
            cache_limit()
