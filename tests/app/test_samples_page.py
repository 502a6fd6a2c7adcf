"""The page Samples in Streamlit's test runner: order, filters, the open sample, pins, and what its figures say."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from scipy.special import softmax
from streamlit.testing.v1 import AppTest

from app.gallery import CARDS
from tests.app.driver import finding, open_app, view_of

CIFAR = "cifar100-resnet20"


def open_samples(**query: str) -> AppTest:
    return open_app("samples", **query)


def cards(app: AppTest) -> list[int]:
    """The samples on the page of the gallery, in their order."""
    prefix = "samples_card_"
    return [int(button.key.removeprefix(prefix)) for button in app.button if (button.key or "").startswith(prefix)]


def pictures(app: AppTest) -> list[str]:
    return [url for image in app.get("image") for url in image.value]


def test_it_opens_on_the_sample_of_largest_entropy() -> None:
    app = open_samples()
    entropy = view_of(app).fixed.entropy
    assert cards(app) == np.argsort(-entropy, kind="stable")[:CARDS].tolist()
    assert app.number_input(key="samples_at").value == int(entropy.argmax())
    assert len(pictures(app)) == CARDS + 1
    assert all(picture.startswith("data:image/png") for picture in pictures(app))
    assert not app.error


@pytest.mark.parametrize("measure", ["margin", "weight", "student_loss", "residual", "index"])
def test_another_measure_sorts_the_cards_and_opens_its_first(measure: str) -> None:
    app = open_samples()
    app.selectbox(key="samples_sort").select(measure)
    app.toggle(key="samples_ascending").set_value(True).run()
    values = view_of(app).samples.column(measure)
    assert cards(app) == np.argsort(values, kind="stable")[:CARDS].tolist()
    assert app.number_input(key="samples_at").value == int(np.argmin(values))


def test_the_second_page_goes_on_where_the_first_ends() -> None:
    app = open_samples(samples_page="2")
    entropy = view_of(app).fixed.entropy
    assert cards(app) == np.argsort(-entropy, kind="stable")[CARDS : 2 * CARDS].tolist()


def test_filters_write_the_selection_of_the_whole_app() -> None:
    app = open_samples()
    app.get_by_key("samples_correct").set_value("wrong").run()
    assert app.session_state["select"] == "correct=no"
    wrong = np.flatnonzero(~view_of(app).source.curves.correct)
    assert sorted(cards(app)) == wrong.tolist()
    app.multiselect(key="samples_classes").set_value(["9", "4"]).run()
    assert app.session_state["select"] == "correct=no & class=9,4"
    labels = view_of(app).source.logit_set.labels
    assert sorted(cards(app)) == [index for index in wrong if labels[index] in (4, 9)]
    app.get_by_key("samples_correct").set_value("all").run()
    assert app.session_state["select"] == "class=9,4"
    assert not app.exception


def test_filters_show_a_selection_that_came_from_elsewhere() -> None:
    app = open_samples(tau="3.45", select="entropy=1.2.. & correct=yes & class=2")
    assert app.get_by_key("samples_correct").value == "right"
    assert app.multiselect(key="samples_classes").value == ["2"]
    view = view_of(app)
    expected = (view.fixed.entropy >= 1.2) & view.source.curves.correct & (view.source.logit_set.labels == 2)
    assert sorted(cards(app)) == np.flatnonzero(expected).tolist()


def test_a_selection_without_samples_offers_a_way_out() -> None:
    app = open_samples(select="entropy=50..")
    assert "No sample" in app.info[0].value
    app.button(key="samples_all").click().run()
    assert app.session_state["select"] == ""
    assert len(cards(app)) == CARDS


def test_a_card_opens_its_sample_and_next_and_previous_follow_the_order() -> None:
    app = open_samples()
    order = cards(app)
    app.button(key=f"samples_card_{order[3]}").click().run()
    assert app.number_input(key="samples_at").value == order[3]
    app.button(key="samples_next").click().run()
    assert app.number_input(key="samples_at").value == order[4]
    app.button(key="samples_previous").click().run()
    app.button(key="samples_previous").click().run()
    assert app.number_input(key="samples_at").value == order[2]


def test_the_ends_of_the_order_have_no_further_step() -> None:
    app = open_samples(select="correct=no")
    assert app.button(key="samples_previous").disabled
    app.button(key=f"samples_card_{cards(app)[-1]}").click().run()
    assert app.button(key="samples_next").disabled


def test_next_turns_the_page_of_the_gallery() -> None:
    app = open_samples()
    last = cards(app)[-1]
    app.button(key=f"samples_card_{last}").click().run()
    app.button(key="samples_next").click().run()
    assert cards(app)[0] == app.number_input(key="samples_at").value
    assert last not in cards(app)


def test_the_open_sample_stays_when_a_slider_moves() -> None:
    app = open_samples(tau="3.45")
    before = app.number_input(key="samples_at").value
    app.slider(key="tau").set_value(9.0).run()
    assert cards(app)[0] != before  # the order is another one
    assert app.number_input(key="samples_at").value == before


def test_the_facts_and_the_finding_are_those_of_the_sample() -> None:
    app = open_samples(samples_at="3")
    view = view_of(app)
    row = view.source.logit_set.logits[3].astype(np.float64)
    label = view.source.logit_set.labels[3]
    fixed = softmax(row / view.tau)[label]
    assert finding(app).startswith(f"The label “{label}” gets {fixed:.1%}".replace("%", " %"))
    shown = {markdown.value for markdown in app.markdown}
    assert f"{np.sort(row)[-1] - np.sort(row)[-2]:.3g}" in shown


def test_two_pins_stand_side_by_side() -> None:
    app = open_samples()
    app.button(key="samples_pin_A").click().run()
    app.number_input(key="samples_at").set_value(3).run()
    app.button(key="samples_pin_B").click().run()
    assert app.session_state["samples_tab"] == "Pinned"
    assert len(app.get("vega_lite_chart")) == 3
    assert app.session_state["samples_b"] == 3
    assert any(markdown.value == "**B**: sample 3" for markdown in app.markdown)
    app.button(key="samples_unpin_A").click().run()
    assert app.session_state["samples_a"] is None
    assert len(app.get("vega_lite_chart")) == 2
    assert not app.exception


def test_a_link_brings_the_sample_the_pins_and_the_order() -> None:
    app = open_samples(select="correct=no", samples_sort="margin")
    app.context = {"url": "http://127.0.0.1/samples"}
    app.button(key=f"samples_card_{cards(app)[2]}").click().run()
    app.button(key="samples_pin_A").click().run()
    app.button(key="samples_next").click().run()
    app.button(key="samples_pin_B").click().run()
    query = {key: values[0] for key, values in parse_qs(urlsplit(app.sidebar.code[-1].value).query).items()}
    assert query["samples_sort"] == "margin"
    again = open_samples(**query)
    assert cards(again) == cards(app)
    for key in ("samples_at", "samples_a", "samples_b"):
        assert again.session_state[key] == app.session_state[key] is not None
    assert [heading.value for heading in again.subheader] == [heading.value for heading in app.subheader]
    assert finding(again) == finding(app)


@pytest.mark.parametrize("text", ["nonsense", "-4", "99999999"])
def test_a_link_to_no_sample_opens_one_that_exists(text: str) -> None:
    app = open_samples(samples_at=text, samples_a=text, samples_page=text, samples_top=text)
    assert not app.error
    assert finding(app).startswith("The label")
    assert cards(app)


def test_without_images_the_bars_and_facts_stay(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path))
    app = open_samples(teacher=CIFAR)
    assert not pictures(app)
    said = [words.value for words in (*app.markdown, *app.caption) if "The images of" in words.value]
    assert said == ["The images of CIFAR-100 are not here yet."]
    assert len(cards(app)) == CARDS
    app = open_samples(teacher=CIFAR, samples_tab="Classes")
    assert len(app.get("vega_lite_chart")) == 2  # a hundred classes are pairs, not a matrix
    assert not list(tmp_path.iterdir())


def test_another_teacher_with_fewer_classes_and_samples_keeps_the_page_working() -> None:
    app = open_samples(teacher=CIFAR, samples_at="8000", samples_top="60", samples_page="400")
    app.selectbox(key="teacher_box").select("mnist5k-cnn").run()
    assert not app.exception
    assert not app.error
    assert len(pictures(app)) > 2


def test_without_a_student_its_measures_are_not_offered() -> None:
    app = open_samples(student="none")
    assert "weight" not in app.selectbox(key="samples_sort").options
    assert not app.exception


@pytest.mark.parametrize("rule", ["correct=no", "student_loss=1.."])
def test_the_python_beside_a_figure_runs_and_gives_its_numbers(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    app = open_samples(tau="3.45", samples_at="3", select=rule, samples_tab="Classes")
    for code in dict.fromkeys(block.value for block in app.main.get("code") if "import" in block.value):
        exec(code, {})
    printed = capsys.readouterr().out
    view = view_of(app)
    label = softmax(view.source.logit_set.logits[3].astype(np.float64) / view.tau)
    assert f"{label.max():.8e}" in printed
    assert "Confusion(" in printed
