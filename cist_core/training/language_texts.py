"""The rows of tokens that a language model trains on, is validated and tested on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cist_core.cards import sample_models_folder
from cist_core.data.hub_repository import PREFIX
from cist_core.errors import CistError
from cist_core.language.models import LanguageModel
from cist_core.language.texts import Tokens, load_texts, tokenise_all
from cist_core.training.language_config import LanguageDataConfig
from cist_core.training.randomness import random_order
from cist_core.training.tasks.protocol import Split

_PARTS: tuple[Split, ...] = ("validation", "test")


class Rows(NamedTuple):
    """What a run reads.

    Attributes:
        by_split: rows of every split.
        remarks: where validation and test rows come from, in sentences.
    """

    by_split: dict[Split, list[Tokens]]
    remarks: list[str]


def load_rows(config: LanguageDataConfig, teacher: LanguageModel) -> Rows:
    """The rows of every split; those that nothing sets apart are cut from the training rows.

    Args:
        config: see `LanguageDataConfig`.
        teacher: whose tokenizer reads the texts.

    Raises:
        CistError: if a file cannot be read, there are fewer rows than asked for, or the teacher reads shorter rows.
    """
    if config.length > teacher.longest:
        raise CistError(
            f"Expected data.length to be at most {teacher.longest:,}, which {teacher.name} reads, but got "
            f"{config.length:,}."
        )
    rows: dict[Split, list[Tokens]] = {"train": _rows(config.name, config, "train", teacher)}
    remarks = []
    for split in _PARTS:
        given = getattr(config, split) or (config.name if _beside(config.name, split) else None)
        if given is not None:
            rows[split] = _rows(given, config, split, teacher)
            continue
        apart, there = round(config.validation_share * len(rows["train"])), len(rows["train"])
        if not 0 < apart < there:
            raise CistError(
                f"{config.name} has {there} rows for training, too few to set {config.validation_share:g} "
                f"of them apart for {split}; give data.{split}, or more texts."
            )
        remarks.append(
            f"Set apart for {split}: {apart:,} of {there:,} training rows (data.validation_share), as data.{split} "
            "is not given"
            + (
                f"; a split '{split}' of {config.name} itself is read with data.{split}={config.name}."
                if config.name.startswith(PREFIX)
                else "."
            )
        )
        order = random_order(there, config.split_seed, _PARTS.index(split)).tolist()
        rows[split] = [rows["train"][number] for number in sorted(order[:apart])]
        rows["train"] = [rows["train"][number] for number in sorted(order[apart:])]
    rows["train"] = _limited(rows["train"], config.train_samples, "train", config.split_seed)
    rows["validation"] = _limited(rows["validation"], config.validation_samples, "validation", config.split_seed)
    return Rows(rows, remarks)


def _limited(rows: list[Tokens], wanted: int | None, split: str, seed: int) -> list[Tokens]:
    if wanted is None:
        return rows
    if wanted > len(rows):
        raise CistError(
            f"Expected data.{split}_samples to be at most {len(rows):,}, all rows there are, but got {wanted:,}."
        )
    order = random_order(len(rows), seed, len(_PARTS)).tolist()
    return [rows[number] for number in sorted(order[:wanted])]


def texts_that_come_along() -> Path | None:
    """Their folder beside the models that ship; None where these are not."""
    folder = sample_models_folder()
    return None if folder is None else folder / "language" / "texts"


def _beside(name: str, split: Split) -> Path | None:
    """The file of a split of texts that come along; None where a name means something else, or there is none."""
    folder = texts_that_come_along()
    if folder is None or name.startswith(PREFIX) or Path(name).expanduser().is_file():
        return None
    path = folder / f"{name}-{split}.jsonl"
    return path if path.is_file() else None


def _source(name: str, split: Split) -> str | Path:
    """A path, a data set of the hub, or texts that come along."""
    if name.startswith(PREFIX) or Path(name).expanduser().is_file():
        return name
    if path := _beside(name, split):
        return path
    folder = texts_that_come_along()
    known = sorted(found.name.removesuffix("-train.jsonl") for found in folder.glob("*-train.jsonl")) if folder else []
    raise CistError(
        f"There are no texts '{name}'; give a .jsonl or .txt file, hf:REPO"
        + (f", or one of {', '.join(known)}, which come along." if known else ".")
    )


def _rows(name: str, config: LanguageDataConfig, split: Split, teacher: LanguageModel) -> list[Tokens]:
    source = _source(name, split)
    of_hub = str(source).startswith(PREFIX)  # a file is one split
    texts = load_texts(source, split=split if of_hub else None, download=config.download)
    rows = tokenise_all(texts, teacher.tokenizer, longest=config.length)
    for row in rows:
        teacher.vocabulary.check_ids(row.ids)
    return rows
