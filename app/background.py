"""Background runs, as far as the whole app is concerned."""

from __future__ import annotations

import streamlit as st

from cist_core.errors import CistError


@st.cache_resource(show_spinner=False)
def wake_worker() -> None:
    """Once a server: runs that wait, or ran when the machine went down, get a worker without anybody opening Runs."""
    from cist_core import runs  # the first picture does without it

    try:
        store = runs.RunStore()
        if store.has_queued() or store.running():
            runs.ensure_worker(store)
    except CistError:
        return  # Runs says what is wrong, where it matters
