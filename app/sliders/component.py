"""Components that follow the sliders in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from cist_core.charts.figure import AMBER, BLUE, SELECTED
from cist_core.compare.slider_grid import slider_javascript

_FOLDER = Path(__file__).parent


def live_component(name: str, *, html: str = "", css: str = "", scripts: Sequence[str] = ()) -> ComponentRenderer:
    """A component whose JavaScript can call `followRules`.

    Args:
        name: of the component, one in the app.
        html: that it starts with.
        css: of its own; ``--fixed``, ``--cist`` and ``--selected`` are the colours of the charts.
        scripts: the last one exports the function that Streamlit calls.
    """
    colours = f":host {{ --fixed: {AMBER}; --cist: {BLUE}; --selected: {SELECTED}; }}\n"
    shared = (slider_javascript(), read("rules.js"))
    return st.components.v2.component(name, html=html, css=colours + css, js="\n".join((*shared, *scripts)))


def read(name: str) -> str:
    """A file that lies beside this one."""
    return (_FOLDER / name).read_text(encoding="utf-8")
