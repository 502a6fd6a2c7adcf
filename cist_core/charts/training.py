"""Training runs over their epochs: one colour a setting, its mean over the seeds with a band, teacher solid, student
dashed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cist_core.charts.figure import AMBER, BLUE, GREY, Figure, Slot, named, rule_scale, rules_legend
from cist_core.charts.training_sentences import (
    RunCurve,
    accuracy_sentence,
    entropy_sentence,
    loss_sentence,
    maximum_sentence,
    temperature_sentence,
    term_name,
)
from cist_core.training.logit_scale import scale_states

RUN_COLOURS = (BLUE, AMBER, "#0F9D58", "#B03060", GREY, "#9C4F96")
"""3 to 1 or more against both page backgrounds, and at least 15 apart (CIE Lab) for any colour vision."""

MOST_DOTS = 40
"""Up to this many epochs have a dot each; more are a line whose points appear under the pointer."""

MOST_BANDS = 2
"""Up to this many settings have the spread of their samples drawn as a band; more would cover one another."""

FLOORS = (95, 90, 80, 70, 60, 50, 40, 30, 20, 10)
"""Where the axis of accuracies may begin, in percent: few values, because the chart is drawn anew for another one."""

FEWEST_FOR_A_FLOOR = 6
"""Shorter runs are shown whole."""

_PIXELS_OF_A_SYMBOL, _PIXELS_OF_A_LETTER, _PIXELS_OF_A_ROW = 40, 7, 22
"""Of a legend: what a symbol takes with the space around it, a letter at most on average, and a row."""

_SMALLEST_DRAWN = 1e-6
"""Of a centred maximum: constant logits have 0, for which a logarithmic axis has no place."""

TEACHER, STUDENT = "teacher", "student"
TRAINING, VALIDATION = "training", "validation"


def accuracy_figure(runs: Sequence[RunCurve], *, height: int = 320, unit: str = "images") -> Figure:
    """Accuracy on validation (thick, with a band over the seeds) and on what is trained on (thin), ``unit``s."""
    floor = _floor(runs)
    lines = [
        *(series_of(run, VALIDATION, "val_accuracy", scale=100, over_seeds=True) for run in runs),
        *(series_of(run, TRAINING, "train_accuracy", scale=100) for run in runs),
    ]
    return over_epochs(
        runs,
        lines,
        title=accuracy_sentence(runs),
        caption=f"Thick: validation. Thin: the training {unit} as the student saw them during the epoch."
        + caption_of_seeds(runs)
        + ("" if floor is None else f" The first epochs, below {floor} %, are cut off."),
        y_title="accuracy (%)",
        kind="accuracy",
        height=height,
        floor=floor,
    )


def _floor(runs: Sequence[RunCurve]) -> int | None:
    """Where the axis begins so that what differs at the end can be seen: below every second half on validation."""
    histories = [rows for run in runs for rows in run.histories if rows]
    if not histories or min(len(rows) for rows in histories) < FEWEST_FOR_A_FLOOR:
        return None
    keys = ("val_accuracy", "train_accuracy")
    late = [100 * row[key] for rows in histories for row in rows[len(rows) // 2 :] for key in keys]
    everything = [100 * row[key] for rows in histories for row in rows for key in keys]
    fitting = (floor for floor in FLOORS if floor < min(late))
    return next((floor for floor in fitting if floor > min(everything)), None)


def loss_figure(runs: Sequence[RunCurve], term: str = "loss_total", *, height: int = 260) -> Figure:
    """One term of the loss, mean over each epoch."""
    return over_epochs(
        runs,
        [series_of(run, TRAINING, term, over_seeds=True) for run in runs],
        title=loss_sentence(runs, term),
        caption="Mean over the epoch, in nats."
        + caption_of_seeds(runs)
        + ("" if len(runs) == 1 else " Losses of different objectives cannot be compared, only their course can."),
        y_title=f"{term_name(term)} (nats)",
        kind="loss",
        height=height,
    )


def entropy_figure(runs: Sequence[RunCurve], *, height: int = 260) -> Figure:
    """Mean entropy of the soft labels of teacher and student, with the spread over the samples as a band."""
    return over_epochs(
        runs,
        _both(runs, "entropy"),
        title=entropy_sentence(runs),
        caption=_caption_of_bands(runs, "entropy over the samples of the epoch, at the temperatures used"),
        y_title="mean entropy (nats)",
        kind="models",
        height=height,
    )


def temperature_figure(runs: Sequence[RunCurve], *, height: int = 260) -> Figure:
    """Mean temperature of teacher and student, with the spread over the samples as a band."""
    return over_epochs(
        runs,
        _both(runs, "tau"),
        title=temperature_sentence(runs),
        caption=_caption_of_bands(runs, "temperature over the samples of the epoch"),
        y_title="mean temperature (logit units)",
        kind="models",
        height=height,
    )


def maximum_figure(runs: Sequence[RunCurve], *, height: int = 260) -> Figure:
    """The centred maximum logit of student and teacher: their scale, which an objective may leave free.

    A cross stands where the student's has collapsed or begun to run away (`scale_states`), and then the axis is
    logarithmic.
    """
    faults = pd.concat([_faults(run) for run in runs], ignore_index=True)
    lines = [line.assign(value=line["value"].clip(lower=_SMALLEST_DRAWN)) for line in _both(runs, "maximum")]
    return over_epochs(
        runs,
        lines,
        title=maximum_sentence(runs),
        caption="Solid: teacher. Dashed: student; means over the epoch of the largest logit above the mean of all."
        + ("" if faults.empty else " Crosses: where the student's scale collapses or starts to run away. Log axis."),
        y_title="centred maximum (logit units)",
        kind="scale" if faults.empty else "lost scale",
        height=height,
        faults=faults,
    )


def _faults(run: RunCurve) -> pd.DataFrame:
    """Where a collapse of the student's scale begins, or its running away; empty for a run without."""
    starts = [
        {
            "run": run.name,
            "epoch": row["epoch"],
            "value": max(row["student_maximum_mean"], _SMALLEST_DRAWN),
            "state": state,
        }
        for rows in run.histories
        for states in [scale_states(rows, run.epochs)]
        for row, state, before in zip(rows, states, [None, *states], strict=False)
        if state is not None and state != before
    ]
    return pd.DataFrame(starts, columns=["run", "epoch", "value", "state"])


def loss_terms(runs: Sequence[RunCurve]) -> list[str]:
    """The terms that any run has, the total first."""
    found = {key for run in runs for row in run.rows for key in row if key.startswith("loss_")}
    return sorted(found, key=lambda term: (term != "loss_total", term != "loss_ce", term != "loss_kd", term))


def over_epochs(
    runs: Sequence[RunCurve],
    lines: Sequence[pd.DataFrame],
    *,
    title: str,
    caption: str,
    y_title: str,
    kind: str,
    height: int,
    floor: int | None = None,
    faults: pd.DataFrame | None = None,
) -> Figure:
    """A figure of lines that `series_of` has made."""
    table = pd.concat(lines, ignore_index=True)
    # One that has no epoch yet is no line, and takes no place in the legend.
    taken = tuple(Slot(run.name, run.colour) for run in runs if run.rows)
    longest = max((run.epochs for run in runs), default=1)
    return Figure(
        title=title,
        caption=caption,
        alt=f"{title}. Horizontal: epoch; vertical: {y_title}",
        spec=_spec(taken, kind, y_title, longest <= MOST_DOTS, height, floor),
        datasets={"lines": table} | ({} if faults is None or faults.empty else {"faults": faults}),
    )


def caption_of_seeds(runs: Sequence[RunCurve]) -> str:
    """Of how many runs the lines are, as a sentence that follows others."""
    counts = {len(run.histories) for run in runs if run.rows}
    if not counts or max(counts) < 2:
        return " One seed each." if len(runs) > 1 else ""
    many = f"{counts.pop()}" if len(counts) == 1 else f"up to {max(counts)}"  # two of them may have one seed
    uneven = any(len({len(rows) for rows in run.histories}) > 1 for run in runs)
    return f" Mean of {many} runs; band: from the lowest to the highest." + (
        " Where not all have come so far, of those that have." if uneven else ""
    )


def _both(runs: Sequence[RunCurve], quantity: str) -> list[pd.DataFrame]:
    """Teacher and student of every run, with bands where they do not cover one another."""
    banded = len(runs) <= MOST_BANDS and quantity != "maximum"  # of which only the mean is recorded
    keys = {TEACHER: f"teacher_{quantity}", STUDENT: f"student_{quantity}"}
    if quantity == "tau":
        keys = {TEACHER: "tau_teacher", STUDENT: "tau_student"}
    return [
        series_of(run, model, f"{key}_mean", spread=f"{key}_std", banded=banded)
        for run in runs
        for model, key in keys.items()
    ]


def _caption_of_bands(runs: Sequence[RunCurve], what: str) -> str:
    bands = f"bands: one standard deviation of the {what}" if len(runs) <= MOST_BANDS else f"means of the {what}"
    return f"Solid: teacher. Dashed: student; {bands}."


def series_of(
    run: RunCurve,
    series: str,
    key: str,
    *,
    spread: str | None = None,
    banded: bool = False,
    scale: float = 1.0,
    over_seeds: bool = False,
) -> pd.DataFrame:
    """One line of a chart; epochs that lack the metric are left out.

    Args:
        run: the setting.
        series: which of its lines.
        key: of the metric.
        spread: of the metric that is its standard deviation over the samples.
        banded: whether that is drawn as a band.
        scale: what the metric is multiplied by.
        over_seeds: whether the band goes from the lowest seed to the highest.
    """
    rows = [row for row in run.rows if row.get(key) is not None]
    value = pd.Series([row[key] * scale for row in rows], dtype=float)
    deviation = pd.Series([row.get(spread, float("nan")) if spread else float("nan") for row in rows], dtype=float)
    low: pd.Series | float
    high: pd.Series | float
    low, high = ((value - deviation).clip(lower=0.0), value + deviation) if banded else (np.nan, np.nan)
    if over_seeds and run.seeds:
        every = pd.concat([pd.Series({row["epoch"]: row.get(key) for row in rows}, dtype=float) for rows in run.seeds])
        ends = scale * every.groupby(level=0).agg(["min", "max"]).reindex([row["epoch"] for row in rows])
        low, high = ends["min"].reset_index(drop=True), ends["max"].reset_index(drop=True)
    return pd.DataFrame(
        {
            "run": pd.Series([run.name] * len(rows), dtype=object),
            "series": pd.Series([series] * len(rows), dtype=object),
            "epoch": pd.Series([row["epoch"] for row in rows], dtype=float),
            "value": value,
            "spread": deviation,
            "low": low,
            "high": high,
        }
    )


@lru_cache(maxsize=64)
def _spec(
    taken: tuple[Slot, ...], kind: str, y_title: str, dots: bool, height: int, floor: int | None
) -> dict[str, Any]:
    x = alt.X(
        "epoch:Q",
        title="epoch",
        scale=alt.Scale(nice=False, zero=False),
        axis=alt.Axis(tickMinStep=1, format="d", grid=False, tickCount=10),
    )
    begin = alt.Undefined if floor is None else floor
    scale = alt.Scale(type="log") if kind == "lost scale" else alt.Scale(zero=False, domainMin=begin)
    y = alt.Y("value:Q", title=y_title, scale=scale, axis=alt.Axis(tickCount=5, format=",.5~g"))
    colour = alt.Color("run:N", scale=rule_scale(taken), legend=wrapped_legend(slot.name for slot in taken))
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("series:N", title=" "),
        alt.Tooltip("epoch:Q", format=",d"),
        alt.Tooltip("value:Q", title=y_title, format=".4~g"),
    ]
    if kind == "models":
        tooltip.append(alt.Tooltip("spread:Q", title="spread", format=".3~g"))
    base = alt.Chart(named("lines")).encode(x=x, y=y, color=colour, detail="series:N")
    lines = base.mark_line(clip=True).encode(**_style(kind))
    whole = base if floor is None else base.transform_filter(f"datum.value >= {floor}")  # nothing is cut at the edge
    points = whole.mark_circle(size=30 if dots else 60, opacity=1 if dots else 0).encode(tooltip=tooltip)
    band = base.mark_area(opacity=0.14, clip=True).encode(y=alt.Y("low:Q", title=y_title, scale=scale), y2="high:Q")
    layers = [band, lines, points]
    if kind == "lost scale":
        fault = alt.Chart(named("faults")).encode(x=x, y=y, color=colour)
        told = [alt.Tooltip("run:N"), alt.Tooltip("epoch:Q", format=",d"), alt.Tooltip("state:N", title="logits")]
        layers.append(fault.mark_point(shape="cross", angle=45, size=160, filled=True, opacity=1).encode(tooltip=told))
        for state, above in {"collapsed": -9, "running away": -18}.items():  # clear of the curve, which falls or rises
            words = fault.transform_filter(f"datum.state === '{state}'").encode(text="state:N")
            layers.append(words.mark_text(align="left", dx=11, dy=above, fontSize=12, fontWeight=600))
    room = height + _PIXELS_OF_A_ROW * max(0, math.ceil(len(taken) / 2) - 1)
    return dict(alt.layer(*layers).properties(width="container", height=room).to_dict())


def wrapped_legend(names: Iterable[str]) -> alt.Legend:
    """Above a chart, in as many columns as its width has room for the longest name."""
    longest = _PIXELS_OF_A_SYMBOL + _PIXELS_OF_A_LETTER * max((len(name) for name in names), default=1)
    legend = rules_legend()
    legend.columns = alt.ExprRef(f"max(1, floor(width / {longest}))")
    legend.labelLimit = 0
    return legend


def _style(kind: str) -> dict[str, Any]:
    """How the series of one run are told apart."""
    if kind == "accuracy":
        width = alt.condition(f"datum.series === '{VALIDATION}'", alt.value(3), alt.value(1))
        return {"strokeWidth": width}
    if kind in ("models", "scale", "lost scale"):
        dash = alt.Scale(domain=[TEACHER, STUDENT], range=[[1, 0], [6, 4]])
        return {"strokeDash": alt.StrokeDash("series:N", scale=dash, legend=None)}
    return {}
