"""The tray at the lower edge: what is selected, as samples to look at, and what can be done with it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.gallery import open_sample
from app.miniatures import miniatures
from app.selection import select
from app.selection_bar import keep_selection
from app.state import View
from cist_core.data.dataset import evenly_spaced
from cist_core.samples.selection import Selection
from cist_core.samples.slices import selection_words

SAMPLES = "../pages/samples.py"
MOST = 12
_SIZE = 48  # pixels of a picture


def show_tray(view: View) -> None:
    """The selected samples, if any: twelve from the least to the largest entropy, and what they have in common."""
    if view.selected is None:
        return
    with st.container(key="selection-tray", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f":red[■] {selection_words(view.samples, view.selected)}", width="stretch")
            st.page_link(SAMPLES, label="Open in Samples", icon=":material/photo_library:", width="content")
            with st.popover("Keep as", icon=":material/bookmark_add:", type="tertiary"):
                st.text_input("Save selection as", key="tray_name", placeholder="slice 1")
                st.button("Save", key="tray_keep", on_click=keep_selection, args=("tray_name",), type="primary")
            st.button(
                "Clear", key="tray_clear", icon=":material/close:", type="tertiary", help="Select every sample",
                on_click=select, args=(Selection(),),
            )  # fmt: skip
        _show_miniatures(view)


def _show_miniatures(view: View) -> None:
    shown = representatives(view)
    opened = None
    with st.container(horizontal=True, gap="xxsmall", key="selection-tray-samples"):
        for index, miniature in zip(shown, miniatures(view, shown, size=_SIZE), strict=True):
            if st.button(
                miniature.label, key=f"tray_{index}", type="tertiary", help=f"Open sample {index:,}",
                on_click=open_sample, args=(index,),
            ):  # fmt: skip
                opened = index
    if opened is not None:
        # Without a word on the parameters it would refuse to clear those of the sidebar, which come back by themselves.
        st.switch_page(SAMPLES, query_params={})


def representatives(view: View) -> list[int]:
    """Up to `MOST` of the selected samples, evenly spaced in the order of their entropy at the fixed temperature."""
    assert view.selected is not None
    chosen = np.flatnonzero(view.selected)
    ordered = chosen[np.argsort(view.fixed.entropy[chosen], kind="stable")]
    return [int(index) for index in ordered[evenly_spaced(len(ordered), min(MOST, len(ordered)))]]
