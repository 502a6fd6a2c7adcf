"""Choosing ρ by a click in the chart."""

from __future__ import annotations

import re

import pytest

from tests.browser.actions import RHO, place, server_asked, settle, slider_value, wait_for, with_grid
from tests.browser.conftest import wait_until_drawn

pytestmark = pytest.mark.browser


def test_a_click_sets_rho_for_the_whole_app_also_twice_at_one_place(open_page) -> None:
    page = open_page("rho")
    slider = page.get_by_role("slider", name="CIST ρ").first
    chart = page.locator("[data-testid=stVegaLiteChart]").first

    def click() -> str:
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        place = box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"]
        before = slider.get_attribute("data-value")
        page.mouse.click(*place)
        page.wait_for_function(
            "([element, before]) => element.dataset.value !== before",
            arg=[slider.element_handle(), before],
            timeout=20_000,
        )
        wait_until_drawn(page)
        return slider.get_attribute("data-value")

    start = slider.get_attribute("data-value")
    picked = click()
    assert float(picked) < float(start)  # left of the point, where soft labels are softer
    assert f"rho={picked}" in page.url
    page.get_by_role("button", name=re.compile("^Use ρ")).click()
    page.wait_for_function(
        "([element, before]) => element.dataset.value !== before", arg=[slider.element_handle(), picked]
    )
    wait_until_drawn(page)
    assert slider.get_attribute("data-value") == start
    assert click() == picked


def test_the_mark_of_the_rho_that_is_set_moves_along_its_curve_while_the_slider_does(open_page) -> None:
    page = with_grid(open_page("rho?teacher=cifar100-resnet20"))
    asked = server_asked(page)

    def marked() -> tuple[str, str]:
        words = page.locator(".now_words_marks text").text_content()
        return page.locator(".now_marks path").get_attribute("transform"), words

    before = marked()
    page.mouse.move(*place(page, RHO, slider_value(page, RHO)))
    page.mouse.down()
    page.mouse.move(*place(page, RHO, 5.5))
    wait_for(lambda: marked() != before, seconds=10)
    live = marked()
    assert live[1] == f"now {slider_value(page, RHO):.4g}"
    assert server_asked(page) == asked  # the hand still rests on it
    page.mouse.up()
    settle(page)
    wait_for(lambda: f"{page.url}&".count("rho=") == 1, seconds=20)
    drawn = marked()  # by the server's numbers
    assert drawn[1] == live[1]
    moved, exact = ([float(part) for part in re.findall(r"[\d.]+", at)] for at, _ in (live, drawn))
    assert moved == pytest.approx(exact, abs=0.5)  # pixels
