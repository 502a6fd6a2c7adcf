"""MiniLLM's recipes go through the engine with their own values; only models, texts and lengths are tiny."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

pytest.importorskip("transformers")

from tiny_language_models import WORDS, save_tiny_model

from cist_core.language.batches import pad
from cist_core.language.models import LanguageModel, open_language_model
from cist_core.language.sources import tokens_for
from cist_core.language.texts import Tokens, load_texts
from cist_core.training import RunConfig, RunDirectory, parse_config, preset
from cist_core.training.engine import train
from cist_core.training.presets import LANGUAGE_PRESETS

MINILLM = {"minillm-gpt2-base": "gpt2", "minillm-gpt2-medium": "gpt2", "minillm-opt-1.3b": "opt"}
LENGTH = 64  # positions of the tiny models
ROWS = 32  # one step an epoch


def dolly(path: Path, rows: int, seed: int) -> Path:
    """Questions and answers as the recipes read them, with the fields of MiniLLM's files."""
    generator = np.random.default_rng(seed)
    lines = []
    for length in generator.integers(3, 20, rows):
        words = [f"w{number}" for number in generator.integers(20, WORDS, 6 + int(length))]
        lines.append(json.dumps({"prompt": " ".join(words[:6]), "output": " " + " ".join(words[6:])}))
    path.write_text("\n".join(lines))
    return path


def without_dropout(folder: Path) -> Path:
    """So that the first loss can be computed here as well."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({name: 0.0 if "drop" in name else value for name, value in config.items()}))
    return folder


@pytest.fixture(params=MINILLM)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RunConfig:
    kind = MINILLM[request.param]
    return preset(request.param).changed(
        data={
            "name": str(dolly(tmp_path / "train.jsonl", ROWS, 0)),
            "validation": str(dolly(tmp_path / "valid.jsonl", 6, 1)),
            "test": str(dolly(tmp_path / "test.jsonl", 6, 2)),
            "length": LENGTH,
        },
        teacher={"name": str(save_tiny_model(tmp_path / "teacher", kind, scale=6.0))},
        student={"architecture": str(without_dropout(save_tiny_model(tmp_path / "student", kind, seed=1)))},
        precision="float32",  # float16 is for a GPU
        machine={"device": "cpu", "threads": 1},
    )


def counted_log_probs(model: LanguageModel, texts: list[Tokens]) -> tuple[np.ndarray, np.ndarray]:
    """Of the network itself, at every token that counts; and these tokens."""
    rows, ids = [], []
    for text in texts:
        with torch.inference_mode():
            logits = model.network(pad([text]).ids).logits[0, :-1][:, model.vocabulary.classes]
        rows.append(log_softmax(logits.numpy().astype(np.float64), axis=1)[text.counted[1:]])
        ids.append(text.ids[1:][text.counted[1:]])
    return np.concatenate(rows), np.concatenate(ids)


def test_a_recipe_of_minillm_runs_with_its_own_values(config: RunConfig, tmp_path: Path) -> None:
    models = [open_language_model(str(tmp_path / name)) for name in ("teacher", "student")]
    texts = tokens_for(models, load_texts(tmp_path / "train.jsonl"), length=LENGTH)
    (teacher, ids), (student, _) = (counted_log_probs(model, texts) for model in models)
    status = train(config, tmp_path / "run")
    rows = RunDirectory(tmp_path / "run").metrics()
    assert len(rows) == config.epochs
    # The first step sees the weights that the student came with: half cross-entropy, half KL at temperature 1.
    ce = -student[np.arange(len(ids)), ids].mean()
    kl = rel_entr(np.exp(teacher), np.exp(student)).sum(axis=1).mean()
    assert rows[0]["tokens"] == len(ids)
    assert rows[0]["loss_total"] == pytest.approx(0.5 * ce + 0.5 * kl, rel=1e-4)
    assert rows[-1]["loss_total"] < rows[0]["loss_total"]
    rates = [row["learning_rate"] for row in rows]
    steps = np.arange(config.epochs)
    cosine = config.optimiser.learning_rate * (1 + np.cos(np.pi * steps / config.epochs)) / 2
    assert rates == pytest.approx(cosine.tolist())
    assert status["test_nll"] > 0
    after = open_language_model(str(tmp_path / "run" / "student"))
    assert not torch.equal(after.head.weight, models[1].head.weight)


@pytest.mark.parametrize(
    ("name", "epochs", "rate", "at_once"),
    [("minillm-gpt2-base", 20, 5e-4, 2), ("minillm-gpt2-medium", 20, 1e-4, 2), ("minillm-opt-1.3b", 10, 5e-5, 8)],
)
def test_the_values_are_those_of_the_scripts(name: str, epochs: int, rate: float, at_once: int) -> None:
    config = parse_config(LANGUAGE_PRESETS[name][1])
    assert (config.epochs, config.batch_size, config.data.length) == (epochs, 32, 512)
    optimiser = config.optimiser
    assert (optimiser.learning_rate, optimiser.weight_decay, optimiser.clip_norm) == (rate, 0.01, 1.0)
    assert config.machine.micro_batch_size == at_once
