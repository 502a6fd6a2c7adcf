"""The cards that a first visitor starts from."""

from __future__ import annotations

import pytest

from tests.browser.actions import A_CHART, settle

pytestmark = pytest.mark.browser
CARDS = ".st-key-start-from"


def test_cards_leave_chart_and_numbers_in_sight_and_one_press_opens_a_source(open_page) -> None:
    page = open_page(width=1440, height=900)
    cards = page.locator(f"{CARDS} button")
    assert cards.count() == 5  # digits, CIFAR-100, ImageNet-shaped, language, yours
    assert page.locator(A_CHART).first.bounding_box()["y"] > cards.first.bounding_box()["y"]
    for seen in (page.locator(A_CHART).first, page.locator("[data-says=gain]")):
        box = seen.bounding_box()
        assert box["y"] + box["height"] <= 900
    page.get_by_role("button", name="ImageNet-shaped").click()
    page.get_by_text("imagenet-shaped-synthetic.safetensors", exact=False).first.wait_for()
    settle(page)
    assert page.locator(CARDS).count() == 0
    assert "teacher=imagenet-shaped-synthetic-" in page.url


def test_on_a_phone_the_cards_stand_below_chart_and_samples(open_page) -> None:
    page = open_page(width=390, height=844)
    top = page.locator(CARDS).bounding_box()["y"]
    for above in (A_CHART, ".samples .card >> nth=-1"):
        box = page.locator(above).first.bounding_box()
        assert box["y"] + box["height"] <= top
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [1440, 390])
def test_what_is_loaded_stands_below_its_heading(open_page, width: int) -> None:
    page = open_page(width=width, height=900)
    heading = page.get_by_role("heading", name="What is loaded").bounding_box()
    assert page.locator(".cist-facts dt").first.bounding_box()["x"] == pytest.approx(heading["x"], abs=1)
