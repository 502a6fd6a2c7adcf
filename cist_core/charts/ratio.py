"""The ratio against the entropy: why a fixed temperature spreads, and what holding the ratio leaves."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cist_core.charts.figure import AMBER, GREY, Figure, Slot, named, rule_scale, rules_legend, slots
from cist_core.findings import ratio_story, rule_label, three_digits
from cist_core.profile import entropy_histogram
from cist_core.readings import RuleReading
from cist_core.temperature import Cist
from cist_core.theory import equal_others_entropy

MOST_POINTS = 2_000
"""Up to this many samples are drawn one by one; more are binned here, not in the browser."""

_RATIO_BINS, _ENTROPY_BINS = 72, 48
_CURVE_POINTS = 200


def ratio_figure(fixed: RuleReading, held: RuleReading, *, height: int = 420) -> Figure:
    """Ratio against entropy under two rules.

    Args:
        fixed: drawn as points, or as a density above `MOST_POINTS` samples.
        held: drawn the same way; CIST, whose samples share one ratio, as a violin at ``rho``.
        height: in pixels.
    """
    profile = fixed.profile
    limit = math.log(profile.classes)
    # The few largest ratios would stretch the axis over nothing; they are drawn at its end and counted in the caption.
    reach = max(float(np.quantile(fixed.ratios, 0.998)), float(np.quantile(held.ratios, 0.998))) * 1.06
    beyond = int(np.count_nonzero(fixed.ratios > reach) + np.count_nonzero(held.ratios > reach))
    binned = profile.samples > MOST_POINTS
    rule = held.rule
    violin = isinstance(rule, Cist)
    taken = slots([fixed.rule, held.rule])
    scattered = list(zip([fixed] if violin else [fixed, held], taken, strict=False))
    curve = np.linspace(0.0, reach, _CURVE_POINTS)
    title = ratio_story(fixed, held)
    caption = (
        f"{profile.samples:,} samples"
        + (", a stronger colour is more of them" if binned else "")
        + (f"; {beyond:,} of them beyond the axis, drawn at its end" if beyond else "")
        + (f". The blue shape at ρ = {rule.rho:.4g}: the samples under CIST" if isinstance(rule, Cist) else "")
        + ". Grey line: the entropy if all other classes were equal."
    )
    cloud = [
        _density(reading, slot, reach, limit) if binned else _points(reading, slot, reach)
        for reading, slot in scattered
    ]
    shape = _violin(held, taken[1], reach, limit)
    return Figure(
        title=title,
        caption=caption,
        alt=f"{title}. Horizontal: ratio of the maximum centred logit to the temperature; vertical: entropy in nats",
        spec=_spec(taken, limit, binned, height),
        datasets={
            "cloud": pd.concat(cloud, ignore_index=True),
            "violin": shape if violin else shape.iloc[:0],
            "curve": pd.DataFrame({"ratio": curve, "entropy": equal_others_entropy(curve, profile.classes)}),
        },
    )


def _points(reading: RuleReading, slot: Slot, reach: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(reading.rule),
            "sample": np.arange(len(reading.entropy)),
            "ratio": np.minimum(reading.ratios, reach).astype(float),
            "entropy": reading.entropy.astype(float),
            "tau": reading.temperatures,
        }
    )


def _density(reading: RuleReading, slot: Slot, reach: float, limit: float) -> pd.DataFrame:
    """Counts on a grid; only cells that hold a sample."""
    column = np.clip((reading.ratios * (_RATIO_BINS / reach)).astype(np.int64), 0, _RATIO_BINS - 1)
    row = np.clip((reading.entropy * (_ENTROPY_BINS / limit)).astype(np.int64), 0, _ENTROPY_BINS - 1)
    counts = np.bincount(column * _ENTROPY_BINS + row, minlength=_RATIO_BINS * _ENTROPY_BINS)
    cells = np.flatnonzero(counts)
    left, low = (cells // _ENTROPY_BINS) * (reach / _RATIO_BINS), (cells % _ENTROPY_BINS) * (limit / _ENTROPY_BINS)
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(reading.rule),
            "ratio": left,
            "ratio_to": left + reach / _RATIO_BINS,
            "entropy": low,
            "entropy_to": low + limit / _ENTROPY_BINS,
            "samples": counts[cells],
            # The eye reads area; the square root keeps thin regions visible beside a peak.
            "weight": np.sqrt(counts[cells] / counts.max()),
        }
    )


def _violin(reading: RuleReading, slot: Slot, reach: float, limit: float) -> pd.DataFrame:
    """Horizontal bars around the common ratio, as long as their share of the samples."""
    bins = 2 * _ENTROPY_BINS
    counts = entropy_histogram(reading.entropy, reading.profile.classes, bins)
    filled = np.flatnonzero(counts)
    half = 0.06 * reach * counts[filled] / counts.max()
    centre = float(np.median(reading.ratios))
    low = filled * (limit / bins)
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(reading.rule),
            "ratio": centre - half,
            "ratio_to": centre + half,
            "entropy": low,
            "entropy_to": low + limit / bins,
            "samples": counts[filled],
        }
    )


@lru_cache(maxsize=64)
def _spec(taken: tuple[Slot, ...], limit: float, binned: bool, height: int) -> dict[str, Any]:
    x = alt.X(
        "ratio:Q",
        title="ratio r = m / τ (maximum centred logit over temperature)",
        scale=alt.Scale(nice=False, zero=True),
        axis=alt.Axis(tickCount=8),
    )
    y = alt.Y(
        "entropy:Q", title="entropy (nats)", scale=alt.Scale(domain=[0, limit], nice=False), axis=alt.Axis(tickCount=6)
    )
    colour = alt.Color("rule:N", scale=rule_scale(taken), legend=rules_legend())
    ranges = [
        alt.Tooltip("label:N", title="rule"),
        alt.Tooltip("entropy:Q", title="entropy from (nats)", format=".3f"),
        alt.Tooltip("entropy_to:Q", title="to (nats)", format=".3f"),
        alt.Tooltip("samples:Q", format=","),
    ]
    if binned:
        cloud = (
            alt.Chart(named("cloud"))
            .mark_rect()
            .encode(
                x=x,
                x2="ratio_to:Q",
                y=y,
                y2="entropy_to:Q",
                color=colour,
                opacity=alt.Opacity("weight:Q", scale=alt.Scale(domain=[0, 1], range=[0.12, 1]), legend=None),
                tooltip=[*ranges, alt.Tooltip("ratio:Q", title="ratio from", format=".2f")],
            )
        )
    else:
        cloud = (
            alt.Chart(named("cloud"))
            .mark_circle(size=18, opacity=0.45)
            .encode(
                x=x,
                y=y,
                color=colour,
                tooltip=[
                    alt.Tooltip("label:N", title="rule"),
                    alt.Tooltip("sample:Q", format=","),
                    alt.Tooltip("ratio:Q", format=".2f"),
                    alt.Tooltip("entropy:Q", title="entropy (nats)", format=".3f"),
                    alt.Tooltip("tau:Q", title="temperature", format=".3f"),
                ],
            )
        )
    violin = (
        alt.Chart(named("violin"))
        .mark_rect(opacity=0.8)
        .encode(x=x, x2="ratio_to:Q", y=y, y2="entropy_to:Q", color=colour, tooltip=ranges)
    )
    curve = (
        alt.Chart(named("curve"))
        .mark_line(color=GREY, strokeWidth=2)
        .encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("ratio:Q", format=".2f"),
                alt.Tooltip("entropy:Q", title="entropy, all others equal (nats)", format=".3f"),
            ],
        )
    )
    return dict(alt.layer(cloud, violin, curve).properties(width="container", height=height).to_dict())


def variance_figure(fixed: RuleReading, held: RuleReading, *, height: int = 190) -> Figure:
    """The variance of the entropy under each rule, cut into what the ratio explains and what it does not."""
    taken = slots([fixed.rule, held.rule])
    rows = [_variance_rows(reading, slot) for reading, slot in zip((fixed, held), taken, strict=True)]
    a, b = fixed.association, held.association
    title = (
        f"The variance of the entropy is {three_digits(a.variance)} nats² under {rule_label(fixed.rule)} and "
        f"{three_digits(b.variance)} under {rule_label(held.rule)}"
    )
    return Figure(
        title=title,
        caption="Var(H) = Var(E[H | r]) + E[Var(H | r)]: what the ratio explains, and what is left at equal ratios.",
        alt=title,
        spec=_variance_spec(taken, height),
        datasets={"variance": pd.concat(rows, ignore_index=True)},
    )


def _variance_rows(reading: RuleReading, slot: Slot) -> pd.DataFrame:
    association = reading.association
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(reading.rule),
            "part": ["explained by the ratio", "left at equal ratios"],
            "variance": [association.between, association.within],
            "order": [0, 1],
        }
    )


@lru_cache(maxsize=16)
def _variance_spec(taken: tuple[Slot, ...], height: int) -> dict[str, Any]:
    chart = (
        alt.Chart(named("variance"))
        .mark_bar()
        .encode(
            x=alt.X("variance:Q", title="variance of the entropy (nats²)", axis=alt.Axis(tickCount=5)),
            y=alt.Y("rule:N", title=None, sort=None),
            color=alt.Color("rule:N", scale=rule_scale(taken), legend=None),
            opacity=alt.Opacity(
                "part:O",
                sort=None,
                scale=alt.Scale(domain=["explained by the ratio", "left at equal ratios"], range=[1, 0.45]),
                legend=alt.Legend(
                    title=None, orient="top", symbolType="square", symbolFillColor=AMBER, symbolStrokeWidth=0
                ),
            ),
            order="order:Q",
            tooltip=[
                alt.Tooltip("label:N", title="rule"),
                alt.Tooltip("part:N"),
                alt.Tooltip("variance:Q", title="variance (nats²)", format=".4f"),
            ],
        )
    )
    return dict(chart.properties(width="container", height=height).to_dict())
