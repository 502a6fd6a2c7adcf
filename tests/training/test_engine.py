"""The engine by its ways to fail: another result the second time or after a crash, two at once, divergence, no disk."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file
from whole_runs import results, stop_after

from cist_core.cards import find_sample_model
from cist_core.errors import Cancelled, CistError
from cist_core.inference.run import infer
from cist_core.inference.sources import load_logits
from cist_core.logits.logit_set import LogitSet
from cist_core.objectives import objective_names, objective_specification
from cist_core.training import RunConfig, RunDirectory, preset
from cist_core.training.config import OptimiserConfig
from cist_core.training.engine import train
from cist_core.training.estimation import estimate
from cist_core.training.logit_scale import ScaleFault
from cist_core.training.tasks.image_classification import ImageClassification
from cist_core.training.trainer import Trainer, create_accelerator
from cist_core.zoo.architectures import create_model
from cist_core.zoo.checkpoints import read_checkpoint
from cist_core.zoo.teachers import load_checkpoint

TINY = preset("demo").changed(
    data={"train_samples": 100, "validation_samples": 50},
    student={"architecture": "mlp_14x14"},
    objective="cist:rho=3",
    optimiser=OptimiserConfig(learning_rate=0.02).model_dump(),
    epochs=4,
    batch_size=20,
    machine={"device": "cpu"},
)
# Batch norm, shifted images, a learnable temperature: everything that a checkpoint could forget.
FORGETFUL = TINY.changed(
    student={"architecture": "cnn_16_32"},
    augmentation={"crop_padding": 2, "flip": True},
    objective="ctkd:ramp=2",
    data={"train_samples": 60},
    epochs=3,
)


def outcome(path: Path) -> dict[str, Any]:
    status = RunDirectory(path).status()
    names = ("state", "epochs", "steps", "best_val_accuracy", "best_epoch", "last_val_accuracy", "test_accuracy")
    return {name: status[name] for name in (*names, "test_nll", "test_ece", "test_agreement", "test_accuracy_at_best")}


def engine(config: Path, *options: str, **kwargs: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cist_core", "distill", str(config), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kwargs)


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_run_leaves_everything_that_its_directory_promises(tmp_path: Path) -> None:
    status = train(TINY, tmp_path)
    directory = RunDirectory(tmp_path)
    assert directory.config() == TINY
    assert directory.status()["state"] == status["state"] == "finished"
    assert [row["epoch"] for row in directory.metrics()] == [1, 2, 3, 4]
    assert status["last_val_accuracy"] == directory.metrics()[-1]["val_accuracy"]
    assert status["best_val_accuracy"] == max(row["val_accuracy"] for row in directory.metrics())
    test = LogitSet.load(directory.test_logits)
    assert test.accuracy == status["test_accuracy"]
    student = load_checkpoint(directory.student)
    assert student.architecture == json.loads(directory.student_card.read_text())["architecture"] == "mlp_14x14"
    assert "Finished: test" in directory.log_tail()
    teacher = load_logits("mnist5k-cnn", "mnist-5k", "test").logit_set
    agreement = np.mean(np.asarray(test.logits).argmax(1) == np.asarray(teacher.logits).argmax(1))
    assert status["test_agreement"] == pytest.approx(agreement, abs=0.002)
    assert status["teacher_test_accuracy"] == pytest.approx(teacher.accuracy)


def test_the_student_learns(tmp_path: Path) -> None:
    status = train(TINY.changed(data={"train_samples": 1000, "validation_samples": None}, epochs=8), tmp_path)
    assert status["test_accuracy"] > 0.8


def test_best_and_last_students_are_those_of_their_epochs(tmp_path: Path) -> None:
    status = train(TINY.changed(epochs=6), tmp_path)
    weights = {name: load_file(tmp_path / f"{name}.safetensors") for name in ("student", "student-best")}
    same = all(torch.equal(weights["student"][key], weights["student-best"][key]) for key in weights["student"])
    assert same == (status["best_epoch"] == 6)


@pytest.mark.parametrize("config", [TINY, FORGETFUL], ids=["cached", "augmented"])
def test_same_config_and_seed_give_the_same_metrics(config: RunConfig, tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(config, tmp_path / name)
    train(config.changed(seed=1), tmp_path / "other")
    assert results(tmp_path / "one") == results(tmp_path / "two")
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two")
    assert results(tmp_path / "one") != results(tmp_path / "other")


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("config", [TINY, FORGETFUL], ids=["cached", "augmented"])
def test_a_stopped_run_resumes_to_exactly_the_same_end(config: RunConfig, steps: int, tmp_path: Path) -> None:
    train(config, tmp_path / "whole")
    with pytest.raises(Cancelled, match="--resume"):
        train(config, tmp_path / "cut", should_stop=stop_after(steps + 1))
    assert RunDirectory(tmp_path / "cut").status()["state"] == "cancelled"
    assert RunDirectory(tmp_path / "cut").status().get("step", 0) <= steps + 1
    train(config, tmp_path / "cut", resume=True)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / "student.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
def test_kill_9_at_any_point_and_resume_give_exactly_the_same_end(tmp_path: Path) -> None:
    """Killed again and again wherever it happens to be, until it finishes."""
    config = FORGETFUL.changed(epochs=40, machine={"checkpoint_every_steps": 2})
    config.save(tmp_path / "config.json")
    train(config, tmp_path / "whole")
    cut = RunDirectory(tmp_path / "cut")
    kills = 0
    for wanted in (1, 10, 25):
        process = engine(tmp_path / "config.json", "--run-dir", str(cut.path), *["--resume"] * (kills > 0))
        wait_for(lambda at=wanted, p=process: p.poll() is not None or newest(cut) >= at)
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    process = engine(tmp_path / "config.json", "--run-dir", str(cut.path), "--resume")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert kills >= 2
    assert results(cut.path) == results(tmp_path / "whole")
    assert outcome(cut.path) == outcome(tmp_path / "whole")


def newest(directory: RunDirectory) -> int:
    return max((int(path.stem.partition("-")[2]) for path in directory.checkpoints.glob("step-*.pt")), default=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_resume(number: signal.Signals, tmp_path: Path) -> None:
    TINY.changed(epochs=100_000).save(tmp_path / "config.json")
    process = engine(tmp_path / "config.json", "--run-dir", str(tmp_path / "run"))
    wait_for(lambda: newest(RunDirectory(tmp_path / "run")) > 0)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.count("go on with: cist distill") == 1
    assert "Traceback" not in err
    assert RunDirectory(tmp_path / "run").status()["state"] == "cancelled"


def test_the_cancel_file_stops_a_run_and_is_gone_when_it_goes_on(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)

    third_step = stop_after(2)

    def ask() -> bool:
        if third_step():
            directory.cancel_file.touch()
        return False

    with pytest.raises(Cancelled):
        train(TINY, tmp_path, should_stop=ask)
    assert train(TINY, tmp_path, resume=True)["state"] == "finished"
    assert not directory.cancel_file.exists()


def test_divergence_stops_the_run_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(CistError, match=r"diverged in epoch \d+, step \d+, at learning rate 1e\+08.*smaller"):
        train(
            TINY.changed(optimiser={"learning_rate": 1e8}, schedule={"name": "constant"}, epochs=50, objective="kd"),
            tmp_path,
        )
    status = RunDirectory(tmp_path).status()
    assert status["state"] == "failed"
    assert "diverged" in status["reason"]


def test_a_students_scale_that_collapses_is_named_while_it_trains_and_the_run_goes_on(tmp_path: Path) -> None:
    """Without the floor nothing holds the student's scale."""
    config = TINY.changed(objective="cist:rho=3,floor=0", epochs=12)
    directory = RunDirectory(tmp_path)
    with pytest.raises(Cancelled):
        train(config, tmp_path, should_stop=stop_after(31))  # after six epochs of five steps
    said = directory.status()
    assert said["logit_scale"]["state"] == "collapsed"
    assert said["logit_scale"]["since"] <= 6
    assert said["logit_scale"]["student_maximum"] < 0.5
    assert said["logit_scale"]["teacher_maximum"] > 10
    (warning,) = said["warnings"]
    assert re.search(r"^In epoch \d the student's logits have collapsed .*; the objective's floor=1, its", warning)
    assert warning in directory.log_tail()

    status = train(config, tmp_path, resume=True)
    assert status["state"] == "finished"
    assert status["warnings"] == [warning]
    assert status["logit_scale"]["since"] == said["logit_scale"]["since"]


def test_a_students_scale_that_runs_away_is_named(tmp_path: Path) -> None:
    config = TINY.changed(
        objective="cist:rho=3,floor=0,gradient=scale-free", student={"architecture": "cnn_16_32"}, epochs=20
    )
    status = train(config, tmp_path)
    assert status["logit_scale"]["state"] == "running away"
    assert status["logit_scale"]["student_maximum"] > 3 * status["logit_scale"]["teacher_maximum"]
    assert "are running away" in status["warnings"][0]


def test_with_the_floor_the_scale_is_held(tmp_path: Path) -> None:
    for gradient in ("constant", "full", "scale-free"):
        config = TINY.changed(objective=f"cist:rho=3,gradient={gradient}", epochs=12)
        status = train(config, tmp_path / gradient)
        assert (status["logit_scale"], status["warnings"]) == (None, [])


@pytest.mark.slow
def test_in_the_demo_a_teacher_helps_and_nobody_loses_the_scale(tmp_path: Path) -> None:
    """As docs/training.md has it: some five points for KD and for CIST in either recipe, over one student each here."""
    right = {}
    for name in ("ce", "kd", "cist:rho=4", "cist-authors"):
        status = train(preset("demo").changed(objective=name, machine={"device": "cpu"}), tmp_path / name)
        assert (status["logit_scale"], status["warnings"]) == (None, []), name
        right[name] = status["test_accuracy"]
    for name in ("kd", "cist:rho=4", "cist-authors"):
        assert right[name] > right["ce"] + 0.01, right


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["constant", "full"])
def test_without_the_floor_the_demo_collapses_and_says_so(gradient: str, tmp_path: Path) -> None:
    status = train(
        preset("demo").changed(objective=f"cist:rho=3,floor=0,gradient={gradient}", machine={"device": "cpu"}), tmp_path
    )
    assert status["state"] == "finished"
    assert status["logit_scale"]["state"] == "collapsed"
    assert "floor=1" in status["warnings"][0]


@pytest.mark.parametrize(
    ("state", "floor", "remedy"),
    [
        ("collapsed", 0.0, "the objective's floor=1, its default, holds the scale"),
        ("collapsed", 1.0, "try another optimiser.learning_rate; with a warm-up or optimiser.clip_norm"),
        ("running away", 1.0, "try a smaller optimiser.learning_rate or more optimiser.weight_decay"),
    ],
)
def test_the_remedy_fits_the_fault_and_the_objective(
    state: str, floor: float, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = ScaleFault(state, 1, 0.1 if state == "collapsed" else 99.0, 16.0)
    monkeypatch.setattr("cist_core.training.engine.scale_fault", lambda rows, epochs: fault if rows else None)
    (warning,) = train(TINY.changed(objective=f"cist:rho=3,floor={floor}", epochs=2), tmp_path)["warnings"]
    assert remedy in warning


def test_a_second_engine_in_one_directory_is_refused(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "lock", is_singleton=False),
        pytest.raises(CistError, match="Another process is training in"),
    ):
        train(TINY, tmp_path)
    assert RunDirectory(tmp_path).status() == {}


def test_an_old_run_is_neither_overwritten_nor_mixed_with_another(tmp_path: Path) -> None:
    train(TINY, tmp_path)
    before = outcome(tmp_path)
    with pytest.raises(CistError, match="There is a run in"):
        train(TINY, tmp_path)
    with pytest.raises(CistError, match="has finished"):
        train(TINY, tmp_path, resume=True)
    assert outcome(tmp_path) == before
    with pytest.raises(Cancelled):
        train(TINY, tmp_path / "b", should_stop=stop_after(3))
    with pytest.raises(CistError, match="seed is 0, not 5"):
        train(TINY.changed(seed=5), tmp_path / "b", resume=True)


def test_a_tracker_that_is_not_installed_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CistError, match=r"tracker mlflow is not installed; .*pip install mlflow"):
        train(TINY.changed(machine={"trackers": ["mlflow"]}), tmp_path)


def test_a_run_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CistError, match="cannot be made"):
        train(TINY, tmp_path / "file" / "run")


def test_a_full_disk_is_named_and_the_run_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "step-000000010" in path.name:
            raise OSError(28, "No space left on device")
        return real(path, content)

    train(TINY, tmp_path / "whole")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CistError, match="No space left on device"):
        train(TINY, tmp_path / "cut")
    assert RunDirectory(tmp_path / "cut").status()["state"] == "failed"
    monkeypatch.undo()
    train(TINY, tmp_path / "cut", resume=True)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


@pytest.mark.parametrize("name", objective_names())
def test_every_objective_trains(name: str, tmp_path: Path) -> None:
    specification = objective_specification(name)
    needed = {"rho": 3, "H": 0.6}
    given = {item.name: needed[item.name] for item in specification.parameters if item.required}
    two_views = "strong_student_logits" in specification.inputs
    config = TINY.changed(
        objective={"name": name, "parameters": given}, steps=6, augmentation={"strong_view": two_views}
    )
    assert train(config, tmp_path)["state"] == "finished"
    row = RunDirectory(tmp_path).metrics()[-1]
    assert row["step"] == 6
    assert np.isfinite(list(row.values())).all()


def test_teacher_and_student_are_each_fed_in_their_own_way(tmp_path: Path) -> None:
    """A cached teacher and one asked for every batch say the same, whatever the student's own preprocessing is."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "colour.npz",
        images=pixels,
        labels=np.arange(60) % 10,
        classes=np.array([str(i) for i in range(100)]),
    )
    config = TINY.changed(
        data={"name": str(tmp_path / "colour.npz"), "train_samples": None, "validation_samples": None},
        teacher={"name": "cifar100-resnet20"},
        student={"architecture": "resnet20-plain"},
        steps=2,
        batch_size=10,
        objective="kd",
    )
    train(config, tmp_path / "cached")
    train(config.changed(augmentation={"resized_crop": [0.999999, 1.0]}), tmp_path / "asked")
    cached, asked = (RunDirectory(tmp_path / name).metrics()[0] for name in ("cached", "asked"))
    assert cached["teacher_entropy_mean"] == pytest.approx(asked["teacher_entropy_mean"], rel=0.05)


def test_a_student_that_cannot_read_the_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CistError, match="The student resnet8 reads 32x32 pixels in 3 channel"):
        train(TINY.changed(student={"architecture": "resnet8"}), tmp_path)


def test_a_student_may_start_from_weights(tmp_path: Path) -> None:
    train(TINY, tmp_path / "first")
    config = TINY.changed(student={"weights": str(tmp_path / "first" / "student.safetensors")}, steps=1)
    train(config.changed(optimiser={"learning_rate": 1e-12}), tmp_path / "second")
    last = RunDirectory(tmp_path / "first").metrics()[-1]["val_accuracy"]
    of_one_image = 1 / TINY.data.validation_samples
    assert RunDirectory(tmp_path / "second").metrics()[-1]["val_accuracy"] == pytest.approx(
        last, abs=1.01 * of_one_image
    )


def test_an_estimate_counts_every_step_and_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measured = estimate(TINY)
    assert (measured.steps, measured.steps_per_epoch, measured.epochs) == (20, 5, 4)
    assert measured.seconds >= measured.steps * measured.seconds_per_step > 0
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_image_is_no_divergence(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((28, 28), np.uint8))
    for label in range(10):
        (tmp_path / "images" / str(label)).mkdir(parents=True)
        for number in range(4):
            image.save(tmp_path / "images" / str(label) / f"{number}.png")
    for number in range(4):
        (tmp_path / "images" / "3" / f"{number}.png").write_bytes(b"no picture")
    data = {
        "name": str(tmp_path / "images"),
        "train_samples": None,
        "validation_samples": None,
        "validation_share": 0.25,
    }
    with pytest.raises(CistError, match=r"is not a readable image") as error:
        train(TINY.changed(data=data, augmentation={"flip": True}, batch_size=10), tmp_path / "run")
    assert "diverged" not in str(error.value)


def test_any_other_error_ends_the_run_in_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageClassification, "prepare_teacher", lambda *_: {}["missing"])
    with pytest.raises(CistError, match="The run failed: 'missing'"):
        train(TINY, tmp_path)
    assert RunDirectory(tmp_path).status()["state"] == "failed"
    assert "Traceback" in RunDirectory(tmp_path).log_tail(200)


def test_a_cancel_before_the_first_step_does_not_stop_the_resumed_run(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.cancel_file.touch()
    with pytest.raises(Cancelled, match="go on with: cist distill"):
        train(TINY, tmp_path)
    assert train(TINY, tmp_path, resume=True)["state"] == "finished"


def test_a_run_killed_after_its_last_step_resumes_with_every_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TINY, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(ImageClassification, "keep", lambda *_: {}["killed"])
        with pytest.raises(CistError):
            train(TINY, tmp_path / "cut")
    train(TINY, tmp_path / "cut", resume=True)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_somebody_elses_folder_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CistError, match=r"holds thesis\.tex"):
        train(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    TINY.save(tmp_path / "config.json")
    for folder in (tmp_path, tmp_path / "checkpoints"):
        folder.mkdir(exist_ok=True)
        (folder / ".step-000000003.pt.77.partial").touch()
    train(TINY, tmp_path)
    assert not list(tmp_path.rglob("*.partial"))


# Two processes as `accelerate launch` starts them for GPUs; its own launcher starts one on a CPU.
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def two_processes(config: RunConfig, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    config.save(run.with_suffix(".json"))
    command = [*TWO, "-m", "cist_core", "distill", str(run.with_suffix(".json")), "--run-dir", str(run), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_two_processes_over_gloo_train_like_one(micro_batch_size: int | None, tmp_path: Path) -> None:
    """A network without batch norm, full batches: the mean of two half-batch gradients is the gradient of the batch."""
    config = TINY.changed(objective="kd", optimiser={"weight_decay": 0.0})
    train(config, tmp_path / "one")
    done = two_processes(config.changed(machine={"micro_batch_size": micro_batch_size}), tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Test accuracy") == 1
    assert RunDirectory(tmp_path / "two").status()["processes"] == 2
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert len(two) == len(one) == 4
    for name in ("loss_total", "train_accuracy", "teacher_entropy_mean", "student_maximum_mean", "val_nll"):
        of_one_image = 0.011 if name == "train_accuracy" else 0.0
        expected = pytest.approx([row[name] for row in one], rel=1e-3, abs=of_one_image)
        assert [row[name] for row in two] == expected


def test_a_run_is_resumed_by_as_many_processes(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        train(TINY, tmp_path, should_stop=stop_after(3))
    checkpoint = next(RunDirectory(tmp_path).checkpoints.glob("*.pt"))
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | {"processes": 2}, checkpoint)
    with pytest.raises(CistError, match=r"trained by 2 process\(es\), and this is 1"):
        train(TINY, tmp_path, resume=True)


def test_the_log_names_the_weights_and_doubts_a_teacher_at_chance(tmp_path: Path) -> None:
    torch.manual_seed(0)
    good = read_checkpoint(find_sample_model("mnist5k-mlp").checkpoint)
    fresh = create_model("mlp_14x14", num_classes=10).state_dict()
    torch.save({"state_dict": fresh, "state_dict_ema": good}, tmp_path / "both.pth")
    config = TINY.changed(teacher={"name": str(tmp_path / "both.pth")}, epochs=1)
    status = train(config, tmp_path / "usual")
    log = RunDirectory(tmp_path / "usual").log_file.read_text()
    assert "Weights of the teacher: state_dict_ema, a running average; left out: state_dict." in log
    assert "chance" not in log
    assert status["teacher_test_accuracy"] > 0.85
    train(config.changed(teacher={"weights": "state_dict"}), tmp_path / "other")
    log = RunDirectory(tmp_path / "other").log_file.read_text()
    assert "Weights of the teacher: state_dict; left out: state_dict_ema." in log
    assert "The teacher on the validation images: The accuracy, " in log


def test_a_student_starts_from_the_student_of_a_pair(tmp_path: Path) -> None:
    torch.manual_seed(1)
    student, teacher = (create_model(name, num_classes=10).state_dict() for name in ("mlp_14x14", "cnn_16_32"))
    pair = {
        f"{role}.{name}": tensor
        for role, state in (("student", student), ("teacher", teacher))
        for name, tensor in state.items()
    }
    torch.save({"model": pair}, tmp_path / "pair.pth")
    config = TINY.changed(student={"weights": str(tmp_path / "pair.pth")}, epochs=1)
    accelerator = create_accelerator(config)
    trainer = Trainer(config, accelerator=accelerator)
    found = accelerator.unwrap_model(trainer.student).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in student.items())
    assert trainer.task.remarks == ["Weights that the student starts from: model.student; left out: model.teacher."]


def test_a_teacher_that_ends_with_a_softmax_gives_the_students_its_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed once or asked again for every view: the soft labels are those of the network without its last layer."""
    from dataclasses import replace

    from torch import nn

    from cist_core.training.tasks import image_classification as module

    plain = module.find_teacher("mnist5k-mlp")
    ending = replace(plain, model=nn.Sequential(plain.model, nn.Softmax(dim=1)).eval(), checkpoint_sha256="of another")
    found = {}
    for teacher in (plain, ending):
        monkeypatch.setattr(module, "find_teacher", lambda *_, teacher=teacher, **__: teacher)
        config = TINY.changed(augmentation={"crop_padding": 1})
        task = ImageClassification(config, accelerator=create_accelerator(config))
        task.prepare_teacher("validation")
        once = infer(teacher, task.splits.validation, device="cpu").logit_set
        pixels = torch.from_numpy(np.asarray(task.splits.validation.images[:20]))
        found[teacher.checkpoint_sha256] = (torch.tensor(once.logits[:20]), task.ask_teacher(pixels))
    (once, again), (softened_once, softened_again) = found.values()
    for one, other in ((once, softened_once), (again, softened_again)):
        torch.testing.assert_close(one.softmax(dim=1), other.softmax(dim=1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("augmentation", [{}, {"crop_padding": 1}])
@pytest.mark.parametrize("softmax", [False, True])
def test_a_class_that_the_teacher_masks_takes_no_part_in_training(
    monkeypatch: pytest.MonkeyPatch, augmentation: dict, softmax: bool, tmp_path: Path
) -> None:
    from dataclasses import replace

    from torch import nn

    from cist_core.training.tasks import image_classification as module

    class Masked(nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            masked = logits.masked_fill(torch.arange(10) == 3, -1e9)
            return masked.softmax(dim=1) if softmax else masked

    plain = module.find_teacher("mnist5k-mlp")
    masked = replace(plain, model=nn.Sequential(plain.model, Masked()).eval(), checkpoint_sha256=f"masked {softmax}")
    monkeypatch.setattr(module, "find_teacher", lambda *_, **__: masked)
    config = TINY.changed(augmentation=augmentation)
    with pytest.raises(CistError, match=r"samples are labelled with a class that takes no part \(3\)"):
        train(config, tmp_path / "refused")
    without = config.changed(data={"class_map": {**{str(each): each for each in range(10)}, "3": None}})
    train(without, tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["teacher_test_accuracy"] > 0.9
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 1 < rows[-1]["teacher_maximum_mean"] < 100  # a mask that counted would give 1e8
    assert "number 3; its logit is -" in (tmp_path / "run" / "log.txt").read_text()
    task = ImageClassification(without, accelerator=create_accelerator(without))
    task.prepare_teacher("validation")
    answers = task.ask_teacher(torch.from_numpy(np.asarray(task.splits.validation.images[:5])))
    assert (answers[:, 3] == -torch.inf).all()
