"""A teacher's hidden states on the disk stand for the teacher, and for no other one."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.distributions import Categorical

pytest.importorskip("transformers")

from tiny_language_models import WORDS, save_tiny_model

from cist_core import CistError
from cist_core.language.batches import pad
from cist_core.language.models import open_language_model
from cist_core.language.teacher_cache import open_teacher_cache
from cist_core.language.texts import example_of, tokenise


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return open_language_model(str(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", "gemma2")))


@pytest.fixture
def texts(teacher):
    generator = np.random.default_rng(0)
    words = [" ".join(f"w{word}" for word in generator.integers(20, WORDS, length)) for length in (5, 12, 3)]
    records = [{"prompt": "w4 w5", "response": f" {text}"} for text in words]
    return [tokenise(example_of(record, "a text"), teacher.tokenizer, longest=64) for record in records]


def test_its_logits_are_those_of_the_teacher_but_for_half_precision(teacher, texts, tmp_path):
    cache = open_teacher_cache(tmp_path / "states", teacher, texts, batch_size=2)
    batch = pad(texts)
    found = batch.predictions()
    with torch.no_grad():
        states = teacher.hidden_states(batch).flatten(0, 1)[found.places]
    assert cache.states.dtype == np.float16
    kept = cache.head.logits(cache.of_texts([0, 1, 2]))
    torch.testing.assert_close(kept, teacher.head.logits(states), rtol=5e-3, atol=5e-3)
    ours, theirs = (Categorical(logits=logits).entropy() for logits in (kept, teacher.head.logits(states)))
    assert (ours - theirs).abs().max() < 5e-3
    places = [*np.flatnonzero(found.texts == 2), *np.flatnonzero(found.texts == 0)]
    torch.testing.assert_close(cache.of_texts([2, 0]), states[places].half().float())


def test_it_is_made_once(teacher, texts, tmp_path, monkeypatch):
    seen = []
    open_teacher_cache(tmp_path / "states", teacher, texts, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 3)]
    monkeypatch.setattr(type(teacher), "hidden_states", None)
    open_teacher_cache(tmp_path / "states", teacher, texts)


def test_other_weights_precisions_tokenizers_or_texts_are_refused(teacher, texts, tmp_path):
    folder = tmp_path / "states"
    open_teacher_cache(folder, teacher, texts)
    other = open_language_model(str(save_tiny_model(tmp_path / "other", "gemma2", seed=1)))
    with pytest.raises(CistError, match="made with others: the weights of the teacher changed since"):
        open_teacher_cache(folder, other, texts)
    half = open_language_model(str(tmp_path / "other"), dtype="bfloat16")
    half = dataclasses.replace(half, weights_sha256=teacher.weights_sha256)
    with pytest.raises(CistError, match="made with others: the precision of its states changed since"):
        open_teacher_cache(folder, half, texts)
    with pytest.raises(CistError, match="made with others: the texts changed since"):
        open_teacher_cache(folder, teacher, texts[:2])
    card = json.loads((folder / "cache.json").read_text())
    (folder / "cache.json").write_text(json.dumps(card | {"tokenizer": "0"}))
    with pytest.raises(CistError, match="made with others: its tokenizer changed since"):
        open_teacher_cache(folder, teacher, texts)


def test_a_folder_of_something_else_and_a_damaged_cache_are_refused(teacher, texts, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    with pytest.raises(CistError, match=r"it holds letter\.txt"):
        open_teacher_cache(tmp_path / "letters", teacher, texts)
    open_teacher_cache(tmp_path / "states", teacher, texts)
    np.save(tmp_path / "states" / "states.npy", np.zeros((3, 3), np.float16))
    with pytest.raises(CistError, match="is damaged; remove it"):
        open_teacher_cache(tmp_path / "states", teacher, texts)


def test_states_beyond_half_precision_are_refused(teacher, texts, tmp_path, monkeypatch):
    kept = type(teacher).hidden_states
    monkeypatch.setattr(type(teacher), "hidden_states", lambda self, batch: kept(self, batch) * 1e6)
    with pytest.raises(CistError, match="too large for float16"):
        open_teacher_cache(tmp_path / "states", teacher, texts)
    assert not (tmp_path / "states" / "cache.json").exists()
