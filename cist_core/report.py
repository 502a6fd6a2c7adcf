"""One self-contained HTML file with the charts and tables of an analysis; it opens without a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files

from cist_core.charts import (
    Figure,
    histogram_figure,
    per_class_figure,
    ratio_figure,
    stacked_histograms,
    variance_figure,
)
from cist_core.curves import EntropyCurves
from cist_core.files import write_whole
from cist_core.findings import are_matched, percent, rule_label, three_digits
from cist_core.logits import LogitSet
from cist_core.readings import RuleReading
from cist_core.temperature import Cist, Fixed


def write_report(
    path: str | os.PathLike[str], logit_set: LogitSet, curves: EntropyCurves, readings: Sequence[RuleReading]
) -> None:
    """Write the report of some readings of one set of logits; the file appears whole or not at all.

    Raises:
        CistError: if the file cannot be written.
    """
    text = render_report(logit_set, curves, readings)
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"), what="The report")


def render_report(logit_set: LogitSet, curves: EntropyCurves, readings: Sequence[RuleReading]) -> str:
    """The report as HTML; every name and text from outside is escaped."""
    import vl_convert
    from jinja2 import Environment
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    pair = _pair(readings)
    figures = _figures(logit_set, curves, readings, pair)
    template = files("cist_core").joinpath("templates/report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True)
    accuracy = "" if logit_set.accuracy is None else f", accuracy {percent(logit_set.accuracy)}"
    return environment.from_string(template).render(
        title=figures[0].title,
        source=f"{logit_set.num_samples:,} samples, {logit_set.num_classes:,} classes{accuracy}",
        choice=_choice(readings, pair),
        figures=figures,
        specs=htmlsafe_json_dumps([figure.vega_lite() for figure in figures]),
        bundle=Markup(vl_convert.javascript_bundle(_GLOBALS)),
        columns=_COLUMNS,
        rows=[_row(reading) for reading in readings],
        note="H / ln C is the mean normalised entropy; over-sharp and over-smoothed are shares of the samples.",
        facts=[*logit_set.provenance.items(), ("fingerprint (SHA-256)", logit_set.fingerprint)],
    )


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
        figures += [ratio_figure(*pair), variance_figure(*pair)]
    figures += stacked_histograms([reading for reading in readings if reading not in pair])
    if curves.labels is not None:
        figures.append(per_class_figure(pair, curves.labels, logit_set.class_names))
    return figures


# What the bundle hands to the page's own script.
_GLOBALS = "window.vegaEmbed = vegaEmbed;"

_COLUMNS = (
    "rule",
    "mean",
    "spread",
    "5 %",
    "25 %",
    "median",
    "75 %",
    "95 %",
    "H / ln C",
    "over-sharp",
    "over-smoothed",
    "mean τ",
)


def _row(reading: RuleReading) -> list[str]:
    profile = reading.profile
    quantiles = (profile.q05, profile.q25, profile.median, profile.q75, profile.q95)
    numbers = (profile.mean, profile.std, *quantiles, profile.normalised_mean)
    return [
        rule_label(reading.rule),
        *(three_digits(number) for number in numbers),
        percent(profile.over_sharp),
        percent(profile.over_smoothed),
        three_digits(profile.tau_mean),
    ]
