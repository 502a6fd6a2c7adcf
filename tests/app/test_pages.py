"""Every page in Streamlit's own test runner: it renders, its controls work, and errors stay where the user looks."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from command_line import run

from app.pages import find_pages
from cist_core.compare.anchors import default_anchor
from cist_core.compare.findings import rule_label
from cist_core.compare.matching import matched_pair
from cist_core.temperature import Cist, Fixed, parse_rule
from cist_core.temperature.readings import read_rule
from cist_core.wording import three_digits
from tests.app.driver import ROOT, components, note_of, open_app, shown_by, view_of

PAGES = [
    page.name for page in find_pages() if page.section in ("Look", "Decide") and page.needs_source and not page.hidden
]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_chart_with_words(page: str) -> None:
    app = open_app(page)
    charts = app.get("vega_lite_chart")
    assert charts or "cist_histogram" in components(app)
    for chart in charts:
        assert chart.proto.alt
    assert [*app.title, *app.subheader]
    assert not app.error


def test_first_view_is_the_matched_default_pair() -> None:
    view = view_of(open_app())
    assert view.matched
    wanted = default_anchor(view.source.curves).target
    assert view.fixed.profile.normalised_mean == pytest.approx(wanted, abs=0.005)
    assert view.cist.profile.normalised_mean == pytest.approx(wanted, abs=0.005)


def test_moving_tau_gives_rho_the_same_mean_entropy() -> None:
    app = open_app()
    app.slider(key="tau").set_value(3.0).run()
    view = view_of(app)
    expected = matched_pair(view.source.curves, tau=3.0).rho
    assert app.slider(key="rho").value == pytest.approx(expected, abs=0.0051)
    assert view.fixed.profile.mean == pytest.approx(view.cist.profile.mean, abs=0.005)


def test_moving_rho_gives_tau_the_same_mean_entropy() -> None:
    app = open_app()
    app.slider(key="rho").set_value(2.0).run()
    view = view_of(app)
    assert app.slider(key="tau").value == pytest.approx(matched_pair(view.source.curves, rho=2.0).tau, abs=0.0051)


def test_unlocked_sliders_leave_each_other_alone_and_relock_from_tau() -> None:
    app = open_app()
    rho = app.slider(key="rho").value
    app.toggle(key="matched").set_value(False).run()
    app.slider(key="tau").set_value(1.0).run()
    assert app.slider(key="rho").value == rho
    assert not view_of(app).matched
    assert note_of(app) == "Not matched: spreads at different mean entropies cannot be compared."
    app.toggle(key="matched").set_value(True).run()
    assert app.slider(key="tau").value == 1.0
    assert app.slider(key="rho").value != rho


def test_a_rule_that_nobody_has_moved_is_not_read_anew() -> None:
    """Neither where another setting changes, nor on another page; of another teacher or under another floor it is."""
    app = open_app("ratio")
    before = view_of(app)
    app.slider(key="ratio_gap").set_value(0.5).run()
    assert (view_of(app).fixed, view_of(app).cist) == (before.fixed, before.cist)  # readings equal only themselves
    app.toggle(key="matched").set_value(False).run()
    app.slider(key="tau").set_value(before.tau + 1).run()
    assert view_of(app).cist is before.cist
    assert view_of(app).fixed.rule.tau == view_of(app).tau == before.tau + 1
    app.switch_page("../pages/entropy.py").run()
    assert view_of(app).cist is before.cist
    app.number_input(key="floor").set_value(2.0).run()
    assert view_of(app).cist.rule.floor == 2.0
    assert (view_of(app).cist.entropy != before.cist.entropy).any()
    here = view_of(app)
    app.selectbox(key="teacher_box").select("cifar100-resnet20").run()
    assert len(view_of(app).fixed.entropy) == view_of(app).source.curves.num_samples
    assert view_of(app).fixed is not here.fixed


@pytest.mark.parametrize("key", ["tau", "rho"])
def test_a_link_with_one_value_gets_its_partner(key: str) -> None:
    app = open_app(**{key: "2.5"})
    assert app.slider(key=key).value == 2.5
    assert view_of(app).matched


def test_a_link_that_names_both_and_does_not_match_unlocks_them() -> None:
    app = open_app(tau="2", rho="9")
    assert (app.slider(key="tau").value, app.slider(key="rho").value) == (2.0, 9.0)
    assert app.toggle(key="matched").value is False
    assert "cannot be compared" in note_of(app)


def test_an_address_that_names_one_value_gets_its_partner_also_after_both_were_moved() -> None:
    """As the browser's back button does it: the other slider, in the address no more, is back at its start."""
    app = open_app(tau="4")
    app.slider(key="tau").set_value(6.0).run()
    start = view_of(app).source.default_pair(1.0)
    # Streamlit's test runner has no back button: what the browser reports then are two new positions.
    app.session_state["_settled"] = replace(app.session_state["_settled"], tau=6.0, rho=app.slider(key="rho").value)
    app.session_state["tau"], app.session_state["rho"] = 4.0, round(start.rho, 2)
    app.run()
    assert app.toggle(key="matched").value is True
    assert app.slider(key="tau").value == 4.0
    assert view_of(app).matched


def test_a_link_to_a_pair_at_the_end_of_a_slider_stays_tied() -> None:
    app = open_app(teacher="cifar100-resnet20", floor="0")
    app.slider(key="tau").set_value(0.25).run()
    assert not view_of(app).matched  # no rho on the slider is that sharp
    rho = f"{app.slider(key='rho').value:g}"
    again = open_app(teacher="cifar100-resnet20", floor="0", tau="0.25", rho=rho)
    assert again.toggle(key="matched").value is True
    assert "No partner within the sliders" in note_of(again)


def test_a_link_that_asks_for_matching_gets_it() -> None:
    app = open_app(tau="2", matched="true")
    assert view_of(app).matched
    assert app.toggle(key="matched").value is True


def test_a_number_that_is_none_beside_a_good_one() -> None:
    app = open_app(tau="nan", rho="3")
    assert app.slider(key="rho").value == 3.0
    assert view_of(app).matched


def test_without_sample_models_the_app_says_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    app = open_app()
    assert "CIST_SAMPLE_MODELS" in app.error[0].value


@pytest.mark.parametrize("text", ["abc", "-3", "nan", "1e9"])
def test_a_broken_link_opens_a_working_view(text: str) -> None:
    view = view_of(open_app(tau=text))
    assert 0.25 <= view.tau <= 20
    assert np.isfinite(view.fixed.entropy).all()


def test_another_teacher_starts_at_its_own_pair() -> None:
    app = open_app()
    app.slider(key="tau").set_value(19.0).run()
    app.selectbox(key="teacher_box").select("cifar100-resnet20").run()
    view = view_of(app)
    assert view.source.logit_set.num_classes == 100
    assert view.tau == pytest.approx(view.source.default_pair(1.0).tau, abs=0.0051)
    assert not app.exception


def test_numbers_on_the_overview_are_those_of_the_library() -> None:
    app = open_app()
    view = view_of(app)
    fixed = read_rule(Fixed(view.tau), view.source.curves).profile
    cist = read_rule(Cist(view.rho), view.source.curves).profile
    shown = shown_by(app, "cist_sliders")["here"]
    assert [shown[side]["std"] for side in ("tau", "rho")] == [fixed.std, cist.std]
    assert [shown[side]["words"][1] for side in ("tau", "rho")] == [three_digits(fixed.std), three_digits(cist.std)]
    limit = view.source.curves.max_entropy
    counts, _ = np.histogram(read_rule(Fixed(view.tau), view.source.curves).entropy, bins=60, range=(0, limit))
    assert np.abs(np.array(shown["tau"]["counts"]) - counts).sum() <= 4  # an entropy at an edge may fall on either side
    for label in ("cist_finding_and_play", "cist_numbers", "cist_histogram", "cist_samples", "cist_slider_grid"):
        assert label in components(app)


def test_without_shipped_logits_the_teacher_is_run_on_the_bundled_images(monkeypatch, tmp_path) -> None:
    for source in (ROOT / "sample_models" / "mnist5k-cnn-small").iterdir():
        if not source.name.startswith("logits"):
            target = tmp_path / "models" / "mnist5k-cnn-small" / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    logit_set = view_of(open_app()).source.logit_set
    card = json.loads((tmp_path / "models" / "mnist5k-cnn-small" / "card.json").read_text())
    assert logit_set.num_samples == 1_000
    assert logit_set.accuracy == pytest.approx(card["accuracy"]["test"])
    assert list((tmp_path / "cache").rglob("*.safetensors"))


def test_data_that_are_not_there_leave_a_remedy_and_a_working_app(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    app = open_app()
    app.selectbox(key="data_box").select("mnist").run()
    assert app.error
    assert "mnist" in app.error[0].value.lower()
    assert any("Download" in button.label for button in app.button)
    app.selectbox(key="data_box").select("mnist-5k").run()
    assert not app.error
    assert "cist_histogram" in components(app)


def test_entropy_page_reads_further_rules_and_names_bad_ones() -> None:
    app = open_app("entropy", rules="lskd:tau=2", entropy_tab="Tables")
    table = app.dataframe[0].value
    assert table["Rule"].tolist()[2] == "LSKD τ = 2"
    app = open_app("entropy", rules="tau=-1", entropy_tab="Tables")
    assert "tau" in app.error[0].value
    assert len(app.dataframe[0].value) == 2


def test_the_link_holds_what_is_on_the_screen_now() -> None:
    app = open_app("entropy", entropy_tab="Tables")
    app.context = {"url": "http://127.0.0.1/entropy"}
    app.get_by_key("rules").set_value(["tau=1", "lskd:tau=2"])
    app.slider(key="sharp").set_value(0.1)
    app.slider(key="tau").set_value(3.0).run()
    link = app.sidebar.code[-1].value
    query = parse_qs(urlsplit(link).query)
    assert query["rules"] == ["tau=1", "lskd:tau=2"]
    assert query["sharp"] == ["0.1"]
    assert query["tau"] == ["3"]
    assert query["entropy_tab"] == ["Tables"]
    assert query["teacher"] == ["mnist5k-cnn"]
    reopened = open_app("entropy", **{key: values if len(values) > 1 else values[0] for key, values in query.items()})
    assert reopened.dataframe[0].value["Rule"].tolist() == app.dataframe[0].value["Rule"].tolist()
    assert reopened.slider(key="sharp").value == 0.1


def test_entropy_page_thresholds_move_the_shares() -> None:
    app = open_app("entropy", entropy_tab="Tables")
    before = app.dataframe[0].value["Over-sharp"].iloc[0]
    app.slider(key="sharp").set_value(0.30).run()
    assert app.dataframe[0].value["Over-sharp"].iloc[0] > before


def test_only_the_open_tab_of_entropy_is_computed() -> None:
    app = open_app("entropy")
    assert len(app.get("vega_lite_chart")) == 1
    assert not app.dataframe
    tables = open_app("entropy", entropy_tab="Tables")
    assert not tables.get("vega_lite_chart")
    assert len(tables.dataframe) == 2
    for each in (app, tables):
        assert any(caption.value.startswith("The floor of 1 holds on") for caption in each.main.caption)


def test_entropy_page_stacks_one_chart_a_rule() -> None:
    app = open_app("entropy", rules="lskd:tau=2")
    overlaid = len(app.get("vega_lite_chart"))
    assert "cist_histogram" in components(app)
    app.get_by_key("layout").set_value("stacked").run()
    assert not app.exception
    assert len(app.get("vega_lite_chart")) == overlaid + 3
    assert "cist_histogram" not in components(app)


def test_the_lesson_has_a_link_without_any_model(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    app = open_app("learn", lesson_step="3")
    app.context = {"url": "http://127.0.0.1/learn"}
    app.run().run()
    query = parse_qs(urlsplit(app.sidebar.code[-1].value).query)
    assert query["lesson_step"] == ["3"]
    assert "teacher" not in query


@pytest.mark.parametrize("rule", ["lskd:tau=2", "dtkd:tau=4"])
def test_the_exported_code_prints_the_numbers_of_the_page(rule: str, capsys) -> None:
    app = open_app("entropy", rules=rule, entropy_tab="Tables")
    assert not app.error
    shown = next(frame.value for frame in app.dataframe if "Spread" in frame.value.columns)
    spread = shown.set_index("Rule").loc[rule_label(parse_rule(rule)), "Spread"]
    command, python = (code.value for code in app.code[:2])
    code, output, _ = run(capsys, *shlex.split(command)[1:], "--json")
    assert code == 0
    printed = {profile["rule"]: profile["std"] for profile in json.loads(output)["profiles"]}
    assert printed[rule] == pytest.approx(spread, abs=1e-6)
    exec(python, {})
    assert f"rule='{rule}'" in capsys.readouterr().out
