"""The Runs page and what it is made of: lists, colours, comparison, and every state a run can be in."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from example_runs import ExampleStore
from streamlit.errors import StreamlitAPIException
from streamlit.testing.v1 import AppTest

from app.forms.run_views import (
    MOST_SELECTED,
    Answers,
    RunView,
    SettingView,
    agreement,
    agreement_sentence,
    assign_colours,
    config_difference,
    differences_table,
    duration,
    everything,
    headline,
    in_settings,
    listing,
    metrics_table,
    over_seeds,
    read_runs,
    results,
    student_archive,
    three_numbers,
    told_apart,
    who_is_right,
)
from cist_core.charts.training import (
    RUN_COLOURS,
    accuracy_figure,
    entropy_figure,
    maximum_figure,
    temperature_figure,
)
from cist_core.errors import CistError
from cist_core.runs import RunState
from cist_core.training.logit_scale import VERBS, ScaleFault
from tests.damaged_files import METRICS, STATUSES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path, monkeypatch) -> ExampleStore:
    """The store that the page finds."""
    example = ExampleStore(tmp_path)
    monkeypatch.setattr("cist_core.runs.RunStore", lambda: example)
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda store: example.asked.append(("worker",)))
    return example


def open_runs(*, tab: str | None = None, **query: str | list[str]) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    app.run()
    if tab is not None:
        app.session_state["runs-tab"] = tab
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page("../pages/runs.py").run()
    assert not app.exception
    return app


def views_of(store: ExampleStore) -> list[RunView]:
    return read_runs(store.list_runs())


def settings_of(store: ExampleStore) -> list[SettingView]:
    return told_apart(in_settings(views_of(store)))


def headline_of(store: ExampleStore) -> str:
    settings = settings_of(store)
    return headline(settings, [setting.curve("#000000") for setting in settings])


def finding(app: AppTest) -> str:
    return app.main.subheader[0].value


def charts(app: AppTest) -> int:
    return len(app.get("vega_lite_chart"))


# What the page is made of


def test_list_has_a_row_a_setting_with_states_progress_and_mean(store) -> None:
    store.put("running", done=3, seed=1)
    store.put("finished", done=12, right=0.8)
    store.put("finished", objective="kd:tau=4", done=12, right=0.9)
    settings = settings_of(store)
    table = listing(settings, {settings[0].key: "#123456"})
    assert table["Setting"].tolist() == ["KD τ = 4", "CIST ρ = 3.5"]
    assert table["Runs"].tolist() == [["finished"], ["1 running", "1 finished"]]
    assert table["Progress"].tolist() == [100.0, 62.5]
    assert table["Test"].tolist() == pytest.approx([90.0, 80.0])
    assert table["Seeds"].tolist() == [1, 1]
    assert "%23123456" in table["Colour"].iloc[0]
    assert [run.seed for run in settings[1].runs] == [0, 1]


def test_a_run_says_how_far_it_is_and_what_is_left(store) -> None:
    store.put("running", done=3)
    (view,) = views_of(store)
    assert view.position() == "3 / 12, 27 s left"
    assert view.details().startswith("epochs: 3 / 12, 27 s left")


def test_a_resumed_run_shows_its_epoch_before_its_first_step(store) -> None:
    run = store.put("running", done=5)
    run.directory.write_status({"state": "running", "phase": "starting", "epochs": 12})
    (view,) = views_of(store)
    assert view.epoch == 5
    assert view.progress == pytest.approx(5 / 12)
    assert view.details() == "starting · epochs: 5 / 12"


def test_a_run_that_was_told_to_stop_says_so_at_once(store) -> None:
    run = store.put("running", done=5)
    store.runs[0] = replace(run, stop_requested_at=3_000.0)
    (setting,) = settings_of(store)
    assert "is stopping" in setting.runs[0].details()
    assert listing([setting], {})["Runs"].tolist() == [["stopping"]]


@pytest.mark.parametrize(("executor", "place"), [("ray", "Ray"), ("slurm", "Slurm"), ("local", "this machine")])
@pytest.mark.parametrize(
    ("state", "done", "reason", "standing"),
    [
        ("queued", 0, None, "{}"),
        ("queued", 0, "It gives no answer (timed out).", "It gives no answer (timed out) · {}"),
        ("running", 3, None, "epochs: 3 / 12, 27 s left · 1,350 images a second · {}"),
        (
            "running",
            3,
            "It gives no answer (timed out).",
            "epochs: 3 / 12, 27 s left · 1,350 images a second · It gives no answer (timed out) · {}",
        ),
        ("lost", 3, "Its node died.", "Its node died · 3 of 12 epochs are done · {}"),
    ],
)
def test_a_run_says_where_it_runs_and_what_is_not_known_of_it(
    store, executor: str, place: str, state: str, done: int, reason: str | None, standing: str
) -> None:
    """What can be done with it, and its log, are those of runs of this machine."""
    store.put(state, done=done, reason=reason, executor=executor)
    app = open_runs(tab="Export")
    assert standing.format(f"on {place}") in [caption.value.replace("\\", "") for caption in app.main.caption]
    assert [code.value for code in app.main.code][1:] == [f"epoch {done} of 12"]
    key, asked = ("resume-run-1", "resume") if state == "lost" else ("cancel-run-1", "cancel")
    app.button(key=key).click().run()
    assert not app.exception
    assert (asked, "run-1") in store.asked


def test_machines_and_seeds_make_no_setting_of_their_own_but_all_else_does(store) -> None:
    store.put("finished", seed=0)
    other = store.put("finished", seed=1)
    config = other.directory.config()
    config.changed(machine={"threads": 3}).save(other.directory.config_file)
    assert [len(setting.runs) for setting in settings_of(store)] == [2]
    store.put("finished", objective="cist:rho=3.5,lambda_kl=8")
    assert [len(setting.runs) for setting in settings_of(store)] == [1, 2]


def test_a_run_whose_config_is_gone_is_listed_all_the_same(store) -> None:
    run = store.put("lost", done=2)
    run.directory.config_file.write_text("{")
    run.directory.status_file.unlink()
    view = views_of(store)[0]
    assert (view.method, view.student, view.seed, view.epochs) == ("?", "?", None, 1)
    assert listing(settings_of(store), {})["Setting"].tolist() == ["cist:rho=3.5"]


def test_labels_are_the_given_name_or_the_objective_and_differ_by_what_differs(store) -> None:
    store.put("finished", name="a", seed=0)
    store.put("finished", name="a", seed=1)
    assert [setting.label for setting in settings_of(store)] == ["a"]
    store.put("finished", objective="kd:tau=4")
    store.put("finished", objective="cist-authors")
    store.put("finished", objective="cist:rho=3,gradient=full", name="cist:rho=3, seed 0")
    store.put("finished", objective="cist:rho=3")
    assert [setting.label for setting in settings_of(store)] == [
        "CIST ρ = 3 (gradient = constant)",
        "CIST ρ = 3 (gradient = full)",
        "CIST ρ = 3, cist-authors",
        "KD τ = 4",
        "a",
    ]


def test_colours_stay_with_their_settings_and_none_is_used_twice(store) -> None:
    for objective in ("cist:rho=3", "kd", "dkd", "cist:rho=4", "ce", "jsd"):
        store.put("finished", objective=objective)
    settings = settings_of(store)
    colours = assign_colours(settings, {})
    assert len(set(colours.values())) == MOST_SELECTED == len(settings)
    kd = next(setting for setting in settings if setting.method == "kd")
    assert colours[kd.key] == RUN_COLOURS[1]
    some = settings[::2]
    assert assign_colours(some, colours) == {setting.key: colours[setting.key] for setting in some}


def test_headline_of_a_run_without_an_epoch_says_where_it_stands(store) -> None:
    for state, words in {
        "queued": "is queued",
        "running": "is in its first epoch",
        "failed": "failed before its first epoch ended",
        "cancelled": "was cancelled before its first epoch ended",
        "lost": "was lost before its first epoch ended",
    }.items():
        store.runs.clear()
        shutil.rmtree(store.root / "run-1", ignore_errors=True)
        store.put(state, name="mine")
        assert headline_of(store) == f"mine {words}"


COLLAPSED = ScaleFault("collapsed", 3, 0.0365, 16.7)
AWAY = ScaleFault("running away", 2, 153.0, 16.7)


def test_headline_compares_tests_and_says_what_has_none(store) -> None:
    for seed, (cist, kd) in enumerate(((0.915, 0.86), (0.925, 0.865), (0.92, 0.865))):
        store.put("finished", seed=seed, done=12, right=cist)
        store.put("finished", objective="kd:tau=4", seed=seed, done=12, right=kd)
    assert headline_of(store).startswith("CIST ρ = 3.5 tested 5.7 points better than KD τ = 4: 92.0 % against 86.3 %")
    store.put("running", objective="ce", done=3)
    assert headline_of(store).startswith("So far: CIST ρ = 3.5 tested 5.7 points better")
    assert headline_of(store).endswith("; 1 of 3 settings has no test")


def test_one_image_of_a_few_hundred_is_not_celebrated(store) -> None:
    store.put("finished", done=12, right=0.905)
    store.put("finished", objective="kd:tau=4", done=12, right=0.9)
    assert "cannot be told apart on test: 90.5 % and 90.0 %" in headline_of(store)
    table = differences_table(settings_of(store))
    assert table[["Setting", "Compared with", "Told apart"]].to_numpy().tolist() == [["CIST ρ = 3.5", "KD τ = 4", "no"]]
    assert table["Points"].tolist() == pytest.approx([0.5])
    names, values, helps = zip(*three_numbers(settings_of(store)), strict=True)
    assert names == ("Highest test accuracy", "Difference to the next, points", "Runs that have ended")
    assert values[0] == "90.5 %"
    assert values[1].startswith("−")
    assert values[2] == "2 of 2"
    assert "one seed, 200 test images" in helps[0]


def test_a_seed_that_was_trained_twice_counts_once(store) -> None:
    store.put("finished", done=12, right=0.8)
    store.put("finished", done=12, right=0.9)
    assert settings_of(store)[0].accuracy().by_seed == {0: 0.9}


COLLAPSED = ScaleFault("collapsed", 3, 0.0365, 16.7)
AWAY = ScaleFault("running away", 2, 153.0, 16.7)


def test_a_fault_of_the_scale_stands_in_the_list_and_in_the_headline(store) -> None:
    store.put("running", name="pure", done=12, fault=COLLAPSED)
    (setting,) = settings_of(store)
    assert listing([setting], {})["Runs"].tolist() == [["running", "collapsed"]]
    assert headline_of(store).endswith("after 12 epochs; its logits have collapsed")
    store.put("running", objective="kd", name="free", done=3, fault=AWAY)
    store.put("running", objective="ce", name="fine", done=3)
    assert listing(settings_of(store), {})["Runs"].tolist() == [
        ["running"],
        ["running", "running away"],
        ["running", "collapsed"],
    ]
    assert headline_of(store).endswith("; the logits of free are running away; the logits of pure have collapsed")


def test_results_leave_out_what_no_run_has(store) -> None:
    store.put("running", done=3)
    assert "Test, last" not in results(views_of(store))
    store.put("finished", done=12, right=0.8)
    table = results(views_of(store))
    assert table["Test, last"].iloc[0] == pytest.approx(80.0)
    assert table["Best epoch"].tolist() == [12, 3]
    assert table["Time"].tolist()[0] == "1 min"


def test_a_run_that_gets_ready_says_with_what(store) -> None:
    run = store.put("running", name="mine")
    run.directory.write_status(
        {"state": "running", "phase": "teacher on test images", "phase_done": 600, "phase_total": 1000}
    )
    assert views_of(store)[0].details() == "teacher on test images, 600 of 1,000"
    assert headline_of(store) == "mine is getting ready: teacher on test images, 600 of 1,000"


def test_seeds_are_summed_up_where_nothing_else_differs(store) -> None:
    for seed, right in enumerate((0.8, 0.9)):
        store.put("finished", seed=seed, done=12, right=right)
    store.put("finished", objective="kd:tau=4", done=12)
    table = over_seeds(settings_of(store)).set_index("Setting")
    assert table.index.tolist() == ["CIST ρ = 3.5"]
    assert table.loc["CIST ρ = 3.5", "Seeds"] == 2
    assert table.loc["CIST ρ = 3.5", "Mean"] == pytest.approx(85.0)
    assert table.loc["CIST ρ = 3.5", "Deviation"] == pytest.approx(100 * np.std([0.8, 0.9], ddof=1))
    assert table.loc["CIST ρ = 3.5", "From"] < 80.0


def test_only_fields_that_differ_are_compared(store) -> None:
    store.put("finished", objective="kd:tau=4", seed=1)
    store.put("finished", objective="kd:tau=2", seed=1)
    table = config_difference(settings_of(store))
    assert table["Field"].tolist() == ["objective.parameters.tau"]
    assert table.iloc[0].tolist()[1:] == ["2.0", "4.0"]
    store.put("finished", objective="ce", seed=4)
    fields = config_difference(settings_of(store)).set_index("Field")
    assert fields.loc["objective.parameters.tau"].tolist() == ["–", "2.0", "4.0"]
    assert "objective.name" in fields.index
    assert not {"epochs", "seed"} & set(fields.index)


def test_agreement_is_the_share_of_equal_answers() -> None:
    labels = np.array([0, 1, 2, 3])
    a = Answers(np.array([0, 1, 2, 0]), labels)
    b = Answers(np.array([0, 1, 0, 0]), labels)
    c = Answers(np.array([1, 0, 0, 3]), labels)
    table = agreement({"a": a, "b": b, "c": c}).set_index("Run")
    assert table.loc["a", "b"] == table.loc["b", "a"] == 75.0
    assert table.loc["b", "c"] == 25.0
    assert [table.loc[name, name] for name in "abc"] == [100.0] * 3
    assert who_is_right(a, b) == {"both": 2, "first": 1, "second": 0, "neither": 1}
    assert sum(who_is_right(a, c).values()) == 4
    assert agreement_sentence({"a": a, "b": b}) == (
        "The students agree on 75.0 % of 4 test images; only a is right on 1, only b on 0"
    )
    assert agreement_sentence({"a": a, "b": b, "c": c}) == "The students agree on 0.0 to 75.0 % of 4 test images"


def test_without_labels_nobody_is_right() -> None:
    a = Answers(np.array([0, 1]), None)
    assert who_is_right(a, a) is None
    assert agreement_sentence({"a": a, "b": a}) == "The students agree on 100 % of 2 test images"


def test_students_of_different_images_do_not_compare() -> None:
    a = Answers(np.array([0, 1]), np.array([0, 1]))
    for other in (Answers(np.array([0, 1, 1]), np.array([0, 1, 1])), Answers(np.array([0, 1]), np.array([1, 1]))):
        with pytest.raises(CistError, match="different images"):
            agreement({"a": a, "b": other})


def test_exports_hold_everything(store) -> None:
    store.put("finished", done=12)
    store.put("failed", done=2, reason="It burst.")
    views = views_of(store)
    table = metrics_table(views)
    assert table.groupby("id").size().to_dict() == {"run-1": 12, "run-2": 2}
    content = json.loads(everything(views))
    assert [(run["state"], len(run["metrics"])) for run in content] == [("failed", 2), ("finished", 12)]
    assert content[1]["config"]["objective"]["parameters"]["rho"] == 3.5
    with zipfile.ZipFile(io.BytesIO(student_archive(views[1]))) as archive:
        assert set(archive.namelist()) == {"student.safetensors", "student.json", "config.json"}


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (187_200, "2 d 4 h")]
)
def test_times_are_said_as_a_person_says_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# The page


def test_without_runs_one_sentence_and_a_way_on(store) -> None:
    app = open_runs()
    assert app.title[0].value == "What came of the runs?"
    assert app.main.markdown[0].value.startswith("No runs yet")
    assert [button.label for button in app.main.button] == ["Distill a teacher"]
    assert not charts(app)


@pytest.mark.parametrize("state", ["queued", "running", "finished", "failed", "cancelled", "lost"])
@pytest.mark.parametrize("done", [0, 5])
def test_every_state_renders_with_its_remedy(store, state: str, done: int) -> None:
    store.put(state, name="mine", done=done, reason="The disk was full." if state in ("failed", "lost") else None)
    app = open_runs()
    labels = [button.label for button in app.main.button]
    assert ("Cancel" in labels) == (state in ("queued", "running"))
    assert ("Resume" in labels) == (state in ("failed", "cancelled", "lost"))
    assert ("Delete" in labels) == (state not in ("queued", "running"))
    assert charts(app) == (0 if not done and state != "finished" else 2 if state == "finished" and done else 1)
    if state in ("failed", "lost"):
        assert any("The disk was full" in caption.value for caption in app.main.caption)
    assert f"-badge[{state}]" in app.main.markdown[0].value


@pytest.mark.parametrize("fault", [COLLAPSED, AWAY])
@pytest.mark.parametrize("state", ["running", "finished", "lost"])
def test_a_fault_of_the_scale_stands_at_its_run_and_the_run_goes_on(store, state: str, fault: ScaleFault) -> None:
    store.put(state, name="mine", done=5, fault=fault)
    app = open_runs()
    assert f"-badge[{state}] :red-badge[logits {fault.state}]" in app.main.markdown[0].value
    assert any(f"The student's logits {fault}" in caption.value.replace("\\", "") for caption in app.main.caption)
    assert finding(app).endswith(f"; its logits {VERBS[fault.state]}")


def test_the_page_asks_for_a_worker_only_while_there_is_something_to_do(store) -> None:
    store.put("finished", done=12)
    open_runs()
    assert store.asked == []
    store.put("queued")
    open_runs()
    assert ("worker",) in store.asked


def test_a_link_selects_the_runs_it_names(store) -> None:
    store.put("finished", name="old", done=12)
    store.put("finished", name="new", objective="kd:tau=4", done=12)
    store.put("queued", objective="ce", name="waiting")
    assert finding(open_runs(run="run-3")) == "waiting is queued"
    app = open_runs(run=["run-1", "run-2", "run-99"])
    assert finding(app).startswith("new and old cannot be told apart on test: 90.0 % and 90.0 %")
    assert app.session_state["run"] == ["run-2", "run-1"]
    assert [warning.value for warning in app.main.warning] == [
        "There is no run run-99 here: it was deleted, or belongs to another Studio."
    ]


def test_a_name_that_is_a_formula_is_text_in_the_spreadsheet(store, monkeypatch) -> None:
    offered = {}
    monkeypatch.setattr(st, "download_button", lambda label, data, *, key, **rest: offered.update({key: data}))
    run = store.put("finished", name='=HYPERLINK("https://evil.org")', done=2)
    open_runs(run=run.id, tab="Export")
    lines = offered["runs-csv"]().decode().splitlines()
    assert lines[0].startswith("run,id,")
    assert len(lines) == 3
    assert all(line.startswith("\"'=HYPERLINK(") for line in lines[1:])


def test_two_runs_are_compared_side_by_side(store) -> None:
    store.put("finished", name="one", done=12, right=0.9)
    store.put("finished", name="two", objective="kd:tau=4", done=12, right=0.8, gain=0.01)
    app = open_runs(run=["run-1", "run-2"])
    assert finding(app).startswith("one tested 10.0 points better than two: 90.0 % against 80.0 %")
    words = [text.value for text in open_runs(run=["run-1", "run-2"], tab="Tables").main.markdown]
    assert {"**Differences on test**", "**Run by run**", "**What differs in the configs**"} <= set(words)
    words = [text.value for text in open_runs(run=["run-1", "run-2"], tab="Agreement").main.markdown]
    assert any(text.startswith("**The students agree on 90.0 % of 200") and "only one on 20" in text for text in words)


def test_a_setting_opens_to_its_runs_and_can_be_stopped_whole(store) -> None:
    for seed in range(3):
        store.put("running" if seed else "finished", seed=seed, done=12 - 3 * seed)
    app = open_runs()
    (expander,) = app.main.expander
    assert expander.label.startswith("**CIST ρ = 3.5** :blue-badge[2 running] :green-badge[1 finished]")
    assert [text.value.partition(" :")[0] for text in expander.markdown] == ["seed 0", "seed 1", "seed 2"]
    app.button(key="cancel-all-run-1").click().run()
    assert {("cancel", "run-2"), ("cancel", "run-3")} <= set(store.asked)
    assert ("cancel", "run-1") not in store.asked


def test_what_was_launched_together_is_shown_together(store) -> None:
    store.put("finished", objective="ce", done=12)
    config = store.runs[0].directory.config()
    store.add_all([("", config.changed(objective=text)) for text in ("cist:rho=3", "kd:tau=4")], group="experiment")
    assert open_runs().session_state["run"] == ["run-3", "run-2"]


def test_runs_on_different_images_leave_the_rest_of_the_page(store) -> None:
    first = store.put("finished", name="one", done=12)
    store.put("finished", name="two", objective="kd", done=12)
    answers = np.zeros((5, 10), dtype=np.float32)
    answers[:, 1] = 1
    from cist_core import LogitSet

    LogitSet.create(answers, np.zeros(5, dtype=np.int64)).save(first.directory.test_logits)
    app = open_runs(run=["run-1", "run-2"], tab="Agreement")
    assert "different images" in app.error[0].value
    assert charts(app) == 1


@pytest.mark.parametrize(
    ("state", "key", "asked"),
    [
        ("running", "cancel-run-1", ("cancel", "run-1")),
        ("lost", "resume-run-1", ("resume", "run-1")),
        ("failed", "retry-run-1", ("retry", "run-1")),
    ],
)
def test_actions_reach_the_store(store, state: str, key: str, asked: tuple[str, str]) -> None:
    store.put(state, done=2)
    app = open_runs()
    app.button(key=key).click().run()
    assert not app.exception
    assert asked in store.asked


def test_deleting_needs_a_second_thought(store) -> None:
    store.put("finished", done=12)
    app = open_runs()
    assert app.button(key="delete-run-1").disabled
    app.checkbox(key="sure-run-1").check().run()
    app.button(key="delete-run-1").click().run()
    assert ("delete", "run-1") in store.asked
    assert app.main.markdown[0].value.startswith("No runs yet")


def test_names_and_notes_are_kept(store) -> None:
    store.put("finished", name="before", done=12)
    app = open_runs()
    app.text_input(key="name-run-1").set_value("after").run()
    app.text_input(key="note-run-1").set_value("with more patience").run()
    assert ("rename", "run-1", "after") in store.asked
    assert ("set_note", "run-1", "with more patience") in store.asked


def test_a_refusal_stands_beside_its_run(store) -> None:
    store.put("failed", done=2)
    store.refuse = "The run run-1 is being deleted; wait a moment."
    app = open_runs()
    app.button(key="resume-run-1").click().run()
    assert app.error[0].value == store.refuse
    assert charts(app) == 1


def test_the_part_of_the_loss_is_a_choice(store) -> None:
    store.put("finished", done=12)
    app = open_runs(term="distillation term", tab="Loss")
    assert any(heading.value.startswith("The distillation term") for heading in app.main.subheader)


def test_a_part_that_the_next_selection_lacks_is_left(store) -> None:
    store.put("finished", objective="ce", done=12)
    store.put("finished", done=12)
    app = open_runs(term="distillation term", tab="Loss")
    app.session_state["run"] = ["run-1"]
    app.run()
    assert not app.exception
    assert any(heading.value.startswith("The total loss") for heading in app.main.subheader)


@pytest.mark.parametrize("state", ["running", "finished"])
def test_damaged_files_spoil_their_own_run_alone(store, state: str) -> None:
    whole = store.put(state, done=3, name="whole")
    alone = settings_of(store)
    for number, content in enumerate([*STATUSES.values(), *METRICS.values()]):
        run = store.put(state, objective="kd", done=3, seed=number + 1, name=f"damaged {number}", epochs=13 + number)
        file = run.directory.status_file if number < len(STATUSES) else run.directory.metrics_file
        file.write_bytes(content)
    configs = [b"[]", b"{}", b'{"objective": 5}', b"[" * 200_000, b'{"objective": {"name": []}, "seed": "x"}', b"\xff"]
    for content in configs:
        store.put(state, done=3).directory.config_file.write_bytes(content)
    views = views_of(store)
    assert [bool(view.damage) for view in views] == [view.id != whole.id for view in views]
    assert all(any(said in view.details() for said in view.damage) for view in views if view.id != whole.id)
    settings = settings_of(store)
    assert len(listing(settings, {})) == len(settings) == len(views)
    (same,) = (setting for setting in settings if setting.runs[0].id == whole.id)
    assert same.runs[0].details() == alone[0].runs[0].details()
    for start in range(0, len(settings), MOST_SELECTED):
        chosen = settings[start : start + MOST_SELECTED]
        curves = [one.curve("#000000") for one in chosen]
        assert headline(chosen, curves)
        assert three_numbers(chosen)
        for figure in (accuracy_figure, entropy_figure, temperature_figure, maximum_figure):
            figure(curves)
    assert results(views) is not None
    assert "NaN" not in everything(views[-1:])
    assert len(metrics_table(views)) >= 3


def test_the_page_shows_damaged_runs_beside_whole_ones(store) -> None:
    whole = store.put("finished", done=12)
    status, rows = store.put("finished", done=12, objective="kd"), store.put("failed", done=3, objective="dkd")
    status.directory.status_file.write_bytes(STATUSES["nested"])
    rows.directory.metrics_file.write_bytes(METRICS["bytes"])
    app = open_runs(run=[whole.id, status.id, rows.id])
    captions = " ".join(caption.value for caption in app.caption)
    assert "status.json is damaged (epoch is" in captions.replace("\\", "")
    assert "metrics.jsonl is damaged (line" in captions.replace("\\", "")
    assert "on test" in captions


def test_a_table_that_was_made_anew_is_told_until_the_operator_has_read_it(store, monkeypatch) -> None:
    store.put("finished", done=12)
    store.rebuilt = "The table of runs was missing [sic]."
    app = open_runs()
    assert "runs-rebuilt" not in {button.key for button in app.button}  # somebody who comes from elsewhere
    monkeypatch.setattr("app.people.on_own_machine", lambda: True)
    app = open_runs()
    assert [warning.value for warning in app.warning] == ["The table of runs was missing \\[sic\\]."]
    app.button(key="runs-rebuilt").click().run()
    assert not app.warning


def test_a_config_that_could_not_be_opened_once_is_read_the_next_time(store, monkeypatch) -> None:
    run = store.put("finished", done=12)
    config = run.directory.config_file
    aside = config.rename(config.with_suffix(".aside"))
    assert not read_runs([run])[0].config
    aside.rename(config)
    assert read_runs([run])[0].config


def test_where_no_worker_can_work_the_runs_are_shown_all_the_same(store, monkeypatch) -> None:
    def refuse(store) -> None:
        raise CistError("No worker can work in /runs (Read-only file system).")

    monkeypatch.setattr("cist_core.runs.ensure_worker", refuse)
    run = store.put("running", done=3)
    gone = replace(run, state=RunState.LOST, reason="It is gone.")
    monkeypatch.setattr(store, "reconcile", lambda: store.runs.__setitem__(0, gone))
    app = open_runs()
    assert "Read-only file system" in app.error[0].value
    assert any("It is gone" in caption.value for caption in app.caption)
    assert app.button(key=f"resume-{run.id}")


def test_a_fault_that_has_been_mended_is_told_no_more(store, monkeypatch) -> None:
    """The page repeats itself while a run is active; the fault that it began with is not the one of now."""
    asked = []

    def mended(store) -> None:
        asked.append(store)
        if len(asked) == 1:
            raise CistError("No worker can work in /runs (Read-only file system).")

    def drawn_twice(function, **_):
        def draw(*args) -> None:
            function(*args)
            with suppress(StreamlitAPIException):  # the same buttons once more in one run
                function(*args)

        return draw

    monkeypatch.setattr("cist_core.runs.ensure_worker", mended)
    monkeypatch.setattr("streamlit.fragment", drawn_twice)
    store.put("running", done=3)
    app = open_runs()
    assert ["Read-only" in error.value for error in app.error] == [True]
    assert len(asked) == 2  # once for each drawing


def test_a_store_that_cannot_be_read_is_explained(store, monkeypatch) -> None:
    def broken(group: str | None = None) -> list[object]:
        raise CistError("The table of runs cannot be used; see that the folder exists.")

    monkeypatch.setattr(store, "list_runs", broken)
    assert "cannot be used" in open_runs().error[0].value


def test_a_run_without_soft_labels_has_no_charts_of_them(store) -> None:
    store.put("finished", objective="ce", done=12)
    assert charts(open_runs(tab="Soft labels")) == 2
    store.put("finished", objective="kd:tau=4", done=12)
    assert charts(open_runs(run=["run-1", "run-2"], tab="Soft labels")) == 4
