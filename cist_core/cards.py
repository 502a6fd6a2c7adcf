"""The cards of the models that ship with the project."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cist_core.errors import CistError


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


def sample_models_folder() -> Path:
    """Where the shipped models lie: ``CIST_SAMPLE_MODELS``, or ``sample_models`` beside the package."""
    override = os.environ.get("CIST_SAMPLE_MODELS")
    return Path(override) if override else Path(__file__).resolve().parents[1] / "sample_models"


def sample_models() -> list[Card]:
    """The cards of all shipped models, by name; empty if none are installed.

    Raises:
        CistError: if a card cannot be read.
    """
    return [_read(path) for path in sorted(sample_models_folder().glob("*/card.json"))]


def find_sample_model(name: str) -> Card | None:
    """The card of a shipped model, or None if there is no model of that name."""
    return next((card for card in sample_models() if card.name == name), None)


def _read(path: Path) -> Card:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise CistError(f"The card {path} cannot be read ({error}); restore it or remove its folder.") from error
    return Card(path.parent.name, path.parent, content)
