"""Gradients: the closed forms of the method, and numerical ones where the objective is smooth."""

import math

import numpy as np
import pytest
import torch
from objectives.objective_reference import example

from cist_core.objectives import (
    cist_ctkd_loss,
    cist_loss,
    create_objective,
    ctkd_loss,
    dkd_loss,
    lskd_loss,
    normkd_loss,
)
from cist_core.temperature import TAU_MIN


def inputs(rows=8, classes=5, dtype=torch.float64):
    data = example(rows=rows, classes=classes)
    return {
        "student_logits": torch.tensor(data["student"], dtype=dtype, requires_grad=True),
        "teacher_logits": torch.tensor(data["teacher"], dtype=dtype),
        "labels": torch.tensor(data["labels"]),
    }


def gradient(terms, data):
    return torch.autograd.grad(terms["total"], data["student_logits"])[0]


def centred(z):
    return z - z.mean(-1, keepdim=True)


def soft_labels(terms, data):
    return (
        (data[f"{model}_logits"].detach() / terms[f"tau_{model}"].unsqueeze(-1)).softmax(-1)
        for model in ("teacher", "student")
    )


ONLY_KL = {"lambda_ce": 0, "lambda_kl": 1}


# --- CIST: the three modes, and the floor ---

MODES = ["constant", "scale-free", "full"]
WEIGHTINGS = ["product", "teacher", "student", "uniform", "uniform-teacher", "none"]
NOWHERE, SOMEWHERE, EVERYWHERE = 0.0, 1.0, 30.0
"""Floors that bind on none, some and all rows of the example at rho 3."""


def at_floor(data, floor, model="student"):
    return centred(data[f"{model}_logits"].detach()).amax(-1) / 3 < floor


@pytest.mark.parametrize(("floor", "rows"), [(NOWHERE, 0), (SOMEWHERE, 6), (EVERYWHERE, 8)])
def test_the_floor_binds_where_the_pure_rule_would_fall_below_it(floor, rows):
    data = inputs()
    assert at_floor(data, floor).sum() == rows
    terms = cist_loss(**data, rho=3, floor=floor)
    for model in ("student", "teacher"):
        maximum = centred(data[f"{model}_logits"].detach()).amax(-1)
        torch.testing.assert_close(terms[f"tau_{model}"], (maximum / 3).clamp(min=floor))
        ratio = maximum / terms[f"tau_{model}"]
        torch.testing.assert_close(ratio, (maximum / floor).clamp(max=3))


@pytest.mark.parametrize("floor", [NOWHERE, SOMEWHERE, EVERYWHERE])
def test_constant_mode_gives_exactly_tau_t_times_the_difference(floor):
    data = inputs()
    terms = cist_loss(**data, rho=3, floor=floor, **ONLY_KL)
    p, q = soft_labels(terms, data)
    torch.testing.assert_close(gradient(terms, data), terms["tau_teacher"].unsqueeze(-1) * (q - p) / 8)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("normalise", [False, True])
def test_the_gradient_modes_coincide_at_the_floor(weighting, normalise):
    data = inputs()
    slopes = [
        gradient(
            cist_loss(
                **data, rho=3, floor=EVERYWHERE, weighting=weighting, normalise=normalise, gradient=mode, **ONLY_KL
            ),
            data,
        )
        for mode in MODES
    ]
    torch.testing.assert_close(slopes[1], slopes[0])
    torch.testing.assert_close(slopes[2], slopes[0])
    assert slopes[0].abs().max() > 1e-5


def test_rows_at_the_floor_have_one_gradient_and_the_others_three():
    data = inputs()
    slopes = {mode: gradient(cist_loss(**data, rho=3, gradient=mode, **ONLY_KL), data) for mode in MODES}
    held = at_floor(data, SOMEWHERE)
    for mode in ("scale-free", "full"):
        torch.testing.assert_close(slopes[mode][held], slopes["constant"][held])
        assert ((slopes[mode] - slopes["constant"]).abs().amax(-1)[~held] > 1e-5).all()


@pytest.mark.parametrize("floor", [NOWHERE, SOMEWHERE])
def test_full_mode_makes_the_loss_homogeneous_in_the_students_scale_above_the_floor(floor):
    data = inputs()
    terms = cist_loss(**data, rho=3, floor=floor, gradient="full", **ONLY_KL)
    along = (gradient(terms, data) * centred(data["student_logits"])).sum(-1)
    free = ~at_floor(data, floor)
    torch.testing.assert_close(8 * along[free], (terms["weight"] * terms["kl"])[free])
    if floor:
        assert not torch.isclose(8 * along, terms["weight"] * terms["kl"])[~free].any()
        return
    smaller = {**data, "student_logits": data["student_logits"] * 0.5}
    torch.testing.assert_close(cist_loss(**smaller, rho=3, floor=floor, **ONLY_KL)["total"], terms["total"] / 2)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("floor", [NOWHERE, SOMEWHERE])
def test_scale_free_mode_leaves_the_students_scale_free_above_the_floor(weighting, normalise, floor):
    data = inputs()
    terms = cist_loss(
        **data, rho=3, floor=floor, weighting=weighting, normalise=normalise, gradient="scale-free", **ONLY_KL
    )
    slope = gradient(terms, data)
    along = (slope * centred(data["student_logits"])).sum(-1)
    free = ~at_floor(data, floor)
    torch.testing.assert_close(along[free], torch.zeros_like(along[free]), rtol=0, atol=1e-12)
    assert slope.abs().max() > 1e-3
    assert (along[~free].abs() > 1e-6).all()


def test_a_student_below_the_floor_matches_a_confident_label_only_by_growing():
    data = inputs()
    data["student_logits"] = (0.2 * data["teacher_logits"]).requires_grad_()
    held = at_floor(data, SOMEWHERE) & ~at_floor(data, SOMEWHERE, "teacher")
    assert held.any()
    for floor, sign in ((SOMEWHERE, -1), (NOWHERE, 0)):
        terms = cist_loss(**data, rho=3, floor=floor, **ONLY_KL)
        along = (gradient(terms, data) * centred(data["student_logits"])).sum(-1)[held]
        assert (along.sign().where(along.abs() > 1e-12, 0) == sign).all()


def test_entropy_matched_has_the_same_modes():
    data = inputs()
    text = "entropy-matched:H=0.7,lambda_ce=0,lambda_kl=1,gradient="
    terms = {mode: create_objective(text + mode)(**data) for mode in ("scale-free", "constant", "full")}
    slopes = {mode: gradient(t, data) for mode, t in terms.items()}
    along = {mode: (slope * centred(data["student_logits"])).sum(-1) for mode, slope in slopes.items()}
    # The derivative of the root is taken where a bisection stopped, 1e-8 away.
    torch.testing.assert_close(along["scale-free"], torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-8)
    torch.testing.assert_close(along["full"] * 8, terms["full"]["weight"] * terms["full"]["kl"])
    p, q = soft_labels(terms["constant"], data)
    expected = terms["constant"]["tau_teacher"].unsqueeze(-1) * (q - p) / 8
    torch.testing.assert_close(slopes["constant"], expected)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_modes_share_their_value(mode):
    data = inputs()
    expected = cist_loss(**data, rho=3)["total"]
    assert cist_loss(**data, rho=3, gradient=mode)["total"].item() == pytest.approx(expected.item(), rel=1e-12)


# --- numerical gradients: where nothing is held constant on purpose ---


@pytest.mark.parametrize(
    "text",
    [
        "ce",
        "kd",
        "cist:rho=3,gradient=full",
        "cist:rho=3,floor=0,gradient=full",
        "cist:rho=3,floor=30",
        "cist:rho=3,gradient=full,normalise=yes",
        "cist:rho=3,gradient=full,weighting=student",
        "cist:rho=3,gradient=scale-free,weighting=teacher",
        "cist:rho=3,gradient=scale-free,weighting=uniform-teacher",
        "dkd",
        "cist+dkd:rho=3,gradient=full",
        "cist+reverse-kl:rho=3,gradient=full",
        "cist+jsd:rho=3,gradient=full",
        "cist+mlkd:rho=3,gradient=full",
        "mlkd",
        "lskd",
        "normkd",
        "dtkd",
        "ttm",
        "wttm",
        "kd-entout-ce",
        "kd-entout-ce:sides=both",
        "kd-entout-ht",
        "kd-entout-ht:sides=both",
        "kd-entropy-threshold-ce:low=0.3",
        "kd-entropy-threshold-ht:low=0.3",
        "entropy-matched:H=0.7,gradient=full",
        "entropy-matched:H=0.7,weighting=teacher",
        "reverse-kl",
        "jsd:beta=0.2",
    ],
)
def test_gradients_are_the_numerical_ones(text):
    data = inputs(rows=4, classes=4)
    objective = create_objective(text)
    rest = {name: value for name, value in data.items() if name != "student_logits"}
    assert torch.autograd.gradcheck(
        lambda z: objective(student_logits=z, **rest, epoch=30)["total"], (data["student_logits"],)
    )


def test_dtkd_has_the_numerical_gradient_under_its_guard():
    data = inputs(rows=4, classes=4)
    objective = create_objective("dtkd")
    rest = {name: value for name, value in data.items() if name != "student_logits"}
    lowered = (data["student_logits"] - 50).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: objective(student_logits=z, **rest, epoch=30)["total"], (lowered,))


def test_the_teacher_gets_no_gradient():
    data = inputs()
    data["teacher_logits"].requires_grad_()
    for text in ("kd", "cist:rho=3,gradient=full", "dtkd", "mlkd", "wttm", "entropy-matched:H=0.5"):
        create_objective(text)(**data, epoch=1)["total"].backward()
    assert data["teacher_logits"].grad is None


def test_what_is_per_sample_carries_no_graph():
    terms = cist_loss(**inputs(), rho=3, gradient="full")
    assert {name for name, value in terms.items() if value.requires_grad} == {"total", "ce", "kd"}


# --- CTKD: the reversed gradient and its ramp ---


@pytest.mark.parametrize(("loss", "extra"), [(ctkd_loss, {}), (cist_ctkd_loss, {"rho": 4.0, "gradient": "full"})])
@pytest.mark.parametrize("epoch", [0, 2.5, 5, 10, 40])
def test_theta_climbs_the_loss_with_growing_strength(loss, extra, epoch):
    data = inputs()
    theta = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    terms = loss(**data, theta=theta, epoch=epoch, **extra)
    step = 1e-6
    up, down = (loss(**data, theta=0.3 + d, epoch=epoch, **extra)["total"].item() for d in (step, -step))
    strength = (1 - math.cos(math.pi * min(epoch, 10) / 10)) / 2
    expected = -strength * (up - down) / (2 * step)
    assert torch.autograd.grad(terms["total"], theta)[0].item() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert terms["strength"].item() == pytest.approx(strength)


def test_an_optimiser_moves_theta_up_the_loss():
    data = inputs()
    objective = create_objective("ctkd:theta=0")
    before = objective(**data, epoch=20)["total"]
    before.backward()
    torch.optim.SGD(objective.parameters(), lr=1.0).step()
    assert objective(**data, epoch=20)["total"] > before


def test_ctkd_starts_at_the_published_temperature():
    terms = ctkd_loss(**inputs(), epoch=1)
    np.testing.assert_allclose(terms["tau_teacher"], 1 + 20 / (1 + math.exp(-1)), rtol=1e-6)


def test_cist_with_ctkd_starts_as_cist():
    data = inputs()
    torch.testing.assert_close(cist_ctkd_loss(**data, rho=4, epoch=1)["total"], cist_loss(**data, rho=4)["total"])


# --- warm-up ---


@pytest.mark.parametrize(("epoch", "ramp"), [(0, 0), (1, 0.05), (10, 0.5), (20, 1), (200, 1)])
def test_dkd_warms_up_over_twenty_epochs(epoch, ramp):
    terms = dkd_loss(**inputs(), epoch=epoch)
    assert terms["ramp"].item() == ramp
    torch.testing.assert_close(terms["total"], terms["ce"] + ramp * terms["kd"])
    torch.testing.assert_close(terms["kd"], terms["target"] + 8 * terms["non_target"])


# --- constant student rows: a head that starts at zero must not blow up ---


def zero_head():
    data = inputs()
    data["student_logits"] = torch.full((8, 5), 3.7, dtype=torch.float64, requires_grad=True)
    return data


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("mode", MODES)
def test_without_a_floor_a_constant_student_has_the_gradient_of_the_product_weight_at_most(weighting, mode):
    data = zero_head()
    terms = cist_loss(**data, rho=3, floor=0, weighting=weighting, gradient=mode, **ONLY_KL)
    assert (terms["tau_student"] == TAU_MIN).all()
    p, q = soft_labels(terms, data)
    torch.testing.assert_close(q, torch.full_like(q, 0.2))
    bound = torch.minimum(terms["tau_teacher"], terms["weight"] / TAU_MIN)
    torch.testing.assert_close(gradient(terms, data), bound.unsqueeze(-1) * (q - p) / 8)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("mode", MODES)
def test_a_constant_student_is_a_row_at_the_floor_like_any_other(weighting, mode):
    data = zero_head()
    terms = cist_loss(**data, rho=3, weighting=weighting, gradient=mode, **ONLY_KL)
    assert (terms["tau_student"] == 1).all()
    p, q = soft_labels(terms, data)
    torch.testing.assert_close(gradient(terms, data), terms["weight"].unsqueeze(-1) * (q - p) / 8)


@pytest.mark.parametrize("loss", [lskd_loss, normkd_loss])
def test_a_constant_student_has_an_ordinary_gradient_under_lskd_and_normkd(loss):
    data = zero_head()
    terms = loss(**data, **ONLY_KL)
    p, q = soft_labels(terms, data)
    expected = terms["tau_teacher"].unsqueeze(-1) * (q - p) / 8
    torch.testing.assert_close(gradient(terms, data), expected)


def test_a_constant_teacher_teaches_the_uniform_label():
    data = inputs()
    data["teacher_logits"] = torch.full_like(data["teacher_logits"], 12345.678)
    for text in ("cist:rho=3,weighting=none", "lskd", "normkd", "kd"):
        terms = create_objective(text)(**data)
        p = (data["teacher_logits"] / terms["tau_teacher"].unsqueeze(-1)).softmax(-1)
        torch.testing.assert_close(p, torch.full_like(p, 0.2))
        assert gradient(terms, data).isfinite().all()
