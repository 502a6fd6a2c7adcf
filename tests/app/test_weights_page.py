"""The page Weights: its numbers are the library's, its controls work, and it says what is missing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cist_core.samples.gradients import cist_gradients
from cist_core.temperature.weights import SampleWeights
from tests.app.driver import open_app, view_of


def titles(app) -> list[str]:
    return [title.value for title in (*app.header, *app.subheader)]


def weights_of(view, **options) -> SampleWeights:
    return SampleWeights.of(view.source.curves, view.source.student.curves, rho=view.rho, **options)


def test_numbers_are_those_of_the_library():
    app = open_app("weights", weights_tab="Exceptions")
    weights = weights_of(view_of(app))
    assert not app.error
    assert app.metric[0].value.startswith(f"{round(weights.effective_samples):,} (")
    assert app.metric[1].value.startswith(f"{weights.weight.std() / weights.weight.mean():.3g}")
    assert len(app.get("vega_lite_chart")) == 1
    assert len(open_app("weights").get("vega_lite_chart")) == 3
    raised, lowered = (table.value for table in app.dataframe)
    assert raised["Sample"].tolist() == np.argsort(-weights.weight, kind="stable")[:8].tolist()
    assert lowered["Sample"].tolist() == np.argsort(weights.weight, kind="stable")[:8].tolist()
    np.testing.assert_allclose(raised["Weight"], weights.relative[raised["Sample"]])
    assert raised["Image"].str.startswith("data:image/png").all()


def test_the_gradient_is_that_of_the_chosen_loss():
    app = open_app("weights", weights_weighting="student", weights_loss="whole loss", weights_tab="Gradients")
    view = view_of(app)
    expected = cist_gradients(
        student_logits=view.source.student.logit_set.logits,
        teacher_logits=view.source.logit_set.logits,
        rho=view.rho,
        weighting="student",
        gradient="constant",
        labels=view.source.curves.labels,
        lambda_ce=0.1,
        lambda_kl=0.9,
    )
    (title,) = [text for text in titles(app) if "largest gradient" in text]
    held = float(re.search(r"([\d.]+) % under CIST", title).group(1))
    assert held == pytest.approx(100 * expected.held_by(0.1), abs=0.051)
    ends = app.dataframe[0].value
    np.testing.assert_allclose(ends["Gradient CIST"], expected.share[ends["Sample"]] * view.samples.num_samples)
    weights = weights_of(view, weighting="student")
    assert ends["Sample"].tolist() == [*weights.raised(8), *weights.lowered(8)]


def test_the_weighting_decides_who_is_raised():
    app = open_app("weights", weights_tab="Exceptions")
    app.get_by_key("weights_weighting").set_value("teacher").run()
    weights = weights_of(view_of(app), weighting="teacher")
    assert app.dataframe[0].value["Sample"].tolist() == weights.raised(8).tolist()
    app.get_by_key("weights_weighting").set_value("uniform").run()
    assert not app.exception
    assert "Every sample weighs the same" in titles(app)[0]
    assert not app.dataframe
    assert any("no sample is raised" in caption.value for caption in app.caption)


@pytest.mark.parametrize(
    ("measure", "words"),
    [("margin", "teacher margin"), ("student loss", "student loss"), ("entropy", "entropy H at τ")],
)
def test_the_first_sentence_is_about_the_chosen_difficulty(measure, words):
    app = open_app("weights", weights_measure=measure)
    assert words in titles(app)[0]


def test_without_a_student_the_page_says_so_and_shows_the_teachers_half():
    app = open_app("weights", student="none", weights_measure="student loss", weights_tab="Exceptions")
    assert view_of(app).source.student is None
    assert "No student is chosen" in app.info[0].value
    assert len(app.get("vega_lite_chart")) == 1
    weights = SampleWeights.of(view_of(app).source.curves, rho=view_of(app).rho, weighting="teacher")
    assert app.dataframe[0].value["Sample"].tolist() == weights.raised(8).tolist()
    assert "τ student" not in app.dataframe[0].value


def test_a_student_that_goes_takes_its_loss_with_it():
    app = open_app("weights", weights_measure="student loss")
    app.selectbox(key="student_box").select("none").run()
    assert not app.exception
    assert "teacher margin" in titles(app)[0]


def test_a_table_selects_its_samples_everywhere():
    app = open_app("weights", weights_tab="Exceptions")
    app.button(key="weights-select-lowered").click().run()
    view = view_of(app)
    assert np.flatnonzero(view.selected).tolist() == sorted(app.dataframe[1].value["Sample"])
    app = open_app("weights", weights_tab="Gradients", select=app.session_state["select"])
    assert "the 8 selected samples carry" in " ".join(caption.value for caption in app.caption)


def test_a_link_carries_the_pages_own_settings():
    app = open_app("weights", weights_tab="Gradients")
    app.context = {"url": "http://127.0.0.1/weights"}
    app.get_by_key("weights_weighting").set_value("student")
    app.get_by_key("weights_gradient").set_value("full").run()
    link = app.sidebar.code[-1].value
    assert "weights_weighting=student" in link
    assert "weights_gradient=full" in link
    assert "weights_measure=margin" in link
