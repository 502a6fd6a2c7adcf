"""LogitSet: what it accepts, what it refuses, and what comes back from its files."""

import json
import os

import numpy as np
import pytest
from reference import entropy_at
from safetensors.numpy import save_file
from scipy.special import log_softmax

from cist_core import CistError, LogitSet, centre_for_storage
from cist_core.logits import logit_set as logits_module
from cist_core.logits.logit_set import check_same_samples

SMALL = [[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_and_single_precision_are_kept_without_a_copy(dtype):
    array = np.array(SMALL, dtype)
    logit_set = LogitSet.create(array)
    assert logit_set.logits.dtype == dtype
    assert np.shares_memory(logit_set.logits, array)


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble, np.int32, np.uint8, ">f4", ">f2"])
def test_every_other_numeric_type_becomes_float32(dtype):
    array = np.array([[2, 0, 1], [0, 3, 0]], dtype)
    logit_set = LogitSet.create(array)
    assert logit_set.logits.dtype == np.dtype(np.float32)
    assert logit_set.logits.dtype.isnative
    np.testing.assert_array_equal(logit_set.logits, [[2, 0, 1], [0, 3, 0]])


def test_rows_are_made_contiguous_and_aligned():
    unaligned = np.frombuffer(b"x" + np.array(SMALL, np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    assert not unaligned.flags.aligned
    for array in (np.asfortranarray(np.array(SMALL, np.float32)), np.array(SMALL, np.float32)[:, ::-1], unaligned):
        logit_set = LogitSet.create(array)
        assert logit_set.logits.flags.c_contiguous
        assert logit_set.logits.flags.aligned
        np.testing.assert_array_equal(logit_set.logits, array)


@pytest.mark.parametrize(
    ("logits", "labels", "extra", "message"),
    [
        ([1.0, 2.0], None, {}, r"shape \(samples, classes\), but got \(2,\)"),
        (np.zeros((2, 3, 4)), None, {}, r"shape \(samples, classes\), but got \(2, 3, 4\)"),
        ([[1.0, 2.0], [3.0]], None, {}, "rows differ in length"),
        (np.zeros((0, 5)), None, {}, r"at least 1 sample and 2 classes of logits, but got the shape \(0, 5\)"),
        ([[1.0], [2.0]], None, {}, r"at least 1 sample and 2 classes of logits, but got the shape \(2, 1\)"),
        ([["a", "b"]], None, {}, "real numbers, but got the type <U1"),
        ([[1j, 2j]], None, {}, "real numbers, but got the type complex128"),
        ([[True, False]], None, {}, "real numbers, but got the type bool"),
        ([[-1e300, 0.0]], None, {}, r"at most 1e\+15 in size, but got 1e\+300; divide all by one number"),
        (np.array([[-2e30, 0]], np.float32), None, {}, r"at most 1e\+15 in size, but got 2e\+30"),
        (np.array([[2e30, 0]], np.float32), None, {}, r"at most 1e\+15 in size, but got 2e\+30"),
        ([[0.0, 1.0], [0.0, np.nan]], None, {}, "value at sample 1, class 1 is nan; remove that sample"),
        (
            [[-np.inf, 1.0], [0.0, 0.0]],
            None,
            {},
            "Class 0 is masked in 1 of 2 samples, first in sample 0 .*its logit is -inf",
        ),
        ([[-np.inf, -np.inf], [0.0, 0.0]], None, {}, "Every logit of sample 0 is -inf, so no class takes part in it"),
        (np.array([[0, np.inf]], np.float16), None, {}, "value at sample 0, class 1 is inf.*again in float32"),
        (SMALL, [0], {}, r"Expected 2 labels, one for each sample, but got 1;"),
        (SMALL, [[0, 1], [1, 0]], {}, r"or one-hot ones of the shape \(2, 3\), but got int64 of the shape \(2, 2\)"),
        (SMALL, [[0, 1, 0], [0.5, 0.5, 0]], {}, "a single 1 for each sample, but sample 1 has 0.5 as largest"),
        (
            SMALL,
            [[0, 1, 0], [1, 1, 0]],
            {},
            "a single 1 for each sample, but sample 1 has 1 as largest value and sums to 2",
        ),
        (
            SMALL,
            [[0, 1, 0], [0, 0, 0]],
            {},
            "a single 1 for each sample, but sample 1 has 0 as largest value and sums to 0",
        ),
        (SMALL, np.zeros((3, 3)), {}, r"Expected 2 labels, one for each sample, but got the shape \(3, 3\)"),
        (SMALL, [[0], [1, 2]], {}, "Expected 2 labels, one for each sample, but got nested lists"),
        (SMALL, [0, 3], {}, "labels from 0 to 2, but found 3; the logits have 3 classes"),
        (SMALL, [-1, 1], {}, "labels from 0 to 2, but found -1"),
        (SMALL, [0, 1.5], {}, "integer labels from 0 to 2, but got the type float64; give each sample the position"),
        (SMALL, [0, np.nan], {}, "integer labels from 0 to 2, but sample 1 has none; fill it in, or write -100"),
        (SMALL, ["1", None], {}, "integer labels from 0 to 2, but sample 1 has none; fill it in, or write -100"),
        (
            SMALL,
            [0, -100],
            {},
            "labels from 0 to 2, but found -100.* It marks samples that do not count: leave them out",
        ),
        (SMALL, [0, np.inf], {}, "integer labels from 0 to 2, but got the type float64"),
        (
            SMALL,
            ["cat", "dog"],
            {},
            "integer labels from 0 to 2, but got words such as 'cat', and the classes have no n",
        ),
        (
            SMALL,
            ["a", "d"],
            {"class_names": list("abc")},
            r"sample 1 is 'd', which is none of the 3 classes \('a', 'b',",
        ),
        (SMALL, [True, False], {}, "integer labels from 0 to 2, but got the type bool"),
        (SMALL, None, {"class_names": ["a", "b"]}, "Expected 3 class names, one for each column.*but got 2"),
    ],
)
def test_bad_input_is_refused_with_the_thing_the_value_and_the_remedy(logits, labels, extra, message):
    with pytest.raises(CistError, match=message):
        LogitSet.create(logits, labels, **extra)


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float32])
def test_labels_become_int64(dtype):
    labels = LogitSet.create(SMALL, np.array([0, 2], dtype)).labels
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 2]


def test_constant_rows_are_counted_not_refused():
    assert LogitSet.create([[1.0, 1.0], [1.0, 2.0], [-3.0, -3.0]]).constant_rows == 2


def test_a_bad_value_is_found_and_named_beyond_the_first_chunk(monkeypatch, logits):
    monkeypatch.setattr(logits_module, "CHUNK_VALUES", 70)
    logits[123, 4] = np.nan
    with pytest.raises(CistError, match="sample 123, class 4 is nan"):
        LogitSet.create(logits)


def test_what_is_read_in_chunks_does_not_depend_on_the_chunk(monkeypatch, logits, labels):
    logits[::50] = 1.0
    whole = LogitSet.create(logits, labels)
    expected = (whole.constant_rows, whole.fingerprint, whole.accuracy)
    nll = whole.nll
    monkeypatch.setattr(logits_module, "CHUNK_VALUES", 70)
    chunked = LogitSet.create(logits, labels)
    assert (chunked.constant_rows, chunked.fingerprint, chunked.accuracy) == expected
    assert chunked.constant_rows == 6
    assert chunked.nll == pytest.approx(nll, rel=1e-12)


def test_accuracy_counts_the_first_class_of_a_tie():
    logit_set = LogitSet.create([[1.0, 1.0], [1.0, 1.0], [0.0, 2.0], [2.0, 0.0]], [0, 1, 1, 1])
    assert logit_set.accuracy == 0.5


def test_nll_agrees_with_scipy(logits, labels):
    expected = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(300), labels].mean()
    assert LogitSet.create(logits, labels).nll == pytest.approx(expected, rel=1e-12)


def test_nll_survives_logits_that_overflow_an_exponential():
    assert LogitSet.create([[1e4, 0.0]], [1]).nll == pytest.approx(1e4)


@pytest.mark.parametrize(
    ("other", "labels", "message"),
    [
        (
            (299, 10),
            None,
            "Expected mlp to have logits of the teacher's 1,300 samples and 10 classes, but they have 299",
        ),
        ((1300, 9), None, "but they have 1,300 samples and 9 classes; use the same data and split"),
        ((1300, 10), np.arange(1300) % 10 + (np.arange(1300) == 7), "the labels differ, first at sample 7; use"),
    ],
)
def test_a_model_on_other_samples_is_refused(other, labels, message):
    with pytest.raises(CistError, match=message):
        check_same_samples((1300, 10), other, labels=(np.arange(1300) % 10, labels), name="mlp")


@pytest.mark.parametrize(
    "labels", [(None, None), (np.arange(3), None), (None, np.arange(3)), (np.arange(3), np.arange(3))]
)
def test_without_labels_on_both_sides_the_sizes_decide(labels):
    check_same_samples((3, 4), (3, 4), labels=labels)


def test_without_labels_there_is_no_accuracy():
    logit_set = LogitSet.create(SMALL)
    assert logit_set.labels is None
    assert logit_set.accuracy is None
    assert logit_set.nll is None


@pytest.mark.parametrize(("name", "accuracy"), [("resnet20", 0.9173), ("resnet56", 0.9339)])
def test_accuracy_of_the_public_teachers(shared_file, name, accuracy):
    with np.load(shared_file(f"cifar10_{name}_test_logits.npz")) as file:
        assert LogitSet.create(file["logits"], file["labels"]).accuracy == pytest.approx(accuracy, abs=1e-9)


def test_fingerprint_is_of_the_content():
    array = np.array(SMALL, np.float32)
    base = LogitSet.create(array, [0, 1])
    assert LogitSet.create(np.asfortranarray(array), [0, 1], provenance={"a": "b"}).fingerprint == base.fingerprint
    changed = array.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(1))
    others = [
        LogitSet.create(changed, [0, 1]),
        LogitSet.create(array, [0, 2]),
        LogitSet.create(array),
        LogitSet.create(array.astype(np.float16), [0, 1]),
        LogitSet.create(array.reshape(3, 2)),
        LogitSet.create(array[::-1], [1, 0]),
    ]
    fingerprints = {base.fingerprint, *(other.fingerprint for other in others)}
    assert len(fingerprints) == 7
    assert all(len(bytes.fromhex(fingerprint)) == 32 for fingerprint in fingerprints)


def test_take_keeps_labels_names_and_provenance(logit_set):
    part = logit_set.take([5, 3])
    np.testing.assert_array_equal(part.logits, logit_set.logits[[5, 3]])
    assert part.labels.tolist() == logit_set.labels[[5, 3]].tolist()
    assert (part.class_names, part.provenance) == (logit_set.class_names, logit_set.provenance)
    assert logit_set.take(logit_set.labels == 4).num_samples == np.count_nonzero(logit_set.labels == 4)
    with pytest.raises(CistError, match="at least 1 sample"):
        logit_set.take(np.array([], int))


def test_provenance_cannot_be_changed_from_outside():
    source = {"teacher": "a"}
    logit_set = LogitSet.create(SMALL, provenance=source)
    source["teacher"] = "b"
    assert logit_set.provenance["teacher"] == "a"
    with pytest.raises(TypeError):
        logit_set.provenance["teacher"] = "c"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("with_labels", [True, False])
def test_a_saved_set_comes_back_memory_mapped(tmp_path, logits, labels, dtype, with_labels):
    saved = LogitSet.create(
        logits.astype(dtype),
        labels if with_labels else None,
        class_names=[f"Größe {index}" for index in range(10)],
        provenance={"teacher": "tété", "data": 'with "quotes"'},
    )
    path = tmp_path / "new" / "folder" / "set.safetensors"
    saved.save(path)
    loaded = LogitSet.load(path)
    assert isinstance(loaded.logits, np.memmap)
    assert not loaded.logits.flags.writeable
    assert loaded.logits.dtype == dtype
    np.testing.assert_array_equal(loaded.logits, saved.logits)
    if with_labels:
        np.testing.assert_array_equal(loaded.labels, saved.labels)
    else:
        assert loaded.labels is None
    assert loaded.class_names == saved.class_names
    assert dict(loaded.provenance) == dict(saved.provenance)
    assert loaded.fingerprint == saved.fingerprint
    assert os.listdir(path.parent) == ["set.safetensors"]


def test_a_set_can_be_saved_over_the_file_it_is_mapped_from(tmp_path, logit_set):
    path = tmp_path / "set.safetensors"
    logit_set.save(path)
    LogitSet.load(path).save(path)
    assert LogitSet.load(path).fingerprint == logit_set.fingerprint


def test_a_failed_save_leaves_nothing_behind(tmp_path, logit_set):
    (tmp_path / "set.safetensors").mkdir()
    with pytest.raises(CistError, match=r"cannot be written to .*set\.safetensors \(Is a directory\); choose another"):
        logit_set.save(tmp_path / "set.safetensors")
    assert os.listdir(tmp_path) == ["set.safetensors"]
    (tmp_path / "file").touch()
    with pytest.raises(CistError, match=r"cannot be written to .*file/set\.safetensors"):
        logit_set.save(tmp_path / "file" / "set.safetensors")


def test_foreign_safetensors_open(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    path = tmp_path / "foreign.safetensors"
    tensors = {"logits": torch.tensor(SMALL, dtype=torch.float64), "labels": torch.tensor([0, 2], dtype=torch.int32)}
    save_torch({**tensors, "other": torch.zeros(1, dtype=torch.bfloat16)}, path)
    loaded = LogitSet.load(path)
    np.testing.assert_array_equal(loaded.logits, np.array(SMALL, np.float32))
    assert loaded.labels.tolist() == [0, 2]
    assert loaded.class_names is None
    assert dict(loaded.provenance) == {}


def test_an_unaligned_safetensors_file_opens(tmp_path):
    data = np.array(SMALL, np.float32).tobytes()
    header = json.dumps({"logits": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (1 - len(header) % 2)  # an odd length, so that no number starts at an address of its own size
    path = tmp_path / "unaligned.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    loaded = LogitSet.load(path)
    assert loaded.logits.flags.aligned
    np.testing.assert_array_equal(loaded.logits, np.array(SMALL, np.float32))


def _safetensors(path, tensors=None, **metadata):
    save_file(tensors or {"logits": np.array(SMALL, np.float32)}, path, metadata=metadata or None)


def _bfloat16(path):
    import torch
    from safetensors.torch import save_file as save_torch

    save_torch({"logits": torch.tensor(SMALL, dtype=torch.bfloat16)}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "There is no file .*set.safetensors"),
        (lambda path: path.mkdir(), "not a readable safetensors file"),
        (lambda path: path.write_bytes(b""), "not a readable safetensors file"),
        (lambda path: path.write_bytes(b"not safetensors at all"), "not a readable safetensors file"),
        (
            lambda path: _safetensors(path, {"scores": np.zeros((2, 3))}),
            r"holds the tensors \['scores'\], but no numeric",
        ),
        (_bfloat16, "no numeric one named 'logits'; name the .* store it as F16 or F32"),
        (lambda path: _safetensors(path, class_names="[1"), "damaged metadata"),
        (lambda path: _safetensors(path, class_names="3"), "damaged metadata"),
        (lambda path: _safetensors(path, provenance='"text"'), "damaged metadata"),
        (lambda path: _safetensors(path, class_names='["a"]'), "set.safetensors: Expected 3 class names"),
        (
            lambda path: _safetensors(path, {"logits": np.full((2, 2), np.nan)}),
            "set.safetensors: Expected finite logits",
        ),
        (lambda path: _safetensors(path, {"logits": np.zeros((0, 2))}), "set.safetensors: Expected at least 1 sample"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, write, message):
    path = tmp_path / "set.safetensors"
    write(path)
    with pytest.raises(CistError, match=message):
        LogitSet.load(path)


def test_a_truncated_file_is_refused(tmp_path, logit_set):
    path = tmp_path / "set.safetensors"
    logit_set.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CistError, match="not a readable safetensors file"):
        LogitSet.load(path)


def test_centred_half_precision_keeps_the_entropy(shared_file):
    with np.load(shared_file("cifar10_resnet56_test_logits.npz")) as file:
        logits = file["logits"]
    stored = centre_for_storage(logits)
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored.max(axis=1), 0)
    expected = entropy_at(logits, 1.0)
    centred_error = np.abs(entropy_at(stored, 1.0) - expected).max()
    raw_error = np.abs(entropy_at(logits.astype(np.float16), 1.0) - expected).max()
    assert centred_error < 4e-4
    assert raw_error > 4 * centred_error


def test_centring_does_not_overflow_half_precision():
    stored = centre_for_storage(np.array([[1e6, 0.0, 1e6 - 2.0]], np.float32))
    assert stored.tolist() == [[0.0, -65504.0, -2.0]]


def test_a_saved_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "ordinary").touch()
    LogitSet.create([[1.0, 0.0]]).save(tmp_path / "logits.safetensors")
    assert (tmp_path / "logits.safetensors").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
