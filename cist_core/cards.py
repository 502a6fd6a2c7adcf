"""The cards of the models that ship with the project."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cist_core.documents import parse_json, read_document
from cist_core.errors import CistError
from cist_core.files import file_state
from cist_core.plain_text import all_written_out
from cist_core.studio import HOW_TO_GET_THEM, WITH_A_CLONE, studio_folder

# What other modules read from a card; a dot leads into an object.
_REQUIRED: dict[str, type] = {
    "title": str,
    "role": str,
    "architecture": str,
    "num_classes": int,
    "class_names": list,
    "preprocessing.mean": list,
    "preprocessing.std": list,
    "preprocessing.image_size": int,
    "data.name": str,
    "accuracy": dict,
    "logits": dict,
}
_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Card:
    """What is known about one shipped model; ``content`` is its whole ``card.json``."""

    name: str
    folder: Path
    content: Mapping[str, Any]

    @property
    def title(self) -> str:
        return str(self.content["title"])

    @property
    def role(self) -> str:
        """``"teacher"`` or ``"student"``."""
        return str(self.content["role"])

    @property
    def architecture(self) -> str:
        return str(self.content["architecture"])

    @property
    def num_classes(self) -> int:
        return int(self.content["num_classes"])

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.content["class_names"])

    @property
    def data(self) -> str:
        """Name of the data set it was trained on."""
        return str(self.content["data"]["name"])

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of right answers, by split."""
        return dict(self.content["accuracy"])

    @property
    def checkpoint(self) -> Path:
        return self.folder / "model.safetensors"

    def logits(self, data: str, split: str) -> Path | None:
        """The shipped logits of this model on a split of a data set, or None."""
        path = self.folder / f"logits-{data}-{split}.safetensors"
        return path if data == self.data and split in self.content["logits"] and path.is_file() else None


def sample_models_folder() -> Path | None:
    """Where the shipped models lie: ``CIST_SAMPLE_MODELS``, or ``sample_models`` of the clone or of the wheel."""
    override = os.environ.get("CIST_SAMPLE_MODELS")
    if override:
        return Path(override).expanduser()
    studio = studio_folder()
    return None if studio is None else studio / "sample_models"


def sample_models() -> list[Card]:
    """The cards of all shipped models, by name; empty if none are installed.

    Raises:
        CistError: if a card cannot be read or is not complete.
    """
    folder = sample_models_folder()
    return [] if folder is None else [_card(path) for path in sorted(folder.glob("*/card.json"))]


def _card(path: Path) -> Card:
    """`read_card`, but a file that has not changed since is not read again: every run of a page asks for all."""
    try:
        state = file_state(path)
    except OSError:
        return read_card(path)
    return _unchanged_card(path, state)


@lru_cache(maxsize=256)
def _unchanged_card(path: Path, state: tuple[int, ...]) -> Card:
    return read_card(path)


def find_sample_model(name: str) -> Card | None:
    """The card of a shipped model, or None if there is no model of that name."""
    return next((card for card in sample_models() if card.name == name), None)


def known_sample_models() -> str:
    """The names of the shipped models for an error message; where there are none, how to come by them."""
    names = [card.name for card in sample_models()]
    if not names:
        return f"none installed; {HOW_TO_GET_THEM}"
    absent = [name for name in WITH_A_CLONE if name not in names]
    more = f" ({' and '.join(absent)} come with a clone: {HOW_TO_GET_THEM})" if absent else ""
    return f"{', '.join(names)}{more}"


def read_card(path: Path) -> Card:
    """One card, from its file.

    Raises:
        CistError: if it cannot be read, or lacks what a card says.
    """
    try:
        content = all_written_out(parse_json(read_document(path)))
    except (OSError, ValueError) as error:
        raise CistError(f"The card {path} cannot be read ({error}); restore it or remove its folder.") from error
    for key, kind in _REQUIRED.items():
        value = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise CistError(
                f"Expected '{key}' in the card {path} to be {_KINDS[kind]}, but it is "
                f"{'missing' if value is None else json.dumps(value)}; restore the card or remove its folder."
            )
    if len(content["class_names"]) != content["num_classes"]:
        raise CistError(
            f"Expected 'class_names' in the card {path} to be {content['num_classes']} names, one for each class, "
            f"but got {len(content['class_names'])}; restore the card or remove its folder."
        )
    return Card(path.parent.name, path.parent, content)
