"""Figures as files: the words are in the picture, and text from outside stays text."""

import re
import struct
from io import BytesIO
from xml.etree import ElementTree

import altair as alt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cist_core.charts import Figure, histogram_figure, per_class_figure, ratio_figure, variance_figure
from cist_core.charts.figure import named
from cist_core.charts.pictures import DARK, LIGHT, png, svg
from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.logit_set import LogitSet
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rules

LABELS = "{http://www.w3.org/2000/svg}text"


def figures(class_names: list[str] | None = None) -> list[Figure]:
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(400, 7)) * rng.uniform(0.3, 6.0, (400, 1))).astype(np.float32)
    curves = EntropyCurves.from_logits(LogitSet.create(logits))
    readings = read_rules([Fixed(2.0), Cist(3.0)], curves)
    labels = rng.integers(0, 7, 400)
    return [
        histogram_figure(readings),
        ratio_figure(*readings),
        variance_figure(*readings),
        per_class_figure(readings, labels, class_names),
    ]


def joined(how: str) -> Figure:
    """Two charts in one figure, as a page with marginals has them."""
    part = alt.Chart(named("points")).mark_point().encode(x="x:Q", y="y:Q").properties(width="container", height=120)
    spec = getattr(alt, how)(part, part).to_dict()
    return Figure(
        "A finding", "A caption.", "An alternative", spec, {"points": pd.DataFrame({"x": [1, 2], "y": [1, 2]})}
    )


def words(picture: str) -> str:
    texts = (text for element in ElementTree.fromstring(picture).iter(LABELS) for text in element.itertext())
    return " ".join(texts).replace("\u00a0", " ")  # which holds a number and its unit together


def size(picture: str) -> tuple[float, float]:
    root = ElementTree.fromstring(picture)
    return float(root.attrib["width"]), float(root.attrib["height"])


def test_title_and_caption_are_in_the_picture_whole() -> None:
    for figure in figures():
        drawn = words(svg(figure))
        assert figure.title in drawn
        assert figure.caption in drawn
        assert "NaN" not in drawn


@pytest.mark.parametrize("width", [420, 900])
def test_long_words_are_wrapped_and_none_is_cut_off(width: int) -> None:
    figure = figures()[1]
    sentence = "Wide Words Make Wide Lines, " * 12
    wordy = Figure(sentence.strip(), sentence.strip(), "", figure.spec, figure.datasets)
    assert words(svg(wordy, width=width)).count(sentence.strip()) == 2
    pixels = np.asarray(Image.open(BytesIO(png(wordy, width=width, scale=1))).convert("RGB"))
    assert (pixels[:, -8:] == 255).all()


@pytest.mark.parametrize("width", [420, 900])
def test_a_picture_is_as_wide_as_asked(width: int) -> None:
    for figure in figures():
        assert size(svg(figure, width=width))[0] == width


@pytest.mark.parametrize("how", ["hconcat", "vconcat"])
def test_several_charts_in_one_figure_stay_within_the_width(how: str) -> None:
    width, height = size(svg(joined(how)))
    assert 700 < width <= 900
    assert (height > 2 * 120) == (how == "vconcat")


def test_colours_follow_the_theme_and_the_marks_keep_theirs() -> None:
    figure = figures()[0]
    for dark, theme, other in ((False, LIGHT, DARK), (True, DARK, LIGHT)):
        drawn = svg(figure, dark=dark)
        assert f'fill="{theme.page}"' in drawn
        assert f'fill="{theme.ink}"' in drawn
        assert other.ink not in drawn
        assert "#C77700" in drawn


def test_png_has_the_size_of_the_svg_times_the_scale() -> None:
    figure = figures()[2]
    width, height = size(svg(figure, width=500))
    for scale in (1, 3):
        data = png(figure, width=500, scale=scale)
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", data[16:24]) == (width * scale, height * scale)


def test_the_same_figure_gives_the_same_bytes() -> None:
    first, second = figures()[0], figures()[0]
    assert svg(first) == svg(second)
    assert png(first, scale=1) == png(second, scale=1)


def test_greek_letters_are_drawn_and_not_left_out() -> None:
    """A font that lacks a letter draws nothing, or the same box for every one."""

    def picture(letter: str) -> bytes:
        frame = pd.DataFrame({"x": [1.0]})
        spec = alt.Chart(named("points")).mark_point(opacity=0).encode().properties(width=200, height=20).to_dict()
        return png(Figure(letter * 3, "", "", spec, {"points": frame}), scale=1, width=200)

    assert len({picture(letter) for letter in ("τ", "ρ", "²", " ")}) == 4


def test_text_from_outside_stays_text() -> None:
    evil = '</text></svg><script>alert(1)</script>" onload="alert(2)'
    figure = figures([evil, "{{7*7}}", "&amp;", "ok", "e", "f", "g"])[3]
    named_evil = Figure(evil, evil, evil, figure.spec, figure.datasets)
    drawn = svg(named_evil)
    root = ElementTree.fromstring(drawn)
    tags = {re.sub("{.*}", "", element.tag) for element in root.iter()}
    assert tags <= {"svg", "g", "path", "text", "rect", "line", "defs", "clipPath"}
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)
    assert evil in words(drawn)
