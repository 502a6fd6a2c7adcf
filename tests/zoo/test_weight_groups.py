"""Which of several groups of weights in a file are taken, that they are named, and that others can be chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run
from safetensors.torch import save_file

from cist_core import LogitSet
from cist_core.data.loading import load_dataset
from cist_core.errors import CistError
from cist_core.inference.run import infer
from cist_core.inference.sources import find_teacher, load_logits
from cist_core.zoo.architectures import create_model
from cist_core.zoo.checkpoints import read_checkpoint, read_content
from cist_core.zoo.inspection import inspect_checkpoint
from cist_core.zoo.teachers import load_checkpoint
from cist_core.zoo.weight_groups import find_groups

State = dict[str, torch.Tensor]


def weights(name: str = "resnet8", classes: int = 10, seed: int = 0) -> State:
    torch.manual_seed(seed)
    return create_model(name, num_classes=classes).state_dict()


def under(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def averaged(state: State) -> State:
    """As torch's `AveragedModel` saves itself."""
    return {"n_averaged": torch.tensor(12), **under("module", state)}


OWN, AVERAGE, TEACHER = weights(seed=1), weights(seed=2), weights("resnet14", seed=3)
SHUFFLED = {"state": {0: {"exp_avg": torch.ones(3, 3)}}, "param_groups": [{"lr": 0.1}]}

CASES: dict[str, tuple[Any, State, str, tuple[str, ...]]] = {
    "timm": ({"epoch": 3, "state_dict": OWN, "state_dict_ema": AVERAGE, "optimizer": SHUFFLED}, AVERAGE,
             "state_dict_ema", ("state_dict",)),
    "the reference training of torchvision": ({"model": OWN, "model_ema": averaged(AVERAGE), "epoch": 3}, AVERAGE,
                                              "model_ema", ("model", "n_averaged")),
    "AveragedModel alone": (averaged(AVERAGE), AVERAGE, "", ("n_averaged",)),
    "WeightAveraging of Lightning": (
        {"state_dict": under("model", AVERAGE), "current_model_state": under("model", OWN),
         "averaging_state": {"n_averaged": torch.tensor(12)}, "optimizer_states": []},
        AVERAGE, "state_dict", ("current_model_state",)),
    "EMAHook of MMEngine": (
        {"meta": {"mmengine_version": "0.10"}, "state_dict": AVERAGE, "ema_state_dict": averaged(OWN)},
        AVERAGE, "state_dict", ("ema_state_dict",)),
    "DINO": ({"student": under("module", OWN), "teacher": under("module", TEACHER), "epoch": 3}, TEACHER, "teacher",
             ("student",)),
    "a distiller": ({"model": under("module.student", OWN) | under("module.teacher", TEACHER)
                     | {"module.connector.weight": torch.ones(4, 4)}}, TEACHER, "model.teacher",
                    ("model.student", "model.connector")),
    "a student alone": ({"model": under("module.student", OWN)}, OWN, "model", ()),
    "a loss beside the network": (under("model", OWN) | {"criterion.weight": torch.ones(10)}, OWN, "",
                                  ("criterion.weight",)),
    "a loss inside the network": (OWN | {"criterion.weight": torch.ones(10), "train_acc.total": torch.tensor(3)}, OWN,
                                  "", ("criterion.weight", "train_acc.total")),
    "an average in Lightning's module": (
        {"state_dict": under("net", OWN) | under("ema_model.module", AVERAGE)
         | {"ema_model.n_averaged": torch.tensor(3)}}, AVERAGE, "state_dict.ema_model", ("state_dict.net",)),
    "any prefix": (under("backbone.body", OWN), OWN, "backbone.body", ()),
    "any key": ({"weights_of_the_net": OWN, "rng": {"cpu": torch.zeros(5, dtype=torch.uint8)}}, OWN,
                "weights_of_the_net", ()),
    "numbers beside the weights": ({"epoch": 3, **OWN}, OWN, "", ("epoch",)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_usual_choice_is_that_of_the_library(tmp_path: Path, case: str) -> None:
    content, expected, name, left_out = CASES[case]
    torch.save(content, tmp_path / "both.pth")
    report = inspect_checkpoint(tmp_path / "both.pth")
    assert report.weights == name
    assert [fit.architecture for fit in report.fits] == ["resnet14" if expected is TEACHER else "resnet8"]
    assert set(left_out) <= set(report.left_out)
    teacher = load_checkpoint(tmp_path / "both.pth")
    loaded = teacher.model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in expected.items())
    assert (teacher.weights is not None) == bool(left_out)
    for what in (name, *left_out) if left_out else ():
        assert what in str(teacher.weights)


@pytest.mark.parametrize(
    "keys", [("state_dict", "state_dict_ema"), ("state_dict", "model_ema"), ("model", "state_dict")]
)
def test_it_is_the_choice_of_timm(tmp_path: Path, keys: tuple[str, str]) -> None:
    timm = pytest.importorskip("timm")
    path = tmp_path / "both.pth.tar"
    torch.save(dict(zip(keys, (OWN, AVERAGE), strict=True)), path)
    theirs = timm.models.load_state_dict(str(path))
    ours = read_checkpoint(path)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize(
    ("case", "asked", "expected"),
    [
        ("timm", "state_dict", OWN),
        ("the reference training of torchvision", "model", OWN),
        ("WeightAveraging of Lightning", "current_model_state", OWN),
        ("DINO", "student", OWN),
        ("a distiller", "student", OWN),
        ("a distiller", "model.student", OWN),
        ("an average in Lightning's module", "net", OWN),
    ],
)
def test_others_can_be_chosen(tmp_path: Path, case: str, asked: str, expected: State) -> None:
    torch.save(CASES[case][0], tmp_path / "both.pth")
    usual, other = load_checkpoint(tmp_path / "both.pth"), load_checkpoint(tmp_path / "both.pth", weights=asked)
    loaded = other.model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in expected.items())
    assert asked in str(other.weights)
    assert any(asked in name for name in usual.other_weights)
    assert usual.checkpoint_sha256 != other.checkpoint_sha256  # under which logits are cached


@pytest.mark.parametrize("case", ["DINO", "a distiller"])
def test_whoever_asks_for_a_student_gets_the_student(tmp_path: Path, case: str) -> None:
    torch.save(CASES[case][0], tmp_path / "both.pth")
    loaded = load_checkpoint(tmp_path / "both.pth", role="student").model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in OWN.items())


def test_a_backbone_is_not_taken_without_its_head_unasked(tmp_path: Path) -> None:
    torch.save(under("backbone", OWN) | {"head.weight": torch.ones(3, 10)}, tmp_path / "parts.pth")
    with pytest.raises(CistError, match=r"'backbone' .* fit a network .* head \(1 tensors: head\).*--weights backbone"):
        load_checkpoint(tmp_path / "parts.pth")
    alone = load_checkpoint(tmp_path / "parts.pth", weights="backbone")
    assert alone.weights == "backbone; left out: head"


@pytest.mark.parametrize(
    "content",
    [{"first": OWN, "second": AVERAGE}, under("first", OWN) | under("second", AVERAGE)],
    ids=["dicts", "prefixes"],
)
def test_names_that_do_not_say_which_is_meant_are_a_question(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "two.pth")
    with pytest.raises(CistError, match=r"two\.pth holds several .*first \(.*second \(.*--weights"):
        load_checkpoint(tmp_path / "two.pth")
    loaded = load_checkpoint(tmp_path / "two.pth", weights="second").model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in AVERAGE.items())


def test_what_fits_nothing_is_listed_by_groups(tmp_path: Path) -> None:
    odd = {name: tensor for name, tensor in OWN.items() if not name.startswith("layer2")}
    torch.save({"state_dict": odd, "state_dict_ema": odd}, tmp_path / "odd.pth")
    for architecture in (None, "resnet8"):
        with pytest.raises(CistError) as error:
            load_checkpoint(tmp_path / "odd.pth", architecture)
        assert f"state_dict_ema ({len(odd)} tensors: conv1, bn1, layer1, layer3, fc)" in str(error.value)
        assert "; state_dict (" in str(error.value)
        assert "--weights" in str(error.value)
    with pytest.raises(CistError, match=r"no weights called 'ema'; it holds state_dict_ema \(.*; state_dict \("):
        load_checkpoint(tmp_path / "odd.pth", weights="ema")


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_named_architecture_is_looked_for_below_prefixes_too(tmp_path: Path, library: str) -> None:
    if library == "timm":
        timm = pytest.importorskip("timm")
        network, name = timm.create_model("test_resnet", num_classes=6), "timm:test_resnet"
    else:
        from torchvision.models import squeezenet1_1

        network, name = squeezenet1_1(num_classes=6), "torchvision:squeezenet1_1"
    state = network.state_dict()
    content = under("encoder", state) | {"loss_fn.weight": torch.ones(6)}
    save_file({key: tensor.clone() for key, tensor in content.items()}, tmp_path / "mine.safetensors")
    teacher = load_checkpoint(tmp_path / "mine.safetensors", name)
    assert (teacher.num_classes, teacher.weights) == (6, "encoder; left out: loss_fn.weight")
    assert all(torch.equal(teacher.model.state_dict()[key], tensor) for key, tensor in state.items())


def test_a_dict_that_holds_itself_ends(tmp_path: Path) -> None:
    knot: dict[str, Any] = {"fc.weight": torch.ones(3, 3)}
    knot |= {f"again{number}": knot for number in range(50)}
    assert len(find_groups(knot)) <= 4


def test_the_name_of_a_sample_models_weights_is_refused() -> None:
    with pytest.raises(CistError, match=r"`weights` .* only together with a checkpoint, but got 'teacher'"):
        find_teacher("mnist5k-cnn", weights="teacher")


# ---- every output names them -----------------------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good average beside weights that were never trained."""
    from cist_core.cards import find_sample_model

    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    card = find_sample_model("mnist5k-cnn")
    assert card is not None
    good = read_content(card.checkpoint)
    torch.manual_seed(0)
    fresh = create_model(card.architecture, num_classes=10).state_dict()
    torch.save({"state_dict": fresh, "state_dict_ema": good, "epoch": 3}, tmp_path / "both.pth.tar")
    return tmp_path / "both.pth.tar"


def test_cist_infer_names_the_weights_and_takes_others(both: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "o.safetensors"
    command = ("infer", "--teacher", both, "--data", "mnist-5k", "--limit", "200", "--out", out)
    code, said, _ = run(capsys, *command)
    assert code == 0
    assert "Weights: state_dict_ema, a running average; left out: state_dict." in said
    assert "--weights state_dict" in said
    first = LogitSet.load(out)
    assert first.provenance["weights"].startswith("state_dict_ema")
    _, said, _ = run(capsys, *command, "--weights", "state_dict")
    assert "Weights: state_dict; left out: state_dict_ema." in said
    second = LogitSet.load(out)
    assert first.accuracy is not None
    assert second.accuracy is not None
    assert first.accuracy > 0.9 > 0.5 > second.accuracy
    code, _, said = run(capsys, *command, "--weights", "swa")
    assert code != 0
    assert "no weights called 'swa'; it holds state_dict_ema (" in said


@pytest.mark.parametrize("command", ["analyze", "rho"])
def test_what_reads_a_model_names_them_too(both: Path, command: str, capsys: Any) -> None:
    source = [command, "--teacher", both, "--data", "mnist-5k", "--limit", "200"]
    source += ["--tau", "2"] if command == "analyze" else []
    _, said, _ = run(capsys, *source)
    assert "Weights: state_dict_ema, a running average; left out: state_dict." in said
    for options, begin in ((), "state_dict_ema, a"), (("--weights", "state_dict_ema"), "state_dict_ema, a"):
        _, said, _ = run(capsys, *source, *options, "--json")
        record = json.loads(said)
        assert record.get("source", record)["weights"].startswith(begin)


def test_an_ensemble_names_those_of_each(both: Path) -> None:
    reference = f"{both} + mnist5k-mlp"
    result = load_logits(reference, "mnist-5k", limit=100)
    assert result.logit_set.provenance["weights"] == (
        "both.pth.tar: state_dict_ema, a running average; left out: state_dict"
    )
    teacher = find_teacher(reference, weights="state_dict")
    assert "both.pth.tar: state_dict; left out: state_dict_ema" in str(teacher.weights)
    dataset = load_dataset("mnist-5k")
    assert infer(teacher, dataset, limit=100).logit_set.provenance["weights"] == teacher.weights


def test_the_student_beside_a_teacher_is_the_student(both: Path, tmp_path: Path, capsys: Any) -> None:
    content = read_content(both)
    assert isinstance(content, dict)
    torch.save({"teacher": content["state_dict_ema"], "student": content["state_dict"]}, tmp_path / "pair.pth")
    _, said, remarks = run(
        capsys, "analyze", "--teacher", tmp_path / "pair.pth", "--student", tmp_path / "pair.pth", "--data",
        "mnist-5k", "--limit", "100", "--rule", "dtkd:tau=4",
    )  # fmt: skip
    assert "Weights: teacher; left out: student." in said
    assert "Of the student: weights: student; left out: teacher." in remarks
