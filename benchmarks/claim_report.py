"""The tables and figures of docs/claim.md, from the runs that claim.py has trained."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
from claim import SETTINGS, Choice, Runs, ablation, methods, score
from scipy import stats

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURES = DOCS / "claim.md", DOCS / "figures"
START, END = "<!-- tables: made by benchmarks/claim.py report -->", "<!-- end of tables -->"
REFERENCE = "KD, tau tuned"
AMBER, BLUE, GREY = "#C77700", "#2E7FD1", "#7F8694"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval by Student's t."""
    if len(values) < 2:
        return statistics.fmean(values), math.nan
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(stats.t.ppf(0.975, len(values) - 1)) * spread


def points(value: float, half: float, *, sign: bool = False) -> str:
    return f"{100 * value:{'+' if sign else ''}.1f} ± {100 * half:.1f}"


def write_report() -> None:
    """Replace what stands between the marks in docs/claim.md, and draw the figures."""
    parts: list[str] = []
    finals: list[dict[str, Any]] = []
    for name, setting in SETTINGS.items():
        runs = Runs(name, read_only=True)
        chosen = dict(methods(runs))
        parts += [f"### {setting.title}", "", *_methods_table(runs, chosen, finals), ""]
        if setting.ablated_weightings:
            parts += ["Gradient mode and weighting at the recommended rho, each at its own best learning rate:", ""]
            parts += [*_ablation_table(runs), ""]
    _draw_finals(pd.DataFrame(finals))
    _draw_searches()
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + START + "\n\n" + "\n".join(parts) + "\n" + END + after, encoding="utf-8")


def _methods_table(runs: Runs, chosen: dict[str, Choice], finals: list[dict[str, Any]]) -> list[str]:
    seeds = runs.setting.final_seeds
    rows = {
        method: [runs.get(choice.objective, choice.learning_rate, seed) for seed in seeds]
        for method, choice in chosen.items()
    }
    reference = [row["test_accuracy"] for row in rows[REFERENCE]]
    lines = [
        f"Recommended rho {runs.setting.recommended_rho:g}; {len(seeds)} seeds, none of them used for tuning.",
        "",
        "| method | chosen on validation | test, last epoch (%) | against KD, same seeds | test at best epoch (%) "
        "| ECE (%) | spread of teacher entropy (nats) |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, trained in rows.items():
        accuracies = [row["test_accuracy"] for row in trained]
        mean, half = interval(accuracies)
        against = points(*interval([a - b for a, b in zip(accuracies, reference, strict=True)]), sign=True)
        spread = [row["teacher_entropy_std"] for row in trained if "teacher_entropy_std" in row]
        cells = [
            method,
            f"`{chosen[method].objective}`, learning rate {chosen[method].learning_rate:g}",
            points(mean, half),
            "" if method == REFERENCE else against,
            points(*interval([row["test_accuracy_at_best"] for row in trained])),
            f"{100 * statistics.fmean(row['test_ece'] for row in trained):.1f}",
            f"{statistics.fmean(spread):.3f}" if spread else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
        finals.append(
            {"setting": runs.setting.title, "method": method, "mean": mean, "low": mean - half, "high": mean + half}
        )
    return lines


def _ablation_table(runs: Runs) -> list[str]:
    lines = [
        "| gradient | weighting | learning rate | validation (%) | student's centred maximum |",
        "|---|---|---|---|---|",
    ]
    for (gradient, weighting), choice in ablation(runs).items():
        trained = [runs.get(choice.objective, choice.learning_rate, seed) for seed in runs.setting.tuning_seeds]
        accuracies = [row.get("val_accuracy", 0.0) for row in trained]
        maxima = [row["student_maximum_mean"] for row in trained if "student_maximum_mean" in row]
        mean, half = interval(accuracies)
        shown = f"{100 * mean:.1f}" if math.isnan(half) else points(mean, half)
        scale = f"{statistics.fmean(maxima):.3g}" if maxima else "diverged"
        lines.append(f"| {gradient} | {weighting} | {choice.learning_rate:g} | {shown} | {scale} |")
    return lines


def _draw_finals(table: pd.DataFrame) -> None:
    kinds = {
        "KD, tau tuned": AMBER,
        "CIST, rho recommended": BLUE,
        "CIST, rho tuned": BLUE,
        "CIST + DKD, rho recommended": BLUE,
    }
    methods_ = list(dict.fromkeys(table["method"]))
    colour = alt.Color(
        "method:N", legend=None, scale=alt.Scale(domain=methods_, range=[kinds.get(name, GREY) for name in methods_])
    )
    base = alt.Chart(table).encode(y=alt.Y("method:N", sort=methods_, title=None, axis=alt.Axis(labelLimit=260)))
    x = alt.X(
        "mean:Q",
        title="Test accuracy, last epoch (mean, 95 % interval)",
        scale=alt.Scale(zero=False),
        axis=alt.Axis(format=".1%"),
    )
    layered = base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q", color=colour)
    layered += base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="mean:Q", color=colour)
    layered += base.mark_point(size=70, filled=True, opacity=1).encode(x=x, color=colour)
    chart = layered.properties(width=560, height=190).facet(
        row=alt.Row(
            "setting:N",
            sort=[s.title for s in SETTINGS.values()],
            title=None,
            header=alt.Header(labelOrient="top", labelAnchor="start", labelFontSize=13),
        )
    )
    _save(chart.resolve_scale(x="independent"), "claim-methods")


def _draw_searches() -> None:
    """Validation accuracy against the hyper-parameter, at the best learning rate tried for each value."""
    records = []
    for name, setting in SETTINGS.items():
        runs = Runs(name, read_only=True)
        best: dict[tuple[str, float], float] = defaultdict(float)
        for row in runs.known():
            method, _, parameters = row["objective"].partition(":")
            if method not in ("kd", "cist") or "," in parameters or row["seed"] not in setting.tuning_seeds:
                continue
            value = float(parameters.partition("=")[2] or 4)
            try:
                mean = score(runs, row["objective"], row["learning_rate"], setting.tuning_seeds)
            except KeyError:
                continue
            best[method, value] = max(best[method, value], mean)
        for (method, value), mean in best.items():
            rule = "KD: tau" if method == "kd" else "CIST: rho"
            records.append({"setting": setting.title, "rule": rule, "value": value, "validation": mean})
    chart = (
        alt.Chart(pd.DataFrame(records))
        .mark_line(point=alt.OverlayMarkDef(size=60), strokeWidth=2)
        .encode(
            x=alt.X("value:Q", scale=alt.Scale(type="log"), title="Temperature tau of KD, ratio rho of CIST"),
            y=alt.Y(
                "validation:Q", scale=alt.Scale(zero=False), title="Validation accuracy", axis=alt.Axis(format=".1%")
            ),
            color=alt.Color(
                "rule:N",
                title=None,
                scale=alt.Scale(domain=["KD: tau", "CIST: rho"], range=[AMBER, BLUE]),
                legend=alt.Legend(orient="top"),
            ),
        )
        .properties(width=560, height=170)
        .facet(
            row=alt.Row(
                "setting:N",
                sort=[s.title for s in SETTINGS.values()],
                title=None,
                header=alt.Header(labelOrient="top", labelAnchor="start", labelFontSize=13),
            )
        )
        .resolve_scale(x="independent", y="independent")
    )
    _save(chart, "claim-search")


def _save(chart: alt.FacetChart, name: str) -> None:
    FIGURES.mkdir(exist_ok=True)
    chart.configure(background="white", font="sans-serif").save(FIGURES / f"{name}.svg")
