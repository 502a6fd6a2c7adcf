"""The Ratio page: its numbers are the library's, its slider narrows the envelope, and its button selects."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cist_core.charts.ratio import envelope_sentence
from cist_core.charts.residuals import reasons_sentence, spread_sentence
from cist_core.samples.residuals import why_far
from tests.app.driver import open_app, view_of


def open_page(**query: str) -> AppTest:
    return open_app("ratio", **query)


def test_the_findings_and_the_table_are_those_of_the_library() -> None:
    app = open_page(ratio_tab="Exceptions")
    view = view_of(app)
    found = why_far(view.source.curves, view.cist)
    titles = [title.value for title in app.subheader]
    assert reasons_sentence(found) in titles
    assert spread_sentence(found) in [title.value for title in open_page().subheader]
    table = app.dataframe[0].value
    expected = found.furthest(12)
    assert table["Sample"].tolist() == expected.tolist()
    assert table["Reason"].tolist() == found.reason[expected].tolist()
    np.testing.assert_allclose(table["Entropy"] - table["Curve"], table["Distance"], atol=1e-9)
    names = view.source.logit_set.class_names
    assert table["Prediction"].tolist() == [names[index] for index in view.source.curves.statistics.top1[expected]]
    assert not app.error


def test_the_gap_narrows_the_envelope_and_the_words_say_so() -> None:
    app = open_page()
    view = view_of(app)
    found = why_far(view.source.curves, view.cist)
    assert envelope_sentence(found, view.rho, 0.0) in [caption.value for caption in app.caption]
    app.slider(key="ratio_gap").set_value(2.0).run()
    assert not app.exception
    assert envelope_sentence(found, view.rho, 2.0) in [caption.value for caption in app.caption]


def test_the_furthest_samples_can_be_selected() -> None:
    app = open_page(ratio_tab="Exceptions")
    expected = app.dataframe[0].value["Sample"].tolist()
    app.button(key="ratio-select-furthest").click().run()
    assert not app.exception
    assert np.flatnonzero(view_of(app).selected).tolist() == sorted(expected)


@pytest.mark.parametrize("query", [{"ratio_gap": "2.5"}, {"ratio_gap": "nan"}, {"tau": "20"}, {"tau": "0.25"}])
def test_any_link_opens_a_working_page(query: dict[str, str]) -> None:
    app = open_page(**query)
    assert not app.error
    assert len(app.get("vega_lite_chart")) == 3


def test_only_the_open_tab_is_computed_and_the_address_names_it() -> None:
    app = open_page(ratio_tab="Tables")
    (table,) = (frame.value for frame in app.dataframe)
    association = view_of(app).fixed.association
    assert table["Explained"][0] == pytest.approx(association.explained)
    assert table["By the ratio"][0] + table["At equal ratios"][0] == pytest.approx(table["Variance"][0])
    assert len(app.get("vega_lite_chart")) == 1
    app.context = {"url": "http://127.0.0.1/ratio"}
    app.run()
    assert "ratio_tab=Tables" in app.sidebar.code[-1].value
