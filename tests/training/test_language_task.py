"""A language model is distilled token by token: the engine trains, checkpoints, resumes and times it as any other."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from whole_runs import results, stop_after

pytest.importorskip("transformers")

from accelerate import Accelerator
from safetensors.torch import load_file
from tiny_language_models import CLASSES, WORDS, save_tiny_model

from cist_core.errors import Cancelled, CistError
from cist_core.language.batches import Batch
from cist_core.language.evaluation import score_texts
from cist_core.language.models import LanguageModel, open_language_model
from cist_core.objectives import create_objective
from cist_core.training import RunConfig, RunDirectory, estimate, parse_config, preset
from cist_core.training.engine import train
from cist_core.training.language_texts import load_rows
from cist_core.training.presets import DEMO_LANGUAGE, LANGUAGE_PRESETS, preset_names
from cist_core.training.statistics import EpochStatistics
from cist_core.training.tasks.language import Language
from cist_core.training.tasks.protocol import TASKS
from cist_core.training.trainer import Trainer

LENGTH = 24


def words(count: int, generator: np.random.Generator) -> str:
    return " ".join(f"w{number}" for number in generator.integers(20, WORDS, count))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "teacher")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts and responses of several lengths."""
    generator = np.random.default_rng(0)
    lines = [
        json.dumps({"prompt": words(4, generator) + " ", "response": words(int(length), generator)})
        for length in generator.integers(1, 16, 40)
    ]
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def config(teacher: Path, texts: Path) -> RunConfig:
    return parse_config(
        {
            "task": "language",
            "data": {"name": str(texts), "length": LENGTH, "validation_share": 0.2},
            "teacher": {"name": str(teacher)},
            "student": {"architecture": "gpt2:width=16,layers=1,heads=2"},
            "objective": "cist:rho=4",
            "optimiser": {"name": "adamw", "learning_rate": 0.02},
            "epochs": 3,
            "batch_size": 6,
            "machine": {"device": "cpu", "threads": 1},
        }
    )


def gradients(config: RunConfig, **machine: object) -> tuple[dict[str, torch.Tensor], float]:
    """Of the first step, and its loss."""
    trainer = Trainer(config.changed(machine=machine), accelerator=Accelerator(cpu=True))
    trainer.task.prepare_teacher("train")
    statistics = trainer.task.new_statistics()
    trainer.step(0, statistics)
    found = {name: parameter.grad.clone() for name, parameter in trainer.student.named_parameters()}
    return found, statistics.row()["loss_total"]


def test_a_run_leaves_a_student_that_can_be_opened(config: RunConfig, teacher: Path, tmp_path: Path) -> None:
    status = train(config, tmp_path)
    first, *_, last = RunDirectory(tmp_path).metrics()
    assert last["loss_total"] < first["loss_total"]
    assert status["test_perplexity"] == pytest.approx(math.exp(status["test_nll"]))
    assert 0 < status["test_bits_per_byte"] < 20
    assert 0 <= status["test_agreement"] <= 1
    texts = load_rows(config.data, (opened := open_language_model(str(teacher))))[0]["test"]
    scores = score_texts(opened, texts)
    assert status["teacher_test_nll"] == pytest.approx(scores.nll, rel=1e-5)
    assert status["teacher_test_accuracy"] == pytest.approx(scores.accuracy)
    assert first["tokens"] > 100
    assert first["steps_without_tokens"] == 0
    assert first["weight_median"] <= first["weight_95"]
    assert sum(first[f"weight_share_{tenth}"] for tenth in range(1, 11)) == pytest.approx(1)
    student = open_language_model(str(tmp_path / "student"))
    assert student.vocabulary == open_language_model(str(teacher)).vocabulary
    kept = load_file(tmp_path / "student.safetensors")["network.transformer.wte.weight"]
    assert torch.equal(student.head.weight, kept)
    assert "tokens of 26 rows count in an epoch" in RunDirectory(tmp_path).log_tail()


@pytest.mark.parametrize("objective", ["dtkd:alpha=0", "kd-entropy-threshold-ce:high=0", "kd-entout-ce:share=0.6"])
def test_an_objective_may_give_tokens_the_weight_0(config: RunConfig, objective: str, tmp_path: Path) -> None:
    train(config.changed(objective=objective, epochs=1), tmp_path)
    (row,) = RunDirectory(tmp_path).metrics()
    assert row["weight_median"] == 0
    shares = [row[name] for name in row if name.startswith("weight_share_")]
    assert (row["weight_95"] == 0) == (not shares)
    if objective.startswith("kd-entout-ce"):
        assert row["weight_95"] == pytest.approx(16, rel=0.02)
        assert sum(shares) == pytest.approx(1)
    else:
        assert not shares


@pytest.mark.parametrize("cached", [False, True])
def test_it_resumes_to_exactly_the_same_end(config: RunConfig, cached: bool, tmp_path: Path) -> None:
    config = config.changed(machine={"micro_batch_size": 4})
    if cached:
        config = config.changed(teacher={"cache": str(tmp_path / "states")})
    train(config, tmp_path / "whole")
    with pytest.raises(Cancelled):
        train(config, tmp_path / "cut", should_stop=stop_after(6))
    train(config, tmp_path / "cut", resume=True)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / "student.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_with_a_cache_the_teacher_reads_every_text_once(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train(config, tmp_path / "alone")
    config = config.changed(teacher={"cache": str(tmp_path / "states")})
    train(config, tmp_path / "first")

    def never(model: LanguageModel, batch: Batch) -> torch.Tensor:
        raise AssertionError("the teacher runs again")

    monkeypatch.setattr(LanguageModel, "hidden_states", never)
    again = train(config, tmp_path / "second")
    assert results(tmp_path / "second") == results(tmp_path / "first")
    assert again["test_nll"] == pytest.approx(alone["test_nll"], abs=1e-3)
    assert again["teacher_test_accuracy"] == pytest.approx(alone["teacher_test_accuracy"], abs=0.02)


def test_runs_on_other_test_texts_share_the_states_of_the_training_texts(
    config: RunConfig, texts: Path, tmp_path: Path
) -> None:
    config = config.changed(teacher={"cache": str(tmp_path / "states")}, epochs=1)
    for part in (slice(0, 20), slice(20, 40)):
        test = tmp_path / f"{part.start}.jsonl"
        test.write_text("\n".join(texts.read_text().splitlines()[part]))
        train(config.changed(data={"validation": str(texts), "test": str(test)}), tmp_path / str(part.start))
    folders = [path.name.partition("-")[0] for path in (tmp_path / "states").iterdir() if path.is_dir()]
    assert sorted(folders) == ["test", "test", "validation"]


@pytest.mark.parametrize("rows_kept", [True, False])
def test_a_checkpoint_that_knows_the_accuracy_alone_is_beaten_by_likelihood(
    config: RunConfig, rows_kept: bool, tmp_path: Path
) -> None:
    config = config.changed(objective="kd:tau=1", optimiser={"learning_rate": 0.002})
    train(config, tmp_path / "whole")
    with pytest.raises(Cancelled):
        train(config, tmp_path / "cut", should_stop=stop_after(6))
    cut = RunDirectory(tmp_path / "cut")
    for file in cut.checkpoints.glob("*.pt"):
        state = torch.load(file, weights_only=True)
        del state["best"]["merit"]
        torch.save(state, file)
    if not rows_kept:
        cut.metrics_file.unlink()
    status = train(config, tmp_path / "cut", resume=True)
    rows = RunDirectory(tmp_path / "whole").metrics()
    later = [row for row in rows if rows_kept or row["epoch"] > rows[0]["epoch"]]
    assert status["best_epoch"] == min(later, key=lambda row: row["val_nll"])["epoch"] > 1


def test_the_best_epoch_is_the_likeliest_one(config: RunConfig, tmp_path: Path) -> None:
    config = config.changed(objective="ce", optimiser={"learning_rate": 0.1}, epochs=6)
    status, rows = train(config, tmp_path), RunDirectory(tmp_path).metrics()
    best = min(rows, key=lambda row: row["val_nll"])
    assert (status["best_epoch"], status["best_val_accuracy"]) == (best["epoch"], best["val_accuracy"])
    assert best["val_accuracy"] < max(row["val_accuracy"] for row in rows)  # by which it would be another one
    assert math.exp(status["test_nll_at_best"]) == pytest.approx(status["test_perplexity_at_best"])


@pytest.mark.parametrize("reduction", ["token", "sequence"])
@pytest.mark.parametrize("objective", ["kd:tau=2", "cist:rho=4,weighting=uniform,normalise=yes,gradient=full", "jsd"])
def test_any_split_of_a_step_has_the_same_gradient(config: RunConfig, objective: str, reduction: str) -> None:
    config = config.changed(objective=objective, reduction=reduction)
    whole, loss = gradients(config)
    for size in (1, 4):
        parts, again = gradients(config, micro_batch_size=size)
        assert again == pytest.approx(loss, rel=1e-6)
        for name, wanted in whole.items():
            torch.testing.assert_close(parts[name], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_what_is_told_of_a_step_is_of_the_weights_before_it(config: RunConfig, micro_batch_size: int | None) -> None:
    """The head reads the states when their statistics are taken: however far the step goes, they are the same."""
    rows = []
    for rate in (1e-8, 1.0):
        changed = config.changed(optimiser={"learning_rate": rate}, machine={"micro_batch_size": micro_batch_size})
        trainer = Trainer(changed, accelerator=Accelerator(cpu=True))
        trainer.task.prepare_teacher("train")
        statistics = trainer.task.new_statistics()
        trainer.step(0, statistics)
        rows.append(statistics.row())
    assert rows[0] == pytest.approx(rows[1], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "micro_batch_size"), [("gpt2", 2), ("llama", None)])  # tied weights, and none
def test_two_processes_over_gloo_train_like_one(
    config: RunConfig, kind: str, micro_batch_size: int | None, tmp_path: Path
) -> None:
    student = save_tiny_model(tmp_path / "student", kind, seed=3)
    config = config.changed(
        student={"architecture": str(student)},
        objective="cist:rho=4,weighting=uniform,normalise=yes,gradient=full",
        optimiser={"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0},
        reduction="sequence",
        machine={"micro_batch_size": micro_batch_size},
    )
    if kind == "gpt2":  # its dropout would draw other numbers
        drawn = student / "config.json"
        drawn.write_text(re.sub(r'("\w+_pdrop"): [\d.]+', r"\1: 0.0", drawn.read_text()))
    train(config, tmp_path / "one")
    train_in_two_processes(config, tmp_path / "two")
    assert_trained_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_a_process_in_which_no_token_counts_takes_part_in_the_step(config: RunConfig, tmp_path: Path) -> None:
    """Steps of two rows, one a process; some prompts fill a row, so their response is cut off."""
    generator = np.random.default_rng(1)
    lines = [
        json.dumps({"prompt": words(30 if number % 3 else 4, generator) + " ", "response": words(6, generator)})
        for number in range(40)
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    config = config.changed(
        data={"name": str(tmp_path / "texts.jsonl")},
        objective="cist:rho=4,weighting=uniform,normalise=yes,gradient=full",
        optimiser={"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0},
        batch_size=2,
        epochs=2,
    )
    train(config, tmp_path / "one")
    train_in_two_processes(config, tmp_path / "two")
    assert_trained_alike(tmp_path / "one", tmp_path / "two")
    first = RunDirectory(tmp_path / "two").metrics()[0]
    assert 0 < first["steps_without_tokens"] < 13
    assert first["tokens"] > 0


def train_in_two_processes(config: RunConfig, run: Path) -> None:
    config.save(run.with_suffix(".json"))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "cist_core",
    ]
    command += ["distill", str(run.with_suffix(".json")), "--run-dir", str(run)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def assert_trained_alike(one: Path, two: Path) -> None:
    for name in ("loss_total", "train_accuracy", "student_maximum_mean", "val_nll", "tokens", "steps_without_tokens"):
        found, wanted = ([row[name] for row in results(run)] for run in (two, one))
        assert found == pytest.approx(wanted, rel=1e-5), name
    ours, theirs = (load_file(run / "student.safetensors") for run in (one, two))
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight, rtol=0, atol=1e-6)


def test_the_loss_is_a_mean_over_tokens_or_over_sequences(config: RunConfig) -> None:
    """Against the losses of single rows, each over its own tokens."""
    config = config.changed(objective="ce")
    task = TASKS["language"](config, accelerator=Accelerator(cpu=True))
    task.create_student()
    chosen = torch.arange(6)
    objective = create_objective("ce")

    def loss(rows: torch.Tensor, **options: object) -> tuple[float, int]:
        batch = task.batch(rows)
        outputs = task.student_logits(task.student, batch.student_inputs)
        inputs = task.objective_inputs(outputs, batch.targets) | options
        return objective(**inputs)["total"].item(), len(batch.targets["labels"])

    singles = [loss(row[None]) for row in chosen]
    counts = np.array([count for _, count in singles])
    means = np.array([mean for mean, _ in singles])
    assert len(set(counts)) > 2
    assert loss(chosen)[0] == pytest.approx((counts * means).sum() / counts.sum(), rel=1e-5)
    task.config = config.changed(reduction="sequence")
    assert loss(chosen)[0] == pytest.approx(means.mean(), rel=1e-5)


def test_padding_and_prompts_do_not_move_the_loss(config: RunConfig) -> None:
    """A row has the same losses alone as beside a longer one, and no token of a prompt has any."""
    task = TASKS["language"](config, accelerator=Accelerator(cpu=True))
    task.create_student()
    objective = create_objective("cist:rho=4")

    def total(rows: torch.Tensor) -> torch.Tensor:
        batch = task.batch(rows)
        outputs = task.student_logits(task.student, batch.student_inputs)
        return objective(**task.objective_inputs(outputs, batch.targets))["kl"]

    lengths = [len(row.ids) for row in task.rows["train"]]
    shortest, longest = int(np.argmin(lengths)), int(np.argmax(lengths))
    alone = total(torch.tensor([shortest]))
    beside = total(torch.tensor([shortest, longest]))[: len(alone)]
    torch.testing.assert_close(alone, beside, rtol=0, atol=1e-6)
    counted = sum(int(row.counted[1:].sum()) for row in (task.rows["train"][shortest], task.rows["train"][longest]))
    assert len(total(torch.tensor([shortest, longest]))) == counted < lengths[shortest] + lengths[longest] - 8


def test_padding_is_left_out_of_the_statistics(config: RunConfig) -> None:
    """Rows one by one, without any padding, and all of them padded to the longest: the same entropies and weights."""
    task = TASKS["language"](config, accelerator=Accelerator(cpu=True))
    task.create_student()
    objective = create_objective("cist:rho=4")
    lengths = {len(row.ids) for row in task.rows["train"]}
    assert max(lengths) > 2 * min(lengths)
    rows = []
    for size in (1, len(task.rows["train"])):
        statistics = task.new_statistics()
        for part in torch.arange(len(task.rows["train"])).split(size):
            batch = task.batch(part)
            outputs = task.student_logits(task.student, batch.student_inputs)
            inputs = task.objective_inputs(outputs, batch.targets)
            statistics.add(terms=objective(**inputs), **inputs)
        rows.append(statistics.row())
    alone, padded = rows
    assert {f"weight_share_{tenth}" for tenth in range(1, 11)} < padded.keys()
    assert padded == pytest.approx(alone, rel=1e-4, abs=1e-5)
    entropies, taus = [], []
    for row in task.rows["train"]:
        with torch.inference_mode():
            logits = task.teacher.network(input_ids=torch.from_numpy(row.ids)[None]).logits[0, :, :WORDS].double()
        counted = logits[np.flatnonzero(row.counted[1:])].numpy()
        tau = np.maximum((counted.max(1) - counted.mean(1)) / 4, 1)
        entropies += entropy(softmax(counted / tau[:, None], axis=1), axis=1).tolist()
        taus += tau.tolist()
    assert padded["tokens"] == len(entropies)
    assert padded["teacher_entropy_mean"] == pytest.approx(np.mean(entropies), abs=1e-4)
    assert padded["tau_teacher_mean"] == pytest.approx(np.mean(taus), abs=1e-4)


def test_tied_weights_are_kept_once_and_nothing_else_is_left_out(config: RunConfig) -> None:
    """Empty tensors share an address, and a part may begin where its whole does; neither is tied."""
    student = TASKS["language"](config, accelerator=Accelerator(cpu=True)).create_student()
    whole = torch.arange(6.0)
    kept = {"whole": whole, "part": whole[:2], "first": torch.zeros(0), "second": torch.zeros(0, 3)}
    for name, buffer in kept.items():
        student.network.register_buffer(name, buffer)
    state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    assert {f"network.{name}" for name in kept} <= state.keys()
    assert ("network.lm_head.weight" in state) != ("network.transformer.wte.weight" in state)
    for tensor in student.state_dict().values():
        tensor.zero_()
    student.load_state_dict(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in student.state_dict().items())
    assert student.network.lm_head.weight.data_ptr() == student.network.transformer.wte.weight.data_ptr()


def test_texts_of_which_nothing_counts_are_refused(config: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    prompt = " ".join(f"w{number}" for number in range(20, 50))  # fills a row; the response is cut off
    path.write_text("\n".join(json.dumps({"prompt": f"{prompt} ", "response": "w5"}) for _ in range(20)))
    with pytest.raises(CistError, match="No token of the train texts counts"):
        train(config.changed(data={"name": str(path)}), tmp_path / "run")


def test_an_epoch_without_a_counted_token_is_refused_and_a_step_is_counted(config: RunConfig) -> None:
    task = TASKS["language"](config, accelerator=Accelerator(cpu=True))
    student = task.create_student()
    for row in task.rows["train"]:
        row.counted[:] = False
    batch = task.batch(torch.arange(6))
    outputs = task.student_logits(student, batch.student_inputs)
    inputs = task.objective_inputs(outputs, batch.targets)
    terms = create_objective("cist:rho=4,weighting=uniform")(**inputs)
    terms["total"].backward()
    assert terms["total"] == 0
    statistics = task.new_statistics()
    statistics.add(terms=terms, **inputs)
    row = {"epoch": 1, **statistics.row()}
    assert (row["tokens"], row["steps_without_tokens"], row["loss_total"]) == (0, 1, 0)
    with pytest.raises(CistError, match="No token counted in epoch 1"):
        task.check_epoch(row)


def test_objectives_over_pairs_of_classes_are_refused_before_anything_is_loaded(config: RunConfig) -> None:
    with pytest.raises(CistError, match="'mlkd' compares every class with every other, as many numbers as the square"):
        config.changed(objective="mlkd")


@pytest.mark.parametrize(
    ("architecture", "fault"),
    [
        ("gpt2:width=16,layers=1", "expected 'gpt2:width=96,layers=4,heads=4'"),
        ("gpt2:width=15,layers=1,heads=2", "no multiple of the 2 heads"),
        ("gpt2:width=16,layers=0,heads=2", "with sizes of your own"),
    ],
)
def test_sizes_of_a_fresh_student_are_checked(config: RunConfig, architecture: str, fault: str) -> None:
    with pytest.raises(CistError, match=fault):
        config.changed(student={"architecture": architecture})


def test_a_student_may_go_on_from_a_model(config: RunConfig, teacher: Path, tmp_path: Path) -> None:
    status = train(
        config.changed(student={"architecture": str(teacher)}, epochs=1, optimiser={"learning_rate": 1e-8}), tmp_path
    )
    assert status["test_agreement"] == 1


def test_classes_that_one_model_has_more_take_part_in_neither(config: RunConfig, teacher: Path, tmp_path: Path) -> None:
    """Padding of the student with a logit of 1,000 changes nothing."""
    wider = open_language_model(str(teacher)).network
    wider.resize_token_embeddings(CLASSES + 6, mean_resizing=False)
    wider.lm_head.weight.data[CLASSES:] = 100.0
    wider.save_pretrained(tmp_path / "wider")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(teacher / file, tmp_path / "wider" / file)
    config = config.changed(student={"architecture": str(tmp_path / "wider")}, epochs=1)
    status = train(config.changed(optimiser={"learning_rate": 1e-8}), tmp_path / "run")
    assert status["test_agreement"] == 1
    log = RunDirectory(tmp_path / "run").log_tail()
    assert f"of which {WORDS} are tokens; the others are padding and left out in both" in log


@pytest.mark.parametrize("missing", [None, 50], ids=["at-the-end", "between"])
def test_classes_that_are_no_token_take_part_in_no_loss(
    config: RunConfig, missing: int | None, teacher: Path, tmp_path: Path
) -> None:
    """Also where teacher and student have the same ones; against the teacher's own logits, without them."""
    shutil.copytree(teacher, tmp_path / "teacher")
    written = json.loads((tmp_path / "teacher" / "tokenizer.json").read_text())
    written["model"]["vocab"].pop(f"w{missing}", None)
    (tmp_path / "teacher" / "tokenizer.json").write_text(json.dumps(written))
    config = config.changed(teacher={"name": str(tmp_path / "teacher")})
    task = TASKS["language"](config, accelerator=Accelerator(cpu=True))
    task.create_student()
    batch = task.batch(torch.arange(4))
    inputs = task.objective_inputs(task.student_logits(task.student, batch.student_inputs), batch.targets)
    objective = create_objective("cist:rho=4")
    given = inputs["teacher_logits"]
    found = objective(**inputs | {"student_logits": given})
    tokens = np.array([number for number in range(WORDS) if number != missing])
    rows, ids = [], []
    for row in task.rows["train"][:4]:
        with torch.inference_mode():
            logits = task.teacher.network(input_ids=torch.from_numpy(row.ids)[None]).logits[0].double().numpy()
        places = np.flatnonzero(row.counted[1:])
        rows.append(logits[places][:, tokens])
        ids.append(row.ids[places + 1])
    logits = np.concatenate(rows)
    maxima = logits.max(1) - logits.mean(1)
    np.testing.assert_allclose(found["tau_teacher"], np.maximum(maxima / 4, 1), atol=1e-5)
    right = logits[np.arange(len(logits)), np.searchsorted(tokens, np.concatenate(ids))]
    assert found["ce"].item() == pytest.approx((logsumexp(logits, 1) - right).mean(), abs=1e-5)


def test_the_demo_runs_on_the_texts_that_come_along(teacher: Path, tmp_path: Path) -> None:
    config = parse_config(LANGUAGE_PRESETS[DEMO_LANGUAGE][1]).changed(
        teacher={"name": str(teacher)},
        student={"architecture": "gpt2:width=16,layers=1,heads=2"},
        data={"train_samples": 32, "validation_samples": 8, "length": 32},
        epochs=1,
        machine={"device": "cpu", "threads": 1},
    )
    assert train(config, tmp_path)["state"] == "finished"


@pytest.mark.skipif(DEMO_LANGUAGE not in preset_names(), reason="the shipped language models are not here")
def test_the_demo_runs_with_the_shipped_teacher(tmp_path: Path) -> None:
    config = preset(DEMO_LANGUAGE).changed(data={"train_samples": 32, "validation_samples": 8}, epochs=1)
    assert train(config, tmp_path)["teacher_test_accuracy"] > 0.1


@pytest.mark.parametrize("cached", [False, True])
def test_it_is_timed(config: RunConfig, cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cache the teacher runs before the steps, to be timed, and in none of them; nothing is kept."""
    steps: list[int] = []
    asked_after: list[int] = []
    step, states = Trainer.step, LanguageModel.hidden_states

    def counted_step(trainer: Trainer, number: int, statistics: EpochStatistics) -> None:
        steps.append(number)
        step(trainer, number, statistics)

    def counted_states(model: LanguageModel, batch: Batch) -> torch.Tensor:
        asked_after.append(len(steps))
        return states(model, batch)

    monkeypatch.setattr(Trainer, "step", counted_step)
    monkeypatch.setattr(LanguageModel, "hidden_states", counted_states)
    if cached:
        config = config.changed(teacher={"cache": str(tmp_path / "states")})
    found = estimate(config)
    assert found.steps == 12
    assert len(steps) > 1
    assert (max(asked_after) == 0) == cached
    assert found.seconds == pytest.approx(
        found.seconds_per_step * 12 + found.evaluation_seconds * 3 + found.teacher_seconds
    )
    assert not (tmp_path / "states").exists()


def test_a_slow_teacher_is_timed_on_a_few_rows(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    clock = time.perf_counter

    def slow(task: object, split: str, chosen: torch.Tensor) -> None:
        asked.extend(chosen.tolist())

    monkeypatch.setattr(Language, "run_teacher", slow)
    monkeypatch.setattr("cist_core.training.estimation.time.perf_counter", lambda: clock() + len(asked))
    found = estimate(config)  # a second a row
    assert len(asked) == 3 * 8
    rows = 8 + 6  # of validation and test; in training the teacher runs in the steps
    assert found.teacher_seconds == pytest.approx(rows, rel=0.1)
