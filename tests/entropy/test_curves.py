"""EntropyCurves against float64 SciPy, exact and from a stream."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import centred_maximum, entropy_at, entropy_at_ratio, hard_rows

from cist_core import CistError, EntropyCurves, LogitSet, read_logits

TOLERANCE = 1e-4  # nats

rows = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(2, 12)),
    elements=st.integers(-(50 << 8), 50 << 8).map(lambda value: np.float32(value / 256)),  # sums of these are exact
)
ratios = st.floats(0.1, 15.0)


def exact(logits, labels=None):
    return EntropyCurves.from_logits(LogitSet.create(logits, labels))


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("tau", [0.25, 1.0, 4.0, 20.0])
def test_entropy_at_a_temperature(classes, tau):
    logits = hard_rows(classes)
    np.testing.assert_allclose(exact(logits).at_temperature(tau), entropy_at(logits, tau), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("ratio", [0.05, 0.5, 3.0, 15.0])
def test_entropy_at_a_ratio(classes, ratio):
    logits = hard_rows(classes)
    np.testing.assert_allclose(exact(logits).at_ratio(ratio), entropy_at_ratio(logits, ratio), rtol=0, atol=TOLERANCE)


def test_a_temperature_for_every_sample():
    logits = hard_rows(10)
    tau = np.random.default_rng(0).uniform(0.3, 8, len(logits))
    np.testing.assert_allclose(exact(logits).at_temperature(tau), entropy_at(logits, tau), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(exact(logits).at_ratio(tau), entropy_at_ratio(logits, tau), rtol=0, atol=TOLERANCE)


def test_half_precision_is_read_as_the_values_stored(logits):
    stored = logits.astype(np.float16)
    np.testing.assert_allclose(exact(stored).at_temperature(2), entropy_at(stored, 2), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_memory_mapped_logits(tmp_path, logits, dtype):
    LogitSet.create(logits.astype(dtype)).save(tmp_path / "set.safetensors")
    curves = EntropyCurves.from_logits(read_logits(tmp_path / "set.safetensors"))
    expected = entropy_at(logits.astype(dtype), 2)
    np.testing.assert_allclose(curves.at_temperature(2), expected, rtol=0, atol=TOLERANCE)


def test_statistics_of_the_rows(logits):
    curves = exact(logits)
    ordered = np.sort(logits.astype(np.float64), axis=1)
    statistics = curves.statistics
    np.testing.assert_allclose(statistics.maximum, centred_maximum(logits), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics.gap, ordered[:, -1] - ordered[:, -2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics.std, logits.astype(np.float64).std(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(statistics.top1, logits.argmax(axis=1))
    np.testing.assert_array_equal(statistics.peak, logits.max(axis=1))


def test_a_constant_row_has_the_largest_entropy_everywhere():
    logits = np.full((3, 7), 12.5, np.float32)
    for curves in (exact(logits), EntropyCurves.from_chunks([logits])):
        for value in (0.01, 1.0, 15.0):
            np.testing.assert_allclose(curves.at_ratio(value), math.log(7), rtol=1e-6)
            np.testing.assert_allclose(curves.at_temperature(value), math.log(7), rtol=1e-6)


def test_extreme_temperatures_are_the_limits():
    logits = np.array([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]], np.float32)
    curves = exact(logits)
    np.testing.assert_allclose(curves.at_temperature(1e-6), [0, math.log(2)], atol=1e-6)
    np.testing.assert_allclose(curves.at_temperature(1e30), math.log(4), rtol=1e-6)
    np.testing.assert_allclose(curves.at_temperature(math.inf), math.log(4), rtol=1e-6)
    np.testing.assert_allclose(curves.at_ratio(1e-30), math.log(4), rtol=1e-6)
    np.testing.assert_allclose(curves.at_ratio(1e30), [0, math.log(2)], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 9e14])
def test_rows_of_any_size_have_the_curve_of_their_shape(scale):
    shape = np.array([[1.0, 0.25, 0.0, -0.5]], np.float64)
    logits = (shape * scale).astype(np.float32)
    np.testing.assert_allclose(exact(logits).at_ratio(3.0), entropy_at_ratio(logits, 3.0), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-30])
def test_rows_that_hardly_differ_give_an_entropy_all_the_same(scale):
    curves = exact(np.array([[scale, 0.0, 0.0, -scale]], np.float32))
    for value in (curves.at_ratio(3.0), curves.at_temperature(3.0), curves.at_temperature(1e-6)):
        assert 0 <= value[0] <= math.log(4) + 1e-6


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_the_table_of_a_stream_agrees_with_scipy(classes):
    logits = hard_rows(classes)
    curves = EntropyCurves.from_chunks(np.array_split(logits, 7))
    assert curves.num_samples == len(logits)
    for ratio in [0.001, 0.01, 0.1, 0.26, 0.3, 0.49, 0.51, 0.9, 1.1, 2.37, 4.9, 9.13, 15.9, 22.2, 37.9, 63.4, 64.0]:
        expected = entropy_at_ratio(logits, ratio)
        np.testing.assert_allclose(curves.at_ratio(ratio), expected, rtol=0, atol=TOLERANCE, err_msg=f"ratio {ratio}")


def test_the_table_answers_temperatures_as_the_exact_curves_do(shared_file):
    logit_set = read_logits(shared_file("cifar10_resnet56_test_logits.npz"))
    whole = EntropyCurves.from_logits(logit_set)
    streamed = EntropyCurves.from_chunks(np.array_split(logit_set.logits, 9), labels=logit_set.labels)
    assert (whole.exact, streamed.exact) == (True, False)
    assert (whole.max_ratio, streamed.max_ratio) == (math.inf, 64.0)
    for tau in (2.5, 4.0, np.linspace(2.4, 9, len(logit_set.labels))):
        expected = entropy_at(logit_set.logits, tau)
        np.testing.assert_allclose(streamed.at_temperature(tau), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(streamed.statistics.top1, whole.statistics.top1)
    np.testing.assert_array_equal(streamed.correct, whole.correct)
    assert np.mean(whole.correct) == pytest.approx(0.9339)


def test_the_table_does_not_depend_on_the_chunks(logits):
    one = EntropyCurves.from_chunks([logits])
    many = EntropyCurves.from_chunks(logits[start : start + 11] for start in range(0, 300, 11))
    np.testing.assert_allclose(many.at_ratio(2.3), one.at_ratio(2.3), rtol=0, atol=1e-6)
    for left, right in zip(many.statistics, one.statistics, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)


def test_the_table_refuses_what_lies_beyond_it(logits):
    curves = EntropyCurves.from_chunks([logits])
    with pytest.raises(
        CistError, match=r"ratio 64\.5 lies beyond the table of these curves, which ends at 64; use a higher"
    ):
        curves.at_ratio(64.5)
    tau = centred_maximum(logits).max() / 80
    with pytest.raises(CistError, match=r"ratio 80 lies beyond the table.*or load the logits into memory"):
        curves.at_temperature(tau)


def test_the_lowest_temperature_that_a_table_reaches(logits):
    curves, lowest = EntropyCurves.from_chunks([logits]), centred_maximum(logits).max() / 64
    assert curves.lowest_temperature == pytest.approx(lowest, rel=1e-6)
    for factor in (1e-3, 0.5, 0.999):
        reached = curves.reachable(lowest * factor)
        assert lowest <= reached <= 1.002 * lowest
        np.testing.assert_allclose(curves.at_temperature(reached), entropy_at(logits, reached), rtol=0, atol=TOLERANCE)
    assert curves.reachable(4.0) == 4.0
    assert exact(logits).reachable(1e-6) == 1e-6


def test_the_last_ratio_of_the_table_survives_the_way_through_a_temperature(logits):
    curves = EntropyCurves.from_chunks([logits])
    tau = curves.statistics.maximum / np.float32(64)
    np.testing.assert_allclose(curves.at_temperature(tau), entropy_at_ratio(logits, 64), rtol=0, atol=TOLERANCE)


def test_a_sweep_of_ratios(logits):
    expected = np.stack([entropy_at_ratio(logits, 0.5 + 0.75 * j) for j in range(12)], axis=1)
    for curves in (exact(logits), EntropyCurves.from_chunks([logits])):
        entropies = curves.at_ratios(0.5, 0.75, 12)
        np.testing.assert_allclose(entropies, expected, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(
            entropies.mean(axis=0, dtype=np.float64), expected.mean(axis=0), rtol=0, atol=TOLERANCE
        )


def test_labels_tell_which_samples_are_correct(logits, labels):
    curves = exact(logits, labels)
    np.testing.assert_array_equal(curves.correct, logits.argmax(axis=1) == labels)
    assert exact(logits).correct is None
    assert curves.max_entropy == pytest.approx(math.log(10))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "Expected every {} to be a positive number, but got 0"),
        (-2.0, "Expected every {} to be a positive number, but got -2"),
        (math.nan, "Expected every {} to be a positive number, but got nan"),
        (np.r_[np.ones(299), -1.5], "Expected every {} to be a positive number, but got -1.5"),
        (np.ones(3), r"Expected one {} or one for each of the 300 samples, but got the shape \(3,\)"),
    ],
)
def test_bad_temperatures_and_ratios_are_refused(logits, value, message):
    for curves in (exact(logits), EntropyCurves.from_chunks([logits])):
        with pytest.raises(CistError, match=message.format("temperature")):
            curves.at_temperature(value)
        with pytest.raises(CistError, match=message.format("ratio")):
            curves.at_ratio(value)


def test_temperatures_beyond_float32_are_limits_not_warnings(logits):
    curves = exact(logits)
    np.testing.assert_allclose(curves.at_temperature(1e300), math.log(10), rtol=1e-6)
    with pytest.raises(CistError, match="Expected every temperature to be a positive number, but got 0"):
        curves.at_temperature(1e-300)


@pytest.mark.parametrize(
    ("chunks", "labels", "message"),
    [
        ([], None, "at least one chunk of logits, but the stream was empty"),
        ([np.zeros((2, 3)), np.zeros((1, 4))], None, "have 3 classes as the first, but sample 2 starts a chunk with 4"),
        ([np.array([[0.0, np.nan]])], None, "sample 0, class 1 is nan"),
        ([np.zeros((2, 3))], [0], "Expected 2 labels"),
        ([np.zeros((2, 3))], [0, 3], "labels from 0 to 2, but found 3"),
        ([np.zeros((2, 3))], [0, 1.5], "integer labels"),
    ],
)
def test_bad_streams_are_refused(chunks, labels, message):
    with pytest.raises(CistError, match=message):
        EntropyCurves.from_chunks(chunks, labels=labels)


def test_curves_need_a_source(logits):
    statistics = exact(logits).statistics
    with pytest.raises(TypeError, match="logits or a table"):
        EntropyCurves(statistics, 10)


@given(rows, ratios, st.integers(-1000, 1000))
def test_adding_a_constant_to_a_row_changes_nothing(logits, ratio, shift):
    moved, still = exact(logits + np.float32(shift)), exact(logits)
    np.testing.assert_allclose(moved.at_ratio(ratio), still.at_ratio(ratio), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(moved.at_temperature(2), still.at_temperature(2), rtol=0, atol=TOLERANCE)


@given(rows, ratios, st.floats(0.01, 10))  # a number below -900 beside small ones is a mask
def test_scaling_a_row_moves_temperatures_and_not_ratios(logits, ratio, scale):
    scaled = logits * np.float32(scale)
    np.testing.assert_allclose(exact(scaled).at_ratio(ratio), exact(logits).at_ratio(ratio), rtol=0, atol=2e-4)
    np.testing.assert_allclose(
        exact(scaled).at_temperature(2 * scale), exact(logits).at_temperature(2), rtol=0, atol=2e-4
    )


@given(rows, ratios, st.randoms(use_true_random=False))
def test_the_order_of_classes_does_not_matter(logits, ratio, random):
    order = list(range(logits.shape[1]))
    random.shuffle(order)
    np.testing.assert_allclose(
        exact(logits[:, order]).at_ratio(ratio), exact(logits).at_ratio(ratio), rtol=0, atol=TOLERANCE
    )


@given(rows, ratios, ratios)
def test_entropy_falls_as_the_ratio_grows_within_its_bounds(logits, first, second):
    curves = exact(logits)
    low, high = curves.at_ratio(max(first, second)), curves.at_ratio(min(first, second))
    assert np.all(low <= high + 2e-5)
    assert np.all(low >= 0)
    assert np.all(high <= curves.max_entropy + 2e-6)


@given(rows, ratios)
def test_the_two_questions_have_one_answer(logits, ratio):
    curves = exact(logits)
    maximum = curves.statistics.maximum
    tau = np.where(maximum > 0, maximum / np.float32(ratio), 1)
    if np.all(tau > 0):
        np.testing.assert_allclose(curves.at_temperature(tau), curves.at_ratio(ratio), rtol=0, atol=TOLERANCE)
