"""`entropy-matched` where the student's largest logits are nearly tied: the gradient stays in bounds."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import entropy

from cist_core.entropy.theory import equal_others_entropy, equal_others_ratio
from cist_core.objectives import cist_loss, create_objective
from cist_core.objectives.softening import WEIGHTINGS
from cist_core.temperature import TAU_MIN

MODES = ["scale-free", "constant", "full"]


def draw(rows=2048, classes=10, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(rows, classes, generator=generator, dtype=dtype) for _ in range(2))
    return student, 3 * teacher


def norms(text, student, teacher):
    """Length of every sample's gradient in the unweighted mean of the distillation part, and the terms."""
    leaf = student.clone().requires_grad_()
    terms = create_objective(text, lambda_ce=0)(student_logits=leaf, teacher_logits=teacher)
    (gradient,) = torch.autograd.grad(terms["kd"] * len(leaf), leaf)
    return gradient, terms


def tied(student, gap):
    """Every row's second class this far below its first."""
    student = student.clone()
    best = student.argmax(1, keepdim=True)
    others = student.scatter(1, best, -math.inf)
    return student.scatter(1, best, others.amax(1, keepdim=True) + gap)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("H", [0.1, 0.6, 0.69, 1.0])
def test_no_sample_pulls_a_hundred_times_harder_than_the_median(H, classes):
    gradient, _ = norms(f"entropy-matched:H={H}", *draw(classes=classes))
    length = gradient.norm(dim=1)
    assert length.max() < 100 * length.median()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("H", [0.3, 0.6])
def test_a_gradient_has_the_bound_that_the_docstring_states_however_close_a_tie_is(weighting, mode, H):
    if mode == "full" and weighting.startswith("uniform"):
        pytest.skip("one sample's temperature is in the weight of all others")
    nearly_tied = 10 * brentq(lambda r: float(equal_others_entropy(r, 10)) - H, 0, 60)
    student, teacher = draw(rows=64)
    for gap in (1e-1, 1e-3, 1e-5, 1e-7, 0.0):
        student[:32] = tied(student[:32], gap)
        gradient, terms = norms(f"entropy-matched:H={H},weighting={weighting},gradient={mode}", student, teacher)
        q = (student / terms["tau_student"][:, None]).softmax(1)
        p = (teacher / terms["tau_teacher"][:, None]).softmax(1)
        maximum = student.amax(1) - student.mean(1)
        factor = terms["weight"] / terms["tau_student"]
        damped = torch.maximum(terms["weight"] * nearly_tied / maximum, terms["tau_teacher"])
        times = 6 if (weighting, mode) == ("student", "full") else 5
        bound = times * torch.minimum(factor, damped) * (q - p).norm(dim=1)
        assert (gradient.norm(dim=1) <= bound * (1 + 1e-9)).all()
        assert (gradient.norm(dim=1) > 0).all()


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-6, 0.0])
def test_no_gradient_is_longer_than_five_times_that_of_a_constant_temperature(gap):
    student, teacher = draw(rows=500)
    student = tied(student, gap)
    plain, _ = norms("entropy-matched:H=0.6,gradient=constant", student, teacher)
    turned, _ = norms("entropy-matched:H=0.6,gradient=scale-free", student, teacher)
    assert (turned.norm(dim=1) <= 5 * plain.norm(dim=1) * (1 + 1e-9)).all()


@pytest.mark.parametrize("gap", [1.0, 1e-3, 1e-6, 0.0])
def test_the_students_scale_stays_free_where_the_gradient_is_bounded(gap):
    student, teacher = draw(rows=200)
    student = tied(student, gap)
    gradient, terms = norms("entropy-matched:H=0.6,gradient=scale-free", student, teacher)
    centred = student - student.mean(1, keepdim=True)
    along = (gradient * centred).sum(1)
    moves = terms["tau_student"] > TAU_MIN  # a temperature at the guard does not follow the scale
    assert moves.sum() > 50
    assert (along.abs() < 1e-6 * (terms["weight"] * terms["kl"]).clamp(min=1))[moves].all()


@pytest.mark.parametrize("gap", [1e-3, 0.0])
def test_the_values_do_not_depend_on_the_bound(gap):
    """Every soft label still has the entropy H where one can, by SciPy; two tied classes have ln 2."""
    student, teacher = draw(rows=50)
    student = tied(student, gap)
    _, terms = norms("entropy-matched:H=0.6", student, teacher)
    q = softmax(student.numpy() / terms["tau_student"].numpy()[:, None], axis=1)
    np.testing.assert_allclose(entropy(q, axis=1), 0.6 if gap else math.log(2), atol=1e-6)


@pytest.mark.parametrize("options", ["weighting=teacher", "weighting=none", "weighting=student,gradient=full"])
def test_where_nothing_is_bounded_the_gradient_is_the_numerical_one(options):
    student, teacher = draw(rows=30)
    student = (student + 0.3 * teacher)[:6]
    objective = create_objective(f"entropy-matched:H=1.4,lambda_ce=0,{options}")

    def loss(z):
        return objective(student_logits=z, teacher_logits=teacher[:6])["total"]

    leaf = student.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf), leaf)
    generator = torch.Generator().manual_seed(1)
    for _ in range(8):
        direction = 1e-5 * torch.randn(student.shape, generator=generator, dtype=student.dtype)
        numeric = (loss(student + direction) - loss(student - direction)).item() / 2
        assert (found * direction).sum().item() == pytest.approx(numeric, rel=1e-5, abs=1e-12)
    assert found.abs().max() > 1e-2


def test_full_with_the_product_weight_is_constant_mode_even_near_ties():
    student, teacher = draw(rows=200)
    student = tied(student, 1e-3)
    full, _ = norms("entropy-matched:H=0.6,gradient=full", student, teacher)
    constant, terms = norms("entropy-matched:H=0.6,gradient=constant", student, teacher)
    torch.testing.assert_close(full, constant, rtol=1e-4, atol=1e-6)
    q = (student / terms["tau_student"][:, None]).softmax(1)
    p = (teacher / terms["tau_teacher"][:, None]).softmax(1)
    torch.testing.assert_close(constant, terms["tau_teacher"][:, None] * (q - p))


def trained(half):
    """Losses of 30 steps, and how often the scaler threw one away."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(128, 12, generator=generator)
    teacher = images @ torch.randn(12, 10, generator=generator) + torch.randn(128, 10, generator=generator)
    torch.manual_seed(1)
    head = torch.nn.Linear(12, 10)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", enabled=half)
    objective, losses, skipped = create_objective("entropy-matched:H=0.6"), [], 0
    for _ in range(30):
        with torch.autocast("cpu", torch.float16, enabled=half):
            logits = head(images)
        loss = objective(student_logits=logits, teacher_logits=teacher, labels=teacher.argmax(1))["total"]
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        before = scaler.get_scale()
        scaler.update()
        skipped += scaler.get_scale() < before
        losses.append(loss.item())
    return losses, skipped


def test_half_precision_under_a_scaler_trains_as_single_precision_does():
    (half, skipped), (single, _) = trained(True), trained(False)
    assert skipped == 0
    assert single[-1] < 0.9 * single[0]
    assert max(single) <= 1.05 * single[0]
    np.testing.assert_allclose(half, single, rtol=2e-2)


# --- what holds the gradient of a constant row ---


@pytest.mark.parametrize("floor", [2e-6, 1e-5, 5e-4, 1e-3, 1.0])
def test_a_floor_above_the_guard_holds_a_constant_row_as_any_other(floor):
    student, teacher = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True), draw(rows=4, classes=5)[1]
    terms = cist_loss(
        student_logits=student, teacher_logits=teacher, rho=3, floor=floor, weighting="none", lambda_ce=0, lambda_kl=1
    )
    (gradient,) = torch.autograd.grad(terms["total"] * 4, student)
    p = (teacher / terms["tau_teacher"][:, None]).softmax(1)
    torch.testing.assert_close(gradient, (0.2 - p) / floor)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("share", [1e-3, 0.3, 0.99])
def test_the_ratio_of_equal_others_is_the_root_of_their_entropy(classes, share):
    H = share * math.log(classes)
    expected = brentq(lambda r: float(equal_others_entropy(r, classes)) - H, 0, 60, xtol=1e-12)
    assert equal_others_ratio(H, classes) == pytest.approx(expected, rel=1e-8, abs=1e-9)
