"""Damage in our own files of logits is noticed wherever they are opened; files of others open as they are."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cist_core.cards import sample_models
from cist_core.errors import CistError
from cist_core.logits.cache import write_logits
from cist_core.logits.files import read_logits
from cist_core.logits.logit_set import LogitSet
from tests.damaged_files import with_flipped_bits

SAVE = """
import sys
from cist_core.logits.logit_set import LogitSet
LogitSet.load(sys.argv[1]).save(sys.argv[2])
"""


def example(dtype: type = np.float32) -> LogitSet:
    rng = np.random.default_rng(0)
    return LogitSet.create(
        rng.normal(size=(60, 7)).astype(dtype),
        rng.integers(0, 7, 60),
        class_names=[f"class {number}" for number in range(7)],
        provenance={"teacher": "a teacher", "data": "some data", "split": "test"},
        sample_names={"id": [f"sample {number}" for number in range(60)]},
    )


def save(logit_set: LogitSet, path: Path) -> None:
    logit_set.save(path)


def write(logit_set: LogitSet, path: Path) -> None:
    write_logits(path, logit_set)


WRITERS = pytest.mark.parametrize("writer", [save, write])


@WRITERS
@pytest.mark.parametrize("flips", [1, 64])
def test_flipped_bits_anywhere_in_the_file_are_noticed(tmp_path, writer, flips):
    path = tmp_path / "logits.safetensors"
    writer(example(), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        path.write_bytes(with_flipped_bits(whole, flips, rng))
        for reader in (LogitSet.load, read_logits):
            with pytest.raises(CistError):
                reader(path)


@WRITERS
def test_the_sentence_names_the_file_and_the_remedy(tmp_path, writer):
    path = tmp_path / "logits.safetensors"
    writer(example(), path)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CistError, match=rf"^{path} is damaged: .*checksum.*; write the file again, or restore"):
        LogitSet.load(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_set_is_the_same_file_whenever_it_is_saved(tmp_path, dtype):
    logit_set = example(dtype)
    first, *others = (tmp_path / f"{number}.safetensors" for number in range(5))
    for path in (first, *others[:-1]):
        logit_set.save(path)
    subprocess.run([sys.executable, "-c", SAVE, first, others[-1]], check=True)
    assert {path.read_bytes() for path in others} == {first.read_bytes()}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_other_programs_read_what_we_save(tmp_path, dtype):
    logit_set = example(dtype)
    logit_set.save(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    assert np.array_equal(tensors["logits"], logit_set.logits)
    assert np.array_equal(tensors["labels"], logit_set.labels)
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        assert file.metadata()["format"] == "cist-logits-1"
    again = LogitSet.load(tmp_path / "a.safetensors")
    assert again.fingerprint == logit_set.fingerprint
    assert again.class_names == logit_set.class_names
    assert dict(again.provenance) == dict(logit_set.provenance)
    assert list(again.sample_names.columns["id"]) == list(logit_set.sample_names.columns["id"])


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path = tmp_path / "logits.safetensors"
    first, second = example(), example().take(np.arange(30))
    for logit_set in (first, second, first):
        logit_set.save(path)
        assert LogitSet.load(path).fingerprint == LogitSet.load(path).fingerprint == logit_set.fingerprint


def test_files_without_our_checksum_open_as_they_are(tmp_path):
    save_file({"logits": np.eye(3, dtype=np.float32)}, tmp_path / "theirs.safetensors", metadata={"sha256": "0" * 64})
    assert LogitSet.load(tmp_path / "theirs.safetensors").num_samples == 3
    card = next(card for card in sample_models() if card.name == "mnist5k-cnn")
    assert LogitSet.load(card.logits("mnist-5k", "test")).accuracy > 0.9
