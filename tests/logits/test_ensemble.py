"""Several teachers as one."""

import numpy as np
import pytest

from cist_core import CistError, LogitSet
from cist_core.logits.alignment import align
from cist_core.logits.ensemble import average_logits


def test_the_mean_of_the_logits_with_labels_and_names(monkeypatch, logits, labels):
    monkeypatch.setattr("cist_core.logits.ensemble.CHUNK_VALUES", 70)
    rng = np.random.default_rng(0)
    members = [(logits + rng.standard_normal(logits.shape)).astype(np.float32) for _ in range(3)]
    names = [str(index) for index in range(10)]
    common = {"data": "d", "split": "test"}
    average = average_logits(
        [
            LogitSet.create(members[0], provenance={"teacher": "a", **common}),
            LogitSet.create(members[1].astype(np.float16), labels, provenance={"file": "b.npz", "data": "d"}),
            LogitSet.create(members[2], labels, class_names=names),
        ]
    )
    expected = (members[0].astype(float) + members[1].astype(np.float16).astype(float) + members[2]) / 3
    np.testing.assert_allclose(average.logits, expected, rtol=1e-6)
    assert average.logits.dtype == np.float32
    np.testing.assert_array_equal(average.labels, labels)
    assert average.class_names == tuple(names)
    assert dict(average.provenance) == {"teacher": "a + b.npz + model 3", "ensemble": "mean of the logits of 3"}


def test_what_all_members_have_in_common_is_kept():
    sets = [LogitSet.create([[1.0, 0.0]], provenance={"teacher": name, "data": "d"}) for name in "ab"]
    assert average_logits(sets).provenance["data"] == "d"


def test_large_logits_do_not_overflow_half_precision():
    sets = [LogitSet.create(np.array([[60_000, 0]], np.float16)) for _ in range(4)]
    assert average_logits(sets).logits.tolist() == [[60_000, 0]]


def test_members_are_joined_by_the_names_of_samples_and_classes():
    first = LogitSet.create([[1.0, 0], [0, 3]], class_names=["a", "b"], sample_names={"file": ["x", "y"]})
    other = LogitSet.create([[5.0, 0], [0, 7]], class_names=["b", "a"], sample_names={"file": ["y", "x"]})
    mean = average_logits([first, other])
    assert mean.logits.tolist() == [[4, 0], [0, 4]]
    assert mean.class_names == ("a", "b")


def test_classes_that_take_no_part_are_known_of_the_mean_and_of_reordered_members():
    rows = np.array([[2.0, -np.inf, 1.0, 0.0], [0.0, -np.inf, 3.0, 1.0]])
    first = LogitSet.create(rows, class_names=list("abcd"))
    other = LogitSet.create(rows[:, [2, 1, 0, 3]], class_names=list("cbad"))
    mean = average_logits([first, other])
    assert mean.logits.tolist() == first.logits.tolist()
    assert (first.left_out, align(first, other).left_out, mean.left_out) == ((1,), (1,), (1,))
    assert mean.given_classes == 4


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "Expected at least one set"),
        (
            [LogitSet.create([[1.0, 0]]), LogitSet.create([[1.0, 0, 0]])],
            r"Expected member 2 \(model 2\) to have logits",
        ),
        (
            [LogitSet.create([[1.0, 0]], [0]), LogitSet.create([[1.0, 0]]), LogitSet.create([[1.0, 0]], [1])],
            "member 3 .* the labels differ, first at sample 0",
        ),
        (
            [LogitSet.create([[1.0, 0]], class_names=names) for names in (["a", "b"], ["b", "c"])],
            "member 2 .* to have the class names of the others in the same order",
        ),
    ],
)
def test_members_that_do_not_fit_are_refused(sets, message):
    with pytest.raises(CistError, match=message):
        average_logits(sets)
