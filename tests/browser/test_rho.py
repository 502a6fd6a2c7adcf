"""Choosing ρ by a click in the chart."""

from __future__ import annotations

import re

import pytest

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
