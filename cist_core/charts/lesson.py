"""The pictures of the lesson: a few rows of logits, large enough to be read from the back of a room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cist_core.charts.figure import AMBER, BLUE, GREY, Figure, named
from cist_core.compare.findings import rule_label
from cist_core.entropy.envelope import entropy_envelope
from cist_core.entropy.soft_labels import centred_maximum, divergence_of, entropy_of, soft_labels
from cist_core.entropy.theory import equal_others_entropy
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED
from cist_core.wording import percent, three_digits

HEIGHT = 440
"""In pixels, of every picture: the page stands still from step to step."""

MOST_CLASSES, MOST_IN_PAIRS = 10, 6
"""Bars of one soft label, and of each of two beside one another; further classes share the last one."""

TAU_AXIS = (0.1, 100.0)
RATIO_AXIS = 10.0
SCALE_AXIS = (0.1, 3.0)
"""What the curves show of the temperature, of the ratio, and of the student's scale."""

_POINTS = 161
_FONT, _SMALL = 15, 13


class Look(NamedTuple):
    """How one soft label is drawn: its entry in the legend, its colour, and how solid it is; 0 is an outline."""

    name: str
    colour: str
    solid: float = 0.85


HARD = Look("hard label", GREY, 0.55)
FIXED = Look("fixed τ", AMBER)
HELD = Look("CIST", BLUE)


def hard_and_soft_figure(logits: ArrayLike, names: Sequence[str], label: int, *, tau: float = 1.0) -> Figure:
    """The hard label of a sample beside its soft label.

    Args:
        logits: ``(C,)``.
        names: C of them.
        label: the class that the hard label names.
        tau: the fixed temperature.
    """
    z = np.asarray(logits, dtype=np.float64)
    soft = soft_labels(z, tau)
    order = np.argsort(-soft)
    said = ", ".join(f"“{names[index]}” {percent(float(soft[index]))}" for index in order[:3])
    title = f"The hard label says “{names[label]}”; the soft label {said}"
    hard = np.eye(len(z))[label]
    return _bars_figure(title, z, names, [(HARD, hard), (FIXED, soft)])


def tempered_figure(logits: ArrayLike, names: Sequence[str], tau: float, *, who: str = "") -> Figure:
    """The soft label of one row, ``(C,)``, at a fixed temperature; ``who`` names the row in the title."""
    z = np.asarray(logits, dtype=np.float64)
    soft = soft_labels(z, tau)
    return _bars_figure(f"{who or rule_label(Fixed(tau))}: {_nats(entropy_of(soft))}", z, names, [(FIXED, soft)])


def both_rules_figure(logits: ArrayLike, names: Sequence[str], *, tau: float, rho: float, who: str) -> Figure:
    """The soft label of one row, ``(C,)``, at a fixed temperature and under CIST; ``who`` names the row."""
    z = np.asarray(logits, dtype=np.float64)
    fixed, held = soft_labels(z, tau), soft_labels(z, temperature_at(z, rho))
    title = f"{who}: {_nats(entropy_of(fixed))}, under CIST {three_digits(float(entropy_of(held)))}"
    return _bars_figure(title, z, names, [(FIXED, fixed), (HELD, held)], most=MOST_IN_PAIRS)


def shown_classes(logits: ArrayLike, rules: int) -> NDArray[np.int64]:
    """The classes with bars of their own in `tempered_figure` and, for two rules, in `both_rules_figure`, in order."""
    return _shown(np.asarray(logits), MOST_CLASSES if rules == 1 else MOST_IN_PAIRS)


def _shown(logits: NDArray[np.floating[Any]], most: int) -> NDArray[np.int64]:
    if len(logits) <= most:
        return np.arange(len(logits))
    return np.argsort(-logits, kind="stable")[: most - 1]


def held_figure(logits: ArrayLike, names: Sequence[str], rho: float) -> Figure:
    """The soft label of one row, ``(C,)``, under CIST."""
    z = np.asarray(logits, dtype=np.float64)
    soft = soft_labels(z, temperature_at(z, rho))
    return _bars_figure(f"{rule_label(Cist(rho))}: {_nats(entropy_of(soft))}", z, names, [(HELD, soft)])


def scaling_figure(logits: ArrayLike, names: Sequence[str], scale: float, rule: Fixed | Cist) -> Figure:
    """One row, ``(C,)``, and the same row times ``scale``, both under one rule."""
    z = np.asarray(logits, dtype=np.float64)
    both = np.stack([z, scale * z])
    tau = rule.tau if isinstance(rule, Fixed) else temperature_at(both, rule.rho)
    before, after = soft_labels(both, tau)
    colour = AMBER if isinstance(rule, Fixed) else BLUE
    # The ratio of a constant row is 0 at any temperature.
    name = rule_label(rule) if isinstance(rule, Fixed) else f"Ratio {rule.rho if np.ptp(z) else 0:.3g}"
    first, second = (three_digits(round(float(entropy_of(soft)), 9)) for soft in (before, after))
    title = f"{name}: {first} nats stay" if first == second else f"{name}: {first} become {second} nats"
    looks = (Look("as they are", colour, 0.4), Look("scaled", colour, 0.95))
    return _bars_figure(title, z, names, list(zip(looks, (before, after), strict=True)))


def two_temperatures(scale: ArrayLike, tau: float, floor: float = 0.0) -> tuple[float, NDArray[np.float64]]:
    """What CIST gives a teacher, and a student whose logits are the teacher's times ``scale``, ``(...,)``.

    Args:
        scale: of the student; the teacher's is 1.
        tau: what the teacher gets without a floor: its centred maximum over rho.
        floor: under both temperatures.
    """
    return max(tau, floor), np.maximum(np.asarray(scale) * tau, floor)


def students_figure(logits: ArrayLike, names: Sequence[str], scale: float, tau: float, floor: float = 0.0) -> Figure:
    """A teacher, and a student whose logits are the teacher's times ``scale``, at one temperature and at its own.

    The one temperature is the teacher's, the student's own the one that CIST gives it beside; arguments as in
    `two_temperatures`.
    """
    z = np.asarray(logits, dtype=np.float64)
    one, other = two_temperatures(scale, tau, floor)
    teacher, same, own = soft_labels(z, one), soft_labels(scale * z, one), soft_labels(scale * z, other)
    title = f"One τ: {_nats(divergence_of(teacher, same))} apart; two: {_nats(divergence_of(teacher, own))}"
    series = [
        (Look("teacher", GREY, 0.55), teacher),
        (Look("same τ", AMBER, 0.0), same),
        (Look("own τ", BLUE, 0.0), own),
    ]
    return _bars_figure(title, z, names, series)


def temperature_at(logits: ArrayLike, rho: float) -> NDArray[np.float64]:
    """The temperature that CIST gives each row, ``(...,)``; a constant row is uniform at any, and gets 1."""
    maximum = centred_maximum(logits)
    return np.asarray(np.where(maximum > 0, maximum, rho) / rho)


def informative_range(logits: ArrayLike) -> tuple[float, float] | None:
    """The temperatures of `TAU_AXIS` at which a row is neither over-sharp nor over-smoothed; None without any."""
    tau = np.geomspace(*TAU_AXIS, 4 * _POINTS)
    share = entropy_of(soft_labels(logits, tau)) / math.log(np.shape(logits)[-1])
    inside = tau[(share >= OVER_SHARP) & (share <= OVER_SMOOTHED)]
    return (float(inside[0]), float(inside[-1])) if inside.size else None


def both_informative(confident: ArrayLike, ambiguous: ArrayLike) -> str:
    """Which temperatures of `TAU_AXIS` leave both rows, ``(C,)``, informative, and what each row says there."""
    ranges = [informative_range(row) for row in (confident, ambiguous)]
    low = max((between[0] for between in ranges if between), default=math.inf)
    high = min((between[1] for between in ranges if between), default=-math.inf)
    if None in ranges or low > high:
        return f"No τ from {TAU_AXIS[0]:g} to {TAU_AXIS[1]:g} makes both informative."
    tau = float(f"{math.sqrt(low * high):.2g}")  # as it is read; the middle of a logarithmic axis
    tau = min(max(tau, low), high)
    first, second = (
        float(entropy_of(soft_labels(row, tau))) / math.log(np.shape(row)[-1]) for row in (confident, ambiguous)
    )
    return (
        f"From τ = {three_digits(low)} to {three_digits(high)} both are informative; at τ = {three_digits(tau)} the "
        f"confident one says {first:.2f} of ln C, the ambiguous one {second:.2f}."
    )


def temperature_figure(logits: ArrayLike, tau: float) -> Figure:
    """The entropy of one row, ``(C,)``, against the temperature, and where it stands now."""
    z = np.asarray(logits, dtype=np.float64)
    limit = math.log(len(z))
    axis = np.geomspace(*TAU_AXIS, _POINTS)
    now = float(entropy_of(soft_labels(z, tau)))
    between = informative_range(z)
    if between is None:
        title = "No τ here makes this row informative"
    else:
        title = f"Informative from τ = {three_digits(between[0])} to {three_digits(between[1])}"
    return Figure(
        title=title,
        caption="Shaded: over-sharp, below 5 % of ln C, and over-smoothed, above 95 %.",
        alt=f"{title}. Entropy against the temperature; at τ = {tau:.4g} it is {three_digits(now)} nats",
        spec=_temperature_spec(limit),
        datasets={
            "curve": pd.DataFrame({"tau": axis, "entropy": entropy_of(soft_labels(z, axis))}),
            "now": pd.DataFrame({"tau": [tau], "entropy": [now], "text": [f"{three_digits(now)} nats"]}),
            "regions": pd.DataFrame(
                {
                    "from": [0.0, OVER_SMOOTHED * limit],
                    "to": [OVER_SHARP * limit, limit],
                    "region": ["over-sharp", "over-smoothed"],
                }
            ),
        },
    )


def row_with_gap(ratio: float, num_classes: int, gap_share: float, seconds: int = 1) -> NDArray[np.float64]:
    """A centred row ``(C,)`` of maximum ``ratio`` whose ``seconds`` next classes lie a gap below it, the rest equal.

    Args:
        ratio: ``r``, also the temperature's: the row is to be read at temperature 1.
        num_classes: ``C``.
        gap_share: 0 for a tie, 1 for the largest possible gap ``r C / (C - 1)``, where all others are equal.
        seconds: how many classes share the second place, 1 to ``C - 2``.
    """
    rest = num_classes - 1 - seconds
    second = ratio - gap_share * ratio * num_classes / (num_classes - 1)
    return np.array([ratio, *[second] * seconds, *[-(ratio + seconds * second) / rest] * rest])


def envelope_figure(num_classes: int, *, ratio: float, gap_share: float, seconds: int = 1) -> Figure:
    """Which entropies each ratio allows, and where the row of `row_with_gap` stands among them."""
    axis = np.linspace(0.0, RATIO_AXIS, _POINTS)
    now = float(entropy_of(soft_labels(row_with_gap(ratio, num_classes, gap_share, seconds), 1.0)))
    lowest, highest = (float(end) for end in entropy_envelope(ratio, num_classes))
    shape = row_with_gap(1.0, num_classes, gap_share, seconds) * axis[:, None]
    title = f"At ratio {ratio:.4g}: {three_digits(lowest)} to {three_digits(highest)} nats are possible"
    return Figure(
        title=title,
        caption="Band: all rows there can be. Grey: all other classes equal. Blue: this row.",
        alt=f"{title}; this row has {three_digits(now)} nats",
        spec=_envelope_spec(math.log(num_classes)),
        datasets={
            "band": _band(num_classes),
            "row": pd.DataFrame({"ratio": axis, "entropy": entropy_of(soft_labels(shape, 1.0))}),
            "now": pd.DataFrame({"ratio": [ratio], "entropy": [now], "text": [f"{three_digits(now)} nats"]}),
        },
    )


def divergence_figure(logits: ArrayLike, scale: float, tau: float, floor: float = 0.0) -> Figure:
    """How far a student of the teacher's shape, ``(C,)``, seems from it, against its scale, under both rules.

    Arguments as in `two_temperatures`.
    """
    z = np.asarray(logits, dtype=np.float64)
    free = floor / tau  # from this scale on the student is above the floor
    axis = np.unique(np.append(np.geomspace(*SCALE_AXIS, _POINTS), [1.0, np.clip(free, *SCALE_AXIS)]))

    def divergences(scales: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        one, own = two_temperatures(scales, tau, floor)
        teacher, students = soft_labels(z, one), scales[:, None] * z
        return {
            FIXED.name: divergence_of(teacher, soft_labels(students, one)),
            HELD.name: divergence_of(teacher, soft_labels(students, own)),
        }

    curves, now = divergences(axis), {rule: float(kl[0]) for rule, kl in divergences(np.array([scale])).items()}
    title = "All classes are alike: there is no scale to copy" if np.ptp(z) == 0 else _asked_scale(free)
    return Figure(
        title=title,
        caption="KL(teacher ‖ student) against the student's scale.",
        alt=f"{title}. At scale {scale:.4g} the divergence is {three_digits(now[FIXED.name])} nats under one τ and "
        f"{three_digits(now[HELD.name])} under two" + (f" with a floor of {floor:.4g}" if floor else ""),
        spec=_divergence_spec(),
        datasets={
            "curves": pd.concat(
                [pd.DataFrame({"rule": rule, "scale": axis, "divergence": kl}) for rule, kl in curves.items()],
                ignore_index=True,
            ),
            "now": pd.DataFrame({"rule": list(now), "scale": scale, "divergence": list(now.values())}),
        },
    )


def _asked_scale(free: float) -> str:
    """Which scales of the student leave no divergence, where it is above the floor from the scale ``free`` on."""
    if free == 0:
        return "One τ asks for scale 1; two ask for none"
    if free <= 1:
        return f"One τ asks for scale 1; two for {free:.3g} or more"
    return "One τ asks for scale 1, and so do two that stand at the floor"


@lru_cache(maxsize=8)
def _band(num_classes: int) -> pd.DataFrame:
    axis = np.linspace(0.0, RATIO_AXIS, _POINTS)
    low, high = entropy_envelope(axis, num_classes)
    return pd.DataFrame({"ratio": axis, "low": low, "high": high, "equal": equal_others_entropy(axis, num_classes)})


def _nats(entropy: ArrayLike) -> str:
    return f"{three_digits(round(float(np.asarray(entropy)), 9))} nats"  # no more than the digits that are there


def _bars_figure(
    title: str,
    logits: NDArray[np.float64],
    names: Sequence[str],
    series: Sequence[tuple[Look, NDArray[np.float64]]],
    *,
    most: int = MOST_CLASSES,
) -> Figure:
    """Bars of one or several soft labels over the classes; of many classes the largest and the sum of the rest."""
    shown = _shown(logits, most)
    rest = np.setdiff1d(np.arange(len(logits)), shown)
    labels = [str(names[index]) for index in shown] + ([f"{rest.size:,} others"] if rest.size else [])
    shares = [
        (look, [*probabilities[shown], *([probabilities[rest].sum()] if rest.size else [])])
        for look, probabilities in series
    ]
    return _shares_figure(title, labels, shares, "Probability of each class")


def _shares_figure(
    title: str, labels: Sequence[str], series: Sequence[tuple[Look, Sequence[float]]], caption: str
) -> Figure:
    """Bars of one or several soft labels, with a label each."""
    tables = [
        pd.DataFrame(
            {
                "series": look.name,
                "position": np.arange(len(values)),
                "class": labels,
                "probability": np.asarray(values, dtype=np.float64),
                "text": ["" if look == HARD and value == 0 else percent(round(float(value), 12)) for value in values],
            }
        )
        for look, values in series
    ]
    return Figure(
        title=title,
        caption=f"{caption}.",
        alt=f"{title}. Bars: {caption[0].lower()}{caption[1:]}",
        spec=_bars_spec(tuple(look for look, _ in series)),
        datasets={"bars": pd.concat(tables, ignore_index=True)},
    )


def token_figure(who: str, names: Sequence[str], fixed: ArrayLike, held: ArrayLike, entropies: ArrayLike) -> Figure:
    """What a language model expects at one place of a text, under a fixed temperature and under CIST.

    Args:
        who: the actual token.
        names: of some tokens and, last, of all others together.
        fixed: their probabilities under the fixed temperature.
        held: under CIST.
        entropies: of both soft labels over the whole vocabulary.
    """
    first, second = np.asarray(entropies, dtype=np.float64)
    title = f"{who}: {_nats(first)}, under CIST {three_digits(float(second))}"
    series = [(FIXED, list(np.asarray(fixed))), (HELD, list(np.asarray(held)))]
    return _shares_figure(title, names, series, "Probability of the likeliest tokens and the actual one")


def sentence_figure(words: Sequence[str], fixed: ArrayLike, held: ArrayLike, chosen: int, limit: float) -> Figure:
    """The entropy of a language model's soft label at each token of a sentence, under both rules.

    Args:
        words: n tokens.
        fixed: entropies under the fixed temperature, ``(n,)``.
        held: under CIST.
        chosen: the token that is marked.
        limit: the largest possible entropy.
    """
    both = np.stack([np.asarray(fixed, dtype=np.float64), np.asarray(held, dtype=np.float64)])
    spreads = [three_digits(float(row.std())) for row in both]
    title = f"The entropies vary by {spreads[0]} nats, under CIST by {spreads[1]}"
    places = [f"{number:02d} {word}" for number, word in enumerate(words)]
    points = [
        pd.DataFrame({"series": look.name, "position": np.arange(len(words)), "place": places, "entropy": row})
        for look, row in zip((FIXED, HELD), both, strict=True)
    ]
    return Figure(
        title=title,
        caption="Entropy of the soft label at each token; the line marks the one whose bars are shown.",
        alt=f"{title}. Lines: entropy of the soft label at each token of the sentence",
        spec=_sentence_spec(limit),
        datasets={"points": pd.concat(points, ignore_index=True), "now": pd.DataFrame({"place": [places[chosen]]})},
    )


@lru_cache(maxsize=4)
def _sentence_spec(limit: float) -> dict[str, Any]:
    names = [FIXED.name, HELD.name]
    # The number in front of a word tells it from the same word elsewhere.
    x = alt.X(
        "place:N",
        sort=None,
        title=None,
        axis=_axis(labelExpr="slice(datum.value, 3)", labelAngle=-90, labelOverlap=False, grid=False),
    )
    colours = alt.Color("series:N", scale=alt.Scale(domain=names, range=[FIXED.colour, HELD.colour]), legend=_legend())
    line = (
        alt.Chart(named("points"))
        .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=70, filled=True))
        .encode(
            x=x,
            y=_entropy_axis(limit),
            color=colours,
            tooltip=[
                alt.Tooltip("place:N", title="token"),
                alt.Tooltip("series:N", title="rule"),
                alt.Tooltip("entropy:Q", title="entropy (nats)", format=".3f"),
            ],
        )
    )
    mark = alt.Chart(named("now")).mark_rule(color=GREY, strokeWidth=2, strokeDash=[4, 3]).encode(x=x)
    return dict(alt.layer(line, mark).properties(width="container", height=HEIGHT).to_dict())


def _axis(**settings: Any) -> alt.Axis:
    return alt.Axis(labelFontSize=_FONT, titleFontSize=_FONT, **settings)


def _legend() -> alt.Legend:
    return alt.Legend(
        title=None,
        orient="top",
        direction="horizontal",
        symbolType="square",
        symbolSize=160,
        symbolStrokeWidth=1.5,
        labelFontSize=_FONT,
    )


@lru_cache(maxsize=16)
def _bars_spec(looks: tuple[Look, ...]) -> dict[str, Any]:
    names = [look.name for look in looks]
    colours = alt.Scale(domain=names, range=[look.colour for look in looks])
    fills = alt.Scale(domain=names, range=[f"{look.colour}{round(look.solid * 255):02X}" for look in looks])
    dashes = alt.Scale(domain=names, range=[[1, 0] if look.solid else [5, 3] for look in looks])
    y = alt.Y(
        "class:N",
        sort=alt.EncodingSortField("position", op="min"),
        title=None,
        axis=_axis(grid=False, domain=False, ticks=False, labelLimit=110, labelPadding=8),
        scale=alt.Scale(paddingInner=0.18, paddingOuter=0.05),
    )
    offset = alt.YOffset("series:N", sort=names)
    bars = (
        alt.Chart(named("bars"))
        .mark_bar(strokeWidth=2, cornerRadiusEnd=2)
        .encode(
            y=y,
            yOffset=offset,
            # Room behind a full bar for its number.
            x=alt.X(
                "probability:Q",
                title="probability",
                scale=alt.Scale(domain=[0, 1.22], nice=False),
                axis=_axis(values=[0, 0.25, 0.5, 0.75, 1], format=".0%"),
            ),
            fill=alt.Fill("series:N", scale=fills, legend=_legend()),
            stroke=alt.Stroke("series:N", scale=colours, legend=_legend()),
            strokeDash=alt.StrokeDash("series:N", scale=dashes, legend=_legend()),
            tooltip=[
                alt.Tooltip("series:N", title="soft label"),
                alt.Tooltip("class:N"),
                alt.Tooltip("probability:Q", format=".3%"),
            ],
        )
    )
    numbers = (
        alt.Chart(named("bars"))
        .mark_text(align="left", dx=6, fontSize=(_FONT, _SMALL, 12)[len(looks) - 1], fontWeight=600)
        .encode(
            y=y,
            yOffset=offset,
            x="probability:Q",
            text="text:N",
            color=alt.Color("series:N", scale=colours, legend=None),
        )
    )
    return dict(alt.layer(bars, numbers).properties(width="container", height=HEIGHT).to_dict())


def _entropy_axis(limit: float) -> alt.Y:
    return alt.Y(
        "entropy:Q", title="entropy (nats)", scale=alt.Scale(domain=[0, limit], nice=False), axis=_axis(tickCount=6)
    )


def _entropy_curve(data: str, colour: str, x: alt.X, y: alt.Y, where: alt.Tooltip) -> alt.Chart:
    """The entropy over what a slider moves; ``where`` says in the tooltip how far along."""
    line = alt.Chart(named(data)).mark_line(color=colour, strokeWidth=3)
    curve: alt.Chart = line.encode(
        x=x, y=y, tooltip=[where, alt.Tooltip("entropy:Q", title="entropy (nats)", format=".3f")]
    )
    return curve


def _point(colour: str, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Where the sliders stand: a line down to the axis, a dot, and its number."""
    base = alt.Chart(named("now")).encode(x=x)
    return [
        base.mark_rule(color=colour, strokeWidth=1.5, strokeDash=[4, 4]),
        base.mark_circle(color=colour, size=260, opacity=1).encode(y=y),
        base.mark_text(color=colour, fontSize=16, fontWeight=700, align="left", dx=14, dy=-10).encode(
            y=y, text="text:N"
        ),
    ]


@lru_cache(maxsize=8)
def _temperature_spec(limit: float) -> dict[str, Any]:
    x = alt.X(
        "tau:Q",
        title="temperature τ",
        scale=alt.Scale(type="log", domain=list(TAU_AXIS), nice=False),
        axis=_axis(values=[0.1, 0.3, 1, 3, 10, 30, 100], format="~g", grid=False),
    )
    y = _entropy_axis(limit)
    bands = alt.Chart(named("regions")).mark_rect(color=GREY, opacity=0.16).encode(y=alt.Y("from:Q"), y2="to:Q")
    sharp = (
        alt.Chart(named("regions"))
        .mark_text(color=GREY, fontSize=_SMALL, align="right", dx=-8)
        .encode(x=alt.datum(TAU_AXIS[1]), text="region:N")
    )
    words = [
        sharp.transform_filter("datum.region === 'over-sharp'")
        .encode(y=alt.Y("to:Q"))
        .mark_text(color=GREY, fontSize=_SMALL, align="right", dx=-8, dy=-10),
        sharp.transform_filter("datum.region === 'over-smoothed'")
        .encode(y=alt.Y("from:Q"))
        .mark_text(color=GREY, fontSize=_SMALL, align="right", dx=-8, dy=12),
    ]
    curve = _entropy_curve("curve", AMBER, x, y, alt.Tooltip("tau:Q", title="τ", format=".3g"))
    chart = alt.layer(bands, curve, *words, *_point(AMBER, x, y))
    return dict(chart.properties(width="container", height=HEIGHT).to_dict())


@lru_cache(maxsize=8)
def _envelope_spec(limit: float) -> dict[str, Any]:
    x = alt.X(
        "ratio:Q",
        title="ratio r = m / τ",
        scale=alt.Scale(domain=[0, RATIO_AXIS], nice=False),
        axis=_axis(tickCount=6, grid=False),
    )
    y = _entropy_axis(limit)
    band = alt.Chart(named("band")).mark_area(color=GREY, opacity=0.2).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    equal = alt.Chart(named("band")).mark_line(color=GREY, strokeWidth=2).encode(x=x, y=alt.Y("equal:Q"))
    row = _entropy_curve("row", BLUE, x, y, alt.Tooltip("ratio:Q", format=".2f"))
    chart = alt.layer(band, equal, row, *_point(BLUE, x, y))
    return dict(chart.properties(width="container", height=HEIGHT).to_dict())


@lru_cache(maxsize=2)
def _divergence_spec() -> dict[str, Any]:
    x = alt.X(
        "scale:Q",
        title="scale of the student's logits (teacher: 1)",
        scale=alt.Scale(type="log", domain=list(SCALE_AXIS), nice=False),
        axis=_axis(values=[0.1, 0.3, 1, 3], format="~g", grid=False),
    )
    y = alt.Y(
        "divergence:Q",
        title="divergence (nats)",
        scale=alt.Scale(zero=True, nice=True),
        axis=_axis(tickCount=5),
    )
    looks = (FIXED, HELD)
    scale = alt.Scale(domain=[look.name for look in looks], range=[look.colour for look in looks])
    colour = alt.Color("rule:N", scale=scale, legend=_legend())
    curves = (
        alt.Chart(named("curves"))
        .mark_line(strokeWidth=3)
        .encode(
            x=x,
            y=y,
            color=colour,
            tooltip=["rule:N", alt.Tooltip("scale:Q", format=".3g"), alt.Tooltip("divergence:Q", format=".3f")],
        )
    )
    now = alt.Chart(named("now")).encode(x=x)
    chart = alt.layer(
        curves,
        now.mark_rule(color=GREY, strokeWidth=1.5, strokeDash=[4, 4]),
        now.mark_circle(size=240, opacity=1).encode(y=y, color=colour),
    )
    return dict(chart.properties(width="container", height=HEIGHT).to_dict())
