"""Students from elsewhere: trained, resumed, and read back with the card of their run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from whole_runs import results, stop_after

from cist_core.cli import main
from cist_core.errors import Cancelled, CistError
from cist_core.inference.sources import find_teacher, load_logits
from cist_core.logits.logit_set import LogitSet
from cist_core.runs import RunState, RunStore
from cist_core.training import RunConfig, RunDirectory, parse_config, preset
from cist_core.training.config import config_changes, is_free_on_resume, merge
from cist_core.training.engine import train
from cist_core.zoo.kinds.code import NO_CODE
from cist_core.zoo.teachers import load_checkpoint

SMALL = preset("demo").changed(
    data={"train_samples": 20, "validation_samples": 20},
    objective="cist:rho=3",
    steps=2,
    batch_size=10,
    machine={"device": "cpu", "checkpoint_every_steps": 1},
)

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Conv2d(1, 4, 3, 2)
        self.head = nn.Linear(4 * 13 * 13, num_classes)

    def forward(self, x):
        return self.head(self.features(x).relu().view(len(x), -1))

def colour(num_classes=10):
    from cist_core.zoo.preprocessing import Preprocessing
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, num_classes)), Preprocessing((0.5,) * 3, (0.3,) * 3, 28)

def build(num_classes=10):
    from cist_core.zoo.preprocessing import Preprocessing
    return Net(num_classes), Preprocessing((0.1,), (0.3,), 28)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(NO_CODE, raising=False)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "student_nets_of_a_test.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield "student_nets_of_a_test:build"
    sys.modules.pop("student_nets_of_a_test", None)


def with_student(name: str, size: int | None = None, config: RunConfig = SMALL) -> RunConfig:
    return config.changed(student={"architecture": name, "image_size": size})


@pytest.mark.parametrize(("name", "size"), [("torchvision:mnasnet0_5", 32), ("timm:test_resnet", 32), ("own", None)])
def test_a_student_from_elsewhere_is_trained_resumed_and_read_back(
    name: str, size: int | None, own: str, tmp_path: Path
) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    name = own if name == "own" else name
    config = with_student(name, size)
    train(config, tmp_path / "whole")
    with pytest.raises(Cancelled):
        train(config, tmp_path / "cut", should_stop=stop_after(1))
    train(config, tmp_path / "cut", resume=True)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")

    directory = RunDirectory(tmp_path / "whole")
    told = "batch normalisation keeps running means with a momentum of 0.0003, so after the 2 steps"
    assert any(told in sentence for sentence in directory.status()["warnings"]) == (name == "torchvision:mnasnet0_5")
    card = json.loads(directory.student_card.read_text())
    assert (card["architecture"], card["num_classes"]) == (name, 10)
    student = load_checkpoint(directory.student, name if name == own else None)
    assert student.architecture == name
    assert student.preprocessing.to_dict() == card["preprocessing"] | {
        field: tuple(card["preprocessing"][field]) for field in ("mean", "std")
    }
    assert (student.preprocessing.resize, student.preprocessing.grey_to_colour) == (size is not None,) * 2
    again = load_logits(str(directory.student), "mnist-5k", architecture=name).logit_set
    stored = LogitSet.load(directory.test_logits)
    first, second = (np.asarray(found.logits, np.float64) for found in (again, stored))
    np.testing.assert_allclose(first - first.max(1, keepdims=True), second - second.max(1, keepdims=True), atol=1e-4)
    if size is not None:
        assert "images of 28x28 pixels are resized to 32x32" in directory.log_tail()
        assert "the grey channel is repeated" in directory.log_tail()


def test_the_command_line_trains_code_of_the_working_directory_and_reads_it_back(own: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cist_core"]
    fields = [f"student.architecture={own}", "data.train_samples=20", "steps=2", "batch_size=10", "machine.device=cpu"]
    options = [word for field in fields for word in ("--set", field)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words], cwd=tmp_path / "code", env=environment, capture_output=True, text=True, check=False
        )

    trained = run("distill", "--preset", "demo", *options, "--run-dir", "run")
    assert trained.returncode == 0, trained.stderr
    words = [
        "infer",
        "--teacher",
        "run/student.safetensors",
        "--data",
        "mnist-5k",
        "--limit",
        "50",
        "--out",
        "x.safetensors",
    ]
    refused = run(*words)
    assert refused.returncode == 2
    assert f"name it with --arch {own}" in refused.stderr
    read = run(*words, "--arch", own)
    assert read.returncode == 0, read.stderr


@pytest.mark.parametrize(("no_code", "state"), [("", RunState.FINISHED), ("1", RunState.FAILED)])
def test_a_worker_that_the_app_started_runs_no_code(no_code: str, state: RunState, own: str, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    run = store.add(with_student(own))
    path = [str(tmp_path / "code"), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), NO_CODE: no_code}
    worker = [sys.executable, "-m", "cist_core", "worker", "--root", str(store.root), "--idle-seconds", "0.5"]
    subprocess.run(worker, env=environment, check=True, capture_output=True, timeout=120)
    ended = store.get(run.id)
    assert ended.state == state, ended.reason
    if no_code:
        assert f"'{own}' would run code of its own, which the Studio does not do" in str(ended.reason)
        assert not (ended.directory.path / "student.safetensors").exists()


def test_a_student_of_the_zoo_starts_from_the_weights_of_its_seed(tmp_path: Path) -> None:
    from cist_core.training.randomness import Stream, derived_seed
    from cist_core.training.trainer import Trainer, create_accelerator
    from cist_core.zoo.architectures import create_model

    config = with_student("cnn_16_32")
    trainer = Trainer(config, accelerator=create_accelerator(config))
    torch.manual_seed(derived_seed(config.seed, Stream.WEIGHTS))
    fresh = create_model("cnn_16_32", num_classes=10).state_dict()
    started = trainer.student.state_dict()
    assert all(torch.equal(fresh[key], started[key]) for key in fresh)


def test_a_student_starts_from_the_weights_of_another_run(own: str, tmp_path: Path) -> None:
    for place, name in enumerate(("torchvision:mobilenet_v3_small", own)):
        config = with_student(name, 32 if place == 0 else None)
        train(config, tmp_path / f"first-{place}")
        weights = str(tmp_path / f"first-{place}" / "student.safetensors")
        train(config.changed(student={"weights": weights}, seed=1), tmp_path / f"second-{place}")
        assert json.loads((tmp_path / f"second-{place}" / "student.json").read_text())["architecture"] == name


def test_a_card_chooses_no_code(own: str, tmp_path: Path) -> None:
    train(with_student(own), tmp_path / "run")
    sys.modules.pop("student_nets_of_a_test")
    file = str(tmp_path / "run" / "student.safetensors")
    with pytest.raises(CistError, match=f"name it with --arch {own}"):
        find_teacher(file)
    assert "student_nets_of_a_test" not in sys.modules
    assert find_teacher(file, own).num_classes == 10


def test_a_damaged_card_is_named_and_that_of_another_network_is_left_alone(tmp_path: Path) -> None:
    train(with_student("mlp_14x14"), tmp_path)
    directory = RunDirectory(tmp_path)
    assert load_checkpoint(directory.best_student).class_names == tuple("0123456789")
    directory.student_card.write_text("[")
    with pytest.raises(CistError, match=r"The card .*student\.json of that student cannot be read"):
        load_checkpoint(directory.student)
    directory.student_card.write_text("{}")
    assert load_checkpoint(directory.student).architecture == "mlp_14x14"


@pytest.mark.parametrize(
    ("student", "told"),
    [
        ({"architecture": "resne8"}, "student.architecture: "),
        ({"architecture": "torchvision:resnet18@"}, "ends in '@' without the weights"),
        ({"architecture": "resnet8@pretrained"}, "networks of the zoo have none"),
        ({"architecture": "mnist5k-mlp"}, "can be a teacher, not a student"),
        ({"architecture": "resnet8", "image_size": 64}, "Expected `image_size` of 'resnet8' to be 32"),
        ({"architecture": "torchvision:resnet18@pretrained", "weights": "a.pt"}, "leave one out"),
    ],
)
def test_a_config_says_what_is_wrong_with_its_student(student: dict[str, object], told: str) -> None:
    content = SMALL.model_dump(mode="json")
    with pytest.raises(CistError) as caught:
        parse_config({**content, "student": student})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        ("torchvision:resne18", "torchvision has no classifier 'resne18'; did you mean resnet18"),
        ("torchvision:resnet18@V9", "torchvision's resnet18 has no weights 'V9'; it has: IMAGENET1K_V1"),
        ("hf:google/vit@V9", "A Hugging Face model has one set of weights, but got '@V9'"),
        ("./a-folder-that-is-gone", "a-folder-that-is-gone"),
    ],
)
def test_a_config_is_read_where_its_student_is_missing_and_refused_where_it_would_run(
    architecture: str, told: str, tmp_path: Path
) -> None:
    config = parse_config(with_student(architecture).model_dump(mode="json"))
    with pytest.raises(CistError, match=re.escape(told)):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    store = RunStore(tmp_path / "store")
    with pytest.raises(CistError, match=re.escape(told)):
        store.add(config)
    assert store.list_runs() == []


def test_what_a_student_cannot_read_is_said_before_the_first_step(own: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 255, (200, 28, 28, 3), np.uint8), np.arange(200) % 10
    np.savez(tmp_path / "colour.npz", images=pixels, labels=labels)
    samples = {"train_samples": None, "validation_samples": None}
    config = with_student(own).changed(
        data={"name": str(tmp_path / "colour.npz"), **samples}, teacher={"name": own.replace("build", "colour")}
    )
    with pytest.raises(CistError, match=r"reads 28x28 pixels in 1 channel\(s\), but the images have 28x28 in 3"):
        train(config, tmp_path / "run")

    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        (tmp_path / "folder" / str(label)).mkdir(parents=True, exist_ok=True)
        size = 40 + number % 2
        Image.fromarray(image).resize((size, size)).save(tmp_path / "folder" / str(label) / f"{number}.png")
    config = config.changed(
        data={"name": str(tmp_path / "folder")},
        student={"architecture": "torchvision:mobilenet_v3_small", "image_size": 32},
        augmentation={"flip": True},
    )
    with pytest.raises(CistError, match="32x32 pixels, but the teacher reads 28x28"):
        train(config, tmp_path / "other")
    assert train(config.changed(student={"image_size": 28}), tmp_path / "same")["state"] == "finished"


def test_permission_to_fetch_a_student_is_free_on_resume_and_new_to_older_configs() -> None:
    new = SMALL.model_dump(mode="json")
    old = {**new, "student": {"architecture": new["student"]["architecture"], "weights": None}}
    assert config_changes(old, new) == []
    allowed = SMALL.changed(student={"download": True}).model_dump(mode="json")
    assert [change.field for change in config_changes(old, allowed)] == ["student.download"]
    assert is_free_on_resume("student.download")
    assert not is_free_on_resume("student.image_size")


@pytest.mark.parametrize("command", ["distill", "sweep"])
@pytest.mark.parametrize("part", [{"student": {"architecture": "{own}"}}, {"teacher": {"name": "{own}"}}])
def test_a_config_file_runs_code_only_when_it_is_allowed_to(
    command: str, part: dict[str, dict[str, str]], own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {name: {field: text.format(own=own) for field, text in fields.items()} for name, fields in part.items()}
    config = tmp_path / "sent.json"
    config.write_text(json.dumps(merge(SMALL.model_dump(mode="json"), changes)))
    where = ["--estimate"] if command == "distill" else ["--root", str(tmp_path / "runs")]
    assert main([command, str(config), *where]) == 2
    assert f"names the code '{own}', which would run with your rights" in capsys.readouterr().err
    assert own.partition(":")[0] not in sys.modules
    if command == "sweep":
        assert main([command, str(config), "--allow-code", *where]) == 0


def test_no_code_holds_for_code_that_the_command_line_itself_names(
    own: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIST_NO_CODE", "")  # and back to what it was
    named = ["distill", "--preset", "demo", "--set", f"student.architecture={own}", "--estimate"]
    assert main([*named, "--no-code"]) == 2
    assert f"'{own}' would run code of its own" in capsys.readouterr().err
    assert own.partition(":")[0] not in sys.modules
    with pytest.raises(SystemExit):
        main([*named, "--no-code", "--allow-code"])
