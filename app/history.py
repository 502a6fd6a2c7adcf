"""One press of the browser's Back undoes one thing: each change of a widget is an entry of the browser's history."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx


def keep_history() -> None:
    """Before any widget: let the browser make an entry for each change, where Streamlit would replace the last one.

    It comes after the first answer of the server; a link that is put right at once needs `with_watch`.
    """
    with st.container(key="history-watch"):
        _WATCH(key="history_watch")


def with_watch(page: bytes) -> bytes:
    """Streamlit's page with the same script before its own; another page as it is."""
    return page.replace(_STREAMLIT, f'<script type="module">{_SCRIPT}\nwatch();</script>\n'.encode() + _STREAMLIT, 1)


def went_back() -> bool:
    """Whether the browser has gone back or forward to what is shown, so that the address says what that is."""
    context = get_script_run_ctx(suppress_warning=True)
    return context is not None and context.is_history_navigation


_STREAMLIT = b'<script type="module" crossorigin src="./static/js/index.'
_SCRIPT = Path(__file__).with_name("history.js").read_text(encoding="utf-8")

_WATCH = st.components.v2.component("cist_history_watch", html="<span></span>", js=_SCRIPT)
