"""The weights of the samples and their gradients: against closed forms, finite differences and the whole loss."""

import itertools

import numpy as np
import pytest
import torch
from reference import centred_maximum, cist_temperatures
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata

import cist_core.samples.gradients as gradients
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.logits.logit_set import LogitSet
from cist_core.objectives import cist_loss, kd_loss
from cist_core.objectives.softening import GRADIENTS, WEIGHTINGS
from cist_core.samples.gradients import GradientNorms, cist_gradients, kd_gradients
from cist_core.temperature import TAU_MIN
from cist_core.temperature.weights import (
    WEIGHT_FORMULAS,
    WITHOUT_STUDENT,
    SampleWeights,
    concentration,
    rank_correlation,
    share_of_largest,
)


def logits(samples=60, classes=6, seed=0, scale=6.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, classes)) * rng.uniform(0.5, scale, (samples, 1))


def curves_of(rows):
    return EntropyCurves.from_logits(LogitSet.create(rows))


TEACHER, STUDENT = logits(seed=0), logits(seed=1, scale=3.0)
LABELS = np.random.default_rng(2).integers(0, 6, 60)
CLOSED_FORMS = {
    "product": lambda t, s: t * s,
    "teacher": lambda t, s: t * t,
    "student": lambda t, s: s * s,
    "uniform": lambda t, s: np.full(len(t), np.mean(t * s)),
    "uniform-teacher": lambda t, s: np.full(len(t), np.mean(t) ** 2),
    "none": lambda t, s: np.ones(len(t)),
}


# --- Weights ---


@pytest.mark.parametrize("weighting", CLOSED_FORMS)
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("options", [{}, {"floor": 0.0}, {"floor": 2.5}, {"floor": 1e-3}, {"floor": 50.0}])
def test_every_weighting_is_its_formula(weighting, normalise, options):
    weights = SampleWeights.of(
        curves_of(TEACHER), curves_of(STUDENT), rho=3.0, weighting=weighting, normalise=normalise, **options
    )
    floor = options.get("floor", 1.0)
    tau_t, tau_s = cist_temperatures(TEACHER, 3.0, floor), cist_temperatures(STUDENT, 3.0, floor)
    assert weights.floor == floor
    assert weights.teacher_at_floor == np.mean(centred_maximum(TEACHER) < 3.0 * floor)
    assert weights.student_at_floor == np.mean(centred_maximum(STUDENT) < 3.0 * floor)
    assert 0 < np.mean(centred_maximum(TEACHER) < 3.0) < np.mean(centred_maximum(STUDENT) < 3.0) < 1
    expected = CLOSED_FORMS[weighting](tau_t, tau_s)
    if normalise:
        expected = expected / expected.mean()
    np.testing.assert_allclose(weights.teacher, tau_t, rtol=1e-6)
    np.testing.assert_allclose(weights.student, tau_s, rtol=1e-6)
    np.testing.assert_allclose(weights.weight, expected, rtol=2e-6)
    np.testing.assert_allclose(weights.relative, expected / expected.mean(), rtol=2e-6)


def test_the_objectives_weigh_by_the_same_table():
    assert set(WEIGHT_FORMULAS) == set(CLOSED_FORMS) == set(WEIGHTINGS)
    for weighting, options in itertools.product(CLOSED_FORMS, ({}, {"floor": 0.0})):
        terms = cist_loss(
            student_logits=torch.tensor(STUDENT),
            teacher_logits=torch.tensor(TEACHER),
            labels=torch.tensor(LABELS),
            rho=3.0,
            weighting=weighting,
            **options,
        )
        weights = SampleWeights.of(curves_of(TEACHER), curves_of(STUDENT), rho=3.0, weighting=weighting, **options)
        np.testing.assert_allclose(weights.weight, terms["weight"].numpy(), rtol=2e-6)


def test_effective_samples_of_weights_that_are_known():
    # One sample is three times as confident as the other: weights 9 and 1 under `teacher`.
    rows = np.array([[6.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    weights = SampleWeights.of(curves_of(rows), rho=2.0, weighting="teacher", floor=0)
    assert weights.effective_samples == pytest.approx(100 / 82)
    assert weights.effective_share == pytest.approx(50 / 82)
    assert weights.spread == pytest.approx(0.8)
    assert weights.quantiles((0.0, 1.0)) == pytest.approx((4 / 9, 4.0))


def test_the_floor_keeps_the_least_confident_sample_heard():
    """The same two samples: at the floor of 1 the smaller temperature is 1 instead of 2/3, weights 4 and 1."""
    rows = np.array([[6.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    weights = SampleWeights.of(curves_of(rows), rho=2.0, weighting="teacher")
    assert weights.weight == pytest.approx([4.0, 1.0])
    assert weights.effective_samples == pytest.approx(25 / 17)
    assert (weights.teacher_at_floor, weights.student_at_floor) == (0.5, None)


@pytest.mark.parametrize("weighting", ["uniform", "uniform-teacher", "none"])
def test_equal_weights_count_every_sample_and_raise_none(weighting):
    weights = SampleWeights.of(curves_of(TEACHER), curves_of(STUDENT), rho=3.0, weighting=weighting)
    assert weights.equal
    assert weights.effective_samples == 60
    assert weights.spread == 0
    assert len(weights.raised(5)) == len(weights.lowered(5)) == 0


def test_raised_and_lowered_are_the_ends_of_the_sorted_weights():
    weights = SampleWeights.of(curves_of(TEACHER), curves_of(STUDENT), rho=3.0, floor=0)
    order = np.argsort(centred_maximum(TEACHER) * centred_maximum(STUDENT))
    assert weights.raised(4).tolist() == order[::-1][:4].tolist()
    assert weights.lowered(4).tolist() == order[:4].tolist()
    above = np.count_nonzero(weights.weight > weights.weight.mean())
    assert (len(weights.raised(60)), len(weights.lowered(60))) == (above, 60 - above)


@pytest.mark.parametrize(("floor", "smallest"), [(0.0, TAU_MIN), (1.0, 1.0)])
def test_a_constant_row_has_the_smallest_temperature_and_no_nan(floor, smallest):
    rows = TEACHER.copy()
    rows[7] = 2.0
    weights = SampleWeights.of(curves_of(rows), curves_of(rows), rho=3.0, floor=floor)
    assert weights.weight[7] == weights.weight.min() == pytest.approx(smallest**2)
    assert (weights.lowered(1).tolist() == [7]) or floor
    assert np.isfinite(weights.relative).all()


@pytest.mark.parametrize("weighting", CLOSED_FORMS)
def test_without_a_student_only_some_weightings_are_possible(weighting):
    if weighting in WITHOUT_STUDENT:
        weights = SampleWeights.of(curves_of(TEACHER), rho=3.0, weighting=weighting)
        assert weights.student is None
        expected = CLOSED_FORMS[weighting](cist_temperatures(TEACHER, 3.0), None)
        np.testing.assert_allclose(weights.weight, expected, rtol=2e-6)
    else:
        with pytest.raises(
            CistError, match=f"'{weighting}' needs the temperatures of a student.*: teacher, uniform-teacher, none"
        ):
            SampleWeights.of(curves_of(TEACHER), rho=3.0, weighting=weighting)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weighting": "cubic"}, "no weighting 'cubic'; known are product, teacher, student, uniform, uniform-teacher"),
        (
            {"student": EntropyCurves.from_logits(LogitSet.create(STUDENT, np.roll(LABELS, 1)))},
            "the teacher's samples in the same order, but the labels differ",
        ),
        ({"student": curves_of(STUDENT[:50])}, "60 samples and 6 classes, but they have 50 samples and 6 classes"),
        ({"student": curves_of(STUDENT[:, :5])}, "60 samples and 5 classes"),
        ({"rho": 0.0}, "rho.*positive.*got 0"),
        ({"floor": -1.0}, "floor.*0 or a positive number, but got -1"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    teacher = EntropyCurves.from_logits(LogitSet.create(TEACHER, LABELS))
    with pytest.raises(CistError, match=words):
        SampleWeights.of(teacher, **{"student": curves_of(STUDENT), "rho": 3.0} | change)


def test_concentration_is_that_of_a_sorted_sum():
    values = np.random.default_rng(3).exponential(size=200)
    parts, held = concentration(values)
    assert (parts[0], held[0], parts[-1], held[-1]) == (0.0, 0.0, 1.0, pytest.approx(1.0))
    assert share_of_largest(values, 0.1) == pytest.approx(np.sort(values)[-20:].sum() / values.sum())
    # The Gini coefficient by its definition, from all pairs.
    gini = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert np.trapezoid(held, parts) * 2 - 1 == pytest.approx(gini)


@pytest.mark.parametrize("values", [np.full(8, 3.0), np.zeros(8)])
def test_equal_values_are_not_concentrated(values):
    assert share_of_largest(values, 0.25) == pytest.approx(0.25)


def test_rank_correlation_is_the_correlation_of_the_ranks():
    a, b = TEACHER[:, 0], TEACHER[:, 0] ** 3 + STUDENT[:, 0]
    assert rank_correlation(a, b) == pytest.approx(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
    assert rank_correlation(a, np.ones(60)) is None


# --- Gradients ---


@pytest.fixture(params=["one chunk", "chunks of seven rows"])
def _chunks(request, monkeypatch):
    if request.param != "one chunk":
        monkeypatch.setattr(gradients, "CHUNK_VALUES", 7 * 6)


def whole(loss, student=STUDENT, **parameters):
    """Norms of the gradient of the whole loss on the whole set at once."""
    leaf = torch.tensor(student, requires_grad=True)
    terms = loss(student_logits=leaf, teacher_logits=torch.tensor(TEACHER), labels=torch.tensor(LABELS), **parameters)
    return torch.autograd.grad(terms["total"], leaf)[0].norm(dim=1).numpy()


BOTH = {"student_logits": STUDENT, "teacher_logits": TEACHER}
ALL_TERMS = {"labels": LABELS, "lambda_ce": 0.1, "lambda_kl": 0.9}


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize(
    ("weighting", "normalise", "gradient", "floor"),
    [
        *itertools.product(WEIGHTINGS, [False, True], GRADIENTS, [1.0]),
        *itertools.product(["product", "uniform"], [False], GRADIENTS, [0.0]),
    ],
)
def test_chunks_have_the_gradient_of_the_whole_loss(weighting, normalise, gradient, floor):
    student = STUDENT.copy()
    student[5] = 1.5  # a constant row, whose gradient the objective bounds
    options = {"rho": 3.0, "floor": floor, "weighting": weighting, "normalise": normalise, "gradient": gradient}
    result = cist_gradients(student_logits=student, teacher_logits=TEACHER, **options, **ALL_TERMS)
    np.testing.assert_allclose(result.norm, whole(cist_loss, student, **options), rtol=1e-9, atol=1e-14)


@pytest.mark.usefixtures("_chunks")
def test_knowledge_distillation_has_the_gradient_of_the_whole_loss():
    result = kd_gradients(**BOTH, tau=4.0, **ALL_TERMS)
    np.testing.assert_allclose(result.norm, whole(kd_loss, tau=4.0), rtol=1e-9)


def test_knowledge_distillation_pulls_by_tau_times_the_difference():
    """``dL_i / dz_s = tau (q - p) / N`` for ``tau^2 KL``."""
    difference = softmax(STUDENT / 4.0, axis=1) - softmax(TEACHER / 4.0, axis=1)
    result = kd_gradients(**BOTH, tau=4.0)
    np.testing.assert_allclose(result.norm, 4.0 * np.linalg.norm(difference, axis=1) / 60, rtol=1e-9)
    assert result.share.sum() == pytest.approx(1.0)


def soft_labels(floor, rho=3.0):
    tau_t, tau_s = cist_temperatures(TEACHER, rho, floor), cist_temperatures(STUDENT, rho, floor)
    return tau_t, tau_s, softmax(TEACHER / tau_t[:, None], axis=1), softmax(STUDENT / tau_s[:, None], axis=1)


@pytest.mark.parametrize("floor", [0.0, 1.0, 2.5, 50.0])
def test_constant_student_temperature_pulls_by_the_teachers_temperature_times_the_difference(floor):
    """``dL_i / dz_s = tau_t,i (q_i - p_i) / N``: the weight's ``tau_s`` cancels ``1 / tau_s``, at the floor as well."""
    tau_t, _, p, q = soft_labels(floor)
    result = cist_gradients(**BOTH, rho=3.0, floor=floor, gradient="constant")
    np.testing.assert_allclose(result.norm, tau_t * np.linalg.norm(q - p, axis=1) / 60, rtol=1e-9)


def test_the_default_gradient_is_constant_at_a_floor_of_one():
    tau_t, _, p, q = soft_labels(1.0)
    np.testing.assert_allclose(
        cist_gradients(**BOTH, rho=3.0).norm, tau_t * np.linalg.norm(q - p, axis=1) / 60, rtol=1e-9
    )
    everywhere = cist_gradients(**BOTH, rho=3.0, floor=50.0)  # all at the floor: KD at tau = 50
    np.testing.assert_allclose(everywhere.norm, kd_gradients(**BOTH, tau=50.0).norm, rtol=1e-9)


@pytest.mark.parametrize("floor", [0.0, 1.0])
@pytest.mark.parametrize(("gradient", "live_weight"), [("scale-free", False), ("full", True)])
def test_gradients_through_the_temperature_agree_with_finite_differences(gradient, live_weight, floor):
    tau_t, constant_tau_s, p, _ = soft_labels(floor)

    def loss(student):
        tau_s = cist_temperatures(student, 3.0, floor)
        log_q = log_softmax(student / tau_s[:, None], axis=1)
        weight = tau_t * (tau_s if live_weight else constant_tau_s)
        return np.mean(weight * np.sum(p * (np.log(p) - log_q), axis=1))

    step = 1e-6
    numeric = np.zeros_like(STUDENT)
    for place in np.ndindex(STUDENT.shape):
        moved = np.zeros_like(STUDENT)
        moved[place] = step
        numeric[place] = (loss(STUDENT + moved) - loss(STUDENT - moved)) / (2 * step)
    result = cist_gradients(**BOTH, rho=3.0, floor=floor, gradient=gradient)
    np.testing.assert_allclose(result.norm, np.linalg.norm(numeric, axis=1), rtol=1e-5, atol=1e-9)


def test_half_precision_logits_are_differentiated_in_single_precision():
    half = {name: rows.astype(np.float16) for name, rows in BOTH.items()}
    exact = {name: rows.astype(np.float64) for name, rows in half.items()}
    np.testing.assert_allclose(
        cist_gradients(**half, rho=3.0).norm, cist_gradients(**exact, rho=3.0).norm, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize(("gradients_of", "options"), [(kd_gradients, {"tau": 4.0}), (cist_gradients, {"rho": 3.0})])
def test_half_precision_logits_of_many_samples_lose_no_gradient(gradients_of, options):
    """Over so many samples a gradient is below what half precision can hold."""
    both = {"student_logits": logits(20_000, seed=1, scale=3.0), "teacher_logits": logits(20_000, seed=0)}
    half = {name: rows.astype(np.float16) for name, rows in both.items()}
    norm, single, double = (
        gradients_of(**{name: rows.astype(kind) for name, rows in half.items()}, **options).norm
        for kind in (np.float16, np.float32, np.float64)
    )
    np.testing.assert_allclose(norm, single, rtol=1e-5, atol=0)
    np.testing.assert_allclose(norm, double, rtol=1e-3, atol=0)
    mixed = gradients_of(student_logits=half["student_logits"], teacher_logits=both["teacher_logits"], **options).norm
    wide = {"student_logits": half["student_logits"].astype(np.float64), "teacher_logits": both["teacher_logits"]}
    np.testing.assert_allclose(mixed, gradients_of(**wide, **options).norm, rtol=1e-5, atol=0)


def test_a_student_that_agrees_pulls_nowhere():
    for result in (
        kd_gradients(student_logits=TEACHER, teacher_logits=TEACHER, tau=2.0),
        cist_gradients(student_logits=2 * TEACHER, teacher_logits=TEACHER, rho=3.0, floor=0),  # the scale is free
        cist_gradients(student_logits=TEACHER, teacher_logits=TEACHER, rho=3.0),
    ):
        assert result.norm.max() < 1e-14


def test_where_nobody_pulls_the_shares_are_equal():
    result = GradientNorms.of(np.zeros(60))
    np.testing.assert_allclose(result.share, 1 / 60)
    assert result.held_by(0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("function", "change", "words"),
    [
        (kd_gradients, {"tau": 0.0}, "temperature to be above 0, but got 0"),
        (kd_gradients, {"tau": 2.0, "lambda_ce": 0.1}, "needs labels.*set lambda_ce to 0"),
        (kd_gradients, {"tau": 2.0, "student_logits": STUDENT[:9]}, "they have 9 samples"),
        (cist_gradients, {"rho": -1.0}, "rho to be above 0, but got -1"),
        (cist_gradients, {"rho": 3.0, "floor": -1.0}, "floor to be a finite number of 0 or above, but got -1"),
        (cist_gradients, {"rho": 3.0, "floor": float("inf")}, "floor to be a finite number of 0 or above, but got inf"),
        (cist_gradients, {"rho": 3.0, "weighting": "cubic"}, "no weighting 'cubic'"),
        (cist_gradients, {"rho": 3.0, "gradient": "none"}, "no gradient mode 'none'; known are scale-free"),
    ],
)
def test_gradients_of_what_does_not_fit(function, change, words):
    with pytest.raises(CistError, match=words):
        function(**BOTH | change)
