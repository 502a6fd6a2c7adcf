"""The comparison of rules on Choose ρ: the ranking is the library's and follows the sliders; its old address works."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.pages import find_pages
from cist_core.compare.ranking import rank_rules, ranking_finding
from cist_core.entropy.curves import EntropyCurves
from cist_core.inference.sources import load_logits
from tests.app.driver import open_app, view_of


def open_rules(**query: str | list[str]) -> AppTest:
    app = open_app("rho", rho_tab="Compare entropies", **query)
    assert not app.error
    return app


def curves_of(model: str) -> EntropyCurves:
    return EntropyCurves.from_logits(load_logits(model, "mnist-5k").logit_set)


def table(app: AppTest):
    return app.dataframe[0].value.set_index("Rule")


def test_the_page_shows_the_ranking_of_the_library() -> None:
    app = open_rules()
    view = view_of(app)
    curves = curves_of(view.source.teacher).beside(curves_of(view.source.student.name))
    expected = rank_rules(curves, float(f"{view.fixed.profile.mean:.4g}"))
    assert app.subheader[1].value == ranking_finding(expected)
    shown = table(app)
    assert len(shown) == len(expected) == 6
    for (_, row), ranked in zip(shown.iterrows(), expected, strict=True):
        assert row["Spread"] == pytest.approx(ranked.std, abs=1e-6)
        assert (row["from"], row["to"]) == pytest.approx(ranked.interval, abs=1e-6)
        assert row["Gain"] == pytest.approx(np.nan if ranked.gain is None else ranked.gain, nan_ok=True)
    _, chart = app.get("vega_lite_chart")
    assert chart.proto.alt.startswith(ranking_finding(expected))


def test_moving_the_temperature_ranks_again() -> None:
    app = open_rules()
    before = table(app)
    app.slider(key="tau").set_value(1.0).run()
    after = table(app)
    assert not app.exception
    assert "τ = 1" in " ".join(after.index)
    assert not set(before["Spread"].round(4)) & set(after["Spread"].round(4)) - {0.0}
    assert any(caption.value.startswith("The mean entropy is that of τ = 1: ") for caption in app.caption)


def test_without_a_student_dtkd_is_listed_with_what_it_needs() -> None:
    app = open_rules(student="none")
    row = table(app).loc["DTKD"]
    assert np.isnan(row["Spread"])
    assert "needs a student" in row["Note"]
    assert any("Choose a student in the sidebar" in info.value for info in app.info)


def test_a_seed_gives_its_intervals_again_and_another_one_others() -> None:
    app = open_rules()
    first = table(app)[["from", "to"]]
    app.number_input(key="rules_seed").set_value(1).run()
    second = table(app)[["from", "to"]]
    assert not first.equals(second)
    assert table(open_rules(rules_seed="1"))[["from", "to"]].equals(second)
    app.number_input(key="rules_seed").set_value(0).run()
    assert table(app)[["from", "to"]].equals(first)


def test_logits_stored_less_their_maximum_are_said_to_be_so() -> None:
    app = open_rules()
    assert not (view_of(app).source.curves.statistics.peak > 0).any()
    assert any("takes the maxima of the centred logits" in caption.value for caption in app.caption)


def test_the_old_address_leads_to_the_tab_and_keeps_what_it_holds() -> None:
    app = open_app("rules", tau="2", rules_seed="3")
    assert not app.exception
    assert app.title[0].value == "Which ρ suits this teacher?"
    assert app.number_input(key="rules_seed").value == 3
    assert any(caption.value.startswith("The mean entropy is that of τ = 2: ") for caption in app.caption)
    assert "rules" not in [page.name for page in find_pages() if not page.hidden]
