"""One self-contained HTML file with the charts and tables of an analysis; it opens without a network.

Its first charts follow two sliders without a server: every position is in the file (`cist_core.compare.slider_grid`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import pandas as pd

from cist_core.charts import (
    Figure,
    histogram_figure,
    per_class_figure,
    ratio_figure,
    stacked_histograms,
    variance_figure,
)
from cist_core.charts.figure import slots
from cist_core.charts.legible import with_legible_words
from cist_core.charts.moving_ratio import BEYOND, equal_others_curve, moving_ratio_figure
from cist_core.charts.pictures import DARK, LIGHT, Theme, vega_config
from cist_core.charts.rho import gain_figure, rho_figure
from cist_core.compare.anchors import find_anchors
from cist_core.compare.findings import are_matched, gain_words, rule_label, rule_sentences
from cist_core.compare.recommendation import recommend_rho
from cist_core.compare.rho_curves import gain_curve, rho_sweep
from cist_core.compare.slider_grid import (
    NOTES,
    NUMBERS,
    Position,
    SliderGrid,
    number_words,
    rho_sentences,
    slider_grid,
    slider_javascript,
)
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.files import write_whole
from cist_core.logits.accuracy import judge_accuracy
from cist_core.logits.choices import CLIPPED, chosen_at
from cist_core.logits.logit_set import LogitSet
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.columns import COLUMNS, profile_columns
from cist_core.temperature.readings import RuleReading
from cist_core.wording import percent, three_digits


def write_report(
    path: str | os.PathLike[str],
    logit_set: LogitSet,
    curves: EntropyCurves,
    readings: Sequence[RuleReading],
    *,
    slices: pd.DataFrame | None = None,
) -> None:
    """Write the report of some readings of one set of logits; the file appears whole or not at all.

    Args: see `render_report`.

    Raises:
        CistError: if the file cannot be written.
    """
    text = render_report(logit_set, curves, readings, slices=slices)
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"), what="The report")


def render_report(
    logit_set: LogitSet,
    curves: EntropyCurves,
    readings: Sequence[RuleReading],
    *,
    slices: pd.DataFrame | None = None,
) -> str:
    """The report as HTML; every name and text from outside is escaped.

    With a fixed temperature and a CIST rule among the readings it has sliders for the two, which start there.

    Args:
        logit_set: names the samples, classes and origin.
        curves: of the logits.
        readings: of one or more rules on these curves.
        slices: as `cist_core.samples.slices.slice_statistics` makes it, of the same pair; a column ``rule`` may say
            what each slice selects.
    """
    from jinja2 import Environment
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    pair = _pair(readings)
    figures = _figures(logit_set, curves, readings, pair)
    grid = slider_grid(pair[0], pair[1], curves) if len(pair) == 2 else None
    moving = moving_ratio_figure(grid, *grid.start) if grid is not None else None
    charts = {f"chart-{index}": figure for index, figure in enumerate(figures, 1)}
    data: dict[str, Any] = {"themes": {"light": _config(LIGHT), "dark": _config(DARK)}}
    if grid is not None and moving is not None:
        charts["chart-ratios"] = moving
        curve = equal_others_curve(curves.num_classes).to_dict(orient="records")
        data |= {"grid": grid.to_json(), "curve": curve, "beyond": BEYOND}
    data["charts"] = {name: _legible(figure.vega_lite(), LIGHT) for name, figure in charts.items()}
    data["dark"] = {name: _legible(figure.spec, DARK) for name, figure in charts.items()}
    accuracy = "" if logit_set.accuracy is None else f", accuracy {percent(logit_set.accuracy)}"
    judged = judge_accuracy(logit_set)
    environment = Environment(autoescape=True)
    style = environment.from_string(_template("report.css")).render(light=_variables(LIGHT), dark=_variables(DARK))
    return environment.from_string(_template("report.html.jinja")).render(
        title=figures[0].title,
        source=f"{logit_set.num_samples:,} samples, {logit_set.num_classes:,} classes{accuracy}",
        choice=_choice(readings, pair),
        policy=_POLICY,
        style=Markup(style),
        sliders=None if grid is None else _sliders(grid, moving),
        figures=figures,
        tables=[
            _profiles(readings, chosen_at(logit_set.provenance, CLIPPED)),
            *([] if slices is None or slices.empty else [_slices(slices, pair)]),
        ],
        facts=[
            *(("accuracy", sentence) for sentence in (() if judged is None else judged.sentences)),
            *logit_set.provenance.items(),
            ("fingerprint (SHA-256)", logit_set.fingerprint),
        ],
        bundle=Markup(_bundle()),
        data=htmlsafe_json_dumps(data, separators=(",", ":"), ensure_ascii=False),
        script=Markup(slider_javascript() + _template("report.js")),
    )


@cache  # bundling takes a second
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which hands `vegaEmbed` to the page's own."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _template(name: str) -> str:
    return files("cist_core").joinpath("templates", name).read_text(encoding="utf-8")


def _variables(theme: Theme) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in asdict(theme).items())


def _config(theme: Theme) -> dict[str, Any]:
    return vega_config(theme, "system-ui, sans-serif") | {"background": "transparent"}


def _legible(spec: dict[str, Any], theme: Theme) -> dict[str, Any]:
    return with_legible_words(spec, theme.page, theme.ink)


def _sliders(grid: SliderGrid, ratios: Figure | None) -> dict[str, Any]:
    """What the template says of the sliders where they start."""
    tau, rho = grid.taus[grid.start[0]], grid.rhos[grid.start[1]]
    matched = bool(grid.matched[grid.start])
    colours = [slot.colour for slot in slots([tau.rule, rho.rule])]

    def side(position: Position, colour: str) -> dict[str, Any]:
        return {"label": rule_label(position.rule), "colour": colour, "cells": number_words(position)}

    return {
        "tau": side(tau, colours[0]),
        "rho": side(rho, colours[1]),
        "taus": len(grid.taus),
        "rhos": len(grid.rhos),
        "start": grid.start,
        "matched": matched,
        "note": "" if matched else NOTES["apart"],
        "columns": NUMBERS,
        "gain": gain_words(tau.profile, rho.profile, rho.same_label),
        "floor": f"{grid.floor:.4g}" if grid.floor else "",
        "sentences": rho_sentences(rho),
        "ratios": ratios,
    }


def _pair(readings: Sequence[RuleReading]) -> list[RuleReading]:
    """The fixed temperature and CIST rule to compare, matched if any two are; if a kind is missing, the first rule."""
    fixed = [reading for reading in readings if isinstance(reading.rule, Fixed)]
    cist = [reading for reading in readings if isinstance(reading.rule, Cist)]
    pairs = [[first, second] for first in fixed for second in cist]
    if not pairs:
        return [readings[0]]
    return next((pair for pair in pairs if _matched(pair)), pairs[0])


def _matched(pair: Sequence[RuleReading]) -> bool:
    return are_matched(pair[0].profile, pair[1].profile)


def _choice(readings: Sequence[RuleReading], pair: Sequence[RuleReading]) -> str:
    """Which two of several rules are compared, and why these; empty where there is no choice."""
    if len(pair) < 2 or len(readings) == 2:
        return ""
    reason = "the first two of the same mean entropy" if _matched(pair) else "the first of each kind, as none match"
    return (
        f"Compared: {rule_label(pair[0].rule)} and {rule_label(pair[1].rule)}, {reason}. "
        "Every other rule has a histogram and a row of the table."
    )


def _figures(
    logit_set: LogitSet, curves: EntropyCurves, readings: Sequence[RuleReading], pair: Sequence[RuleReading]
) -> list[Figure]:
    """The pair first, then each further rule by itself."""
    figures = [histogram_figure(pair)]
    if len(pair) > 1:
        figures += [ratio_figure(*pair), variance_figure(*pair), *_choosing_rho(curves, *pair)]
    figures += stacked_histograms([reading for reading in readings if reading not in pair])
    if curves.labels is not None:
        figures.append(per_class_figure(pair, curves.labels, logit_set.class_names))
    return figures


def _choosing_rho(curves: EntropyCurves, fixed: RuleReading, cist: RuleReading) -> list[Figure]:
    """Every rho and its gain; nothing where tied or constant logits have no rho to recommend."""
    assert isinstance(cist.rule, Cist)
    floor, sharp, smoothed = cist.rule.floor, cist.profile.over_sharp_below, cist.profile.over_smoothed_above
    try:
        found = recommend_rho(curves, floor=floor, over_sharp_below=sharp, over_smoothed_above=smoothed)
        sweep = rho_sweep(curves, floor=floor, over_sharp_below=sharp, over_smoothed_above=smoothed)
        anchors = find_anchors(curves, floor=floor)
        return [
            rho_figure(sweep, found, cist, anchors=anchors),
            gain_figure(gain_curve(curves, sweep), found, fixed, cist),
        ]
    except CistError:
        return []


# The browser itself keeps the page off the network, whatever is written in it; Vega compiles its expressions.
_POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"


class _Table(NamedTuple):
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def _profiles(readings: Sequence[RuleReading], floor_of_clip: str | None) -> _Table:
    return _Table(
        "Profiles, in nats",
        ["rule", *(column.name for column in _COLUMNS)],
        [_row(reading) for reading in readings],
        "H / ln C is the mean normalised entropy; over-sharp, over-smoothed and at the floor are shares of the samples."
        + "".join(f" {sentence}." for sentence in rule_sentences(readings))
        + ("" if floor_of_clip is None else f" {floor_of_clip}"),
    )


_COLUMNS = [column for attribute, column in COLUMNS.items() if attribute not in ("tau_min", "tau_max")]


def _row(reading: RuleReading) -> list[str]:
    cells = (column.text(reading.rule, reading.profile) for column in _COLUMNS)
    return [rule_label(reading.rule), *cells]


def _slices(slices: pd.DataFrame, pair: Sequence[RuleReading]) -> _Table:
    labels = {
        f"{column.name}_{side}": f"{column.name}, {rule_label(reading.rule)}"
        for side, reading in zip(("fixed", "cist"), pair, strict=False)
        for column in profile_columns("mean", "std")
    } | {"at_floor": COLUMNS["at_floor"].name}
    columns = [labels.get(name, name.replace("_", " ")) for name in map(str, slices.columns)]
    rows = [
        [_slice_cell(str(name), value) for name, value in zip(slices.columns, row, strict=True)]
        for row in slices.itertuples(index=False, name=None)
    ]
    return _Table("Slices", columns, rows, "Mean and spread of the entropy in nats over the samples of each slice.")


def _slice_cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]  # slice_statistics has texts and numbers only
    if math.isnan(number):
        return "–"
    if name == "samples":
        return f"{number:,.0f}"
    return percent(number) if name in ("share", "accuracy", "at_floor") else three_digits(number)
