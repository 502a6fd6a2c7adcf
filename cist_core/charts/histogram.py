"""Entropy histograms with the over-sharp and over-smoothed regions shaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import zip_longest
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.figure import (
    GREY,
    SELECTED,
    Figure,
    LateTables,
    Mask,
    Slot,
    brush,
    named,
    rule_scale,
    rules_legend,
    slots,
)
from cist_core.compare.findings import comparison, extremes, rule_label, selection_finding
from cist_core.temperature.profile import entropy_histogram
from cist_core.temperature.readings import RuleReading
from cist_core.wording import percent, three_digits

BINS = 60
STACKED_HEIGHT = 340
"""In pixels, for one rule above another; the axes take 130 of it."""


# On a phone the two regions stand so near to one another that only the numbers fit.
_SHARE = alt.ExprRef("width < 420 ? datum.text : datum.text + ' ' + datum.region")

_FIRST_LINE, _LINE = 12, 16
"""Where the words of the first rule stand from the top, and those of the next below them, in pixels."""

_PAIR = ("entropy", "entropy_cist")
"""The measures that are the entropies of the first two readings, the pair of the sidebar."""


def stacked_histograms(readings: Sequence[RuleReading], *, selected: Mask | None = None) -> list[Figure]:
    """One histogram a rule, to stand above one another: on one scale, so that their heights compare.

    Those of the first two, the pair of the sidebar, can be brushed.
    """
    tallest = max((_counts(reading).max() for reading in readings), default=0)
    return [
        histogram_figure([reading], selected=selected, brushed=measure, height=STACKED_HEIGHT, tallest=tallest)
        for reading, measure in zip_longest(readings, _PAIR[: len(readings)])
    ]


def histogram_figure(
    readings: Sequence[RuleReading],
    *,
    selected: Mask | None = None,
    brushed: str | None = None,
    height: int = 400,
    tallest: int = 0,
) -> Figure:
    """Histograms of several rules over one another; the title compares the first two, on the selected samples if any.

    Args:
        readings: one or more.
        selected: the samples to count once more in front, ``(N,)``.
        brushed: the measure that a dragged interval selects by, if any.
        height: in pixels, the axes included.
        tallest: samples in the highest bar that the scale has room for, where other charts share it.
    """
    first = readings[0].profile
    limit = math.log(first.classes)
    taken = slots([reading.rule for reading in readings])
    pairs = list(zip(readings, taken, strict=True))
    of_all = comparison(readings[0], readings[1]) if len(readings) > 1 else extremes(readings[0])
    title = of_all
    if selected is not None and len(readings) > 1:
        title = selection_finding(readings[0], readings[1], selected)
    return Figure(
        title=title,
        caption=(
            f"{first.samples:,} samples in {BINS} bins; vertical lines are the means. Shaded: over-sharp, below "
            f"{first.over_sharp_below * 100:g} % of ln C, and over-smoothed, above "
            f"{first.over_smoothed_above * 100:g} %."
        ),
        # A chart whose alt text changes is drawn anew, and loses the brush that selects.
        alt=of_all
        + ". "
        + "; ".join(
            f"{rule_label(reading.rule)}: mean {three_digits(reading.profile.mean)}, spread "
            f"{three_digits(reading.profile.std)} nats"
            for reading in readings
        ),
        spec=_spec(taken, limit, height, brushed is not None),
        brush={} if brushed is None else {"from": brushed},
        datasets=LateTables(
            _TABLES,
            partial(_tables, pairs, limit, selected, tallest),
            filled=[name for name in _TABLES if name != "selected" or (selected is not None and selected.any())],
        ),
    )


_TABLES = ("bins", "selected", "means", "regions")


def _tables(
    pairs: Sequence[tuple[RuleReading, Slot]], limit: float, selected: Mask | None, tallest: int
) -> dict[str, pd.DataFrame]:
    bins = pd.concat([_bins(reading, slot, limit) for reading, slot in pairs], ignore_index=True)
    chosen = pd.concat([_bins(reading, slot, limit, selected) for reading, slot in pairs], ignore_index=True)
    return {
        "bins": bins,
        "selected": chosen[chosen["samples"] > 0] if selected is not None else chosen.iloc[:0],
        "means": pd.DataFrame(
            {
                "rule": [slot.name for _, slot in pairs],
                "label": [rule_label(reading.rule) for reading, _ in pairs],
                "mean": [reading.profile.mean for reading, _ in pairs],
                "spread": [reading.profile.std for reading, _ in pairs],
                # The words need room above the highest bar.
                "headroom": max(tallest, bins["samples"].max()) * (1 + 0.1 * len(pairs)),
            }
        ),
        "regions": _regions(pairs, limit),
    }


def _counts(reading: RuleReading, chosen: Mask | None = None) -> NDArray[np.int64]:
    entropy = reading.entropy if chosen is None else reading.entropy[chosen]
    return entropy_histogram(entropy, reading.profile.classes, BINS)


def _bins(reading: RuleReading, slot: Slot, limit: float, chosen: Mask | None = None) -> pd.DataFrame:
    counts = _counts(reading, chosen)
    edges = np.linspace(0.0, limit, BINS + 1)
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(reading.rule),
            "from": edges[:-1],
            "to": edges[1:],
            "samples": counts,
            "share": counts / reading.profile.samples,
        }
    )


def _regions(pairs: Sequence[tuple[RuleReading, Slot]], limit: float) -> pd.DataFrame:
    """The two shaded bands, and the share of each rule in them as lines of text."""
    rows = []
    for line, (reading, slot) in enumerate(pairs):
        profile = reading.profile
        low, high = profile.over_sharp_below * limit, profile.over_smoothed_above * limit
        for region, start, end, share in (
            ("over-sharp", 0.0, low, profile.over_sharp),
            ("over-smoothed", high, limit, profile.over_smoothed),
        ):
            rows.append(
                {
                    "rule": slot.name,
                    "label": rule_label(reading.rule),
                    "line": line,
                    "from": start,
                    "to": end,
                    "region": region,
                    "text": percent(share),
                    "samples": round(share * profile.samples),
                }
            )
    return pd.DataFrame(rows)


@lru_cache(maxsize=64)
def _spec(taken: tuple[Slot, ...], limit: float, height: int, can_brush: bool) -> dict[str, Any]:
    x = alt.X(
        "from:Q",
        title="entropy (nats)",
        scale=alt.Scale(domain=[0, limit], nice=False),
        axis=alt.Axis(tickCount=8, grid=False),
    )
    legend = rules_legend() if len(taken) > 1 else None  # the title names a single rule
    colour = alt.Color("rule:N", scale=rule_scale(taken), legend=legend)
    bands = (
        alt.Chart(named("regions"))
        .transform_filter("datum.line === 0")
        .mark_rect(color=GREY, opacity=0.16)
        .encode(x=x, x2="to:Q", tooltip=["region:N"])
    )
    counted_from_0 = {
        "x": x,
        "x2": "to:Q",
        "y": alt.Y("samples:Q", title="samples", axis=alt.Axis(format=",d", tickCount=5)),
        "y2": alt.datum(0),
        "color": colour,
        "tooltip": [
            alt.Tooltip("label:N", title="rule"),
            alt.Tooltip("from:Q", title="entropy from (nats)", format=".3f"),
            alt.Tooltip("to:Q", title="to (nats)", format=".3f"),
            alt.Tooltip("samples:Q", format=","),
            alt.Tooltip("share:Q", title="share of samples", format=".1%"),
        ],
    }
    bars = alt.Chart(named("bins")).mark_rect(opacity=0.55).encode(**counted_from_0)
    if can_brush:
        bars = bars.add_params(brush("x"))
    chosen = alt.Chart(named("selected")).mark_rect(opacity=0.9, stroke=SELECTED).encode(**counted_from_0)
    means = (
        alt.Chart(named("means"))
        .mark_rule(strokeWidth=2, strokeDash=[5, 3])
        .encode(
            x="mean:Q",
            # From under the words, which a mean near an end of the axis would cross.
            y=alt.value(_FIRST_LINE + _LINE * len(taken) - 4),
            y2=alt.value("height"),
            color=colour,
            tooltip=[
                alt.Tooltip("label:N", title="rule"),
                alt.Tooltip("mean:Q", title="mean entropy (nats)", format=".3f"),
                alt.Tooltip("spread:Q", title="spread (nats)", format=".3f"),
            ],
        )
    )
    # The shares stand at the inner top of their band, one line a rule, in the rule's colour.
    share = (
        alt.Chart(named("regions"))
        .transform_calculate(row=f"{_FIRST_LINE} + {_LINE} * datum.line")
        .encode(
            y=alt.Y("row:Q", scale=None, axis=None),
            color=colour,
            tooltip=[
                alt.Tooltip("label:N", title="rule"),
                alt.Tooltip("region:N"),
                alt.Tooltip("samples:Q", format=","),
                alt.Tooltip("text:N", title="share"),
            ],
        )
    )
    sharp = share.transform_filter("datum.region === 'over-sharp'").encode(x="to:Q")
    smoothed = share.transform_filter("datum.region === 'over-smoothed'").encode(x="from:Q")
    words = [
        sharp.mark_text(align="left", dx=6, text=_SHARE, fontSize=12, fontWeight=600),
        smoothed.mark_text(align="right", dx=-6, text=_SHARE, fontSize=12, fontWeight=600),
    ]
    normalised = (
        alt.Chart(named("means"))
        .mark_point(opacity=0)
        .encode(
            x=alt.X(
                "unit:Q",
                scale=alt.Scale(domain=[0, 1], nice=False),
                axis=alt.Axis(
                    title="normalised entropy (H / ln C)", orient="top", grid=False, format=".1f", tickCount=5
                ),
            )
        )
        .transform_calculate(unit="0")
    )
    headroom = alt.Chart(named("means")).mark_point(opacity=0).encode(y="headroom:Q")
    counted = alt.layer(bands, bars, chosen, headroom, means)
    chart = alt.layer(alt.layer(counted, *words).resolve_scale(y="independent"), normalised).resolve_scale(
        x="independent"
    )
    return dict(chart.properties(width="container", height=height).to_dict())
