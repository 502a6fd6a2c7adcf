"""What a person does on any page, and what there is to look at."""

from __future__ import annotations

import time
from collections.abc import Callable

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
    return page.evaluate(
        """() => {
            const chart = document.querySelector('[data-testid=stVegaLiteChart] :is(svg, canvas)');
            return chart.tagName === 'CANVAS' ? chart.toDataURL() : chart.outerHTML.replace(/clip[0-9]+/g, 'clip');
        }"""
    )
