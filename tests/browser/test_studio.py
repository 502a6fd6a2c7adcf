"""What a person does: look, move a slider, see the chart change, send the link."""

from __future__ import annotations

import re

import pytest

from tests.browser.actions import (
    A_CHART,
    RHO,
    TAU,
    drawing,
    faint_words,
    finding,
    press_slider,
    settle,
    slider_value,
    wait_for,
)
from tests.browser.conftest import PAGES, each_look, go_to, save_whole_page, wait_until_drawn

pytestmark = pytest.mark.browser


def test_first_screen_answers_without_a_click(open_page) -> None:
    page = open_page()
    assert re.fullmatch(r"CIST's entropies vary .* at τ = .*, at the same mean \(.* nats\)", finding(page))
    assert page.get_by_text("Consistency gain").is_visible()
    assert page.get_by_text("Accuracy", exact=True).is_visible()


def test_moving_tau_moves_the_chart_the_matched_rho_and_the_url(open_page) -> None:
    page = open_page()
    before, tau, rho = drawing(page), slider_value(page, "Fixed temperature τ"), slider_value(page, "CIST ρ")
    press_slider(page, "Fixed temperature τ", "PageUp")
    assert slider_value(page, "Fixed temperature τ") > tau
    assert slider_value(page, "CIST ρ") < rho  # softer fixed labels are matched by a smaller ratio
    assert drawing(page) != before
    assert f"tau={slider_value(page, 'Fixed temperature τ'):g}" in page.url
    assert finding(page).startswith("CIST's entropies vary")


def test_unlocked_sliders_move_apart_and_the_headline_says_so(open_page) -> None:
    page = open_page("?tau=2&rho=9&matched=false")
    assert slider_value(page, "Fixed temperature τ") == 2
    assert slider_value(page, "CIST ρ") == 9
    assert finding(page).startswith("Not matched")


@pytest.mark.parametrize("path", ["", "entropy", "ratio"])
def test_a_copied_url_opens_the_same_view(open_page, path: str) -> None:
    first = open_page(path)
    press_slider(first, "Fixed temperature τ", "PageUp")
    second = open_page(first.url.split("/", 3)[3])
    for label in ("Fixed temperature τ", "CIST ρ"):
        assert slider_value(second, label) == slider_value(first, label)
    headings = [page.get_by_role("heading").all_inner_texts() for page in (first, second)]
    assert headings[0] == headings[1]
    assert drawing(first) == drawing(second)


def test_sliders_keep_their_place_from_page_to_page(open_page) -> None:
    page = open_page("?tau=3")
    rho = slider_value(page, "CIST ρ")
    go_to(page, "Ratio")
    page.wait_for_url("**/ratio**")
    assert slider_value(page, "Fixed temperature τ") == 3
    assert slider_value(page, "CIST ρ") == rho


def test_the_back_button_brings_back_a_matched_pair(open_page) -> None:
    page = open_page("?tau=2")
    page.get_by_role("combobox", name="Teacher").click()
    page.get_by_role("option", name="mnist5k-mlp").click()
    settle(page)
    page.go_back()
    settle(page)
    page.wait_for_timeout(1000)
    assert finding(page).startswith("CIST's entropies vary")
    assert page.get_by_text("No partner").count() == 0
    assert slider_value(page, "Fixed temperature τ") == 2


def floor_of(page) -> float:
    return float(page.get_by_role("spinbutton", name="Floor of τ").input_value())


def set_floor(page, value: str) -> None:
    field = page.get_by_role("spinbutton", name="Floor of τ")
    field.fill(value)
    field.press("Enter")
    settle(page)


def test_another_floor_moves_the_chart_keeps_the_match_and_travels_with_link_and_page(open_page) -> None:
    page = open_page("?teacher=mnist5k-mlp&tau=1.1")  # sharp enough for the floor to bind
    assert "floor=" not in page.url  # as by default
    assert floor_of(page) == 1
    before, tau, rho = drawing(page), slider_value(page, "Fixed temperature τ"), slider_value(page, "CIST ρ")
    set_floor(page, "0")
    assert "floor=0" in page.url
    assert drawing(page) != before
    assert slider_value(page, "Fixed temperature τ") == tau
    assert slider_value(page, "CIST ρ") != rho
    assert finding(page).startswith("CIST's entropies vary")
    assert page.get_by_text("Without a floor every sample has the ratio ρ").is_visible()
    copy = open_page(page.url.split("/", 3)[3])
    assert floor_of(copy) == 0
    assert drawing(copy) == drawing(page)
    go_to(page, "Ratio")
    assert floor_of(page) == 0
    set_floor(page, "1")
    assert "floor=" not in page.url
    assert slider_value(page, "CIST ρ") == pytest.approx(rho, abs=0.011)


def test_one_back_press_takes_back_another_teacher_with_its_pair(open_page) -> None:
    page = open_page("?tau=2.5")
    before, entries = slider_value(page, "CIST ρ"), page.evaluate("history.length")
    page.get_by_role("combobox", name="Teacher").click()
    page.get_by_role("option", name="cifar100-resnet20").click()
    wait_for(lambda: slider_value(page, "Fixed temperature τ") != 2.5, seconds=30)
    settle(page)
    assert page.url.endswith("?teacher=cifar100-resnet20")
    assert page.evaluate("history.length") == entries + 1
    page.go_back()
    settle(page)
    wait_for(lambda: slider_value(page, "CIST ρ") == before, seconds=20)
    assert slider_value(page, "Fixed temperature τ") == 2.5
    assert page.get_by_role("combobox", name="Teacher").input_value() == "mnist5k-cnn"


def test_one_back_press_takes_back_another_split_with_its_pair(open_page) -> None:
    page = open_page("?tau=2.5")
    pair = [slider_value(page, label) for label in (TAU, RHO)]
    entries = page.evaluate("history.length")
    split = page.get_by_role("radiogroup", name="Split")
    for made, name in enumerate(("train", "validation"), start=1):
        split.get_by_role("radio", name=name).click()
        page.wait_for_url(f"**/?split={name}", wait_until="commit")
        settle(page)
        assert page.evaluate("history.length") == entries + made
    for name in ("train", "test"):
        page.go_back()
        settle(page)
        wait_for(lambda name=name: split.get_by_role("radio", name=name).is_checked(), seconds=20)
    wait_for(lambda: [slider_value(page, label) for label in (TAU, RHO)] == pair, seconds=20)


def test_the_back_button_keeps_the_pair_matched_under_the_floor(open_page) -> None:
    page = open_page("?teacher=mnist5k-mlp&floor=2&tau=4")
    rho = slider_value(page, RHO)
    set_floor(page, "0.5")
    for _ in range(2):
        press_slider(page, "Fixed temperature τ", "PageUp")
    for _ in range(2):
        page.go_back()
        settle(page)
        page.wait_for_timeout(1000)
        assert finding(page).startswith("CIST's entropies vary")
        assert "matched=false" not in page.url
        assert floor_of(page) == 0.5
    page.go_back()
    settle(page)
    wait_for(lambda: floor_of(page) == 2, seconds=20)
    assert [slider_value(page, label) for label in (TAU, RHO)] == [4, rho]


def test_a_floor_that_cannot_be_is_named_above_the_page_on_a_phone_too(open_page) -> None:
    for width in (1440, 390):
        page = open_page("?floor=abc", width=width)
        assert page.get_by_text("The link asks for “abc” as floor of τ, which is no number from 0 to 20").is_visible()
        assert "floor=" not in page.url
        assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0


def test_choosing_another_teacher_loads_its_logits(open_page) -> None:
    page = open_page()
    page.get_by_role("combobox", name="Teacher").click()
    page.get_by_role("option", name="cifar100-resnet20").click()
    settle(page)
    wait_until_drawn(page)
    assert page.get_by_text("10,000").first.is_visible()
    assert "teacher=cifar100-resnet20" in page.url


def test_a_rule_that_cannot_be_read_is_named_and_the_rest_stays(open_page) -> None:
    page = open_page("entropy?rules=nonsense")
    assert page.get_by_text("There is no temperature rule 'nonsense'").is_visible()
    assert page.locator(A_CHART).count() >= 2


@pytest.mark.parametrize("name", PAGES)
def test_words_stand_out_nothing_sticks_out_and_pictures_are_taken(open_page, name: str) -> None:
    """The pictures are those of the documentation."""
    page = open_page(PAGES[name], width=390, height=844)
    for scheme in each_look(page):
        assert faint_words(page) == [], (scheme, page.viewport_size)
        save_whole_page(page, name, scheme)


def test_faint_words_would_be_found(open_page) -> None:
    page = open_page("ratio")
    page.locator("h1").evaluate("heading => { heading.style.opacity = 0.3; }")
    found = faint_words(page)
    assert len(found) == 1
    assert "Why do the entropies differ?" in found[0]
