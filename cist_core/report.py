"""One self-contained HTML file with the charts and tables of an analysis; it opens without a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files

from cist_core.charts import STACKED_HEIGHT, Figure, histogram_figure, per_class_figure, ratio_figure, variance_figure
from cist_core.curves import EntropyCurves
from cist_core.files import write_whole
from cist_core.findings import percent, rule_label, three_digits
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

    figures = _figures(logit_set, curves, readings)
    template = files("cist_core").joinpath("templates/report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True)
    accuracy = "" if logit_set.accuracy is None else f", accuracy {percent(logit_set.accuracy)}"
    return environment.from_string(template).render(
        title=figures[0].title,
        source=f"{logit_set.num_samples:,} samples, {logit_set.num_classes:,} classes{accuracy}",
        figures=figures,
        specs=htmlsafe_json_dumps([figure.vega_lite() for figure in figures]),
        bundle=Markup(vl_convert.javascript_bundle(_GLOBALS)),
        columns=_COLUMNS,
        rows=[_row(reading) for reading in readings],
        note="H / ln C is the mean normalised entropy; over-sharp and over-smoothed are shares of the samples.",
        facts=[*logit_set.provenance.items(), ("fingerprint (SHA-256)", logit_set.fingerprint)],
    )


def _figures(logit_set: LogitSet, curves: EntropyCurves, readings: Sequence[RuleReading]) -> list[Figure]:
    """The pair first, if the rules hold one: a fixed temperature and CIST; then each further rule by itself."""
    fixed = next((reading for reading in readings if isinstance(reading.rule, Fixed)), None)
    cist = next((reading for reading in readings if isinstance(reading.rule, Cist)), None)
    figures = []
    if fixed is not None and cist is not None:
        figures += [histogram_figure([fixed, cist]), ratio_figure(fixed, cist), variance_figure(fixed, cist)]
        pair = [fixed, cist]
    else:
        pair = [readings[0]]
        figures.append(histogram_figure(pair))
    figures += [histogram_figure([reading], height=STACKED_HEIGHT) for reading in readings if reading not in pair]
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
