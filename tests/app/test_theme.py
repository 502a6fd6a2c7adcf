"""The colours of both themes can be told from their backgrounds (WCAG 2.2, level AA)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cist_core.charts.figure import AMBER, BLUE, GREY, RULE_COLOURS, SELECTED

THEME = tomllib.loads((Path(__file__).resolve().parents[2] / "app" / ".streamlit" / "config.toml").read_text())["theme"]
TEXT, GRAPHICS = 4.5, 3.0


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_what_the_standard_says() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out(scheme: str) -> None:
    theme = THEME[scheme]
    grounds = [theme["backgroundColor"], theme["secondaryBackgroundColor"], theme["sidebar"]["backgroundColor"]]
    for ground in grounds:
        assert contrast(theme["textColor"], ground) >= TEXT
    assert contrast(theme["linkColor"], theme["backgroundColor"]) >= TEXT
    assert contrast("#FFFFFF", theme["primaryColor"]) >= TEXT - 0.05  # words on a primary button


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("colour", [AMBER, BLUE, GREY, SELECTED, *RULE_COLOURS.values()])
def test_marks_of_charts_stand_out(scheme: str, colour: str) -> None:
    assert contrast(colour, THEME[scheme]["backgroundColor"]) >= GRAPHICS
