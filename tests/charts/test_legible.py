"""Words in charts can be read in both themes; marks keep their colours."""

from __future__ import annotations

import numpy as np
import pytest

from cist_core.charts import histogram_figure
from cist_core.charts.figure import AMBER, BLUE, GREY, RULE_COLOURS, SELECTED, SPARE_COLOURS
from cist_core.charts.legible import contrast, legible, with_legible_words
from cist_core.charts.pictures import DARK, LIGHT, Theme, svg
from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.logit_set import LogitSet
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rules

COLOURS = sorted({AMBER, BLUE, GREY, SELECTED, *RULE_COLOURS.values(), *SPARE_COLOURS})


def test_contrast_is_what_the_standard_says() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("colour", COLOURS)
def test_words_in_any_colour_reach_level_aa(colour: str, theme: Theme) -> None:
    assert contrast(legible(colour, theme.page, theme.ink), theme.page) >= 4.5


def test_a_colour_that_stands_out_stays() -> None:
    assert legible("#000000", "#FFFFFF", "#0B1220") == "#000000"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_words_of_axes_stand_out(theme: Theme) -> None:
    assert contrast(theme.soft, theme.page) >= 4.5
    assert contrast(theme.ink, theme.page) >= 4.5


def test_words_change_and_bars_do_not() -> None:
    rng = np.random.default_rng(0)
    curves = EntropyCurves.from_logits(LogitSet.create(rng.normal(size=(50, 4)) * 3))
    figure = histogram_figure(read_rules([Fixed(2.0), Cist(1.0)], curves))
    before = str(figure.spec)
    spec = with_legible_words(figure.spec, LIGHT.page, LIGHT.ink)
    assert str(figure.spec) == before  # specs are shared
    assert f"'range': ['{AMBER}', '{BLUE}']" in str(spec)
    assert legible(AMBER, LIGHT.page, LIGHT.ink) in str(spec)
    drawn = svg(figure)
    assert AMBER in drawn
    assert legible(AMBER, LIGHT.page, LIGHT.ink) in drawn
    assert legible(BLUE, DARK.page, DARK.ink) in svg(figure, dark=True)


def test_percentages_on_an_axis_are_written_as_in_a_sentence() -> None:
    import vl_convert

    from cist_core.charts.pictures import vega_config

    chart = {
        "data": {"values": [{"x": 0.25}]},
        "mark": "point",
        "encoding": {"x": {"field": "x", "type": "quantitative", "axis": {"format": "%"}}},
    }
    assert "20 %" in vl_convert.vegalite_to_svg(chart, config=vega_config(LIGHT))
