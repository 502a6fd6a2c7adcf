"""The ratio against the entropy: why a fixed temperature spreads, and what holding the ratio leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.cloud import COLUMNS, MOST_POINTS, ROWS, cells, cloud_layer, envelope_layer, points
from cist_core.charts.figure import (
    AMBER,
    GREY,
    SELECTED,
    Figure,
    Mask,
    Slot,
    brush,
    named,
    rule_scale,
    rules_legend,
    slots,
)
from cist_core.compare.findings import NOTHING_SELECTED, ratio_sentence, rule_label, rule_name
from cist_core.entropy.envelope import entropy_envelope
from cist_core.entropy.theory import equal_others_entropy
from cist_core.kernels import grid_counts
from cist_core.samples.residuals import Residuals
from cist_core.temperature import Cist
from cist_core.temperature.profile import EntropyProfile, quantiles_of_sorted
from cist_core.temperature.readings import RuleReading
from cist_core.wording import percent, three_digits

_CURVE_POINTS = 200
# The marginal histograms stand beyond the ends of both axes, in this part of the range.
_MARGIN_FROM, _MARGIN_TO = 1.03, 1.15


def ratio_figure(
    fixed: RuleReading,
    held: RuleReading,
    *,
    selected: Mask | None = None,
    gap: float = 0.0,
    height: int = 460,
) -> Figure:
    """Ratio against entropy under two rules, inside the envelope of what the ratio allows.

    Args:
        fixed: drawn as points, or as a density above `MOST_POINTS` samples.
        held: drawn the same way; CIST, whose samples share one ratio, as a violin at ``rho``, and as points or a
            density those at its floor, whose ratio is ``m / floor``, below ``rho``.
        selected: the samples to draw once more in front, ``(N,)``.
        gap: the envelope is that of rows whose scaled gap is at least this.
        height: in pixels.
    """
    profile = fixed.profile
    limit = math.log(profile.classes)
    # The few largest ratios would stretch the axis over nothing; they are drawn at its end and counted in the caption.
    reach = 1.06 * max(map(_almost_all, (fixed, held))) or 1.0  # of constant rows none has a ratio
    beyond = int(np.count_nonzero(fixed.ratios > reach) + np.count_nonzero(held.ratios > reach))
    binned = profile.samples > MOST_POINTS
    rule = held.rule
    at_rho = ~held.at_floor if isinstance(rule, Cist) else np.zeros(profile.samples, bool)
    taken = slots([fixed.rule, held.rule])
    everyone = np.ones(profile.samples, bool)
    scattered = list(zip([fixed, held], taken, [everyone, ~at_rho], strict=True))
    curve = np.linspace(0.0, reach, _CURVE_POINTS)
    of_all = ratio_sentence(fixed, held)
    title = of_all if selected is None else _selected_sentence(fixed, held, selected)
    cist = _where_cist_stands(rule, held.profile) if isinstance(rule, Cist) else ""
    caption = (
        f"{profile.samples:,} samples"
        + (", a stronger colour is more of them" if binned else "")
        + (f"; {beyond:,} of them beyond the axis, drawn at its end" if beyond else "")
        + (f". {cist}" if cist else "")
        + ". Line: the entropy if all other classes were equal. Grey band: every entropy that this ratio allows"
        + (f" where the gap of the scaled logits is at least {gap:g}" if gap else "")
        + ". Beyond the axes: how many samples have each ratio and each entropy."
    )
    chosen = ~everyone if selected is None else selected
    every, front = (_count(scattered, held, at_rho, mask, reach, limit) for mask in (everyone, chosen))
    widest = max(every.at_rho.sum(axis=0).max(), 1)
    return Figure(
        title=title,
        caption=caption,
        # A chart whose alt text changes is drawn anew, and loses the brush that selects.
        alt=f"{of_all}. Horizontal: ratio of the maximum centred logit to the temperature; vertical: entropy in "
        f"nats{f'. {cist}' if cist else ''}",
        spec=_spec(taken, limit, binned, height),
        brush={"ratio": "ratio", "entropy": "entropy"},
        datasets={
            "envelope": _band(profile.classes, gap, reach),
            "cloud": _cloud(scattered, everyone, every, reach, limit, binned),
            "violin": _violin(every, widest, held, taken[1], reach, limit),
            "selected": _cloud(scattered, chosen, front, reach, limit, binned),
            "selected_violin": _violin(front, widest, held, taken[1], reach, limit),
            "curve": pd.DataFrame({"ratio": curve, "entropy": equal_others_entropy(curve, profile.classes)}),
            "margins": _margins([fixed, held], taken, every, reach, limit),
        },
    )


def _almost_all(reading: RuleReading, share: float = 0.998) -> float:
    """A ratio that this share of the samples do not exceed."""
    above = reading.ratios[reading.ratio_ranks > share * len(reading.ratios)]
    return float(above.min() if above.size else reading.ratios.max())


def _selected_sentence(fixed: RuleReading, held: RuleReading, selected: Mask) -> str:
    """Between which ratios the selected samples lie, and their entropies."""
    if not selected.any():
        return NOTHING_SELECTED
    ratios = fixed.ratios[selected]
    low, high, here, there = (
        three_digits(float(value))
        for value in (ratios.min(), ratios.max(), fixed.entropy[selected].mean(), held.entropy[selected].mean())
    )
    return (
        f"The {len(ratios):,} selected have ratios from {low} to {high} at {rule_label(fixed.rule)}, and a mean "
        f"entropy of {here} nats there and {there} under {rule_name(held.rule)}"
    )


def _where_cist_stands(rule: Cist, profile: EntropyProfile) -> str:
    """Which shape is CIST at rho, and which are its samples at the floor."""
    shape = f"The blue shape at ρ = {rule.rho:.4g}: the samples under CIST"
    if not profile.samples_at_floor:
        return shape
    floored = f"{profile.samples_at_floor:,} ({percent(profile.at_floor)}) at the floor of {rule.floor:.4g}"
    if profile.at_floor == 1:
        return f"Blue: all samples under CIST are at the floor of {rule.floor:.4g}, at the ratio m / {rule.floor:.4g}"
    return f"{shape}; blue to its left: the {floored}, at the ratio m / {rule.floor:.4g}"


def envelope_sentence(residuals: Residuals, rho: float, gap: float) -> str:
    """What a ratio of ``rho`` and a gap of at least ``gap`` allow, and what of it CIST uses above its floor."""
    low, high = entropy_envelope(rho, residuals.num_classes, gap)
    if np.isnan(low):
        largest = rho * residuals.num_classes / (residuals.num_classes - 1)
        return f"No row of ratio {rho:.4g} has a gap of {gap:g}: the largest is {three_digits(largest)}"
    room = f"{three_digits(float(low))} to {three_digits(float(high))} nats"
    at_rho = ~residuals.at_floor
    if not at_rho.any():
        return f"At ρ = {rho:.4g} the ratio allows any entropy from {room}; no sample is above the floor and has it"
    entropy, samples = residuals.entropy[at_rho], "the samples" if at_rho.all() else "the samples above the floor"
    if gap == 0:
        start, end = quantiles_of_sorted(np.sort(entropy), (0.05, 0.95))
        return (
            f"At ρ = {rho:.4g} the ratio alone allows any entropy from {room}; 90 % of {samples} lie between "
            f"{three_digits(start)} and {three_digits(end)}"
        )
    have = float(np.mean(residuals.gap[at_rho] >= gap))
    inside = float(np.mean((entropy >= low) & (entropy <= high)))
    return (
        f"At ρ = {rho:.4g} a gap of at least {gap:g} allows {room}; {percent(have)} of {samples} have such a gap, "
        f"{percent(inside)} such an entropy"
    )


class _Counts(NamedTuple):
    """How many samples lie in each cell of the chart.

    Attributes:
        scattered: of each rule those that its cloud shows, ``(COLUMNS, ROWS)``.
        at_rho: those that the violin shows, ``(COLUMNS, 2 * ROWS)``.
    """

    scattered: list[NDArray[np.int64]]
    at_rho: NDArray[np.int64]


_Scattered = Sequence[tuple[RuleReading, Slot, Mask]]


def _count(scattered: _Scattered, held: RuleReading, at_rho: Mask, chosen: Mask, reach: float, limit: float) -> _Counts:
    """Of the chosen samples."""

    def counts(reading: RuleReading, shown: Mask, rows: int) -> NDArray[np.int64]:
        return grid_counts(reading.ratios, reading.entropy, shown & chosen, ends=(reach, limit), cells=(COLUMNS, rows))

    return _Counts([counts(reading, drawn, ROWS) for reading, _, drawn in scattered], counts(held, at_rho, 2 * ROWS))


def _cloud(
    scattered: _Scattered, chosen: Mask, counts: _Counts, reach: float, limit: float, binned: bool
) -> pd.DataFrame:
    """The chosen of the samples of each reading that are drawn here."""
    tables = []
    for (reading, slot, drawn), of_cells in zip(scattered, counts.scattered, strict=True):
        if binned:
            tables.append(cells("ratio", of_cells, reach, limit, reading.rule, slot))
        else:
            table = points("ratio", reading.ratios, reading.entropy, reach, reading.rule, slot)
            tables.append(table[drawn & chosen])
    return pd.concat(tables, ignore_index=True)


def _violin(counts: _Counts, widest: int, reading: RuleReading, slot: Slot, reach: float, limit: float) -> pd.DataFrame:
    """Horizontal bars around the ratio of CIST, as long as their share of the widest."""
    of_rows = counts.at_rho.sum(axis=0)
    filled = np.flatnonzero(of_rows)
    half = 0.06 * reach * of_rows[filled] / widest
    centre = reading.rule.rho if isinstance(reading.rule, Cist) else 0.0
    bins = len(of_rows)
    low = filled * (limit / bins)
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(reading.rule),
            "ratio": centre - half,
            "ratio_to": centre + half,
            "entropy": low,
            "entropy_to": low + limit / bins,
            "samples": of_rows[filled],
        }
    )


def _band(classes: int, gap: float, reach: float) -> pd.DataFrame:
    """The envelope up to the end of the axis."""
    ratio, low, high = _envelope(classes, gap, math.ceil(reach))
    inside = int(np.searchsorted(ratio, reach)) + 1
    return pd.DataFrame(
        {"ratio": np.minimum(ratio[:inside], reach), "entropy": low[:inside], "entropy_to": high[:inside]}
    )


@lru_cache(maxsize=64)
def _envelope(classes: int, gap: float, end: int) -> tuple[Any, Any, Any]:
    """On whole ranges of the ratio, so that a slider that moves the end of the axis does not compute it anew."""
    first = gap * (classes - 1) / classes  # below it no row has this gap
    ratio = np.linspace(first, max(end, first), 120)
    return (ratio, *entropy_envelope(ratio, classes, gap * (1 - 1e-9)))


def _margins(
    readings: Sequence[RuleReading], taken: Sequence[Slot], every: _Counts, reach: float, limit: float
) -> pd.DataFrame:
    """Histograms of the ratios above the chart and of the entropies beside it, as bars in its own units."""
    fixed, held = every.scattered
    grids = fixed, held + every.at_rho.reshape(COLUMNS, ROWS, 2).sum(axis=2)
    tables = []
    for of, end, other_end, bins in (("ratio", reach, limit, COLUMNS), ("entropy", limit, reach, ROWS)):
        counts = [grid.sum(axis=1 if of == "ratio" else 0) for grid in grids]
        # CIST has all samples at one ratio, beside which no other bar could be seen.
        tallest = [count.max() if of == "ratio" else max(map(np.max, counts)) for count in counts]
        edges = np.linspace(0.0, end, bins + 1)
        other = "entropy" if of == "ratio" else "ratio"
        for reading, slot, count, most in zip(readings, taken, counts, tallest, strict=True):
            filled = np.flatnonzero(count)
            length = (_MARGIN_TO - _MARGIN_FROM) * other_end * count[filled] / most
            tables.append(
                pd.DataFrame(
                    {
                        "rule": slot.name,
                        "label": rule_label(reading.rule),
                        "of": of,
                        of: edges[filled],
                        f"{of}_to": edges[filled + 1],
                        other: _MARGIN_FROM * other_end,
                        f"{other}_to": _MARGIN_FROM * other_end + length,
                        "samples": count[filled],
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


@lru_cache(maxsize=64)
def _spec(taken: tuple[Slot, ...], limit: float, binned: bool, height: int) -> dict[str, Any]:
    def axis(channel: str, ticks: int) -> alt.Axis:
        """Without numbers where the marginal histogram stands."""
        words = f"datum.value > domain('{channel}')[1] / {_MARGIN_TO} ? '' : datum.label"
        return alt.Axis(tickCount=ticks, grid=False, ticks=False, labelPadding=5, labelExpr=words)

    x = alt.X(
        "ratio:Q",
        title="ratio r = m / τ",
        scale=alt.Scale(nice=False, zero=True),
        axis=axis("x", 8),
    )
    y = alt.Y(
        "entropy:Q",
        title="entropy (nats)",
        scale=alt.Scale(domain=[0, limit * _MARGIN_TO], nice=False),
        axis=axis("y", 7),
    )
    colour = alt.Color("rule:N", scale=rule_scale(taken), legend=rules_legend())
    bar = {"x": x, "x2": "ratio_to:Q", "y": y, "y2": "entropy_to:Q"}
    label, samples = alt.Tooltip("label:N", title="rule"), alt.Tooltip("samples:Q", format=",")
    entropies = [
        alt.Tooltip("entropy:Q", title="entropy from (nats)", format=".3f"),
        alt.Tooltip("entropy_to:Q", title="to (nats)", format=".3f"),
    ]
    ratio = alt.Tooltip("ratio:Q", format=".2f")
    band = envelope_layer("ratio", x, y)
    samples_of = partial(cloud_layer, field="ratio", title="ratio", binned=binned)
    cloud = samples_of("cloud", x, y, colour).add_params(brush("x", "y"))
    chosen = samples_of("selected", x, y, alt.value(SELECTED), front=True)
    violin = (
        alt.Chart(named("violin"))
        .mark_rect(opacity=0.8)
        .encode(**bar, color=colour, tooltip=[label, *entropies, samples])
    )
    chosen_violin = (
        alt.Chart(named("selected_violin"))
        .mark_rect(opacity=0.9, color=SELECTED)
        .encode(**bar, tooltip=[label, *entropies, samples])
    )
    curve = (
        alt.Chart(named("curve"))
        .mark_line(color=GREY, strokeWidth=2)
        .encode(
            x=x, y=y, tooltip=[ratio, alt.Tooltip("entropy:Q", title="entropy, all others equal (nats)", format=".3f")]
        )
    )
    margins = alt.Chart(named("margins")).mark_rect(opacity=0.6).encode(**bar, color=colour)
    above = margins.transform_filter("datum.of === 'ratio'").encode(
        tooltip=[
            label,
            alt.Tooltip("ratio:Q", title="ratio from", format=".2f"),
            alt.Tooltip("ratio_to:Q", title="to", format=".2f"),
            samples,
        ]
    )
    beside = margins.transform_filter("datum.of === 'entropy'").encode(tooltip=[label, *entropies, samples])
    chart = alt.layer(band, cloud, violin, curve, chosen, chosen_violin, above, beside)
    return dict(chart.properties(width="container", height=height).to_dict())


def variance_figure(fixed: RuleReading, held: RuleReading, *, height: int = 190) -> Figure:
    """The variance of the entropy under each rule, cut into what the ratio explains and what it does not."""
    taken = slots([fixed.rule, held.rule])
    rows = [_variance_rows(reading, slot) for reading, slot in zip((fixed, held), taken, strict=True)]
    a, b = fixed.variance_parts, held.variance_parts
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
    parts = reading.variance_parts
    return pd.DataFrame(
        {
            "rule": slot.name,
            "label": rule_label(reading.rule),
            "part": ["explained by the ratio", "left at equal ratios"],
            "variance": [parts.between, parts.within],
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
