"""Probabilities and log-probabilities are recognised in every kind of file, and keep their soft labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy.special import log_softmax, softmax

from cist_core import CistError, LogitSet, read_logits
from cist_core.logit_files import as_logits

LOGITS = np.random.default_rng(5).standard_normal((40, 6)) * 4
PROBABILITIES = softmax(LOGITS, axis=1)
LOG_PROBABILITIES = log_softmax(LOGITS, axis=1)
LABELS = np.arange(40) % 6


def _frame(values):
    return pd.DataFrame({**{f"c{index}": column for index, column in enumerate(values.T)}, "label": LABELS})


WRITERS = {
    "a.npy": np.save,
    "a.npz": lambda path, values: np.savez(path, probs=values, labels=LABELS),
    "a.pt": lambda path, values: torch.save(torch.from_numpy(values), path),
    "a.pth": lambda path, values: torch.save({"pred_probs": torch.from_numpy(values)}, path),
    "a.safetensors": lambda path, values: save_file({"log_probs": values}, path),
    "a.csv": lambda path, values: _frame(values).to_csv(path, index=False),
    "a.parquet": lambda path, values: _frame(values).to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_keep_their_soft_labels_in_every_kind_of_file(tmp_path, name, dtype):
    WRITERS[name](tmp_path / name, PROBABILITIES.astype(dtype))
    read = read_logits(tmp_path / name)
    np.testing.assert_allclose(softmax(read.logits.astype(np.float64), axis=1), PROBABILITIES, rtol=0, atol=1e-6)
    assert read.provenance["given_as"] == "probabilities; their logarithms were taken"


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_log_probabilities_are_taken_as_they_are_in_every_kind_of_file(tmp_path, name, dtype):
    values = LOG_PROBABILITIES.astype(dtype)
    WRITERS[name](tmp_path / name, values)
    read = read_logits(tmp_path / name)
    digits = 1e-3 if name == "a.csv" else 0  # pandas writes as many as tell the numbers apart
    np.testing.assert_allclose(read.logits, values, rtol=digits)
    assert read.provenance["given_as"] == "log-probabilities, which are logits as they are"


@pytest.mark.parametrize(
    ("name", "samples", "accuracy"),
    [("cleanlab_cifar10_test_probs.npz", 10_000, 0.9294), ("cleanlab_imdb_test_probs.npz", 25_000, 0.89576)],
)
def test_published_probabilities_open(shared_file, name, samples, accuracy):
    read = read_logits(shared_file(name))
    assert read.num_samples == samples
    assert read.accuracy == pytest.approx(accuracy, abs=1e-9)
    with np.load(shared_file(name)) as file:
        given = file["probs"].astype(np.float64)
    expected = given / given.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(read.logits.astype(np.float64), axis=1), expected, rtol=0, atol=5e-7)


def test_zeros_count_as_the_smallest_probability_and_are_told():
    tiny = 1e-20
    logits, said = as_logits(np.array([[0.75, 0.25, 0.0], [1.0, 0.0, tiny]]))
    assert logits[0, 2] == pytest.approx(np.log(tiny), rel=1e-6)
    assert logits[1, 1] == pytest.approx(np.log(tiny), rel=1e-6)
    assert said == "probabilities; their logarithms were taken; 2 of 6 are 0 and count as 1e-20"


def test_zeros_of_coarse_probabilities_move_no_soft_label():
    rows = np.zeros((3, 1000))
    rows[:, 0], rows[:, 1] = 0.75, 0.25
    logits, said = as_logits(rows)
    assert "2,994 of 3,000 are 0 and count as 1e-12" in said
    np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1), rows, rtol=0, atol=1e-8)


def test_log_probabilities_of_zero_are_clipped_and_other_infinities_refused(tmp_path):
    with np.errstate(divide="ignore"):
        logits, said = as_logits(np.log(np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])))
    assert logits[0, 2] == pytest.approx(np.log(1e-12), rel=1e-6)
    assert said == "log-probabilities; 1 of 6 are 0 and count as 1e-12"
    np.save(tmp_path / "masked.npy", np.array([[3.0, 1.0, -np.inf]]))
    with pytest.raises(CistError, match=r"the value at sample 0, class 2 is -inf; remove"):
        read_logits(tmp_path / "masked.npy")


@pytest.mark.parametrize("rows", [[[1.0, 0.0], [2.0, 0.5]], [[2.0, -1.0], [1.5, -0.5]], [[2.0, -1.0]], [[-1.0, -2.0]]])
def test_logits_that_nearly_look_like_something_else_stay_logits(tmp_path, rows):
    np.save(tmp_path / "set.npy", np.array(rows))
    read = read_logits(tmp_path / "set.npy")
    np.testing.assert_array_equal(read.logits, rows)
    assert "given_as" not in read.provenance


@given(st.integers(2, 40), st.floats(0.1, 20.0), st.integers(0, 2**32 - 1))
def test_half_precision_log_probabilities_are_recognised(classes, scale, seed):
    rows = np.random.default_rng(seed).standard_normal((20, classes)) * scale
    said = as_logits(log_softmax(rows, axis=1).astype(np.float16))[1]
    assert said is not None
    assert said.startswith("log-probabilities")


def test_centred_logits_are_not_taken_for_log_probabilities():
    assert as_logits(LOGITS - LOGITS.max(axis=1, keepdims=True))[1] is None


def test_an_override_is_believed_where_it_can_be_true(tmp_path):
    np.save(tmp_path / "set.npy", np.array([[1.0, 0.0], [0.25, 0.75]]))
    read = read_logits(tmp_path / "set.npy", given_as="logits")
    np.testing.assert_array_equal(read.logits, [[1.0, 0.0], [0.25, 0.75]])
    assert read.provenance["given_as"].startswith("logits, as was said, although every row is positive and sums to 1")
    rough = np.array([[0.33, 0.33, 0.33]])  # cut to two digits: too far from 1 to be recognised
    assert as_logits(rough)[1] is None
    assert as_logits(rough, "probabilities")[1].startswith("probabilities")


@pytest.mark.parametrize(
    ("values", "given_as", "message"),
    [
        (LOGITS, "probabilities", "said to be probabilities.*sample 0 lies between .* and sums to"),
        (LOGITS, "log-probabilities", "said to be log-probabilities.*those of sample 0 sum to"),
        (PROBABILITIES, "log-probabilities", "said to be log-probabilities"),
        (LOG_PROBABILITIES, "probabilities", "said to be probabilities"),
        (LOGITS, "odds", "Expected given_as to be auto, logits, log-probabilities, probabilities, but got 'odds'"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path, values, given_as, message):
    np.save(tmp_path / "set.npy", values)
    with pytest.raises(CistError, match=f"set.npy: .*{message}"):
        read_logits(tmp_path / "set.npy", given_as=given_as)


def test_probabilities_with_a_row_of_something_else_are_refused():
    rows = np.tile([[0.5, 0.5]], (5000, 1))
    rows[3] = [4.0, 1.0]  # between the rows that are looked at
    with pytest.raises(
        CistError, match=r"most rows are positive and sum to 1.*sample 3 lies between 1 and 4 and sums to 5"
    ):
        as_logits(rows)


def test_our_own_file_of_logarithms_keeps_what_was_said(tmp_path):
    np.save(tmp_path / "p.npy", PROBABILITIES)
    read_logits(tmp_path / "p.npy").save(tmp_path / "own.safetensors")
    again = read_logits(tmp_path / "own.safetensors")
    assert again.provenance["given_as"] == "probabilities; their logarithms were taken"
    assert again.fingerprint == LogitSet.load(tmp_path / "own.safetensors").fingerprint
