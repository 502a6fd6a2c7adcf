"""The browser's Back and Forward move what stands in the address one by one, whatever widget it was changed by."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.actions import HEADING, TAU, fill, press_slider, settle, slider_value, wait_for
from tests.browser.conftest import go_to

pytestmark = pytest.mark.browser

FIELDS = """all => all.filter(field => field.offsetParent).map(field =>
    `${field.ariaLabel} = ${/checkbox|radio/.test(field.type) ? field.checked : field.value}`)"""


def entries(page) -> int:
    return int(page.evaluate("history.length"))


def walk(page, shown: Callable[[], object], *moves: Callable[[], object]) -> None:
    """Make the moves, an entry each, and go back and forward over them; every view must be shown again."""
    views, count = [shown()], entries(page)
    for number, move in enumerate(moves, start=1):
        move()
        settle(page)
        assert entries(page) == count + number, page.url
        views.append(shown())
        assert views[-1] != views[-2]
    for way, expected in ((page.go_back, views[-2::-1]), (page.go_forward, views[1:])):
        for view in expected:
            way()
            settle(page)
            wait_for(lambda view=view: shown() == view, seconds=20)
    assert entries(page) == count + len(moves)  # nothing was made on the way


def drag(page, label: str) -> None:
    """Move a slider of Streamlit's, with a pause in the middle that is long enough for the server to be told."""
    box = page.get_by_role("slider", name=label).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 7):
        page.mouse.move(x + 12 * step, y)
        page.wait_for_timeout(1500 if step == 3 else 250)
    page.mouse.up()


def test_tabs_thresholds_choices_sliders_and_selections_are_an_entry_each(open_page) -> None:
    page = open_page("entropy")
    thresholds = page.get_by_role("button", name="Thresholds")
    sharp = "Over-sharp below, share of ln C"

    def shown() -> tuple[str, ...]:
        if not page.get_by_role("slider", name=sharp).is_visible():
            thresholds.click()
        page.get_by_role("slider", name=sharp).wait_for()
        return (
            page.get_by_role("slider", name=sharp).get_attribute("aria-valuetext"),
            page.get_by_role("tab", selected=True).inner_text(),
            page.get_by_role("radio", name="stacked").is_checked(),
            slider_value(page, TAU),
            page.get_by_role("textbox", name="Select samples").input_value(),
        )

    def select() -> None:
        field = page.get_by_role("textbox", name="Select samples")
        field.fill("correct=no")
        field.press("Enter")

    walk(
        page,
        shown,
        page.get_by_role("tab", name="Tables").click,
        lambda: drag(page, sharp),
        page.get_by_text("stacked", exact=True).click,
        lambda: press_slider(page, TAU, "PageUp"),
        select,
        page.get_by_role("tab", name="By class").click,
    )


def test_one_field_that_is_moved_on_at_once_is_one_entry_and_two_fields_are_two(open_page) -> None:
    page = open_page("distill", sign=HEADING)
    settle(page)
    epochs = page.get_by_role("spinbutton", name="Epochs", exact=True)
    count = entries(page)
    page.locator(".st-key-epochs").get_by_test_id("stNumberInputStepUp").click(click_count=3)
    wait_for(lambda: "epochs=43" in page.url, seconds=20)
    settle(page)
    assert entries(page) == count + 1
    # A field is taken over when it is left, for another one.
    epochs.fill("50")
    page.get_by_role("spinbutton", name="Learning rate", exact=True).fill("0.5")
    page.keyboard.press("Enter")
    settle(page)
    assert entries(page) == count + 3, page.url
    for expected in ("50", "43", "40"):
        page.go_back()
        settle(page)
        wait_for(lambda expected=expected: epochs.input_value() == expected, seconds=20)


def test_a_recipe_and_all_that_it_brings_are_one_entry(open_page) -> None:
    page = open_page("distill", sign=HEADING)
    settle(page)
    page.get_by_text("Advanced").click()
    settle(page)

    def choose(box: str, option: str) -> Callable[[], None]:
        def press() -> None:
            page.get_by_role("combobox", name=box, exact=True).click()
            page.get_by_role("option", name=option).first.click()

        return press

    walk(
        page,
        lambda: page.eval_on_selector_all("[data-testid=stMain] input", FIELDS),
        choose("Recipe", "cifar-240"),
        choose("Objective", "DKD"),
        choose("Recipe", "demo"),
    )


def fields(page) -> list[str]:
    return page.eval_on_selector_all("[data-testid=stMain] input", FIELDS)


def test_a_teacher_and_all_fields_that_it_sets_anew_are_one_entry(open_page) -> None:
    page = open_page("distill", sign=HEADING)
    settle(page)
    fill(page, "Epochs", "50")
    fill(page, "Learning rate", "0.5")
    before = fields(page)

    def choose() -> None:
        page.get_by_role("combobox", name="Teacher", exact=True).click()
        page.get_by_role("option", name="cifar100-resnet20").first.click()
        page.wait_for_url(lambda url: "epochs=50" not in url)

    walk(page, lambda: fields(page), choose)
    page.go_back()
    settle(page)
    wait_for(lambda: fields(page) == before, seconds=20)


@pytest.mark.parametrize("key", ["Shift", "F8"])
def test_a_key_that_is_pressed_before_the_answer_is_there_splits_nothing(open_page, key: str) -> None:
    page = open_page("distill", sign=HEADING)
    settle(page)
    fill(page, "Epochs", "50")
    page.get_by_text("Advanced").click()
    settle(page)
    before, count = fields(page), entries(page)
    page.get_by_role("combobox", name="Recipe", exact=True).click()
    page.get_by_role("option", name="cifar-240").first.click()
    page.wait_for_timeout(20)
    page.keyboard.press(key)
    page.wait_for_url(lambda url: "epochs=50" not in url)
    settle(page)
    assert entries(page) == count + 1, page.url
    page.go_back()
    settle(page)
    wait_for(lambda: fields(page) == before, seconds=20)


def test_what_a_screen_reader_presses_is_an_entry_each(open_page) -> None:
    page = open_page("learn")
    settle(page)

    def press() -> None:
        page.get_by_role("button", name="Next").evaluate("button => button.click()")

    walk(page, lambda: page.get_by_role("heading", level=1).inner_text(), press, press, press)


def test_two_presses_before_the_first_is_answered_are_undone_one_by_one(open_page) -> None:
    page = open_page("learn")
    settle(page)
    count, step = entries(page), page.get_by_role("heading", level=1)
    first = step.inner_text()
    page.get_by_role("button", name="Next").click()
    wait_for(lambda: step.inner_text() != first, seconds=30)
    page.get_by_role("button", name="Next").click()
    settle(page)
    assert entries(page) == count + 2, page.url


def test_presenting_the_lesson_is_undone_and_done_again(open_page) -> None:
    page = open_page("learn")
    switch = page.get_by_role("switch", name="Present")
    walk(
        page,
        lambda: (switch.is_checked(), page.get_by_role("heading", level=1).inner_text()),
        page.get_by_role("button", name="Next").click,
        page.get_by_text("Present", exact=True).click,
        page.get_by_role("button", name="Next").click,
    )


def test_a_page_is_one_entry_and_a_link_is_mended_in_its_own(open_page) -> None:
    page, untouched = open_page("?tau=9999"), open_page()
    settle(page)
    assert "tau=" not in page.url
    count = entries(untouched)
    assert entries(page) == count
    go_to(page, "Entropy")
    settle(page)
    assert entries(page) == count + 1
    page.go_back()
    settle(page)
    page.get_by_role("button", name="Play").wait_for()  # of Overview
