"""The gradient of a batch is the same however it is split, for every objective, and through the whole engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from whole_runs import results

from cist_core.objectives import create_objective, objective_names, objective_specification
from cist_core.training import preset
from cist_core.training.engine import train
from cist_core.training.micro_batches import backward_by_micro_batches

SAMPLES, FEATURES, CLASSES = 12, 5, 7
SPLITS = ([12], [6, 6], [5, 1, 4, 2], [1] * 12)


def objective_of(name: str):
    needed = {"rho": 3, "H": 0.6}
    given = {item.name: needed[item.name] for item in objective_specification(name).parameters if item.required}
    return create_objective(name, **given).double()


def gradients(name: str, sizes: list[int]) -> list[torch.Tensor]:
    """Of a network without batch norm, in double precision, and of the learnable parameters of the objective."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES)).double()
    objective = objective_of(name)
    weak, strong = torch.randn(2, SAMPLES, FEATURES, dtype=torch.float64)
    targets = {
        "teacher_logits": 4 * torch.randn(SAMPLES, CLASSES, dtype=torch.float64),
        "labels": torch.arange(SAMPLES) % CLASSES,
    }
    inputs = {"weak": weak}
    if "strong_student_logits" in objective.specification.inputs:
        inputs["strong"] = strong
        targets["strong_teacher_logits"] = 4 * torch.randn(SAMPLES, CLASSES, dtype=torch.float64)

    def forward(part):
        names = {"weak": "student_logits", "strong": "strong_student_logits"}
        return {names[view]: network(rows) for view, rows in part.items()}

    def loss(outputs):
        return objective(**outputs, **targets, epoch=30)

    backward_by_micro_batches(network, forward, inputs, loss, sizes=sizes)
    return [parameter.grad for parameter in (*network.parameters(), *objective.parameters())]


@pytest.mark.parametrize("name", objective_names())
def test_every_split_has_the_gradient_of_the_whole_batch(name: str) -> None:
    whole, *split = (gradients(name, sizes) for sizes in SPLITS)
    assert max(gradient.abs().max() for gradient in whole if gradient is not None) > 0
    for found in split:
        for one, other in zip(whole, found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-12)


def test_random_numbers_and_running_statistics_are_those_of_one_pass() -> None:
    """Dropout draws the same in both passes: the gradient is that of the very outputs that are returned."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, CLASSES)).double()
    inputs = torch.randn(SAMPLES, FEATURES, dtype=torch.float64)
    passes: list[torch.Tensor] = []

    def forward(part):
        passes.append(network(part["inputs"]))
        return {"student_logits": passes[-1]}

    outputs, _ = backward_by_micro_batches(
        network,
        forward,
        {"inputs": inputs},
        lambda outputs: {"total": outputs["student_logits"].square().mean()},
        sizes=[8, 4],
    )
    assert torch.equal(torch.cat(passes[:2]), torch.cat(passes[2:]))
    assert torch.equal(outputs["student_logits"], torch.cat(passes[:2]))
    assert network[1].num_batches_tracked == 2
    features, mean = network[0](inputs).detach(), torch.zeros(16, dtype=torch.float64)
    for part in features.split([8, 4]):
        mean = 0.9 * mean + 0.1 * part.mean(0)
    torch.testing.assert_close(network[1].running_mean, mean)
    expected = torch.zeros_like(network[3].bias)
    expected += (2 * outputs["student_logits"] / outputs["student_logits"].numel()).sum(0)
    torch.testing.assert_close(network[3].bias.grad, expected)


@pytest.mark.parametrize("objective", ["cist:rho=3,normalise=true", "ctkd:ramp=2", "mlkd"])
def test_a_run_in_micro_batches_is_the_run_in_whole_batches(objective: str, tmp_path: Path) -> None:
    config = preset("demo").changed(
        data={"train_samples": 60, "validation_samples": 50},
        student={"architecture": "mlp_14x14"},
        objective=objective,
        augmentation={"crop_padding": 1, "strong_view": objective == "mlkd"},
        optimiser={"clip_norm": 1.0},
        epochs=2,
        machine={"device": "cpu", "threads": 1},
    )
    train(config, tmp_path / "whole")
    train(config.changed(machine={"micro_batch_size": 7}), tmp_path / "parts")
    for whole, parts in zip(results(tmp_path / "whole"), results(tmp_path / "parts"), strict=True):
        assert parts == pytest.approx(whole, rel=2e-3, abs=1e-3)
