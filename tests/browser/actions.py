"""What a person does on any page, and what there is to look at."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

A_CHART = "[data-testid=stVegaLiteChart] :is(svg, canvas), .histogram svg:has(.bars path)"
HEADING = "[data-testid=stMain] h1"
FINDING = "[data-testid=stMain] :is(h2, h3)"
MINUTES = 60_000
"""Milliseconds in one of them."""


def wait_for(condition: Callable[[], object], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def fill(page, label: str, value: str) -> None:
    """Type into a field and leave it."""
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Enter")
    settle(page)


def settle(page) -> None:
    """Wait until the script has run again after what was done."""
    page.wait_for_timeout(500)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=MINUTES)
    page.wait_for_timeout(300)


def drawing(page) -> str:
    """The marks of the first chart, whichever renderer drew it, without the serial numbers of its clip paths."""
    return page.locator(A_CHART).first.evaluate(
        """chart => chart.tagName === 'CANVAS' ? chart.toDataURL() : chart.outerHTML.replace(/clip[0-9]+/g, 'clip')"""
    )


def finding(page) -> str:
    """The sentence about the two rules that moves with the sliders."""
    return page.locator("[data-says=finding]").inner_text()


def slider_value(page, label: str) -> float:
    """Where one of the two sliders above the page stands."""
    return float(page.get_by_role("slider", name=label).get_attribute("data-value"))


def press_slider(page, label: str, key: str) -> None:
    """Move a slider by keyboard, as a person who tabs to it does, and wait until the page has followed."""
    before = slider_value(page, label)
    page.get_by_role("slider", name=label).press(key)
    assert slider_value(page, label) != before  # at once, before the server knows
    settle(page)


def faint_words(page) -> list[str]:
    """The words in sight, those in charts included, that do not stand out from what is behind (WCAG 2.2, level AA)."""
    return page.evaluate(_CONTRAST[_CONTRAST.index("() =>") :])


_CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
