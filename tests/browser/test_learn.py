"""The lesson as it is given: forward by the button, the bars and sliders by hand, a step sent as a link."""

from __future__ import annotations

import time

import pytest

from tests.browser.actions import MINUTES, server_asked, settle, until_asked
from tests.browser.conftest import A_CHART, wait_until_drawn

pytestmark = pytest.mark.browser
PLAYER = ".player .samples svg >> nth=0"


def at_rest(page, sign: str = A_CHART) -> None:
    until_asked(page)
    wait_until_drawn(page, sign)


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
        page.get_by_role("button", name="Next").click()
    page.get_by_role("heading", level=1, name="9. ").wait_for()
    at_rest(page, PLAYER)
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("heading", level=1, name="10. ").wait_for()
    at_rest(page)
    assert page.get_by_role("button", name="Next", exact=True).is_disabled()
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


@pytest.mark.parametrize("present", [False, True])
def test_every_picture_is_whole_at_1280_x_720(open_page, present: bool) -> None:
    page = open_page("learn?present=1" if present else "learn", width=1280, height=720)
    for step in range(1, 11 if present else 9):
        page.get_by_role("heading", level=1, name=f"{step}. ").wait_for()
        at_rest(page, PLAYER if step == 9 else A_CHART)
        whole = page.locator(".player" if step == 9 else A_CHART).all()
        if present:
            whole += page.locator("[data-testid=stMain] [data-testid=stMetric]").all()
            assert len(whole) >= 4, f"step {step}"
        for box in (each.bounding_box() for each in whole):
            assert box["y"] > 0, f"step {step}"
            assert box["y"] + box["height"] <= 720, f"step {step}"
        if present:
            page.keyboard.press("ArrowRight")
        else:
            page.get_by_role("button", name="Next", exact=True).click()


@pytest.mark.parametrize("step", [3, 5])
def test_on_a_phone_both_samples_and_the_sliders_share_the_screen(open_page, step: int) -> None:
    page = open_page(f"learn?lesson_step={step}", width=390, height=844)
    at_rest(page)
    top = page.locator("[data-testid=stMain] [data-testid=stSlider]:visible").first.bounding_box()["y"]
    charts = [chart.bounding_box() for chart in page.locator(A_CHART).all()]
    assert len(charts) == 2
    assert max(box["y"] + box["height"] for box in charts) - top < 844 - 60  # the header of the page


def test_presented_the_arrow_keys_turn_the_steps_and_sliders_keep_theirs(open_page) -> None:
    page = open_page("learn?present=1&lesson_step=2", width=1280, height=720)
    at_rest(page)
    assert not page.locator("[data-testid=stSidebar]").is_visible()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", level=1, name="3. ").wait_for()
    page.keyboard.press("PageUp")
    page.get_by_role("heading", level=1, name="2. ").wait_for()
    at_rest(page)
    page.get_by_role("slider", name="Temperature τ").first.focus()
    page.keyboard.press("ArrowRight")
    at_rest(page)
    assert "lesson_tau=" in page.url
    assert page.get_by_role("heading", level=1, name="2. ").is_visible()
    assert "present=1" in page.url


def test_two_students_are_played_epoch_by_epoch_and_stop_on_a_touch(browser, server) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="no-preference")
    page = context.new_page()
    page.goto(f"{server}/learn?lesson_step=9")
    page.locator(PLAYER).wait_for(timeout=60_000)
    epoch = page.locator(".player output")
    assert epoch.inner_text() == "epoch 0"
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('[data-testid=stMain]') !== null")
    page.get_by_role("button", name="Stop").wait_for()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Stop").click()
    reached = epoch.inner_text()
    assert int(reached.split()[1]) > 1
    page.wait_for_timeout(600)
    assert epoch.inner_text() == reached
    heights = page.locator(".player .sample >> nth=0 >> rect").evaluate_all(
        "all => all.map(one => +one.getAttribute('height'))"
    )
    assert len(heights) == 20
    assert sum(heights[:10]) == pytest.approx(48, abs=1)  # probabilities
    page.get_by_role("slider", name="Epoch").press("End")
    assert epoch.inner_text() == "epoch 40"
    context.close()


def test_with_reduced_motion_each_press_is_one_epoch(open_page) -> None:
    page = open_page("learn?lesson_step=9", sign=PLAYER)
    page.get_by_role("button", name="Next epoch").click()
    page.wait_for_timeout(700)
    assert page.locator(".player output").inner_text() == "epoch 1"


def shown(page) -> list[tuple[list[str], list[list[float]]]]:
    """Of each picture of a step the words in it, numbers at bars among them, and where its dots and lines stand."""
    pictures = page.evaluate(
        """() => [...document.querySelectorAll('[data-testid=stMain] svg.marks')].map(picture => [
            [...picture.querySelectorAll('text')].map(text => text.textContent),
            [...picture.querySelectorAll('.mark-symbol.role-mark path, .mark-rule.role-mark line')].map(
                mark => mark.getAttribute('transform').match(/-?[\\d.]+(e-?\\d+)?/g).slice(0, 2).map(Number))])"""
    )
    return [(sorted(words), sorted(marks)) for words, marks in pictures]


def at_rest_under_the_hand(page, slider: str) -> list[tuple[list[str], list[list[float]]]]:
    """What the pictures show once they and the slider are the same in two frames after one another."""
    end, before, now = time.monotonic() + 30, None, (value_of(page, slider), shown(page))
    while now != before:
        assert time.monotonic() < end, "the pictures do not come to rest"
        page.evaluate("() => new Promise(requestAnimationFrame)")
        before, now = now, (value_of(page, slider), shown(page))
    return now[1]


def value_of(page, slider: str) -> str:
    return page.locator(f".st-key-lesson_{slider} input").input_value()


def drag_and_look(page, slider: str) -> list[tuple[list[str], list[list[float]]]]:
    """What the pictures show while a slider is held that has been dragged, before the server knows."""
    asked, before = server_asked(page), at_rest_under_the_hand(page, slider)
    page.evaluate(
        """() => {
            const pictures = [...document.querySelectorAll('[data-testid=stMain] svg.marks')];
            window.moved = pictures.map(() => null);
            pictures.forEach((picture, index) =>  // where it stands: it may be replaced as a whole
                new MutationObserver(() => window.moved[index] ??= window.runs).observe(
                    picture.closest('[data-testid=stElementContainer]'),
                    {attributes: true, subtree: true, childList: true}));
        }"""
    )
    thumb = page.locator(f".st-key-lesson_{slider} input").locator("xpath=../..")
    thumb.hover()  # once it stands still
    box = thumb.bounding_box()
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.down()
    page.mouse.move(at[0] + 60, at[1], steps=3)
    page.wait_for_function("window.moved.every(runs => runs !== null)", timeout=MINUTES)
    assert set(page.evaluate("window.moved")) == {asked}  # every picture, and none by the server
    live = at_rest_under_the_hand(page, slider)
    assert live != before
    return live


def show_again(page, step: int, slider: str) -> list[tuple[list[str], list[list[float]]]]:
    """What the server draws in a new page with the slider where the hand has left it."""
    page.mouse.up()
    settle(page)
    open_again(page, step, slider)
    return shown(page)


def open_again(page, step: int, slider: str) -> None:
    """The link to a step with the slider where it stands."""
    value = value_of(page, slider)
    page.wait_for_timeout(800)  # as long as the browser still watches
    page.goto(f"{page.url.partition('?')[0]}?lesson_step={step}&lesson_{slider}={value}")
    wait_until_drawn(page)


@pytest.mark.parametrize(
    ("step", "slider"), [(2, "tau"), (3, "tau"), (4, "tau"), (5, "rho"), (6, "rho"), (7, "student"), (10, "token_rho")]
)
def test_pictures_move_while_a_slider_is_dragged_as_the_server_will_draw_them(
    open_page, step: int, slider: str
) -> None:
    page = open_page(f"learn?lesson_step={step}")
    live = drag_and_look(page, slider)
    for (words, marks), (drawn_words, drawn_marks) in zip(live, show_again(page, step, slider), strict=True):
        assert words == drawn_words
        assert marks == [pytest.approx(mark, abs=0.1) for mark in drawn_marks]


def test_pictures_move_with_a_slider_that_came_after_them(context, open_page) -> None:
    held = []
    context.route(
        "**/Slider*.js", lambda route: held.append(route)
    )  # Streamlit loads what draws a slider when there is one
    page = open_page("learn?lesson_step=5")
    assert page.locator(".st-key-lesson_rho input").count() == 0
    for request in held:
        request.continue_()
    context.unroute("**/Slider*.js")
    page.locator(".st-key-lesson_rho input").wait_for()
    drag_and_look(page, "rho")


def test_the_histogram_of_the_lesson_moves_from_position_to_position_of_the_grid(open_page) -> None:
    page = open_page("learn?lesson_step=8")
    page.wait_for_function("window.cistStudio?.grids.size > 0")
    ((_, live),) = drag_and_look(page, "tau")
    moved = tables(page)
    for region in moved["regions"]:  # 3 of 60 bins at each end
        counts = [row["samples"] for row in moved["bins"] if row["rule"] == region["rule"]]
        assert region["samples"] == sum(counts[:3] if region["region"] == "over-sharp" else counts[-3:])
    ((_, drawn),) = show_again(page, 8, "tau")
    assert live == [pytest.approx(mark, abs=12) for mark in drawn]  # half a step of the grid apart at most


HISTOGRAM = ("bins", "means", "regions")


def tables(page) -> dict[str, list[dict[str, object]]]:
    """The rows that the histogram is drawn from, as Vega has them now."""
    return page.evaluate(
        """names => {
            const marks = [...document.querySelectorAll('.st-key-lesson-picture-place svg.marks g > *')];
            const view = marks.map(mark => mark.__data__?.mark?.group?.context?.dataflow).find(Boolean);
            const column = name => name !== '(index)';
            return Object.fromEntries(names.map(name => [name, view.data(name).map(
                row => Object.fromEntries(Object.entries(row).filter(([name]) => column(name))))]));
        }""",
        HISTOGRAM,
    )


def same_tables(one, other) -> bool:
    return one.keys() == other.keys() and all(
        len(one[name]) == len(other[name])
        and all(row == pytest.approx(again) for row, again in zip(one[name], other[name], strict=True))
        for name in one
    )


def test_at_rest_the_histogram_of_the_lesson_is_that_of_the_temperature_itself(open_page) -> None:
    page = open_page("learn?lesson_step=8&lesson_tau=3.9")
    page.wait_for_function("window.cistStudio?.grids.size > 0")
    between = "at => [...cistStudio.grids.values()][0].taus.every(position => position.at !== at)"
    assert page.evaluate(between, 3.9)
    assert page.evaluate(between, 3.85)
    at_first = tables(page)
    page.locator(".st-key-lesson_tau input").focus()
    for key in ("ArrowLeft", "ArrowRight"):  # back to where it began, which the server need not answer
        page.keyboard.press(key)
    settle(page)
    page.wait_for_timeout(800)
    assert same_tables(tables(page), at_first)
    # Under a hand that trembles the browser still watches when the server answers, however long that takes.
    page.evaluate(
        """() => {
            const slider = document.querySelector('.st-key-lesson_tau [data-testid=stSlider]');
            window.trembling = setInterval(() => slider.setAttribute('data-touched', performance.now()), 100);
        }"""
    )
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("location.search.includes('lesson_tau=3.85')", timeout=MINUTES)
    settle(page)
    page.evaluate("clearInterval(window.trembling)")
    page.wait_for_timeout(800)
    rested = tables(page)
    assert not same_tables(rested, at_first)
    open_again(page, 8, "tau")
    assert same_tables(rested, tables(page))
