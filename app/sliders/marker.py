"""The mark of the ρ that is set now, which moves along its curve while the slider does."""

from __future__ import annotations

import streamlit as st

from app.sliders.component import live_component, read
from cist_core.charts.rho import NOW, NOW_WORDS, RECOMMENDED
from cist_core.compare.recommendation import RhoRecommendation


def move_marker(chart: str, found: RhoRecommendation) -> None:
    """Let the mark in a chart follow the slider.

    Args:
        chart: the key of what draws `rho_figure`.
        found: the recommendation in it, whose own mark stays.
    """
    with st.container(key="live-marker"):
        fixed = {"name": RECOMMENDED, "x": found.rho, "y": found.outcome.cist.mean}
        _MARKER(key="rho-marker", data={"chart": chart, "fixed": fixed, "dot": NOW, "words": NOW_WORDS})


_MARKER = live_component("cist_marker", html="<span></span>", scripts=[read("marker.js")])
