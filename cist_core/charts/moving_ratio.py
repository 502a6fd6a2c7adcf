"""The ratios of a few samples under a fixed temperature and under CIST, for every pair of slider positions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.figure import GREY, Figure, Slot, named, rule_scale, rules_legend, slots
from cist_core.compare.findings import rule_label
from cist_core.compare.slider_grid import Position, SliderGrid
from cist_core.entropy.theory import equal_others_entropy

_CURVE_END, _CURVE_POINTS = 30.0, 151
"""Beyond this ratio the curve is 0 for any number of classes that a chart can show."""
BEYOND = 1.06
"""How far the curve goes on after the last point, as a factor."""


def equal_others_curve(classes: int) -> pd.DataFrame:
    """The entropy of a row whose other classes are all equal, over the ratio."""
    ratio = np.linspace(0.0, _CURVE_END, _CURVE_POINTS)
    return pd.DataFrame({"ratio": ratio, "entropy": equal_others_entropy(ratio, classes)})


def moving_ratio_figure(grid: SliderGrid, tau: int, rho: int, *, height: int = 320) -> Figure:
    """Ratio against entropy at one pair of positions.

    Args:
        grid: of the sliders.
        tau: index of the temperature.
        rho: index of the CIST rule.
        height: in pixels.
    """
    first, second = grid.taus[tau], grid.rhos[rho]
    samples, classes = first.profile.samples, first.profile.classes
    taken = slots([first.rule, second.rule])
    points = pd.concat(
        [
            _points(position, slot, grid.ratios(position), grid.max_entropy)
            for position, slot in zip((first, second), taken, strict=True)
        ],
        ignore_index=True,
    )
    curve = equal_others_curve(classes)
    shown = len(grid.maxima)
    title = grid.ratios_move(first, second)
    return Figure(
        title=title,
        caption=(
            (f"All {samples:,} samples" if shown == samples else f"{shown:,} of the {samples:,} samples, evenly spaced")
            + (" in the order of their centred maxima" if shown < samples else "")
            + ". The ratio is the maximum centred logit over the temperature. "
            "Grey line: the entropy if all other classes were equal."
        ),
        alt=f"{title}. Horizontal: ratio of the maximum centred logit to the temperature; vertical: entropy in nats",
        spec=_spec(taken, grid.max_entropy, height),
        datasets={
            "points": points,
            # The curve ends where the points do, or it would stretch the axis.
            "curve": curve[curve["ratio"] <= points["ratio"].max() * BEYOND],
        },
    )


def _points(position: Position, slot: Slot, ratio: NDArray[np.float64], limit: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(position.rule),
            "ratio": ratio,
            "entropy": position.drawn * (limit / 255),
        }
    )


@lru_cache(maxsize=16)
def _spec(taken: tuple[Slot, ...], limit: float, height: int) -> dict[str, Any]:
    x = alt.X(
        "ratio:Q",
        title="ratio r = m / τ",
        scale=alt.Scale(nice=False, zero=True),
        axis=alt.Axis(tickCount=8),
    )
    y = alt.Y(
        "entropy:Q", title="entropy (nats)", scale=alt.Scale(domain=[0, limit], nice=False), axis=alt.Axis(tickCount=6)
    )
    points = (
        alt.Chart(named("points"))
        .mark_circle(size=22, opacity=0.6)
        .encode(
            x=x,
            y=y,
            color=alt.Color("rule:N", scale=rule_scale(taken), legend=rules_legend()),
            tooltip=[
                alt.Tooltip("label:N", title="rule"),
                alt.Tooltip("ratio:Q", format=".2f"),
                alt.Tooltip("entropy:Q", title="entropy (nats)", format=".2f"),
            ],
        )
    )
    curve = alt.Chart(named("curve")).mark_line(color=GREY, strokeWidth=2).encode(x=x, y=y)
    return dict(alt.layer(curve, points).properties(width="container", height=height).to_dict())
