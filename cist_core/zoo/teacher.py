"""A teacher: a trained network, and what is needed to feed and cite it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from cist_core.plain_text import all_written_out
from cist_core.zoo.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network in evaluation mode, with what inference and provenance need.

    Attributes:
        name: for people.
        model: maps preprocessed images to ``(N, C)`` logits.
        architecture: name in the zoo, ``torchvision:NAME`` or ``timm:NAME``, or any text for a network from elsewhere.
        num_classes: C.
        class_names: C names, or None.
        preprocessing: from stored pixels to what ``model`` reads.
        checkpoint_sha256: identifies the weights, of a file and which of those in it; inference caches its results
            under it.
        card: ``card.json`` of a shipped model, or None.
        facts: what people should know of it, by headings such as ``licence``, ``metrics`` and ``origin``; texts of
            whoever made it, to be shown as plain text.
        weights: which of the weights in a file these are and what was left out, as a sentence; None where the file
            holds nothing else.
        other_weights: names of the groups of weights in the file that could be taken in their place.
    """

    name: str
    model: nn.Module
    architecture: str
    num_classes: int
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing
    checkpoint_sha256: str
    card: Mapping[str, Any] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    other_weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in ("name", "architecture", "class_names", "facts", "weights", "other_weights"):
            object.__setattr__(self, text, all_written_out(getattr(self, text)))
