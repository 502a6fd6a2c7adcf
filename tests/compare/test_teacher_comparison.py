"""Teachers compared: divergences and agreement against SciPy, findings in both directions, real teachers."""

import dataclasses

import numpy as np
import pytest
from reference import centred_maximum, cist_temperatures, entropy_at, entropy_at_cist
from scipy.special import log_softmax, softmax

from cist_core import CistError, EntropyCurves, LogitSet, default_pair, match_rho, match_tau, read_logits
from cist_core.compare.teacher_comparison import (
    CIST,
    FIXED,
    CapacityGap,
    TeacherReading,
    consistency_finding,
    nearness_finding,
    read_teacher,
)
from cist_core.logits.calibration import fit_temperature
from cist_core.temperature import Cist


@pytest.fixture
def teacher(logits, labels) -> LogitSet:
    """A sharp teacher: at the floor of 1 its mean entropy is 6 % of ln C."""
    return LogitSet.create(4 * logits, labels)


@pytest.fixture
def student(logits, labels) -> LogitSet:
    noise = np.random.default_rng(5).standard_normal(logits.shape) * 2
    return LogitSet.create((4 * logits / 3 + noise).astype(np.float32), labels)


def mean_divergence(teacher, student, tau, other_tau) -> float:
    rows, others = (np.asarray(part, np.float64) for part in (teacher, student))
    log_p, log_q = log_softmax(rows / tau, axis=1), log_softmax(others / other_tau, axis=1)
    return float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=1)))


@pytest.mark.parametrize("options", [{}, {"floor": 0.0}, {"floor": 2.0}])
def test_the_gap_is_the_one_of_the_definitions(teacher, student, options):
    gap = CapacityGap.of(teacher, student, rho=3.0, **options)
    rows, others = teacher.logits, student.logits
    assert gap.agreement == np.mean(softmax(rows, axis=1).argmax(axis=1) == softmax(others, axis=1).argmax(axis=1))
    assert gap.kl == pytest.approx(mean_divergence(rows, others, 1.0, 1.0), rel=1e-4)
    floor = options.get("floor", 1.0)
    tau, other_tau = (cist_temperatures(part, 3.0, floor)[:, None] for part in (rows, others))
    assert gap.kl_cist == pytest.approx(mean_divergence(rows, others, tau, other_tau), rel=1e-4)
    assert gap.scale == pytest.approx(centred_maximum(rows).mean() / centred_maximum(others).mean(), rel=1e-5)
    assert gap.accuracy == pytest.approx(
        np.mean(rows.argmax(1) == teacher.labels) - np.mean(others.argmax(1) == teacher.labels)
    )


def test_a_student_of_another_scale_only_has_no_gap_under_cist(teacher):
    smaller = LogitSet.create(teacher.logits / 4, teacher.labels)
    gap = CapacityGap.of(teacher, smaller, rho=3.0, floor=0)
    assert (gap.agreement, gap.accuracy) == (1.0, 0.0)
    assert gap.scale == pytest.approx(4, rel=1e-5)
    assert gap.kl_cist == pytest.approx(0, abs=1e-5)
    assert gap.kl > 0.1


def test_the_floor_asks_a_student_of_a_smaller_scale_to_grow(teacher):
    """At the floor its soft labels are softer than the teacher's, and the divergence is the price."""
    gaps = [
        CapacityGap.of(teacher, LogitSet.create(teacher.logits / scale), rho=3.0).kl_cist for scale in (1, 4, 16, 64)
    ]
    assert gaps[0] == pytest.approx(0, abs=1e-6)
    assert gaps == sorted(gaps)
    assert gaps[-1] > 0.3


def test_logits_of_two_precisions_compare(teacher, student):
    half = LogitSet.create(student.logits.astype(np.float16), student.labels)
    assert half.logits.dtype == np.float16
    expected = CapacityGap.of(teacher, student, rho=3.0)
    assert CapacityGap.of(teacher, half, rho=3.0).kl == pytest.approx(expected.kl, rel=2e-2)
    assert CapacityGap.of(half, teacher, rho=3.0).agreement == pytest.approx(expected.agreement, abs=0.02)


def test_logits_of_other_samples_are_refused(teacher, labels):
    with pytest.raises(CistError, match="300 samples and 10 classes, but they have 299 samples and 10 classes"):
        CapacityGap.of(teacher, teacher.take(np.arange(299)), rho=3.0)
    others = LogitSet.create(teacher.logits, np.roll(labels, 1))
    with pytest.raises(CistError, match="but the labels differ, first at sample"):
        read_teacher("example", teacher, student=others)


def test_curves_at_hand_are_not_built_again(teacher, student, monkeypatch):
    """Every teacher is compared with the same student."""
    expected = read_teacher("example", teacher, student=student).gap
    at_hand, build, built = EntropyCurves.from_logits(student), EntropyCurves.from_logits, []
    monkeypatch.setattr(EntropyCurves, "from_logits", lambda logit_set: built.append(logit_set) or build(logit_set))
    assert read_teacher("example", teacher, student=student, student_curves=at_hand).gap == expected
    assert built == [teacher]


def test_a_teacher_is_read_where_its_mean_entropy_is_the_target(teacher, student):
    reading = read_teacher("example", teacher, target=0.3, student=student)
    wanted = 0.3 * np.log(10)
    assert reading.cist.rule == Cist(reading.rho)
    curves = EntropyCurves.from_logits(teacher)
    assert reading.tau == pytest.approx(match_tau(curves, wanted), rel=1e-4)
    assert reading.rho == pytest.approx(match_rho(curves, wanted), rel=1e-4)
    assert entropy_at(teacher.logits, reading.tau).mean() == pytest.approx(wanted, abs=1e-3)
    assert reading.cist.profile.mean == pytest.approx(wanted, abs=1e-3)
    assert reading.gain == pytest.approx(reading.fixed.profile.std / reading.cist.profile.std)
    assert reading.gap == CapacityGap.of(teacher, student, reading.rho)
    assert reading.accuracy == teacher.accuracy
    assert reading.calibration.nll_before == pytest.approx(teacher.nll, rel=1e-9)
    assert reading.calibration.tau == fit_temperature(teacher.logits, teacher.labels)
    assert reading.calibration.nll_after < reading.calibration.nll_before


def test_a_teacher_is_read_where_its_default_pair_is_unless_a_target_is_given(teacher):
    pair = default_pair(EntropyCurves.from_logits(teacher))
    reading = read_teacher("example", teacher)
    assert (reading.tau, reading.rho) == (pytest.approx(pair.tau, rel=1e-4), pytest.approx(pair.rho, rel=1e-4))


@pytest.mark.parametrize("floor", [0.0, 2.0])
def test_a_teacher_is_read_with_the_floor_that_is_wanted(teacher, student, floor):
    reading = read_teacher("example", teacher, target=0.3, student=student, floor=floor)
    assert reading.cist.rule == Cist(reading.rho, floor)
    wanted = 0.3 * np.log(10)
    assert entropy_at_cist(teacher.logits, reading.rho, floor).mean() == pytest.approx(wanted, abs=1e-3)
    assert reading.gap == CapacityGap.of(teacher, student, reading.rho, floor=floor)
    with pytest.raises(CistError, match="its floor of 40"):
        read_teacher("example", teacher, target=0.3, floor=40)


def test_without_labels_or_a_student_there_is_neither_calibration_nor_gap(logits):
    reading = read_teacher("bare", LogitSet.create(4 * logits))
    assert reading.calibration is None
    assert reading.gap is None
    assert reading.accuracy is None
    assert nearness_finding([reading], "student") == "Without a student there is no capacity gap"


def test_real_teachers_compare(shared_file):
    logits = {
        f"ResNet-{depth}": read_logits(shared_file(f"cifar10_resnet{depth}_test_logits.npz")) for depth in (20, 56)
    }
    small, large = (read_teacher(name, rows, target=0.25, student=logits["ResNet-20"]) for name, rows in logits.items())
    assert (small.accuracy, large.accuracy) == (0.9173, 0.9339)
    assert large.gain == pytest.approx(2.84, abs=0.01)
    assert small.gain == pytest.approx(2.74, abs=0.01)
    assert large.gap.agreement == pytest.approx(0.9228)
    assert large.gap.kl_cist < large.gap.kl
    assert (small.gap.agreement, small.gap.kl) == (1.0, pytest.approx(0, abs=1e-6))
    for reading in (small, large):
        assert reading.calibration.tau > 2
        assert reading.calibration.after.error < reading.calibration.before.error / 5
    assert (
        consistency_finding([small, large])
        == "Under CIST the entropies of ResNet-56 vary least: 0.161 nats against 0.196 for ResNet-20"
    )
    assert consistency_finding([small, large], FIXED).startswith(
        "Under fixed τ the entropies of ResNet-56 vary least: 0.456 nats"
    )


def made_up(name: str, teacher: LogitSet, *, fixed: float, cist: float, kl: float, agreement: float) -> TeacherReading:
    """A reading with the given spreads and gap; the rest is real."""
    reading = read_teacher(name, teacher)
    return dataclasses.replace(
        reading,
        fixed=dataclasses.replace(reading.fixed, profile=dataclasses.replace(reading.fixed.profile, std=fixed)),
        cist=dataclasses.replace(reading.cist, profile=dataclasses.replace(reading.cist.profile, std=cist)),
        gap=CapacityGap(agreement, 2 * kl, kl, 1.0, None),
    )


@pytest.mark.parametrize(
    ("rule", "fixed", "cist", "finding"),
    [
        (CIST, (0.5, 0.6), (0.1, 0.2), "Under CIST the entropies of A vary least: 0.100 nats against 0.200 for B"),
        (
            CIST,
            (0.5, 0.4),
            (0.1, 0.2),
            "Under CIST the entropies of A vary least: 0.100 nats against 0.200 for B; under fixed τ those of B do",
        ),
        (
            FIXED,
            (0.5, 0.4),
            (0.1, 0.2),
            "Under fixed τ the entropies of B vary least: 0.400 nats against 0.500 for A; under CIST those of A do",
        ),
        # Under the other rule they tie, and nobody is first.
        (CIST, (0.5, 0.499), (0.1, 0.2), "Under CIST the entropies of A vary least: 0.100 nats against 0.200 for B"),
        (
            CIST,
            (0.5, 5e-5),
            (0.1, 0.2),
            "Under CIST the entropies of A vary least: 0.100 nats against 0.200 for B; under fixed τ those of B do",
        ),
        (CIST, (0.5, 0.6), (0.1, 0.102), "Under CIST A and B are about equally consistent: 0.100 nats against 0.102"),
    ],
)
def test_the_finding_names_the_more_consistent_teacher_under_either_rule(teacher, rule, fixed, cist, finding):
    pair = [
        made_up(name, teacher, fixed=fixed[index], cist=cist[index], kl=0.1, agreement=0.9)
        for index, name in enumerate("AB")
    ]
    assert consistency_finding(pair, rule) == finding
    assert "add a teacher to compare it with" in consistency_finding(pair[:1])


def test_the_finding_names_the_nearer_teacher_and_admits_another_view(teacher):
    near = made_up("near", teacher, fixed=1, cist=1, kl=0.1, agreement=0.7)
    far = made_up("far", teacher, fixed=1, cist=1, kl=0.3, agreement=0.8)
    start = "Under CIST near is nearest to pupil: 0.100 nats against 0.300"
    assert nearness_finding([far, near], "pupil") == f"{start}, but far agrees with it more often (80.0 %)"
    alike = dataclasses.replace(far, gap=dataclasses.replace(far.gap, agreement=0.6))
    assert nearness_finding([alike, near], "pupil") == f"{start}, and they agree most often (70.0 %)"
    tied = dataclasses.replace(far, gap=dataclasses.replace(far.gap, agreement=0.7))
    assert nearness_finding([tied, near], "pupil") == f"{start}, and none agrees with it more often (70.0 %)"
    three = nearness_finding([far, near, dataclasses.replace(far, name="third")], "pupil")
    assert three == f"{start}, but far and third agree with it more often (80.0 %)"
    alone = nearness_finding([near], "pupil")
    assert alone == "pupil agrees with near on 70.0 % of the samples and is 0.100 nats away under CIST"


def test_the_finding_names_no_nearer_teacher_where_two_are_as_near(teacher):
    one, other = (
        made_up(name, teacher, fixed=1, cist=1, kl=kl, agreement=0.7) for name, kl in (("A", 0.1), ("B", 0.102))
    )
    start = "Under CIST A and B are about equally near to pupil: 0.100 nats against 0.102"
    assert nearness_finding([other, one], "pupil") == f"{start}; B and A agree with it most often (70.0 %)"
    ahead = dataclasses.replace(other, gap=dataclasses.replace(other.gap, agreement=0.8))
    assert nearness_finding([one, ahead], "pupil") == f"{start}; B agrees with it most often (80.0 %)"
