"""Students trained side by side are the students that the training engine makes."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from students import Lesson, Objectives, Plan, Recipe, train_side_by_side

from cist_core.inference.run import infer
from cist_core.inference.sources import find_teacher
from cist_core.training import parse_config
from cist_core.training.engine import train
from cist_core.training.images import ImageSplits, load_splits
from cist_core.zoo.architectures import create_model, find_architecture

STUDENT = "cnn_16_32"
EPOCHS = 2
RECIPE = Recipe(partial(create_model, STUDENT, num_classes=10), epochs=EPOCHS, batch_size=50)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For networks this small, and tests beside each other, one thread is the quickest."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[{}, {"crop_padding": 2, "flip": True}], ids=["plain", "augmented"])
def augmentation(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture(scope="module")
def config(augmentation: dict[str, Any]) -> Any:
    return parse_config(
        {
            "data": {"name": "mnist-5k", "train_samples": 200, "validation_samples": 200},
            "teacher": {"name": "mnist5k-cnn"},
            "student": {"architecture": STUDENT},
            "objective": "cist:rho=3",
            "optimiser": {"learning_rate": 0.02},
            "epochs": EPOCHS,
            "batch_size": 50,
            "seed": 3,
            "machine": {"device": "cpu"},
            "augmentation": augmentation,
        }
    )


@pytest.fixture(scope="module")
def lesson(config: Any, tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    return lesson_of(load_splits(config.data), config.augmentation.any, tmp_path_factory.mktemp("logits"))


def lesson_of(splits: ImageSplits, augmented: bool, cache: Path) -> Lesson:
    reads, teacher = find_architecture(STUDENT).preprocessing, find_teacher("mnist5k-cnn")
    pixels = torch.from_numpy(splits.train.images[:])
    judges = {
        name: (reads(torch.from_numpy(part.images[:])), torch.from_numpy(part.labels))
        for name, part in (("validation", splits.validation), ("test", splits.test))
    }
    labels = torch.from_numpy(splits.train.labels)
    if not augmented:
        logits = infer(teacher, splits.train, device="cpu", cache_dir=cache).logit_set.logits
        return Lesson(reads(pixels), labels, torch.from_numpy(np.array(logits)), **judges)
    mean, std = (torch.tensor(part)[:, None, None] for part in (reads.mean, reads.std))
    network = teacher.model.eval()
    return Lesson(pixels.permute(0, 3, 1, 2).contiguous(), labels, None, **judges, mean=mean, std=std, teacher=network)


def recipe(augmentation: Mapping[str, Any]) -> Recipe:
    return Recipe(**{**vars(RECIPE), **augmentation})


def test_a_student_is_the_one_of_the_training_engine(
    config: Any, lesson: Lesson, augmentation: dict[str, Any], tmp_path: Path
) -> None:
    status = train(config, tmp_path / "run")
    plan = Plan("digits", "cist:rho=3", 0.02, 3)
    (outcome,) = train_side_by_side([plan], {"digits": lesson}, recipe(augmentation), report=lambda text: None)
    # The same arithmetic in another order: a handful of images of thousands may change sides.
    assert outcome["test_nll"] == pytest.approx(status["test_nll"], abs=2e-3)
    assert outcome["test_ece"] == pytest.approx(status["test_ece"], abs=5e-3)
    for name in ("test_accuracy", "test_accuracy_at_best", "best_val_accuracy"):
        assert outcome[name] == pytest.approx(status[name], abs=5e-3)
    assert outcome["val_accuracy"] == pytest.approx(status["last_val_accuracy"], abs=5e-3)


def test_students_do_not_disturb_each_other(lesson: Lesson, augmentation: dict[str, Any]) -> None:
    plans = [Plan("digits", "cist:rho=3", 0.02, 3), Plan("digits", "kd", 0.05, 3), Plan("digits", "ce", 0.02, 4)]
    together = train_side_by_side(plans, {"digits": lesson}, recipe(augmentation), report=lambda text: None)
    for plan, outcome in zip(plans, together, strict=True):
        (alone,) = train_side_by_side([plan], {"digits": lesson}, recipe(augmentation), report=lambda text: None)
        assert outcome["objective"] == plan.objective
        assert outcome["test_nll"] == pytest.approx(alone["test_nll"], abs=1e-4)


def test_a_diverging_student_is_an_outcome(lesson: Lesson) -> None:
    kept, lost = train_side_by_side(
        [Plan("digits", "cist:rho=3", rate, 3) for rate in (0.02, 1e12)], {"digits": lesson}, RECIPE, report=str
    )
    assert "diverged" in lost
    assert "test_accuracy" not in lost
    (alone,) = train_side_by_side([Plan("digits", "cist:rho=3", 0.02, 3)], {"digits": lesson}, RECIPE, report=str)
    assert kept["val_accuracy"] == pytest.approx(alone["val_accuracy"], abs=0.01)


def test_the_fitted_temperature_is_of_the_validation_samples(lesson: Lesson, augmentation: dict[str, Any]) -> None:
    plan = Plan("digits", "cist:rho=3", 0.02, 3)
    swapped = Lesson(**{**vars(lesson), "validation": lesson.test})
    (one,) = train_side_by_side([plan], {"digits": lesson}, recipe(augmentation), report=lambda text: None)
    (other,) = train_side_by_side([plan], {"digits": swapped}, recipe(augmentation), report=lambda text: None)
    assert one["fitted_temperature"] != other["fitted_temperature"]
    # Fitted on the very samples that it is judged by, a temperature cannot lose.
    assert other["test_nll_fitted"] <= other["test_nll"]


def test_objectives_of_one_kind_run_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectorised over their students, as on a GPU, they have the gradients that they have one by one."""
    # vmap allows no look at the values.
    monkeypatch.setattr("cist_core.objectives.values.ValueCheck.add", lambda *values: None)
    texts = ["kd", "kd:tau=2,lambda_kl=8", "cist:rho=3", "cist:rho=2,lambda_kl=4", "lskd", "lskd:tau=1", "kd-entout-ce"]
    texts += ["cist:rho=3,weighting=uniform", "dkd:warmup=2", "dkd:beta=1,warmup=2", "wttm", "normkd:k=1", "dtkd", "ce"]
    plans = [Plan("noise", text, 0.1, 0) for text in texts]
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        scale * torch.randn(len(plans), 32, 10, generator=generator, dtype=torch.float64) for scale in (2.0, 5.0)
    )
    labels = torch.randint(10, (len(plans), 32), generator=generator)
    kinds = Objectives.of(plans, torch.device("cpu"))
    assert sorted(member for kind in kinds for member in kind.members) == list(range(len(plans)))
    assert max(len(kind.members) for kind in kinds) == 2
    for kind in kinds:
        given = student[kind.members], teacher[kind.members], labels[kind.members]
        one_by_one = kind.gradients(*given, epoch=1)
        torch.testing.assert_close(kind.gradients(*given, epoch=1, vectorised=True), one_by_one)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("augmented", [False, True])
def test_recorded_steps_train_like_those_on_the_cpu(augmented: bool) -> None:
    """On noise that needs no file: whether the graph follows the schedule, the batches and the ramp."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = pixels[:, 0].float().mean((1, 2)).argsort().argsort() * 10 // 256
    mean, std = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25)
    inputs = (pixels.float() / 255 - mean) / std
    logits = 4 * torch.randn(256, 10, generator=generator)
    judge = (inputs[:128], labels[:128])
    lesson = (
        Lesson(pixels, labels, logits, judge, judge, mean, std)
        if augmented
        else Lesson(inputs, labels, logits, judge, judge)
    )
    plans = [
        Plan("noise", objective, 0.02, seed)
        for objective in ("ce", "kd", "cist:rho=3", "dkd:warmup=2", "lskd")
        for seed in (0, 1)
    ]
    both = {
        device: train_side_by_side(
            plans,
            {"noise": lesson},
            Recipe(partial(create_model, "resnet8", num_classes=10), 3, 32, crop_padding=2 * augmented, flip=augmented),
            device=device,
            report=lambda text: None,
        )
        for device in ("cpu", "cuda")
    }
    for plan, cpu, cuda in zip(plans, both["cpu"], both["cuda"], strict=True):
        assert cuda["test_nll"] == pytest.approx(cpu["test_nll"], rel=0.05), plan
        assert cuda["student_maximum"] == pytest.approx(cpu["student_maximum"], rel=0.05), plan
