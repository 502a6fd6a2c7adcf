"""Several teachers over one another: entropy and ratio at one mean entropy, and how far confidence can be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.figure import GREY, Figure, named
from cist_core.compare.teacher_comparison import FIXED, TeacherReading, consistency_finding
from cist_core.temperature.profile import entropy_histogram
from cist_core.wording import percent, three_digits

TEACHER_COLOURS = ("#7A5CC0", "#A38A00", "#0F9AA8", "#B5562B")
"""One for each teacher, in order: told apart by any eye, 3 to 1 against both page backgrounds, and no rule's colour."""

BINS = 60
BEFORE, AFTER = "τ = 1", "fitted τ"

Names = tuple[str, ...]


def teacher_entropy_figure(teachers: Sequence[TeacherReading], rule: str = FIXED, *, height: int = 340) -> Figure:
    """Entropy histograms of every teacher at the same mean entropy.

    Args:
        teachers: up to as many as there are `TEACHER_COLOURS`.
        rule: `FIXED` or `CIST` of `cist_core.compare.teacher_comparison`, at each teacher's own matched parameter.
        height: in pixels.
    """
    readings = [teacher.under(rule) for teacher in teachers]
    limit = math.log(readings[0].profile.classes)
    edges = np.linspace(0.0, limit, BINS + 1)
    tables = [
        _steps(teacher.name, entropy_histogram(reading.entropy, reading.profile.classes, BINS), edges)
        for teacher, reading in zip(teachers, readings, strict=True)
    ]
    spreads = ", ".join(
        f"{teacher.name} {three_digits(reading.profile.std)}"
        for teacher, reading in zip(teachers, readings, strict=True)
    )
    title = consistency_finding(teachers, rule)
    mean = three_digits(readings[0].profile.mean)
    return Figure(
        title=title,
        caption=f"Under {rule} at a mean entropy of {mean} nats; {BINS} bins. Spread in nats: {spreads}.",
        alt=f"{title}. Entropy histogram of each teacher under {rule}; spread in nats: {spreads}",
        spec=_steps_spec(_names(teachers), "entropy (nats)", height, limit),
        datasets={"bins": pd.concat(tables, ignore_index=True)},
    )


def teacher_ratio_figure(teachers: Sequence[TeacherReading], *, height: int = 300) -> Figure:
    """How the ratio of each teacher is spread under its matched fixed temperature.

    CIST holds it at rho on every sample above its floor.
    """
    ratios = [teacher.fixed.ratios for teacher in teachers]
    # The few largest ratios would stretch the axis over nothing; they are counted in its last bin.
    reach = max(float(np.quantile(ratio, 0.998)) for ratio in ratios) * 1.04 or 1.0
    edges = np.linspace(0.0, reach, BINS + 1)
    tables = [
        _steps(teacher.name, np.histogram(np.minimum(ratio, reach), bins=edges)[0], edges)
        for teacher, ratio in zip(teachers, ratios, strict=True)
    ]
    widths = [float(np.std(ratio) / np.mean(ratio)) if np.any(ratio) else 0.0 for ratio in ratios]
    words = [f"{percent(width)} ({teacher.name})" for teacher, width in zip(teachers, widths, strict=True)]
    free = [
        f"{percent(teacher.cist.profile.at_floor)} ({teacher.name})"
        for teacher in teachers
        if teacher.cist.profile.samples_at_floor
    ]
    held = (
        f"CIST holds it above its floor, which leaves out {', '.join(free)} of the samples" if free else "CIST holds it"
    )
    title = f"Under a fixed temperature the ratio varies by {', '.join(words)} of its mean; {held}"
    return Figure(
        title=title,
        caption="Ratio of the maximum centred logit to each teacher's matched temperature. Vertical lines: its ρ.",
        alt=title,
        spec=_steps_spec(_names(teachers), "ratio r = m / τ", height, None),
        datasets={
            "bins": pd.concat(tables, ignore_index=True),
            "held": pd.DataFrame({"teacher": _names(teachers), "ratio": [teacher.rho for teacher in teachers]}),
        },
    )


def reliability_figure(teachers: Sequence[TeacherReading], *, height: int = 340) -> Figure:
    """Accuracy against confidence, before and after one temperature is fitted; the diagonal is to be believed."""
    tables, words = [], []
    for teacher in teachers:
        if teacher.calibration is None:
            continue
        calibration = teacher.calibration
        for when, bins in ((BEFORE, calibration.before), (AFTER, calibration.after)):
            filled = bins.count > 0
            tables.append(
                pd.DataFrame(
                    {
                        "teacher": teacher.name,
                        "when": when,
                        "confidence": bins.confidence[filled],
                        "accuracy": bins.accuracy[filled],
                        "samples": bins.count[filled],
                    }
                )
            )
        words.append(
            f"{teacher.name} from {percent(calibration.before.error)} to {percent(calibration.after.error)} "
            f"at τ = {three_digits(calibration.tau)}"
        )
    title = f"One fitted temperature takes the calibration error of {', of '.join(words)}"
    return Figure(
        title=title,
        caption=(
            "Mean confidence and accuracy in 15 bins of the top-1 probability, larger for more samples; below the "
            "diagonal a teacher is overconfident. The fitted temperature has the smallest NLL on these same labels; "
            "the calibration error need not fall with it."
        ),
        alt=title,
        spec=_reliability_spec(_names(teachers), height),
        datasets={
            "bins": pd.concat(tables, ignore_index=True),
            "diagonal": pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]}),
        },
    )


def _names(teachers: Sequence[TeacherReading]) -> Names:
    return tuple(teacher.name for teacher in teachers)


def _steps(name: str, counts: NDArray[np.int64], edges: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "teacher": name,
            "from": edges[:-1],
            "to": edges[1:],
            "samples": counts,
            "share": counts / max(counts.sum(), 1),
        }
    )


def _colour(names: Names) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=list(TEACHER_COLOURS[: len(names)]))
    legend = alt.Legend(
        title=None,
        orient="top",
        direction="horizontal",
        symbolType="square",
        symbolOpacity=1,
        labelLimit=240,
        columns=2,
    )
    return alt.Color("teacher:N", scale=scale, legend=legend)


@lru_cache(maxsize=64)
def _steps_spec(names: Names, title: str, height: int, limit: float | None) -> dict[str, Any]:
    scale = alt.Scale(zero=True, nice=False) if limit is None else alt.Scale(domain=[0, limit], nice=False)
    x = alt.X("from:Q", title=title, scale=scale, axis=alt.Axis(tickCount=8, grid=False))
    y = alt.Y("samples:Q", title="samples", axis=alt.Axis(format=",d", tickCount=5), stack=None)
    tooltip = [
        alt.Tooltip("teacher:N"),
        alt.Tooltip("from:Q", format=".3f"),
        alt.Tooltip("to:Q", format=".3f"),
        alt.Tooltip("samples:Q", format=","),
        alt.Tooltip("share:Q", title="share of samples", format=".1%"),
    ]
    base = alt.Chart(named("bins")).encode(color=_colour(names), tooltip=tooltip)
    # Faint bars say where the samples are, the outline which teacher's they are where several overlap.
    layers: list[alt.Chart] = [
        base.mark_rect(opacity=0.22).encode(x=x, x2="to:Q", y=y, y2=alt.datum(0)),
        base.mark_line(interpolate="step-after", strokeWidth=2).encode(x=x, y=y),
    ]
    if limit is None:
        layers.append(
            alt.Chart(named("held"))
            .mark_rule(strokeWidth=2)
            .encode(
                x=alt.X("ratio:Q", scale=scale),
                color=_colour(names),
                tooltip=[alt.Tooltip("teacher:N"), alt.Tooltip("ratio:Q", title="ρ of CIST", format=".2f")],
            )
        )
    return dict(alt.layer(*layers).properties(width="container", height=height).to_dict())


@lru_cache(maxsize=64)
def _reliability_spec(names: Names, height: int) -> dict[str, Any]:
    unit = alt.Scale(domain=[0, 1], nice=False)
    percentages = alt.Axis(format="%", tickCount=5)
    x = alt.X("confidence:Q", title="confidence (mean top-1 probability)", scale=unit, axis=percentages)
    y = alt.Y("accuracy:Q", title="accuracy", scale=unit, axis=percentages)
    when = alt.Opacity(
        "when:N",
        sort=None,
        scale=alt.Scale(domain=[BEFORE, AFTER], range=[0.4, 1]),
        legend=alt.Legend(
            title=None, orient="bottom-right", symbolType="circle", symbolFillColor=GREY, symbolStrokeWidth=0
        ),
    )
    tooltip = [
        alt.Tooltip("teacher:N"),
        alt.Tooltip("when:N", title="temperature"),
        alt.Tooltip("confidence:Q", format=".1%"),
        alt.Tooltip("accuracy:Q", format=".1%"),
        alt.Tooltip("samples:Q", format=","),
    ]
    diagonal = alt.Chart(named("diagonal")).mark_line(color=GREY, strokeWidth=1.5).encode(x=x, y=y)
    base = alt.Chart(named("bins")).encode(x=x, y=y, color=_colour(names), opacity=when, tooltip=tooltip)
    lines = base.mark_line(strokeWidth=2).encode(order="confidence:Q")
    # Few samples say little about a bin.
    sizes = alt.Scale(type="sqrt", range=[8, 220])
    dots = base.mark_circle().encode(size=alt.Size("samples:Q", scale=sizes, legend=None))
    return dict(alt.layer(diagonal, lines, dots).properties(width="container", height=height).to_dict())
