"""Widgets whose values belong to a view: they stand in the browser's address, and in the link to what is shown."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.history import went_back

_IN_LINK = "_page_settings"


def linked(key: str, *, keep: bool = False) -> dict[str, Any]:
    """Arguments of a widget that is part of the address.

    Args:
        key: of the widget, and the name of its query parameter.
        keep: also while the widget is not on the screen, until the session ends.
    """
    if went_back() and st.session_state.get(key, "") is None:
        del st.session_state[key]  # a field that was left empty would be empty in the view before, too
    return {"key": key, "bind": "query-params"} | ({"persist_state": "session"} if keep else {})


def page_setting(key: str, *, keep: bool = True) -> dict[str, Any]:
    """Arguments of a widget of one page, which the link to the page carries as well; see `linked`."""
    in_link(key)
    return linked(key, keep=keep)


def in_link(key: str) -> None:
    """Let the link to the page carry a value of the session that no widget holds."""
    st.session_state[_IN_LINK] = tuple(dict.fromkeys([*st.session_state.get(_IN_LINK, ()), key]))


def page_settings() -> dict[str, object]:
    """The values of the widgets that the page has shown, as query parameters: an empty field is empty."""
    shown = [key for key in st.session_state.get(_IN_LINK, ()) if key in st.session_state]
    return {key: _as_text(st.session_state[key]) for key in shown}


def forget_page_settings() -> None:
    """Before a page runs: the link knows nothing of its widgets yet."""
    st.session_state[_IN_LINK] = ()


def _as_text(value: object) -> object:
    """A widget's value as its query parameter: a switch is lower case."""
    if value is None or value == []:
        return ""
    return str(value).lower() if isinstance(value, bool) else value
