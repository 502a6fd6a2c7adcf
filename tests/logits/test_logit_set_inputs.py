"""What people hand to `LogitSet.create`: everyday tensors, lists and frames are read, the rest is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from cist_core import CistError, LogitSet

VALUES = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]], np.float32)
TENSOR = torch.from_numpy(VALUES.copy())
NESTED = torch.nested.nested_tensor([torch.ones(3), torch.ones(2)], layout=torch.jagged)


@pytest.mark.parametrize(
    "logits",
    [
        TENSOR.clone().requires_grad_(),
        TENSOR.clone().requires_grad_() * 1,
        TENSOR.bfloat16(),
        TENSOR.half(),
        TENSOR.double(),
        TENSOR.to(torch.float8_e4m3fn),
        TENSOR.T.contiguous().T,
        TENSOR.to_sparse(),
        torch._neg_view(-TENSOR),
        list(TENSOR),
        list(TENSOR.clone().requires_grad_()),
        [row.bfloat16() for row in TENSOR],
        VALUES.tolist(),
        tuple(map(tuple, VALUES.tolist())),
        pd.DataFrame(VALUES, columns=["a", "b", "c"], index=[7, 9]),
        np.ma.masked_array(VALUES),
        VALUES.astype(">f4"),
        VALUES[::-1][::-1],
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_everyday_forms_of_logits_are_read(logits):
    np.testing.assert_array_equal(LogitSet.create(logits).logits, VALUES)


def test_whole_numbers_are_logits_too():
    for kind in (torch.int64, torch.int8, torch.uint8):
        logits = torch.tensor([[1, 2], [4, 3]], dtype=kind)
        np.testing.assert_array_equal(LogitSet.create(logits).logits, [[1, 2], [4, 3]])


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([2, 0]),
        torch.tensor([2.0, 0.0], requires_grad=True),
        torch.tensor([2, 0]).bfloat16(),
        torch.tensor([2, 0], dtype=torch.uint8),
        torch.tensor([[2], [0]]),
        torch.eye(3)[[2, 0]].requires_grad_(),
        [torch.tensor(2.0, requires_grad=True), torch.tensor(0.0)],
        [2, 0],
        pd.Series([2, 0], index=["x", "y"]),
        pd.Series(["c", "a"], dtype="category"),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_everyday_forms_of_labels_are_read(labels):
    assert LogitSet.create(VALUES, labels, class_names=["a", "b", "c"]).labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logits": TENSOR > 0}, "real numbers, but got the type bool; give floating-point numbers"),
        ({"logits": TENSOR.to(torch.complex64)}, "real numbers, but got the type complex64"),
        ({"logits": TENSOR.to("meta")}, "The `logits` are a tensor that NumPy cannot read"),
        ({"logits": NESTED}, "a tensor that NumPy cannot read"),
        ({"logits": TENSOR[0]}, r"but got \(3,\); a single sample is a row: logits\[None\]"),
        ({"logits": TENSOR[None]}, r"but got \(1, 2, 3\); put batches or tokens under one another"),
        ({"logits": (TENSOR, TENSOR)}, r"but got \(2, 2, 3\); put batches"),
        ({"logits": None}, r"but got \(\); give an array, a tensor or a list of rows"),
        ({"logits": {"logits": TENSOR}}, r"but got \(\); give an array"),
        ({"logits": [torch.ones(3), torch.ones(2)]}, "its rows differ in length"),
        ({"logits": np.ma.masked_greater(VALUES, 2)}, "The `logits` hold masked values"),
        ({"logits": pd.DataFrame({"a": ["x"], "b": [1]})}, "real numbers, but got the type object"),
        ({"labels": torch.tensor([0, 1]).to("meta")}, "The `labels` are a tensor that NumPy cannot read"),
        ({"labels": torch.tensor([0, 3])}, "labels from 0 to 2, but found 3"),
        ({"labels": torch.tensor([0.5, 1.0])}, "integer labels from 0 to 2, but got the type float32"),
        ({"labels": torch.full((2, 3), 1 / 3)}, "one-hot labels with a single 1"),
        ({"labels": 3}, "Expected 2 labels"),
        ({"labels": {"a": 1}}, "Expected 2 labels"),
        ({"class_names": 3}, "class_names as a list of names, but got 3"),
        ({"class_names": "abc"}, "class_names as a list of names, but got 'abc'"),
        ({"provenance": "imagenet"}, "provenance as a mapping, but got str"),
        ({"sample_names": ["a", "b"]}, "sample_names as a mapping, but got list"),
    ],
)
def test_the_rest_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(CistError, match=message):
        LogitSet.create(**{"logits": VALUES, **arguments})


@pytest.mark.parametrize("indices", [[2], [-3], ["a"], [0.5]])
def test_samples_that_are_not_there_cannot_be_taken(indices):
    with pytest.raises(CistError, match="positions of samples, from 0 to 1, but got"):
        LogitSet.create(VALUES).take(indices)


def test_samples_are_taken_by_tensors_and_masks():
    assert LogitSet.create(VALUES).take(torch.tensor([1])).logits.tolist() == [[3.0, 0.25, -1.0]]
    assert LogitSet.create(VALUES).take(np.array([False, True])).num_samples == 1
    assert LogitSet.create(VALUES).take([-1, 0]).logits[0].tolist() == [3.0, 0.25, -1.0]
