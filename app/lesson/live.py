"""The bars of the lesson's soft labels, which move in the browser while its sliders are dragged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import streamlit as st
from numpy.typing import ArrayLike

from app.sliders.component import live_component, read
from cist_core.charts.lesson import shown_classes

PICTURES = ("lesson-picture", "lesson-second-picture")
"""Keys of the charts of a step."""


def move_bars(rows: Sequence[ArrayLike], *rules: Literal["tau", "rho"]) -> None:
    """Let the bars of a step follow its sliders.

    Args:
        rows: the logits behind each picture, ``(C,)``.
        rules: whose soft labels each picture has, in the order of their bars.
    """
    pictures = []
    for chart, row in zip(PICTURES, rows, strict=False):
        logits = np.asarray(row, dtype=np.float64)
        shown = shown_classes(logits, len(rules)).tolist()
        given = [float(f"{logit:.6g}") for logit in logits]
        pictures.append({"chart": chart, "logits": given, "shown": shown, "rules": rules})
    sliders = {rule: f"lesson_{rule}" for rule in rules}
    with st.container(key="lesson-live"):
        _BARS(key="lesson_bars", data={"sliders": sliders, "pictures": pictures})


_BARS = live_component("cist_lesson_live", html="<span></span>", scripts=[read("bars.js")])
