"""The bar above the page's content with the two sliders; on a phone it stands at the lower edge."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.sliders.component import live_component, read
from app.sliders.grid import grid_id, grid_of
from app.state import View
from cist_core.compare.slider_grid import (
    MARKS,
    Position,
    nearest_position,
    pair_json,
    sentences_json,
)
from cist_core.wording import all_of_tokens

BAR, VALUES, SLIDERS = "rules-bar", "rules-values", "rules-sliders"
SOURCE = "chosen-source"
"""Key of what the sidebar has of teacher, data and student."""
_ECHO = "_sliders_told"


def rules_bar() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The bar, and in it a place that nobody sees, for the widgets that hold the sliders' values.

    Only Streamlit's own widgets keep a value in the browser's address; what a person moves is the component.
    """
    st.html(f"<style>{_PAGE_STYLE}</style>")
    bar = st.container(key=BAR, gap=None)
    return bar, bar.container(key=VALUES)


def hide_source() -> None:
    """Where a part of a page goes by neither the source nor the two rules; all keep their values."""
    st.html(f"<style>.st-key-{BAR}, .st-key-{SOURCE} {{ display: none; }}</style>")


def show_sliders(bar: DeltaGenerator, view: View, *, together: bool, note: str) -> None:
    """Draw the sliders where the view has them.

    Args:
        bar: from `rules_bar`.
        view: what is on the screen.
        together: whether moving one moves the other.
        note: why the pair is not matched; empty where it is.
    """
    with bar:
        _SLIDERS(
            key=SLIDERS,
            data={
                "here": _here(view, note),
                "matched": together,
                "bounds": view.source.ranges,
                "marks": MARKS,
                "echo": st.session_state.get(_ECHO),
            },
            on_rest_change=partial(_take, view.source.ranges),
        )


def _here(view: View, note: str) -> dict[str, Any]:
    source, curves = view.source, view.source.curves
    tau, rho = (Position.of(reading, curves) for reading in view.pair)
    sentences = sentences_json(view.cist.rule, view.floor)
    return pair_json(tau, rho, grid_of(source, view.floor)) | {
        "grid": grid_id(source, view.floor),
        "floor": view.floor,
        "samples": curves.num_samples,
        "maxEntropy": curves.max_entropy,
        "sentences": sentences if source.text is None else all_of_tokens(sentences),
        "note": note,
    }


def _take(ranges: Mapping[str, tuple[float, float]]) -> None:
    """A slider has come to rest, or the switch was turned: what the browser says is checked as a link's words are."""
    told = st.session_state[SLIDERS].get("rest") or {}
    st.session_state[_ECHO] = told.get("at")
    name, value, matched = told.get("slider"), told.get("value"), told.get("matched")
    if isinstance(name, str) and name in ranges and isinstance(value, int | float) and value == value:
        st.session_state[name] = nearest_position(value, ranges[name])
    elif isinstance(matched, bool):
        st.session_state["matched"] = matched


_SLIDERS = live_component(
    "cist_sliders", html=read("bar.html"), css=read("range.css") + read("bar.css"), scripts=[read("bar.js")]
)

_PAGE_STYLE = read("page.css")
