"""What stands for a sample where there is room for little: its picture, or its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.state import View
from app.thumbnails import thumbnails
from app.widgets import plain
from cist_core.charts.soft_labels import names_of


class Miniature(Protocol):
    """One sample, small enough to stand among a dozen. Another kind of sample brings another class of these."""

    @property
    def label(self) -> str:
        """Markdown for a small button."""


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        uri: its data, as `app.thumbnails` gives them.
        words: what it shows, for somebody who cannot see it.
    """

    uri: str
    words: str

    @property
    def label(self) -> str:
        return f"![{plain(self.words)}]({self.uri})"


@dataclass(frozen=True)
class Words:
    """A sample without an image: its label, and what the teacher takes it for; or a token."""

    words: str

    @property
    def label(self) -> str:
        return plain(self.words)


def miniatures(view: View, indices: Sequence[int] | NDArray[np.integer], *, size: int) -> list[Miniature]:
    """What stands for these samples, in their order; pictures of ``size`` pixels where they are at hand."""
    text = view.source.text
    if text is not None:
        return [Words(text.word(int(index))) for index in indices]
    logit_set = view.source.logit_set
    names = names_of(logit_set.class_names, logit_set.num_classes)
    words = [sample_words(view, int(index), names) for index in indices]
    pictures = thumbnails(view, indices, size=size)
    if pictures is None:
        return [Words(each) for each in words]
    return [Picture(uri, each) for uri, each in zip(pictures, words, strict=True)]


def sample_words(view: View, index: int, names: Sequence[str]) -> str:
    """The label, and what the teacher takes it for where that is something else."""
    prediction = names[int(view.samples.column("prediction")[index])]
    labels = view.source.curves.labels
    if labels is None:
        return prediction
    return f"{names[labels[index]]} → {prediction}" if is_wrong(view, index) else names[labels[index]]


def is_wrong(view: View, index: int) -> bool:
    """Whether the teacher's top-1 class is not the label; False without labels."""
    correct = view.source.curves.correct
    return correct is not None and not correct[index]
