"""The values of every objective: against frozen float64 NumPy, SciPy, and one another where they meet."""

import json
import math

import numpy as np
import pytest
import torch
from objectives.objective_reference import CASES, FROZEN, example
from objectives.objective_reference import reference as numpy_reference
from scipy.special import softmax
from scipy.stats import entropy

from cist_core import CistError
from cist_core.objectives import (
    cist_dkd_loss,
    cist_loss,
    create_objective,
    dkd_loss,
    dtkd_loss,
    entropy_matched_loss,
    jsd_loss,
    kd_entropy_outliers_ce_loss,
    kd_entropy_outliers_ht_loss,
    kd_entropy_threshold_ce_loss,
    kd_entropy_threshold_ht_loss,
    kd_loss,
    mlkd_loss,
    objective_names,
    reverse_kl_loss,
    wttm_loss,
)
from cist_core.objectives.divergences import forward_kl, jensen_shannon, non_target_kl, reverse_kl, target_kl
from cist_core.objectives.methods import mlkd
from cist_core.objectives.softening import WEIGHTINGS

FROZEN_VALUES = json.loads(FROZEN.read_text())


def inputs(dtype=torch.float64, **kwargs):
    data = example(**kwargs)
    return {
        "student_logits": torch.tensor(data["student"], dtype=dtype),
        "teacher_logits": torch.tensor(data["teacher"], dtype=dtype),
        "labels": torch.tensor(data["labels"]),
    }


@pytest.mark.parametrize("text", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_every_objective_has_its_frozen_value(text, dtype, tolerance):
    data = {name: torch.from_numpy(np.array(values)) for name, values in FROZEN_VALUES["inputs"].items()}
    views = {}
    if "mlkd" in text:
        views = {f"strong_{model}_logits": data[f"strong_{model}"].to(dtype) for model in ("student", "teacher")}
    terms = create_objective(text)(
        student_logits=data["student"].to(dtype),
        teacher_logits=data["teacher"].to(dtype),
        labels=data["labels"],
        epoch=FROZEN_VALUES["epoch"],
        **views,
    )
    for name, expected in FROZEN_VALUES["expected"][text].items():
        assert terms[name].dtype == dtype
        assert terms[name].item() == pytest.approx(expected, rel=tolerance), name


def test_every_registered_objective_has_a_frozen_value():
    assert {text.partition(":")[0] for text in CASES} == set(objective_names())


def test_the_frozen_values_are_those_of_the_formulas():
    data = {name: np.array(values) for name, values in FROZEN_VALUES["inputs"].items()}
    for text, expected in FROZEN_VALUES["expected"].items():
        assert numpy_reference(text, data) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_divergences_against_scipy(classes):
    rng = np.random.default_rng(classes)
    z_t, z_s = rng.standard_normal((2, 40, classes)) * 4
    p, q = softmax(z_t, axis=1), softmax(z_s, axis=1)
    log_p, log_q = torch.tensor(z_t).log_softmax(-1), torch.tensor(z_s).log_softmax(-1)
    np.testing.assert_allclose(forward_kl(log_p, log_q), entropy(p, q, axis=1), rtol=1e-9)
    np.testing.assert_allclose(reverse_kl(log_p, log_q), entropy(q, p, axis=1), rtol=1e-9)
    m = 0.3 * p + 0.7 * q
    expected = 0.3 * entropy(p, m, axis=1) + 0.7 * entropy(q, m, axis=1)
    np.testing.assert_allclose(jensen_shannon(log_p, log_q, beta=0.3), expected, rtol=1e-9)


def test_kl_is_accurate_in_float32_where_the_soft_labels_underflow():
    z_t, z_s = np.array([[200.0, 0.0, -300.0]]), np.array([[0.0, 150.0, -10.0]])
    terms = kd_loss(
        student_logits=torch.tensor(z_s, dtype=torch.float32),
        teacher_logits=torch.tensor(z_t, dtype=torch.float32),
        labels=torch.tensor([0]),
        tau=1,
    )
    assert terms["kl"].item() == pytest.approx(150, rel=1e-6)


# --- where methods meet ---


def test_cist_is_kd_at_that_tau_where_all_maxima_are_equal():
    data = inputs()
    for model in ("student_logits", "teacher_logits"):
        centred = data[model] - data[model].mean(1, keepdim=True)
        data[model] = 12 * centred / centred.amax(1, keepdim=True)
    terms = cist_loss(**data, rho=4)
    torch.testing.assert_close(terms["tau_teacher"], torch.full((8,), 3.0, dtype=torch.float64))
    for weighting in ("product", "teacher", "student", "uniform", "uniform-teacher"):
        torch.testing.assert_close(
            cist_loss(**data, rho=4, weighting=weighting)["total"], kd_loss(**data, tau=3)["total"]
        )


def test_cist_is_kd_at_the_floor_where_the_floor_binds_on_every_row():
    data = inputs()
    torch.testing.assert_close(cist_loss(**data, rho=3, floor=30)["total"], kd_loss(**data, tau=30)["total"])


def test_wttm_with_gamma_one_is_kd_at_tau_one():
    data = inputs()
    wttm = wttm_loss(**data, gamma=1, beta=0.9, lambda_ce=0.1)
    torch.testing.assert_close(wttm["weight"], torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close(wttm["total"], kd_loss(**data, tau=1)["total"])


def test_the_parts_of_dkd_sum_to_kd_with_the_weight_of_the_other_classes():
    data = inputs()
    log_p, log_q = ((data[f"{model}_logits"] / 4).log_softmax(-1) for model in ("teacher", "student"))
    labels = data["labels"]
    p_y = log_p.exp().gather(1, labels[:, None])[:, 0]
    total = target_kl(log_p, log_q, labels) + (1 - p_y) * non_target_kl(log_p, log_q, labels)
    torch.testing.assert_close(total, kd_loss(**data, tau=4)["kl"])


def test_cist_dkd_is_dkd_where_all_maxima_are_equal():
    data = inputs()
    for model in ("student_logits", "teacher_logits"):
        centred = data[model] - data[model].mean(1, keepdim=True)
        data[model] = 12 * centred / centred.amax(1, keepdim=True)
    expected = dkd_loss(**data, tau=3, warmup=0)["total"]
    torch.testing.assert_close(cist_dkd_loss(**data, rho=4, warmup=0)["total"], expected)


def test_two_classes_have_no_non_target_part():
    data = inputs(classes=2)
    assert dkd_loss(**data, warmup=0)["non_target"].item() == 0


def test_dtkd_with_equal_maxima_is_kd():
    data = inputs()
    for model in ("student_logits", "teacher_logits"):
        data[model] = data[model] - data[model].amax(1, keepdim=True) + 5
    terms = dtkd_loss(**data, alpha=0.5, beta=0.5, warmup=0)
    torch.testing.assert_close(terms["kd"], kd_loss(**data, tau=4)["kd"])


def test_dtkd_keeps_the_ranking_where_raw_maxima_are_negative():
    data = inputs()
    data["student_logits"] = data["student_logits"] - 100
    terms = dtkd_loss(**data, warmup=0)
    assert (terms["tau_teacher"] > 0).all()
    assert (terms["tau_student"] > 0).all()
    torch.testing.assert_close(terms["tau_teacher"] + terms["tau_student"], torch.full((8,), 8.0, dtype=torch.float64))


def test_jensen_shannon_is_symmetric_at_one_half_and_tends_to_both_kl():
    data = inputs()
    swapped = {**data, "student_logits": data["teacher_logits"], "teacher_logits": data["student_logits"]}
    torch.testing.assert_close(jsd_loss(**data)["kd"], jsd_loss(**swapped)["kd"])
    small = 1e-6
    torch.testing.assert_close(jsd_loss(**data, beta=small)["kd"] / small, kd_loss(**data)["kd"], rtol=1e-4, atol=0)
    near_one = jsd_loss(**data, beta=1 - small)["kd"] / small
    torch.testing.assert_close(near_one, reverse_kl_loss(**data)["kd"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("H", [0.05, 0.7, 1.5])
def test_entropy_matched_gives_exactly_that_entropy(H):
    data = inputs()
    terms = entropy_matched_loss(**data, H=H)
    for model in ("teacher", "student"):
        labels = softmax(data[f"{model}_logits"].numpy() / terms[f"tau_{model}"].numpy()[:, None], axis=1)
        np.testing.assert_allclose(entropy(labels, axis=1), H, rtol=1e-10)


def test_equal_logits_up_to_scale_leave_cist_nothing_to_teach():
    data = inputs()
    data["student_logits"] = 0.3 * data["teacher_logits"] + 7
    assert cist_loss(**data, rho=4, floor=0)["kd"].item() == pytest.approx(0, abs=1e-12)
    assert cist_loss(**data, rho=4)["kd"].item() > 0.01  # most of the student's rows are at the floor
    assert kd_loss(**data)["kd"].item() > 0.01


# --- weights, outliers, masks ---


def test_weightings_and_normalisation():
    data = inputs()
    plain = cist_loss(**data, rho=3)
    t, s = plain["tau_teacher"], plain["tau_student"]
    for weighting, expected in {
        "product": t * s,
        "teacher": t**2,
        "student": s**2,
        "uniform": torch.full_like(t, (t * s).mean().item()),
        "uniform-teacher": torch.full_like(t, t.mean().item() ** 2),
        "none": torch.ones_like(t),
    }.items():
        weight = cist_loss(**data, rho=3, weighting=weighting)["weight"]
        torch.testing.assert_close(weight, expected)
        normalised = cist_loss(**data, rho=3, weighting=weighting, normalise=True)["weight"]
        torch.testing.assert_close(normalised, expected / expected.mean())


def test_beyond_the_thresholds_samples_leave_kd_and_only_they():
    student, teacher = torch.randn(4, 10), torch.randn(4, 10)
    teacher[0, 3] = 80.0  # over-sharp at tau 4
    teacher[1] *= 1e-3  # over-smoothed
    labels = torch.tensor([3, 1, 2, 0])
    data = {"student_logits": student, "teacher_logits": teacher, "labels": labels}
    hard = kd_entropy_threshold_ce_loss(**data, high=0.9999)
    assert hard["weight"].tolist() == [0, 0, 16, 16]
    assert hard["outliers"].item() == 0.5
    ordinary = 16 * kd_loss(**data)["kl"]
    cross_entropy = torch.nn.functional.cross_entropy(student, labels, reduction="none")
    expected = torch.cat([cross_entropy[:2], ordinary[2:]]).mean()
    torch.testing.assert_close(hard["kd"], expected)
    higher = kd_entropy_threshold_ht_loss(**data, higher_tau=10)
    assert higher["tau_teacher"].tolist() == higher["tau_student"].tolist() == [10, 4, 4, 4]
    assert higher["weight"].tolist() == [100, 16, 16, 16]


def confident(rows, classes=10, seed=0):
    """A batch whose soft labels become sharper from its last row to its first."""
    rng = np.random.default_rng(seed)
    teacher = rng.standard_normal((rows, classes)) * 0.1
    teacher[:, 3] += np.linspace(20, 0.2, rows)
    return {
        "student_logits": torch.tensor(rng.standard_normal((rows, classes))),
        "teacher_logits": torch.tensor(teacher),
        "labels": torch.tensor(rng.integers(0, classes, rows)),
    }


@pytest.mark.parametrize(
    ("rows", "share", "sides", "low", "high"),
    [
        (1, 0.05, "low", 1, 0),
        (1, 0.05, "both", 1, 0),  # the one sample cannot be at both ends
        (2, 0.05, "both", 1, 1),
        (19, 0.05, "low", 1, 0),
        (39, 0.05, "low", 1, 0),
        (40, 0.05, "low", 2, 0),
        (64, 0.05, "low", 3, 0),
        (64, 0.05, "both", 1, 1),
        (128, 0.05, "both", 3, 3),
        (10, 1.0, "low", 10, 0),
        (10, 1.0, "both", 5, 5),
    ],
)
def test_entropy_outliers_are_a_share_of_the_batch(rows, share, sides, low, high):
    data = confident(rows)
    terms = kd_entropy_outliers_ht_loss(**data, sides=sides, share=share)
    assert terms["tau_teacher"].tolist() == [5.0] * low + [4.0] * (rows - low - high) + [3.0] * high
    assert torch.equal(terms["tau_student"], terms["tau_teacher"])
    assert torch.equal(terms["weight"], terms["tau_teacher"] ** 2)
    hard = kd_entropy_outliers_ce_loss(**data, sides=sides, share=share)
    assert hard["weight"].tolist() == [0.0] * low + [16.0] * (rows - low - high) + [0.0] * high
    assert hard["outliers"].item() == terms["outliers"].item() == pytest.approx((low + high) / rows)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("floor", [0, 0.4, 1, 3, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_cist_is_its_formula_under_every_weighting_and_floor(weighting, normalise, floor, seed):
    data = example(seed=seed, rows=16, classes=20)
    z_t, z_s, y = data["teacher"], data["student"], data["labels"]
    t, s = (np.maximum((z - z.mean(1, keepdims=True)).max(1) / 2.5, floor) for z in (z_t, z_s))
    w = {
        "product": t * s,
        "teacher": t * t,
        "student": s * s,
        "uniform": np.mean(t * s),
        "uniform-teacher": np.mean(t) ** 2,
        "none": 1.0,
    }[weighting] * np.ones(16)
    w = w / w.mean() if normalise else w
    divergence = entropy(softmax(z_t / t[:, None], axis=1), softmax(z_s / s[:, None], axis=1), axis=1)
    hard = -np.log(softmax(z_s, axis=1)[np.arange(16), y]).mean()
    terms = cist_loss(
        **inputs(seed=seed, rows=16, classes=20),
        **{"rho": 2.5, "floor": floor, "weighting": weighting, "normalise": normalise},
        **{"lambda_ce": 0.3, "lambda_kl": 4},
    )
    np.testing.assert_allclose(terms["weight"], w, rtol=1e-12)
    np.testing.assert_allclose(terms["kl"], divergence, rtol=1e-9)
    assert terms["total"].item() == pytest.approx(0.3 * hard + 4 * np.mean(w * divergence), rel=1e-10)


@pytest.mark.parametrize("sides", ["low", "both"])
def test_outliers_learn_from_the_hard_label_alone(sides):
    data = confident(40)
    terms = kd_entropy_outliers_ce_loss(**data, sides=sides, share=0.2, lambda_ce=0.3, lambda_kl=2)
    z_s, z_t, y = (data[name].numpy() for name in ("student_logits", "teacher_logits", "labels"))
    p, q = softmax(z_t / 4, axis=1), softmax(z_s / 4, axis=1)
    hard = -np.log(softmax(z_s, axis=1)[np.arange(40), y])
    order = np.argsort(entropy(p, axis=1))
    outlier = np.isin(np.arange(40), order[:8] if sides == "low" else [*order[:4], *order[-4:]])
    expected = np.where(outlier, hard, 0.3 * hard + 2 * 16 * entropy(p, q, axis=1)).mean()
    assert terms["total"].item() == pytest.approx(expected, rel=1e-12)
    assert terms["outlier_ce"].item() == pytest.approx((hard * outlier).mean(), rel=1e-12)
    ce, outlier_ce, kd = (terms[name].item() for name in ("ce", "outlier_ce", "kd"))
    assert terms["total"].item() == pytest.approx(0.3 * (ce - outlier_ce) + outlier_ce + 2 * kd)


@pytest.mark.parametrize("sides", ["low", "both"])
def test_of_tied_entropies_the_earlier_samples_are_the_outliers(sides):
    data = confident(1)
    tied = {name: torch.cat([value] * 12) for name, value in data.items()}
    taus = kd_entropy_outliers_ht_loss(**tied, sides=sides, share=0.5)["tau_teacher"].tolist()
    # Both ends begin with the first sample; the low one has it, and the high one gets none of those.
    assert taus == ([5.0] * 6 + [4.0] * 6 if sides == "low" else [5.0] * 3 + [4.0] * 9)


@pytest.mark.parametrize(("tau", "step"), [(1, 1), (0.5, 1), (2, 3)])
def test_a_lower_temperature_that_is_not_positive_is_refused(tau, step):
    kd_entropy_outliers_ht_loss(**inputs(), tau=tau, step=step)  # the low side only adds
    with pytest.raises(CistError, match=r"tau - step = .* not positive; choose a larger tau"):
        kd_entropy_outliers_ht_loss(**inputs(), tau=tau, step=step, sides="both")


@pytest.mark.parametrize("keep", [0.1, 0.37, 0.5, 1.0])
def test_the_quantile_of_the_masks_is_numpys_over_what_is_present(keep):
    values = np.random.default_rng(0).standard_normal(23)
    present = np.arange(23) % 3 != 1
    found = mlkd.masked_quantile(torch.tensor(values), torch.tensor(present), keep)
    assert found.item() == pytest.approx(np.quantile(values[present], keep), rel=1e-12)


def test_the_masks_of_mlkd_select():
    data = inputs()
    terms = mlkd_loss(**data)
    confidence = data["teacher_logits"].softmax(-1).amax(-1)
    kept = confidence <= confidence.quantile(0.5)
    assert kept.sum() == 4
    assert ((terms["weight"] > 0) == kept).all()
    # What the student says of a sample that the mask leaves out does not move the instance or the batch level.
    moved = {**data, "student_logits": data["student_logits"] + 3 * torch.randn(8, 5) * ~kept[:, None]}
    torch.testing.assert_close(mlkd_loss(**moved)["instance"], terms["instance"])
    torch.testing.assert_close(mlkd_loss(**moved)["batch"], terms["batch"])
    assert mlkd_loss(**moved, keep=1)["instance"] != mlkd_loss(**data, keep=1)["instance"]


@pytest.mark.parametrize("classes", [2, 10, 300])
@pytest.mark.parametrize("floor", [0, 1])
def test_cist_makes_the_ratio_rho_for_both_models_above_the_floor(classes, floor):
    data = inputs(torch.float32, classes=classes)
    terms = cist_loss(**data, rho=5, floor=floor)
    for model in ("teacher", "student"):
        z = data[f"{model}_logits"].double()
        maximum = z.amax(1) - z.mean(1)
        expected = torch.full_like(maximum, 5) if floor == 0 else maximum.clamp(max=5)
        torch.testing.assert_close((maximum / terms[f"tau_{model}"]).float(), expected.float())


def test_normalised_entropy_of_thresholds_is_that_of_scipy():
    data = inputs()
    share = entropy(softmax(data["teacher_logits"].numpy() / 4, axis=1), axis=1) / math.log(5)
    middle = float(np.sort(share)[3:5].mean())
    terms = kd_entropy_threshold_ce_loss(**data, low=middle, high=1.0)
    assert ((terms["weight"] == 0).numpy() == (share < middle)).all()
