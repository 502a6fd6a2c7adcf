"""Schedule, epoch statistics, calibration and checkpoints, each against an independent account of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from cist_core.errors import CistError
from cist_core.logits.calibration import expected_calibration_error
from cist_core.objectives import ChunkedLogits, StepMean, create_objective
from cist_core.training import statistics as statistics_module
from cist_core.training import token_statistics
from cist_core.training.checkpoints import load_checkpoint, save_checkpoint
from cist_core.training.config import OptimiserConfig, ScheduleConfig
from cist_core.training.optimisation import create_optimiser, create_schedule, rate
from cist_core.training.statistics import EpochStatistics
from cist_core.training.token_statistics import TokenStatistics
from tests.damaged_files import with_flipped_bits


def test_multistep_is_torchs_own() -> None:
    config = ScheduleConfig(name="multistep", milestones=(2, 4), gamma=0.1)
    weight = torch.nn.Parameter(torch.zeros(1))
    reference = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(reference, [6, 12], gamma=0.1)
    for step in range(18):
        assert rate(config, step, steps=18, steps_per_epoch=3) == pytest.approx(theirs.get_last_lr()[0])
        reference.step()
        theirs.step()


def test_cosine_is_torchs_own_after_a_linear_warmup() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    reference = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(reference, 20)
    config = ScheduleConfig(name="cosine", warmup_epochs=2)
    assert [rate(config, step, steps=24, steps_per_epoch=2) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    for step in range(4, 24):
        assert rate(config, step, steps=24, steps_per_epoch=2) == pytest.approx(theirs.get_last_lr()[0])
        reference.step()
        theirs.step()


def test_the_schedule_moves_the_optimiser() -> None:
    optimiser = create_optimiser([torch.nn.Parameter(torch.zeros(1))], OptimiserConfig(learning_rate=0.4))
    schedule = create_schedule(optimiser, ScheduleConfig(name="cosine"), steps=2, steps_per_epoch=1)
    optimiser.step()
    schedule.step()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.2)


def test_adamw_and_sgd_are_made_as_asked() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    assert isinstance(create_optimiser(weights, OptimiserConfig(name="adamw")), torch.optim.AdamW)
    sgd = create_optimiser(weights, OptimiserConfig(momentum=0.8, nesterov=True, weight_decay=0.1))
    assert {name: sgd.defaults[name] for name in ("momentum", "nesterov", "weight_decay")} == {
        "momentum": 0.8,
        "nesterov": True,
        "weight_decay": 0.1,
    }


def test_statistics_over_steps_are_those_of_all_samples_together() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 3, (60, 7)), rng.normal(0, 5, (60, 7))
    labels = rng.integers(0, 7, 60)
    objective, statistics = create_objective("cist:rho=2"), EpochStatistics()
    taus = {"teacher": [], "student": []}
    for part in np.split(np.arange(60), 3):
        batch = {"student_logits": torch.tensor(student[part]), "teacher_logits": torch.tensor(teacher[part])}
        terms = objective(**batch, labels=torch.tensor(labels[part]))
        statistics.add(terms=terms, **batch, labels=torch.tensor(labels[part]))
        for model in taus:
            taus[model] += terms[f"tau_{model}"].tolist()
    row = statistics.row()
    assert row["train_accuracy"] == pytest.approx(np.mean(student.argmax(1) == labels))
    assert row["student_maximum_mean"] == pytest.approx(np.mean(student.max(1) - student.mean(1)), rel=1e-6)
    assert row["teacher_maximum_mean"] == pytest.approx(np.mean(teacher.max(1) - teacher.mean(1)), rel=1e-6)
    for model, logits in (("teacher", teacher), ("student", student)):
        tau = np.array(taus[model])
        expected = scipy_entropy(softmax(logits / tau[:, None], axis=1), axis=1)
        assert row[f"tau_{model}_mean"] == pytest.approx(tau.mean(), rel=1e-6)
        assert row[f"tau_{model}_std"] == pytest.approx(tau.std(), rel=1e-5)
        assert row[f"{model}_entropy_mean"] == pytest.approx(expected.mean(), abs=1e-4)
        assert row[f"{model}_entropy_std"] == pytest.approx(expected.std(), abs=1e-4)


def test_statistics_of_an_objective_without_soft_labels_name_none() -> None:
    statistics = EpochStatistics()
    batch = {"student_logits": torch.randn(4, 3), "teacher_logits": torch.randn(4, 3)}
    labels = torch.tensor([0, 1, 2, 0])
    statistics.add(terms=create_objective("ce")(**batch, labels=labels), **batch, labels=labels)
    maxima = {"student_maximum_mean", "teacher_maximum_mean"}
    assert set(statistics.row()) == {"loss_total", "loss_ce", "train_accuracy"} | maxima


def test_calibration_error_is_the_one_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (500, 5)), rng.integers(0, 5, 500)
    p = softmax(logits, axis=1)
    confidence, right = p.max(1), p.argmax(1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (3, 6, 9):
        save_checkpoint(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000006.pt", "step-000000009.pt"]
    assert load_checkpoint(tmp_path) == {"step": 9}


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    for step in (3, 6):
        save_checkpoint(tmp_path, step, {"step": step})
    newest = tmp_path / "step-000000006.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000003.pt", "step-000000006.pt.damaged"]
    (tmp_path / "step-000000003.pt").write_bytes(b"")
    for _ in range(2):  # it stays where it is: without it the run would begin anew, unsaid
        with pytest.raises(CistError, match="None of the checkpoints"):
            load_checkpoint(tmp_path)
    assert load_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize("flips", [1, 64])
def test_a_checkpoint_with_flipped_bits_is_whole_or_not_read(tmp_path: Path, flips: int) -> None:
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.normal(size=(100, 300)))
    save_checkpoint(tmp_path, 3, {"weights": weights, "warnings": []})
    path = tmp_path / "step-000000003.pt"
    whole, refused = path.read_bytes(), 0
    for _ in range(20):
        path.write_bytes(with_flipped_bits(whole, flips, rng))
        try:
            loaded = load_checkpoint(tmp_path)
        except CistError:
            refused += 1
            continue
        assert loaded is not None
        assert torch.equal(loaded["weights"], weights)
    assert refused >= 15


def test_a_checkpoint_that_cannot_be_written_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 3, {"step": 3})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CistError, match=r"The checkpoint cannot be written .* \(No space left on device\)"):
        save_checkpoint(tmp_path, 6, {"step": 6})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003.pt"]


@pytest.mark.parametrize("counts", [(10, 0), (3, 7)])
def test_terms_are_those_of_the_whole_step_however_its_tokens_are_spread_over_processes(
    counts: tuple[int, int],
) -> None:
    """Also where one process has none; a step in which no process has any is counted once."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(10, 30, generator=generator), torch.randint(30, (10,), generator=generator)
    whole = torch.nn.functional.cross_entropy(logits, labels).item()
    sums: dict[str, torch.Tensor] = {}
    for rows, own in zip(torch.split(logits, counts), torch.split(labels, counts), strict=True):
        statistics = TokenStatistics(30, processes=2)
        for mean, empty, some in ((sum(counts) / 2, False, len(own)), (0.5, True, 0)):
            inputs = {
                "student_logits": ChunkedLogits.of(rows[:some]),
                "teacher_logits": ChunkedLogits.of(rows[:some]),
                "labels": own[:some],
                "num_items": StepMean(mean, over_processes=lambda value: value, nothing_counts=empty),
            }
            statistics.add(terms=create_objective("ce")(**inputs), **inputs)
        sums = {name: value + sums.get(name, 0) for name, value in statistics.state().items()}
    total = TokenStatistics(30, processes=2)
    total.load(sums)
    row = total.row()
    assert row["loss_ce"] == pytest.approx(whole, rel=1e-6)
    assert (row["tokens"], row["steps_without_tokens"]) == (10, 1)


class NoFloat64(TorchDispatchMode):
    """As a GPU of Apple, which has no float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dtype == torch.float64:
            raise TypeError(f"{func} made a tensor in float64")
        return made


def test_sums_over_tokens_need_no_float64_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 40, 30, generator=generator)
    inputs = {
        "student_logits": ChunkedLogits.of(student),
        "teacher_logits": ChunkedLogits.of(teacher),
        "labels": torch.randint(30, (40,), generator=generator),
        "num_items": StepMean(torch.tensor(40.0), nothing_counts=torch.tensor(False)),
    }
    terms = create_objective("cist:rho=4")(**inputs)
    usual, narrow = TokenStatistics(30), TokenStatistics(30)
    usual.add(terms=terms, **inputs)
    for module in (statistics_module, token_statistics):
        monkeypatch.setattr(module, "widest", lambda device: torch.float32)
    with NoFloat64():
        narrow.add(terms=terms, **inputs)
    assert narrow.row() == pytest.approx(usual.row(), rel=1e-4)


def test_tokens_have_quantiles_of_the_weight_and_its_share_by_tenths_of_the_entropy() -> None:
    """Against NumPy on the same tokens, in two steps of unequal size."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (4 * torch.randn(400, 30, generator=generator) for _ in range(2))
    labels = torch.randint(30, (400,), generator=generator)
    objective, statistics = create_objective("cist:rho=4"), TokenStatistics(30)
    weights, entropies, losses = [], [], []
    for part in (slice(0, 100), slice(100, 400)):
        inputs = {
            "student_logits": ChunkedLogits.of(student[part]),
            "teacher_logits": ChunkedLogits.of(teacher[part]),
            "labels": labels[part],
            "num_items": StepMean(len(labels[part])),
        }
        terms = objective(**inputs)
        statistics.add(terms=terms, **inputs)
        weights.append(terms["weight"])
        log_p = (teacher[part] / terms["tau_teacher"][:, None]).log_softmax(-1)
        entropies.append(-(log_p.exp() * log_p).sum(-1))
        losses.append(terms["total"].item() * len(labels[part]))
    row = statistics.row()
    weight, entropy = torch.cat(weights).double().numpy(), torch.cat(entropies).numpy()
    assert row["tokens"] == 400
    assert row["loss_total"] == pytest.approx(sum(losses) / 400)
    assert row["weight_mean"] == pytest.approx(weight.mean(), rel=1e-5)
    assert row["weight_median"] == pytest.approx(np.median(weight), rel=0.03)
    assert row["weight_95"] == pytest.approx(np.quantile(weight, 0.95), rel=0.03)
    assert row["teacher_entropy_mean"] == pytest.approx(entropy.mean(), rel=1e-4)
    tenths = weight[np.argsort(entropy)].reshape(10, 40).sum(1) / weight.sum()
    found = [row[f"weight_share_{tenth}"] for tenth in range(1, 11)]
    np.testing.assert_allclose(found, tenths, atol=0.01)
    assert row["train_accuracy"] == pytest.approx((student.argmax(1) == labels).double().mean().item())
