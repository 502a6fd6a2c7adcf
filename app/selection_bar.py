"""The bar above the pages that show samples: which of them are selected, and the slices that have names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from app.selection import SELECT, SLICES, current_selection, forget_brush
from app.settings import linked
from app.state import View, in_its_words
from app.widgets import plain, show_error, show_table
from cist_core.errors import CistError
from cist_core.samples.selection import Selection
from cist_core.samples.slices import SELECTED, format_slices, parse_slices, slice_statistics
from cist_core.samples.table import MEASURES, SampleTable
from cist_core.temperature.columns import COLUMNS, profile_columns
from cist_core.wording import percent


def choose_samples(view: View, *, with_bar: bool) -> View:
    """The view with its selection and slices, which stand in a bar above the page where it shows samples."""
    if not with_bar:
        _remember_link()
        return _with_samples(view)
    bar = st.container(horizontal=True, vertical_alignment="center", key="selection-bar")
    words, problem = bar.container(), st.container()
    # In sight, not in a popover: Streamlit keeps only what is on the screen in the browser's address from page to page.
    choose_rule(bar, "samples", linked(SELECT, keep=True), example="correct=no & margin=..1", on_change=forget_brush)
    with bar.popover("Saved", icon=":material/bookmarks:"):
        st.text_area(
            "Saved selections, one per line",
            **linked(SLICES, keep=True),
            placeholder="confused: correct=no & margin=..1",
            help="A name, a colon and a rule as under Select. Their statistics are on the page Entropy.",
        )
        st.text_input("Save selection as", key="slice_name")
        st.button(
            "Save",
            key="slice_keep",
            icon=":material/bookmark_add:",
            on_click=keep_selection,
            args=("slice_name",),
            disabled=not current_selection(),
            width="stretch",
        )
    with problem:
        chosen = _with_samples(view, complain=True)
    noun = "samples" if chosen.source.text is None else "tokens"
    words.markdown(
        count_of(chosen.selected, chosen.samples, noun),
        help=explanation_of(chosen.selection, chosen.samples, chosen.source.predictions.class_names),
    )
    return chosen


def choose_rule(
    bar: DeltaGenerator,
    noun: str,
    setting: dict[str, Any],
    *,
    example: str,
    on_change: Callable[[], None] = lambda: None,
) -> str:
    """A field for a rule and a button that empties it; the rule.

    Args:
        bar: in which they stand.
        noun: what is selected, in the plural.
        setting: arguments of a widget, its key among them.
        example: of a rule.
        on_change: called when the rule is another.
    """
    rule = bar.text_input(
        f"Select {noun}",
        **setting,
        placeholder=f"Select: {example}",
        label_visibility="collapsed",
        width=300,
        on_change=on_change,
    )

    def select_all() -> None:
        st.session_state[setting["key"]] = ""
        on_change()

    bar.button(
        "All",
        key=f"{setting['key']}-all",
        icon=":material/clear:",
        help=f"Select all {noun}",
        on_click=select_all,
        disabled=not st.session_state.get(setting["key"]),
    )
    return str(rule or "")


def _remember_link() -> None:
    """Keep what a link selects until a page shows it; the fields that read it are not on this one."""
    for key in (SELECT, SLICES):
        if key not in st.session_state and key in st.query_params:
            st.session_state[key] = st.query_params[key]


def slice_table(view: View) -> pd.DataFrame:
    """Statistics of all samples, the selected ones and every slice, each with its rule."""
    rules = {SELECTED: view.selection} if view.selection else {}
    rules |= view.slices
    table = slice_statistics(view.samples, {name: rule.mask(view.samples) for name, rule in rules.items()})
    table.insert(1, "rule", ["", *map(str, rules.values())])
    return table


def show_slices(view: View) -> None:
    """The statistics of the selection and of every slice."""
    at_floor = COLUMNS["at_floor"]
    table, shares = slice_table(view), ["share", "accuracy", "at_floor"]
    table[shares] *= 100
    nats = {
        f"{column.name}_{side}": st.column_config.NumberColumn(
            f"{column.title}, {label}", format=column.format.printf, help=column.help
        )
        for side, label in (("fixed", "fixed τ"), ("cist", "CIST"))
        for column in profile_columns("mean", "std")
    }
    show_table(
        table,
        key="slices-table",
        alt="Statistics of the slices: samples, accuracy, mean and spread of the entropy in nats, shares in percent",
        columns={
            "slice": st.column_config.TextColumn("Slice", pinned=True),
            "rule": st.column_config.TextColumn("Rule"),
            "samples": st.column_config.NumberColumn(in_its_words("Samples"), format="localized"),
            "share": st.column_config.NumberColumn("Share", format="%.1f %%"),
            "accuracy": st.column_config.NumberColumn("Accuracy", format="%.1f %%"),
            **nats,
            "mean_ratio": st.column_config.NumberColumn("Mean ratio at τ", format="%.3f"),
            "at_floor": st.column_config.NumberColumn(at_floor.title, format="%.1f %%", help=at_floor.help),
        },
    )


def _with_samples(view: View, *, complain: bool = False) -> View:
    """The view with the selection and the slices that these samples have; what cannot be read is named once."""
    try:
        selection = Selection.parse(st.session_state.get(SELECT) or "")
        selected = selection.mask(view.samples) if selection else None
    except CistError as error:
        selection, selected = Selection(), None
        if complain:
            show_error(error)
    try:
        slices = parse_slices(st.session_state.get(SLICES) or "")
        for rule in slices.values():
            rule.mask(view.samples)
    except CistError as error:
        slices = {}
        if complain:
            show_error(error)
    return replace(view, selection=selection, selected=selected, slices=slices)


def count_of(selected: NDArray[np.bool_] | None, samples: SampleTable, noun: str) -> str:
    """How many are selected, in Markdown."""
    total = samples.num_samples
    if selected is None:
        return f"All {total:,} {noun}"
    chosen = int(np.count_nonzero(selected))
    return f":red[■] {chosen:,} of {total:,} {noun} ({percent(chosen / total)})"


def explanation_of(selection: Selection, samples: SampleTable, class_names: Sequence[str] | None) -> str:
    """What is selected, and how to say something else."""
    have = {measure.name for measure in samples.measures()}
    # Of images nobody misses what only tokens have.
    known = [name for name, measure in MEASURES.items() if samples.text or "a text" not in measure.needs]
    names, missing = (", ".join(f"`{name}`" for name in known if (name in have) is here) for here in (True, False))
    described = plain(selection.describe(class_names))
    return (
        f"Selected: {described}.\n\n"
        f"Drag over a chart, or write conditions joined by `&`. Measures: {names}."
        f"{f' Not here: {missing}.' if missing else ''} "
        "Ranges: `0.1..0.5`, `..0.5`, `2..`; classes and samples: `3,5`; flags: `yes`, `no`."
    )


def keep_selection(field: str) -> None:
    """Add the selection to the slices, from a callback, unless their text cannot be read: its error is on the page."""
    try:
        kept = parse_slices(st.session_state.get(SLICES) or "")
    except CistError:
        return
    unnamed = (f"slice {number}" for number in count(1))
    name = st.session_state[field].strip()  # not an argument: Enter and the press may arrive together
    kept[name or next(free for free in unnamed if free not in kept)] = current_selection()
    st.session_state[SLICES] = format_slices(kept)
