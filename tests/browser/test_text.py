"""A language model on a text in a real browser: from the Add page to what it is for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("transformers")

from tiny_language_models import save_tiny_model

from tests.browser.actions import HEADING, MINUTES, finding, press_slider, settle, slider_value, wait_for
from tests.browser.conftest import go_to, wait_until_drawn
from tests.studio import running_studio

WORDS = " ".join(f"w{2 + (7 * number) % 60 + number % 3}" for number in range(180))

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Studio with one open root, in which a language model lies."""
    folder = tmp_path_factory.mktemp("studio")
    save_tiny_model(folder / "models" / "tiny", scale=8.0)
    with running_studio(folder, CIST_ROOTS=str(folder / "models")) as address:
        yield address


def test_a_text_is_added_and_every_page_speaks_of_its_tokens(open_page) -> None:
    page = open_page("add", sign=HEADING)
    page.get_by_role("radio", name="Text", exact=True).click()
    settle(page)
    model = page.get_by_role("combobox", name="Language model")
    model.fill("tiny")
    model.press("Enter")
    settle(page)
    page.get_by_role("radio", name="Paste", exact=True).click()
    settle(page)
    field = page.get_by_role("textbox", name="Text", exact=True)
    field.fill(WORDS)
    field.press("Tab")
    page.get_by_role("button", name="Use this text").click()
    page.get_by_text("180 tokens count, over a vocabulary of 90").wait_for(timeout=2 * MINUTES)
    settle(page)
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("is ready: 180 tokens").wait_for(timeout=2 * MINUTES)
    settle(page)
    page.get_by_role("button", name="Look at it").click()
    page.get_by_text("All 180 tokens").wait_for(timeout=MINUTES)
    wait_until_drawn(page)
    assert slider_value(page, "Fixed temperature τ") == 1
    assert "at τ = 1" in finding(page)
    address = page.url
    assert "teacher=text-" in address

    start = slider_value(page, "CIST ρ")
    press_slider(page, "Fixed temperature τ", "ArrowRight")
    wait_for(lambda: slider_value(page, "CIST ρ") < start, seconds=30)  # a softer label at both
    settle(page)

    go_to(page, "Entropy")
    page.get_by_text("180 tokens in 60 bins").wait_for(timeout=MINUTES)
    go_to(page, "Choose ρ")
    page.get_by_text("180 tokens. Line: mean entropy under CIST").wait_for(timeout=MINUTES)
    assert "as KD at τ = 1" in page.get_by_text("Recommended: ρ").first.inner_text()

    again = open_page(address.rpartition("/")[2])
    again.get_by_text("All 180 tokens").wait_for(timeout=MINUTES)
    assert slider_value(again, "Fixed temperature τ") == 1
