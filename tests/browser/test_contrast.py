"""Every word on every page, those in charts included, stands out from what is behind it (WCAG 2.2, level AA)."""

from __future__ import annotations

import pytest

from tests.browser.actions import CONTRAST
from tests.browser.conftest import PAGES

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_words_stand_out(open_page, name: str, scheme: str) -> None:
    page = open_page(PAGES[name], scheme=scheme)
    assert page.evaluate(CONTRAST) == []


def test_faint_words_would_be_found(open_page) -> None:
    page = open_page("ratio")
    page.locator("h1").evaluate("heading => { heading.style.opacity = 0.3; }")
    found = page.evaluate(CONTRAST)
    assert len(found) == 1
    assert "Why do the entropies differ?" in found[0]
