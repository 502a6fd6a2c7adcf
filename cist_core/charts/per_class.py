"""Mean entropy of every class under two rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.figure import PICK, Figure, Slot, named, rule_scale, rules_legend, slots
from cist_core.charts.soft_labels import names_of
from cist_core.compare.findings import rule_label
from cist_core.temperature.profile import class_means
from cist_core.temperature.readings import RuleReading
from cist_core.wording import three_digits

MOST_NAMED = 30
"""Up to this many classes have their names on the axis; with more, the ends do, and the tooltip says the others."""


def per_class_figure(
    readings: Sequence[RuleReading],
    labels: NDArray[np.int64],
    class_names: Sequence[str] | None,
    *,
    what: str = "class",
    height: int = 340,
) -> Figure:
    """Mean and spread of the entropy of each class, sorted by the mean under the first rule.

    Args:
        readings: of one or more rules.
        labels: the class of each sample, ``(N,)``.
        class_names: of all classes, or None.
        what: a class is; samples may be told apart by something else.
        height: in pixels.
    """
    limit = math.log(readings[0].profile.classes)
    classes = readings[0].profile.classes if class_names is None else len(class_names)
    names = names_of(class_names, classes)
    tables, runs = [], []
    order: NDArray[np.int64] | None = None
    taken = slots([reading.rule for reading in readings])
    for reading, slot in zip(readings, taken, strict=True):
        means = class_means(reading.entropy, labels, classes)
        if order is None:
            order = np.argsort(means["mean"])  # NaN, a class without samples, goes last
            order = order[: np.count_nonzero(means["count"])]
        mean, std, count = (means[key][order] for key in ("mean", "std", "count"))
        tables.append(
            pd.DataFrame(
                {
                    "rule": slot.name,
                    "label": rule_label(reading.rule),
                    "class": [names[index] for index in order],
                    "index": order,
                    "position": np.arange(len(order)),
                    "mean": mean,
                    "low": np.maximum(mean - std, 0.0),
                    "high": mean + std,
                    "spread": std,
                    "samples": count,
                }
            )
        )
        lowest, highest = names[order[np.argmin(mean)]], names[order[np.argmax(mean)]]
        runs.append(
            f"{three_digits(float(np.ptp(mean)))} nats apart under {rule_label(reading.rule)} ({lowest} to {highest})"
        )
    many = classes > MOST_NAMED
    title = f"{what.capitalize()} means lie {', '.join(runs)}"
    return Figure(
        title=title,
        caption=(
            f"One dot a {what} and rule, sorted by the mean under {rule_label(readings[0].rule)}; "
            "lines reach one standard deviation."
        ),
        hint=f"A click selects a {what}.",
        alt=title,
        spec=_spec(taken, many, limit, height, what),
        datasets={"classes": pd.concat(tables, ignore_index=True)} | ({"ends": _ends(tables[0])} if many else {}),
    )


def _ends(classes: pd.DataFrame) -> pd.DataFrame:
    """The first and the last of many classes, whose names stand under the strip."""
    last = len(classes) - 1
    return pd.DataFrame(
        {"class": classes["class"].iloc[[0, last]].to_numpy(), "position": [0, last], "end": ["first", "last"]}
    )


@lru_cache(maxsize=32)
def _spec(taken: tuple[Slot, ...], many: bool, limit: float, height: int, what: str) -> dict[str, Any]:
    x = alt.X(
        "class:N",
        sort=alt.EncodingSortField("position", op="min"),
        title=what if not many else "classes, sorted (point at one for its name)",
        axis=alt.Axis(
            labels=not many, ticks=not many, labelAngle=0, labelOverlap=True, grid=False, titlePadding=24 if many else 4
        ),
    )
    offset = alt.XOffset("rule:N", sort=None) if not many else alt.Undefined
    colour = alt.Color("rule:N", scale=rule_scale(taken), legend=rules_legend())
    tooltip = [
        alt.Tooltip("class:N", title=what),
        alt.Tooltip("label:N", title="rule"),
        alt.Tooltip("mean:Q", title="mean entropy (nats)", format=".3f"),
        alt.Tooltip("spread:Q", title="spread (nats)", format=".3f"),
        alt.Tooltip("samples:Q", format=","),
    ]
    base = alt.Chart(named("classes"))
    y = alt.Y("mean:Q", title="entropy (nats)", scale=alt.Scale(domain=[0, limit], nice=False, clamp=True))
    bars = base.mark_rule(opacity=0.45 if not many else 0.3, strokeWidth=2 if not many else 1).encode(
        x=x, xOffset=offset, y=alt.Y("low:Q", title="entropy (nats)"), y2="high:Q", color=colour, tooltip=tooltip
    )
    dots = (
        base.mark_circle(size=64 if not many else 24, opacity=1, cursor="pointer")
        .encode(x=x, xOffset=offset, y=y, color=colour, tooltip=tooltip)
        .add_params(alt.selection_point(name=PICK, fields=["index"], on="click"))
    )
    layers = [bars, dots]
    sides: dict[str, Literal["left", "right"]] = {"first": "left", "last": "right"} if many else {}
    for end, side in sides.items():
        name = alt.Chart(named("ends")).transform_filter(f"datum.end === '{end}'")
        words = name.mark_text(
            align=side, fontSize=12, limit=alt.ExprRef("width / 2 - 8"), y=alt.ExprRef("height + 12")
        )
        layers.append(words.encode(x=x, text="class:N"))
    return dict(alt.layer(*layers).properties(width="container", height=height).to_dict())
