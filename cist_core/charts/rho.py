"""Choosing rho: the entropy against rho with its anchors, the evidence, and the gain against the mean entropy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cist_core.charts.figure import AMBER, BLUE, GREY, PICK, Figure, named
from cist_core.compare.anchors import AUTHORS, KD_TAU_1, KD_TAU_4, OWN, TRAINED_BEST, Anchor, level_sentence
from cist_core.compare.evidence import Evidence, TrainedBest
from cist_core.compare.findings import are_matched, consistency_gain, floor_sentence
from cist_core.compare.recommendation import RhoRecommendation, recommendation_sentence
from cist_core.compare.rho_curves import RHOS, GainCurve, RhoSweep, gain_sentence
from cist_core.temperature import Cist
from cist_core.temperature.columns import profile_columns
from cist_core.temperature.readings import RuleReading
from cist_core.wording import three_digits

PICK_STEP = 0.05
"""A click means the nearest multiple of this."""

RECOMMENDED, NOW, NOW_WORDS = "recommended", "now", "now_words"
"""Names of three marks of `rho_figure`, by which a page moves the one of the rho that is set now."""

_FADED = 0.02
"""The axis of rho ends where the mean normalised entropy falls below this,"""
_BEYOND = 1.7
"""or this many times as far as the band."""
_FAR = 3.0
"""An anchor this many times as far as the band does not stretch the axis."""
_FLAG = 0.066
"""Above ln C there is room for the names of the anchors, each so much above the last, as a share of ln C."""
_FLAGS = {TRAINED_BEST: "trained best", AUTHORS: "authors", KD_TAU_4: "KD τ = 4", KD_TAU_1: "KD τ = 1", OWN: "yours"}
_ON_AXIS = 0.09
"""The words below a range keep so much off the axis, as a share of ln C."""
_TEACHER, _STUDENT = "teacher", "student"
_MODELS = alt.Scale(domain=[_TEACHER, _STUDENT], range=[[1, 0], [6, 4]])


def rho_figure(
    sweep: RhoSweep,
    found: RhoRecommendation,
    current: RuleReading,
    *,
    anchors: Sequence[Anchor] = (),
    student: RhoSweep | None = None,
    turn: int = 0,
    most: float = float(RHOS[-1]),
    height: int = 460,
) -> Figure:
    """Mean entropy against rho with its 5 to 95 % band, the anchors, and the range and rho of the recommended one.

    A click anywhere picks the rho below it: its selection has the field ``rho``.

    Args:
        sweep: of the teacher, with a ``reach`` beyond the recommended rho.
        found: the recommendation for the teacher.
        current: CIST at the rho that is set now.
        anchors: to be marked beside the recommended one; one without a rho, or with one beyond all others, is named in
            the caption instead.
        student: of the student, on the same samples.
        turn: how many picks came before, part of the next: a browser reports only a pick that differs from the last.
        most: the largest rho that can be picked.
        height: in pixels.
    """
    rule = current.rule
    assert isinstance(rule, Cist)
    marked = [found.anchor, *(anchor for anchor in anchors if anchor.key != found.anchor.key)]
    reach = _reach(sweep, found, rule.rho, anchors)
    limit = sweep.max_entropy
    title = recommendation_sentence(found)
    flags = _flags(marked, found, sweep, reach)
    kept = floor_sentence(found.floor, found.outcome.cist.at_floor)
    return Figure(
        title=title,
        caption=(
            f"{current.profile.samples:,} samples. Line: mean entropy under CIST; band around it: 5 to 95 % of the "
            f"samples.{_range_in_words(found)}{_evidence_in_words(found.anchor)}{_unmarked(marked, reach)}"
            + (" Dashed: the student at the same ρ." if student is not None else "")
            + (f" At the recommended ρ {kept[0].lower()}{kept[1:]}." if found.floor else "")
        ),
        hint="A click sets ρ.",
        alt=f"{title}. Now ρ = {rule.rho:.4g}, mean entropy {three_digits(current.profile.mean)} nats",
        spec=_rho_spec(limit, student is not None, len(flags), height),
        datasets={
            "curve": _curve(sweep, reach, _TEACHER),
            "student": _curve(student, reach, _STUDENT) if student is not None else _curve(sweep, 0.0, _STUDENT),
            "range": _range(found, limit, reach),
            "anchors": flags,
            "points": pd.DataFrame(
                {
                    "kind": ["recommended", "now"],
                    "rho": [found.rho, rule.rho],
                    "mean": [found.outcome.cist.mean, current.profile.mean],
                    "label": ["", f"now {rule.rho:.4g}"],
                }
            ),
            "picks": _picks(sweep, min(reach, most), turn),
        },
    )


def _range_in_words(found: RhoRecommendation) -> str:
    return f" Grey: {found.anchor.range_name}, and on the axis the ρ that lie in it." if found.has_range else ""


def _evidence_in_words(anchor: Anchor) -> str:
    return f" What trained best: {anchor.uncertainty}." if anchor.uncertainty else ""


def _unmarked(anchors: Sequence[Anchor], reach: float) -> str:
    """The anchors that have no place on the axis."""
    beyond = [f"{a.title}: ρ = {three_digits(a.rho)}" for a in anchors if a.rho is not None and a.rho > reach]
    never = [a.title for a in anchors if a.rho is None]
    return (f" Beyond the axis: {', '.join(beyond)}." if beyond else "") + (
        f" Not reached by any ρ: {', '.join(never)}." if never else ""
    )


def _range(found: RhoRecommendation, limit: float, reach: float) -> pd.DataFrame:
    softer, sharper = (end if end is not None else np.nan for end in found.band)
    row = {
        "low": found.low * limit,
        "high": found.high * limit,
        "label": f"{found.low * 100:.3g} to {found.high * 100:.3g} % of ln C",
        "label_at": max(found.low, _ON_AXIS) * limit,
        "rho_from": softer,
        "rho_to": min(sharper, reach) if np.isfinite(sharper) else reach,  # an open end
    }
    return pd.DataFrame([row] if found.has_range else [], columns=list(row))


def _flags(anchors: Sequence[Anchor], found: RhoRecommendation, sweep: RhoSweep, reach: float) -> pd.DataFrame:
    """Each anchor on the curve, and the height of its name above the plot: the leftmost is highest, so none meet."""
    shown = sorted((a for a in anchors if a.rho is not None and a.rho <= reach), key=lambda anchor: anchor.rho or 0.0)
    limit = sweep.max_entropy
    return pd.DataFrame(
        {
            "key": [a.key for a in shown],
            "title": [a.title for a in shown],
            "rho": [float(a.rho or 0.0) for a in shown],
            "mean": [float(np.interp(a.rho or 0.0, sweep.rho, sweep.mean)) for a in shown],
            "normalised": [a.target for a in shown],
            "height": [limit * (1 + _FLAG * (len(shown) - place - 0.3)) for place in range(len(shown))],
            "chosen": [a.key == found.anchor.key for a in shown],
            "label": [f"{_FLAGS[a.key]}: {three_digits(a.rho or 0.0)}" for a in shown],
        }
    )


def _reach(sweep: RhoSweep, found: RhoRecommendation, rho: float, anchors: Sequence[Anchor]) -> float:
    """Where the axis ends: beyond every rho that is marked, and where little is left of the entropy."""
    marked = [found.rho, *(end for end in found.band if end is not None)]
    faded = sweep.rho[sweep.mean < _FADED * sweep.max_entropy]
    wanted = min(_BEYOND * max(marked), float(faded[0]) if faded.size else np.inf)
    near = max((a.rho for a in anchors if a.rho is not None and a.rho <= _FAR * max(marked)), default=0.0)
    return max(min(max(wanted, 1.25 * near, 1.1 * max(marked), 1.1 * rho), float(sweep.rho[-1])), rho, found.rho)


def _curve(sweep: RhoSweep, reach: float, model: str) -> pd.DataFrame:
    shown = sweep.rho <= reach * (1 + 1e-9)
    return pd.DataFrame(
        {
            "model": model,
            "rho": sweep.rho[shown],
            "mean": sweep.mean[shown],
            "normalised_mean": sweep.mean[shown] / sweep.max_entropy,
            "spread": sweep.std[shown],
            "q05": sweep.q05[shown],
            "q95": sweep.q95[shown],
            "over_sharp": sweep.over_sharp[shown],
            "over_smoothed": sweep.over_smoothed[shown],
            "at_floor": sweep.at_floor[shown],
        }
    )


def _picks(sweep: RhoSweep, last: float, turn: int) -> pd.DataFrame:
    """One strip a rho that can be picked, with the numbers read between those of the sweep.

    Where they go further than `RHOS` the strips are wider, so that they can be met.
    """
    first = float(sweep.rho[0])
    step = PICK_STEP * max(1, round(last / float(RHOS[-1])))
    offered = step * np.arange(np.ceil(first / step - 1e-9), np.floor(last / step + 1e-9) + 1)
    return pd.DataFrame(
        {
            "rho": offered.round(2),
            "turn": turn,
            "from": offered - step / 2,
            "to": offered + step / 2,
            **{
                name: np.interp(offered, sweep.rho, values)
                for name, values in (
                    ("mean", sweep.mean),
                    ("q05", sweep.q05),
                    ("q95", sweep.q95),
                    ("over_sharp", sweep.over_sharp),
                    ("over_smoothed", sweep.over_smoothed),
                    ("at_floor", sweep.at_floor),
                )
            },
        }
    )


def _tick(limit: float) -> float:
    """A round distance that cuts an axis up to some limit into four to nine."""
    return next(step for step in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if limit / step <= 9)


@lru_cache(maxsize=32)
def _rho_spec(limit: float, with_student: bool, flags: int, height: int) -> dict[str, Any]:
    top = 1 + _FLAG * (flags + 0.2)
    along: dict[str, Any] = {
        "title": "ρ (ratio of the maximum centred logit to the temperature)",
        "scale": alt.Scale(nice=False, zero=True),
        "axis": alt.Axis(tickCount=8, grid=False),
    }
    x = alt.X("rho:Q", **along)
    y_scale = alt.Scale(domain=[0, top * limit], nice=False)
    ticks = np.arange(0, limit, _tick(limit)).round(2).tolist()
    y = alt.Y("mean:Q", title="entropy (nats)", scale=y_scale, axis=alt.Axis(values=ticks))
    dash = alt.StrokeDash(
        "model:N",
        scale=_MODELS,
        legend=alt.Legend(title=None, orient="top", symbolStrokeColor=BLUE) if with_student else None,
    )
    shaded = (
        alt.Chart(named("range"))
        .mark_rect(color=GREY, opacity=0.16)
        .encode(y=alt.Y("low:Q", scale=y_scale), y2="high:Q")
    )
    words = (
        alt.Chart(named("range"))
        .mark_text(align="left", dx=6, dy=11, color=GREY, fontSize=12)
        .encode(x=alt.value(0), y=alt.Y("label_at:Q", scale=y_scale), text="label:N")
    )
    on_axis = (
        alt.Chart(named("range"))
        .mark_rule(color=BLUE, strokeWidth=7, opacity=0.45)
        .encode(x="rho_from:Q", x2="rho_to:Q", y=alt.Y("zero:Q", scale=y_scale))
        .transform_calculate(zero="0")
    )
    band = (
        alt.Chart(named("curve"))
        .mark_area(color=BLUE, opacity=0.2)
        .encode(x=x, y=alt.Y("q05:Q", title="entropy (nats)", scale=y_scale), y2="q95:Q")
    )
    lines = [
        alt.Chart(named(name))
        .mark_line(color=BLUE, strokeWidth=2.5, interpolate="monotone")
        .encode(x=x, y=y, strokeDash=dash)
        for name in ("curve", "student")
    ]
    flag = alt.Chart(named("anchors"))
    chosen, other = flag.transform_filter("datum.chosen"), flag.transform_filter("!datum.chosen")
    name: dict[str, Any] = {"align": "left", "dx": 4, "fontSize": 12}
    above = alt.Y("height:Q", scale=y_scale)
    tooltip = [
        alt.Tooltip("title:N", title="anchor"),
        alt.Tooltip("rho:Q", title="ρ", format=".3g"),
        alt.Tooltip("normalised:Q", title="mean H / ln C", format=".3f"),
    ]
    named_anchors = [
        flag.mark_rule(color=GREY, strokeWidth=1).encode(x=x, y=y, y2="height:Q"),
        other.mark_text(**name, color=GREY).encode(x=x, y=above, text="label:N"),
        chosen.mark_text(**name, color=BLUE, fontWeight=600).encode(x=x, y=above, text="label:N"),
        other.mark_point(shape="diamond", size=70, color=GREY, filled=True, opacity=1).encode(
            x=x, y=y, tooltip=tooltip
        ),
    ]
    point = alt.Chart(named("points")).encode(x=x, y=y)
    recommended = point.transform_filter("datum.kind === 'recommended'")
    now = point.transform_filter("datum.kind === 'now'")
    marks = [
        recommended.mark_point(shape="diamond", size=170, color=BLUE, strokeWidth=2.5, filled=False),
        now.mark_point(shape="circle", size=110, color=BLUE, filled=True, opacity=1),
        now.mark_text(align="right", dx=-11, dy=11, color=BLUE, fontSize=12, fontWeight=600).encode(text="label:N"),
    ]
    picks = (
        alt.Chart(named("picks"))
        .mark_rect(opacity=0, cursor="pointer")
        .encode(
            x=alt.X("from:Q", **along),
            x2="to:Q",
            tooltip=[
                alt.Tooltip("rho:Q", title="ρ", format=".2f"),
                alt.Tooltip("mean:Q", title="mean entropy (nats)", format=".2f"),
                alt.Tooltip("q05:Q", title="5 % (nats)", format=".2f"),
                alt.Tooltip("q95:Q", title="95 % (nats)", format=".2f"),
                *(
                    alt.Tooltip(f"{column.attribute}:Q", title=column.name, format=".1%")
                    for column in profile_columns("over_sharp", "over_smoothed", "at_floor")
                ),
            ],
        )
        .add_params(alt.selection_point(name=PICK, fields=["rho", "turn"], on="click", toggle=False))
    )
    normalised = (
        alt.Chart(named("points"))
        .mark_point(opacity=0)
        .encode(
            y=alt.Y(
                "unit:Q",
                scale=alt.Scale(domain=[0, top], nice=False),
                axis=alt.Axis(
                    title="normalised entropy (H / ln C)",
                    orient="right",
                    grid=False,
                    format=".1f",
                    values=[0, 0.2, 0.4, 0.6, 0.8, 1],
                ),
            )
        )
        .transform_calculate(unit="0")
    )
    below = [shaded, words, band, *lines, on_axis, *named_anchors]
    drawn = alt.layer(*below, *marks, picks)
    chart = alt.layer(drawn, normalised).resolve_scale(y="independent")
    spec = dict(chart.properties(width="container", height=height).to_dict())
    # Not before: Altair would let each chart that has a name take part in the picking.
    for place, name_of_mark in enumerate((RECOMMENDED, NOW, NOW_WORDS), start=len(below)):
        spec["layer"][0]["layer"][place]["name"] = name_of_mark
    return spec


def evidence_figure(evidence: Evidence, found: RhoRecommendation, *, height: int = 240) -> Figure:
    """How well students learned from soft labels of each mean entropy: the runs behind the anchor `TRAINED_BEST`.

    Args:
        evidence: with runs of CIST.
        found: the recommendation, drawn where its mean entropy lies.
        height: in pixels.
    """
    best = {method: found_best for method in ("kd", "cist") if (found_best := evidence.best(method)) is not None}
    cist = best["cist"]
    names = {"kd": "KD", "cist": "CIST"}
    said = f"Our CIST students were best at {_best_in_words(cist)}"
    if "kd" in best:
        said += f", those of KD at {_best_in_words(best['kd'])}"
    title = f"{said}; for CIST {level_sentence(cist)}"
    tried = ", ".join(f"{names[method]} in {one.runs:,} runs" for method, one in sorted(best.items()))
    rows = pd.DataFrame(
        [
            {
                "method": names[point.method],
                "rule": point.rule,
                "normalised": point.normalised_entropy,
                "accuracy": point.accuracy,
                "runs": point.runs,
            }
            for point in sorted(evidence.points, key=lambda point: point.normalised_entropy)
        ]
    )
    low, high = rows["accuracy"].min(), rows["accuracy"].max()
    room = max(0.1 * (high - low), 0.002)
    return Figure(
        title=title,
        caption=(
            f"{evidence.setting}. Each point: the best accuracy on {evidence.validation_samples:,} validation images "
            f"over the learning rates and weights that were tried with one τ or ρ, one seed ({tried}). Shaded: what "
            "cannot be told apart from CIST's best. Dashed: the recommended mean entropy. More in docs/claim.md."
        ),
        alt=f"{title}. Recommended now: {found.target * 100:.3g} % of ln C",
        spec=_evidence_spec(height),
        datasets={
            "evidence": rows,
            "best": pd.DataFrame(
                {"low": [cist.low], "high": [cist.high], "bottom": [low - room], "top": [high + room]}
            ),
            "now": pd.DataFrame({"normalised": [found.target]}),
        },
    )


def _best_in_words(best: TrainedBest) -> str:
    return f"{best.target * 100:.3g} % of ln C (accuracy {best.accuracy * 100:.3g} %)"


@lru_cache(maxsize=8)
def _evidence_spec(height: int) -> dict[str, Any]:
    x = alt.X(
        "normalised:Q",
        title="mean normalised entropy of the soft labels (H / ln C)",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(format=".1f", grid=False, values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
    )
    scale = alt.Scale(zero=False, nice=False)
    y = alt.Y("accuracy:Q", title="accuracy on validation", scale=scale, axis=alt.Axis(format=".1~%", tickCount=5))
    colour = alt.Color(
        "method:N",
        scale=alt.Scale(domain=["KD", "CIST"], range=[AMBER, BLUE]),
        legend=alt.Legend(title=None, orient="top"),
    )
    shaded = (
        alt.Chart(named("best"))
        .mark_rect(color=BLUE, opacity=0.16)
        .encode(
            x=alt.X("low:Q", scale=alt.Scale(domain=[0, 1], nice=False)), x2="high:Q", y=alt.Y("bottom:Q"), y2="top:Q"
        )
    )
    line = alt.Chart(named("evidence")).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour)
    points = (
        alt.Chart(named("evidence"))
        .mark_point(size=70, filled=True, opacity=1)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape(
                "method:N", scale=alt.Scale(domain=["KD", "CIST"], range=["square", "circle"]), legend=None
            ),
            tooltip=[
                alt.Tooltip("rule:N"),
                alt.Tooltip("normalised:Q", title="mean H / ln C", format=".3f"),
                alt.Tooltip("accuracy:Q", title="accuracy on validation", format=".1%"),
                alt.Tooltip("runs:Q", title="runs"),
            ],
        )
    )
    now = alt.Chart(named("now")).mark_rule(color=BLUE, strokeDash=[4, 4], strokeWidth=1.5).encode(x=x)
    chart = alt.layer(shaded, now, line, points)
    return dict(chart.properties(width="container", height=height).to_dict())


def gain_figure(
    curve: GainCurve,
    found: RhoRecommendation,
    fixed: RuleReading,
    cist: RuleReading,
    *,
    student: GainCurve | None = None,
    height: int = 320,
) -> Figure:
    """The consistency gain against the mean entropy, with the region in which CIST is the less consistent one.

    Args:
        curve: of the teacher.
        found: for its range.
        fixed: the fixed temperature that is set now.
        cist: CIST as it is set now; the pair is drawn where the mean entropies are the same.
        student: of the student, on the same samples.
        height: in pixels.
    """
    title = gain_sentence(curve, found.low, found.high)
    rows = _gains(curve, _TEACHER)
    others = _gains(student, _STUDENT) if student is not None else rows.iloc[:0]
    known = np.concatenate([rows["gain"], others["gain"]])
    return Figure(
        title=title,
        caption=(
            "Spread at a fixed temperature over spread under CIST, both at the same mean entropy; a gain of 2 and one "
            f"of 1/2 are as far from 1. Dotted: {found.anchor.range_name if found.has_range else 'the recommended ρ'}."
            + (" Dashed: the student." if student is not None else "")
        ),
        alt=title,
        spec=_gain_spec(student is not None, height),
        datasets={
            "gain": rows,
            "student": others,
            "region": pd.DataFrame(
                {
                    "bottom": [min(0.5, 0.9 * np.min(known, initial=1.0))],
                    "one": [1.0],
                    "top": [max(2.0, 1.15 * np.max(known, initial=1.0))],
                    "label": ["CIST less consistent here"],
                }
            ),
            "range": pd.DataFrame({"normalised": sorted({found.low, found.high})}),
            "now": _now(fixed, cist),
        },
    )


def _gains(curve: GainCurve, model: str) -> pd.DataFrame:
    known = np.isfinite(curve.gain) & (curve.gain > 0)
    return pd.DataFrame(
        {
            "model": model,
            "normalised": curve.normalised[known],
            "mean": curve.mean_entropy[known],
            "rho": curve.rho[known],
            "tau": curve.tau[known],
            "spread_fixed": curve.std_fixed[known],
            "spread_cist": curve.std_cist[known],
            "gain": curve.gain[known],
        }
    )


def _now(fixed: RuleReading, cist: RuleReading) -> pd.DataFrame:
    gain = consistency_gain(fixed.profile, cist.profile) if are_matched(fixed.profile, cist.profile) else None
    rows = [] if not gain else [(cist.profile.normalised_mean, gain, f"now {three_digits(gain)} ×")]
    return pd.DataFrame(rows, columns=["normalised", "gain", "label"])


@lru_cache(maxsize=8)
def _gain_spec(with_student: bool, height: int) -> dict[str, Any]:
    x = alt.X(
        "normalised:Q",
        title="mean normalised entropy (H / ln C)",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(format=".1f", grid=False, tickCount=10),
    )
    up: dict[str, Any] = {
        "title": "consistency gain (×)",
        "scale": alt.Scale(type="log", base=2, nice=False),
        "axis": alt.Axis(values=[2.0**k for k in range(-6, 11)], format="~g"),
    }
    y = alt.Y("gain:Q", **up)
    dash = alt.StrokeDash(
        "model:N",
        scale=_MODELS,
        legend=alt.Legend(title=None, orient="top", symbolStrokeColor=BLUE) if with_student else None,
    )
    region = alt.Chart(named("region"))
    shaded = region.mark_rect(color=GREY, opacity=0.2).encode(y=alt.Y("bottom:Q", **up), y2="one:Q")
    even = region.mark_rule(color=GREY, strokeWidth=1.5).encode(y=alt.Y("one:Q", **up))
    room = region.mark_point(opacity=0).encode(y=alt.Y("top:Q", **up))
    words = region.mark_text(align="left", dx=8, dy=12, color=GREY, fontSize=12, fontWeight=600).encode(
        x=alt.value(0), y=alt.Y("one:Q", **up), text="label:N"
    )
    ends = alt.Chart(named("range")).mark_rule(color=GREY, strokeDash=[2, 3], strokeWidth=1.5).encode(x=x)
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("normalised:Q", title="mean H / ln C", format=".3f"),
        alt.Tooltip("gain:Q", title="consistency gain", format=".2f"),
        alt.Tooltip("rho:Q", title="ρ", format=".2f"),
        alt.Tooltip("tau:Q", title="matched τ", format=".3f"),
        alt.Tooltip("spread_fixed:Q", title="spread fixed (nats)", format=".3f"),
        alt.Tooltip("spread_cist:Q", title="spread CIST (nats)", format=".3f"),
    ]
    lines = [
        layer
        for name in ("gain", "student")
        for layer in (
            alt.Chart(named(name))
            .mark_line(color=BLUE, strokeWidth=2.5, interpolate="monotone")
            .encode(x=x, y=y, strokeDash=dash),
            # Larger than they look, so that the pointer need not hit the line itself.
            alt.Chart(named(name)).mark_point(size=140, opacity=0, filled=True).encode(x=x, y=y, tooltip=tooltip),
        )
    ]
    now = alt.Chart(named("now")).encode(x=x, y=y)
    marks = [
        now.mark_point(shape="circle", size=110, color=BLUE, filled=True, opacity=1),
        now.mark_text(align="right", dx=-11, dy=-9, color=BLUE, fontSize=12, fontWeight=600).encode(text="label:N"),
    ]
    chart = alt.layer(shaded, even, room, ends, words, *lines, *marks)
    return dict(chart.properties(width="container", height=height).to_dict())
