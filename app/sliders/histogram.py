"""The histogram of the two rules' entropies, drawn in the browser, where it moves with the sliders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import streamlit as st

from app.selection import deselect, select_where
from app.sliders.component import live_component, read
from app.state import View
from cist_core.charts.figure import slots
from cist_core.compare.findings import rule_label
from cist_core.samples.selection import Between
from cist_core.temperature.profile import entropy_histogram
from cist_core.temperature.readings import RuleReading
from cist_core.wording import percent


def draw_histogram(view: View, readings: Sequence[RuleReading], *, key: str, brushed: str) -> None:
    """Draw what `histogram_figure` draws of the same readings.

    Args:
        view: what is on the screen; the first two readings are of its rules and move with the sliders.
        readings: of two or more rules, with thresholds of their own.
        key: of the chart.
        brushed: the measure that a dragged interval selects samples by.
    """
    first, classes = readings[0].profile, view.source.curves.num_classes
    limit = math.log(classes)
    usual = view.fixed.profile

    def chosen(reading: RuleReading) -> list[int]:
        assert view.selected is not None
        counts: list[int] = entropy_histogram(reading.entropy[view.selected], classes).tolist()
        return counts

    _HISTOGRAM(
        key=key,
        data={
            "regions": [first.over_sharp_below * limit, first.over_smoothed_above * limit],
            # The grid knows the shares at the usual thresholds alone.
            "unusual": (first.over_sharp_below, first.over_smoothed_above)
            != (usual.over_sharp_below, usual.over_smoothed_above),
            "shares": [_shares(reading) for reading in readings],
            "selected": None if view.selected is None else [chosen(reading) for reading in readings],
            "further": [
                {
                    "name": slot.name,
                    "colour": slot.colour,
                    "label": rule_label(reading.rule),
                    "mean": reading.profile.mean,
                    "std": reading.profile.std,
                    "counts": entropy_histogram(reading.entropy, classes).tolist(),
                    "shares": _shares(reading),
                    "chosen": None if view.selected is None else chosen(reading),
                }
                for reading, slot in list(zip(readings, slots([each.rule for each in readings]), strict=True))[2:]
            ],
            "brush": True,
            "unit": "samples" if view.source.text is None else "tokens",
            "interval": _interval(view, brushed, limit),
        },
        on_brushed_change=partial(_follow_brush, key, brushed),
    )


def _shares(reading: RuleReading) -> tuple[str, str]:
    return percent(reading.profile.over_sharp), percent(reading.profile.over_smoothed)


def _interval(view: View, measure: str, limit: float) -> list[float] | None:
    """The part of the axis that the selection keeps."""
    for condition in view.selection.conditions:
        if isinstance(condition, Between) and condition.measure == measure:
            return [max(condition.low, 0.0), min(condition.high, limit)]
    return None


def _follow_brush(key: str, measure: str) -> None:
    told = st.session_state[key].get("brushed") or {}
    interval = told.get("interval")
    if interval is None:
        deselect(measure)
    else:
        low, high = (float(f"{end:.4g}") for end in interval)
        select_where(measure, low, high)


_HTML = """
<div class="histogram brushes">
  <div class="legend" aria-hidden="true"></div>
  <svg role="img"></svg>
  <div class="tip" hidden></div>
</div>
"""

_HISTOGRAM = live_component("cist_histogram", html=_HTML, css=read("histogram.css"), scripts=[read("histogram.js")])
