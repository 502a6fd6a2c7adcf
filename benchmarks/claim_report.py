"""The tables and figures of docs/claim.md and the library's evidence, from the runs that claim.py has trained."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from claim_factorial import (
    FACTORIALS,
    LAMBDAS,
    RHO,
    TEMPERATURES,
    WEIGHTS,
    Cell,
    Factorial,
    cells,
    learning_rate,
    matched_taus,
)
from claim_search import LIMITS, Found, Runs, found, what_is_open
from claim_settings import SETTINGS, Setting
from scipy import stats
from students import Lesson

from cist_core import EntropyCurves, LogitSet, parse_rule
from cist_core.objectives import Objective, create_objective

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURES = ROOT / "docs" / "claim.md", ROOT / "docs" / "figures"
EVIDENCE = ROOT / "cist_core" / "compare" / "evidence.json"
START, END = "<!-- tables: made by benchmarks/claim.py report -->", "<!-- end of tables -->"
REFERENCE = "kd"
AMBER, BLUE, GREY = "#C77700", "#2E7FD1", "#7F8694"
Row = dict[str, Any]
Chance = tuple[float, float]
"""Learning rate and lambda_KL."""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval by Student's t; NaN for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def points(values: Sequence[float], *, sign: bool = False) -> str:
    """Percentage points with their interval; a dash for no values."""
    if not values:
        return "–"
    mean, half = interval(values)
    shown = f"{100 * mean:{'+' if sign else ''}.1f}"
    return shown if math.isnan(half) else f"{shown} ± {100 * half:.1f}"


@dataclass(frozen=True)
class Reported:
    """One method in one setting: what was chosen, and the runs that are reported."""

    title: str
    state: Found
    objective: str
    rows: list[Row]
    tried: int
    again: dict[str, list[Row]]
    """Runs that were trained once more on another device, by device."""

    @property
    def kept(self) -> list[Row]:
        """Those that did not diverge."""
        return [row for row in self.rows if "test_accuracy" in row]

    def column(self, name: str) -> list[float]:
        return [float(row[name]) for row in self.kept]


def reported(runs: Runs, name: str) -> dict[str, Reported]:
    setting, results = SETTINGS[name], {}
    for key, method in setting.methods.items():
        state = found(runs, SETTINGS, name, key)
        rows, objective, again = [], "", {}
        if state.best is not None:
            objective = method.objective(state.best)
            trained = (runs.get(name, objective, state.best["learning_rate"], seed) for seed in setting.final_seeds)
            rows = [row for row in trained if row is not None]
            again = runs.again(name, objective, state.best["learning_rate"], setting.final_seeds)
        results[key] = Reported(method.title, state, objective, rows, state.tried, again)
    return results


def against(one: Reported, reference: Reported) -> list[float]:
    """Differences in test accuracy, seed by seed, on the same device where the reference was trained there too."""
    return [row["test_accuracy"] - theirs["test_accuracy"] for row, theirs in _pairs(one, reference)]


def _pairs(one: Reported, reference: Reported) -> Iterator[tuple[Row, Row]]:
    theirs = {row["seed"]: row for row in reference.kept}
    there = {(row["device"], row["seed"]): row for rows in reference.again.values() for row in rows}
    for row in one.kept:
        if row["seed"] in theirs:
            yield row, there.get((row["device"], row["seed"]), theirs[row["seed"]])


def write_report(runs: Runs, images: Path | None) -> None:
    """Replace what stands between the marks in docs/claim.md, draw the figures, and write the library's evidence."""
    FIGURES.mkdir(exist_ok=True)
    parts: list[str] = []
    for name, setting in SETTINGS.items():
        results = reported(runs, name)
        if setting.start_from is None and any(result.rows for result in results.values()):
            parts += [f"### {setting.title}", "", *_methods_table(setting, results), ""]
    parts += ["### What does it?", "", *_factorial_notes()]
    unfinished = []
    for name, factorial in FACTORIALS.items():
        table = list(_factorial(runs, name, factorial, SETTINGS[factorial.setting].lesson(images)))
        parts += ["", *table]
        if any("| open " in line for line in table):
            unfinished.append(f"{SETTINGS[factorial.setting].title}: combinations of the parts of CIST")
    parts.append("")
    parts += ["### Where must it win or lose?", "", *_conditions_tables(runs)]
    # Half of a search says which rules were tried first, and no more.
    searched = [name for name in SETTINGS if all(found(runs, SETTINGS, name, key).best for key in ("kd", "cist"))]
    evidence = [entry for name in searched if (entry := evidence_of(runs, name, images)) is not None]
    EVIDENCE.write_text(json.dumps(evidence, indent=1) + "\n", encoding="utf-8")
    parts += ["### Which entropy trains best?", "", *_entropy_table(evidence), ""]
    parts += ["### Still open", "", *_open([*what_is_open(runs, SETTINGS), *unfinished]), ""]
    _draw_methods(runs)
    _draw_evidence(evidence)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + START + "\n\n" + "\n".join(parts) + "\n" + END + after, encoding="utf-8")


# ------------------------------------------------------------------------------------------------------ tables


def _methods_table(setting: Setting, results: dict[str, Reported]) -> Iterator[str]:
    yield (
        f"{len(setting.final_seeds)} seeds, none of them used for tuning; `n` where fewer are trained yet. Ordered by "
        "test accuracy."
    )
    yield ""
    yield (
        "| method | chosen on validation | runs to choose | test, last epoch (%) | against KD, same seeds | "
        "NLL, fitted (nats) | ECE, fitted (%) | student's centred maximum |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    trained = [one for result in results.values() for one in (result, *_once_more(result)) if one.kept]
    for result in sorted(trained, key=lambda result: -statistics.fmean(result.column("test_accuracy"))):
        assert result.state.best is not None
        missing = len(setting.final_seeds) - len(result.rows)
        title = result.title + (f" (n = {len(result.rows)})" if missing else "") + _mark(result, results[REFERENCE])
        difference = (
            ""
            if result.objective == results[REFERENCE].objective
            else points(against(result, results[REFERENCE]), sign=True)
        )
        diverged = len(result.rows) - len(result.kept)
        cells = [
            title,
            f"`{result.objective}`, learning rate {result.state.best['learning_rate']:g}{_limits(result.state.best)}",
            str(result.tried),
            points(result.column("test_accuracy")) + (f", {diverged} diverged" if diverged else ""),
            difference,
            f"{_mean(result, 'test_nll'):.2f}, {_mean(result, 'test_nll_fitted'):.2f}",
            f"{100 * _mean(result, 'test_ece'):.1f}, {100 * _mean(result, 'test_ece_fitted'):.1f}",
            f"{_mean(result, 'student_maximum'):.3g}",
        ]
        yield "| " + " | ".join(cells) + " |"


def _once_more(result: Reported) -> Iterator[Reported]:
    """The same runs as another device has trained them, each a line of its own."""
    for device, rows in result.again.items():
        where = "a CPU" if device == "cpu" else f"an {device}"
        yield replace(result, title=f"{result.title}, once more on {where}", rows=rows, again={})


def _mark(result: Reported, reference: Reported) -> str:
    """Where runs are compared with those of another device."""
    return " †" if any(row["device"] != theirs["device"] for row, theirs in _pairs(result, reference)) else ""


def _limits(best: dict[str, float]) -> str:
    """Which parameters have a value that the search could not go beyond."""
    names = [name for name, value in best.items() if not 2 * LIMITS[name][0] <= value <= LIMITS[name][1] / 2]
    return f" (limit of {' and '.join(name.replace('_', ' ') for name in names)})" if names else ""


def _mean(result: Reported, column: str) -> float:
    return statistics.fmean(result.column(column))


def _factorial_notes() -> Iterator[str]:
    yield (
        f"The parts of CIST switched on one by one, at rho {RHO:g}, in the gradient mode `constant` at either floor, "
        "and at the learning rate that suited CIST best; the other combinations are not tuned. One temperature for "
        "all is that of the same mean entropy, and its weight is its square. Test accuracy of the last epoch, in %; a "
        "student that diverged counts as 0."
    )


def _factorial(runs: Runs, name: str, factorial: Factorial, lesson: Lesson) -> Iterator[str]:
    title, rate = SETTINGS[factorial.setting].title, learning_rate(runs, factorial.setting)
    if rate is None:
        yield f"{title}: waits for CIST to be tuned there."
        return
    taus = matched_taus(lesson)
    rows = {cell: _factorial_rows(runs, factorial, cell.objective(taus), rate) for cell in cells()}
    yield (
        f"{title}: learning rate {rate:g}, {len(factorial.seeds)} seeds, one temperature for all "
        f"{' and '.join(f'{tau:g}' for tau in dict.fromkeys(taus.values()))}."
    )
    yield ""
    done = {cell: statistics.fmean(found_at) for cell, found_at in rows.items() if found_at is not None}
    if len(done) == len(rows):
        _draw_factorial(done, f"claim-{name}")
        yield f"![Test accuracy of every combination](figures/claim-{name}.svg)"
        yield ""
    yield "| temperatures | weight | floor | " + " | ".join(f"lambda_KL {value:g}" for value in LAMBDAS) + " |"
    yield "|---|---|---|" + "---|" * len(LAMBDAS)
    lines: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells():
        if cell.lambda_kl == LAMBDAS[0]:
            line = tuple(replace(cell, lambda_kl=value).objective(taus) for value in LAMBDAS)
            lines.setdefault(line, []).append(cell)
    for line, alike in lines.items():
        # Where one temperature fits both floors, they are one line.
        floors = ", ".join(f"{cell.floor:g}" for cell in alike)
        found_there = [_factorial_rows(runs, factorial, objective, rate) for objective in line]
        shown = ["open" if values is None else points(values) for values in found_there]
        weight = "its square" if alike[0].temperatures == "global" else WEIGHTS[alike[0].weight]
        yield f"| {TEMPERATURES[alike[0].temperatures]} | {weight} | {floors} | " + " | ".join(shown) + " |"


def _factorial_rows(runs: Runs, factorial: Factorial, objective: str, rate: float) -> list[float] | None:
    """Test accuracies over the seeds; None before all of them are trained. A student that diverged has 0."""
    rows = [runs.get(factorial.setting, objective, rate, seed) for seed in factorial.seeds]
    found_there = [row for row in rows if row is not None]
    return [float(row.get("test_accuracy", 0.0)) for row in found_there] if len(found_there) == len(rows) else None


def _conditions_tables(runs: Runs) -> Iterator[str]:
    yield (
        "Test accuracy of the last epoch (%); in brackets the difference to KD, seed by seed; `n` where fewer "
        "seeds are trained yet. Each method is tuned anew under each condition, from what suited it without."
    )
    for ground in dict.fromkeys(setting.start_from for setting in SETTINGS.values() if setting.start_from is not None):
        names = [name for name, setting in SETTINGS.items() if setting.start_from == ground]
        titles = {key: method.title for name in names for key, method in SETTINGS[name].methods.items()}
        rates = "learning rate included" if SETTINGS[names[0]].tunes_rate else "at the learning rate of the first row"
        yield from ("", f"{SETTINGS[ground].title}; {len(SETTINGS[names[0]].final_seeds)} seeds, tuned {rates}:", "")
        yield "| condition | " + " | ".join(titles.values()) + " |"
        yield "|---|" + "---|" * len(titles)
        for name in (ground, *names):
            title = "None of them" if name == ground else SETTINGS[name].title.partition(";")[0]
            cells = _condition_cells(reported(runs, name), titles, len(SETTINGS[name].final_seeds))
            yield f"| {title} | " + " | ".join(cells) + " |"
    yield ""


def _condition_cells(results: dict[str, Reported], methods: Iterable[str], seeds: int) -> Iterator[str]:
    for key in methods:
        if key not in results:
            yield "not tried"
            continue
        result = results[key]
        text = points(result.column("test_accuracy")) if result.kept else "open"
        text += _mark(result, results[REFERENCE])
        difference = against(result, results[REFERENCE])
        text += f" ({points(difference, sign=True)})" if key != REFERENCE and difference else ""
        yield text + (f", n = {len(result.rows)}" if 0 < len(result.rows) < seeds else "")


def _open(lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        yield "Nothing."
        return
    yield "Trained by `python benchmarks/claim.py run`, which goes on where it stopped:"
    yield ""
    yield from (f"- {line}" for line in lines)


# ---------------------------------------------------------------------------------------------------- evidence


def _rule_of(objective: Objective) -> str | None:
    """The rule of the teacher's soft labels, for the objectives that the evidence is about."""
    values = objective.config()
    if objective.name == "kd":
        return f"tau={values['tau']:g}"
    if objective.name == "cist" and values["floor"] == 1.0 and values["weighting"] == "product":
        return f"cist:rho={values['rho']:g}"
    return None


def evidence_of(runs: Runs, name: str, images: Path | None) -> dict[str, Any] | None:
    """For the temperatures and the rhos that were tried alike: the entropy of the labels, and the best accuracy."""
    setting = SETTINGS[name]
    if setting.tuned_in is not None or setting.start_from is not None:
        return None
    tried: dict[str, dict[str, dict[Chance, float]]] = {}
    for row in runs.of(name):
        objective = create_objective(row["objective"])
        rule = _rule_of(objective)
        if rule is not None and row["seed"] == setting.tuning_seed:
            chance = (row["learning_rate"], objective.config()["lambda_kl"])
            tried.setdefault(objective.name, {}).setdefault(rule, {})[chance] = row["val_accuracy"]
    best: dict[str, Row] = {}
    others: dict[str, Row] = {}
    for accuracies in tried.values():
        chances = _common_chances(accuracies)
        best |= {
            rule: {"accuracy": max(found_at[chance] for chance in chances), "runs": len(chances)}
            for rule, found_at in accuracies.items()
            if chances <= found_at.keys()
        }
        # A rule that did best with chances of its own says that the fair comparison has not found all there is.
        rule = max(accuracies, key=lambda rule: max(accuracies[rule].values()))
        others[rule] = {"accuracy": max(accuracies[rule].values()), "runs": len(accuracies[rule])}
    if not best:
        return None
    lesson = setting.lesson(images)
    assert lesson.teacher_logits is not None
    curves = EntropyCurves.from_logits(LogitSet.create(lesson.teacher_logits.numpy()))
    for rule, point in [*best.items(), *others.items()]:
        entropy = float(np.mean(parse_rule(rule).entropy(curves), dtype=np.float64))
        point["normalised_entropy"] = round(entropy / curves.max_entropy, 4)
    return {
        "setting": setting.title,
        "classes": curves.num_classes,
        "validation_samples": len(lesson.validation[1]),
        "points": [{"rule": rule, **point} for rule, point in sorted(best.items(), key=_by_entropy)],
        "others": [{"rule": rule, **point} for rule, point in sorted(others.items(), key=_by_entropy)],
    }


def _common_chances(accuracies: dict[str, dict[Chance, float]]) -> set[Chance]:
    """The pairs of learning rate and lambda_KL that the most rules were tried with: a fair comparison has no others.

    A rule is left out where the others have more than twice as many in common without it.
    """

    def common(rules: frozenset[str]) -> set[Chance]:
        return set.intersection(*(set(accuracies[rule]) for rule in rules))

    tried = {chance for found_at in accuracies.values() for chance in found_at}
    rules = max(
        (frozenset(rule for rule, found_at in accuracies.items() if chance in found_at) for chance in tried), key=len
    )
    while len(rules) > 1:
        fewer = max((rules - {rule} for rule in sorted(rules)), key=lambda those: len(common(those)))
        if len(common(fewer)) <= 2 * len(common(rules)):
            break
        rules = fewer
    return common(rules)


def _by_entropy(item: tuple[str, Row]) -> tuple[str, float]:
    rule, point = item
    return rule.partition("=")[0], point["normalised_entropy"]


def _entropy_table(evidence: list[dict[str, Any]]) -> Iterator[str]:
    from cist_core.compare.evidence import parse_evidence

    yield (
        "Best accuracy on validation over the pairs of learning rate and lambda_KL that every listed temperature or "
        "rho was tried with (one seed), so that none had more chances than another. A range holds every value that is "
        "not significantly below the best: within 1.96 standard errors of a difference of two accuracies on that many "
        "validation samples. Where a rule did better with a pair of its own, that stands beside it; where it lies "
        "outside the range, the app takes no default from the setting."
    )
    yield ""
    yield "| setting | labels of | best | its accuracy (%) | its mean entropy / ln C | range of mean entropy / ln C |"
    yield "|---|---|---|---|---|---|"
    for entry in parse_evidence(evidence):
        for method in ("kd", "cist"):
            found_best = entry.best(method)
            if found_best is not None:
                better = found_best.better
                against = (
                    f"; but `{better.rule}` at {better.normalised_entropy:.2f} reached {100 * better.accuracy:.1f} %"
                    if better is not None
                    else ""
                )
                yield (
                    f"| {entry.setting} | {method.upper()} | `{found_best.rule}` | {100 * found_best.accuracy:.1f} | "
                    f"{found_best.target:.2f} | {found_best.low:.2f} to {found_best.high:.2f}{against} |"
                )


# ----------------------------------------------------------------------------------------------------- figures


def _draw_methods(runs: Runs) -> None:
    records = []
    for name, setting in SETTINGS.items():
        if setting.start_from is not None:
            continue
        for key, result in reported(runs, name).items():
            if len(result.kept) > 1:
                mean, half = interval(result.column("test_accuracy"))
                kind = "CIST" if key.startswith("cist") else "KD" if key.startswith("kd") else "other"
                records.append(
                    {"setting": setting.title, "method": result.title, "kind": kind}
                    | {"mean": mean, "low": mean - half, "high": mean + half}
                )
    if not records:
        return
    table = pd.DataFrame(records)
    colour = alt.Color(
        "kind:N", legend=None, scale=alt.Scale(domain=["KD", "CIST", "other"], range=[AMBER, BLUE, GREY])
    )
    charts = []
    for title, part in table.groupby("setting", sort=False):
        order = part.sort_values("mean", ascending=False)["method"].tolist()
        # A fixed extent: the width of text is measured without the browser's fonts, and would cut the longest label.
        methods = alt.Axis(labelLimit=320, minExtent=270)
        base = alt.Chart(part).encode(y=alt.Y("method:N", sort=order, title=None, axis=methods))
        axis = alt.X(
            "low:Q",
            title="Test accuracy, last epoch (mean, 95 % interval)",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(format=".0%", tickCount=8),
        )
        layers = base.mark_rule(strokeWidth=2).encode(x=axis, x2="high:Q", color=colour)
        layers += base.mark_point(size=70, filled=True, opacity=1).encode(x=alt.X("mean:Q"), color=colour)
        charts.append(
            layers.properties(width=560, height=22 * len(order), title=alt.TitleParams(title, anchor="start"))
        )
    _save(alt.vconcat(*charts).resolve_scale(x="independent"), "claim-methods")


def _draw_factorial(accuracies: dict[Cell, float], file_name: str) -> None:
    table = pd.DataFrame(
        {
            "temperatures": TEMPERATURES[cell.temperatures],
            "weight": f"weight: {WEIGHTS[cell.weight]}",
            "floor": f"floor {cell.floor:g}",
            "lambda_kl": cell.lambda_kl,
            "accuracy": accuracy,
        }
        for cell, accuracy in accuracies.items()
    )
    lines = (
        alt.Chart(table)
        .mark_line(point=True, strokeWidth=2)
        .encode(
            x=alt.X(
                "lambda_kl:Q",
                title="lambda_KL",
                scale=alt.Scale(type="log", base=2),
                axis=alt.Axis(values=list(LAMBDAS)),
            ),
            y=alt.Y("accuracy:Q", title="Test accuracy", scale=alt.Scale(zero=False), axis=alt.Axis(format=".0%")),
            color=alt.Color(
                "temperatures:N",
                title=None,
                scale=alt.Scale(
                    domain=[TEMPERATURES[name] for name in ("global", "teacher", "both")], range=[AMBER, GREY, BLUE]
                ),
                legend=alt.Legend(orient="top", direction="vertical", labelLimit=500),
            ),
        )
        .properties(width=270, height=170)
        .facet(column=alt.Column("floor:N", title=None), row=alt.Row("weight:N", title=None))
    )
    _save(lines, file_name)


def _draw_evidence(evidence: list[dict[str, Any]]) -> None:
    records = [
        {
            "setting": entry["setting"],
            "labels": "KD" if point["rule"].startswith("tau") else "CIST",
            "value": point["rule"].rpartition("=")[2],
            **point,
        }
        for entry in evidence
        for point in entry["points"]
    ]
    if not records:
        return
    colour = alt.Color(
        "labels:N",
        title="labels of",
        scale=alt.Scale(domain=["KD", "CIST"], range=[AMBER, BLUE]),
        legend=alt.Legend(orient="top"),
    )
    charts = []
    for title, part in pd.DataFrame(records).groupby("setting", sort=False):
        x = alt.X(
            "normalised_entropy:Q",
            title="Mean entropy of the teacher's soft labels / ln C",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(tickCount=6),
        )
        y = alt.Y(
            "accuracy:Q",
            title="Best validation accuracy",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(format=".1%"),
        )
        base = alt.Chart(part).encode(x=x, y=y, color=colour)
        layers = base.mark_line(strokeWidth=2) + base.mark_point(size=60, filled=True, opacity=1)
        for labels, symbol, dy in (("CIST", "ρ", -12), ("KD", "τ", 14)):
            names = alt.Chart(_names(part[part["labels"] == labels], symbol, above=dy < 0)).encode(
                x=x, y=y, color=colour
            )
            layers += names.mark_text(dy=dy, fontSize=10).encode(text="name:N")
        charts.append(layers.properties(width=600, height=220, title=alt.TitleParams(title, anchor="start")))
    _save(alt.vconcat(*charts).resolve_scale(y="independent"), "claim-entropy")


def _names(points: pd.DataFrame, symbol: str, *, above: bool) -> pd.DataFrame:
    """What stands beside points of one kind; one text for those that lie so close that theirs would overlap."""
    ordered = points.sort_values("normalised_entropy", kind="stable")
    groups = (ordered["normalised_entropy"].diff() > 0.02).cumsum()
    return pd.DataFrame(
        {
            "labels": group["labels"].iloc[0],
            "name": f"{symbol} {', '.join(sorted(group['value'], key=float))}",
            "normalised_entropy": group["normalised_entropy"].mean(),
            "accuracy": group["accuracy"].max() if above else group["accuracy"].min(),
        }
        for _, group in ordered.groupby(groups)
    )


def _save(chart: alt.VConcatChart | alt.FacetChart, name: str) -> None:
    chart.configure(background="white", font="sans-serif").save(FIGURES / f"{name}.svg")
