"""Figures as pictures: SVG and PNG with the finding above the chart and the caption under the finding."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Any

from cist_core.charts.figure import Figure
from cist_core.charts.legible import with_legible_words

# vl-convert brings Liberation Sans, which has Greek letters, so a picture looks the same on every machine; Arial has
# the same widths, for a reader of the SVG who has no Liberation.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

NUMBERS = {"decimal": ".", "thousands": ",", "grouping": [3], "currency": ["$", ""], "percent": " %"}
"""How charts write numbers: a percentage as in a sentence."""

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TITLE_SIZE, _CAPTION_SIZE = 16, 12
_LETTER = 0.52
"""Mean width of a letter of a sentence in `FONT`, as a share of its size; a little wide, so that lines end early."""

_BESIDE = 90
"""What padding and axis take of the width of a chart, in pixels."""


@dataclass(frozen=True)
class Theme:
    """Colours around the marks; the marks have the same in both themes.

    Attributes:
        page: background.
        ink: text.
        soft: captions.
        line: axes and grids.
        card: background of a box.
        accent: what can be pressed or moved.
    """

    page: str
    ink: str
    soft: str
    line: str
    card: str
    accent: str


LIGHT = Theme(page="#FFFFFF", ink="#0B1220", soft="#566173", line="#DDE2EA", card="#F4F6F9", accent="#1F66B0")
DARK = Theme(page="#0F141C", ink="#E6EAF1", soft="#A3ADBD", line="#2C3645", card="#1A212C", accent="#7DB8F0")


def vega_config(theme: Theme, font: str = FONT) -> dict[str, Any]:
    """The Vega-Lite configuration of a theme; marks without a colour of their own are drawn in ink."""
    axis = {"labelColor": theme.soft, "titleColor": theme.soft, "gridColor": theme.line, "domainColor": theme.line}
    return {
        "background": theme.page,
        "font": font,
        "locale": {"number": NUMBERS},
        "view": {"stroke": None},
        "axis": axis | {"tickColor": theme.line},
        "legend": {"labelColor": theme.ink, "titleColor": theme.ink},
        "header": {"labelColor": theme.ink, "titleColor": theme.ink},
        "title": {"color": theme.ink, "subtitleColor": theme.soft},
        "text": {"color": theme.ink},
    }


def svg(figure: Figure, *, dark: bool = False, width: int = 900) -> str:
    """The figure as SVG, with its title, caption and, for somebody who cannot see it, its alt text.

    Args:
        figure: any chart.
        dark: on the dark background instead of the white one.
        width: in pixels; the height is the figure's and what the words take.
    """
    import vl_convert

    theme = DARK if dark else LIGHT
    return vl_convert.vegalite_to_svg(titled_spec(figure, width, theme), config=vega_config(theme))


def png(figure: Figure, *, dark: bool = False, width: int = 900, scale: float = 2) -> bytes:
    """The same picture as PNG, ``scale`` times as many pixels wide as ``width``."""
    import vl_convert

    theme = DARK if dark else LIGHT
    return vl_convert.vegalite_to_png(titled_spec(figure, width, theme), config=vega_config(theme), scale=scale)


def titled_spec(figure: Figure, width: int, theme: Theme) -> dict[str, Any]:
    """The whole chart of a width in pixels, with the finding above it and the caption under the finding."""
    spec: dict[str, Any] = _sized(with_legible_words(figure.vega_lite(), theme.page, theme.ink), width)
    if not _joined(spec):
        # The axes take their room from the width but not from the height, as in the browser.
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    words = {
        "padding": 16,
        "description": figure.alt,
        "title": {
            "text": _lines(figure.title, width, _TITLE_SIZE),
            "subtitle": _lines(figure.caption, width, _CAPTION_SIZE),
            "fontSize": _TITLE_SIZE,
            "subtitleFontSize": _CAPTION_SIZE,
            "subtitlePadding": 6,
            "offset": 16,
            "anchor": "start",
            "frame": "group",
        },
    }
    drawable: dict[str, Any] = _drawable(spec | words)
    return drawable


def _drawable(content: Any) -> Any:
    """The content with U+FFFD for what no XML may hold: of such a letter the process dies that draws it."""
    if isinstance(content, str):
        return _NOT_XML.sub("\ufffd", content)
    if isinstance(content, dict):
        return {name: _drawable(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_drawable(each) for each in content]
    return content


def _lines(sentence: str, width: int, size: int) -> list[str]:
    # A number stays with its unit and its symbol.
    joined = re.sub(r" (?=[%×=]|nats\b)|(?<==) ", "\u00a0", sentence)
    return textwrap.wrap(joined, max(20, int((width - _BESIDE) / (size * _LETTER))))


def _joined(spec: dict[str, Any]) -> bool:
    return any(key in spec for key in ("concat", "hconcat", "vconcat", "facet", "repeat"))


def _sized(spec: dict[str, Any], width: int) -> dict[str, Any]:
    """The spec with a width in pixels wherever it asks for that of its container, which a picture does not have."""
    for key in ("hconcat", "vconcat", "concat"):
        if key in spec:
            columns = len(spec[key]) if key == "hconcat" else spec.get("columns", 1)
            each = width // columns - _BESIDE
            return spec | {key: [_sized(part, each) for part in spec[key]]}
    if "spec" in spec:
        return spec | {"spec": _sized(spec["spec"], width)}
    return spec | {"width": width} if spec.get("width") == "container" else spec
