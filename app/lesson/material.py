"""The real samples that the lesson shows: of the source that is loaded, or a few that come along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.catalogue import title_of
from app.state import View
from app.thumbnails import thumbnails
from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.logit_set import LogitSet

SHIPPED = Path(__file__).with_name("mnist5k-cnn-every-fifth.safetensors")
"""Logits of the sample model mnist5k-cnn on every fifth of the 1,000 test images of MNIST-5k, so 200 of them."""

USUAL_RHO = 4.0
"""Where the entropy of a sample is compared with that of the others to find out whether its shape is a usual one."""

_TAIL = 0.05


@dataclass(frozen=True, eq=False)
class Sample:
    """One real sample: its logits ``(C,)`` in float64, what it is, and its picture as a data URI if there is one."""

    index: int
    logits: NDArray[np.float64]
    label: int
    picture: str | None


@dataclass(frozen=True, eq=False)
class Material:
    """Three samples and where they come from.

    Attributes:
        names: C class names.
        undecided: the sample with the softest soft label at temperature 1.
        confident: a sample of usual shape with large logits.
        ambiguous: a sample of usual shape with small logits.
        origin: the teacher and the data, in words.
    """

    names: tuple[str, ...]
    undecided: Sample
    confident: Sample
    ambiguous: Sample
    origin: str

    @property
    def pair(self) -> dict[str, Sample]:
        """The two samples that are compared, by the name that they have on the screen."""
        return {"Confident": self.confident, "Ambiguous": self.ambiguous}


def lesson_material(view: View | None) -> Material:
    """The samples of the view's source, or those that come along where none could be loaded."""
    if view is None:
        logit_set, curves = shipped_logits()
        origin = "mnist5k-cnn on mnist-5k, test split"
    else:
        logit_set, curves = view.source.logit_set, view.source.curves
        origin = f"{title_of(view.source.teacher)} on {view.source.data}, {view.source.split} split"
    indices = _chosen(curves, logit_set.fingerprint)
    pictures = None if view is None else thumbnails(view, indices)
    undecided, confident, ambiguous = [
        Sample(
            index,
            np.asarray(logit_set.logits[index], dtype=np.float64),
            int(curves.statistics.top1[index]) if logit_set.labels is None else int(logit_set.labels[index]),
            None if pictures is None else pictures[position],
        )
        for position, index in enumerate(indices)
    ]
    names = logit_set.class_names or tuple(str(index) for index in range(logit_set.num_classes))
    return Material(names, undecided, confident, ambiguous, origin)


@st.cache_resource(show_spinner=False)
def shipped_logits() -> tuple[LogitSet, EntropyCurves]:
    logit_set = LogitSet.load(SHIPPED)
    return logit_set, EntropyCurves.from_logits(logit_set)


@st.cache_data(show_spinner=False, max_entries=8)
def _chosen(_curves: EntropyCurves, fingerprint: str) -> list[int]:
    return choose_samples(_curves)


def choose_samples(curves: EntropyCurves) -> list[int]:
    """Three telling samples, among those that the teacher gets right where labels are known: the most undecided one
    at temperature 1, then one with large and one with small logits, both of usual shape.

    Large and small are the outer 5 % of the centred maxima. Usual is an entropy near the median at one ratio: what
    other shapes do is a step of the lesson.
    """
    candidates = np.ones(curves.num_samples, dtype=bool) if curves.correct is None else curves.correct
    candidates = candidates if candidates.any() else ~candidates
    maximum = curves.statistics.maximum
    at_one, at_ratio = curves.at_temperature(1.0), curves.at_ratio(USUAL_RHO)
    distance = np.abs(at_ratio - np.median(at_ratio))
    low, high = np.quantile(maximum[candidates], [_TAIL, 1 - _TAIL])
    undecided = np.where(candidates, at_one, -np.inf).argmax()
    confident = np.where(candidates & (maximum >= high), distance, np.inf).argmin()
    ambiguous = np.where(candidates & (maximum <= low), distance, np.inf).argmin()
    return [int(undecided), int(confident), int(ambiguous)]
