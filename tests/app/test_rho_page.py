"""Choose ρ in Streamlit's own test runner: the numbers are the library's, the button and the controls work."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
import torch
import yaml
from command_line import run
from streamlit.testing.v1 import AppTest

from app.forms.rho_export import KINDS, Chosen, as_yaml, export, run_config, snippet, training_command
from app.widgets import plain
from cist_core.cli import build_parser
from cist_core.cli.distill import chosen_config
from cist_core.compare.evidence import all_evidence, evidence_for
from cist_core.compare.recommendation import (
    RhoRecommendation,
    recommend_rho,
    recommendation_sentence,
    rho_outcome,
)
from cist_core.entropy.curves import EntropyCurves
from cist_core.inference.sources import load_logits
from cist_core.objectives import cist_loss
from cist_core.temperature import Cist
from cist_core.training import parse_config
from cist_core.wording import three_digits
from tests.app.driver import open_app

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = Chosen(4.36, 1.0, "mnist5k-cnn", "mnist-5k", "cnn_16_32")


def open_rho(**query: str | list[str]) -> AppTest:
    return open_app("rho", **query)


def curves_of(model: str = "mnist5k-cnn") -> EntropyCurves:
    return EntropyCurves.from_logits(load_logits(model, "mnist-5k").logit_set)


CHARTS = 2
"""The curve of ρ, and the chart of the tab that is open: the evidence where there is some, else the gain."""


def metrics(app: AppTest) -> dict[str, str]:
    """The numbers, and the range that stands under the first."""
    shown = {metric.label: metric.value for metric in app.metric}
    return shown | {"Range of ρ": app.metric[0].delta.removeprefix("range ") or "none"}


def test_the_page_shows_the_numbers_of_the_library() -> None:
    app = open_rho()
    found = recommend_rho(curves_of())
    shown = metrics(app)
    assert shown["Recommended ρ"] == three_digits(found.rho)
    assert shown["Range of ρ"] == " to ".join(map(three_digits, found.band))
    assert shown["Same mean entropy as"] == f"τ = {three_digits(found.matched_tau)}"
    assert shown["Consistency gain there"] == f"{three_digits(found.gain)} ×"
    charts = app.get("vega_lite_chart")
    assert len(charts) == CHARTS
    assert all(chart.proto.alt for chart in charts)
    assert app.title[0].value == "Which ρ suits this teacher?"
    assert app.subheader[0].value == recommendation_sentence(found)
    gain = next(each.value for each in open_rho(rho_tab="Gain").subheader if "% of ln C CIST's entropies" in each.value)
    assert gain.startswith(f"Between {found.low * 100:.3g} % and {found.high * 100:.3g} %")
    assert not app.error


def test_teacher_and_student_stand_side_by_side_at_the_rho_of_the_slider() -> None:
    app = open_rho(rho="3", student="mnist5k-cnn-small", rho_tab="Tables")
    table = app.dataframe[0].value
    assert table["Model"].tolist() == ["teacher", "teacher", "student", "student"]
    assert table["Rule"].tolist()[1] == table["Rule"].tolist()[3] == "CIST ρ = 3.00"
    outcome = rho_outcome(curves_of("mnist5k-cnn-small"), 3.0)
    student = table.iloc[3]
    assert student["Spread"] == pytest.approx(outcome.std_cist, abs=1e-6)
    assert student["Over-sharp"] == pytest.approx(outcome.cist.over_sharp * 100)
    assert table.iloc[2]["Mean"] == pytest.approx(student["Mean"], abs=1e-3)
    alone = open_rho(student="none", rho_tab="Tables")
    assert alone.dataframe[0].value["Model"].tolist() == ["teacher", "teacher"]


def test_the_button_moves_rho_for_the_whole_app() -> None:
    app = open_rho(rho="2")
    button = app.button(key="rho_use")
    assert not button.disabled
    button.click().run()
    assert app.slider(key="rho").value == pytest.approx(recommend_rho(curves_of()).rho, abs=0.0051)
    assert app.session_state["_view"].matched
    assert app.button(key="rho_use").disabled
    app.switch_page("../pages/entropy.py").run()
    assert app.slider(key="rho").value == pytest.approx(recommend_rho(curves_of()).rho, abs=0.0051)


def test_the_target_and_the_range_move_the_recommendation() -> None:
    app = open_rho(rho_anchor="own")
    app.slider(key="rho_target").set_value(0.4)
    app.slider(key="rho_ends").set_value((0.3, 0.6)).run()
    found = recommend_rho(curves_of(), target=0.4, low=0.3, high=0.6)
    assert metrics(app)["Recommended ρ"] == three_digits(found.rho)
    assert metrics(app)["Range of ρ"] == " to ".join(map(three_digits, found.band))
    app.slider(key="rho_ends").set_value((0.5, 0.8)).run()
    assert app.slider(key="rho_target").value == 0.5
    assert not app.error


def test_a_recommendation_beyond_the_slider_is_not_taken_in_silence() -> None:
    app = open_rho(teacher="mnist5k-mlp", floor="0", rho_anchor="own", rho_target="0.01", rho_ends=["0.0", "0.6"])
    found = recommend_rho(curves_of("mnist5k-mlp"), target=0.01, low=0.0, high=0.6, floor=0.0)
    assert found.rho > 20
    assert metrics(app)["Recommended ρ"] == three_digits(found.rho)
    assert any(
        f"The slider goes from ρ = 0.5 to 15: the recommended {three_digits(found.rho)} lies beyond" in caption.value
        for caption in app.caption
    )
    button = app.button(key="rho_use")
    assert button.label == "Use ρ = 15, the nearest"
    button.click().run()
    assert not app.exception
    assert app.slider(key="rho").value == 15
    assert app.button(key="rho_use").disabled
    inside = open_rho(teacher="mnist5k-mlp")
    assert inside.button(key="rho_use").label == "Use ρ = 3"
    assert not any("The slider goes" in caption.value for caption in inside.caption)


def test_the_page_recommends_under_the_floor_of_the_sidebar() -> None:
    app = open_rho(teacher="mnist5k-mlp", floor="0", rho_anchor="kd-tau-1", rho_tab="Export")
    pure, held = (recommend_rho(curves_of("mnist5k-mlp"), anchor="kd-tau-1", floor=floor) for floor in (0.0, 1.0))
    assert abs(pure.rho - held.rho) > 0.05
    assert metrics(app)["Recommended ρ"] == three_digits(pure.rho)
    app.number_input(key="floor").set_value(1.0).run()
    assert metrics(app)["Recommended ρ"] == three_digits(held.rho)
    assert app.subheader[-1].value.startswith("Take ρ = ")
    assert "floor of 1" in app.subheader[-1].value


def test_a_range_whose_sharp_end_the_floor_keeps_out_of_reach_is_open() -> None:
    ends = {"target": 0.6, "low": 0.15, "high": 0.7}
    app = open_rho(teacher="mnist5k-mlp", floor="1.5", rho_anchor="own", rho_target="0.6", rho_ends=["0.15", "0.7"])
    softer, sharper = recommend_rho(curves_of("mnist5k-mlp"), **ends, floor=1.5).band
    assert sharper is None
    assert metrics(app)["Range of ρ"] == f"{three_digits(softer)} or more"


@pytest.mark.parametrize("floor", ["4", "6", "20"])
def test_a_high_floor_leaves_a_recommendation(floor: str) -> None:
    app = open_rho(floor=floor)
    assert not app.error
    assert metrics(app)["Recommended ρ"] == three_digits(recommend_rho(curves_of(), floor=float(floor)).rho)


def test_an_anchor_that_the_floor_keeps_out_of_reach_is_said_and_the_page_goes_on() -> None:
    app = open_rho(floor="6", rho_anchor="kd-tau-1")
    assert "no temperature of CIST falls below its floor of 6" in app.error[0].value
    assert len(app.error) == 1
    assert metrics(app)["Recommended ρ"] == three_digits(recommend_rho(curves_of(), floor=6.0).rho)
    app.number_input(key="floor").set_value(0.5).run()
    assert not app.error


@pytest.mark.parametrize("anchor", ["authors", "kd-tau-4"])
def test_an_anchor_can_be_chosen_and_says_where_it_comes_from(anchor: str) -> None:
    app = open_rho()
    radio = app.radio(key="rho_anchor_box")
    assert radio.value == recommend_rho(curves_of()).anchor.key
    radio.set_value(anchor).run()
    found = recommend_rho(curves_of(), anchor=anchor)
    assert metrics(app)["Recommended ρ"] == three_digits(found.rho)
    assert any(plain(found.anchor.why) in caption for caption in app.radio(key="rho_anchor_box").proto.captions)
    assert metrics(app)["Range of ρ"] == (range_in_words(found) if found.has_range else "none")
    command = next(code.value for code in app.code if code.value.startswith("cist rho"))
    assert f"--anchor {anchor}" in command
    assert open_rho(rho_anchor=anchor).radio(key="rho_anchor_box").value == anchor


def range_in_words(found: RhoRecommendation) -> str:
    return " to ".join(map(three_digits, found.band))


def test_with_evidence_what_trained_best_is_chosen_and_drawn() -> None:
    """Of 100 classes there is evidence."""
    best = evidence_for(100).best()
    app = open_rho(teacher="cifar100-resnet20")
    assert app.radio(key="rho_anchor_box").value == "trained-best"
    assert len(app.get("vega_lite_chart")) == CHARTS
    assert any(f"from {best.runs} runs with {best.classes} classes" in caption.value for caption in app.caption)
    assert any(title.value.startswith("Our CIST students were best at") for title in app.subheader)


@pytest.fixture
def evidence_of_100_classes_alone(monkeypatch) -> Iterator[None]:
    every = all_evidence()
    monkeypatch.setattr("cist_core.compare.evidence.all_evidence", lambda: tuple(e for e in every if e.classes == 100))
    st.cache_data.clear()  # what was recommended before
    yield
    st.cache_data.clear()


@pytest.mark.usefixtures("evidence_of_100_classes_alone")
def test_an_anchor_that_another_teacher_lacks_gives_way_to_its_default() -> None:
    app = open_rho(teacher="cifar100-resnet20", rho_anchor="trained-best")
    app.get_by_key("teacher_box").set_value("mnist5k-cnn").run()
    assert not app.exception
    assert app.radio(key="rho_anchor_box").value == "authors"
    assert any("None of our own students were trained with about 10 classes" in c.value for c in app.caption)


def test_two_temperatures_can_name_the_range() -> None:
    app = open_rho(rho_anchor="own", rho_target="0.25", rho_by="temperatures")
    app.slider(key="rho_taus").set_value((2.0, 5.0)).run()
    found = recommend_rho(curves_of(), target=0.25, tau_range=(2.0, 5.0))
    assert metrics(app)["Range of ρ"] == " to ".join(map(three_digits, found.band))
    assert not app.error


def test_a_contradiction_is_said_and_the_page_goes_on() -> None:
    app = open_rho(rho_anchor="own", rho_by="temperatures", rho_target="0.99")
    assert "The target 0.99 lies outside the range" in app.error[0].value
    assert metrics(app)["Recommended ρ"] == three_digits(recommend_rho(curves_of()).rho)
    assert len(app.get("vega_lite_chart")) == CHARTS


@pytest.mark.parametrize(
    "query", [{"rho_target": "x"}, {"rho_ends": ["0.9", "0.1"]}, {"rho_by": "moon"}, {"rho_anchor": "moon"}]
)
def test_a_broken_link_opens_a_working_page(query) -> None:
    app = open_rho(rho_anchor="own", **query) if "rho_anchor" not in query else open_rho(**query)
    assert len(app.get("vega_lite_chart")) == CHARTS


def test_the_link_holds_the_controls() -> None:
    app = open_rho(rho_anchor="own", rho_target="0.3", rho_ends=["0.2", "0.5"])
    assert app.slider(key="rho_ends").value == (0.2, 0.5)
    app.context = {"url": "http://127.0.0.1/rho"}
    app.run()
    link = app.sidebar.code[-1].value
    assert "rho_anchor=own" in link
    assert "rho_target=0.3" in link
    assert "rho_ends=0.2&rho_ends=0.5" in link


@pytest.mark.parametrize("kind", KINDS)
def test_every_export_is_shown_and_can_be_downloaded(kind: str) -> None:
    app = open_rho(rho="4.36", rho_tab="Export")
    app.get_by_key("rho_export").set_value(kind).run()
    assert not app.exception
    recommending = next(code.value for code in app.code if code.value.startswith("cist rho"))
    shown = export(kind, CHOSEN, recommending.splitlines()[0])
    assert shown.text.strip() in [code.value.strip() for code in app.code]
    assert any(button.label == f"Download {shown.file_name}" for button in app.get("download_button"))


def test_the_config_reads_back_from_json_and_from_yaml() -> None:
    config = run_config(CHOSEN)
    assert config.objective.parameters["rho"] == 4.36
    assert config.objective.parameters["floor"] == 1.0
    assert run_config(CHOSEN._replace(floor=0.5)).objective.parameters["floor"] == 0.5
    assert (config.teacher.name, config.student.architecture) == ("mnist5k-cnn", "cnn_16_32")
    assert parse_config(json.loads(export("RunConfig JSON", CHOSEN, "").text)) == config
    assert parse_config(yaml.safe_load(as_yaml(config))) == config


@pytest.mark.parametrize(
    "chosen",
    [
        CHOSEN,
        CHOSEN._replace(floor=0.5),
        Chosen(3.5, 0.0, "mnist5k-mlp", "fashion-mnist"),
        Chosen(7.16, 1.0, "cifar100-resnet20", "cifar100", "resnet14"),
        Chosen(9.0, 2.25, "my model.pt", "my photos/train"),
    ],
)
def test_the_training_command_makes_the_same_config(chosen: Chosen) -> None:
    options = build_parser().parse_args(shlex.split(training_command(chosen))[1:])
    assert chosen_config(options) == run_config(chosen)


@pytest.mark.parametrize("floor", ["1", "0", "2.5"])
def test_the_command_line_prints_the_number_on_the_page(floor: str, capsys) -> None:
    app = open_rho(rho_anchor="own", rho_target="0.5", floor=floor)
    command = next(code.value for code in app.code if code.value.startswith("cist rho")).splitlines()[0]
    code, out, _ = run(capsys, *command.split()[1:], "--json")
    assert code == 0
    assert three_digits(json.loads(out)["rho"]) == metrics(app)["Recommended ρ"]


@pytest.mark.parametrize("floor", [1.0, 0.0, 0.3])
def test_the_snippet_trains_a_student_with_the_loss_of_the_library(floor: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.nn.Linear(5, 7), torch.nn.Linear(5, 7)
    images, labels = torch.randn(16, 5), torch.randint(0, 7, (16,))
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    place: dict[str, object] = {}
    exec(snippet(Cist(4.36, floor)), place)
    logits = {"student_logits": student(images), "teacher_logits": teacher(images), "labels": labels}
    expected = cist_loss(**logits, rho=4.36, floor=floor)
    # The logits are so small that the floor makes a difference.
    other = cist_loss(**logits, rho=4.36, floor=0.6)
    assert expected["total"].item() != pytest.approx(other["total"].item(), rel=1e-3)
    before = student.weight.detach().clone()
    terms = place["training_step"](student, teacher, images, labels, optimiser)
    assert terms["total"].item() == pytest.approx(expected["total"].item())
    torch.testing.assert_close(terms["tau_student"], expected["tau_student"])
    assert terms["tau_student"].min() >= floor
    assert not torch.equal(student.weight, before)
    assert teacher.weight.grad is None


@pytest.mark.parametrize("floor", [1.0, 2.5])
def test_the_python_beside_the_charts_runs_and_agrees(floor: float) -> None:
    app = open_rho(floor=f"{floor:g}")
    text = next(code.value for code in app.code if "recommend_rho" in code.value)
    ast.parse(text)
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=120)
    assert float(result.stdout.split()[0]) == pytest.approx(recommend_rho(curves_of(), floor=floor).rho, rel=1e-6)


def test_the_page_needs_no_torch_until_a_config_is_wanted() -> None:
    text = (
        "import sys\nfrom streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(ROOT / 'app' / 'main.py')!r}, default_timeout=60).run()\n"
        "app.switch_page('../pages/rho.py').run()\n"
        "assert not app.exception and len(app.get('vega_lite_chart')) >= 2\n"
        "sys.exit(int('torch' in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]


def test_an_anchor_that_nobody_chose_follows_the_teacher() -> None:
    """The authors' ρ is the default for ten classes, what trained best for a hundred; a choice stays."""
    app = open_rho()
    assert app.radio(key="rho_anchor_box").value == "authors"
    app.selectbox(key="teacher_box").select("cifar100-resnet20").run()
    assert app.radio(key="rho_anchor_box").value == "trained-best"
    assert app.slider(key="rho").value == pytest.approx(3.98, abs=0.02)
    app.radio(key="rho_anchor_box").set_value("kd-tau-4").run()
    app.selectbox(key="teacher_box").select("mnist5k-mlp").run()
    assert app.radio(key="rho_anchor_box").value == "kd-tau-4"


def test_it_can_be_copied_and_taken_to_distill() -> None:
    app = open_rho(rho="2")
    found = recommend_rho(curves_of())
    rule = f"cist:rho={found.rho:.4g}"
    assert rule in [code.value for code in app.code]
    assert any("create_objective(" in code.value and f"{found.rho:.4g}" in code.value for code in app.code)
    app.button(key="rho_distill").click().run()
    assert not app.exception
    assert app.title[0].value == "Which soft labels train the better student?"
    assert app.slider(key="rho").value == pytest.approx(found.rho, abs=0.0051)


def test_each_anchor_says_why_and_now_is_among_them() -> None:
    app = open_rho(rho="2")
    assert all(len(caption) > 20 for caption in app.radio(key="rho_anchor_box").proto.captions)
    assert any(caption.value.startswith("**Now**: ρ = 2, mean ") for caption in app.caption)
