"""What every chart is made of: a Vega-Lite spec that never changes, the data that do, and the words around them.

The spec is built by Altair once and cached; a slider move only swaps the data, which is what keeps the app quick and
the picture steady.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.compare.findings import rule_label, rule_name
from cist_core.temperature import TemperatureRule

AMBER, BLUE, GREY = "#C77700", "#2E7FD1", "#7F8694"
"""Fixed temperature, CIST, oracle and theory: 3 to 1 or more against both page backgrounds, told apart by any eye."""

RULE_COLOURS = {
    "fixed": AMBER,
    "cist": BLUE,
    "matched": GREY,
    "lskd": "#009E73",
    "normkd": "#C05A9B",
    "dtkd": "#8C6BB1",
}
SPARE_COLOURS = ("#E15759", "#B8A100", "#56B4E9", "#D55E00")
"""For rules of one's own, and for a second rule of a kind on the same chart."""


SELECTED = "#D1495B"
"""The samples that a person has selected, on every chart."""
BRUSH, PICK = "brush", "pick"
"""Names of a chart's own selections: an interval over some of its fields, and a point of it."""


NOTEBOOK_WIDTH = 760
"""In pixels."""

Mask = NDArray[np.bool_]
"""Which samples are selected, ``(N,)``."""


class Slot(NamedTuple):
    """How one rule appears on a chart: its entry in the legend and its colour."""

    name: str
    colour: str


class LateTables(Mapping[str, pd.DataFrame]):
    """Tables that are made when one of them is first asked for.

    Where the browser draws a chart from numbers of its own, only an export asks.

    Args:
        names: of the tables, in order.
        make: all of them.
        filled: the names of those that will have rows; by default all.
    """

    def __init__(
        self,
        names: Sequence[str],
        make: Callable[[], Mapping[str, pd.DataFrame]],
        *,
        filled: Sequence[str] | None = None,
    ) -> None:
        self._names, self._make = tuple(names), make
        self.filled = self._names if filled is None else tuple(filled)
        self._made: Mapping[str, pd.DataFrame] | None = None

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._names:
            raise KeyError(name)
        if self._made is None:
            self._made = self._make()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Figure:
    """A chart with its words.

    Attributes:
        title: the finding, one sentence without a full stop.
        caption: what is drawn, for the line under the chart.
        alt: the same for somebody who cannot see it.
        spec: Vega-Lite without data; it names its data sets.
        datasets: the tables it names.
        hint: what a click or a drag does in the app; reports and pictures leave it out.
        brush: which measure of `cist_core.samples.table` each field of the interval `BRUSH` selects samples by; empty
            for a chart that cannot be brushed.
    """

    title: str
    caption: str
    alt: str
    spec: dict[str, Any]
    datasets: Mapping[str, pd.DataFrame]
    hint: str = ""
    brush: Mapping[str, str] = field(default_factory=dict)

    def tables(self) -> list[str]:
        """The names of the tables that have rows."""
        if isinstance(self.datasets, LateTables):
            return list(self.datasets.filled)
        return [name for name, table in self.datasets.items() if len(table)]

    def vega_lite(self) -> dict[str, Any]:
        """The whole chart as one JSON-ready object."""
        return {**self.spec, "datasets": {name: _records(table) for name, table in self.datasets.items()}}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        """The chart in a notebook by Altair's renderer; after ``altair.renderers.enable("svg")`` without a network."""
        from cist_core.charts.pictures import LIGHT, titled_spec, vega_config

        shown = alt.renderers.get()
        assert shown is not None
        return shown(titled_spec(self, NOTEBOOK_WIDTH, LIGHT) | {"config": vega_config(LIGHT)})


def slots(rules: Sequence[TemperatureRule]) -> tuple[Slot, ...]:
    """One slot a rule, in order.

    The first rule of a kind has the kind's name and colour, so that the legend stands still while a slider moves; a
    further one, say a second fixed temperature, is told apart by its parameters and a colour of its own.
    """
    taken: list[Slot] = []
    for rule in rules:
        name, colour = rule_name(rule), RULE_COLOURS.get(rule.name)
        if any(slot.name == name for slot in taken):
            name, colour = rule_label(rule), None
        used = {slot.colour for slot in taken}
        spare = next((colour for colour in SPARE_COLOURS if colour not in used), SPARE_COLOURS[-1])
        taken.append(Slot(name, colour or spare))
    return tuple(taken)


def rule_scale(taken: tuple[Slot, ...]) -> alt.Scale:
    return alt.Scale(domain=[slot.name for slot in taken], range=[slot.colour for slot in taken])


def rules_legend(*, columns: int = 0) -> alt.Legend:
    """The legend above a chart, in one row or in so many columns."""
    wrapped = columns or alt.Undefined
    return alt.Legend(
        title=None, orient="top", direction="horizontal", symbolType="square", symbolOpacity=1, columns=wrapped
    )


def brush(*channels: Literal["x", "y"]) -> alt.Parameter:
    """The interval `BRUSH`: drawn and moved with a mouse or a pen, as a finger on a chart scrolls the page."""
    drag = "[pointerdown[event.pointerType !== 'touch'], window:pointerup] > window:pointermove!"
    frame = alt.BrushConfig(
        fill=SELECTED, fillOpacity=0.12, stroke=SELECTED, strokeOpacity=1, strokeWidth=2.5, cursor="grab"
    )
    # Without zoom, which would take the wheel from the page.
    return alt.selection_interval(name=BRUSH, encodings=list(channels), on=drag, translate=drag, zoom=False, mark=frame)


def named(name: str) -> alt.NamedData:
    return alt.NamedData(name=name)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.replace({np.nan: None}).to_dict(orient="records")
    return [{str(name): value for name, value in row.items()} for row in rows]
