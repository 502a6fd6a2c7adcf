"""A file of logits is read once for its checksum and its validity, in whatever process, until it changes."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from cist_core.errors import CistError
from cist_core.logits import known_files, logit_set
from cist_core.logits.logit_set import LogitSet

OPEN = """
import sys
from cist_core.logits import known_files, logit_set
known_files.WORTH_BYTES = 0
def refuse(*arguments):
    raise AssertionError("read again")
logit_set.extremes = refuse
found = logit_set.LogitSet.load(sys.argv[1])
print(found.fingerprint, found.constant_rows)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder for files of any size, and no memory of earlier ones."""
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_files, "WORTH_BYTES", 0)
    monkeypatch.setattr(known_files, "REMEMBERED", {})
    return tmp_path / "cache" / "known"


@pytest.fixture
def reads(monkeypatch):
    """How often logits were looked at."""
    counted = []
    look = logit_set.extremes
    monkeypatch.setattr(logit_set, "extremes", lambda *given: (counted.append(1), look(*given))[1])
    return counted


def written(path, *, own=True, seed=0):
    """A file of ours or, without a checksum, of others; long enough ago that every change shows."""
    logits = np.random.default_rng(seed).normal(size=(300, 7)).astype(np.float16)
    logits[3] = 1.0
    if own:
        LogitSet.create(logits).save(path)
    else:
        save_file({"logits": logits}, path)
    settle(path)
    return path


def settle(path):
    time.sleep(0.01 + known_files.TICK / 1e9)
    return path


def forget():
    known_files.REMEMBERED.clear()


@pytest.mark.parametrize("own", [True, False])
def test_another_process_opens_a_known_file_without_reading_it(tmp_path, cache, own):
    path = written(tmp_path / "logits.safetensors", own=own)
    first = LogitSet.load(path)
    output = subprocess.run([sys.executable, "-c", OPEN, path], check=True, capture_output=True, text=True).stdout
    assert output.split() == [first.fingerprint, "1"]


@pytest.mark.parametrize("own", [True, False])
def test_a_changed_file_is_noticed(tmp_path, cache, own):
    path = written(tmp_path / "logits.safetensors", own=own)
    first = LogitSet.load(path)
    forget()
    content = bytearray(path.read_bytes())
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=times)  # as if nothing had happened
    if own:
        with pytest.raises(CistError, match="is damaged"):
            LogitSet.load(path)
    else:
        found = LogitSet.load(path)
        assert found.fingerprint == LogitSet.create(found.logits).fingerprint != first.fingerprint


def test_a_touched_file_is_read_again(tmp_path, cache, reads):
    path = written(tmp_path / "logits.safetensors")
    first = LogitSet.load(path)
    for _ in range(2):
        forget()
        assert LogitSet.load(path).fingerprint == first.fingerprint
    before = len(reads)
    path.touch()
    forget()
    assert LogitSet.load(path).fingerprint == first.fingerprint
    assert len(reads) == before + 1


def test_another_file_in_its_place_is_read(tmp_path, cache):
    path = written(tmp_path / "logits.safetensors", own=False)
    LogitSet.load(path)
    forget()
    written(tmp_path / "other", own=False, seed=1).replace(path)
    found = LogitSet.load(path)
    assert found.fingerprint == LogitSet.create(found.logits).fingerprint


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path, cache, monkeypatch):
    path = written(tmp_path / "logits.safetensors", own=False)
    look = logit_set.extremes

    def change(*given):
        path.touch()
        return look(*given)

    monkeypatch.setattr(logit_set, "extremes", change)
    LogitSet.load(path)
    assert not known_files.REMEMBERED
    assert not list(cache.glob("*"))


def test_a_file_that_has_just_changed_is_kept_in_no_folder(tmp_path, cache):
    path = written(tmp_path / "logits.safetensors")
    soon = time.time_ns() + 10**9 + 1
    os.utime(path, ns=(soon, soon))
    LogitSet.load(path)
    assert not list(cache.glob("*"))


@pytest.mark.parametrize("damage", ["cut", "no JSON", "a list", "another number", "endless nesting", "a folder"])
def test_damaged_documents_are_made_anew(tmp_path, cache, reads, damage):
    path = written(tmp_path / "logits.safetensors", own=False)
    first = LogitSet.load(path)
    (document,) = cache.glob("*.json")
    whole = document.read_text()
    said = json.loads(whole)
    if damage == "a folder":
        document.unlink()
        document.mkdir()
    else:
        texts = {
            "cut": whole[:-30],
            "no JSON": "no JSON",
            "a list": "[]",
            "another number": json.dumps(said | {"constant_rows": 5}),
            "endless nesting": "[" * 60_000,
        }
        document.write_text(texts[damage])
    forget()
    before = len(reads)
    found = LogitSet.load(path)
    assert (found.fingerprint, found.constant_rows, len(reads)) == (first.fingerprint, 1, before + 1)
    if damage != "a folder":
        assert json.loads(document.read_text()) == said


def test_a_forged_document_does_not_outweigh_the_files_own_checksum(tmp_path, cache):
    path = written(tmp_path / "logits.safetensors")
    first = LogitSet.load(path)
    state = known_files.FileState.of(path)
    known_files.write_document(state, known_files.Known("0" * 64, 7))
    forget()
    found = LogitSet.load(path)
    assert (found.fingerprint, found.constant_rows) == (first.fingerprint, 1)


def test_masked_classes_and_invalid_logits_are_found_again_each_time(tmp_path, cache):
    path = tmp_path / "logits.safetensors"
    masked = np.array([[2.0, -1e9, 0.0], [0.0, -1e9, 3.0]], np.float32)
    for logits, expected in ((masked, 2), (masked.astype(np.float64), 2)):
        save_file({"logits": logits}, settle(path) if path.exists() else path)
        settle(path)
        for _ in range(2):
            forget()
            assert LogitSet.load(path).num_classes == expected
    save_file({"logits": np.array([[1.0, np.nan]], np.float16)}, path)
    settle(path)
    for _ in range(2):
        forget()
        with pytest.raises(CistError, match="finite logits"):
            LogitSet.load(path)


def test_the_content_is_hashed_once_at_most(tmp_path, cache, monkeypatch):
    path = tmp_path / "logits.safetensors"
    masked = np.array([[2.0, -1e9, 0.0], [0.0, -1e9, 3.0]], np.float32)
    LogitSet.create(masked).save(path)  # knows what it has left out
    settle(path)
    expected = LogitSet.create(masked).fingerprint
    hashed = []
    digest = logit_set.Digest.finish
    monkeypatch.setattr(logit_set.Digest, "finish", lambda *given: (hashed.append(1), digest(*given))[1])
    found = LogitSet.load(path)
    assert (found.fingerprint, found.left_out, len(hashed)) == (expected, (1,), 1)
    forget()
    again = LogitSet.load(path)
    assert (again.fingerprint, again.left_out, len(hashed)) == (expected, (1,), 1)


def test_the_folder_keeps_the_files_that_were_asked_for_last(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(known_files, "MOST_FILES", 2)
    for number in range(4):
        LogitSet.load(written(tmp_path / f"{number}.safetensors"))
    assert len(list(cache.glob("*.json"))) == 2


@pytest.mark.parametrize("bits", ["all", "finite"])
def test_extremes_of_float16_are_those_of_numpy(bits):
    values = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    values = values[np.isfinite(values)] if bits == "finite" else values
    rows = np.random.default_rng(0).permutation(values)[: len(values) // 8 * 8].reshape(-1, 8)
    low, high = logit_set.row_extremes(rows)
    nan = np.isnan(rows).any(axis=1)
    assert (np.isnan(low) | np.isnan(high))[nan].all()
    np.testing.assert_array_equal(low[~nan], rows[~nan].min(axis=1))
    np.testing.assert_array_equal(high[~nan], rows[~nan].max(axis=1))
