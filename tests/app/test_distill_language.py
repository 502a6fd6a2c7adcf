"""The Distill page for language models: offered where those that ship are here, and a config like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from example_runs import ExampleStore
from streamlit.testing.v1 import AppTest

from app.forms import distill as form
from app.forms import distill_estimate
from app.forms import distill_language as language
from cist_core.errors import CistError
from cist_core.training import RunConfig, parse_config, preset
from cist_core.training.presets import DEMO_LANGUAGE, LANGUAGE_PRESETS
from tests.app.language_pair import put_pair

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    put_pair(tmp_path / "models", monkeypatch)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExampleStore:
    example = ExampleStore(tmp_path)
    monkeypatch.setattr("cist_core.runs.RunStore", lambda: example)
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda store: example.asked.append(("worker",)))
    return example


def open_distill(**query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    app.run()
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page("../pages/distill.py").run()
    assert not app.exception
    return app


def config_of(app: AppTest) -> RunConfig:
    return parse_config(json.loads(next(code.value for code in app.main.code if code.language == "json")))


@pytest.mark.parametrize("name", LANGUAGE_PRESETS)
def test_every_recipe_survives_its_way_through_the_form(name: str, pair: None) -> None:
    answers = language.answers_of(name)
    made = form.make_configs(
        {
            **language.content(answers, download=False),
            **form.recipe(form.recipe_answers(name)),
            "objective": preset(name).objective.model_dump(mode="json"),
        },
        [0],
    )
    assert made == [preset(name)]


def test_without_the_pair_there_is_nothing_to_choose(store: ExampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "preset_names", lambda: ["demo"])
    app = open_distill(task="Texts")
    assert "task" not in {one.key for one in app.main.button_group}
    assert config_of(app).task == "image-classification"


def test_a_damaged_card_of_a_language_model_leaves_images_to_be_distilled(
    store: ExampleStore, pair: None, tmp_path: Path
) -> None:
    (tmp_path / "models" / "language" / "scripture-gpt" / "card.json").write_text("{")
    app = open_distill()
    assert any("card.json" in error.value for error in app.main.error)
    assert config_of(app).task == "image-classification"


@pytest.mark.parametrize(
    ("task", "advice"), [(preset("minillm-gpt2-base"), "shorter texts"), (preset("demo"), "images")]
)
def test_a_timing_that_takes_too_long_names_its_causes(
    task: RunConfig, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REST_SECONDS", "MOST_SECONDS"):
        monkeypatch.setattr(distill_estimate, name, -1.0)
    job = distill_estimate.EstimateJob(task)
    job.go_on()  # starts
    job.go_on()
    assert job.ended
    assert job.fault is not None
    assert "the teacher or the student may be slow here" in job.fault
    assert job.fault.endswith(f"{advice}.")


def test_sliders_that_texts_do_not_go_by_are_not_shown(store: ExampleStore, pair: None) -> None:
    def hidden(task: str) -> bool:
        return any(
            ".st-key-rules-bar, .st-key-chosen-source { display: none; }" in one.proto.body
            for one in open_distill(task=task).get("html")
        )

    assert hidden("Texts")
    assert not hidden("Images")


def test_texts_start_at_the_demo_and_are_launched(store: ExampleStore, pair: None) -> None:
    app = open_distill()
    app.button_group(key="task").set_value("Texts").run()
    assert not app.exception
    assert config_of(app) == preset(DEMO_LANGUAGE)
    assert (
        app.main.subheader[0].value == "Distill scripture-gpt into gpt2:width=96,layers=4,heads=4, with fresh weights"
    )
    app.selectbox(key="lm_student").set_value("scripture-gpt-small").run()
    assert app.main.subheader[0].value == "Distill scripture-gpt into scripture-gpt-small, 4.00 times smaller"
    app.button(key="launch").click().run()
    assert not app.exception
    queued = store.list_runs()[0].directory.config()
    assert queued.student.architecture == "scripture-gpt-small"
    app.button_group(key="task").set_value("Images").run()
    assert not app.exception
    assert config_of(app).epochs == preset("demo").epochs


def test_an_objective_over_pairs_of_classes_is_refused_in_one_sentence(store: ExampleStore, pair: None) -> None:
    app = open_distill(task="Texts", lm_method="mlkd")
    (said,) = [error.value for error in app.main.error]
    assert "language models have too many classes" in said
    assert app.button(key="launch").disabled
    app.selectbox(key="lm_method_box").select("cist").run()
    assert not app.main.error
    config = config_of(app)
    assert config.objective.parameters["rho"] == language.STARTS["rho"]
    assert config.objective.parameters["floor"] == 1.0
    captions = [caption.value for caption in app.main.caption]
    assert "ρ = 12 is a start for scripture-gpt; other teachers need their own." in captions
    assert any("KD at τ = 1 on every token with m ≤ 12" in caption for caption in captions)


def test_the_link_opens_the_same_form(store: ExampleStore, pair: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.people.on_own_machine", lambda: True)  # the recipe names files
    app = open_distill(task="Texts", lm_recipe="minillm-gpt2-base", epochs="2")
    config = config_of(app)
    assert config.data.name == "dolly/train.jsonl"
    assert (config.epochs, config.optimiser.learning_rate, config.batch_size) == (2, 5e-4, 32)


def test_files_of_the_server_are_named_below_its_roots_or_at_the_machine_itself(
    pair: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "story.txt").write_text("once")
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path / "open"))
    answers = language.answers_of(DEMO_LANGUAGE)
    stranger, visitor = {"may_read_paths": False, "own_machine": False}, {"may_read_paths": True, "own_machine": False}
    for who in (stranger, visitor):
        for known in (answers, {**answers, "lm_teacher": "hf:somebody/model"}):
            assert language.check_places(known, **who) == known
    wrong = [("lm_teacher", "/etc"), ("lm_texts", "/etc/passwd"), ("lm_test", "secrets.txt"), ("lm_texts", "gpt2:x")]
    for place, name in wrong:
        given = {**answers, place: name}
        assert language.check_places(given, may_read_paths=True, own_machine=True) == given
        with pytest.raises(CistError, match="names files on the server"):
            language.check_places(given, **stranger)
        with pytest.raises(CistError, match=f"no '{name}' in the folders that may be read"):
            language.check_places(given, **visitor)
    assert language.check_places({**answers, "lm_texts": "story.txt"}, **visitor)["lm_texts"] == str(
        (tmp_path / "open" / "story.txt").resolve()
    )
    monkeypatch.delenv("CIST_ROOTS")
    with pytest.raises(CistError, match="no folder is open to visitors"):
        language.check_places({**answers, "lm_texts": "/etc/passwd"}, **visitor)


def test_a_file_outside_of_the_roots_is_refused_on_the_page(store: ExampleStore, pair: None) -> None:
    app = open_distill(task="Texts", lm_texts="/etc/passwd")
    assert "no folder is open to visitors" in app.main.error[0].value
    assert app.button(key="launch").disabled
