"""The estimate that is there at once: the arithmetic of a run over measured steps."""

from __future__ import annotations

import pytest

from cist_core.training import preset, step_times
from cist_core.training.step_times import START_SECONDS, StepTime, quick_estimate
from cist_core.zoo.architectures import ARCHITECTURES

TABLE = {"cnn_16_32": StepTime(0.002, 0.001, 0.0005), "teacher": StepTime(0.003, 0.004, 0.002)}
IMAGES = {"train": 3_500, "validation": 500, "test": 1_000}


@pytest.fixture
def table(monkeypatch) -> None:
    monkeypatch.setattr(step_times, "measured_steps", lambda: (TABLE, 1.0))


def test_every_architecture_of_the_zoo_was_measured() -> None:
    measured, reference = step_times.measured_steps()
    assert measured.keys() == ARCHITECTURES.keys()
    assert reference > 0
    assert all(found.image > 0 and found.forward > 0 and found.step >= 0 for found in measured.values())


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_run_is_its_steps_the_teacher_once_and_the_evaluations(table, factor: float) -> None:
    found = quick_estimate(
        preset("demo"), teacher="teacher", images=IMAGES, factor=factor
    )  # 100 images in batches of 20
    assert found.steps == 40 * 5
    assert found.seconds_per_step == pytest.approx(factor * (0.002 + 20 * 0.001))
    assert found.teacher_seconds == pytest.approx(factor * (100 + 500 + 1_000) * 0.002)
    evaluations = factor * 0.0005 * (40 * 500 + 2 * 1_000)
    parts = factor * START_SECONDS + 200 * found.seconds_per_step + found.teacher_seconds + evaluations
    assert found.seconds == pytest.approx(parts)


def test_under_augmentation_the_teacher_sees_every_step(table) -> None:
    config = preset("demo").changed(augmentation={"crop_padding": 2})
    found = quick_estimate(config, teacher="teacher", images=IMAGES, factor=1.0)
    assert found.seconds_per_step == pytest.approx(0.002 + 20 * (0.001 + 0.002))
    assert found.teacher_seconds == pytest.approx(1_500 * 0.002)


def test_what_was_not_measured_has_no_quick_estimate(table) -> None:
    assert quick_estimate(preset("cifar-240"), teacher="teacher", images=IMAGES, factor=1.0) is None
    assert quick_estimate(preset("demo"), teacher="of one's own", images=IMAGES, factor=1.0) is None


def test_the_speed_of_a_machine_is_a_plain_factor() -> None:
    assert 0.01 < step_times.machine_factor() < 100
