"""What every chart is made of: a Vega-Lite spec that never changes, the data that do, and the words around them.

The spec is built by Altair once and cached; a slider move only swaps the data, which is what keeps the app quick and
the picture steady.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cist_core.temperature import TemperatureRule

AMBER, BLUE, GREY = "#C77700", "#2E7FD1", "#7F8694"
"""Fixed temperature, CIST, oracle and theory: 3 to 1 or more against both page backgrounds, told apart by any eye."""

RULE_COLOURS = {"fixed": AMBER, "cist": BLUE, "matched": GREY, "lskd": "#009E73", "normkd": "#C05A9B"}
RULE_NAMES = {"fixed": "fixed τ", "cist": "CIST", "matched": "oracle", "lskd": "LSKD", "normkd": "NormKD"}
OTHER_COLOUR = "#D55E00"
"""For rules registered by others."""


@dataclass(frozen=True)
class Figure:
    """A chart with its words.

    Attributes:
        title: the finding, one sentence without a full stop.
        caption: what is drawn, for the line under the chart.
        alt: the same for somebody who cannot see it.
        spec: Vega-Lite without data; it names its data sets.
        datasets: the tables it names.
    """

    title: str
    caption: str
    alt: str
    spec: dict[str, Any]
    datasets: dict[str, pd.DataFrame]

    def vega_lite(self) -> dict[str, Any]:
        """The whole chart as one JSON-ready object."""
        return {**self.spec, "datasets": {name: _records(table) for name, table in self.datasets.items()}}


def rule_name(rule: TemperatureRule) -> str:
    """The rule's name without its parameters, as legends show it."""
    return RULE_NAMES.get(rule.name, rule.name)


def rule_scale(rules: tuple[str, ...]) -> alt.Scale:
    """One colour per rule, the same in every chart; ``rules`` are registered names."""
    return alt.Scale(
        domain=[RULE_NAMES.get(name, name) for name in rules],
        range=[RULE_COLOURS.get(name, OTHER_COLOUR) for name in rules],
    )


def rules_legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", direction="horizontal", symbolType="square", symbolOpacity=1)


def named(name: str) -> alt.NamedData:
    return alt.NamedData(name=name)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.replace({np.nan: None}).to_dict(orient="records")
    return [{str(name): value for name, value in row.items()} for row in rows]
