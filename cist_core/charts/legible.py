"""Words in charts that can be read on the page behind them (WCAG 2.2, level AA), whatever the colour of their mark.

Marks have one colour in both themes, at 3 to 1; words need 4.5 to 1, which no colour has on white and on black.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

WANTED = 5.0
"""Contrast of words with the page: above 4.5, so that they can also be read on a shaded band."""


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, ``#RRGGBB`` each: 1 for the same, 21 for black on white.

    Source: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@lru_cache(maxsize=256)
def legible(colour: str, page: str, ink: str) -> str:
    """The colour, moved towards the ink until words in it stand out from the page."""
    for share in range(0, 101, 5):
        mixed = _mix(colour, ink, share / 100)
        if contrast(mixed, page) >= WANTED:
            return mixed
    return ink


def with_legible_words(spec: dict[str, Any], page: str, ink: str) -> dict[str, Any]:
    """The same Vega-Lite spec with text marks in legible colours.

    Args:
        spec: unchanged.
        page: colour behind the chart, ``#RRGGBB``.
        ink: colour of the text on it.
    """
    parts: dict[str, Any] = {
        key: [with_legible_words(part, page, ink) for part in spec[key]]
        for key in ("layer", "concat", "hconcat", "vconcat")
        if key in spec
    }
    if "spec" in spec:
        parts["spec"] = with_legible_words(spec["spec"], page, ink)
    mark = spec.get("mark")
    if not (isinstance(mark, dict) and mark.get("type") == "text"):
        return {**spec, **parts}
    if _is_colour(mark.get("color")):
        parts["mark"] = {**mark, "color": legible(mark["color"], page, ink)}
    encoding = spec.get("encoding", {})
    colour = encoding.get("color", {})
    scale = colour.get("scale") or {}
    if "range" in scale:
        # Looked up by the word itself: a scale would be shared with the marks, which keep their colours.
        words = {name: legible(each, page, ink) for name, each in zip(scale["domain"], scale["range"], strict=True)}
        parts["mark"] = {**mark, "color": {"expr": f"({json.dumps(words)})[datum[{json.dumps(colour['field'])}]]"}}
        parts["encoding"] = {key: value for key, value in encoding.items() if key != "color"}
    return {**spec, **parts}


def _is_colour(value: object) -> bool:
    return isinstance(value, str) and len(value) == 7 and value.startswith("#")


def _channels(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def _mix(one: str, other: str, share: float) -> str:
    mixed = (round(a + (b - a) * share) for a, b in zip(_channels(one), _channels(other), strict=True))
    return "#" + "".join(f"{channel:02X}" for channel in mixed)


def _luminance(colour: str) -> float:
    shares = [channel / 255 for channel in _channels(colour)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
