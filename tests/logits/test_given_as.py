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
from cist_core.logits.files import as_logits

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


def test_log_probabilities_of_zero_are_clipped():
    with np.errstate(divide="ignore"):
        logits, said = as_logits(np.log(np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])))
    assert logits[0, 2] == pytest.approx(np.log(1e-12), rel=1e-6)
    assert said == "log-probabilities, which are logits as they are; 1 of 6 are 0 and count as 1e-12"


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
    assert read.provenance["given_as"].startswith("logits, as was said, although rows lie between 0 and 1 and sum to 1")
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.4]])  # of independent classes
    assert as_logits(scores)[1].startswith("logits, although every number lies between 0 and 1: rows sum to 0.7 to 1.8")
    logits, said = as_logits(scores, "probabilities")
    assert said.startswith("probabilities, as was said, rounded to 1 decimal; rows sum to 0.7 to 1.8, and each was d")
    shares = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1), shares, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("values", "given_as", "message"),
    [
        (LOGITS, "probabilities", "at least 0, but the value at sample 0, class . is -.*: use --given-as logits"),
        (LOGITS, "log-probabilities", "at most 0, but the value at sample 0, class .* is .*: use --given-as logits"),
        (PROBABILITIES, "log-probabilities", "at most 0, but the value at .*: use --given-as probabilities"),
        (LOG_PROBABILITIES, "probabilities", "at least 0, but the value at .*: use --given-as log-probabilities"),
        (PROBABILITIES - 1e-3, "probabilities", "at least 0, but the value at sample 0, .* -0.0009507; they look"),
        (np.zeros((2, 3)), "probabilities", "sample 0 sums to 0, so it gives no class a probability; remove that"),
        (LOGITS, "odds", "Expected given_as to be auto, logits, log-probabilities, probabilities, but got 'odds'"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path, values, given_as, message):
    np.save(tmp_path / "set.npy", values)
    with pytest.raises(CistError, match=f"set.npy: .*{message}"):
        read_logits(tmp_path / "set.npy", given_as=given_as)


def test_our_own_file_of_logarithms_keeps_what_was_said(tmp_path):
    np.save(tmp_path / "p.npy", PROBABILITIES)
    read_logits(tmp_path / "p.npy").save(tmp_path / "own.safetensors")
    again = read_logits(tmp_path / "own.safetensors")
    assert again.provenance["given_as"] == "probabilities; their logarithms were taken"
    assert again.fingerprint == LogitSet.load(tmp_path / "own.safetensors").fingerprint


# The weight of evidence


def entropy(logits, tau=1.0):
    log_p = log_softmax(np.asarray(logits, np.float64) / tau, axis=1)
    return -(np.exp(log_p) * log_p).sum(axis=1)


def teacher(samples, classes, scale, seed=0):
    """Logits of a teacher that is mostly right and sure of it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    rows = rng.normal(0, 1.5, (samples, classes))
    rows[np.arange(samples), labels] += scale
    return rows, labels


@pytest.mark.parametrize(
    ("classes", "decimals", "scale", "dtype"),
    [(10, 2, 5, np.float64), (10, 2, 5, np.float16), (4, 1, 2, np.float32), (100, 3, 8, np.float32),
     (1000, 4, 9, np.float64), (1000, 4, 9, np.float32)],
)  # fmt: skip
def test_rounded_probabilities_are_probabilities(tmp_path, classes, decimals, scale, dtype):
    rows, labels = teacher(400, classes, scale)
    given = np.round(softmax(rows, axis=1), decimals).astype(dtype)
    np.savez(tmp_path / "a.npz", scores=given, labels=labels)
    read = read_logits(tmp_path / "a.npz")
    assert read.provenance["given_as"].startswith(f"probabilities, rounded to {decimals} decimal")
    assert "and each was divided by its sum" in read.provenance["given_as"]
    error = entropy(read.logits) - entropy(rows)
    assert abs(error.mean()) < 0.03
    assert np.sqrt(np.mean(error**2)) < 0.25 * entropy(rows).std()


def test_zeros_of_rounded_probabilities_share_what_rows_lack():
    """Seven zeros in each row, and what they stand for is known: the others are exact."""
    rows = np.tile([0.9, 0.07, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], (50, 1))
    logits, said = as_logits(rows)
    expected = [0.9, 0.07, 0.01, *[0.02 / 7] * 7]
    np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1)[0], expected, rtol=1e-6)
    assert "350 of 500 are 0 and count as 0.00286 on average, their share of what rows lack to 1;" in said


def test_numbers_that_were_cut_off_are_told_from_rounded_ones():
    rows, _ = teacher(500, 10, 5)
    logits, said = as_logits(np.floor(softmax(rows, axis=1) * 100) / 100)
    assert said.startswith("probabilities, cut off to 2 decimals; rows sum to 0.9")
    assert entropy(logits).mean() == pytest.approx(entropy(rows).mean(), rel=0.06)


@pytest.mark.parametrize("noise", [1e-3, 5e-3, 0.02])
def test_sums_near_1_are_probabilities_and_renormalised(noise):
    shares = PROBABILITIES * np.random.default_rng(0).uniform(1 - noise, 1 + noise, (40, 1))
    logits, said = as_logits(shares)
    assert "and each was divided by its sum" in said
    np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1), PROBABILITIES, rtol=0, atol=1e-6)


def test_percentages_are_probabilities():
    rows, _ = teacher(60, 5, 3)
    given = np.round(100 * softmax(rows, axis=1), 1)
    logits, said = as_logits(given)
    assert said.startswith("percentages, rounded to 1 decimal; rows sum to")
    assert entropy(logits).mean() == pytest.approx(entropy(rows).mean(), rel=0.02)
    assert as_logits(given, "probabilities")[1].startswith("percentages, as was said")


def test_tiny_negative_numbers_do_not_turn_probabilities_into_logits():
    rows = PROBABILITIES.copy()
    rows[3] = [0.7, 0.2, 0.06, 0.03, 0.01 + 1e-9, -1e-9]  # the last is 1 less the sum of the others
    logits, said = as_logits(rows)
    assert said.startswith("probabilities; their logarithms were taken; 1 of 240 are 0 and count as")
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda row: row * 3, r"sample 17 lies between .* and sums to 3"),
        (lambda row: np.log(row), r"sample 17 lies between -.* and sums to -"),
        (lambda row: row * 0, r"sample 17 lies between 0 and 0 and sums to 0"),
        (lambda row: np.where(row == row.max(), np.nan, row), r"sample 17 has the value nan at class"),
    ],
)
@pytest.mark.parametrize("name", ["probs", "logits", "array"])
def test_one_row_that_does_not_fit_is_named_and_refused(tmp_path, spoil, found, name):
    rows, _ = teacher(3000, 6, 3)
    rows = softmax(rows, axis=1)
    rows[17] = spoil(rows[17])
    np.savez(tmp_path / "a.npz", **{name: rows})
    with pytest.raises(CistError, match=r"a.npz: 2,999 of 3,000 samples are probabilities .* but " + found) as caught:
        read_logits(tmp_path / "a.npz")
    if "nan" not in found:
        assert "--given-as logits" in str(caught.value)  # and that can be done
        assert read_logits(tmp_path / "a.npz", given_as="logits").num_samples == 3000
    assert ("--given-as probabilities" in str(caught.value)) == ("sums to 3" in found)
    if "sums to 3" in found:
        read = read_logits(tmp_path / "a.npz", given_as="probabilities")
        np.testing.assert_allclose(np.exp(read.logits[17]).sum(), 1, rtol=1e-5)


def test_a_row_that_could_be_probabilities_leaves_logits_what_they_are():
    rows = np.vstack([LOGITS, PROBABILITIES[:5]])
    logits, said = as_logits(rows)
    assert said is None
    np.testing.assert_array_equal(logits, rows)


@pytest.mark.parametrize("name", ["probs", "Probabilities", "pred_probs"])
def test_what_is_called_probabilities_and_sums_to_no_1_is_refused_with_two_ways_out(tmp_path, name):
    scores = 1 / (1 + np.exp(-LOGITS))  # of independent classes
    np.savez(tmp_path / "a.npz", **{name: scores})
    with pytest.raises(CistError, match=r"lies between 0 and 1, but its rows sum to .*, not to 1, as scores of indep"):
        read_logits(tmp_path / "a.npz")
    shares = scores / scores.sum(axis=1, keepdims=True)
    divided = read_logits(tmp_path / "a.npz", given_as="probabilities")
    np.testing.assert_allclose(softmax(divided.logits.astype(np.float64), axis=1), shares, rtol=0, atol=1e-6)
    np.testing.assert_allclose(read_logits(tmp_path / "a.npz", given_as="logits").logits, scores, rtol=1e-6)


def test_a_name_that_the_values_contradict_is_told(tmp_path):
    np.savez(tmp_path / "a.npz", probs=LOGITS)
    read = read_logits(tmp_path / "a.npz")
    np.testing.assert_allclose(read.logits, LOGITS, rtol=1e-6)
    assert read.provenance["given_as"].startswith("logits, although they are called 'probs': they run from -")
    np.savez(tmp_path / "b.npz", logits=PROBABILITIES)
    assert read_logits(tmp_path / "b.npz").provenance["given_as"].startswith("probabilities")


def test_log_probabilities_of_most_rows_are_taken_as_they_are_and_the_others_told():
    rows = LOG_PROBABILITIES.copy()
    rows[7] -= 2
    logits, said = as_logits(rows)
    np.testing.assert_array_equal(logits, rows)
    assert said == "log-probabilities, which are logits as they are, though the exponentials of sample 7 sum to 0.1353"
    assert as_logits(rows, "log-probabilities")[1].startswith(
        "log-probabilities, as was said; the exponentials of a row"
    )


def test_centred_logits_of_a_sure_teacher_are_logits():
    rows, _ = teacher(500, 10, 12)
    centred = rows - rows.max(axis=1, keepdims=True)
    assert np.mean(np.exp(centred).sum(axis=1) < 1.01) > 0.9
    assert as_logits(centred)[1] is None


@given(st.integers(2, 50), st.integers(5, 300), st.floats(0.5, 8.0), st.integers(0, 2**32 - 1))
def test_logits_are_never_taken_for_probabilities(classes, samples, scale, seed):
    rows = np.random.default_rng(seed).standard_normal((samples, classes)) * scale
    logits, said = as_logits(rows)
    assert said is None or said.startswith("logits")
    np.testing.assert_array_equal(logits, rows)


@given(st.integers(2, 200), st.integers(20, 200), st.floats(0.5, 8.0), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_softmax_outputs_are_always_recognised_however_rounded(classes, samples, scale, decimals, seed):
    rows = np.random.default_rng(seed).standard_normal((samples, classes)) * scale
    given = np.round(softmax(rows, axis=1), max(decimals, 1 + int(np.log10(classes))))
    assert as_logits(given, name="probs")[1].startswith("probabilities")
