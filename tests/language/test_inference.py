"""A model and texts become a token set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import entropy

pytest.importorskip("transformers")

from tiny_language_models import CLASSES, WORDS, save_tiny_model

from cist_core import CistError
from cist_core.language import inference
from cist_core.language.inference import infer_tokens
from cist_core.language.models import open_language_model
from cist_core.language.texts import example_of, tokenise, tokenise_all

RECORDS = [
    {"prompt": "w3 w4 w5", "response": " w6 w7"},
    {"text": "w8"},
    {"text": "w9 w10 w11 w12 w13 w14 w15 w16 w17"},
]


@pytest.fixture(scope="module", params=[WORDS, CLASSES], ids=["padding", "no-padding"])
def model(request, tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", words=request.param, scale=8.0)
    return open_language_model(str(folder))


@pytest.fixture
def texts(model, monkeypatch, tmp_path):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path))
    return tokenise_all([example_of(record, "x") for record in RECORDS], model.tokenizer, longest=model.longest)


def test_every_predicted_token_agrees_with_scipy_on_the_models_own_logits(model, texts, monkeypatch):
    monkeypatch.setattr(inference, "PLACES_AT_ONCE", {"cpu": 14})
    found = infer_tokens(model, texts)
    at = 0
    for number, text in enumerate(texts):
        with torch.inference_mode():
            logits = model.network(input_ids=torch.from_numpy(text.ids)[None]).logits[0].double().numpy()
        logits = logits[:-1, : len(model.tokenizer)]  # the others are no tokens
        rows = slice(at, at + len(logits))
        at = rows.stop
        assert found.facts.ids[rows].tolist() == text.ids[1:].tolist()
        assert found.facts.positions[rows].tolist() == list(range(1, len(text.ids)))
        assert set(found.facts.sequences[rows]) == {number}
        assert found.facts.roles[rows].tolist() == text.roles[1:].tolist()
        assert found.facts.counted[rows].tolist() == text.counted[1:].tolist()
        expected = log_softmax(logits, axis=1)
        np.testing.assert_allclose(found.nll[rows], -expected[np.arange(len(logits)), text.ids[1:]], atol=1e-4)
        np.testing.assert_allclose(found.entropy[rows], entropy(np.exp(expected), axis=1), atol=1e-4)
    assert at == found.num_tokens
    assert found.left_out == tuple(range(len(model.tokenizer), CLASSES))
    assert found.provenance["precision"] == model.precision


def test_the_second_time_it_is_read_and_other_texts_are_others(model, texts, monkeypatch):
    first = infer_tokens(model, texts)
    monkeypatch.setattr(inference, "token_set", None)
    assert infer_tokens(model, texts).tokens_digest == first.tokens_digest
    renamed = infer_tokens(replace(model, name="a copy"), texts)
    assert (renamed.provenance["teacher"], first.provenance["teacher"]) == ("a copy", "tiny")
    with pytest.raises(TypeError):
        infer_tokens(model, texts[:1])


def test_texts_that_predict_nothing(model):
    one = tokenise(example_of({"text": "w8"}, "x"), model.tokenizer, longest=1)
    with pytest.raises(CistError, match="None of the texts has two tokens"):
        infer_tokens(model, [one])
