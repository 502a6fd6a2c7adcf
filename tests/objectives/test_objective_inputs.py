"""What people hand to an objective: the right value, or a `CistError` that names the thing and the remedy."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from cist_core import CistError
from cist_core.errors import CistWarning
from cist_core.objectives import (
    cist_loss,
    create_objective,
    ctkd_loss,
    kd_loss,
    mlkd_loss,
    objective_names,
    objective_presets,
    objective_specification,
)

REQUIRED_VALUES = {"rho": 4.0, "H": 0.5}
NEED_LABELS = {"ce", "dkd", "cist+dkd", "kd-entout-ce", "kd-entropy-threshold-ce"}


def complete(name, **parameters):
    required = {parameter.name for parameter in objective_specification(name).parameters if parameter.required}
    if name in objective_presets():
        required = set()
    return create_objective(name, **{key: REQUIRED_VALUES[key] for key in required}, **parameters)


@pytest.fixture(params=objective_names())
def objective(request):
    return complete(request.param)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def call(objective, **changes):
    arguments = {
        "student_logits": random(3, 5),
        "teacher_logits": random(3, 5, seed=1) * 3,
        "labels": torch.tensor([0, 1, 2]),
        "epoch": 1,
    }
    return objective(**{**arguments, **changes})


# --- without labels ---


@pytest.mark.parametrize("name", [*objective_names(), *objective_presets()])
def test_labels_are_asked_for_where_something_reads_them(name):
    with pytest.raises(CistError, match=r"labels is None; give the class of every sample"):
        call(complete(name), labels=None)


@pytest.mark.parametrize("name", sorted(set(objective_names()) - {"ce"}))
def test_without_cross_entropy_labels_are_asked_for_by_those_that_treat_them_apart_alone(name):
    objective = complete(name, lambda_ce=0)
    if name in NEED_LABELS:
        with pytest.raises(CistError, match="labels is None"):
            call(objective, labels=None)
        return
    student, leaf = random(3, 5).requires_grad_(), random(3, 5).requires_grad_()
    expected, terms = call(objective, student_logits=student), call(objective, student_logits=leaf, labels=None)
    assert set(expected) - set(terms) == {"ce"}
    for key, value in terms.items():
        torch.testing.assert_close(value, expected[key])
    expected["total"].backward()
    terms["total"].backward()
    torch.testing.assert_close(leaf.grad, student.grad)


def test_labels_may_be_left_out_of_the_call():
    logits = {"student_logits": random(3, 5), "teacher_logits": random(3, 5, seed=1)}
    terms = create_objective("kd:lambda_ce=0,lambda_kl=2")(**logits)
    torch.testing.assert_close(terms["total"], 2 * terms["kd"])
    with pytest.raises(CistError, match=r"has the weight lambda_ce = 0\.1, but labels is None; .* or set lambda_ce=0"):
        kd_loss(**logits)


def test_tokens_without_labels_follow_their_mask():
    student, teacher = random(2, 4, 5), random(2, 4, 5, seed=1)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    terms = kd_loss(student_logits=student, teacher_logits=teacher, mask=mask, lambda_ce=0)
    expected = kd_loss(student_logits=student[mask], teacher_logits=teacher[mask], lambda_ce=0)
    torch.testing.assert_close(terms["kd"], expected["kd"])


# --- what is no tensor, or a wrong one ---


class Output:
    def __init__(self):
        self.logits = random(3, 5)


ONE_HOT = nn.functional.one_hot(torch.tensor([0, 1, 2]), 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_logits": np.zeros((3, 5))}, r"student_logits to be a tensor, but got numpy\.ndarray; .*as_tensor"),
        ({"teacher_logits": np.zeros((3, 5))}, r"teacher_logits to be a tensor, but got numpy\.ndarray"),
        ({"teacher_logits": [[0.0] * 5] * 3}, "teacher_logits to be a tensor, but got list"),
        ({"teacher_logits": None}, "teacher_logits to be a tensor, but got None"),
        ({"student_logits": None}, "student_logits to be a tensor, but got None"),
        ({"student_logits": Output()}, r"Output; give its \.logits"),
        ({"student_logits": (random(3, 5), None)}, "but got tuple; give the one among its items"),
        ({"labels": [0, 1, 2]}, r"labels to be a tensor, but got list; torch\.as_tensor\(labels\)"),
        ({"labels": np.array([0, 1, 2])}, r"labels to be a tensor, but got numpy\.ndarray"),
        ({"labels": 3}, "labels to be a tensor, but got int"),
        ({"mask": [True, True, False]}, "mask to be a tensor, but got list"),
        ({"teacher_logits": random(3, 5).to("meta")}, r"on cpu, but they are on meta; move them: teacher_logits\.to"),
        ({"labels": torch.tensor([0, 1, 2]).to("meta")}, r"Expected labels to be where student_logits are, on cpu"),
        ({"mask": torch.ones(3, dtype=torch.bool).to("meta")}, "Expected mask to be where student_logits are"),
        ({"teacher_logits": random(3, 5).to_sparse()}, "teacher_logits to be a dense tensor"),
        ({"student_logits": torch.ones(3, 5, dtype=torch.int64)}, r"but got torch\.int64; student_logits\.float\(\)"),
        ({"student_logits": torch.ones(3, 5, dtype=torch.bool)}, "student_logits to be floating point"),
        ({"student_logits": torch.ones(3, 5, dtype=torch.complex64)}, "student_logits to be floating point"),
        ({"student_logits": random(5)}, r"but got \(5,\); a single sample is a batch of one: unsqueeze\(0\)"),
        ({"student_logits": torch.tensor(1.0)}, r"but got \(\)"),
        ({"student_logits": random(3, 5, 2, 2)}, r"movedim\(1, -1\)\.flatten\(1, -2\)"),
        ({"student_logits": random(3, 1)}, "no distribution over classes"),
        ({"teacher_logits": random(5, 3)}, "one of the two is transposed"),
        ({"teacher_logits": random(3, 6)}, "the same classes in the same order"),
        ({"labels": torch.tensor([0.0, 1.0, 2.0])}, r"labels\.long\(\) makes whole numbers of them"),
        ({"labels": torch.tensor([0, 1, 2]).to(torch.complex64)}, "integer labels"),
        ({"labels": torch.tensor([True, False, True])}, r"got torch\.bool"),
        ({"labels": ONE_HOT}, r"one-hot labels become classes by labels\.argmax\(-1\)"),
        ({"labels": ONE_HOT.float() * 0.9}, r"argmax\(-1\), and mixed ones are no labels"),
        ({"labels": torch.tensor([[0], [1], [2]])}, r"labels\.squeeze\(-1\)"),
        ({"labels": torch.tensor(0)}, "give each row the number of its class"),
        ({"mask": torch.ones(3, dtype=torch.int64)}, r"mask\.bool\(\) makes it so"),
        ({"mask": torch.ones(4, dtype=torch.bool)}, "one entry for each row of logits"),
        ({"num_items": 0}, "num_items to be the positive number of samples"),
        ({"num_items": -3.0}, r"but got -3\.0; leave it out"),
        ({"num_items": math.nan}, "num_items"),
        ({"num_items": "12"}, "num_items"),
        ({"num_items": True}, "num_items"),
        ({"num_items": torch.tensor([3, 3])}, "num_items"),
        ({"num_items": torch.tensor(0)}, "num_items"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(objective, changes, message):
    with pytest.raises(CistError, match=message):
        call(objective, **changes)


def test_everyday_tensors_are_right_as_they_are():
    leaf, teacher, labels = random(3, 5).requires_grad_(), random(3, 5, seed=1), torch.tensor([0, 1, 2])
    expected = kd_loss(student_logits=leaf, teacher_logits=teacher, labels=labels)["total"].item()
    for kind in (torch.uint8, torch.int8, torch.int16, torch.int32):
        found = kd_loss(student_logits=leaf, teacher_logits=teacher, labels=labels.to(kind))["total"].item()
        assert found == pytest.approx(expected, rel=1e-6)
    with_grad = kd_loss(student_logits=leaf, teacher_logits=teacher.clone().requires_grad_(), labels=labels)
    assert with_grad["total"].item() == pytest.approx(expected, rel=1e-6)
    strided = random(5, 3).T
    plain = kd_loss(student_logits=strided.contiguous(), teacher_logits=teacher, labels=labels)
    torch.testing.assert_close(
        kd_loss(student_logits=strided, teacher_logits=teacher, labels=labels)["total"], plain["total"]
    )
    with torch.inference_mode():
        assert math.isfinite(kd_loss(student_logits=random(3, 5), teacher_logits=teacher, labels=labels)["total"])


def test_the_second_view_is_named_in_what_is_wrong_with_it():
    views = {"strong_student_logits": random(3, 5), "strong_teacher_logits": random(3, 6)}
    with pytest.raises(CistError, match="strong_teacher_logits of the shape of strong_student_logits"):
        call(create_objective("mlkd"), **views)


# --- hyper-parameters of the pure functions ---


@pytest.mark.parametrize(
    ("loss", "parameters", "message"),
    [
        (kd_loss, {"tau": 0}, "tau of the objective 'kd' to be a positive number, but got 0"),
        (kd_loss, {"tau": "4"}, "a positive number"),
        (kd_loss, {"tau": None}, "a positive number, but got None"),
        (kd_loss, {"tau": 10**400}, "a positive number"),
        (kd_loss, {"tau": torch.ones(2)}, "a positive number"),
        (kd_loss, {"lambda_ce": -1}, "0 or a positive number"),
        (cist_loss, {"rho": math.inf}, "rho of the objective 'cist'"),
        (cist_loss, {"rho": 3, "weighting": "sum"}, "one of product, teacher"),
        (cist_loss, {"rho": 3, "gradient": None}, "one of scale-free, constant, full"),
        (cist_loss, {"rho": 3, "normalise": "yes"}, "yes or no"),
        (mlkd_loss, {"temperatures": 4.0}, "positive numbers such as 4/3/5"),
        (ctkd_loss, {"theta": "1", "epoch": 1}, "theta of the objective 'ctkd'"),
    ],
)
def test_the_functions_check_their_parameters_as_the_text_form_does(loss, parameters, message):
    with pytest.raises(CistError, match=message):
        loss(student_logits=random(3, 5), teacher_logits=random(3, 5), labels=torch.tensor([0, 1, 2]), **parameters)


def test_a_temperature_may_be_a_scalar_tensor():
    tau = torch.tensor(2.0, requires_grad=True)
    terms = call(lambda epoch, **inputs: kd_loss(**inputs, tau=tau))
    expected = call(lambda epoch, **inputs: kd_loss(**inputs, tau=2))
    torch.testing.assert_close(terms["total"], expected["total"])
    terms["total"].backward()
    assert tau.grad.abs() > 0


@pytest.mark.parametrize("epoch", ["1", [1], True, torch.ones(2), None, math.nan])
def test_an_epoch_is_a_number(epoch):
    with pytest.raises(CistError, match="expected epoch=1 in the first"):
        call(create_objective("dkd"), epoch=epoch)


@pytest.mark.parametrize("text", [None, 4, ["kd"], b"kd"])
def test_an_objective_is_made_from_text(text):
    with pytest.raises(CistError, match="Expected an objective as text, such as 'cist:rho=4', but got"):
        create_objective(text)


# --- classes first, as torch's cross_entropy takes them ---


@pytest.mark.parametrize("beside", ["labels", "mask", "both"])
def test_classes_before_tokens_are_told_from_the_shape_of_labels_or_mask(beside):
    student, teacher = random(2, 7, 4), random(2, 7, 4, seed=1)
    given = {"labels": torch.zeros(2, 4, dtype=torch.long), "mask": torch.ones(2, 4, dtype=torch.bool)}
    given = {name: value for name, value in given.items() if beside in (name, "both")}
    with pytest.raises(CistError, match=r"classes last, but the .* \(2, 4\) say that in \(2, 7, 4\) they come first"):
        kd_loss(student_logits=student, teacher_logits=teacher, lambda_ce=0, **given)
    turned = {"student_logits": student.transpose(1, 2), "teacher_logits": teacher.transpose(1, 2)}
    assert kd_loss(**turned, lambda_ce=0, **given)["total"].isfinite()
    with pytest.raises(CistError, match=r"one of the two has the classes before the tokens: transpose\(1, 2\)"):
        kd_loss(student_logits=student, teacher_logits=turned["teacher_logits"], lambda_ce=0)


def test_a_square_batch_is_said_to_be_read_classes_last():
    student, teacher, labels = random(2, 6, 6), random(2, 6, 6, seed=1), torch.randint(0, 6, (2, 6))
    with pytest.warns(
        CistWarning, match=r"\(2, 6, 6\) are read as \(B, L, C\), classes last; .* logits\.transpose\(1, 2\)"
    ):
        terms = kd_loss(student_logits=student, teacher_logits=teacher, labels=labels)
    flat = {
        "student_logits": student.flatten(0, 1),
        "teacher_logits": teacher.flatten(0, 1),
        "labels": labels.flatten(),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(kd_loss(**flat)["total"], terms["total"])


@pytest.mark.parametrize("wrong", ["student_logits", "teacher_logits"])
def test_square_logits_that_know_the_labels_along_the_wrong_axis_are_refused(wrong):
    labels = torch.randint(0, 16, (4, 16), generator=torch.Generator().manual_seed(2))
    knows = 4 * nn.functional.one_hot(labels, 16) + random(4, 16, 16)
    logits = {"student_logits": random(4, 16, 16, seed=3), "teacher_logits": random(4, 16, 16, seed=4)}
    with pytest.warns(CistWarning):
        kd_loss(**{**logits, wrong: knows}, labels=labels)
    with pytest.raises(CistError, match=rf"Expected {wrong} .* tokens if the classes come first"):
        kd_loss(**{**logits, wrong: knows.transpose(1, 2)}, labels=labels)
    half = torch.arange(16) < 8
    mask = half.expand(4, 16)
    with pytest.raises(CistError, match="of 32 tokens if the classes come first"):
        kd_loss(**{**logits, wrong: knows.transpose(1, 2)}, labels=labels.masked_fill(~mask, -100), mask=mask)


def test_a_hyper_parameter_beside_a_batch_is_refused_in_a_sentence() -> None:
    logits = torch.randn(3, 4)
    with pytest.raises(CistError, match="'kd' takes no 'tau' with a batch; hyper-parameters are given when it is made"):
        create_objective("kd:tau=4")(student_logits=logits, teacher_logits=logits, labels=torch.arange(3), tau=3)
