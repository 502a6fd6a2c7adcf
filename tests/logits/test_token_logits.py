"""Token logits (B, L, C): one sample a position that counts."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cist_core import CistError, read_logits
from cist_core.logits.files.tokens import flatten_tokens

RNG = np.random.default_rng(3)
LOGITS = RNG.standard_normal((3, 4, 5)).astype(np.float32)
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
LABELS = RNG.integers(0, 5, (3, 4))
LABELS[:, 0] = -100
SHOWN = (MASK == 1) & (LABELS != -100)

WRITERS = {
    "t.npz": np.savez,
    "t.safetensors": lambda path, **arrays: save_file(arrays, path),
    "t.pt": lambda path, **arrays: torch.save({name: torch.from_numpy(each) for name, each in arrays.items()}, path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("mask", ["mask", "attention_mask"])
@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_mask_and_labels_choose_the_positions(tmp_path, name, mask, dtype):
    WRITERS[name](tmp_path / name, logits=LOGITS, labels=LABELS, **{mask: MASK.astype(dtype)})
    read = read_logits(tmp_path / name)
    np.testing.assert_array_equal(read.logits, LOGITS[SHOWN])
    np.testing.assert_array_equal(read.labels, LABELS[SHOWN])
    assert read.provenance["tokens"] == "6 of 12 positions of 3 sequences; left out: masked out or label -100"


def test_labels_alone_and_a_mask_alone(tmp_path):
    np.savez(tmp_path / "a.npz", logits=LOGITS, labels=LABELS)
    np.testing.assert_array_equal(read_logits(tmp_path / "a.npz").logits, LOGITS[LABELS != -100])
    np.savez(tmp_path / "b.npz", logits=LOGITS, mask=MASK)
    read = read_logits(tmp_path / "b.npz")
    np.testing.assert_array_equal(read.logits, LOGITS[MASK == 1])
    assert read.labels is None


@pytest.mark.parametrize("order", ["C", "F"])
def test_without_either_every_position_counts(tmp_path, order):
    np.save(tmp_path / "t.npy", np.asarray(LOGITS, order=order))
    read = read_logits(tmp_path / "t.npy")
    np.testing.assert_array_equal(read.logits, LOGITS.reshape(12, 5))
    assert read.provenance["tokens"] == "12 of 12 positions of 3 sequences"


def test_probabilities_of_tokens_are_recognised(tmp_path):
    rows = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=2, keepdims=True)
    rows[MASK == 0] = 0  # padding is no probability, and does not count
    np.savez(tmp_path / "t.npz", probs=rows, mask=MASK)
    assert read_logits(tmp_path / "t.npz").provenance["given_as"].startswith("probabilities")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mask": MASK[:, :2]}, r"Expected a mask of the shape \(3, 4\).*but got \(3, 2\)"),
        ({"mask": MASK * 2}, "Expected a mask of 0 .* and 1"),
        ({"labels": LABELS[0]}, r"Expected labels of the shape \(3, 4\), one for each position, but got \(4,\)"),
        ({"labels": np.full((3, 4), -100)}, "None of the 12 positions is left: all are label -100"),
        ({"mask": np.zeros((3, 4))}, "None of the 12 positions is left: all are masked out"),
        ({"labels": np.full((3, 4), 5)}, "Expected labels from 0 to 4, but found 5"),
        ({"labels": np.full((3, 4), -1)}, "Expected labels from 0 to 4, but found -1"),
    ],
)
def test_masks_and_labels_that_do_not_fit_say_why(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", logits=LOGITS, **arrays)
    with pytest.raises(CistError, match=f"t.npz: {message}"):
        read_logits(tmp_path / "t.npz")


# --- classes before the positions, as torch's cross_entropy takes them ---


def test_labels_or_a_mask_tell_that_the_classes_come_first():
    values = np.zeros((2, 7, 4), np.float32)
    for beside in ({"labels": np.zeros((2, 4), np.int64)}, {"mask": np.ones((2, 4), np.int64)}):
        with pytest.raises(CistError, match=r"come before the positions: store the logits as \(2, 4, 7\)"):
            flatten_tokens(values, **beside)


def test_a_square_shape_is_said_to_be_read_classes_last_and_refused_where_the_labels_know_better():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 16, (4, 16))
    values = 4 * np.eye(16)[labels] + generator.normal(size=(4, 16, 16))
    rows, _, said = flatten_tokens(values, labels=labels)
    assert "of (4, 16, 16), the last axis is read as the classes" in said
    np.testing.assert_array_equal(rows, values.reshape(64, 16))
    with pytest.raises(CistError, match=r"of 64 positions if the classes come before .* logits\.transpose\(0, 2, 1\)"):
        flatten_tokens(values.transpose(0, 2, 1), labels=labels)
