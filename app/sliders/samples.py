"""Four samples from the tails and the peak of the entropies, whose soft labels move with the sliders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.sliders.component import live_component, read
from app.sliders.grid import grid_id
from app.state import Source, View
from app.thumbnails import thumbnails
from cist_core.temperature.profile import entropy_histogram

TOP = 5
"""Classes with bars of their own."""
MOST_CLASSES = 2_000
"""The browser softens whole rows; those of a vocabulary would be megabytes."""

PLACES = ("in the sharp tail", "at the peak", "at the peak", "in the flat tail")


def show_samples(view: View) -> None:
    """Draw them; nothing for more classes than a page can carry, and of a text."""
    if view.source.text is not None or view.source.curves.num_classes > MOST_CLASSES:
        return
    source, name = view.source, grid_id(view.source, 0.0)
    chosen = _chosen(source.predictions.fingerprint, source)
    # Not kept for others: which images may be seen depends on who looks.
    pictures: Sequence[str | None] = thumbnails(view, chosen) or [None] * len(chosen)
    soft_labels = _soft_labels((source.teacher, source.data, source.split, name), source)
    samples = [{**each, "picture": picture} for each, picture in zip(soft_labels, pictures, strict=True)]
    _SAMPLES(key="live-samples", data={"id": name, "samples": samples})


@st.cache_data(show_spinner=False, max_entries=16)
def _soft_labels(shown: tuple[str, ...], _source: Source) -> list[dict[str, Any]]:
    """The same for everybody at every position of the sliders, which soften them in the browser."""
    chosen = _chosen(_source.predictions.fingerprint, _source)
    return [_described(_source, index, place) for index, place in zip(chosen, PLACES, strict=True)]


def _described(source: Source, index: int, place: str) -> dict[str, Any]:
    logits = np.asarray(source.logit_set.logits[index], dtype=np.float64)
    names = source.logit_set.class_names
    labels = source.logit_set.labels
    top = np.argsort(-logits, kind="stable")[:TOP]

    def name(label: int) -> str:
        return names[label] if names is not None else f"class {label}"

    return {
        "title": f"sample {index:,}" if labels is None else name(int(labels[index])),
        "place": place,
        "logits": [float(f"{logit:.6g}") for logit in logits],
        "maximum": float(source.curves.statistics.maximum[index]),
        "top": top.tolist(),
        "names": [name(int(label)) for label in top],
    }


@st.cache_data(show_spinner=False, max_entries=16)
def _chosen(fingerprint: str, _source: Source) -> list[int]:
    """One sample of each tail and two of the peak at the temperature that the sliders start at."""
    tau = _source.default_pair(1.0).tau
    entropy = _source.curves.at_temperature(tau)
    order = np.argsort(entropy, kind="stable")
    last = len(order) - 1
    counts = entropy_histogram(entropy, _source.curves.num_classes)
    peak = (int(counts.argmax()) + 0.5) * _source.curves.max_entropy / len(counts)
    near = np.argsort(np.abs(entropy - peak), kind="stable")
    return [
        int(order[round(0.01 * last)]),
        int(near[0]),
        _another(near, _source.logit_set.labels),
        int(order[round(0.99 * last)]),
    ]


def _another(near: NDArray[np.int64], labels: NDArray[np.int64] | None) -> int:
    """The nearest of another class than the first; the second where there is none near."""
    if labels is not None:
        others = [index for index in near[:50] if labels[index] != labels[near[0]]]
        if others:
            return int(others[0])
    return int(near[min(1, len(near) - 1)])


_SAMPLES = live_component(
    "cist_samples", html='<div class="samples"></div>', css=read("samples.css"), scripts=[read("samples.js")]
)
