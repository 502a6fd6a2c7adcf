"""The student of a language run is looked at as it was before its training, beside what it has become."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

pytest.importorskip("transformers")

from safetensors.torch import load_file
from tiny_language_models import WORDS, save_tiny_model

from cist_core.errors import CistError
from cist_core.language import reading
from cist_core.language.batches import pad
from cist_core.language.gain import gain_over
from cist_core.language.inference import infer_pair, infer_pairs
from cist_core.language.models import LanguageModel, open_language_model
from cist_core.language.reading import BEFORE, INDEX, PAIR
from cist_core.language.sources import tokens_for
from cist_core.language.texts import Tokens, example_of, load_texts
from cist_core.language.token_set import TokenPair
from cist_core.training import RunConfig, parse_config, preset
from cist_core.training.before_after import main, open_distilled
from cist_core.training.engine import train

LENGTH = 24


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    save_tiny_model(tmp_path / "teacher", scale=6.0)
    texts = [" ".join(f"w{20 + (3 * number + start) % 60}" for number in range(20)) for start in range(30)]
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return parse_config(
        {
            "task": "language",
            "data": {"name": str(tmp_path / "texts.jsonl"), "length": LENGTH, "validation_share": 0.2},
            "teacher": {"name": str(tmp_path / "teacher")},
            "student": {"architecture": "gpt2:width=16,layers=1,heads=2"},
            "objective": "kd:tau=1",
            "optimiser": {"name": "adamw", "learning_rate": 0.02},
            "seed": 3,
            "epochs": 2,
            "batch_size": 6,
            "machine": {"device": "cpu", "threads": 1},
        }
    )


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def own_logits(model: LanguageModel, text: Tokens) -> np.ndarray:
    """Of the network itself, on the tokens of its tokenizer, in float64."""
    with torch.inference_mode():
        logits = model.network(pad([text]).ids).logits[0, :-1]
    return logits[:, model.vocabulary.classes].numpy().astype(np.float64)


def test_a_fresh_student_is_drawn_again_as_the_run_has_drawn_it(config: RunConfig, tmp_path: Path) -> None:
    """A run that changes nothing leaves the weights that it began with."""
    idle = config.changed(optimiser={"learning_rate": 1e-30, "weight_decay": 0.0}, epochs=1)
    train(idle, tmp_path / "idle")
    found = open_distilled(tmp_path / "idle")
    kept = load_file(tmp_path / "idle" / "student.safetensors")
    before = weights(found.before)
    for name, tensor in kept.items():
        assert torch.allclose(before[name.removeprefix("network.")], tensor, rtol=0, atol=1e-12), name
    train(config, tmp_path / "run")
    moved = open_distilled(tmp_path / "run")
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(moved.before).items())
    assert not torch.equal(moved.student.head.weight, moved.before.head.weight)
    assert moved.teacher.weights_sha256 == open_language_model(str(tmp_path / "teacher")).weights_sha256


def test_a_student_that_went_on_from_a_model_is_that_model_before(config: RunConfig, tmp_path: Path) -> None:
    given = save_tiny_model(tmp_path / "given", seed=5)
    train(config.changed(student={"architecture": str(given)}, epochs=1), tmp_path / "run")
    found = open_distilled(tmp_path / "run")
    assert found.before.weights_sha256 == open_language_model(str(given)).weights_sha256
    assert found.student.weights_sha256 != found.before.weights_sha256


def test_what_is_no_such_run_says_so(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    preset("demo").save(tmp_path / "images" / "config.json")
    with pytest.raises(CistError, match="task 'language'"):
        open_distilled(tmp_path / "images")
    (tmp_path / "begun").mkdir()
    config.save(tmp_path / "begun" / "config.json")
    with pytest.raises(CistError, match="left no student"):
        open_distilled(tmp_path / "begun")
    with pytest.raises(CistError, match=r"config\.json"):
        open_distilled(tmp_path / "gone")


def test_one_pass_over_two_students_has_what_two_passes_have(config: RunConfig, tmp_path: Path) -> None:
    train(config.changed(epochs=1), tmp_path / "run")
    teacher, student, before = open_distilled(tmp_path / "run")
    texts = tokens_for([teacher, student, before], load_texts(tmp_path / "texts.jsonl"))
    both = infer_pairs(teacher, [student, before], texts)
    for found, model in zip(both, (student, before), strict=True):
        alone = infer_pair(teacher, model, texts)
        np.testing.assert_allclose(found.divergence(1.0, 2.0), alone.divergence(1.0, 2.0), atol=1e-6)
        np.testing.assert_allclose(found.student.nll, alone.student.nll, atol=1e-6)


def test_what_training_changed_is_the_mean_over_the_tokens_that_count(config: RunConfig, tmp_path: Path) -> None:
    train(config, tmp_path / "run")
    teacher, student, before = open_distilled(tmp_path / "run")
    example = example_of({"prompt": "w21 w24", "response": " w27 w30 w33 w36"}, "one")
    (text,) = tokens_for([teacher, student, before], [example])
    after, earlier = infer_pairs(teacher, [student, before], [text])
    rows = np.flatnonzero(after.teacher.facts.counted)
    found = gain_over(earlier, after, rows, text.counted_bytes)
    p = {model: log_softmax(own_logits(model, text), axis=1)[rows] for model in (teacher, student, before)}
    ids = text.ids[1:][rows]
    for value, bits, divergence, model in zip(
        found.nll, found.bits_per_byte, found.divergence, (before, student), strict=True
    ):
        nll = -p[model][np.arange(len(rows)), ids]
        assert value == pytest.approx(nll.mean(), abs=1e-4)
        assert bits == pytest.approx(nll.sum() / math.log(2) / len(" w27 w30 w33 w36"), abs=1e-4)
        exact = rel_entr(np.exp(p[teacher]), np.exp(p[model])).sum(axis=1).mean()
        assert divergence == pytest.approx(exact, abs=1e-3)
    assert found.nll.fell_by > 0
    assert "nats likelier than before" in found.sentence()
    back = gain_over(after, earlier, rows, text.counted_bytes)
    assert "nats less likely than before" in back.sentence()
    assert "bits per byte more" in back.sentence()
    assert gain_over(earlier, after, rows, 0).bits_per_byte is None
    with pytest.raises(CistError, match="got none"):
        gain_over(earlier, after, rows[:0], 1)


def test_a_process_reads_a_text_with_all_three(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "limit_memory", lambda at_once: None)  # they are meant for a process of its own
    monkeypatch.setattr(reading, "limit_time", lambda seconds, sentence: None)
    train(config, tmp_path / "run")
    (tmp_path / "text.txt").write_text(" ".join(f"w{number}" for number in range(20, WORDS, 5)))
    for name in ("folder", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("sys.argv", ["", *(str(tmp_path / name) for name in ("text.txt", "folder", "run"))])
    main()
    pairs = [TokenPair.load(tmp_path / "folder" / name) for name in (PAIR, BEFORE)]
    index = json.loads((tmp_path / "folder" / INDEX).read_text())
    assert [model["title"] for model in index["models"]] == ["teacher", "student", "student before"]
    passage = json.loads((tmp_path / "folder" / "passage-0.json").read_text())
    assert passage["before"]["cross"] != passage["student"]["cross"]
    assert pairs[0].student.nll.mean() < pairs[1].student.nll.mean()
    monkeypatch.setattr("sys.argv", ["", *(str(tmp_path / name) for name in ("text.txt", "other", "gone"))])
    main()
    assert "gone" in (tmp_path / "other" / reading.FAULT).read_text()
