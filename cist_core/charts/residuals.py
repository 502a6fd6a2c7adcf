"""Why samples lie far from the equal-others curve: the gap against the entropy, and the reasons counted."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cist_core.charts.cloud import COLUMNS, MOST_POINTS, ROWS, cells, cloud_layer, envelope_layer, points
from cist_core.charts.figure import BLUE, GREY, SELECTED, Figure, Mask, Slot, brush, named
from cist_core.compare.findings import NO_SPREAD
from cist_core.entropy.envelope import entropy_envelope
from cist_core.entropy.theory import second_class_entropy
from cist_core.kernels import grid_counts
from cist_core.samples.residuals import REASONS, SECOND_MODE, TIE, TIE_GAP, UNEVEN_OTHERS, Residuals
from cist_core.temperature import Cist
from cist_core.wording import percent, three_digits

_WHY = {
    TIE: "of a tie",
    SECOND_MODE: "of a second mode",
    UNEVEN_OTHERS: "their other classes are uneven",
}
_MEANING = {
    TIE: f"The scaled gap is below ln 2 = {TIE_GAP:.3f}: the second class has over half the probability of the first",
    SECOND_MODE: "The second class, alone at its gap, explains at least half of the distance",
    UNEVEN_OTHERS: "Differences between the further classes explain more than the second class does",
}
_AS_LIST = {TIE: ("tie", "ties"), SECOND_MODE: ("second mode", "second modes"), UNEVEN_OTHERS: ("uneven others",) * 2}
_SIDES = ("above the curve", "below the curve")
_CIST = Slot("CIST", BLUE)


def gap_figure(residuals: Residuals, rule: Cist, *, selected: Mask | None = None, height: int = 300) -> Figure:
    """Scaled gap against entropy at the one ratio of CIST, with what the gap alone predicts.

    Args:
        residuals: under the rule.
        rule: CIST.
        selected: the samples to draw once more in front, ``(N,)``.
        height: in pixels.
    """
    classes = residuals.num_classes
    limit, reach = math.log(classes), rule.rho * classes / (classes - 1)
    binned = len(residuals.gap) > MOST_POINTS
    gaps = np.linspace(0.0, reach, 100)
    low, high = entropy_envelope(rule.rho, classes, gaps * (1 - 1e-9))
    chosen = np.zeros(len(residuals.gap), bool) if selected is None else selected
    title = spread_sentence(residuals)
    floored = int(np.count_nonzero(residuals.at_floor))
    below = (
        f"{floored:,} ({percent(floored / len(residuals.gap))}) are at the floor of {rule.floor:.4g} and have a "
        "smaller ratio, so that line and band are not theirs"
    )
    return Figure(
        title=title,
        caption=(
            f"{len(residuals.gap):,} samples under CIST. Line: the entropy at ρ = {rule.rho:.4g} if all classes after "
            "the second were equal; it ends where the second is one of them. Grey band: every entropy that a gap of at "
            f"least this allows there.{f' {below}.' if floored else ''}"
        ),
        alt=f"{title}. Horizontal: gap between the two largest logits over the temperature; vertical: entropy in nats"
        + (f". {below}" if floored else ""),
        spec=_gap_spec(limit, binned, height),
        brush={"entropy": "entropy_cist"},
        datasets={
            "envelope": pd.DataFrame({"gap": gaps, "entropy": low, "entropy_to": high}),
            "cloud": _cloud(residuals, rule, np.ones(len(chosen), bool), reach, limit, binned),
            "selected": _cloud(residuals, rule, chosen, reach, limit, binned),
            "curve": pd.DataFrame({"gap": gaps, "entropy": second_class_entropy(rule.rho, gaps, classes)}),
        },
    )


def spread_sentence(residuals: Residuals) -> str:
    """The spread that the gaps predict, the one measured, and how much of its variance the gap explains."""
    spread = residuals.spread
    if spread.explained is None or spread.measured < NO_SPREAD:
        return "Under CIST every sample has the same entropy: there is nothing to explain"
    measured, explained = f"{three_digits(spread.measured)} nats", percent(spread.explained)
    known = "gap and ratio" if residuals.at_floor.any() else "the gap"
    if spread.predicted < NO_SPREAD:
        return (
            f"From {known} alone every sample would have the same entropy under CIST; the spread is {measured}, and "
            f"the gap explains {explained} of the variance"
        )
    return (
        f"From {known} alone the spread under CIST would be {three_digits(spread.predicted)} nats; it is "
        f"{three_digits(spread.measured)}, and the gap explains {explained} of its variance"
    )


def _cloud(residuals: Residuals, rule: Cist, chosen: Mask, reach: float, limit: float, binned: bool) -> pd.DataFrame:
    if binned:
        counts = grid_counts(residuals.gap, residuals.entropy, chosen, ends=(reach, limit), cells=(COLUMNS, ROWS))
        return cells("gap", counts, reach, limit, rule, _CIST)
    return points("gap", residuals.gap, residuals.entropy, reach, rule, _CIST)[chosen].reset_index(drop=True)


@lru_cache(maxsize=16)
def _gap_spec(limit: float, binned: bool, height: int) -> dict[str, Any]:
    x = alt.X(
        "gap:Q",
        title="gap g = (largest − second logit) / τᵢ",
        scale=alt.Scale(nice=False, zero=True),
        axis=alt.Axis(tickCount=8, grid=False),
    )
    y = alt.Y(
        "entropy:Q",
        title="entropy under CIST (nats)",
        scale=alt.Scale(domain=[0, limit], nice=False),
        axis=alt.Axis(tickCount=6, grid=False),
    )
    gap = alt.Tooltip("gap:Q", format=".2f")
    band = envelope_layer("gap", x, y)
    samples_of = partial(cloud_layer, field="gap", title="gap", binned=binned)
    cloud = samples_of("cloud", x, y, alt.value(BLUE)).add_params(brush("y"))
    chosen = samples_of("selected", x, y, alt.value(SELECTED), front=True)
    curve = (
        alt.Chart(named("curve"))
        .mark_line(color=GREY, strokeWidth=2)
        .encode(x=x, y=y, tooltip=[gap, alt.Tooltip("entropy:Q", title="entropy, further classes equal", format=".3f")])
    )
    return dict(alt.layer(band, cloud, curve, chosen).properties(width="container", height=height).to_dict())


def reasons_figure(residuals: Residuals, *, height: int = 190) -> Figure:
    """How many samples are far from the curve, by reason and by side."""
    far, above = residuals.far, residuals.residual > 0
    rows = [
        {
            "reason": reason,
            "meaning": _MEANING[reason],
            "side": side,
            "order": order,
            "samples": int(np.count_nonzero(far & on_side & (residuals.reason == reason))),
        }
        for reason in REASONS
        for order, (side, on_side) in enumerate(zip(_SIDES, (above, ~above), strict=True))
    ]
    title = reasons_sentence(residuals)
    return Figure(
        title=title,
        caption=f"Far is more than {three_digits(residuals.far_from)} nats, 5 % of ln C. "
        "Tie: the second class has over half the probability of the first. Second mode: it has less, and explains at "
        "least half of the distance. Uneven others: the rest.",
        alt=title,
        spec=_reasons_spec(height),
        datasets={"reasons": pd.DataFrame(rows)},
    )


def reasons_sentence(residuals: Residuals) -> str:
    """How many samples lie far from the equal-others curve, and the commonest reason."""
    total, far = len(residuals.far), int(residuals.far.sum())
    distance = f"more than {three_digits(residuals.far_from)} nats from the equal-others curve"
    if far == 0:
        return f"No sample lies {distance}"
    names, counts = np.unique(residuals.reason[residuals.far], return_counts=True)
    most = int(counts.argmax())
    lie = "lies" if far == 1 else "lie"
    return (
        f"{far:,} of {total:,} samples {lie} {distance}, {percent(counts[most] / far)} of them because "
        f"{_WHY[str(names[most])]}"
    )


def furthest_sentence(residuals: Residuals, count: int) -> str:
    """Why the samples that are furthest from the curve are there; one that is not far needs no reason."""
    rows = residuals.furthest(count)
    names = residuals.reason[rows][residuals.far[rows]]
    one = len(rows) == 1
    start = f"The {'sample' if one else f'{len(rows)} samples'} furthest from the curve"
    near = f"within {three_digits(residuals.far_from)} nats of it"
    if not len(names):
        return f"{start} {'lies' if one else 'lie'} {near}"
    if one:
        return f"{start}; reason: {_AS_LIST[names[0]][0]}"
    counts = [(int(np.count_nonzero(names == reason)), _AS_LIST[reason]) for reason in REASONS]
    counts.append((len(rows) - len(names), (near, near)))
    reasons = ", ".join(f"{number} {words[number > 1]}" for number, words in counts if number)
    return f"{start}; reasons: {reasons}"


@lru_cache(maxsize=4)
def _reasons_spec(height: int) -> dict[str, Any]:
    chart = (
        alt.Chart(named("reasons"))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("samples:Q", title="samples far from the curve", axis=alt.Axis(format=",d", tickCount=5)),
            y=alt.Y("reason:N", title=None, sort=None),
            opacity=alt.Opacity(
                "side:O",
                scale=alt.Scale(domain=list(_SIDES), range=[1, 0.45]),
                legend=alt.Legend(
                    title=None, orient="top", symbolType="square", symbolFillColor=BLUE, symbolStrokeWidth=0
                ),
            ),
            order="order:Q",
            tooltip=[
                alt.Tooltip("reason:N"),
                alt.Tooltip("side:N"),
                alt.Tooltip("samples:Q", format=","),
                alt.Tooltip("meaning:N"),
            ],
        )
    )
    return dict(chart.properties(width="container", height=height).to_dict())
