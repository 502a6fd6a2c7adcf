"""The rows of tokens that a language model trains on, is validated and tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cist_core.cards import sample_models_folder
from cist_core.errors import CistError
from cist_core.language.models import LanguageModel
from cist_core.language.texts import COUNTED, Example, Tokens, read_texts, tokenise
from cist_core.training.language_config import LanguageDataConfig
from cist_core.training.randomness import random_order
from cist_core.training.tasks.protocol import Split

_WHOLE = 1 << 40
_PARTS: tuple[Split, ...] = ("validation", "test")


def load_rows(config: LanguageDataConfig, teacher: LanguageModel) -> dict[Split, list[Tokens]]:
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
    rows: dict[Split, list[Tokens]] = {"train": _rows(_file(config.name), config.length, teacher)}
    for split in _PARTS:
        given = getattr(config, split) or _beside(config.name, split)
        if given is not None:
            rows[split] = _rows(_file(given), config.length, teacher)
            continue
        apart = round(config.validation_share * len(rows["train"]))
        if not 0 < apart < len(rows["train"]):
            raise CistError(
                f"{config.name} has {len(rows['train'])} rows for training, too few to set {config.validation_share:g} "
                f"of them apart for {split}; give data.{split}, or more texts."
            )
        order = random_order(len(rows["train"]), config.split_seed, _PARTS.index(split)).tolist()
        rows[split] = [rows["train"][number] for number in sorted(order[:apart])]
        rows["train"] = [rows["train"][number] for number in sorted(order[apart:])]
    rows["train"] = _limited(rows["train"], config.train_samples, "train", config.split_seed)
    rows["validation"] = _limited(rows["validation"], config.validation_samples, "validation", config.split_seed)
    return rows


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


def _beside(name: str, split: Split) -> str | None:
    """The validation or test texts of those that come along."""
    folder = texts_that_come_along()
    if folder is None or Path(name).exists():
        return None
    path = folder / f"{name}-{split}.jsonl"
    return str(path) if path.is_file() else None


def _file(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folder = texts_that_come_along()
    if folder is not None and (folder / f"{name}-train.jsonl").is_file():
        return folder / f"{name}-train.jsonl"
    known = sorted(found.name.removesuffix("-train.jsonl") for found in folder.glob("*-train.jsonl")) if folder else []
    raise CistError(
        f"There are no texts '{name}'; give a .jsonl or .txt file"
        + (f", or one of {', '.join(known)}, which come along." if known else ".")
    )


def _rows(path: Path, length: int, teacher: LanguageModel) -> list[Tokens]:
    return [row for example in read_texts(path) for row in _of_example(example, length, teacher)]


def _of_example(example: Example, length: int, teacher: LanguageModel) -> Sequence[Tokens]:
    """One row; of a long text without a prompt as many as it takes, each beginning with the last token of the one
    before, so that every token is predicted once."""
    whole = not example.chat and all(piece.role in COUNTED for piece in example.pieces)
    tokens = tokenise(example, teacher.tokenizer, longest=_WHOLE if whole else length)
    starts = range(0, max(len(tokens.ids) - 1, 1), length - 1)
    pieces = [slice(start, start + length) for start in starts]
    return [
        tokens._replace(ids=tokens.ids[piece], roles=tokens.roles[piece], counted=tokens.counted[piece])
        for piece in pieces
    ]
