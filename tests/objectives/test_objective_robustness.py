"""Inputs that break careless losses, for every registered objective: finite value and gradient, or a clear error."""

import math

import pytest
import torch

from cist_core.errors import CistError, CistWarning
from cist_core.objectives import create_objective, objective_names, objective_specification

REQUIRED_VALUES = {"rho": 4.0, "H": 0.5}


def complete(name):
    """The objective with its required parameters; every new objective is tested without an entry here."""
    required = [parameter.name for parameter in objective_specification(name).parameters if parameter.required]
    return create_objective(name, **{key: REQUIRED_VALUES[key] for key in required})


@pytest.fixture(params=objective_names())
def objective(request):
    return complete(request.param)


def evaluate(objective, student, teacher, labels=None, **kwargs):
    """Terms and the gradient with respect to the student's logits."""
    student = student.detach().clone().requires_grad_()
    labels = torch.zeros(student.shape[:-1], dtype=torch.long) if labels is None else labels
    terms = objective(student_logits=student, teacher_logits=teacher, labels=labels, epoch=7, **kwargs)
    terms["total"].backward()
    return terms, student.grad


def assert_finite(terms, grad):
    assert all(value.isfinite().all() for value in terms.values()), terms
    assert grad.isfinite().all()


def random(rows, classes, scale=4.0, seed=0):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)) * scale


def hard_cases():
    z = random(6, 10)
    constant = torch.full((6, 10), -1234.567)
    one_hot = torch.nn.functional.one_hot(torch.arange(6), 10) * 1e4
    yield "constant student", constant, z
    yield "constant teacher", z, constant
    yield "both constant", constant, torch.zeros(6, 10)
    yield "some constant rows", torch.cat([z[:3], constant[:3]]), torch.cat([constant[:2], z[:4]])
    yield "equal models", z, z
    yield "two classes", random(6, 2), random(6, 2, seed=1)
    yield "two classes, constant", torch.zeros(6, 2), random(6, 2)
    yield "logits of 1e4", random(6, 10, 1e4), random(6, 10, 1e4, seed=1)
    yield "certain teacher, opposite student", -one_hot, one_hot
    yield "certain models, wrong label", -one_hot.flip(1), one_hot
    yield "tiny logits", random(6, 10, 1e-5), random(6, 10, 1e-5, seed=1)
    yield "tiny against huge", random(6, 10, 1e-5), random(6, 10, 1e4)
    yield "all negative", z - 500, z - 20
    yield "tied maxima", z.round().clamp(max=2), z.clamp(max=1)
    yield "one row", random(1, 10), random(1, 10, seed=1)
    yield "one row, two classes", random(1, 2), random(1, 2, seed=1)
    yield "one row, constant", torch.zeros(1, 10), torch.ones(1, 10)


@pytest.mark.parametrize(("student", "teacher"), [pytest.param(s, t, id=name) for name, s, t in hard_cases()])
def test_hard_logits(objective, student, teacher):
    assert_finite(*evaluate(objective, student, teacher))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_half_precision_is_computed_in_float32(objective, dtype, scale):
    student, teacher = (random(6, 10, 1.0, seed).clamp(-3, 3).mul(scale).to(dtype) for seed in (0, 1))
    terms, grad = evaluate(objective, student, teacher)
    assert grad.dtype == dtype
    assert_finite(terms, grad)
    exact, _ = evaluate(objective, student.float(), teacher.float())
    for name, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name])


def test_autocast_changes_nothing(objective):
    student, teacher = random(6, 10), random(6, 10, seed=1)
    expected, expected_grad = evaluate(objective, student, teacher)
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        terms = objective(
            student_logits=student, teacher_logits=teacher, labels=torch.zeros(6, dtype=torch.long), epoch=7
        )
    terms["total"].backward()
    for name, value in terms.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)  # bfloat16 would be off by 4e-3
    torch.testing.assert_close(student.grad, expected_grad, rtol=1e-5, atol=1e-6)


def test_a_student_that_starts_constant_has_an_ordinary_gradient(objective):
    _, grad = evaluate(objective, torch.zeros(16, 10), random(16, 10))
    # The largest factor of any default is the 45 of TTM; published LSKD has 1e7 here and NormKD NaN.
    assert 0 < grad.abs().sum(-1).max() * 16 < 200


# --- masked classes ---


MASKS = (-math.inf, -1000.0, -1e4, -65504.0, -1e9, -3.4e38)
finite_masks = pytest.mark.filterwarnings("ignore:Numbers such as .* were taken for masks")


def with_masked(z, classes, mask=-math.inf):
    z = z.clone()
    z[..., classes] = mask
    return z


@finite_masks
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("who", ["both", "student", "teacher"])
def test_masked_classes_are_as_if_they_were_not_there(objective, who, mask):
    student, teacher = random(6, 10), random(6, 10, seed=1)
    present = torch.arange(10) % 3 != 2
    masked_student = with_masked(student, ~present, mask) if who != "teacher" else student
    masked_teacher = with_masked(teacher, ~present, mask) if who != "student" else teacher
    terms, grad = evaluate(objective, masked_student, masked_teacher)
    assert_finite(terms, grad)
    expected, expected_grad = evaluate(objective, student[:, present], teacher[:, present])
    if objective.name in ("mlkd", "cist+mlkd"):  # its class level divides by the number of columns
        expected["class"] = expected["class"] * present.sum() / 10
        expected.pop("total")
        expected.pop("kd")
    names = set(expected) - ({"total", "ce"} if who == "teacher" else set())  # the student has its own cross-entropy
    if who == "teacher":
        names -= {"kd-entout-ce": {"outlier_ce"}, "kd-entropy-threshold-ce": {"kd"}}.get(objective.name, set())
    for name in names:
        torch.testing.assert_close(terms[name], expected[name])
    if who != "teacher" and "mlkd" not in objective.name:
        torch.testing.assert_close(grad[:, present], expected_grad)
        assert (grad[:, ~present] == 0).all()


@finite_masks
@pytest.mark.parametrize("mask", MASKS[1:])
def test_each_row_may_mask_other_classes_by_any_number(objective, mask):
    student, teacher = random(6, 10), random(6, 10, seed=1)
    absent = torch.rand(6, 10, generator=torch.Generator().manual_seed(3)) < 0.5
    absent[:, 0] = False  # the label
    absent[0, 1:] = True  # the label alone
    terms, grad = evaluate(objective, student.masked_fill(absent, mask), teacher)
    expected, expected_grad = evaluate(objective, student.masked_fill(absent, -math.inf), teacher)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    torch.testing.assert_close(grad, expected_grad)
    assert (grad[absent] == 0).all()


def test_each_row_may_mask_other_classes(objective):
    student, teacher = random(6, 10), random(6, 10, seed=1)
    absent = torch.rand(6, 10, generator=torch.Generator().manual_seed(3)) < 0.5
    absent[:, 0] = False
    absent[0, 1:] = True  # the label alone
    absent[1, 2:] = True  # two classes
    terms, grad = evaluate(objective, student.masked_fill(absent, -math.inf), teacher)
    assert_finite(terms, grad)
    assert (grad[absent] == 0).all()


@finite_masks
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masked_classes_in_half_precision(objective, dtype, mask):
    student, teacher = (with_masked(random(6, 10, seed=seed).to(dtype), slice(7, None), mask) for seed in (0, 1))
    terms, grad = evaluate(objective, student, teacher)
    assert_finite(terms, grad)
    assert (grad[:, 7:] == 0).all()
    infinite = [with_masked(z, slice(7, None)) for z in (student, teacher)]
    for name, value in evaluate(objective, *infinite)[0].items():
        torch.testing.assert_close(terms[name], value)


def test_numbers_that_are_taken_for_masks_are_named(objective):
    student, teacher = random(6, 10), with_masked(random(6, 10, seed=1), slice(8, None), -1e9)
    said = r"Numbers such as -1e\+09 of the teacher_logits were taken for masks, so 2 of 10 classes \(8, 9\) take"
    with pytest.warns(CistWarning, match=said):
        evaluate(objective, student, teacher)


def test_a_teacher_that_masks_the_label_is_refused_and_a_student_may_be_as_wrong_as_it_likes():
    objective = create_objective("cist:rho=3")
    student, teacher, labels = random(6, 10), random(6, 10, seed=1), torch.arange(6)
    spoiled = teacher.clone()
    spoiled[2, 2] = -1e9
    with pytest.raises(CistError, match=r"label of sample 2 is class 2, which takes no .* -1e\+09 in the teacher"):
        objective(student_logits=student, teacher_logits=spoiled, labels=labels)
    wrong = student - 1e4 * torch.nn.functional.one_hot(labels, 10)
    assert_finite(*evaluate(objective, wrong, teacher, labels))


# --- tokens ---


def test_masked_tokens_are_as_if_they_were_not_there(objective):
    student, teacher = (random(12, 7, seed=seed).reshape(3, 4, 7) for seed in (0, 1))
    labels = torch.arange(12).reshape(3, 4) % 7
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], dtype=torch.bool)
    padded = labels.masked_fill(~mask, -100)
    student[~mask] = math.nan  # padding may hold anything
    terms, grad = evaluate(objective, student, teacher, padded, mask=mask)
    expected, expected_grad = evaluate(objective, student[mask], teacher[mask], labels[mask])
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    torch.testing.assert_close(grad[mask], expected_grad)
    assert (grad[~mask] == 0).all()


def test_tokens_without_a_mask_all_count(objective):
    student, teacher = (random(12, 7, seed=seed) for seed in (0, 1))
    terms, _ = evaluate(objective, student.reshape(3, 4, 7), teacher.reshape(3, 4, 7))
    torch.testing.assert_close(terms["total"], evaluate(objective, student, teacher)[0]["total"])


# --- clear errors ---


def call(objective, **changes):
    arguments = {"student_logits": random(3, 5), "teacher_logits": random(3, 5), "labels": torch.tensor([0, 1, 2])}
    return objective(**{**arguments, "epoch": 1, **changes})


def spoilt(value, row=1):
    z = random(3, 5)
    z[row, 2] = value
    return z


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_logits": spoilt(math.nan)}, r"student_logits hold nan \(first in sample 1\)"),
        ({"teacher_logits": spoilt(math.inf)}, r"teacher_logits hold inf \(first in sample 1\)"),
        ({"student_logits": spoilt(-math.inf, row=2)}, "label of sample 2 is class 2, which takes no part"),
        ({"teacher_logits": spoilt(-math.inf, row=2)}, "label of sample 2 is class 2, which takes no part"),
        ({"labels": torch.tensor([0, 5, 2])}, "labels from 0 to 4, but got 5"),
        ({"labels": torch.tensor([0, -100, 2])}, "-100; leave such positions out with a mask"),
        ({"labels": torch.tensor([0.0, 1.0, 2.0])}, "integer labels"),
        ({"labels": torch.tensor([0, 1])}, r"integer labels of the shape \(3,\)"),
        ({"teacher_logits": random(3, 6)}, r"teacher_logits of the shape of student_logits, \(3, 5\)"),
        ({"teacher_logits": torch.ones(3, 5, dtype=torch.long)}, "teacher_logits to be floating point"),
        ({"student_logits": torch.ones(3, 1)}, "with C >= 2"),
        ({"student_logits": torch.ones(5)}, r"shape \(B, C\) or \(B, L, C\)"),
        ({"mask": torch.ones(3)}, "boolean mask"),
        ({"mask": torch.zeros(3, dtype=torch.bool)}, "the mask keeps no token"),
        (
            {
                "student_logits": random(0, 5),
                "teacher_logits": random(0, 5),
                "labels": torch.zeros(0, dtype=torch.long),
            },
            "the batch is empty",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(objective, changes, message):
    with pytest.raises(CistError, match=message):
        call(objective, **changes)


def test_a_target_entropy_out_of_reach_is_refused():
    with pytest.raises(CistError, match=r"H to be below ln C = 1\.6094 nats for 5 classes, but got 2"):
        call(create_objective("entropy-matched:H=2"))


@pytest.mark.parametrize("text", ["dkd", "dtkd", "ctkd", "cist+dkd:rho=3", "cist+ctkd:rho=3"])
@pytest.mark.parametrize("epoch", [None, -1, math.nan])
def test_a_ramp_without_an_epoch_is_refused(text, epoch):
    with pytest.raises(CistError, match="expected epoch=1 in the first"):
        call(create_objective(text), epoch=epoch)


@pytest.mark.parametrize("text", ["dkd:warmup=0", "dtkd:warmup=0", "ctkd:ramp=0"])
def test_without_a_ramp_no_epoch_is_needed(text):
    assert call(create_objective(text), epoch=None)["total"].isfinite()


def test_one_strong_view_alone_is_refused():
    with pytest.raises(CistError, match="strong_student_logits and strong_teacher_logits together"):
        call(create_objective("mlkd"), strong_student_logits=random(3, 5))


def test_a_view_that_would_be_ignored_is_refused():
    with pytest.raises(CistError, match="'kd' uses one view"):
        call(create_objective("kd"), strong_student_logits=random(3, 5), strong_teacher_logits=random(3, 5))


@pytest.mark.parametrize("name", ["student_logits", "teacher_logits"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_probabilities_in_the_place_of_logits_are_warned_of(name, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = {each: torch.randn(6, 5, generator=generator).to(dtype) for each in ("student_logits", "teacher_logits")}
    labels, objective = torch.arange(6) % 5, create_objective("kd:tau=4")
    objective(**logits, labels=labels)  # of which nothing is said
    shares = {**logits, name: logits[name].float().softmax(dim=1).to(dtype)}
    with pytest.warns(CistWarning, match=f"The {name} of this batch are not negative and sum to 1 in every row"):
        objective(**shares, labels=labels)
    shares[name][2] = logits[name][2]
    objective(**shares, labels=labels)
