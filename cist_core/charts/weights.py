"""Who is heard more and who less: the factors of the weight, the weight, and what it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.cloud import COLUMNS, MOST_POINTS, ROWS
from cist_core.charts.figure import BLUE, GREY, SELECTED, Figure, Mask, brush, named
from cist_core.compare.findings import ABOUT_AS_MUCH, NOTHING_SELECTED
from cist_core.samples.table import Measure
from cist_core.temperature.weights import SampleWeights, rank_correlation, share_of_largest
from cist_core.wording import percent, three_digits

FACTOR_BINS, BINS = 40, 60
TOP = 0.1
"""The part of the samples that the title speaks of."""

# The running median is read on a line over the cloud, so it has an edge of its own on either background.
_LINE, _EDGE = "#17202E", "#FFFFFF"
_WEAK = 0.1
"""A rank correlation below this is no dependence worth a sentence."""

_EASY_END = {"margin": "large", "entropy": "small", "student_loss": "small"}
"""At which end of a measure of difficulty the easy samples are."""

Values = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Bins:
    """Bins that are equally wide, or on a logarithmic axis where the values span a decade or more.

    Values beyond the middle 99.8 % are counted at the ends, or one odd row would stretch the axis over nothing. So are
    zeros on a logarithmic axis: the loss of a student that is sure rounds to 0.
    """

    edges: NDArray[np.float64]
    logarithmic: bool

    @classmethod
    def over(cls, *columns: Values, count: int) -> _Bins:
        values = [column[column > 0] if column.min() >= 0 and column.max() > 0 else column for column in columns]
        ends = np.array([np.quantile(part, (0.001, 0.01, 0.99, 0.999)) for part in values], dtype=np.float64)
        low, high = float(ends[:, 0].min()), float(ends[:, 3].max())
        if low > 0 and ends[:, 2].max() >= 10 * ends[:, 1].min():
            return cls(np.geomspace(low, high, count + 1), True)
        low = min(low, *(float(np.quantile(column, 0.001)) for column in columns))
        if high - low <= 1e-9 * abs(high):  # one value: a bin of some width around it
            room = 0.05 * max(abs(high), 1e-6)
            low, high = low - room, high + room
        return cls(np.linspace(low, high, count + 1), False)

    def within(self, values: Values) -> NDArray[np.float64]:
        return np.asarray(np.clip(values.astype(np.float64), self.edges[0], self.edges[-1]))

    def index(self, values: Values) -> NDArray[np.int64]:
        found = np.searchsorted(self.edges, self.within(values), side="right") - 1
        return np.asarray(np.clip(found, 0, len(self.edges) - 2))

    def counts(self, values: Values) -> NDArray[np.int64]:
        return np.bincount(self.index(values), minlength=len(self.edges) - 1)


def _chosen(selected: Mask | None, samples: int) -> Mask:
    return np.zeros(samples, bool) if selected is None else selected


# --- The two factors ---


def factors_figure(weights: SampleWeights, *, selected: Mask | None = None, height: int = 260) -> Figure:
    """How the temperatures of teacher and student are distributed: the two factors of the weight.

    Args:
        weights: of the samples.
        selected: the samples to count once more in front, ``(N,)``.
        height: in pixels.
    """
    factors = {"teacher": weights.teacher} | ({} if weights.student is None else {"student": weights.student})
    bins = _Bins.over(*factors.values(), count=FACTOR_BINS)
    chosen = _chosen(selected, weights.samples)
    title = factors_sentence(weights)
    return Figure(
        title=title,
        caption=(
            f"{weights.samples:,} samples in {FACTOR_BINS} bins, at ρ = {weights.rho:.4g}. The factor is the centred "
            f"maximum of the model's logits over ρ: its confidence on the sample.{_floored(weights)}"
        ),
        alt=title,
        spec=_factors_spec(tuple(factors), weights.floor, bins.logarithmic, height),
        datasets={
            "factors": _steps(factors, bins, np.ones(weights.samples, bool)),
            "selected": _steps(factors if chosen.any() else {}, bins, chosen),
        },
    )


def _floored(weights: SampleWeights) -> str:
    """On how many samples the factor is the floor instead."""
    if weights.floor == 0:
        return ""
    models = {"teacher": weights.teacher_at_floor, "student": weights.student_at_floor}
    shares = " and ".join(f"{percent(share)} ({name})" for name, share in models.items() if share is not None)
    return f" On {shares} of the samples it is the floor of {weights.floor:.4g}."


def factors_sentence(weights: SampleWeights) -> str:
    """How far the teacher's temperatures reach, and how the student's compare."""
    low, high = np.quantile(weights.teacher, (0.05, 0.95))
    if weights.student is None:
        return (
            f"90 % of the teacher's temperatures lie between {three_digits(float(low))} and "
            f"{three_digits(float(high))} logit units"
        )
    times = float(np.median(weights.teacher) / np.median(weights.student))
    if ABOUT_AS_MUCH[0] < times < ABOUT_AS_MUCH[1]:
        return "Teacher and student have about the same temperatures: their logits are on one scale"
    more, less = ("teacher's", "student's") if times > 1 else ("student's", "teacher's")
    return f"The {more} median temperature is {three_digits(max(times, 1 / times))} times the {less}"


def _steps(factors: Mapping[str, Values], bins: _Bins, chosen: Mask) -> pd.DataFrame:
    """The outline of a histogram: every edge with the count to its right, and down to 0 at the end."""
    columns = ["model", "temperature", "to", "samples"]
    rows = [
        np.column_stack([bins.edges, np.append(bins.edges[1:], bins.edges[-1]), np.append(bins.counts(of[chosen]), 0)])
        for of in factors.values()
    ]
    tables = [
        pd.DataFrame(part, columns=columns[1:]).assign(model=name) for name, part in zip(factors, rows, strict=True)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


@lru_cache(maxsize=16)
def _factors_spec(models: tuple[str, ...], floor: float, logarithmic: bool, height: int) -> dict[str, Any]:
    formula = f"max(m / ρ, {floor:.4g})" if floor else "m / ρ"
    base = {
        "x": alt.X("temperature:Q", title=f"temperature τ = {formula} (logit units)", **_axis(logarithmic)),
        "y": alt.Y("samples:Q", title="samples", axis=alt.Axis(format=",d", tickCount=5)),
        "strokeDash": alt.StrokeDash(
            "model:N",
            scale=alt.Scale(domain=list(models), range=[[1, 0], [6, 4]][: len(models)]),
            legend=alt.Legend(title=None, orient="top", symbolStrokeColor=BLUE) if len(models) > 1 else None,
        ),
        "tooltip": [
            alt.Tooltip("model:N"),
            alt.Tooltip("temperature:Q", title="temperature from", format=".3g"),
            alt.Tooltip("to:Q", format=".3g"),
            alt.Tooltip("samples:Q", format=","),
        ],
    }
    outline: dict[str, Any] = {"interpolate": "step-after", "strokeWidth": 2}
    lines = alt.Chart(named("factors")).mark_line(color=BLUE, **outline).encode(**base)
    chosen = alt.Chart(named("selected")).mark_line(color=SELECTED, **outline).encode(**base)
    return dict(alt.layer(lines, chosen).properties(width="container", height=height).to_dict())


# --- The weight ---


def weight_figure(weights: SampleWeights, *, selected: Mask | None = None, height: int = 260) -> Figure:
    """How the weights are distributed.

    Args:
        weights: of the samples; those of the plain product can be brushed, as the measure ``weight`` is.
        selected: the samples to count once more in front, ``(N,)``.
        height: in pixels.
    """
    bins = _Bins.over(weights.weight, count=BINS)
    mean = float(weights.weight.mean())
    chosen = _chosen(selected, weights.samples)
    title = weight_sentence(weights)
    table = _bars(weights.weight, bins, mean)
    front = _bars(weights.weight[chosen], bins, mean)
    return Figure(
        title=title,
        caption=(
            f"{weights.samples:,} samples in {BINS} bins. Dashed: the mean, {_with_unit(mean, weights.unit)}; a sample "
            "right of it is raised, left of it lowered."
        ),
        alt=title,
        spec=_weight_spec(_weight_title(weights), bins.logarithmic, _is_measure(weights), height),
        datasets={
            "bins": table,
            "selected": front[front["samples"] > 0],
            "mean": pd.DataFrame({"mean": [mean]}),
        },
        brush={"from": "weight"} if _is_measure(weights) else {},
    )


def weight_sentence(weights: SampleWeights) -> str:
    """How many samples count, and how much the heaviest carry."""
    if weights.equal:
        return f"Every sample weighs the same: all {weights.samples:,} count"
    held = share_of_largest(weights.weight, TOP)
    return (
        f"Effective sample size: {round(weights.effective_samples):,} of {weights.samples:,}; the heaviest "
        f"{TOP * 100:.0f} % carry {percent(held)} of the weight"
    )


def _bars(values: Values, bins: _Bins, mean: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "from": bins.edges[:-1],
            "to": bins.edges[1:],
            "times": bins.edges[:-1] / mean,
            "times_to": bins.edges[1:] / mean,
            "samples": bins.counts(values),
        }
    )


def _is_measure(weights: SampleWeights) -> bool:
    """Whether these are the weights that selections speak of, ``tau_t tau_s``."""
    return weights.weighting == "product" and not weights.normalised


def _weight_title(weights: SampleWeights) -> str:
    return f"weight w ({weights.unit})" if weights.unit else "weight w"


def _with_unit(value: float, unit: str) -> str:
    return f"{three_digits(value)} {unit}".rstrip()


def _axis(logarithmic: bool) -> dict[str, Any]:
    scale = alt.Scale(type="log", nice=False) if logarithmic else alt.Scale(nice=False, zero=False)
    return {"scale": scale, "axis": alt.Axis(tickCount=6, grid=False, format=".3~g", labelOverlap=True)}


@lru_cache(maxsize=32)
def _weight_spec(x_title: str, logarithmic: bool, can_brush: bool, height: int) -> dict[str, Any]:
    base = {
        "x": alt.X("from:Q", title=x_title, **_axis(logarithmic)),
        "x2": "to:Q",
        "y": alt.Y("samples:Q", title="samples", axis=alt.Axis(format=",d", tickCount=5)),
        "y2": alt.datum(0),
        "tooltip": [
            alt.Tooltip("from:Q", title="weight from", format=".3g"),
            alt.Tooltip("to:Q", format=".3g"),
            alt.Tooltip("times:Q", title="times the mean from", format=".2f"),
            alt.Tooltip("times_to:Q", title="times the mean to", format=".2f"),
            alt.Tooltip("samples:Q", format=","),
        ],
    }
    bars = alt.Chart(named("bins")).mark_rect(color=BLUE, opacity=0.7).encode(**base)
    if can_brush:
        bars = bars.add_params(brush("x"))
    chosen = alt.Chart(named("selected")).mark_rect(color=SELECTED, opacity=0.9).encode(**base)
    mean = (
        alt.Chart(named("mean"))
        .mark_rule(color=GREY, strokeWidth=2, strokeDash=[5, 3])
        .encode(x="mean:Q", tooltip=[alt.Tooltip("mean:Q", title="mean weight", format=".3g")])
    )
    return dict(alt.layer(bars, chosen, mean).properties(width="container", height=height).to_dict())


# --- The weight against difficulty ---


def difficulty_figure(
    weights: SampleWeights, values: Values, measure: Measure, *, selected: Mask | None = None, height: int = 360
) -> Figure:
    """The weight against a measure of difficulty, with the running median.

    Args:
        weights: of the samples; drawn as points, or as a density above `MOST_POINTS` samples.
        values: of the measure, ``(N,)``.
        measure: what they are, for example the teacher's margin.
        selected: the samples to draw once more in front, ``(N,)``.
        height: in pixels.
    """
    across, up = _Bins.over(values, count=COLUMNS), _Bins.over(weights.weight, count=ROWS)
    binned = weights.samples > MOST_POINTS
    chosen = _chosen(selected, weights.samples)
    of_all = difficulty_sentence(weights, values, measure)
    title = of_all if selected is None else _selected_sentence(weights, values, measure, selected)
    cloud = _cells(values, weights.weight, across, up) if binned else _points(values, weights.weight, across, up)
    front = _cells(values[chosen], weights.weight[chosen], across, up) if binned else cloud[chosen]
    return Figure(
        title=title,
        caption=(
            f"{weights.samples:,} samples"
            + (", a stronger colour is more of them" if binned else "")
            + "; what lies beyond the axes stands at their ends. Line: the running median of the weight. Dashed: the "
            "mean weight."
        ),
        # A chart whose alt text changes is drawn anew, and loses the brush that selects.
        alt=of_all,
        spec=_difficulty_spec(
            _measure_title(measure),
            measure.title,
            _weight_title(weights),
            (across.logarithmic, up.logarithmic),
            binned,
            _is_measure(weights),
            height,
        ),
        datasets={
            "cloud": cloud,
            "selected": front,
            "median": running_median(across.within(values), up.within(weights.weight)),
            "mean": pd.DataFrame({"mean": [float(weights.weight.mean())]}),
            "ends": pd.DataFrame({"value": across.edges[[0, -1]], "weight": up.edges[[0, -1]]}),
        },
        brush={"value": measure.name} | ({"weight": "weight"} if _is_measure(weights) else {}),
    )


def _selected_sentence(weights: SampleWeights, values: Values, measure: Measure, selected: Mask) -> str:
    """How much the selected samples weigh, and how difficult they are beside all."""
    if not selected.any():
        return NOTHING_SELECTED
    times = three_digits(float(weights.relative[selected].mean()))
    here, of_all = (three_digits(float(np.median(of))) for of in (values[selected], values))
    unit = f" {measure.unit}" if measure.unit else ""
    return (
        f"The {np.count_nonzero(selected):,} selected weigh {times} times the mean; their median {measure.title} is "
        f"{here}{unit}, that of all {of_all}"
    )


def difficulty_sentence(weights: SampleWeights, values: Values, measure: Measure) -> str:
    """Whether easy or hard samples weigh more, by Spearman's rank correlation."""
    if weights.equal:
        return f"Every sample weighs the same, whatever its {measure.title}"
    correlation = rank_correlation(weights.weight, values)
    if correlation is None:
        return f"Every sample has the same {measure.title}: it does not decide which weighs more"
    rank = f"Spearman {correlation:.2f}".replace("-", "−")
    if abs(correlation) < _WEAK:
        return f"The weight hardly depends on the {measure.title} ({rank})"
    rises = correlation > 0
    slope = f"the weight {'rises' if rises else 'falls'} with the {measure.title} ({rank})"
    if measure.name not in _EASY_END:
        return slope[0].upper() + slope[1:]
    easy = (_EASY_END[measure.name] == "large") == rises
    return f"{'Easy' if easy else 'Hard'} samples weigh more: {slope}"


def running_median(values: Values, weight: Values) -> pd.DataFrame:
    """Medians over neighbours: samples sorted by value, in at most 30 groups of equal size and at least 40 samples."""
    groups = np.array_split(np.argsort(values, kind="stable"), int(np.clip(len(values) // 40, 1, 30)))
    return pd.DataFrame(
        {
            "value": [float(np.median(values[group])) for group in groups],
            "weight": [float(np.median(weight[group])) for group in groups],
            "samples": [len(group) for group in groups],
        }
    )


def _points(values: Values, weight: Values, across: _Bins, up: _Bins) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample": np.arange(len(values)),
            "value": across.within(values),
            "weight": up.within(weight),
            "times": weight / weight.mean(),
        }
    )


def _cells(values: Values, weight: Values, across: _Bins, up: _Bins) -> pd.DataFrame:
    """Counts on a grid; only cells that hold a sample."""
    counts = np.bincount(across.index(values) * ROWS + up.index(weight), minlength=COLUMNS * ROWS)
    filled = np.flatnonzero(counts)
    column, row = filled // ROWS, filled % ROWS
    return pd.DataFrame(
        {
            "value": across.edges[column],
            "value_to": across.edges[column + 1],
            "weight": up.edges[row],
            "weight_to": up.edges[row + 1],
            "samples": counts[filled],
            # The eye reads area; the square root keeps thin regions visible beside a peak.
            "shade": 0.12 + 0.88 * np.sqrt(counts[filled] / max(counts.max(), 1)),
        }
    )


def _measure_title(measure: Measure) -> str:
    return f"{measure.title} ({measure.unit})" if measure.unit else measure.title


@lru_cache(maxsize=64)
def _difficulty_spec(
    x_title: str,
    measure: str,
    y_title: str,
    logarithmic: tuple[bool, bool],
    binned: bool,
    brush_weight: bool,
    height: int,
) -> dict[str, Any]:
    x = alt.X("value:Q", title=x_title, **_axis(logarithmic[0]))
    y = alt.Y("weight:Q", title=y_title, **_axis(logarithmic[1]))

    def cloud(data: str, colour: str, *, front: bool) -> alt.Chart:
        chart = alt.Chart(named(data))
        if not binned:
            dots: alt.Chart = chart.mark_circle(
                size=24 if front else 18, opacity=0.9 if front else 0.45, color=colour
            ).encode(
                x=x,
                y=y,
                tooltip=[
                    alt.Tooltip("sample:Q", format=","),
                    alt.Tooltip("value:Q", title=measure, format=".3g"),
                    alt.Tooltip("weight:Q", format=".3g"),
                    alt.Tooltip("times:Q", title="times the mean", format=".2f"),
                ],
            )
            return dots
        grid: alt.Chart = chart.mark_rect(color=colour).encode(
            x=x,
            x2="value_to:Q",
            y=y,
            y2="weight_to:Q",
            opacity=alt.Opacity("shade:Q", scale=None),
            tooltip=[
                alt.Tooltip("value:Q", title=f"{measure} from", format=".3g"),
                alt.Tooltip("value_to:Q", title="to", format=".3g"),
                alt.Tooltip("weight:Q", title="weight from", format=".3g"),
                alt.Tooltip("weight_to:Q", title="to ", format=".3g"),
                alt.Tooltip("samples:Q", format=","),
            ],
        )
        return grid

    median = alt.Chart(named("median")).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("value:Q", title=measure, format=".3g"),
            alt.Tooltip("weight:Q", title="median weight", format=".3g"),
            alt.Tooltip("samples:Q", format=","),
        ],
    )
    mean = alt.Chart(named("mean")).mark_rule(color=GREY, strokeWidth=2, strokeDash=[5, 3]).encode(y="mean:Q")
    # The axes reach from end to end of the bins, also where all samples have one weight.
    ends = alt.Chart(named("ends")).mark_point(opacity=0).encode(x=x, y=y)
    chart = alt.layer(
        ends,
        cloud("cloud", BLUE, front=False).add_params(brush("x", "y") if brush_weight else brush("x")),
        mean,
        median.mark_line(color=_EDGE, strokeWidth=5, opacity=0.8),
        median.mark_line(color=_LINE, strokeWidth=2.5),
        cloud("selected", SELECTED, front=True),
    )
    return dict(chart.properties(width="container", height=height).to_dict())
