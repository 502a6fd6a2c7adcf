"""The sliders above the page: whatever moves them, the pictures follow at once, and the server knows in the end."""

from __future__ import annotations

import io
import itertools
import math
import re
import time

import pytest
from PIL import Image

from cist_core.compare.findings import comparison, gain_words
from cist_core.compare.matching import matched_pair
from cist_core.entropy.curves import EntropyCurves
from cist_core.inference.sources import load_logits
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rule
from cist_core.wording import three_digits
from tests.browser.actions import (
    RHO,
    TAU,
    finding,
    place,
    press_slider,
    server_asked,
    settle,
    slider_value,
    track,
    wait_for,
    with_grid,
)
from tests.browser.conftest import SCREENSHOTS, new_context

pytestmark = pytest.mark.browser

SEEN = """() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => {
    const roots = [...document.querySelectorAll('*')].map(element => element.shadowRoot).filter(Boolean);
    const all = selector => roots.flatMap(root => [...root.querySelectorAll(selector)]);
    resolve({
        values: all('.bar input[type=range]').map(input => Number(input.dataset.value)),
        finding: all('[data-says=finding]')[0].textContent,
        numbers: all('dl dd').map(place => place.innerText),
        bars: all('.bars path').map(path => path.getAttribute('d')),
        search: location.search,
        runs: window.runs,
    });
})))"""
"""What is on the screen in the next frame but one, in one glance."""


@pytest.fixture(scope="module")
def curves() -> EntropyCurves:
    return EntropyCurves.from_logits(load_logits("mnist5k-cnn", "mnist-5k", "test").logit_set)


def numbers(page) -> list[str]:
    return page.locator(".words dl dd").all_inner_texts()


def test_while_a_slider_is_dragged_everything_moves_without_the_server(open_page, curves: EntropyCurves) -> None:
    page = with_grid(open_page())
    said, counted, asked = finding(page), numbers(page), server_asked(page)
    bars = page.evaluate(SEEN)["bars"]
    x, y = place(page, TAU, slider_value(page, TAU))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(*place(page, TAU, 2.9), steps=4)
    seen = page.evaluate(SEEN)  # at once: where the hand rests, the server is told
    tau, rho = seen["values"]
    assert tau == pytest.approx(2.9, rel=0.03)
    assert rho == pytest.approx(matched_pair(curves, tau=tau).rho, rel=0.01)
    readings = read_rule(Fixed(tau), curves), read_rule(Cist(rho), curves)
    assert seen["finding"] == comparison(*readings) != said
    assert seen["numbers"][0] == f"{three_digits(readings[0].profile.std)} nats" != counted[0]
    assert seen["numbers"][2] == gain_words(readings[0].profile, readings[1].profile, 0.0)
    assert seen["bars"] != bars
    assert (seen["search"], seen["runs"]) == ("", asked)
    page.mouse.up()
    settle(page)
    assert server_asked(page) == asked + 1
    assert slider_value(page, TAU) == tau
    assert f"tau={tau:g}" in page.url
    assert slider_value(page, RHO) == pytest.approx(matched_pair(curves, tau=tau).rho, abs=0.0051)
    exact = read_rule(Fixed(tau), curves), read_rule(Cist(slider_value(page, RHO)), curves)
    assert finding(page) == comparison(*exact)
    assert numbers(page)[1] == f"{three_digits(exact[1].profile.std)} nats"


def test_a_hand_that_rests_without_letting_go_is_told_to_the_server(open_page) -> None:
    page = with_grid(open_page("entropy"))
    page.mouse.move(*place(page, RHO, slider_value(page, RHO)))
    page.mouse.down()
    page.mouse.move(*place(page, RHO, 6.0), steps=5)
    page.wait_for_url(re.compile("rho="))
    page.mouse.move(*place(page, RHO, 2.0), steps=5)  # still held: the answer has not pulled it away
    moved = slider_value(page, RHO)
    assert moved == pytest.approx(2.0, rel=0.03)
    page.mouse.up()
    settle(page)
    assert f"rho={moved:g}" in page.url


def test_the_marks_hold_a_thumb_that_comes_near(open_page) -> None:
    page = with_grid(open_page())
    x, y = place(page, TAU, 4.0)
    page.mouse.click(x + 2, y)
    settle(page)
    assert slider_value(page, TAU) == 4


def test_the_keyboard_moves_in_steps_that_fit_the_scale(open_page) -> None:
    page = with_grid(open_page("?tau=1.5"))
    slider = page.get_by_role("slider", name=TAU)
    for key, expected in (
        ("ArrowRight", 1.55),
        ("ArrowLeft", 1.5),
        ("Shift+ArrowRight", 1.501),
        ("PageUp", 2),
        ("PageUp", 3),
        ("ArrowUp", 3.1),
        ("PageDown", 3),
        ("End", 20),
        ("ArrowDown", 19.8),
        ("Home", 0.25),
        ("ArrowRight", 0.26),
    ):
        slider.press(key)
        assert slider_value(page, TAU) == expected, key
        assert slider.get_attribute("aria-valuetext") == f"τ = {expected:g}"
    settle(page)
    assert "tau=0.26" in page.url
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("0", "10000")


def test_a_number_can_be_typed_and_what_is_none_is_put_back(open_page) -> None:
    page = with_grid(open_page())
    field, note = page.get_by_label("τ as a number"), page.locator(".bar .note")
    beyond = "τ goes from 0.25 to 20 here, so not to"
    for typed, expected, remark in (
        ("3.3", 3.3, ""),
        ("99", 20, f"{beyond} 99."),
        ("2,5", 2.5, ""),
        ("0.0001", 0.25, f"{beyond} 0.0001."),
        ("-3", 0.25, f"{beyond} -3."),
        ("1.23456", 1.235, ""),
    ):
        field.fill(typed)
        field.press("Enter")
        settle(page)
        assert slider_value(page, TAU) == expected, typed
        assert field.input_value() == f"{expected:g}"
        assert note.inner_text().partition(" Not matched: no ρ")[0] == remark
    for typed in ("abc", "", "NaN", "-"):
        field.fill(typed)
        field.press("Enter")
        assert (slider_value(page, TAU), field.input_value()) == (1.235, "1.235"), typed
        assert note.inner_text() == (typed and f"“{typed}” is no number: τ stays at 1.235.")
    page.get_by_role("slider", name=TAU).press("ArrowRight")
    assert note.inner_text() == ""
    settle(page)
    field.fill("99")
    field.press("Enter")
    settle(page)
    assert note.inner_text().startswith(beyond)
    page.go_back()
    wait_for(lambda: not note.inner_text(), seconds=20)
    page.get_by_role("slider", name=TAU).press("ArrowLeft")
    field.fill("1.235")
    field.press("Enter")
    settle(page)
    field.fill("7")
    field.press("Escape")
    assert field.input_value() == "1.235"
    settle(page)
    assert "tau=1.235" in page.url


def test_the_switch_parts_the_sliders_and_says_so(open_page) -> None:
    page = with_grid(open_page())
    switch = page.get_by_role("switch", name="Match mean entropy")
    assert switch.get_attribute("aria-checked") == "true"
    switch.click()
    settle(page)
    assert "matched=false" in page.url
    tau = slider_value(page, TAU)
    press_slider(page, RHO, "Home")
    assert slider_value(page, TAU) == tau
    assert finding(page).startswith("Not matched: the mean entropy is")
    assert page.locator(".bar .note").inner_text() == (
        "Not matched: spreads at different mean entropies cannot be compared."
    )
    assert numbers(page)[2] == "not matched"
    switch.click()
    settle(page)
    assert switch.get_attribute("aria-checked") == "true"
    assert finding(page).startswith("CIST's entropies vary")
    assert page.locator(".bar .note").inner_text() == ""


def test_one_back_press_takes_back_one_move(open_page) -> None:
    page = with_grid(open_page())
    stood = [(slider_value(page, TAU), slider_value(page, RHO))]
    for label, key in ((TAU, "PageUp"), (RHO, "PageUp"), (TAU, "PageDown")):
        press_slider(page, label, key)
        stood.append((slider_value(page, TAU), slider_value(page, RHO)))
    for expected in reversed(stood[:-1]):
        page.go_back()
        settle(page)
        assert (slider_value(page, TAU), slider_value(page, RHO)) == expected


def test_the_bar_stays_in_sight(open_page) -> None:
    page = open_page()
    page.locator("[data-testid=stMain]").evaluate("element => element.scrollTo(0, 500)")
    page.wait_for_timeout(300)
    box = track(page, TAU)
    assert 0 < box["y"] < 200
    on_top = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).closest('.st-key-rules-bar') !== null",
        [box["x"] + 5, box["y"] + 13],
    )
    assert on_top


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_bar_stands_at_the_lower_edge_beside_the_chart(open_page, scheme: str) -> None:
    page = with_grid(open_page(width=390, height=844, scheme=scheme))
    chart = page.locator(".histogram svg")
    chart.evaluate("element => element.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(300)
    for label in (TAU, RHO):
        box = track(page, label)
        assert 650 < box["y"] < 844 - 20
        assert box["width"] > 180
    picture = chart.bounding_box()
    assert picture["y"] + picture["height"] < page.locator(".bar").bounding_box()["y"] or picture["y"] > 0
    assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
    ground = page.locator(".bar").evaluate("element => getComputedStyle(element).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 20, 28)"}[scheme]


def test_a_finger_moves_a_slider_and_a_swipe_over_the_chart_selects_nothing(browser, server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{server}/?tau=4")
    with_grid(page)
    settle(page)
    page.touchscreen.tap(*place(page, TAU, 8.0))
    settle(page)
    assert slider_value(page, TAU) == 8
    assert "tau=8" in page.url
    page.locator(".histogram svg").evaluate(
        """chart => {
            const box = chart.getBoundingClientRect();
            const at = (type, x) => chart.dispatchEvent(new PointerEvent(type, {
                pointerType: 'touch', pointerId: 7, bubbles: true, clientX: x, clientY: box.y + 100 }));
            at('pointerdown', box.x + 100); at('pointermove', box.x + 250); at('pointerup', box.x + 250);
        }"""
    )
    settle(page)
    assert "select=" not in page.url
    context.close()


def play_page(browser, server, motion: str):
    context = new_context(browser, viewport={"width": 1440, "height": 1000}, reduced_motion=motion)
    page = context.new_page()
    page.goto(f"{server}/")
    with_grid(page)
    settle(page)
    return page


def test_play_lets_tau_run_while_rho_stays_and_stops_at_a_key(browser, server) -> None:
    page = play_page(browser, server, "no-preference")
    rho, asked = slider_value(page, RHO), server_asked(page)
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(600)
    first = slider_value(page, TAU)
    page.wait_for_timeout(1500)
    assert 1 < first < slider_value(page, TAU) < 10
    assert slider_value(page, RHO) == rho
    assert page.get_by_role("button", name="Stop").is_visible()
    assert server_asked(page) == asked
    page.keyboard.press("Escape")
    stopped = slider_value(page, TAU)
    settle(page)
    assert slider_value(page, TAU) == stopped
    assert f"tau={stopped:g}" in page.url
    assert server_asked(page) == asked + 1
    assert page.get_by_role("button", name="Play").is_visible()
    assert finding(page).startswith("CIST's entropies vary")  # rho has followed
    page.context.close()


def test_play_ends_at_ten_and_tells_the_server_once(browser, server) -> None:
    page = play_page(browser, server, "no-preference")
    asked = server_asked(page)
    page.get_by_role("button", name="Play").click()
    page.wait_for_url(re.compile("tau=10"))
    settle(page)
    assert slider_value(page, TAU) == 10
    assert server_asked(page) == asked + 1
    page.context.close()


def test_whoever_wants_less_motion_steps_instead(browser, server) -> None:
    page = play_page(browser, server, "reduce")
    seen = []
    for _ in range(3):
        page.get_by_role("button", name="Play").click()
        seen.append(slider_value(page, TAU))
        page.wait_for_timeout(200)
        assert slider_value(page, TAU) == seen[-1]  # it stands still
        settle(page)
    assert seen == [7, 10, 1]
    page.context.close()


def test_the_samples_show_the_soft_labels_of_both_rules(open_page, curves: EntropyCurves) -> None:
    page = with_grid(open_page("?tau=3"))
    given = page.evaluate("[...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(Boolean)"
                          ".map(r => r.querySelector('.samples')).find(Boolean).children.length")  # fmt: skip
    assert given == 4
    assert page.locator(".card img").count() == 4
    shares = page.locator(".card .track.fixed span").all_inner_texts()
    assert len(shares) == 20
    assert all(re.fullmatch(r"(\d+(\.\d+)?|< 0\.01|> 99\.9) %", share) for share in shares)  # as everywhere
    sharp, flat = (float(shares[row].strip("<> %")) for row in (0, 15))
    assert sharp > flat


def test_the_brush_is_drawn_where_the_selection_is_and_hides_while_a_slider_moves(open_page) -> None:
    page = with_grid(open_page("?select=entropy%3D0.5..1"))
    assert page.locator(".brush .area").count() == 1
    page.mouse.move(*place(page, TAU, slider_value(page, TAU)))
    page.mouse.down()
    page.mouse.move(*place(page, TAU, 9.0), steps=4)
    page.wait_for_timeout(50)
    assert page.locator(".brush rect, .chosen path").count() == 0
    page.mouse.up()
    settle(page)
    assert page.locator(".brush .area").count() == 1
    assert page.locator(".chosen path").count() == 2


def test_a_handle_moves_one_end_of_the_brush_and_what_lies_between_moves_both(open_page) -> None:
    page = open_page("?select=entropy%3D0.5..1")

    def pull(start: dict[str, float], right: float, *, low: float = 0.5) -> list[float]:
        at = start["x"] + start["width"] / 2, start["y"] + low * start["height"]
        page.mouse.move(*at)
        page.mouse.down()
        page.mouse.move(at[0] + right, at[1], steps=3)
        page.mouse.up()
        settle(page)
        return [float(end) for end in page.url.partition("entropy%3D")[2].partition("&")[0].split("..")]

    handles = page.locator(".brush .handle")
    low, high = pull(handles.nth(1).bounding_box(), 50)
    assert low == 0.5
    assert high > 1.1
    assert pull(handles.nth(0).bounding_box(), -50)[1] == high
    wide = pull(page.locator(".brush .area").bounding_box(), 40, low=0.9)
    assert wide[0] < 0.5
    assert wide[1] > high
    a_little = pull(handles.nth(1).bounding_box(), 3)
    assert a_little[0] == wide[0]
    assert a_little[1] > wide[1]
    for held in (handles.nth(1).bounding_box(), page.locator(".brush .area").bounding_box()):
        assert pull(held, 0, low=0.5) == a_little  # a click on it leaves it


def test_the_recording_at_the_top_of_the_readme(browser, server) -> None:
    """Play, then ρ under the hand; as fast as it was seen here, at 12 frames a second at most."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, reduced_motion="no-preference")
    page = context.new_page()
    page.goto(f"{server}/")
    with_grid(page)
    settle(page)
    frames: list[Image.Image] = []
    times: list[float] = []

    def record(seconds: float, move=lambda share: None) -> None:
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            move(passed / seconds)
            frames.append(Image.open(io.BytesIO(page.screenshot(type="jpeg", quality=90))).convert("RGB"))
            times.append(time.monotonic())
            time.sleep(max(0.0, 1 / 12 - (time.monotonic() - started - passed)))

    record(1)
    page.get_by_role("button", name="Play").click()
    record(9)
    settle(page)
    page.mouse.move(*place(page, RHO, slider_value(page, RHO)))
    page.mouse.down()
    record(4, lambda share: page.mouse.move(*place(page, RHO, 3 * 2 ** math.sin(2 * math.pi * share))))
    page.mouse.up()
    settle(page)
    record(1)
    lengths = [round(1000 * (later - earlier)) for earlier, later in itertools.pairwise(times)] + [1500]
    path = SCREENSHOTS / "overview-moves.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=lengths, loop=0, quality=60, method=3)
    assert path.stat().st_size < 3e6
    assert len({frame.tobytes() for frame in frames}) > 20
    context.close()
