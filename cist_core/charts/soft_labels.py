"""Soft labels as bars: one sample under several rules, what is off its label, and whole classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.figure import GREY, Figure, Slot, named, rule_scale, rules_legend, slots
from cist_core.compare.findings import rule_label
from cist_core.samples.dark_knowledge import STUDENT, TEACHER, ClassMass, SoftLabel, confused_pairs
from cist_core.temperature import Cist, TemperatureRule
from cist_core.wording import percent

HARD = Slot("hard label", GREY)
MOST_IN_MATRIX = 30
"""Up to this many classes the mean soft labels are a full matrix; of more, the `MOST_PAIRS` largest entries."""
MOST_PAIRS = 15
MOST_WITH_NUMBERS = 12
"""Up to this many classes a cell of the matrix has room for its number."""

# A pair of long names needs room, which a phone does not have.
_PAIR_LIMIT = alt.ExprRef("containerSize()[0] < 600 ? 130 : 320")
_ROW, _AXES = 30, 130  # pixels of one class with a bar for each of two rules, and of the axes and legend


def names_of(class_names: Sequence[str] | None, classes: int) -> list[str]:
    """A name for every class, no two alike: ImageNet has two classes called crane, and a chart would add them up."""
    if class_names is None:
        return [str(index) for index in range(classes)]
    uses = Counter(class_names)
    return [name if uses[name] == 1 else f"{name} ({index})" for index, name in enumerate(class_names)]


def soft_label_figure(labels: Sequence[SoftLabel], names: Sequence[str], *, top: int = 10, hard: bool = True) -> Figure:
    """The soft labels of one sample under the rules that are compared.

    Args:
        labels: of the teacher under two rules; the student's, if given, are drawn as outlines over them.
        names: one for each class, as `names_of` makes them.
        top: classes with a row of their own, the teacher's most probable ones; the others are added up. The answer
            always has one.
        hard: whether the answer is the label, drawn as a bar of its own; without labels it is only the top class.
    """
    first, second = _pair(labels)
    answer, rival = first.answer, _first_wrong(first)
    said = [label.probabilities for label in (first, second)]
    title = (
        f"{'The label' if hard else 'The top class'} {_quoted(names[answer])} gets {_two(said, answer, labels)}; "
        f"{_quoted(names[rival])} gets {percent(said[0][rival])} and {percent(said[1][rival])}"
    )
    shown = _shown(first, top)
    bars = _bars([(label, label.probabilities) for label in labels], shown, names)
    hard_label = [{"rule": HARD.name, "class": names[answer], "position": shown.index(answer), "value": 1.0}]
    return Figure(
        title=title,
        caption=(
            "Probability of each class, sorted by the teacher's"
            + ("; grey: the hard label" if hard else "")
            + ". "
            + _models_in_words(labels)
        ),
        alt=title,
        spec=_bar_spec(((HARD,) if hard else ()) + _slots(labels), _rows(bars), "probability"),
        datasets=_by_model(bars, hard_label if hard else []),
    )


def dark_knowledge_figure(labels: Sequence[SoftLabel], names: Sequence[str], *, top: int = 10) -> Figure:
    """How the mass off the answer divides among the wrong classes; the arguments are those of `soft_label_figure`."""
    first, second = _pair(labels)
    rival = _first_wrong(first)
    title = (
        f"Dark knowledge is {percent(first.wrong_mass)} of the soft label at {_short(first.rule)} and "
        f"{percent(second.wrong_mass)} under {_short(second.rule)}; {_quoted(names[rival])} has "
        f"{percent(first.wrong_shares[rival])} and {percent(second.wrong_shares[rival])} of it"
    )
    shown = [index for index in _ranked(first) if index != first.answer][:top]
    bars = _bars([(label, label.wrong_shares) for label in labels], shown, names, without=first.answer)
    return Figure(
        title=title,
        caption=(
            f"Shares of the mass off {_quoted(names[first.answer])}; they add up to 100 %. {_models_in_words(labels)}"
        ),
        alt=title,
        spec=_bar_spec(_slots(labels), _rows(bars), "share of the mass off the label"),
        datasets=_by_model(bars),
    )


def class_mass_figures(masses: Mapping[TemperatureRule, ClassMass], names: Sequence[str]) -> list[Figure]:
    """Which classes get the mass of which: one matrix a rule, on one scale of colour."""
    strongest = max(confused_pairs(mass, 1)[0].mass for mass in masses.values())
    taken = slots(list(masses))
    figures = []
    for (rule, mass), slot in zip(masses.items(), taken, strict=True):
        worst = confused_pairs(mass, 1)[0]
        title = (
            f"{'Under' if isinstance(rule, Cist) else 'At'} {rule_label(rule)} {_quoted(names[worst.answer])} gives "
            f"{_quoted(names[worst.other])} the most, {percent(worst.mass)}"
        )
        cells = _cells(mass, names, strongest)
        figures.append(
            Figure(
                title=title,
                caption=(
                    f"Rows: mean soft label of the samples of a class ({mass.samples.sum():,} in all), in percent; "
                    "outlined: the class itself. The colours of both rules have one scale."
                ),
                alt=title,
                spec=_matrix_spec(slot, len(names) <= MOST_WITH_NUMBERS, max(map(len, names)) > 3, len(names)),
                datasets={"cells": cells},
            )
        )
    return figures


def confused_pairs_figure(masses: Mapping[TemperatureRule, ClassMass], names: Sequence[str]) -> Figure:
    """The pairs of classes that share most mass, for more classes than a matrix has room for."""
    both = ClassMass(np.mean([mass.mean for mass in masses.values()], axis=0), next(iter(masses.values())).samples)
    pairs = confused_pairs(both, MOST_PAIRS)
    taken = slots(list(masses))
    bars = pd.DataFrame(
        [
            {
                "model": TEACHER,
                "rule": slot.name,
                "label": rule_label(rule),
                "class": f"{names[pair.answer]} → {names[pair.other]}",
                "position": position,
                "value": mass.mean[pair.answer, pair.other],
                "text": percent(float(mass.mean[pair.answer, pair.other])),
                "text_at": mass.mean[pair.answer, pair.other],
            }
            for position, pair in enumerate(pairs)
            for (rule, mass), slot in zip(masses.items(), taken, strict=True)
        ]
    )
    title = _largest_pairs(masses, names)
    return Figure(
        title=title,
        caption=(
            f"Mean soft label of the samples of the first class ({both.samples.sum():,} samples in all), mass on the "
            f"second: the {len(pairs)} largest of {both.mean.size - len(both.mean):,} pairs."
        ),
        alt=title,
        spec=_bar_spec(taken, len(pairs), "mean mass on the second class", whole=False),
        datasets=_by_model(bars),
    )


def _largest_pairs(masses: Mapping[TemperatureRule, ClassMass], names: Sequence[str]) -> str:
    """The largest pair of each rule, which may be one and the same."""
    largest = {rule: confused_pairs(mass, 1)[0] for rule, mass in masses.items()}
    named = {
        rule: f"{_quoted(names[pair.answer])} gives {_quoted(names[pair.other])}" for rule, pair in largest.items()
    }
    words = [f"{percent(pair.mass)} {_under(rule)}" for rule, pair in largest.items()]
    if len(set(named.values())) == 1:
        return f"{next(iter(named.values()))} the most of its mean soft label: {' and '.join(words)}"
    return "Most of a mean soft label: " + ", ".join(
        f"{pair} {share}" for pair, share in zip(named.values(), words, strict=True)
    )


def _pair(labels: Sequence[SoftLabel]) -> tuple[SoftLabel, SoftLabel]:
    first, second = [label for label in labels if label.model == TEACHER][:2]
    return first, second


def _ranked(teacher: SoftLabel) -> list[int]:
    """Classes by the teacher's probability, largest first; the order is the same at any temperature."""
    return [int(index) for index in np.argsort(-teacher.probabilities, kind="stable")]


def _shown(teacher: SoftLabel, top: int) -> list[int]:
    """The classes with a row of their own: the first ones, and the answer in place of the last if it is not there."""
    shown = _ranked(teacher)[:top]
    return shown if teacher.answer in shown else [*shown[:-1], teacher.answer]


def _first_wrong(teacher: SoftLabel) -> int:
    return int(np.argmax(teacher.wrong_shares))


def _bars(
    series: Sequence[tuple[SoftLabel, NDArray[np.float64]]],
    shown: Sequence[int],
    names: Sequence[str],
    *,
    without: int | None = None,
) -> pd.DataFrame:
    """One row a class and soft label, and one for all classes that are not shown."""
    rest = [index for index in range(len(names)) if index not in shown and index != without]
    row_names = [names[index] for index in shown] + ([f"{len(rest):,} other{'s' * (len(rest) > 1)}"] if rest else [])
    rules = [label.rule for label, _ in series if label.model == TEACHER]
    slot_of = dict(zip(rules, slots(rules), strict=True))
    tables = []
    for label, values in series:
        row_values = [float(values[index]) for index in shown] + ([float(values[rest].sum())] if rest else [])
        tables.append(
            pd.DataFrame(
                {
                    "model": label.model,
                    "rule": slot_of[label.rule].name,
                    "label": rule_label(label.rule),
                    "temperature": label.temperature,
                    "class": row_names,
                    "position": np.arange(len(row_names)),
                    "value": row_values,
                    "text": [percent(value) for value in row_values],
                }
            )
        )
    bars = pd.concat(tables, ignore_index=True)
    # The teacher's number and the student's stand together, behind the longer of their bars.
    beside = bars.groupby(["rule", "class"], sort=False)
    bars["text_at"] = beside["value"].transform("max")
    bars["text"] = beside["text"].transform(" / ".join)
    return bars


def _by_model(bars: pd.DataFrame, hard: Sequence[Mapping[str, object]] = ()) -> dict[str, pd.DataFrame]:
    """The data sets of a bar chart; one that has no rows keeps its columns, as the spec asks for them."""
    by_model = {model: bars[bars["model"] == model].reset_index(drop=True) for model in (TEACHER, STUDENT)}
    return by_model | {"hard": pd.DataFrame(list(hard), columns=["rule", "class", "position", "value"])}


def _rows(bars: pd.DataFrame) -> int:
    return int(bars["position"].max()) + 1


def _slots(labels: Sequence[SoftLabel]) -> tuple[Slot, ...]:
    return slots([label.rule for label in labels if label.model == TEACHER])


def _cells(mass: ClassMass, names: Sequence[str], strongest: float) -> pd.DataFrame:
    classes = len(names)
    rows, columns = np.divmod(np.arange(classes * classes), classes)
    values = mass.mean.ravel()
    own = rows == columns
    # The eye reads area; the square root keeps small masses visible beside the largest.
    strength = np.where(own, 0.0, np.sqrt(np.clip(values / strongest, 0.0, 1.0)))
    return pd.DataFrame(
        {
            "answer": [names[row] for row in rows],
            "other": [names[column] for column in columns],
            "own": own,
            "mass": values,
            "strength": np.nan_to_num(strength),
            "text": ["" if np.isnan(value) else f"{value * 100:.{0 if value >= 0.1 else 1}f}" for value in values],
            "samples": mass.samples[rows],
        }
    )


def _models_in_words(labels: Sequence[SoftLabel]) -> str:
    if any(label.model == STUDENT for label in labels):
        return "Filled, and the first number: the teacher; dashed outline, and the second: the student."
    return "The bars are the teacher's."


def _two(said: Sequence[NDArray[np.float64]], index: int, labels: Sequence[SoftLabel]) -> str:
    return " and ".join(
        f"{percent(float(values[index]))} {_under(label.rule)}"
        for values, label in zip(said, _pair(labels), strict=True)
    )


def _under(rule: TemperatureRule) -> str:
    return f"{'under' if isinstance(rule, Cist) else 'at'} {_short(rule)}"


def _short(rule: TemperatureRule) -> str:
    return "CIST" if isinstance(rule, Cist) else rule_label(rule)


def _quoted(name: str) -> str:
    return f"“{name}”"


@lru_cache(maxsize=64)
def _bar_spec(taken: tuple[Slot, ...], rows: int, title: str, *, whole: bool = True) -> dict[str, Any]:
    """Bars beside one another for each rule; ``whole`` gives the axis all of 0 to 1, so that two charts compare."""
    y = alt.Y(
        "class:N",
        sort=alt.EncodingSortField("position", op="min"),
        title=None,
        scale=alt.Scale(paddingInner=0.22, paddingOuter=0.1),
        axis=alt.Axis(labelLimit=130 if whole else _PAIR_LIMIT, labelPadding=6, grid=False, domain=False, ticks=False),
    )
    # Room for the numbers behind the longest bar.
    x_scale = alt.Scale(domain=[0, 1.2], nice=False) if whole else alt.Scale(zero=True)
    ticks = [0, 0.25, 0.5, 0.75, 1.0] if whole else alt.Undefined
    axis = alt.Axis(format="%", tickCount=5, values=ticks, labelOverlap=False)
    x = alt.X("value:Q", title=title, scale=x_scale, axis=axis)
    tooltip = [
        alt.Tooltip("class:N"),
        alt.Tooltip("model:N"),
        alt.Tooltip("label:N", title="rule"),
        alt.Tooltip("value:Q", title=title, format=".2%"),
    ]
    colour = alt.Color("rule:N", scale=rule_scale(taken), legend=rules_legend())
    hard = alt.Chart(named("hard")).mark_bar(opacity=0.22).encode(y=y, x=x, color=colour, tooltip=["class:N"])
    beside = alt.YOffset("rule:N", sort=[slot.name for slot in taken if slot != HARD])
    teacher = (
        alt.Chart(named(TEACHER)).mark_bar(opacity=0.8).encode(y=y, yOffset=beside, x=x, color=colour, tooltip=tooltip)
    )
    student = (
        alt.Chart(named(STUDENT))
        .mark_bar(filled=False, strokeWidth=1.5, strokeDash=[4, 2])
        .encode(y=y, yOffset=beside, x=x, color=colour, tooltip=tooltip)
    )
    words = (
        alt.Chart(named(TEACHER))
        .mark_text(align="left", dx=4, fontSize=10)
        .encode(y=y, yOffset=beside, x="text_at:Q", text="text:N", color=colour)
    )
    layers = [hard, teacher, student, words]
    if not whole:
        headroom = alt.Chart(named(TEACHER)).transform_calculate(reach="1.12 * datum.value").mark_point(opacity=0)
        layers.append(headroom.encode(x="reach:Q"))
    chart = alt.layer(*layers)
    return dict(chart.properties(width="container", height=rows * _ROW + _AXES).to_dict())


@lru_cache(maxsize=32)
def _matrix_spec(slot: Slot, numbered: bool, slanted: bool, classes: int) -> dict[str, Any]:
    x = alt.X(
        "other:N",
        sort=None,
        title="class that gets the mass",
        axis=alt.Axis(labelAngle=-60 if slanted else 0, labelLimit=90, grid=False, domain=False, ticks=False),
    )
    y = alt.Y(
        "answer:N",
        sort=None,
        title="class of the samples",
        axis=alt.Axis(labelLimit=90, grid=False, domain=False, ticks=False),
    )
    tooltip = [
        alt.Tooltip("answer:N", title="class of the samples"),
        alt.Tooltip("other:N", title="class that gets the mass"),
        alt.Tooltip("mass:Q", title="mean soft label", format=".2%"),
        alt.Tooltip("samples:Q", format=","),
    ]
    base = alt.Chart(named("cells")).encode(x=x, y=y, tooltip=tooltip)
    cells = base.mark_rect(color=slot.colour).encode(
        opacity=alt.Opacity("strength:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.7]), legend=None)
    )
    own = base.transform_filter("datum.own").mark_rect(filled=False, stroke=GREY, strokeWidth=1)
    layers = [cells, own]
    if numbered:
        layers.append(base.mark_text(fontSize=10).encode(text="text:N"))
    height = min(classes, 18) * 30 + (150 if slanted else 90)
    return dict(alt.layer(*layers).properties(width="container", height=height).to_dict())
