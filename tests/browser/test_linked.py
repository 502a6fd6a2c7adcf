"""Brushing selects samples in the whole app, and a link shows them to somebody else."""

from __future__ import annotations

import re

import pytest

from tests.browser.actions import drawing, settle
from tests.browser.conftest import A_CHART, go_to, wait_until_drawn

pytestmark = pytest.mark.browser


def brush(page, start: float, end: float, *, height: float = 0.5) -> None:
    """Drag over the first chart, between two shares of its width."""
    box = page.locator(A_CHART).first.bounding_box()
    y = box["y"] + height * box["height"]
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + (start + end) / 2 * box["width"], y, steps=5)
    page.mouse.move(box["x"] + end * box["width"], y, steps=5)
    page.mouse.up()
    page.get_by_text(re.compile(r"of 1,000 samples")).wait_for()
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
    selected = said(page).removeprefix("Entropy").strip()
    assert re.search(r"[\d,]+ of 1,000 samples \([\d.]+ %\)", selected)
    go_to(page, "Overview")
    page.get_by_role("heading", level=1).wait_for()
    assert "select=entropy" in page.url
    page.reload()
    wait_until_drawn(page)
    assert said(page).removeprefix("Overview").strip() == selected


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
