"""Brushing selects samples in the whole app, and a link shows them to somebody else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.browser.actions import drawing, settle, wait_for
from tests.browser.conftest import A_CHART, go_to, wait_until_drawn

pytestmark = pytest.mark.browser


def brush(page, start: float, end: float) -> None:
    """Drag over the first chart, between two shares of its width and over the middle of its height."""
    box = page.locator(A_CHART).first.bounding_box()

    def move(across: float, down: float, **options: int) -> None:
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], **options)

    move(start, 0.3)
    page.mouse.down()
    move((start + end) / 2, 0.5, steps=5)
    move(end, 0.75, steps=5)
    page.mouse.up()
    page.locator(".st-key-selection-bar").get_by_text(re.compile(r"of 1,000 samples")).wait_for()
    settle(page)


def said(page) -> str:
    return page.locator(".st-key-selection-bar p").first.inner_text()


def shared_link(page) -> str:
    page.get_by_role("button", name="Link to this view").click()
    link = page.locator("[data-testid=stPopoverBody] code").inner_text()
    page.keyboard.press("Escape")
    return link


def test_a_brush_on_one_page_selects_on_the_others(open_page) -> None:
    page = open_page("entropy")
    assert "All 1,000 samples" in said(page)
    before = drawing(page)
    brush(page, 0.3, 0.6)
    assert drawing(page) != before
    selected = said(page)
    assert re.search(r"[\d,]+ of 1,000 samples \([\d.]+ %\)", selected)
    go_to(page, "Overview")
    page.get_by_role("heading", level=1).wait_for()
    assert "select=entropy" in page.url
    page.reload()
    wait_until_drawn(page)
    assert said(page) == selected


def test_a_shared_link_shows_the_same_selection_in_a_fresh_browser(open_page) -> None:
    first = open_page("entropy")
    brush(first, 0.3, 0.6)
    link = shared_link(first)
    assert "select=entropy" in link
    second = open_page(link.split("/", 3)[3])
    assert said(second) == said(first)
    rules = [page.get_by_role("textbox", name="Select samples").input_value() for page in (first, second)]
    assert rules[0] == rules[1]
    assert rules[0].startswith("entropy=")


def test_select_every_sample_wipes_the_brush(open_page) -> None:
    page = open_page("entropy")
    before = drawing(page)
    brush(page, 0.3, 0.6)
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_text("All 1,000 samples").wait_for()
    settle(page)
    assert drawing(page) == before


TRAY = ".st-key-selection-tray"


@pytest.mark.parametrize("name", ["", "entropy", "ratio", "weights"])
def test_a_brush_brings_the_tray_and_the_finding_speaks_of_the_selection(open_page, name: str) -> None:
    page = open_page(name)
    assert page.locator(TRAY).count() == 0
    brush(page, 0.3, 0.5)
    tray = page.locator(TRAY)
    count = int(said(page).removeprefix("■").split()[0].replace(",", ""))
    assert tray.get_by_text(
        re.compile(rf"^■ {count:,} selected: [\d.]+ % right, weight [\d.]+ × the mean$")
    ).is_visible()
    assert tray.locator("button img").locator("visible=true").count() == min(count, 12)
    assert page.get_by_role("heading", name=f"The {count:,} selected").first.is_visible()
    if name in ("", "entropy"):  # the others are drawn on a canvas
        frame = page.locator(".histogram .brush rect").first.bounding_box()
        assert frame["width"] > 50  # it stays drawn, and can be moved
    # In sight wherever the page is.
    box = tray.bounding_box()
    assert box["y"] + box["height"] <= page.viewport_size["height"] + 1


def test_the_tray_opens_a_sample_keeps_the_selection_and_lifts_it(open_page) -> None:
    page = open_page("ratio")
    brush(page, 0.3, 0.5)
    selected = said(page)
    tray = page.locator(TRAY)
    tray.get_by_role("button", name="Keep as").click()
    page.get_by_label("Save selection as").last.fill("middle")
    page.locator(".st-key-tray_keep button").click()
    settle(page)
    page.keyboard.press("Escape")
    tray.locator("button").filter(has=page.locator("img")).locator("visible=true").nth(2).click()
    page.get_by_role("heading", level=1, name="What does the student actually see?").wait_for()
    settle(page)
    assert said(page) == selected
    assert page.get_by_role("spinbutton", name="Sample", exact=True).input_value() != ""
    assert page.locator(TRAY).count() == 0
    go_to(page, "Entropy")
    assert page.locator(TRAY).get_by_role("link", name="Open in Samples").is_visible()
    page.locator(TRAY).get_by_role("button", name="Clear").click()
    page.get_by_text("All 1,000 samples").wait_for()
    settle(page)
    assert page.locator(TRAY).count() == 0
    page.get_by_role("button", name="Saved").click()
    saved = page.get_by_role("textbox", name="Saved selections, one per line")
    wait_for(lambda: saved.input_value().startswith("middle: "), seconds=30)


def test_a_swipe_over_a_chart_scrolls_and_selects_nothing(browser, server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    try:
        page = context.new_page()
        page.goto(f"{server}/ratio")
        wait_until_drawn(page)
        page.locator(A_CHART).first.scroll_into_view_if_needed()
        box = page.locator(A_CHART).first.bounding_box()
        before = scrolled(page)
        swipe(page, box["x"] + box["width"] / 2, box["y"] + 0.7 * box["height"], by=-250)
        settle(page)
        assert scrolled(page) > before + 100
        swipe(page, box["x"] + box["width"] / 2, 300, by=0, across=120)
        settle(page)
        assert "All 1,000 samples" in said(page)
        assert "select=" not in page.url
    finally:
        context.close()


def scrolled(page) -> float:
    return page.locator("[data-testid=stMain]").evaluate("element => element.scrollTop")


def swipe(page, x: float, y: float, *, by: float, across: float = 0) -> None:
    """Put a finger down and move it, as Chromium's own touch events."""
    touch: Callable[..., object] = page.context.new_cdp_session(page).send
    touch("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 11):
        point = {"x": x + across * step / 10, "y": y + by * step / 10}
        touch("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        page.wait_for_timeout(20)
    touch("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
