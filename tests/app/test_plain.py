"""Text from outside stays text where Markdown is read."""

from __future__ import annotations

import pytest

from app.widgets import plain


@pytest.mark.parametrize(
    "text",
    [
        "_cat_",
        "__init__",
        "*a*",
        "$x$",
        "[a](b)",
        "`c`",
        "~~d~~",
        "<b>",
        "AT&amp;T",
        "# title",
        "- item",
        "1. one",
        "a | b",
    ],
)
def test_every_mark_is_escaped(text: str) -> None:
    marks = set("\\`*[]$~<>&#|")
    shown = plain(text)
    for place, character in enumerate(shown):
        if character in marks and character != "\\":
            assert shown[place - 1] == "\\", shown
    assert shown.replace("\\", "").replace("\u2060", "") == text


@pytest.mark.parametrize(
    "text", ["https://a.org/b", "HTTP://a.org", "www.a.org", "write to me@a.org", "mailto:me@a.org"]
)
def test_addresses_are_broken_before_they_become_links(text: str) -> None:
    shown = plain(text)
    assert text not in shown
    assert shown.replace("\u2060", "") == text


@pytest.mark.parametrize("text", [":smile:", ":material/home:", "a :red: b", ":red[hi]", "x :blue-badge"])
def test_names_of_emoji_and_icons_are_broken(text: str) -> None:
    assert text not in plain(text)
    assert ":\u2060" in plain(text)
    assert plain(text).replace("\u2060", "").replace("\\", "") == text


@pytest.mark.parametrize(
    ("text", "shown"), [("_cat_", r"\_cat\_"), ("__init__", r"\_\_init\_\_"), ("cnn_32_64", "cnn_32_64"), ("_", r"\_")]
)
def test_underscores_are_escaped_where_they_would_slant(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_ordinary_words_stay_as_they_are() -> None:
    text = "At τ = 3.45: 0.575 nats (25 %), CIST spreads 3.6 times less; 9 to 4, “7”"
    assert plain(text) == text
