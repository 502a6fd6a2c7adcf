"""The gallery: the selected samples in an order, a page of cards at a time, and the filters above it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.miniatures import is_wrong, sample_words
from app.selection import current_selection, select
from app.settings import page_setting
from app.state import View
from app.thumbnails import thumbnails
from app.widgets import plain
from cist_core.samples.selection import Among, Selection
from cist_core.samples.table import NUMBER, find_measure
from cist_core.wording import three_digits

AT, SORT, ASCENDING, PAGE = "samples_at", "samples_sort", "samples_ascending", "samples_page"
"""Keys of the widgets that make the gallery's part of a link."""

CARDS = 16
EVERY, RIGHT, WRONG = "all", "right", "wrong"

_CORRECT, _CLASSES = "samples_correct", "samples_classes"
_SORTS = (
    "entropy", "entropy_cist", "weight", "ratio", "margin", "residual", "student_loss", "temperature", "index",
)  # fmt: skip
_PICTURE, _TILE = 84, 150  # pixels of a card with and without a picture


def open_sample(index: int) -> None:
    """Open a sample in the inspector, from a callback."""
    st.session_state[AT] = int(index)


def step_to(order: NDArray[np.int64], place: int) -> None:
    """Open the sample at a place of the order, and the page of the gallery that shows it, from a callback."""
    open_sample(order[place])
    st.session_state[PAGE] = place // CARDS + 1


def choose_order(view: View, names: Sequence[str]) -> NDArray[np.int64]:
    """The controls of the gallery, and the selected samples in the order they ask for."""
    _filter_controls(view, names)
    known = {measure.name for measure in view.samples.measures()}
    by, up = st.columns([3, 2], vertical_alignment="bottom")
    name = by.selectbox(
        "Sort by",
        [name for name in _SORTS if name in known],
        **page_setting(SORT, keep=False),
        on_change=_start_again,
        help="; ".join(f"`{name}`: {find_measure(name).help.lower()}" for name in _SORTS if name in known),
    )
    ascending = up.toggle("Ascending", **page_setting(ASCENDING, keep=False), on_change=_start_again)
    return sorted_samples(view, name, descending=not ascending)


def sorted_samples(view: View, measure: str, *, descending: bool) -> NDArray[np.int64]:
    """Indices of the selected samples by a measure; equal ones by their index."""
    every = np.arange(view.samples.num_samples)
    chosen = every if view.selected is None else np.flatnonzero(view.selected)
    values = view.samples.column(measure)[chosen].astype(np.float64)
    return chosen[np.argsort(-values if descending else values, kind="stable")]


def show_cards(view: View, order: NDArray[np.int64], names: Sequence[str], current: int) -> None:
    """One page of cards; pressing one opens its sample."""
    pages = -(-len(order) // CARDS)
    if st.session_state.get(PAGE, 1) > pages:
        st.session_state[PAGE] = pages
    page = st.pagination(pages, **page_setting(PAGE, keep=False), max_visible_pages=5, width="stretch")
    shown = order[(page - 1) * CARDS : page * CARDS].tolist()
    pictures = thumbnails(view, shown, size=_PICTURE)
    values = _values(view, shown)
    grid = st.grid("auto", min_column_width=_TILE if pictures is None else _PICTURE, gap="xsmall")
    for place, index in enumerate(shown):
        with grid.cell(), st.container(gap="xxsmall", horizontal_alignment="center"):
            words = sample_words(view, index, names)
            if pictures is not None:
                st.image(pictures[place], width=_PICTURE, alt=f"Sample {index}, {words}")
            st.button(
                f":red[{plain(words)}]" if is_wrong(view, index) and index != current else plain(words),
                key=f"samples_card_{index}",
                type="primary" if index == current else "secondary",
                on_click=open_sample,
                args=(index,),
                width="stretch",
                wrap=False,
            )
            st.caption(values[place])


def _filter_controls(view: View, names: Sequence[str]) -> None:
    """Filters that show and edit the selection of the whole app, whoever made it."""
    labelled = view.source.logit_set.labels is not None
    classes = "class" if labelled else "prediction"
    # What they show is the selection's; their own state from the last run is not.
    st.session_state[_CLASSES] = [names[value] for value in _among(view.selection, classes) if value < len(names)]
    if labelled:
        shown: dict[tuple[int, ...], str] = {(1,): RIGHT, (0,): WRONG}
        st.session_state[_CORRECT] = shown.get(_among(view.selection, "correct"), EVERY)
        st.segmented_control(
            "The teacher is", [EVERY, RIGHT, WRONG], required=True, key=_CORRECT, on_change=_filter_correct
        )
    st.multiselect(
        "Class" if labelled else "Predicted class",
        names,
        key=_CLASSES,
        placeholder="Every class",
        on_change=_filter_classes,
        args=(classes, tuple(names)),
    )


def _filter_correct() -> None:
    values = {EVERY: (), RIGHT: (1,), WRONG: (0,)}[st.session_state[_CORRECT]]
    _filter("correct", values)


def _filter_classes(measure: str, names: Sequence[str]) -> None:
    _filter(measure, [names.index(name) for name in st.session_state[_CLASSES]])


def _filter(measure: str, values: Sequence[int]) -> None:
    select(current_selection().among(measure, values))
    _start_again()


def _start_again() -> None:
    """Another order begins at its first sample."""
    st.session_state[AT] = None
    st.session_state[PAGE] = 1


def _among(selection: Selection, measure: str) -> tuple[int, ...]:
    return next(
        (
            condition.values
            for condition in selection.conditions
            if isinstance(condition, Among) and condition.measure == measure
        ),
        (),
    )


def _values(view: View, shown: list[int]) -> list[str]:
    """What the cards are sorted by, with its unit."""
    measure = find_measure(st.session_state[SORT])
    values = view.samples.column(measure.name)[shown]
    if measure.kind != NUMBER:
        return [f"no. {value}" for value in values]
    unit = measure.unit if measure.unit == "nats" else ""
    return [f"{three_digits(float(value))} {unit}".rstrip() for value in values]
