"""The pictures of the lesson, which move in the browser while its sliders are dragged."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import ArrayLike

from app.lesson.sentence import Scale
from app.sliders.component import live_component, read
from cist_core.charts import Figure
from cist_core.charts.lesson import shown_classes

PICTURES = ("lesson-picture", "lesson-second-picture")
"""Keys of the charts of a step."""

Slider = Literal["tau", "rho", "scale", "gap", "student", "floor", "token_tau", "token_rho"]


@dataclass(frozen=True)
class Moving:
    """One picture that moves: how the browser computes it, the tables of its figure, and what no slider says.

    Attributes:
        kind: of the picture, a name in ``app/sliders/lesson.js``.
        tables: of the figure, which it fills.
        given: what it computes them from, besides the sliders.
        drawn: the rows of these tables as the server has them, by table, where the browser computes them less exactly.
    """

    kind: str
    tables: Sequence[str]
    given: dict[str, Any]
    drawn: dict[str, list[dict[Hashable, Any]]] | None = None


def moving_bars(kind: str, row: ArrayLike, *, rules: int = 1, **given: Any) -> Moving:
    """Bars of the soft labels that a row of logits, ``(C,)``, has under as many rules."""
    return Moving(kind, ("bars",), _row(row) | {"shown": shown_classes(row, rules).tolist()} | given)


def moving_curve(kind: str, row: ArrayLike, *tables: str, **given: Any) -> Moving:
    """Where a row of logits, ``(C,)``, stands on its curve."""
    return Moving(kind, tables, _row(row) | given)


def moving_histogram(figure: Figure, grid: str) -> Moving:
    """What `histogram_figure` draws of a pair, which moves from position to position of a grid of the page."""
    tables = ("bins", "means", "regions")
    return Moving(
        "histogram", tables, {"grid": grid}, {name: figure.datasets[name].to_dict("records") for name in tables}
    )


def moving_positions(kind: str, table: str, scales: Sequence[Scale], at: Sequence[ArrayLike]) -> Moving:
    """Numbers of the fixed temperature and of CIST that were read at every position of their sliders.

    Args:
        kind: of the picture.
        table: that has them, those of the fixed temperature first.
        scales: of both sliders.
        at: the numbers at each of their positions, a row each.
    """
    spaced = [{"low": scale.low, "step": scale.step} for scale in scales]
    # More digits than any label has: a number that is rounded twice may be written otherwise than by the server.
    short = [[[float(f"{number:.7g}") for number in row] for row in np.asarray(rows)] for rows in at]
    return Moving(kind, (table,), {"scales": spaced, "at": short})


def move_pictures(sliders: Mapping[Slider, float], *pictures: Moving) -> None:
    """Let the pictures of a step, in their order, follow its sliders, from where these stand."""
    moving = [{"chart": chart, **asdict(picture)} for chart, picture in zip(PICTURES, pictures, strict=False)]
    with st.container(key="lesson-live"):
        _LIVE(key="lesson_live", data={"sliders": dict(sliders), "pictures": moving})


def _row(row: ArrayLike) -> dict[str, Any]:
    return {"logits": [float(f"{logit:.9g}") for logit in np.asarray(row, dtype=np.float64)]}


_LIVE = live_component("cist_lesson_live", html="<span></span>", scripts=[read("lesson.js")])
