"""Samples as a cloud over two of their numbers: points, or counts on a grid where they are too many."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.figure import GREY, Slot, named
from cist_core.compare.findings import rule_label
from cist_core.temperature import TemperatureRule

MOST_POINTS = 2_000
"""Up to this many samples are drawn one by one; more are binned here, not in the browser."""

COLUMNS, ROWS = 72, 48
"""Of the grid."""

Values = NDArray[np.floating[Any]]


def points(x: str, across: Values, entropy: Values, reach: float, rule: TemperatureRule, slot: Slot) -> pd.DataFrame:
    """One row a sample; what lies beyond ``reach`` stands at its end."""
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(rule),
            "sample": np.arange(len(entropy)),
            x: np.minimum(across, reach).astype(float),
            "entropy": entropy.astype(float),
        }
    )


def cells(
    x: str, counts: NDArray[np.int64], reach: float, limit: float, rule: TemperatureRule, slot: Slot
) -> pd.DataFrame:
    """Counts on the grid up to the reach and the largest entropy, ``(COLUMNS, ROWS)``; only cells with a sample."""
    column, row = np.nonzero(counts)
    left, low, samples = column * (reach / COLUMNS), row * (limit / ROWS), counts[column, row]
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(rule),
            x: left,
            f"{x}_to": left + reach / COLUMNS,
            "entropy": low,
            "entropy_to": low + limit / ROWS,
            "samples": samples,
            # The eye reads area; the square root keeps thin regions visible beside a peak.
            "weight": np.sqrt(samples / max(counts.max(), 1)),
        }
    )


def cloud_layer(
    data: str,
    x: alt.X,
    y: alt.Y,
    colour: alt.Color | alt.Value,
    *,
    field: str,
    title: str,
    binned: bool,
    front: bool = False,
) -> alt.Chart:
    """The layer that draws `cells` or `points`.

    Args:
        data: name of the data set.
        x: its channel, of the field.
        y: channel of the entropy.
        colour: of the samples.
        field: name of the number along x.
        title: of that number in a tooltip.
        binned: whether the data set holds cells.
        front: whether its samples stand out from another cloud.
    """
    label = alt.Tooltip("label:N", title="rule")
    if not binned:
        dots: alt.Chart = (
            alt.Chart(named(data))
            .mark_circle(size=24 if front else 18, opacity=0.9 if front else 0.45)
            .encode(
                x=x,
                y=y,
                color=colour,
                tooltip=[
                    label,
                    alt.Tooltip("sample:Q", format=","),
                    alt.Tooltip(f"{field}:Q", title=title, format=".2f"),
                    alt.Tooltip("entropy:Q", title="entropy (nats)", format=".3f"),
                ],
            )
        )
        return dots
    faintest = 0.5 if front else 0.125
    grid: alt.Chart = (
        alt.Chart(named(data))
        .transform_calculate(shade=f"{faintest} + {1 - faintest} * datum.weight")
        .mark_rect()
        .encode(
            x=x,
            x2=f"{field}_to:Q",
            y=y,
            y2="entropy_to:Q",
            color=colour,
            opacity=alt.Opacity("shade:Q", scale=None),
            tooltip=[
                label,
                alt.Tooltip("entropy:Q", title="entropy from (nats)", format=".3f"),
                alt.Tooltip("entropy_to:Q", title="to (nats)", format=".3f"),
                alt.Tooltip("samples:Q", format=","),
                alt.Tooltip(f"{field}:Q", title=f"{title} from", format=".2f"),
            ],
        )
    )
    return grid


def envelope_layer(field: str, x: alt.X, y: alt.Y) -> alt.Chart:
    """The band of the data set ``envelope``: from the smallest to the largest entropy at each value of the field."""
    band: alt.Chart = (
        alt.Chart(named("envelope"))
        .mark_area(color=GREY, opacity=0.14)
        .encode(
            x=x,
            y=y,
            y2="entropy_to:Q",
            tooltip=[
                alt.Tooltip(f"{field}:Q", format=".2f"),
                alt.Tooltip("entropy:Q", title="smallest entropy (nats)", format=".3f"),
                alt.Tooltip("entropy_to:Q", title="largest (nats)", format=".3f"),
            ],
        )
    )
    return band
