"""The language models that ship: their texts, and a training that is interrupted."""

import json

import pytest
import torch

pytest.importorskip("transformers")

from cist_core.language.batches import pad
from cist_core.language.known import find_language_model
from cist_core.language.models import open_language_model
from cist_core.language.texts import example_of, tokenise
from sample_models import train_language
from sample_models.texts import load_texts
from sample_models.train_language import LENGTH, Recipe, rows_of, train_tokenizer

RECIPE = Recipe(
    "A tiny one",
    "student",
    width=16,
    layers=1,
    heads=2,
    epochs=2,
    matrices_learning_rate=1e-2,
    learning_rate=2e-2,
    dropout=0.1,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A Bible of 40 chapters and a few scenes."""
    folder = tmp_path_factory.mktemp("texts")
    verses = [
        {"book": "Genesis", "chapter": chapter, "text": f"And the {word} of day {chapter} was good, and {word} it was."}
        for chapter in range(1, 41)
        for word in ("light", "darkness", "water", "earth") * 2
    ]
    (folder / "kjv.jsonl").write_text("\n".join(map(json.dumps, verses)) + "\n")
    speech = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak."
    (folder / "plays.txt").write_text("\n\n".join([speech] * 400))
    return folder / "plays.txt", folder / "kjv.jsonl"


def test_documents_are_whole_and_in_one_split(files):
    splits = load_texts(*files)
    names = [document.name for documents in splits.values() for document in documents]
    assert len(names) == len(set(names))
    assert {f"Genesis {chapter}" for chapter in range(1, 41)} <= set(names)
    assert all(splits.values())
    assert len(splits["train"]) > 0.8 * len(names)


def test_rows_follow_one_another(files):
    texts = load_texts(*files)
    tokenizer = train_tokenizer(texts["train"])
    assert tokenizer("and it was")["input_ids"][0] == 0
    rows = rows_of(texts["train"], tokenizer)
    assert rows.shape[1] == LENGTH + 1
    assert torch.equal(rows[1:, 0], rows[:-1, -1])
    assert tokenizer.decode(rows[0][1:20]) in texts["train"][0].text


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch is older than 2.9 and has no Muon")
def test_an_interrupted_training_ends_as_one_left_alone_and_the_model_opens(files, tmp_path, monkeypatch):
    monkeypatch.setattr(train_language, "RECIPES", {"tiny": RECIPE})

    def run(folder, stop=False):
        command = ["train", "tiny", "--plays", str(files[0]), "--bible", str(files[1]), "--folder", str(folder)]
        monkeypatch.setattr("sys.argv", command)
        save = torch.save
        if stop:

            def interrupt(*arguments):
                save(*arguments)
                raise KeyboardInterrupt

            monkeypatch.setattr(torch, "save", interrupt)
        try:
            train_language.main()
        except KeyboardInterrupt:
            assert stop
        finally:
            monkeypatch.setattr(torch, "save", save)

    run(tmp_path / "whole" / "language")
    run(tmp_path / "broken" / "language", stop=True)
    assert not (tmp_path / "broken" / "language" / "tiny" / "card.json").exists()
    run(tmp_path / "broken" / "language")
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path / "broken"))
    known = find_language_model("tiny")
    assert (
        known.card["sha256"]
        == json.loads((tmp_path / "whole" / "language" / "tiny" / "card.json").read_text())["sha256"]
    )
    assert [record["epoch"] for record in known.card["history"]] == [1, 2]
    assert known.card["history"][-1]["validation_nll"] < known.card["history"][0]["validation_nll"]
    assert "A tiny one. Role: student." in (known.path / "README.md").read_text()
    assert not (known.path / "checkpoint.pt").exists()
    model = open_language_model("tiny")
    assert (model.longest, model.parameters, model.stored) == (LENGTH, known.parameters, "float16")
    text = tokenise(example_of({"text": "And the light of day 3 was good"}, "x"), model.tokenizer, longest=LENGTH)
    batch = pad([text])
    with torch.inference_mode():
        logits = model.head.logits(model.hidden_states(batch).flatten(0, 1)[batch.predictions().places])
    assert float(torch.nn.functional.cross_entropy(logits, batch.predictions().ids)) < 7.5  # uniform: 8.3
