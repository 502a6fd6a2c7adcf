"""The tests of several settings beside one another: a dot a seed, the mean, and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import pandas as pd

from cist_core.charts.figure import Figure, Slot, named, rule_scale
from cist_core.runs.comparison import SettingAccuracy, comparison_sentence
from cist_core.wording import percent

_ROW, _AXES = 46, 60
"""Height of one setting with its name above, and of the axis with its title, in pixels."""


def accuracy_on_test_figure(settings: Sequence[SettingAccuracy], colours: Mapping[str, str]) -> Figure:
    """Accuracy on test of every setting, the best on top, with its 95 % interval.

    Args:
        settings: those that have been tested; their names differ.
        colours: by name.
    """
    ranked = sorted(settings, key=lambda setting: -setting.mean)
    rows, seeds = [], []
    for setting in ranked:
        low, high = setting.interval() or (setting.mean, setting.mean)
        rows.append(
            {
                "setting": setting.name,
                "mean": 100 * setting.mean,
                "low": 100 * low,
                "high": 100 * high,
                "words": percent(setting.mean),
                "label": f"{setting.name} · {_seeds(setting.seeds)}",
                "basis": setting.basis,
            }
        )
        seeds += [
            {"setting": setting.name, "seed": str(seed), "accuracy": 100 * accuracy}
            for seed, accuracy in setting.by_seed.items()
        ]
    title = comparison_sentence(settings)
    over_seeds, alone = (
        any(setting.seeds > 1 for setting in settings),
        any(setting.seeds == 1 for setting in settings),
    )
    kinds = [
        *(["of the mean over the seeds (Student's t)"] if over_seeds else []),
        *(["of the test images where there is one seed (Wilson)"] if alone else []),
    ]
    told = "; ".join(f"{row['setting']}: {row['words']}" for row in rows)
    return Figure(
        title=title,
        caption=f"Test accuracy after the last epoch. Line: 95 % interval {' and '.join(kinds)}."
        + (" Small dots: the seeds." if over_seeds else "")
        + (" Intervals that overlap do not decide; the sentence compares the differences." if len(ranked) > 1 else ""),
        alt=f"{title}. Test accuracy by setting: {told}",
        spec=_spec(tuple(Slot(setting.name, colours[setting.name]) for setting in ranked)),
        datasets={"settings": pd.DataFrame(rows), "seeds": pd.DataFrame(seeds)},
    )


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


@lru_cache(maxsize=64)
def _spec(taken: tuple[Slot, ...]) -> dict[str, Any]:
    names = [slot.name for slot in taken]
    scale = alt.Scale(zero=False, nice=True, padding=10)
    title = "test accuracy (%)"
    x = alt.X("mean:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6, format="~g"))
    y = alt.Y("setting:N", title=None, sort=None, scale=alt.Scale(domain=names), axis=None)
    colour = alt.Color("setting:N", scale=rule_scale(taken), legend=None)
    tooltip = [
        alt.Tooltip("setting:N"),
        alt.Tooltip("words:N", title="mean"),
        alt.Tooltip("low:Q", title="from (%)", format=".2f"),
        alt.Tooltip("high:Q", title="to (%)", format=".2f"),
        alt.Tooltip("basis:N", title="interval of"),
    ]
    base = alt.Chart(named("settings")).encode(y=y, color=colour)
    lines = base.mark_rule(strokeWidth=3, opacity=0.6, yOffset=7).encode(
        x=alt.X("low:Q", title=title, scale=scale), x2="high:Q", tooltip=tooltip
    )
    ends = [
        base.mark_tick(thickness=2, size=12, yOffset=7).encode(x=alt.X(f"{field}:Q", scale=scale))
        for field in ("low", "high")
    ]
    seeds = (
        alt.Chart(named("seeds"))
        .mark_circle(size=36, opacity=0.75, yOffset=7)
        .encode(
            y=y,
            x=alt.X("accuracy:Q", scale=scale),
            color=colour,
            tooltip=[
                alt.Tooltip("setting:N"),
                alt.Tooltip("seed:N"),
                alt.Tooltip("accuracy:Q", title=title, format=".2f"),
            ],
        )
    )
    dots = base.mark_point(filled=True, shape="diamond", size=150, opacity=1, yOffset=7).encode(x=x, tooltip=tooltip)
    # The names stand above their lines: beside the axis they would take half of a phone.
    labels = base.mark_text(align="left", baseline="bottom", dy=-5, fontSize=12, fontWeight=600, limit=0).encode(
        x=alt.value(2), text="label:N"
    )
    numbers = base.mark_text(align="right", baseline="bottom", dy=-5, fontSize=12, fontWeight=600).encode(
        x=alt.value(alt.ExprRef("width - 2")), text="words:N"
    )
    chart = alt.layer(lines, *ends, seeds, dots, labels, numbers)
    return dict(chart.properties(width="container", height=_ROW * len(taken) + _AXES).to_dict())
