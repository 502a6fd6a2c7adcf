"""A text whose tokens are coloured by a number, as a picture: lines of letters of one width on coloured ground."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.figure import AMBER, BLUE, Figure
from cist_core.language.text_predictions import visible

COLUMNS = 96
"""Letters of a line."""
MOST_LINES = 600
"""Of a picture; it takes memory for each."""
_LINE = 20  # pixels from one line to the next
_LETTERS = "Liberation Mono, Courier New, monospace"
_SIZE = 0.97  # of a letter, of the width that one has
_STRONGEST = {AMBER: 0.62, BLUE: 0.82}  # words on these stand out in both themes
_STOPS = 11
_END = visible("\n")
_BEND = 0.7  # small differences from the middle are seen


@dataclass(frozen=True)
class TokenScale:
    """From which value to which the colours go.

    Attributes:
        low: where they begin.
        high: where they end.
        log: whether by the logarithm, of values above 0.
        diverging: whether in two directions from the middle.
        unit: of the values; empty for none.
    """

    low: float
    high: float
    log: bool = False
    diverging: bool = False
    unit: str = ""

    def places(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where values stand from 0 to 1; NaN stays, and what lies beyond stands at an end."""
        values = np.asarray(values, np.float64)
        if self.log:
            with np.errstate(divide="ignore"):
                found = np.log(values / self.low) / np.log(self.high / self.low)
        else:
            found = (values - self.low) / (self.high - self.low)
        return np.asarray(np.clip(found, 0.0, 1.0))


class Piece(NamedTuple):
    """Some letters of a token beside one another."""

    token: int
    line: int
    start: int
    end: int
    text: str


def token_text_figure(
    texts: Sequence[str],
    values: NDArray[np.floating],
    scale: TokenScale,
    *,
    title: str,
    measure: str,
    faint: NDArray[np.bool_] | None = None,
) -> Figure:
    """Tokens in reading order, each on the colour of its value.

    Args:
        texts: of the tokens, T; joined they are the text.
        values: ``(T,)``; NaN for a token that has none, and no colour.
        scale: of the colours.
        title: the finding.
        measure: what the values are, in words.
        faint: ``(T,)``, the tokens that stand back, such as those of a prompt.
    """
    whole = pd.DataFrame(list(laid_out(texts)), columns=Piece._fields)
    pieces = whole[whole["line"] < MOST_LINES].copy()
    numbers = pieces["token"].to_numpy(np.int64)
    pieces["value"] = np.asarray(values, np.float64)[numbers]
    pieces["place"] = scale.places(values)[numbers]
    pieces["strength"] = 1.0 if faint is None else np.where(np.asarray(faint)[numbers], 0.45, 1.0)
    lines = 1 + int(pieces["line"].max()) if len(pieces) else 1
    left_out = 1 + int(whole["line"].max()) - lines if len(whole) else 0
    cut = f" The first {lines:,} of {lines + left_out:,} lines." if left_out else ""
    ends = f"from {_spelled(scale.low, scale)} to {_spelled(scale.high, scale)}"
    return Figure(
        title=title,
        caption=f"Coloured by {measure}, {ends}.{cut}",
        alt=f"{title}. The text, its tokens coloured by {measure}, {ends}",
        spec=_spec(scale, lines, measure),
        datasets={"tokens": pieces},
    )


def laid_out(texts: Sequence[str], columns: int = COLUMNS) -> Iterator[Piece]:
    """The places of tokens in lines of so many letters; a token stays whole where a line has room for it.

    Example:
        >>> [(piece.line, piece.text) for piece in laid_out(["one", " two", "\\n", "three"], columns=5)]
        [(0, 'one'), (1, '·two'), (1, '↵'), (2, 'three')]
    """
    line = column = 0
    for token, text in enumerate(texts):
        for part in text.replace("\r\n", "\n").splitlines(keepends=True):
            shown = visible(part)
            width = sum(map(_width, shown))
            if column > 0 and column + width > columns:
                line, column = line + 1, 0
            start, letters = column, ""
            for letter in shown:
                # The sign of a line end stands by itself, as few fonts of one width have it.
                alone = letter == _END and bool(letters)
                full = column > 0 and column + _width(letter) > columns  # a token that is longer than a line
                if alone or full:
                    yield Piece(token, line, start, column, letters)
                    line, column = (line + 1, 0) if full else (line, column)
                    start, letters = column, ""
                letters += letter
                column += _width(letter)
            yield Piece(token, line, start, column, letters)
            if part.endswith("\n"):
                line, column = line + 1, 0


def _width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _spelled(value: float, scale: TokenScale) -> str:
    said = f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{said} {scale.unit}".strip().replace("-", "−")


def _colours(scale: TokenScale) -> list[str]:
    """At evenly spaced places from 0 to 1."""
    found = []
    for place in np.linspace(0.0, 1.0, _STOPS):
        colour = AMBER if scale.diverging and place < 0.5 else BLUE
        far = abs(2 * place - 1) ** _BEND if scale.diverging else place
        least = 0.0 if scale.diverging else 0.03
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        found.append(f"rgba({red}, {green}, {blue}, {least + (_STRONGEST[colour] - least) * far:.3f})")
    return found


def _spec(scale: TokenScale, lines: int, measure: str) -> dict[str, Any]:
    ends = [_spelled(scale.low, scale), _spelled(scale.high, scale)]
    place: dict[str, dict[str, Any]] = {
        "x": {"field": "start", "type": "quantitative", "scale": {"domain": [0, COLUMNS], "nice": False}, "axis": None},
        "y": {
            "field": "line",
            "type": "quantitative",
            "scale": {"domain": [0, lines], "nice": False, "reverse": True},
            "axis": None,
        },
        "opacity": {"field": "strength", "type": "quantitative", "scale": None},
    }
    colour = {
        "field": "place",
        "type": "quantitative",
        "scale": {"domain": np.linspace(0.0, 1.0, _STOPS).tolist(), "range": _colours(scale)},
        "legend": {
            "title": measure,
            "orient": "top",
            "values": [0, 1],
            "labelExpr": f"datum.value > 0.5 ? '{ends[1]}' : '{ends[0]}'",
            "titleLimit": 600,
            "gradientLength": 240,
        },
    }
    return {
        "data": {"name": "tokens"},
        "width": "container",
        "height": _LINE * lines,
        "layer": [
            {
                "transform": [
                    {"filter": "isValid(datum.place)"},
                    {"calculate": "datum.line + 0.08", "as": "top"},
                    {"calculate": "datum.line + 0.92", "as": "bottom"},
                ],
                "mark": {"type": "rect", "cornerRadius": 2},
                "encoding": {
                    **place,
                    "x2": {"field": "end"},
                    "y": {**place["y"], "field": "top"},
                    "y2": {"field": "bottom"},
                    "color": colour,
                },
            },
            {
                "transform": [{"calculate": "datum.line + 0.5", "as": "middle"}],
                "mark": {
                    "type": "text",
                    "align": "left",
                    "baseline": "middle",
                    "font": _LETTERS,
                    "fontSize": {"expr": f"{_SIZE} * width / {COLUMNS} / 0.6"},
                },
                "encoding": {
                    **place,
                    "y": {**place["y"], "field": "middle"},
                    "text": {"field": "text", "type": "nominal"},
                },
            },
        ],
    }
