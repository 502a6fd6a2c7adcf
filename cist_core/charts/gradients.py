"""What the weights do: the share of the gradient that the samples with the largest one carry."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cist_core.charts.figure import GREY, SELECTED, Figure, Mask, Slot, named, rule_scale, rules_legend, slots
from cist_core.compare.findings import rule_label
from cist_core.samples.gradients import GradientNorms
from cist_core.temperature import TemperatureRule
from cist_core.temperature.weights import concentration
from cist_core.wording import percent

TOP = 0.1
"""The part of the samples that the title speaks of."""

Pairs = tuple[tuple[TemperatureRule, GradientNorms], ...]


def gradient_figure(
    fixed: tuple[TemperatureRule, GradientNorms],
    cist: tuple[TemperatureRule, GradientNorms],
    *,
    selected: Mask | None = None,
    height: int = 320,
) -> Figure:
    """What share of the gradient the samples with the largest one carry, under knowledge distillation and CIST.

    Args:
        fixed: the temperature and the gradients under it.
        cist: the rule and the gradients under it.
        selected: the samples whose share is marked, ``(N,)``.
        height: in pixels.
    """
    pairs = (fixed, cist)
    samples = len(fixed[1].norm)
    taken = slots([rule for rule, _ in pairs])
    held = [norms.held_by(TOP) for _, norms in pairs]
    title = (
        f"The {TOP * 100:.0f} % of samples with the largest gradient carry {percent(held[0])} of it under "
        f"{rule_label(fixed[0])}, {percent(held[1])} under CIST"
    )
    chosen = np.zeros(samples, bool) if selected is None else selected
    marks = _marks(pairs, taken, chosen)
    return Figure(
        title=title,
        caption=(
            "Size of each sample's gradient: the Euclidean norm of the loss's derivative by the student's logits. Each "
            "rule sorts the samples by its own. Dashed: equal gradient for every sample." + _marked(marks, chosen)
        ),
        alt=title,
        spec=_gradient_spec(taken, height),
        datasets={
            "curves": pd.concat(
                [_curve(rule, norms, slot) for (rule, norms), slot in zip(pairs, taken, strict=True)],
                ignore_index=True,
            ),
            "selected": marks,
            "equal": pd.DataFrame({"part": [0.0, 1.0], "share": [0.0, 1.0]}),
        },
    )


def _curve(rule: TemperatureRule, norms: GradientNorms, slot: Slot) -> pd.DataFrame:
    part = np.linspace(0.0, 1.0, 201)
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(rule),
            "part": part,
            "share": np.interp(part, *concentration(norms.norm)),
        }
    )


def _marks(pairs: Pairs, taken: tuple[Slot, ...], chosen: Mask) -> pd.DataFrame:
    """How much of the gradient the selected samples carry; no rows without any."""
    table = pd.DataFrame(
        {
            "rule": [slot.name for slot in taken],
            "label": [rule_label(rule) for rule, _ in pairs],
            "part": float(np.mean(chosen)),
            "share": [min(float(norms.share[chosen].sum()), 1.0) for _, norms in pairs],
        }
    )
    return table if chosen.any() else table.iloc[:0]


def _marked(marks: pd.DataFrame, chosen: Mask) -> str:
    if marks.empty:
        return ""
    shares = " and ".join(
        f"{percent(share)} under {label}" for share, label in zip(marks["share"], marks["label"], strict=True)
    )
    return f" Dots: the {np.count_nonzero(chosen):,} selected samples carry {shares}."


@lru_cache(maxsize=16)
def _gradient_spec(taken: tuple[Slot, ...], height: int) -> dict[str, Any]:
    scale = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X(
        "part:Q",
        title="samples, largest gradient first (share of all)",
        scale=scale,
        axis=alt.Axis(format=".0%", tickCount=6, grid=False),
    )
    y = alt.Y("share:Q", title="share of the gradient norm", scale=scale, axis=alt.Axis(format=".0%", tickCount=5))
    colour = alt.Color("rule:N", scale=rule_scale(taken), legend=rules_legend())
    tooltip = [
        alt.Tooltip("label:N", title="rule"),
        alt.Tooltip("part:Q", title="share of samples", format=".1%"),
        alt.Tooltip("share:Q", title="share of the gradient norm", format=".1%"),
    ]
    equal = alt.Chart(named("equal")).mark_line(color=GREY, strokeDash=[5, 3]).encode(x=x, y=y)
    curves = alt.Chart(named("curves")).mark_line(strokeWidth=2.5).encode(x=x, y=y, color=colour, tooltip=tooltip)
    marks = (
        alt.Chart(named("selected"))
        .mark_circle(size=110, opacity=1, stroke=SELECTED, strokeWidth=3)
        .encode(x=x, y=y, color=colour, tooltip=tooltip)
    )
    return dict(alt.layer(equal, curves, marks).properties(width="container", height=height).to_dict())
