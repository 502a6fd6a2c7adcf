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
TAU, RHO = "Fixed temperature τ", "CIST ρ"
CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
CONTRAST = CONTRAST[CONTRAST.index("() =>") :]
"""Finds the words of a page that do not stand out from what is behind them."""


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
    """Wait until the script has run again after what was done.

    By the clock, as it may run more than once for it, and for what was done before.
    """
    page.wait_for_timeout(500)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=MINUTES)
    until_idle(page)
    page.wait_for_timeout(300)


def until_asked(page) -> None:
    """The page has asked to be computed anew since something was done last; half a second tells that it does not."""
    page.evaluate(
        """() => new Promise(resolve => {
            const end = performance.now() + 500;
            const asked = now => window.watched?.asked > watched.done && now > watched.asked + 50;  // and says so
            const look = (now = performance.now()) => asked(now) || now > end ? resolve() : setTimeout(look, 20);
            look();
        })"""
    )


def until_still(page) -> None:
    """Nothing is drawn on the page any more: not for 150 milliseconds, unless it never rests."""
    page.evaluate(
        """() => new Promise(resolve => {
            const end = performance.now() + 1_000;
            let drawn = performance.now();
            const observer = new MutationObserver(() => { drawn = performance.now(); });
            const inner = [...document.querySelectorAll('*')].map(element => element.shadowRoot).filter(Boolean);
            for (const root of [document, ...inner])
                observer.observe(root, {subtree: true, childList: true, attributes: true, characterData: true});
            const look = () => {
                const now = performance.now();
                if (now < drawn + 150 && now < end) return setTimeout(look, 20);
                observer.disconnect();
                if (window.watched) watched.done = now;
                resolve();
            };
            look();
        })"""
    )


def until_idle(page) -> None:
    """A busy machine draws the page up to a second after it has heard that the script is done."""
    page.evaluate("() => new Promise(done => requestIdleCallback(done, {timeout: 5_000}))")


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


def with_grid(page):
    """The same page, when the browser has what the sliders look up."""
    page.wait_for_function("window.cistStudio?.here && cistStudio.grids.has(cistStudio.here.grid)", timeout=60_000)
    return page


def track(page, label: str) -> dict[str, float]:
    return page.get_by_role("slider", name=label).bounding_box()


def place(page, label: str, value: float) -> tuple[float, float]:
    """Where a value lies on a track, in pixels of the page."""
    box, thumb = track(page, label), 20
    share = page.evaluate(
        "([name, value]) => { const [low, high] = {tau: [0.25, 20], rho: [0.5, 15]}[name];"
        "return Math.log(value / low) / Math.log(high / low); }",
        ["tau" if label == TAU else "rho", value],
    )
    return box["x"] + thumb / 2 + share * (box["width"] - thumb), box["y"] + 13


def server_asked(page) -> int:
    """How often the page has asked to be computed anew."""
    return page.evaluate("window.runs")


def faint_words(page) -> list[str]:
    """The words in sight, those in charts included, that do not stand out from what is behind (WCAG 2.2, level AA).

    What is being drawn anew is faint for a moment.
    """
    for _ in range(10):
        if not (found := page.evaluate(CONTRAST)):
            break
        page.wait_for_timeout(300)
    return found
