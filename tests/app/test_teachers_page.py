"""Teachers in Streamlit's own test runner: the numbers are the library's, and one teacher is enough."""

from __future__ import annotations

import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cist_core import LogitSet
from cist_core.added import AddedStore, AddSpec
from cist_core.cards import find_sample_model
from cist_core.compare.anchors import default_anchor
from cist_core.compare.teacher_comparison import CIST, FIXED, consistency_finding, nearness_finding, read_teacher
from cist_core.entropy.curves import EntropyCurves
from cist_core.inference.sources import load_logits
from tests.app.driver import ROOT, finding, open_app, view_of

BESIDE = "teachers_beside_mnist5k-cnn"


def open_teachers(**query: str | list[str]) -> AppTest:
    app = open_app("teachers", **query)
    assert not app.error
    return app


def logits_of(model: str, data: str = "mnist-5k"):
    return load_logits(model, data).logit_set


def subheaders(app: AppTest) -> list[str]:
    return [subheader.value for subheader in app.subheader]


def test_the_page_compares_the_shipped_teachers_with_the_numbers_of_the_library() -> None:
    app = open_teachers()
    student = view_of(app).source.student.name
    assert app.multiselect(key=f"{BESIDE}_box").value == ["mnist5k-mlp"]
    names = ("mnist5k-cnn", "mnist5k-mlp")
    target = max(default_anchor(EntropyCurves.from_logits(logits_of(name))).target for name in names)
    teachers = [read_teacher(name, logits_of(name), target=target, student=logits_of(student)) for name in names]
    assert any(f"where its mean entropy is {target:.3g} ln C" in caption.value for caption in app.caption)
    assert finding(app) == consistency_finding(teachers, FIXED)
    spreads = [teacher.fixed.profile.std for teacher in teachers]
    assert app.metric[0].value == f"{min(spreads):.3g} nats"
    assert app.metric[0].delta == teachers[int(np.argmin(spreads))].name
    tabs = {tab: open_teachers(teachers_tab=tab) for tab in ("Tables", "Student", "Calibration")}
    assert nearness_finding(teachers, student) in subheaders(tabs["Student"])
    consistency, gap, calibration = (tab.dataframe[0].value.set_index("Teacher") for tab in tabs.values())
    for teacher in teachers:
        row = consistency.loc[teacher.name]
        assert row["Accuracy"] == pytest.approx(find_sample_model(teacher.name).accuracy["test"] * 100, abs=0.05)
        assert row["ρ"] == pytest.approx(teacher.rho)
        assert row["Gain"] == pytest.approx(teacher.fixed.profile.std / teacher.cist.profile.std)
        assert gap.loc[teacher.name, "KL under CIST"] == pytest.approx(teacher.gap.kl_cist)
        assert calibration.loc[teacher.name, "Fitted τ"] == pytest.approx(teacher.calibration.tau)
    charts = [chart for shown in (app, tabs["Calibration"]) for chart in shown.get("vega_lite_chart")]
    assert len(charts) == 4
    assert all(chart.proto.alt for chart in charts)


def test_the_title_and_the_histogram_follow_the_rule() -> None:
    app = open_teachers(teachers_rule=CIST)
    assert finding(app).startswith("Under CIST")
    app.segmented_control(key="teachers_rule").set_value(FIXED).run()
    assert not app.exception
    assert finding(app).startswith("Under fixed τ")


def test_one_teacher_alone_is_shown_and_the_page_says_how_to_add_another() -> None:
    app = open_teachers(teachers_tab="Tables")
    app.multiselect(key=f"{BESIDE}_box").set_value([]).run()
    assert not app.exception
    assert "add a teacher to compare it with" in finding(app)
    assert len(app.dataframe[0].value) == 1
    assert len(app.get("vega_lite_chart")) == 1


def test_the_student_as_a_teacher_has_no_gap_to_itself() -> None:
    app = open_teachers(teachers_tab="Student")
    student = view_of(app).source.student.name
    app.multiselect(key=f"{BESIDE}_box").set_value([student]).run()
    assert not app.exception
    assert list(app.dataframe[0].value["Teacher"]) == ["mnist5k-cnn"]
    app = open_teachers(teachers_tab="Tables", **{BESIDE: student})
    assert list(app.dataframe[0].value["Teacher"]) == ["mnist5k-cnn", student]


def test_another_teacher_in_the_sidebar_has_others_beside_it() -> None:
    app = open_teachers()
    app.selectbox(key="teacher_box").select("mnist5k-mlp").run()
    assert not app.exception
    assert app.multiselect(key="teachers_beside_mnist5k-mlp_box").value == ["mnist5k-cnn"]
    app.selectbox(key="teacher_box").select("cifar100-resnet20").run()
    assert not app.exception
    assert app.multiselect(key="teachers_beside_cifar100-resnet20_box").value == []


def test_without_a_student_there_is_no_gap_but_a_word_about_it() -> None:
    app = open_teachers(student="none", teachers_tab="Student")
    assert "Choose a student in the sidebar" in app.info[0].value
    assert not app.dataframe
    assert not any(metric.label == "Nearest to the student" for metric in app.metric)


def test_two_that_were_added_under_one_title_are_told_apart_also_in_the_exported_code(monkeypatch, tmp_path) -> None:
    keys: dict[str, str] = {}
    store = AddedStore(tmp_path / "added", keys=keys)
    monkeypatch.setenv("CIST_ADDED", str(store.root))
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    ids = []
    for number in (1, 2):
        added = store.draft(title="twin")
        path = added.place_for(f"twin-{number}.npz", "teacher")
        spec = AddSpec.of(title="Twin", logits={"teacher": str(path)})
        entry = json.loads((added.folder / "entry.json").read_text())
        (added.folder / "entry.json").write_text(json.dumps({**entry, "spec": spec.model_dump()}))
        LogitSet.create(number * logits, np.arange(50) % 4).save(added.logit_file)
        ids.append(added.id)
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    app.query_params["teacher"] = ids[0]
    app.session_state["_added"], app.session_state["_added_keys"] = ids, keys
    app.session_state["teachers_tab"] = "Tables"
    app.run()
    app.switch_page("../pages/teachers.py").run()
    assert not app.exception
    first, second = app.dataframe[0].value["Teacher"]
    assert first == "Twin"
    assert second.startswith("Twin, ")
    (python,) = {code.value for code in app.code if "read_teacher" in code.value}
    assert "'Twin': read_logits(\"twin-1.npz\")" in python
    assert f"'{second}': read_logits(\"twin-2.npz\")" in python
