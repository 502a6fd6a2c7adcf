"""Memory that runs out in a step: fewer samples at a time where nothing else depends on it, or a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from whole_runs import results

from cist_core.errors import CistError
from cist_core.training import RunConfig, RunDirectory, preset
from cist_core.training.engine import train


def demo(**changes) -> RunConfig:
    return preset("demo").changed(
        data={"train_samples": 60, "validation_samples": 50},
        batch_size=20,
        epochs=2,
        machine={"device": "cpu", "threads": 1},
        **changes,
    )


@pytest.fixture
def room_for_six(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A linear layer that is to be trained takes six samples; of how many each attempt was."""
    attempts = []
    linear = functional.linear

    def limited(samples, weight, bias=None):
        if weight.requires_grad and torch.is_grad_enabled():
            attempts.append(len(samples))
            if len(samples) > 6:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it")
        return linear(samples, weight, bias)

    monkeypatch.setattr(functional, "linear", limited)
    return attempts


def test_the_batch_is_halved_until_it_fits_and_the_run_says_so(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    config = demo(student={"architecture": "mlp_14x14"}, objective="cist:rho=3,normalise=true")
    train(config, tmp_path / "whole")
    attempts = request.getfixturevalue("room_for_six")
    status = train(config, tmp_path / "halved")
    assert attempts[:2] == [20, 10]  # the first layer fails at once
    assert set(attempts[2:]) == {5}
    assert status["warnings"] == [
        "Memory ran out in step 1 with 20 samples at a time; from there on 5 go through the student at a time. The "
        "gradient is that of the whole batch, as before."
    ]
    for whole, halved in zip(results(tmp_path / "whole"), results(tmp_path / "halved"), strict=True):
        assert halved == pytest.approx(whole, rel=2e-3, abs=1e-3)


@pytest.mark.parametrize("at_once", [None, 10])
def test_batch_norm_would_see_fewer_samples_so_the_run_ends_in_a_sentence(
    room_for_six: list[int], at_once: int | None, tmp_path: Path
) -> None:
    config = demo(student={"architecture": "cnn_16_32"}).changed(machine={"micro_batch_size": at_once})
    tried = rf"Memory ran out with {at_once or 20} samples at a time \(CUDA out of memory"
    with pytest.raises(CistError, match=tried + ".*Resume with a smaller machine.micro_batch_size"):
        train(config, tmp_path)
    assert room_for_six == [at_once or 20]
    status = RunDirectory(tmp_path).status()
    assert status["state"] == "failed"
    assert "Memory ran out" in status["reason"]
    # What the sentence says: the run goes on with fewer.
    assert train(config.changed(machine={"micro_batch_size": 5}), tmp_path, resume=True)["state"] == "finished"


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        MemoryError("[enforce fail of NumPy"),
    ],
)
def test_a_single_sample_that_does_not_fit_ends_in_the_sentence_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception
) -> None:
    def full(*_):
        raise fault

    monkeypatch.setattr(functional, "linear", full)
    with pytest.raises(
        CistError, match=r"Memory ran out with a single sample at a time \(\[enforce fail.*A smaller student"
    ):
        train(demo(student={"architecture": "mlp_14x14"}), tmp_path)


def test_an_evaluation_that_does_not_fit_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    linear = functional.linear

    def limited(samples, weight, bias=None):
        if not torch.is_grad_enabled() and len(samples) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return linear(samples, weight, bias)

    config = demo(student={"architecture": "mlp_14x14"})
    monkeypatch.setattr(functional, "linear", limited)
    with pytest.raises(
        CistError, match=r"Memory ran out \(CUDA out of memory\)\. Resume with a smaller machine.micro_b"
    ):
        train(config, tmp_path)
    done = train(config.changed(machine={"micro_batch_size": 10}), tmp_path, resume=True)
    assert done["state"] == "finished"
