"""A choice that reads well on the page and in the address: titles here, the names of the command line there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from app.settings import in_link
from app.widgets import plain


def readable_choice(
    widget: Callable[..., Any], label: str, titles: Mapping[str, str], *, key: str, default: str, **arguments: Any
) -> str:
    """Choose one name by its title; the address holds the name, as `bind` would put the title there.

    A name in the address that is not offered is said, and the default stands in.

    Args:
        widget: `st.selectbox`, `st.radio` or alike.
        label: of the widget.
        titles: of every name that is offered, in order.
        key: of the name in the session and in the address; the widget's own has ``_`` before it.
        default: the name to begin with.
        arguments: of the widget.
    """
    in_link(key)
    asked = st.query_params.get(key)
    if asked in titles:
        st.session_state[key] = asked
    elif asked:
        st.warning(
            f"The link asks for {plain(f'{label}: {asked}')}, which is not offered here; {plain(titles[default])} "
            "stands in.",
            icon=":material/link_off:",
        )
    if st.session_state.get(key) not in titles:
        st.session_state[key] = default

    def take() -> None:
        st.session_state[key] = st.query_params[key] = st.session_state[f"_{key}"]

    st.session_state[f"_{key}"] = st.session_state[key]
    widget(label, list(titles), key=f"_{key}", format_func=titles.__getitem__, on_change=take, **arguments)
    return str(st.session_state[key])
