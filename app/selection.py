"""The samples that are selected in the whole app.

The selection is a rule in text (`cist_core.samples.selection`), the value of one text field: brushing a chart, choosing
a filter and typing all write the same text, and a link carries it.
"""

from __future__ import annotations

import streamlit as st

from cist_core.errors import CistError
from cist_core.samples.selection import Selection

SELECT, SLICES = "select", "slices"
_ROUND = "_brush_round"


def select(selection: Selection) -> None:
    """Select samples everywhere, from a callback; a brush that is still drawn is wiped away."""
    st.session_state[SELECT] = str(selection)
    forget_brush()


def select_where(measure: str, low: float, high: float) -> None:
    """Add or replace one condition, from a brush that stays drawn."""
    st.session_state[SELECT] = str(current_selection().between(measure, low, high))


def deselect(*measures: str) -> None:
    """Lift the conditions on some measures, when their brush is wiped away."""
    st.session_state[SELECT] = str(current_selection().without(*measures))


def current_selection() -> Selection:
    """What the text says now; nothing where it cannot be read."""
    try:
        return Selection.parse(st.session_state.get(SELECT) or "")
    except CistError:
        return Selection()


def forget_brush() -> None:
    """Charts are drawn afresh, without a brush that no longer says what is selected."""
    st.session_state[_ROUND] = brush_round() + 1


def brush_round() -> int:
    """Part of the key of every chart with a brush."""
    return int(st.session_state.get(_ROUND, 0))
