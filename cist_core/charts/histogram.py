"""Entropy histograms with the over-sharp and over-smoothed regions shaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cist_core.charts.figure import GREY, Figure, named, rule_name, rule_scale, rules_legend
from cist_core.findings import comparison, extremes, percent, rule_label, three_digits
from cist_core.profile import EntropyProfile, entropy_histogram
from cist_core.readings import RuleReading

BINS = 60


def histogram_figure(readings: Sequence[RuleReading], *, height: int = 400) -> Figure:
    """Histograms of several rules over one another; the first two are the pair that the title compares."""
    first = readings[0].profile
    limit = math.log(first.classes)
    bins = pd.concat([_bins(reading, limit) for reading in readings], ignore_index=True)
    title = comparison(readings[0], readings[1]) if len(readings) > 1 else extremes(readings[0])
    return Figure(
        title=title,
        caption=(
            f"{first.samples:,} samples in {BINS} bins; vertical lines are the means. Shaded: over-sharp, below "
            f"{percent(first.over_sharp_below)} of ln C, and over-smoothed, above {percent(first.over_smoothed_above)}."
        ),
        alt=title
        + ". "
        + "; ".join(
            f"{rule_label(reading.rule)}: mean {three_digits(reading.profile.mean)}, spread "
            f"{three_digits(reading.profile.std)} nats"
            for reading in readings
        ),
        spec=_spec(tuple(reading.rule.name for reading in readings), limit, height),
        datasets={
            "bins": bins,
            "means": pd.DataFrame(
                {
                    "rule": [rule_name(reading.rule) for reading in readings],
                    "label": [rule_label(reading.rule) for reading in readings],
                    "mean": [reading.profile.mean for reading in readings],
                    "spread": [reading.profile.std for reading in readings],
                    # The words need room above the highest bar.
                    "headroom": bins["samples"].max() * (1 + 0.1 * len(readings)),
                }
            ),
            "regions": _regions([reading.profile for reading in readings], readings, limit),
        },
    )


def _bins(reading: RuleReading, limit: float) -> pd.DataFrame:
    counts = entropy_histogram(reading.entropy, reading.profile.classes, BINS)
    edges = np.linspace(0.0, limit, BINS + 1)
    return pd.DataFrame(
        {
            "rule": rule_name(reading.rule),
            "label": rule_label(reading.rule),
            "from": edges[:-1],
            "to": edges[1:],
            "samples": counts,
            "share": counts / counts.sum(),
        }
    )


def _regions(profiles: list[EntropyProfile], readings: Sequence[RuleReading], limit: float) -> pd.DataFrame:
    """The two shaded bands, and the share of each rule in them as lines of text."""
    low, high = profiles[0].over_sharp_below * limit, profiles[0].over_smoothed_above * limit
    rows = []
    for line, (reading, profile) in enumerate(zip(readings, profiles, strict=True)):
        common = {"rule": rule_name(reading.rule), "label": rule_label(reading.rule), "line": line}
        rows.append(
            {**common, "from": 0.0, "to": low, "region": "over-sharp", "text": percent(profile.over_sharp),
             "samples": round(profile.over_sharp * profile.samples)}
        )  # fmt: skip
        rows.append(
            {**common, "from": high, "to": limit, "region": "over-smoothed", "text": percent(profile.over_smoothed),
             "samples": round(profile.over_smoothed * profile.samples)}
        )  # fmt: skip
    return pd.DataFrame(rows)


@lru_cache(maxsize=64)
def _spec(rules: tuple[str, ...], limit: float, height: int) -> dict[str, Any]:
    x = alt.X(
        "from:Q",
        title="entropy (nats)",
        scale=alt.Scale(domain=[0, limit], nice=False),
        axis=alt.Axis(tickCount=8, grid=False),
    )
    colour = alt.Color("rule:N", scale=rule_scale(rules), legend=rules_legend())
    bands = (
        alt.Chart(named("regions"))
        .transform_filter("datum.line === 0")
        .mark_rect(color=GREY, opacity=0.16)
        .encode(x=x, x2="to:Q", tooltip=["region:N"])
    )
    bars = (
        alt.Chart(named("bins"))
        .mark_rect(opacity=0.55)
        .encode(
            x=x,
            x2="to:Q",
            y=alt.Y("samples:Q", title="samples", axis=alt.Axis(format=",d", tickCount=5)),
            y2=alt.datum(0),
            color=colour,
            tooltip=[
                alt.Tooltip("label:N", title="rule"),
                alt.Tooltip("from:Q", title="entropy from (nats)", format=".3f"),
                alt.Tooltip("to:Q", title="to (nats)", format=".3f"),
                alt.Tooltip("samples:Q", format=","),
                alt.Tooltip("share:Q", title="share of samples", format=".1%"),
            ],
        )
    )
    means = (
        alt.Chart(named("means"))
        .mark_rule(strokeWidth=2, strokeDash=[5, 3])
        .encode(
            x="mean:Q",
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
        .transform_calculate(words="datum.text + ' ' + datum.region", row="12 + 16 * datum.line")
        .encode(
            y=alt.Y("row:Q", scale=None, axis=None),
            text="words:N",
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
        sharp.mark_text(align="left", dx=6, fontSize=12, fontWeight=600),
        smoothed.mark_text(align="right", dx=-6, fontSize=12, fontWeight=600),
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
    counted = alt.layer(bands, bars, headroom, means)
    chart = alt.layer(alt.layer(counted, *words).resolve_scale(y="independent"), normalised).resolve_scale(
        x="independent"
    )
    return dict(chart.properties(width="container", height=height).to_dict())
