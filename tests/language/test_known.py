"""Language models by name."""

import json

import pytest

from cist_core import CistError
from cist_core.language.known import SMOLLM2, find_language_model, known_language_models, language_model_names

CARD = {
    "title": "A small model of old English",
    "role": "student",
    "parameters": 865_344,
    "vocabulary": 4_096,
    "data": "the King James Bible and plays of Shakespeare",
    "licence": "MIT",
    "nll": {"test": 3.5},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    folder = tmp_path / "language" / "mine"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(CARD))
    return folder


def test_those_that_ship_are_found_by_their_cards(folder):
    model = find_language_model("mine")
    assert (model.path, model.role, model.parameters, model.missing) == (folder, "student", 865_344, None)
    assert model.card["nll"] == {"test": 3.5}
    assert [known.name for known in known_language_models()] == ["mine", SMOLLM2]
    assert find_language_model("yours") is None


def test_a_card_that_lacks_something_is_named(folder):
    (folder / "card.json").write_text(json.dumps({**CARD, "parameters": "many"}))
    with pytest.raises(CistError, match=r"card\.json has no 'parameters' \(int\); restore it or remove its folder"):
        known_language_models()
    (folder / "card.json").write_text("{")
    with pytest.raises(CistError, match=r"The card .*card\.json cannot be read"):
        known_language_models()
    with pytest.raises(CistError, match=r"The card .*card\.json cannot be read"):
        find_language_model("mine")
    assert find_language_model("yours") is None  # a damaged card is no matter to others
    assert find_language_model(SMOLLM2).name == SMOLLM2
    assert language_model_names() == ["mine", SMOLLM2]


def test_the_vocabularies_that_are_recorded_are_those_of_the_models():
    pytest.importorskip("transformers")
    from cist_core.language.models import open_language_model

    here = [known for known in known_language_models() if known.path is not None]
    assert here
    for known in here:
        found = open_language_model(known.name).vocabulary
        assert (known.vocabulary_sha256, known.vocabulary) == (found.sha256, found.size)
