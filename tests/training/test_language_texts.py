"""Which texts a run of a language model trains on, is validated and tested on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from tiny_language_models import save_tiny_model

from cist_core import CistError
from cist_core.language.models import LanguageModel, open_language_model
from cist_core.training import language_texts
from cist_core.training.language_config import LanguageDataConfig
from cist_core.training.language_texts import load_rows


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return open_language_model(str(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")))


def write(path: Path, first: int, count: int) -> None:
    path.write_text("\n".join(json.dumps({"text": f"w{number} w5"}) for number in range(first, first + count)))


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Texts that come along, and an empty folder to work in."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for split, first, count in (("train", 10, 20), ("validation", 40, 3), ("test", 50, 4)):
        write(texts / f"fables-{split}.jsonl", first, count)
    monkeypatch.setattr(language_texts, "texts_that_come_along", lambda: texts)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return texts


def first_words(rows: list) -> list[int]:
    return [int(row.ids[0]) for row in rows]


def test_texts_that_come_along_bring_their_validation_and_test(shipped: Path, teacher: LanguageModel) -> None:
    config = LanguageDataConfig(name="fables", length=16)
    for _ in range(2):
        rows, remarks = load_rows(config, teacher)
        assert {split: first_words(found) for split, found in rows.items()} == {
            "train": [*range(10, 30)],
            "validation": [*range(40, 43)],
            "test": [*range(50, 54)],
        }
        assert remarks == []
        Path("fables").mkdir(exist_ok=True)  # a folder of that name is no text


def test_a_file_of_that_name_is_meant(shipped: Path, teacher: LanguageModel) -> None:
    Path("fables").write_text("w60 " * 300)
    rows, remarks = load_rows(LanguageDataConfig(name="fables", length=16), teacher)
    assert {word for found in rows.values() for word in first_words(found)} == {60}
    assert len(remarks) == 2


def test_validation_texts_may_be_those_that_come_along(shipped: Path, teacher: LanguageModel) -> None:
    write(Path("mine.jsonl"), 60, 20)
    config = LanguageDataConfig(name="mine.jsonl", validation="fables", test="fables", length=16)
    rows, remarks = load_rows(config, teacher)
    assert (first_words(rows["validation"]), first_words(rows["test"])) == ([*range(40, 43)], [*range(50, 54)])
    assert remarks == []


def test_rows_that_are_set_apart_are_said(shipped: Path, teacher: LanguageModel) -> None:
    write(Path("mine.jsonl"), 60, 20)
    rows, remarks = load_rows(LanguageDataConfig(name="mine.jsonl", test="fables", length=16), teacher)
    assert sorted(first_words(rows["train"] + rows["validation"])) == [*range(60, 80)]
    assert len(rows["validation"]) == 2
    assert remarks == [
        "Set apart for validation: 2 of 20 training rows (data.validation_share), as data.validation is not given."
    ]


def test_a_split_of_a_hub_data_set_that_is_not_used_is_said(
    teacher: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": ["w5 w6"] * 20})
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_, **__: ["train", "test"])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    found, remarks = load_rows(LanguageDataConfig(name="hf:some/words", length=16), teacher)
    assert len(found["test"]) == 2
    assert remarks[1].endswith("; a split 'test' of hf:some/words itself is read with data.test=hf:some/words.")


def test_texts_that_are_not_there(shipped: Path, teacher: LanguageModel) -> None:
    Path("other").mkdir()
    with pytest.raises(CistError, match=r"There are no texts 'other'; give .*, or one of fables, which come along"):
        load_rows(LanguageDataConfig(name="other", length=16), teacher)
