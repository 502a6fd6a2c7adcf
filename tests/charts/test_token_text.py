"""A coloured text as a picture: lines of whole tokens, and colours that are the values."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cist_core.charts.pictures import png, svg
from cist_core.charts.tokens import MOST_LINES, TokenScale, laid_out, token_text_figure

TEXTS = ["In", " the", " beginning", "\n", "", "God", " created"]
VALUES = np.array([np.nan, 0.5, 4.0, 1.0, 2.0, 2.0, 9.0])
NATS = TokenScale(0.0, 4.0, unit="nats")


def made(scale=NATS, **options):
    return token_text_figure(TEXTS, VALUES, scale, title="Found", measure="entropy at τ = 1", **options)


def test_tokens_stay_whole_and_lines_end_where_the_text_has_them() -> None:
    places = [(piece.line, piece.start, piece.end, piece.text) for piece in laid_out(TEXTS, columns=13)]
    assert places == [
        (0, 0, 2, "In"),
        (0, 2, 6, "·the"),
        (1, 0, 10, "·beginning"),
        (1, 10, 11, "↵"),
        (2, 0, 3, "God"),
        (2, 3, 11, "·created"),
    ]


def test_a_token_that_is_longer_than_a_line_is_broken_and_no_letter_is_lost() -> None:
    pieces = list(laid_out(["a", "b" * 11, "c\n\nd"], columns=4))
    assert max(piece.end for piece in pieces) <= 4
    assert "".join(piece.text for piece in pieces) == "a" + 11 * "b" + "c↵↵d"
    spans = [(piece.line, column) for piece in pieces for column in range(piece.start, piece.end)]
    assert len(spans) == len(set(spans))


def test_wide_letters_take_two_places() -> None:
    (piece, other) = laid_out(["時間", "a"])
    assert (piece.start, piece.end, other.start) == (0, 4, 4)


def test_places_follow_the_scale_and_end_with_it() -> None:
    np.testing.assert_allclose(NATS.places(VALUES), [np.nan, 0.125, 1.0, 0.25, 0.5, 0.5, 1.0])
    log = TokenScale(0.25, 4.0, log=True)
    np.testing.assert_allclose(log.places(np.array([0.0, 0.25, 0.5, 1.0, 4.0])), [0, 0, 0.25, 0.5, 1])


def test_the_data_have_the_value_of_each_token() -> None:
    table = made(faint=np.arange(7) == 1).datasets["tokens"]
    assert dict(zip(table["text"], table["value"], strict=True)) == pytest.approx(
        {"In": np.nan, "·the": 0.5, "·beginning": 4.0, "↵": 1.0, "God": 2.0, "·created": 9.0}, nan_ok=True
    )
    assert table.loc[table["strength"] < 1, "text"].tolist() == ["·the"]


@pytest.mark.parametrize("dark", [False, True])
def test_the_picture_has_words_finding_scale_and_colours(dark: bool) -> None:
    picture = svg(made(), dark=dark).replace("\u00a0", " ")
    for words in ("Found", "Coloured by entropy at τ = 1, from 0 nats to 4 nats.", "0 nats", "4 nats", "·beginning"):
        assert words in picture
    assert len(set(re.findall(r"rgba\([^)]*\)", picture))) > 4
    assert png(made(), dark=dark, scale=1)[:4] == b"\x89PNG"


def test_a_scale_of_differences_has_two_directions() -> None:
    figure = made(TokenScale(-2.0, 2.0, diverging=True))
    low, *_, high = figure.spec["layer"][0]["encoding"]["color"]["scale"]["range"]
    middle = figure.spec["layer"][0]["encoding"]["color"]["scale"]["range"][5]
    assert low.startswith("rgba(199, 119, 0")
    assert high.startswith("rgba(46, 127, 209")
    assert middle.endswith("0.000)")
    assert "from −2 to 2" in figure.caption


@pytest.mark.parametrize("letter", ["\ufffe", "\uffff", "\ud800", "\x00", "<script>&"])
def test_letters_that_no_svg_may_hold_are_drawn_as_something_else(letter: str) -> None:
    """Of the first two the process would die that draws them."""
    scale = TokenScale(0.0, 1.0)
    figure = token_text_figure(["a", f" {letter}"], np.array([0.2, 0.4]), scale, title=f"t{letter}", measure=letter)
    drawn = svg(figure)
    ElementTree.fromstring(drawn)
    assert "<script>" not in drawn
    assert png(figure).startswith(b"\x89PNG")


def test_a_long_text_is_cut_and_that_is_said() -> None:
    texts = ["\n"] * (MOST_LINES + 7)
    figure = token_text_figure(texts, np.zeros(len(texts)), TokenScale(0.0, 1.0), title="t", measure="m")
    assert figure.caption.endswith(f" The first {MOST_LINES} of {MOST_LINES + 7} lines.")
    assert figure.datasets["tokens"]["line"].max() == MOST_LINES - 1
    assert figure.spec["height"] == 20 * MOST_LINES


def test_a_text_without_letters_is_empty() -> None:
    assert "Found" in svg(token_text_figure([""], np.array([1.0]), NATS, title="Found", measure="entropy"))
