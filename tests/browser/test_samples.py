"""Look through the wrong samples by keyboard, pin two, and send the link."""

from __future__ import annotations

import re

import pytest

from tests.browser.actions import settle

pytestmark = pytest.mark.browser

CARD = "[class*=st-key-samples_card_] button"


def opened(page) -> str:
    return page.get_by_role("spinbutton", name="Sample", exact=True).input_value()


def pinned(page, pin: str) -> str:
    words = page.get_by_text(re.compile(rf"^{pin}: sample [\d,]+$")).inner_text()
    return words.rpartition(" ")[2].replace(",", "")


def press_key(page, key: str) -> None:
    page.locator("body").press(key)
    settle(page)


def test_wrong_samples_by_keyboard_two_pins_and_a_link(open_page) -> None:
    page = open_page("samples")
    page.get_by_role("radiogroup", name="The teacher is").get_by_text("wrong").click()
    settle(page)
    assert page.get_by_text(re.compile("of 1,000 samples")).is_visible()
    cards = page.locator(CARD)
    assert all("→" in words for words in cards.all_inner_texts())

    cards.nth(1).click()
    settle(page)
    first = opened(page)
    heading = page.get_by_role("heading", level=2).first.inner_text()
    press_key(page, "a")
    assert pinned(page, "A") == first

    press_key(page, "n")
    second = opened(page)
    assert second != first
    assert page.get_by_role("heading", level=2).first.inner_text() != heading
    press_key(page, "b")
    assert pinned(page, "B") == second

    press_key(page, "p")
    assert opened(page) == first
    assert f"samples_a={first}" in page.url

    page.get_by_role("button", name="Link to this view").click()
    link = page.locator("[data-testid=stPopoverBody] code").first.inner_text()
    other = open_page(link.split("/", 3)[3])
    assert opened(other) == first
    assert (pinned(other, "A"), pinned(other, "B")) == (first, second)
    assert other.locator(CARD).all_inner_texts() == cards.all_inner_texts()


def test_the_arrows_of_a_slider_do_not_turn_the_samples(open_page) -> None:
    page = open_page("samples")
    before = opened(page)
    page.get_by_role("slider", name="Fixed temperature τ").press("ArrowRight")
    settle(page)
    assert opened(page) == before


def test_on_a_phone_four_cards_stand_in_a_row(open_page) -> None:
    page = open_page("samples", width=390, height=844)
    tops = [page.locator(CARD).nth(place).bounding_box()["y"] for place in range(5)]
    assert len(set(tops[:4])) == 1
    assert tops[4] > tops[3]
