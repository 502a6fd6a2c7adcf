"""What stands around every page: the name, the pages by section, the question above, Export in the corner."""

from __future__ import annotations

import pytest

from app.pages import SECTIONS, find_pages
from app.widgets import PRODUCT
from tests.browser.actions import faint_words, server_asked, settle
from tests.browser.conftest import go_to

pytestmark = pytest.mark.browser

QUESTIONS = {
    "Entropy": "How consistent are my soft labels?",
    "Ratio": "Why do the entropies differ?",
    "Weights": "Who is heard more, who less?",
    "Samples": "What does the student actually see?",
    "Choose ρ": "Which ρ suits this teacher?",
    "Teachers": "Which teacher suits this student?",
}


def test_the_sidebar_has_the_name_and_every_page_by_section_and_marks_the_current_one(open_page) -> None:
    page = open_page("ratio")
    name = page.locator("[data-testid=stSidebarLogo]")
    assert name.bounding_box()["width"] > 100
    menu = page.locator("[data-testid=stSidebarNav]")
    for section in SECTIONS:
        assert menu.get_by_text(section, exact=True).is_visible()
    links = menu.get_by_role("link")
    assert links.count() == len([page for page in find_pages() if not page.hidden])
    assert "Ratio" in menu.locator("[aria-current=page]").inner_text()
    go_to(page, "Weights")
    assert "Weights" in menu.locator("[aria-current=page]").inner_text()


def test_a_page_begins_with_its_question_fits_two_screens_and_the_browser_says_it_too(open_page) -> None:
    page = open_page(height=900)
    for name, question in QUESTIONS.items():
        go_to(page, name)
        assert page.get_by_role("heading", level=1).inner_text() == question
        assert page.title() == f"{question} · {PRODUCT}"
        height = page.locator("[data-testid=stMain]").evaluate("element => element.scrollHeight")
        assert height <= 2 * 900, f"{name}, before another tab is opened"


@pytest.mark.parametrize("width", [1440, 390])
def test_export_is_an_icon_with_a_name_beside_the_caption_and_covers_no_words(open_page, width: int) -> None:
    page = open_page("weights", width=width, height=844)
    icon = page.get_by_role("button", name="Export", exact=True).first
    assert icon.bounding_box()["width"] < 60
    titles = [*page.get_by_role("heading").all(), *page.locator("[data-testid=stCaptionContainer]").all()]
    for export in page.get_by_role("button", name="Export", exact=True).all():
        for words in titles:
            assert not overlap(export.bounding_box(), words.bounding_box())
    icon.click()
    page.get_by_role("button", name="Picture (PNG)").wait_for()


def test_the_chart_has_no_second_toolbar(open_page) -> None:
    page = open_page("ratio")
    page.locator("[data-testid=stVegaLiteChart]").first.hover()
    page.wait_for_timeout(500)
    frame = "[data-testid=stFullScreenFrame]:has([data-testid=stVegaLiteChart])"
    toolbars = page.locator(f"{frame} [data-testid=stElementToolbar]")
    assert toolbars.count()
    assert not any(toolbar.is_visible() for toolbar in toolbars.all())


def test_a_tab_is_computed_when_it_is_opened_and_the_address_keeps_it(open_page) -> None:
    page = open_page("ratio")
    assert page.get_by_text("samples furthest from the curve").count() == 0
    page.get_by_role("tab", name="Exceptions").click()
    settle(page)
    page.get_by_role("heading", name="samples furthest from the curve").wait_for()
    assert "ratio_tab=Exceptions" in page.url
    page.reload()
    page.get_by_role("heading", name="samples furthest from the curve").wait_for()


def overlap(one: dict[str, float], other: dict[str, float] | None) -> bool:
    return other is not None and all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "width"), ("y", "height"))
    )


def test_an_open_page_follows_the_theme_of_the_system_with_its_charts(open_page) -> None:
    page = open_page("ratio")
    asked = server_asked(page)
    for runs, scheme in enumerate(("dark", "light", "dark"), start=1):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("runs => window.runs >= runs", arg=asked + runs)
        settle(page)
        assert faint_words(page) == []
    assert server_asked(page) == asked + 3  # one run each
