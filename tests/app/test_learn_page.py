"""The lesson: every step shows its picture and live numbers, a link is a step, and it works without any model."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from scipy.special import softmax
from scipy.stats import entropy, norm
from streamlit.testing.v1 import AppTest

from app.lesson import qr, sentence, students
from app.lesson.editor import CLASSES, PRESETS, read_logits, write_logits
from app.lesson.layout import Layout
from app.lesson.live import moving_positions
from app.lesson.material import SHIPPED, choose_samples, lesson_material
from app.lesson.steps import STEPS
from app.lesson.window import Window
from cist_core.charts.lesson import informative_range
from cist_core.entropy.curves import EntropyCurves
from cist_core.inference.sources import load_logits
from cist_core.logits.logit_set import LogitSet
from cist_core.training import preset
from cist_core.wording import percent, three_digits
from sample_models import record_students
from tests.app.driver import open_app

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = [str(number + 1) for number in range(len(STEPS))]


def open_lesson(**query: str) -> AppTest:
    return open_app("learn", **query)


def metric(app: AppTest, label: str) -> str:
    return next(item.value for item in app.main.metric if item.label == label)


def number(app: AppTest, label: str) -> float:
    return float(metric(app, label).removesuffix(" nats"))


def scipy_entropy(logits: object, tau: float) -> float:
    return float(entropy(softmax(np.asarray(logits, dtype=float) / tau)))


@pytest.fixture(params=["a source", "no model at all"])
def with_or_without(request, monkeypatch, tmp_path) -> str:
    if request.param == "no model at all":
        monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    return request.param


@pytest.mark.parametrize("step", NUMBERS)
def test_every_step_has_words_numbers_a_formula_and_a_picture(step: str, with_or_without: str) -> None:
    app = open_lesson(lesson_step=step)
    assert app.title[0].value.startswith(f"{step}. ")
    assert not app.error
    assert app.main.markdown
    assert app.main.latex
    assert len(app.main.metric) == 3
    charts = app.get("vega_lite_chart")
    assert charts or step == "9"  # whose picture is a component of its own
    assert all(chart.proto.alt for chart in charts)
    assert len(app.subheader) == len(charts)
    assert len(app.main.expander) == (2 if step in "246" else 0)


def test_next_and_previous_walk_through_all_steps() -> None:
    app = open_lesson()
    assert app.button(key="lesson-previous").disabled
    for step in NUMBERS[1:]:
        app.button(key="lesson-next").click().run()
        assert app.title[0].value.startswith(f"{step}. ")
    assert app.button(key="lesson-next").disabled
    app.button(key="lesson-previous").click().run()
    assert app.title[0].value.startswith("9. ")


def test_the_temperature_moves_the_entropy_as_scipy_says() -> None:
    app = open_lesson(lesson_step="2")
    for tau in (1.0, 10.0):
        app.slider(key="lesson_tau").set_value(tau).run()
        expected = scipy_entropy(PRESETS["ambiguous"], tau)
        assert number(app, "Entropy") == pytest.approx(expected, rel=6e-3)
        assert number(app, "Normalised") == pytest.approx(expected / math.log(len(CLASSES)), rel=6e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_becomes_the_text_of_the_address(name: str) -> None:
    app = open_lesson(lesson_step="2", lesson_logits="1,2,3,4,5,6")
    assert app.get_by_key("lesson-preset").value is None
    app.get_by_key("lesson-preset").set_value(name).run()
    assert app.text_input(key="lesson_logits").value == write_logits(PRESETS[name])
    assert number(app, "Entropy") == pytest.approx(scipy_entropy(PRESETS[name], 4.0), rel=6e-3)


def test_typed_logits_are_used_and_wrong_ones_named() -> None:
    app = open_lesson(lesson_step="2")
    app.text_input(key="lesson_logits").set_value("1 2 3 4 5 6").run()
    assert number(app, "Entropy") == pytest.approx(scipy_entropy([1, 2, 3, 4, 5, 6], 4.0), rel=6e-3)
    app.text_input(key="lesson_logits").set_value("1, 2, three").run()
    assert "six numbers" in app.error[0].value
    assert number(app, "Entropy") == pytest.approx(scipy_entropy(PRESETS["ambiguous"], 4.0), rel=6e-3)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5,x", "nan,1,2,3,4,5", "inf,1,2,3,4,5", "1,2,3,4,5,6,7"])
def test_what_is_not_six_numbers_is_refused(text: str) -> None:
    assert read_logits(text) is None


def test_scaling_changes_the_label_under_tau_and_not_at_the_ratio() -> None:
    app = open_lesson(lesson_step="4", lesson_tau="3", lesson_scale="3")
    before, after = (scipy_entropy(np.multiply(PRESETS["ambiguous"], scale), 3) for scale in (1, 3))
    fixed, held = (heading.value for heading in app.subheader)
    assert fixed == f"τ = 3: {before:.3g} become {after:.3g} nats"
    assert held.endswith(f"{before:.3g} nats stay")


def test_cist_brings_the_two_samples_together() -> None:
    apart = number(open_lesson(lesson_step="3"), "Entropies differ by")
    under_cist = number(open_lesson(lesson_step="5"), "Entropies differ by")
    assert apart > 1
    assert under_cist < 0.1 * apart


def test_a_tie_keeps_the_entropy_at_ln_2() -> None:
    app = open_lesson(lesson_step="6", lesson_gap="0", lesson_rho="10")
    assert number(app, "Entropy") == pytest.approx(math.log(2), abs=5e-3)
    app = open_lesson(lesson_step="6", lesson_gap="0", lesson_rho="10", lesson_seconds="3")
    assert number(app, "Entropy") == pytest.approx(math.log(4), abs=5e-3)


def test_one_temperature_sees_the_scale_of_the_student_and_two_do_not() -> None:
    app = open_lesson(lesson_step="7", lesson_student="0.5", lesson_tau="3")
    z = np.array(PRESETS["ambiguous"])
    expected = float(entropy(softmax(z / 3), softmax(0.5 * z / 3)))
    assert number(app, "Apart, one τ") == pytest.approx(expected, rel=6e-3)
    assert number(app, "Apart, own τ") == 0
    assert number(app, "Student's own τ") == 1.5


def test_step_7_shows_what_a_floor_does_to_a_small_student() -> None:
    app = open_lesson(lesson_step="7", lesson_student="0.2", lesson_tau="4", lesson_floor="2")
    z = np.array(PRESETS["ambiguous"])
    expected = float(entropy(softmax(z / 4), softmax(0.2 * z / 2)))
    assert number(app, "Apart, own τ") == pytest.approx(expected, rel=6e-3)
    assert number(app, "Student's own τ") == 2
    assert app.subheader[1].value.endswith("two for 0.5 or more")
    app.slider(key="lesson_floor").set_value(0.0).run()
    assert number(app, "Apart, own τ") == 0
    assert number(app, "Student's own τ") == 0.8


def test_the_lesson_is_the_pure_ratio_rule_and_says_so_until_step_7_explains_the_floor(with_or_without: str) -> None:
    """The floor of the sidebar moves none of its numbers but those of the last step, which are the sidebar's."""
    fifth = open_lesson(lesson_step="5", floor="9")
    assert any("the pure ratio rule, a floor of 0" in caption.value for caption in fifth.main.caption)
    assert metric(fifth, "Temperatures") == metric(open_lesson(lesson_step="5"), "Temperatures")
    seventh = open_lesson(lesson_step="7")
    assert seventh.slider(key="lesson_floor").value == 0
    assert any("**floor**, 1 by default" in text.value for text in seventh.main.markdown)
    last = open_lesson(lesson_step="8")
    assert any("The floor of 1 holds on" in caption.value for caption in last.main.caption)


def test_step_8_is_the_whole_set_at_the_lessons_own_temperature_and_its_partner() -> None:
    app = open_lesson(lesson_step="8", tau="3", lesson_tau="5")
    logits = load_logits("mnist5k-cnn", "mnist-5k").logit_set.logits
    entropies = np.array([scipy_entropy(row, 5.0) for row in logits])
    assert number(app, "Spread, fixed τ") == pytest.approx(entropies.std(), rel=6e-3)
    assert f"({three_digits(entropies.mean())} nats)" in app.subheader[0].value  # at the same mean
    assert [slider.label for slider in app.slider if slider.key not in ("tau", "rho")] == ["Temperature τ"]


@pytest.mark.parametrize(
    ("key", "text"), [("lesson_tau", "nan"), ("lesson_tau", "-3"), ("lesson_step", "99"), ("lesson_seconds", "x")]
)
def test_a_broken_link_opens_a_working_step(key: str, text: str) -> None:
    app = open_lesson(**({"lesson_step": "6"} | {key: text}))
    assert not app.error
    assert app.get("vega_lite_chart")


def test_a_step_that_is_not_there_is_said() -> None:
    app = open_lesson(lesson_step="99")
    assert "The link asks for the step “99”, which is not here; shown is 1." in [each.value for each in app.warning]
    app.button(key="lesson-next").click().run()
    assert app.title[0].value.startswith("2. ")
    assert not app.warning


@pytest.mark.parametrize(
    ("step", "key", "asked", "shown"),
    [
        ("2", "lesson_tau", "9999", "4"),
        ("5", "lesson_rho", "nan", "4"),
        ("4", "lesson_scale", "x", "3"),
        ("6", "lesson_gap", "-1", "20"),
        ("6", "lesson_seconds", "7", "1"),
        ("1", "lesson_sample", "any", "undecided"),
        ("7", "lesson_floor", "4", "0"),
    ],
)
def test_a_value_that_the_lesson_cannot_have_is_said(step: str, key: str, asked: str, shown: str) -> None:
    app = open_lesson(lesson_step=step, **{key: asked})
    [said] = [each.value for each in app.warning if f"“{asked}”" in each.value]
    assert said.endswith(f"shown is {shown}.")
    assert not open_lesson(lesson_step=step).warning


# ---- presented -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1", "true"])
def test_presented_it_has_no_export_and_higher_pictures(text: str) -> None:
    app, usual = open_lesson(lesson_step="3", present=text), open_lesson(lesson_step="3")
    assert app.toggle(key="present").value
    assert app.query_params["present"] in ("1", ["1"])
    assert not [each for each in app.get("popover") if "Export" in each.proto.popover.label]
    assert [each for each in usual.get("popover") if "Export" in each.proto.popover.label]
    assert height_of(app) > height_of(usual)
    app.toggle(key="present").set_value(False).run()
    assert "present" not in app.query_params


def height_of(app: AppTest) -> int:
    return int(json.loads(app.get("vega_lite_chart")[0].proto.spec)["height"])


def test_a_picture_takes_what_the_window_leaves() -> None:
    def height(*window: int, present: bool = True, count: int = 1) -> int:
        return Layout(present, Window(*window)).picture_height(count)

    assert height(1280, 720) < height(1920, 1080) - 300
    assert height(1280, 720, present=False) <= 440
    assert height(1280, 300) == 200
    assert 2 * height(390, 844, count=2) < 844 - 300


def test_the_code_is_the_link_of_the_step(monkeypatch) -> None:
    pytest.importorskip("segno")
    monkeypatch.setattr(st, "context", SimpleNamespace(url="http://studio.example.org/learn?present=1"))
    monkeypatch.setattr(qr, "page_settings", lambda: {"lesson_step": "3", "lesson_tau": 2.5})
    assert qr.step_link() == "http://studio.example.org/learn?lesson_step=3&lesson_tau=2.5"
    picture = qr.qr_png("http://studio.example.org/learn?lesson_step=3")
    size = Image.open(io.BytesIO(picture)).size
    assert size[0] == size[1] >= qr.SIZE


# ---- two students ----------------------------------------------------------------------------------------------------


def test_what_was_recorded_is_whole_and_small() -> None:
    record = students.recorded()
    assert students.FILE.stat().st_size < 300_000
    assert record["labels"] == list(range(10))
    assert [student["objective"] for student in record["students"]] == list(record_students.STUDENTS.values())
    for student in record["students"]:
        soft = np.array(student["soft"])
        assert soft.shape == (preset("demo").epochs + 1, 10, 10)
        assert np.allclose(soft.sum(axis=2), 1, atol=0.01)
        assert len(student["accuracy"]) == len(student["entropy"]) == len(soft)
        assert student["accuracy"][0] < 0.3 < student["accuracy"][-1]
        assert student["entropy"][-1] < student["entropy"][0] <= math.log(10)


def test_its_samples_are_those_that_the_rule_chooses() -> None:
    logit_set = load_logits("mnist5k-cnn", "mnist-5k").logit_set
    logits = np.asarray(logit_set.logits, dtype=np.float64)
    shown = record_students.choose_samples(logits, logit_set.labels)
    assert [int(logit_set.labels[index]) for index in shown] == students.recorded()["labels"]
    expected = softmax(logits[shown], axis=1)
    assert np.allclose(students.recorded()["teacher"]["soft"], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("first", "second", "apart"), [(0.92, 0.91, False), (0.92, 0.85, True), (0.85, 0.92, True), (0.9, 0.9, False)]
)
def test_accuracies_are_told_apart_by_their_standard_errors(first: float, second: float, apart: bool) -> None:
    variance = (first * (1 - first) + second * (1 - second)) / 1000
    assert (abs(first - second) > norm.ppf(0.975) * math.sqrt(variance)) == apart
    assert ("cannot be told apart" in students.verdict(first, second)) != apart


def test_the_step_says_when_cist_is_not_ahead(monkeypatch) -> None:
    record = students.recorded()
    kd, cist = record["students"]
    ahead = {**cist, "accuracy": [*cist["accuracy"][:-1], 0.99]}
    behind = {**cist, "accuracy": [*cist["accuracy"][:-1], 0.80]}
    for student, said in ((ahead, False), (behind, True)):
        monkeypatch.setattr(students, "recorded", lambda student=student: {**record, "students": [kd, student]})
        assert ("CIST is not ahead here" in students.what_it_shows()) == said


def test_the_link_holds_the_step_and_its_numbers() -> None:
    app = open_lesson(lesson_step="4")
    app.context = {"url": "http://127.0.0.1/learn"}
    app.slider(key="lesson_tau").set_value(2.5)
    app.slider(key="lesson_scale").set_value(2.0)
    app.text_input(key="lesson_logits").set_value("9,1,1,0,0,0").run()
    query = {key: values[0] for key, values in parse_qs(urlsplit(app.sidebar.code[-1].value).query).items()}
    assert query["lesson_step"] == "4"
    again = open_lesson(**{key: value for key, value in query.items() if key.startswith("lesson_")})
    assert [item.value for item in again.main.metric] == [item.value for item in app.main.metric]


def test_settings_survive_steps_that_do_not_show_them() -> None:
    app = open_lesson(lesson_step="4", lesson_scale="2", lesson_logits="9,1,1,0,0,0")
    for step in ("5", "8", "1", "4"):
        app.get_by_key("lesson_step").set_value(step).run()
    assert app.slider(key="lesson_scale").value == 2
    assert app.text_input(key="lesson_logits").value == "9,1,1,0,0,0"


def test_the_samples_are_telling_ones() -> None:
    curves = EntropyCurves.from_logits(LogitSet.load(SHIPPED))
    undecided, confident, ambiguous = choose_samples(curves)
    maximum = curves.statistics.maximum
    assert curves.correct is not None
    assert curves.correct[[undecided, confident, ambiguous]].all()
    assert curves.at_temperature(1.0)[undecided] == curves.at_temperature(1.0)[curves.correct].max()
    assert maximum[confident] > 2 * maximum[ambiguous]
    near = curves.at_ratio(4.0)[[confident, ambiguous]]
    assert abs(near[0] - near[1]) < 0.1


def test_the_shipped_rows_are_those_of_the_sample_model() -> None:
    logit_set = load_logits("mnist5k-cnn", "mnist-5k", "test").logit_set
    shipped = LogitSet.load(SHIPPED)
    np.testing.assert_array_equal(shipped.logits, logit_set.logits[::5])
    np.testing.assert_array_equal(shipped.labels, logit_set.labels[::5])


def test_what_the_notes_say_of_the_shipped_pair_is_so() -> None:
    material = lesson_material(None)
    pair = (material.confident.logits, material.ambiguous.logits)
    ranges = [informative_range(logits) for logits in pair]
    assert max(low for low, _ in ranges) == pytest.approx(4.1, abs=0.05)
    assert min(high for _, high in ranges) == pytest.approx(8.4, abs=0.06)
    shares = [scipy_entropy(logits, 6.0) / np.log(10) for logits in pair]
    assert shares == pytest.approx([0.22, 0.89], abs=0.005)


def test_a_row_of_equal_logits_has_the_ratio_0_and_any_temperature() -> None:
    app = open_lesson(lesson_step="4", lesson_logits="0,0,0,0,0,0")
    assert metric(app, "Ratio at τ") == metric(app, "Ratio held") == "0"
    assert metric(app, "Its τ") == "any"
    assert app.subheader[1].value == f"Ratio 0: {math.log(6):.3g} nats stay"


def test_a_student_of_equal_logits_has_any_temperature() -> None:
    app = open_lesson(lesson_step="7", lesson_logits="0,0,0,0,0,0")
    assert metric(app, "Student's own τ") == "any"
    assert app.subheader[1].value == "All classes are alike: there is no scale to copy"


def test_step_3_names_the_temperatures_at_which_both_of_its_samples_are_informative() -> None:
    app = open_lesson(lesson_step="3")
    pair = lesson_material(app.session_state["_view"]).pair.values()
    ranges = [informative_range(sample.logits) for sample in pair]
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    said = " ".join(item.value for item in app.main.markdown)
    assert f"From τ = {low:.3g} to {high:.3g} both are informative" in said


def test_what_step_2_says_of_its_presets_is_so() -> None:
    ((_, answer),) = (pair for pair in STEPS[1].questions if "“confident”, and" in pair[0])
    for name, tau, share in (
        ("confident", 6, "0.43"), ("confident", 10, "0.72"),
        ("ambiguous", 6, "0.87"), ("ambiguous", 10, "0.94"), ("ambiguous", 2, "0.56"),
    ):  # fmt: skip
        assert share in answer
        assert scipy_entropy(PRESETS[name], tau) / math.log(6) == pytest.approx(float(share), abs=0.0055)


def test_the_sentence_needs_no_model_and_its_numbers_are_those_of_its_soft_labels(monkeypatch) -> None:
    monkeypatch.setattr("cist_core.language.known.find_spec", lambda name: None)
    app = open_lesson(lesson_step="10", lesson_token="7", lesson_token_tau="2", lesson_token_rho="15")
    assert not app.exception
    read = sentence.recorded()
    assert read.text.startswith("Once upon a time")
    assert read.text.endswith("daughters.")
    assert app.selectbox(key="lesson_token_box").value == "7"
    own = read.temperature(6, 15.0)
    assert metric(app, "Its own τ") == three_digits(own)
    assert app.subheader[1].value == (
        f"“{read.words[6]}”: {three_digits(float(read.at_tau(2.0)[6]))} nats, "
        f"under CIST {three_digits(float(read.at_rho(15.0)[6]))}"
    )


def test_the_bars_of_every_token_hold_all_probability_and_agree_with_its_entropy() -> None:
    read = sentence.recorded()
    others = math.log(read.predictions.num_classes)
    for token in range(len(read.words)):
        for tau in (0.6, 1.0, 4.0):
            shares = np.array(read.shares(token, tau))
            assert len(shares) == len(read.names(token))
            assert shares.sum() == pytest.approx(1)
            # The entropy of the bars, and at most ln V' more for each part of the last one.
            least = float(entropy(shares))
            assert least - 1e-3 <= read.at_tau(tau)[token] <= least + shares[-1] * others + 1e-3


def test_both_sliders_of_the_sentence_start_at_one_mean_entropy() -> None:
    read = sentence.recorded()
    assert read.at_rho(read.start_rho).mean() == pytest.approx(read.at_tau(1.0).mean(), rel=0.02)


def test_what_moves_in_the_browser_is_labelled_as_the_server_labels_it_at_every_position_of_both_sliders() -> None:
    read, scales = sentence.recorded(), (sentence.TAUS, sentence.RHOS)
    entropies = moving_positions("entropies", "points", scales, read.moving_entropies).given["at"]
    for sent, rule, scale in zip(entropies, (read.at_tau, read.at_rho), scales, strict=True):
        assert sent == [pytest.approx(rule(at), rel=1e-6) for at in scale.positions]
    for token, shares in enumerate(read.moving_shares):
        taus = (sentence.TAUS.positions, [read.temperature(token, rho) for rho in sentence.RHOS.positions])
        sent = moving_positions("shares", "bars", scales, shares).given["at"]
        for rows, at in zip(sent, taus, strict=True):
            for row, tau in zip(rows, at, strict=True):
                expected = [percent(share) for share in read.shares(token, float(tau))]
                assert [percent(share) for share in row] == expected, (token, tau)
