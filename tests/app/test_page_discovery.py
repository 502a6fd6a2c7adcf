"""A new page is one new file."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.pages import SECTIONS, find_pages

GOOD = '''"""Weights: who is heard more, who less."""

import streamlit as st

SECTION = "Look"
ORDER = 40
ICON = ":material/balance:"
'''


def test_every_page_of_the_studio_says_what_it_is() -> None:
    pages = find_pages()
    assert next(iter(pages)).name == "overview"
    assert {page.section for page in pages} <= set(SECTIONS)
    assert len({page.title for page in pages}) == len(pages)
    for page in pages:
        assert page.icon.startswith(":material/")
        assert page.help.endswith(".")


def test_a_page_is_read_without_being_run(tmp_path: Path) -> None:
    (tmp_path / "weights.py").write_text(GOOD + "raise SystemExit\n")
    (tmp_path / "learn.py").write_text(GOOD.replace("Weights", "Learn") + "NEEDS_SOURCE = False\nORDER = 1\n")
    learn, weights = find_pages(tmp_path)
    assert (weights.title, weights.help, weights.section) == ("Weights", "who is heard more, who less.", "Look")
    assert weights.shows_samples
    assert weights.needs_source
    assert not learn.needs_source


@pytest.mark.parametrize("missing", ['SECTION = "Look"\n', "ORDER = 40\n", 'ICON = ":material/balance:"\n', ": who is"])
def test_a_page_that_does_not_say_what_it_is_fails_at_once(tmp_path: Path, missing: str) -> None:
    (tmp_path / "weights.py").write_text(GOOD.replace(missing, ""))
    with pytest.raises(ValueError, match=r"to begin with a docstring 'Title: what it answers\.'"):
        find_pages(tmp_path)
