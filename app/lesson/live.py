"""The pictures of the lesson, which move in the browser while its sliders are dragged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import ArrayLike

from app.sliders.component import live_component, read
from cist_core.charts.lesson import shown_classes

PICTURES = ("lesson-picture", "lesson-second-picture")
"""Keys of the charts of a step."""

Slider = Literal["tau", "rho", "scale", "gap", "student", "floor"]


@dataclass(frozen=True)
class Moving:
    """One picture that moves: how the browser computes it, the tables of its figure, and what no slider says.

    Attributes:
        kind: of the picture, a name in ``app/sliders/lesson.js``.
        tables: of the figure, which it fills.
        given: what it computes them from, besides the sliders.
    """

    kind: str
    tables: Sequence[str]
    given: dict[str, Any]


def moving_bars(kind: str, row: ArrayLike, *, rules: int = 1, **given: Any) -> Moving:
    """Bars of the soft labels that a row of logits, ``(C,)``, has under as many rules."""
    return Moving(kind, ("bars",), _row(row) | {"shown": shown_classes(row, rules).tolist()} | given)


def moving_curve(kind: str, row: ArrayLike, *tables: str, **given: Any) -> Moving:
    """Where a row of logits, ``(C,)``, stands on its curve."""
    return Moving(kind, tables, _row(row) | given)


def move_pictures(sliders: Sequence[Slider], *pictures: Moving) -> None:
    """Let the pictures of a step, in their order, follow its sliders."""
    moving = [
        {"chart": chart, "kind": picture.kind, "tables": picture.tables, "given": picture.given}
        for chart, picture in zip(PICTURES, pictures, strict=False)
    ]
    with st.container(key="lesson-live"):
        _LIVE(key="lesson_live", data={"sliders": sliders, "pictures": moving})


def _row(row: ArrayLike) -> dict[str, Any]:
    return {"logits": [float(f"{logit:.6g}") for logit in np.asarray(row, dtype=np.float64)]}


_LIVE = live_component("cist_lesson_live", html="<span></span>", scripts=[read("lesson.js")])
