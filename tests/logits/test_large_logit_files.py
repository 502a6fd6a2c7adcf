"""Files larger than memory: every kind is read in blocks, and what it was read into vanishes."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from cist_core import CistError, read_logits
from cist_core.logits import scratch
from cist_core.logits.files import given, tables, tokens

ALLOWED_MIB = 70

# Peak anonymous memory (what is neither a file nor shared with one) above that of a small file of the same kind.
MEASURE = """
import re, sys, threading
from cist_core import read_logits

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) / 1024

small, large = sys.argv[1:]
read_logits(small)
base, peak, over = anonymous(), 0.0, threading.Event()

def watch():
    global peak
    while not over.wait(0.002):
        peak = max(peak, anonymous())

thread = threading.Thread(target=watch)
thread.start()
logit_set = read_logits(large)
over.set()
thread.join()
print(logit_set.num_samples, float(logit_set.logits[-1, -1]), max(peak, anonymous()) - base)
"""


def write_npy(path, values):
    np.save(path, values.astype(np.float64))


def write_npz(path, values):
    np.savez(path, logits=values.astype(np.float64))


def write_torch(path, values):
    torch.save({"logits": torch.from_numpy(values).to(torch.bfloat16)}, path)


def write_safetensors(path, values):
    save_file({"logits": np.asarray(values, np.float64)}, path)


def write_parquet(path, values):
    pd.DataFrame(values, columns=[f"c{index}" for index in range(values.shape[1])]).to_parquet(path)


def write_csv(path, values):
    lines = "\n".join(",".join(f"{value:.4f}" for value in row) for row in values[:1000])
    with path.open("w") as stream:
        stream.write(",".join(f"c{index}" for index in range(values.shape[1])) + "\n")
        for _ in range(max(1, len(values) // 1000)):
            stream.write(lines + "\n")


KINDS = {
    "npy": (write_npy, 400_000),
    "npz": (write_npz, 400_000),
    "pt": (write_torch, 800_000),
    "safetensors": (write_safetensors, 400_000),
    "parquet": (write_parquet, 800_000),
    "csv": (write_csv, 400_000),
}


def _measured(tmp_path, kind):
    write, rows = KINDS[kind]
    values = np.random.default_rng(0).standard_normal((rows, 50)).astype(np.float32)
    write(tmp_path / f"small.{kind}", values[:100])
    write(tmp_path / f"large.{kind}", values)
    arguments = [str(tmp_path / f"{name}.{kind}") for name in ("small", "large")]
    environment = {**os.environ, "CIST_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), *arguments],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, last, growth = map(float, done.stdout.split())
    assert count == rows
    expected = values[999 if kind == "csv" else -1, -1]
    assert last == pytest.approx(float(expected), rel=1e-2, abs=1e-3)
    assert os.listdir(tmp_path / "cache" / "scratch") == []
    return rows * 50 * 4 / 2**20, growth


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs the memory figures of Linux")
@pytest.mark.parametrize(
    "kind", ["npz", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "npz")]
)
def test_a_file_larger_than_the_memory_it_may_take(tmp_path, kind):
    in_memory, growth = _measured(tmp_path, kind)
    assert growth < ALLOWED_MIB < in_memory


@pytest.fixture
def everything_large(monkeypatch, tmp_path):
    """Small arrays go to the disk too, in small blocks."""
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    for module in (given, tokens):
        monkeypatch.setattr(module, "CHUNK_VALUES", 7)
    monkeypatch.setattr(tables, "BLOCK_VALUES", 70)
    monkeypatch.setattr("cist_core.logits.logit_set.COPIED_VALUES", 70)
    monkeypatch.setattr("cist_core.logits.files.numpy_files.BLOCK_BYTES", 100)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_join_to_the_same_numbers(everything_large, kind, logits):
    path = everything_large / f"set.{kind}"
    KINDS[kind][0](path, logits)
    read = read_logits(path)
    tolerance = {"pt": 2.0**-7, "csv": 0}.get(kind, 0)
    np.testing.assert_allclose(read.logits, logits, rtol=tolerance, atol=5.1e-5 if kind == "csv" else 0)
    assert isinstance(read.logits, np.memmap)
    assert os.listdir(everything_large / "cache" / "scratch") == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_names_and_labels_of_a_table_in_blocks(everything_large, suffix, logits, labels):
    frame = pd.DataFrame(logits, columns=[f"c{index}" for index in range(10)])
    frame.insert(0, "id", np.arange(300))
    frame.insert(3, "index", np.r_[np.arange(299), 0])  # one twice, and far from its twin: no name of samples
    frame.insert(5, "label", labels)
    path = everything_large / f"set.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, row_group_size=77)
    read = read_logits(path)
    assert read.provenance["identifiers"] == "id"
    np.testing.assert_array_equal(read.labels, labels)
    assert read.provenance["unused"] == "index"
    assert read.class_names == tuple(f"c{index}" for index in range(10))
    expected = frame.drop(columns=["id", "index", "label"]).to_numpy(np.float32)
    np.testing.assert_allclose(read.logits, expected, rtol=1e-6)


def test_a_disk_without_room_is_one_sentence(everything_large, monkeypatch, logits):
    np.savez(everything_large / "set.npz", logits=logits)
    monkeypatch.setattr(scratch, "KEPT_FREE_BYTES", 1 << 60)
    with pytest.raises(CistError, match=r"set.npz: This takes .* GiB of disk in .*scratch, which has"):
        read_logits(everything_large / "set.npz")


def test_a_cache_that_cannot_be_written_is_one_sentence(everything_large, monkeypatch, logits):
    np.savez(everything_large / "set.npz", logits=logits)
    (everything_large / "file").touch()
    monkeypatch.setenv("CIST_CACHE", str(everything_large / "file"))
    with pytest.raises(CistError, match=r"set.npz: A large file needs room in .*file/scratch.*set CIST_CACHE"):
        read_logits(everything_large / "set.npz")
