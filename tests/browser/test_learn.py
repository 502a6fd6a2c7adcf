"""The lesson as it is given: forward by the button, the bars and sliders by hand, a step sent as a link."""

from __future__ import annotations

import pytest

from tests.browser.conftest import A_CHART, wait_until_drawn

pytestmark = pytest.mark.browser


def at_rest(page) -> None:
    page.wait_for_timeout(400)
    wait_until_drawn(page)


def numbers(page) -> list[str]:
    return page.locator("[data-testid=stMain] [data-testid=stMetricValue]").all_inner_texts()


@pytest.mark.parametrize("width", [1440, 390])
def test_a_walk_through_all_steps_stays_in_its_place(open_page, width: int) -> None:
    page = open_page("learn", width=width, height=844)
    tops = []
    for step in range(1, 9):
        page.get_by_role("heading", level=1, name=f"{step}. ").wait_for()
        at_rest(page)
        assert f"lesson_step={step}" in page.url or step == 1
        assert page.locator(".katex").count() > 0
        main = page.locator("[data-testid=stMain]")
        assert main.evaluate("element => element.scrollWidth - element.clientWidth") <= 0
        tops.append(page.locator(A_CHART).first.bounding_box()["y"])
        if step < 8:
            page.get_by_role("button", name="Next").click()
    assert page.get_by_role("button", name="Next").is_disabled()
    if width == 1440:
        assert max(tops) - min(tops) < 2  # the picture does not jump


def test_a_slider_moved_by_keyboard_moves_the_entropy_and_the_link_shows_the_same(open_page) -> None:
    page = open_page("learn?lesson_step=2")
    before = numbers(page)
    page.locator("[data-testid=stMain]").get_by_role("slider", name="Temperature τ").focus()
    page.keyboard.press("PageUp")
    page.wait_for_function(
        "before => document.querySelector('[data-testid=stMain] [data-testid=stMetricValue]').innerText !== before",
        arg=before[0],
    )
    at_rest(page)
    assert "lesson_tau=" in page.url
    again = open_page(page.url.split("/", 3)[3])
    assert numbers(again) == numbers(page) != before


def test_a_bar_moved_by_keyboard_is_in_the_address_and_a_preset_moves_it_back(open_page) -> None:
    page = open_page("learn?lesson_step=2")
    bar = page.get_by_role("slider", name="Logit of lynx")
    before = numbers(page)
    bar.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.get_by_label("The same as text").and_(page.get_by_role("textbox")).wait_for()
    page.wait_for_function("() => location.search.includes('lesson_logits=8%2C7.5%2C4%2C3%2C-5%2C-6')")
    at_rest(page)
    assert bar.input_value() == "7.5"
    assert numbers(page) != before
    again = open_page(page.url.split("/", 3)[3])
    assert numbers(again) == numbers(page)
    page.get_by_role("radio", name="ambiguous").click()
    at_rest(page)
    assert bar.input_value() == "6"
    assert numbers(page) == before
    # Back to where it was: the same numbers as before are news too.
    bar.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(600)
    at_rest(page)
    assert numbers(page) == numbers(again)


def test_a_bar_dragged_by_the_mouse_ends_where_the_hand_left_it(open_page) -> None:
    page = open_page("learn?lesson_step=2")
    bar = page.get_by_role("slider", name="Logit of lynx")
    box = bar.bounding_box()
    start, line = box["x"] + box["width"] * 0.62, box["y"] + box["height"] / 2  # 6 of -25 to 25
    page.mouse.move(start, line)
    page.mouse.down()
    for step in range(15):
        page.mouse.move(start - 4 * step, line)
        page.wait_for_timeout(30)
    page.mouse.up()
    left_at = bar.input_value()
    assert float(left_at) < 0
    page.wait_for_function("value => location.search.includes(`lesson_logits=8%2C${value}%2C4`)", arg=left_at)
    at_rest(page)
    assert bar.input_value() == left_at
    assert numbers(open_page(page.url.split("/", 3)[3])) == numbers(page)
