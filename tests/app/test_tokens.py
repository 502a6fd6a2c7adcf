"""Tokens: a language model reads a text in a process of its own, and the page shows what it expected."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pytest

pytest.importorskip("transformers")

from example_runs import ExampleStore
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import TextArea
from tiny_language_models import CLASSES, WORDS, save_tiny_model

from app.tokens import readings
from app.tokens.models import TextModel
from app.tokens.picture import picture_of
from app.tokens.readings import Readers
from app.tokens.selection import SELECT, measures_of, take_stretch
from app.tokens.texts import OwnText
from app.tokens.view import RHOS, Shown, code_of, table_of
from cist_core.cards import sample_models_folder
from cist_core.errors import CistError
from cist_core.language import reading
from cist_core.language.inference import infer_pairs
from cist_core.language.known import find_language_model
from cist_core.language.models import open_language_model
from cist_core.language.passage import curves_of, rows_of
from cist_core.language.pieces import TOKEN_TYPES
from cist_core.language.reading import PAIR, read
from cist_core.language.texts import example_of, read_texts, tokenise_all
from cist_core.language.token_set import TokenPair
from cist_core.processes import signs_of_work
from cist_core.runs import RunState
from cist_core.temperature import Cist
from cist_core.training import parse_config
from cist_core.training.before_after import open_distilled
from cist_core.wording import percent
from tests.app.driver import components, finding, open_app, passage_on, shown_by, wait_for, warnings

TEXT = " ".join(f"w{20 + 7 * number % 70}" for number in range(20))  # `w1`, the end of a text, begins none of them
ALONE = {"tokens_model": "tiny-teacher", "tokens_student": "none"}


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and a student, each with its card; a test has them as a copy."""
    folder = tmp_path_factory.mktemp("language")
    for seed, name in enumerate(("tiny-teacher", "tiny-student")):
        card = {
            "title": f"The {name}", "role": name.removeprefix("tiny-"), "parameters": 1, "vocabulary": CLASSES,
            "data": "nothing", "licence": "MIT", "nll": {},
        }  # fmt: skip
        place = save_tiny_model(folder / name, seed=seed)
        (place / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models that ship, and two tiny language models in the place of those."""
    folder = tmp_path / "models"
    shutil.copytree(tiny_models, folder / "language")
    for path in sample_models_folder().iterdir():
        if path.name != "language":
            (folder / path.name).symlink_to(path)
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(folder))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def pair(models: Path, tmp_path: Path) -> tuple[dict[str, object], TokenPair]:
    """A passage, and what both models expected of it, read here."""
    (tmp_path / "text.txt").write_text(TEXT)
    read(tmp_path / "text.txt", tmp_path, *map(open_language_model, ("tiny-teacher", "tiny-student")))
    return json.loads((tmp_path / "passage-0.json").read_text()), TokenPair.load(tmp_path / PAIR)


def box_of(app: AppTest, label: str = "Text") -> TextArea:
    (box,) = [each for each in app.main.text_area if each.label == label]
    return box


def read_it(app: AppTest, text: str = TEXT) -> AppTest:
    """Give the page a text and wait for the process that reads it."""
    box_of(app).set_value(text)
    next(button for button in app.main.button if button.label == "Read it").click().run()
    first = (box_of(app, "Prompt (optional)").value or text).split()[0]
    return wait_for(app, lambda: "cist_tokens" in components(app) and passage_on(app)["tokens"][0]["text"] == first)


@pytest.fixture
def run(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExampleStore:
    """A store whose one run has distilled the tiny teacher, as the engine leaves it: a fresh student, and what it is
    now."""
    store = ExampleStore(tmp_path / "runs")
    monkeypatch.setattr("cist_core.runs.RunStore", lambda: store)
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda store: None)
    config = parse_config(
        {
            "task": "language",
            "data": {"name": "texts.jsonl", "length": 64},
            "teacher": {"name": "tiny-teacher"},
            "student": {"architecture": "gpt2:width=16,layers=1,heads=2"},
            "objective": "kd:tau=1",
            "epochs": 1,
            "batch_size": 4,
        }
    )
    (added,) = store.add_all([("", config)])
    store.runs[0] = replace(added, state=RunState.FINISHED, started_at=2_000.0, ended_at=2_060.0)
    added.directory.write_status({"state": "finished", "epoch": 1, "epochs": 1, "test_nll": 4.0, "test_accuracy": 0.1})
    save_tiny_model(added.directory.language_student, seed=7)
    return store


def test_from_a_run_it_is_one_press_to_its_student_before_and_after(run: ExampleStore) -> None:
    runs = open_app("runs")
    (link,) = [each.proto for each in runs.get("page_link") if "before and after" in each.proto.label]
    app = open_app("tokens", **dict(parse_qsl(link.query_string)), tokens_text=TEXT)
    wait_for(app, lambda: "cist_tokens" in components(app))
    assert not app.warning
    given = passage_on(app) | shown_by(app, "cist_tokens")
    assert (given["measure"], given["model"]) == ("surprisal", "change")
    assert given["before"]["cross"] != given["student"]["cross"]
    assert given["before"]["tokens"] != given["student"]["tokens"]
    assert "Run KD τ = 1, seed 0" in app.selectbox(key="tokens_model_box").options
    teacher, student, before = open_distilled(run.runs[0].directory.path)
    after, earlier = infer_pairs(
        teacher, [student, before], tokenise_all([example_of({"text": TEXT}, "")], teacher.tokenizer, longest=64)
    )
    moved = float(after.student.nll.mean() - earlier.student.nll.mean())
    assert f"is {abs(moved):.3g} nats {'likelier' if moved < 0 else 'less likely'} than before" in finding(app)
    assert "bits per byte" in finding(app)
    table = table_of(passage_on(app), after, rows_of(after.teacher, 0, 0), Shown(tau=2.0, rho=4.0), before=earlier)
    expected = earlier.divergence(2.0, 2.0)
    assert table["earlier student's KL, tau=2"].iloc[1:].to_numpy() == pytest.approx(expected, abs=1e-6)


def test_the_code_of_a_run_prints_its_numbers(run: ExampleStore, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    directory = run.runs[0].directory
    code = code_of([], Shown(tau=2.0, rho=4.0), "text.txt", run=str(directory.path))
    exec(code.python, {})
    *_, after, before = capsys.readouterr().out.split()
    assert float(after) != float(before)
    assert code.command.startswith(f"cist analyze --lm {directory.language_student} --text text.txt")


def test_a_run_that_is_gone_is_said_and_so_is_one_whose_models_are(run: ExampleStore) -> None:
    app = open_app("tokens", tokens_model="run:gone", tokens_student="none", tokens_text=TEXT)
    assert "run:gone" in warnings(app)
    shutil.rmtree(Path(os.environ["CIST_SAMPLE_MODELS"]) / "language" / "tiny-teacher")
    app = open_app("tokens", tokens_model="run:run-1", tokens_text=TEXT)
    wait_for(app, lambda: bool(app.error))
    assert "tiny-teacher" in app.error[0].value


@pytest.mark.usefixtures("read_here")
def test_the_pair_that_ships_reads_the_text_that_ships_until_somebody_chooses_otherwise(models: Path) -> None:
    app = open_app("tokens")
    wait_for(app, lambda: "cist_tokens" in components(app))
    assert app.session_state["tokens_model"] == "tiny-teacher"
    assert app.session_state["tokens_student"] == "tiny-student"
    assert "To every thing there is a season" in box_of(app).value
    assert passage_on(app)["student"]["cross"]


@pytest.mark.usefixtures("read_here")
def test_a_text_is_read_and_shown_and_a_student_beside_the_teacher(models: Path) -> None:
    app = read_it(open_app("tokens", **ALONE))
    given = passage_on(app) | shown_by(app, "cist_tokens")
    assert "".join(token["text"] for token in given["tokens"]).split()[:3] == TEXT.split()[:3]
    assert given["student"] is None
    assert given["sliders"]["tau"] == 1.0
    assert "The model's first choice" in finding(app)
    app.selectbox(key="tokens_student_box").select("tiny-student").run()
    wait_for(app, lambda: "cist_tokens" in components(app) and passage_on(app)["student"] is not None)
    assert passage_on(app)["student"]["cross"]
    assert "the student's" in finding(app)


def test_nothing_else_is_to_be_chosen_in_the_sidebar(models: Path) -> None:
    app = open_app("tokens")
    assert [box.label for box in app.sidebar.selectbox] == []


@pytest.mark.usefixtures("read_here")
def test_tokens_are_selected_by_a_rule_about_what_the_model_expected(pair, models: Path) -> None:
    _, found = pair
    teacher = found.teacher
    middle = float(np.median(teacher.nll))
    link = {"tokens_model": "tiny-teacher", "tokens_student": "tiny-student", "tokens_text": TEXT}
    app = open_app("tokens", **link, tokens_select=f"surprisal={middle:.6f}.. & position=3..15")
    wait_for(app, lambda: "cist_tokens" in components(app))
    rows = np.flatnonzero((teacher.nll >= middle) & (teacher.facts.positions >= 3) & (teacher.facts.positions <= 15))
    assert any(f"{len(rows)} of {teacher.num_tokens} tokens" in each.value for each in app.markdown)
    assert f"at {percent(np.mean(teacher.rank[rows] == 1))} of {len(rows)} selected tokens" in finding(app)
    given = shown_by(app, "cist_tokens")
    assert given["between"] == [3, 15]
    assert given["others"] == [False, *(teacher.nll >= middle).tolist()]
    assert app.session_state["tokens_select"] == f"surprisal={middle:.6f}.. & position=3..15"

    read_it(app, " ".join(reversed(TEXT.split())))  # of another text it is not this stretch
    assert app.session_state["tokens_select"].startswith("surprisal=")
    assert "position" not in app.session_state["tokens_select"]
    app.button(key="tokens_select-all").click().run()
    given = shown_by(app, "cist_tokens")
    assert (given["between"], given["others"]) == (None, None)


@pytest.mark.usefixtures("read_here")
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("class=3", "needs labels"),
        ("student_surprisal=2..", "needs a student"),
        ("colour=3", "There is no measure 'colour'"),
        ("rank", "Expected"),
    ],
)
def test_a_rule_that_says_nothing_of_tokens_is_refused_in_a_sentence(models: Path, rule: str, said: str) -> None:
    app = open_app("tokens", **ALONE, tokens_text=TEXT, tokens_select=rule)
    wait_for(app, lambda: "cist_tokens" in components(app))
    assert any(said in error.value for error in app.error)
    assert shown_by(app, "cist_tokens")["others"] is None


@pytest.mark.usefixtures("read_here")
def test_a_rule_that_no_token_fulfils_selects_none(models: Path) -> None:
    app = open_app("tokens", **ALONE, tokens_text=TEXT, tokens_select="surprisal=1000..")
    wait_for(app, lambda: "cist_tokens" in components(app))
    assert finding(app) == "No token of this passage is selected"
    assert not any(shown_by(app, "cist_tokens")["others"])


def test_the_measures_of_a_passage_are_those_of_its_tokens_that_count(pair) -> None:
    passage, found = pair
    rows, shown = rows_of(found.teacher, 0, 0), Shown(tau=2.0, rho=4.0)
    measures = measures_of(passage, found, rows, shown)
    table = table_of(passage, found, rows, shown, selected=np.array([2, 5])).iloc[1:]
    for measure, column in {
        "entropy": "entropy, tau=2",
        "entropy_cist": "entropy, cist:rho=4,floor=0",
        "temperature": "CIST temperature",
        "student_temperature": "student's CIST temperature",
        "rank": "rank",
        "surprisal": "nll",
        "student_surprisal": "student's nll",
        "position": "position",
    }.items():
        assert measures.column(measure) == pytest.approx(table[column].to_numpy(), abs=1e-6)
    ids = table["id"].tolist()
    assert measures.column("frequency").tolist() == [ids.count(number) for number in ids]
    kinds = [TOKEN_TYPES[kind] for kind in measures.column("token_type").tolist()]
    assert kinds == ["word start"] * (len(rows) - 1) + ["special"]  # the end of the text
    assert table.loc[table["selected"], "position"].tolist() == [2, 5]


def test_a_stretch_leaves_a_rule_alone_that_cannot_be_read(monkeypatch) -> None:
    state = {SELECT: "surprisal=4.. & token_typ=word start"}
    monkeypatch.setattr("streamlit.session_state", state)
    take_stretch(None)
    take_stretch([3, 5])
    assert state[SELECT] == "surprisal=4.. & token_typ=word start"


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ([4, 9], "rank=2.. & position=4..9"),
        ([7, 7], "rank=2.. & position=7..7"),
        (None, "rank=2.."),
        ([9, 4], "position=1..2 & rank=2.."),
        ([-1, 4], "position=1..2 & rank=2.."),
        ([1, 2, 3], "position=1..2 & rank=2.."),
        ([1.5, True], "position=1..2 & rank=2.."),
        ("12", "position=1..2 & rank=2.."),
    ],
)
def test_a_stretch_that_a_hand_has_drawn_is_part_of_the_rule(monkeypatch, told: object, rule: str) -> None:
    state = {SELECT: "position=1..2 & rank=2.."}
    monkeypatch.setattr("streamlit.session_state", state)
    take_stretch(told)
    assert state[SELECT] == rule


def test_what_cannot_be_read_is_said_where_one_looks(models: Path) -> None:
    weights = models / "language" / "tiny-teacher" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    app = read_it(open_app("tokens", **ALONE))
    assert "tiny-teacher" in app.error[0].value
    assert "How sure" in app.title[0].value
    save_tiny_model(weights.parent)  # somebody puts it right
    app.button(key="tokens-again").click().run()
    wait_for(app, lambda: "cist_tokens" in components(app))
    assert not app.error
    assert "".join(token["text"] for token in passage_on(app)["tokens"]).split()[:3] == TEXT.split()[:3]
    assert app.session_state["tokens_text"] == TEXT


def test_without_a_language_model_the_page_says_how_to_get_one(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cist_core.language.known.find_spec", lambda name: None)
    for place in (models / "language").iterdir():
        (place / "card.json").unlink()
    app = open_app("tokens")
    assert "pip install" in app.info[0].value


@pytest.mark.usefixtures("read_here")
def test_a_link_shows_the_same_and_one_that_cannot_be_followed_says_so(models: Path) -> None:
    shown = Shown("surprisal", "difference", "teacher", 2.0, 6.5, 1.0, False, 3)
    link = {**ALONE, "tokens_text": TEXT, "tokens_view": shown.as_link(), "tokens_select": "position=2..8"}
    app = open_app("tokens", **link)
    wait_for(app, lambda: "cist_tokens" in components(app))
    given = shown_by(app, "cist_tokens")
    wanted = {"tau": 2.0, "rho": 6.5, "floor": 1.0, "matched": False}
    assert {key: given["sliders"][key] for key in wanted} == wanted
    assert (given["measure"], given["rule"], given["pinned"], given["between"]) == (
        "surprisal",
        "difference",
        3,
        [2, 8],
    )
    assert {key: app.session_state[key] for key in link} == link
    assert not app.warning
    for wrong in ("nonsense", Shown(pinned=9_999).as_link(), Shown().as_link() + "~3-9"):  # a stretch of before
        app = open_app("tokens", **ALONE, tokens_text=TEXT, tokens_view=wrong)
        wait_for(app, lambda app=app: "cist_tokens" in components(app))
        assert wrong[:20].replace("~", "\\~") in warnings(app)
    app = open_app("tokens", tokens_model="gpt-9", tokens_student="none", tokens_text=TEXT)
    assert "gpt-9" in warnings(app)


@pytest.mark.usefixtures("read_here")
def test_a_short_text_is_in_the_link_and_a_long_one_is_not_and_that_is_said(models: Path) -> None:
    app = read_it(open_app("tokens", **ALONE))
    assert app.session_state["tokens_text"] == TEXT
    long = " ".join(f"w{20 + (30 + number) % 60}" for number in range(400))
    app = read_it(app, long)
    assert app.session_state["tokens_text"] == ""
    assert any("not in the link" in caption.value for caption in app.caption)
    assert len(passage_on(app)["tokens"]) == 64  # as much as the model reads at once


def test_a_text_that_is_too_long_is_refused_and_not_dropped_by_its_field(models: Path) -> None:
    app = read_it(open_app("tokens", **ALONE), "w21 " * 6000)
    assert "The text has 24,000 characters with its prompt, and 20,000 are read here; give a part of it." in [
        error.value for error in app.error
    ]
    assert not any(field.proto.max_chars for field in app.text_area)


@pytest.mark.usefixtures("read_here")
def test_a_prompt_is_read_and_does_not_count(models: Path) -> None:
    app = open_app("tokens", **ALONE)
    box_of(app, "Prompt (optional)").set_value("w21 w22 w23")
    app = read_it(app, " w30 w31")
    tokens = passage_on(app)["tokens"]
    assert [token["text"] for token in tokens if token["role"] == "prompt"] == ["w21", " w22", " w23"]
    counted = sum(token["counted"] for token in tokens)
    assert counted == sum(token["role"] == "response" for token in tokens) == 3  # with the end
    assert f"of {counted} tokens" in finding(app)
    assert (app.session_state["tokens_text"], app.session_state["tokens_prompt"]) == (" w30 w31", "w21 w22 w23")

    again = open_app("tokens", **ALONE, tokens_text=" w30 w31", tokens_prompt="w21 w22 w23")
    wait_for(again, lambda: "cist_tokens" in components(again))
    assert passage_on(again) == passage_on(app)
    assert box_of(again, "Prompt (optional)").value == "w21 w22 w23"


@pytest.mark.usefixtures("read_here")
@pytest.mark.parametrize(("text", "prompt"), [(" ", "w21 w22"), ("\n ", ""), ("", "")])
def test_a_blank_text_is_not_read_and_what_was_given_stays(models: Path, text: str, prompt: str) -> None:
    app = read_it(open_app("tokens", **ALONE))
    box_of(app).set_value(text)
    box_of(app, "Prompt (optional)").set_value(prompt)
    next(button for button in app.main.button if button.label == "Read it").click().run()
    assert "Give a text" in app.error[0].value
    assert box_of(app, "Prompt (optional)").value == prompt
    assert (app.session_state["tokens_text"], app.session_state["tokens_prompt"]) == (TEXT, "")
    assert "".join(token["text"] for token in passage_on(app)["tokens"]).startswith(TEXT)


def test_a_link_to_a_blank_text_is_refused_where_one_looks(models: Path) -> None:
    app = open_app("tokens", **ALONE, tokens_text=" ")
    assert "There is no text to read" in app.error[0].value
    assert "tokens-again" not in [button.key for button in app.main.button]
    assert box_of(app).value == " "


@pytest.mark.usefixtures("read_here")
def test_one_press_leads_from_ones_own_text_back_to_the_first(models: Path) -> None:
    app = read_it(open_app("tokens", **ALONE), "w21 w22")
    next(button for button in app.main.button if button.label == "Ecclesiastes 3 again").click().run()
    wait_for(app, lambda: "cist_tokens" in components(app))
    assert box_of(app).value.startswith("To every thing there is a season")
    assert app.session_state["tokens_text"] == ""
    assert not [button for button in app.main.button if button.label == "Ecclesiastes 3 again"]


@pytest.mark.usefixtures("read_here")
def test_where_no_token_counts_the_reason_stands_above_and_all_tokens_are_matched(models: Path) -> None:
    prompt = " ".join(f"w{20 + number % 60}" for number in range(80))  # the model reads 64
    app = open_app("tokens", **ALONE, tokens_text=" w30", tokens_prompt=prompt)
    wait_for(app, lambda: "cist_tokens" in components(app))
    assert finding(app) == "No token of this text counts"
    assert "Tokens of a prompt do not count" in app.info[0].value
    assert "Texts longer than what is read at once: 1 of 1; tokens left out" in app.info[0].value
    assert shown_by(app, "cist_tokens")["sliders"]["rho"] < RHOS[1]


def test_a_link_of_before_without_a_stretch_is_followed() -> None:
    shown = Shown(tau=2.0, pinned=7)
    assert Shown.from_link(f"{shown.as_link()}~") == shown


@pytest.mark.parametrize(("text", "prompt"), [("an answer\n", ""), (' an "answer"', "a question\nof ä lines\u2028?")])
def test_the_file_of_the_export_is_what_was_read(tmp_path: Path, text: str, prompt: str) -> None:
    own = OwnText(text, prompt)
    (tmp_path / own.file_name).write_bytes(own.content)
    (example,) = read_texts(tmp_path / own.file_name)
    assert [piece.text for piece in example.pieces] == ([prompt, text] if prompt else [text])


@pytest.mark.usefixtures("read_here")
def test_passages_are_found_by_their_means_and_the_link_names_the_one_shown(models: Path) -> None:
    long = " ".join(f"w{20 + (30 + number) % 60}" for number in range(400))
    app = read_it(open_app("tokens", **ALONE), long)
    means = {
        name: float(name.partition("mean ")[2].partition(",")[0])
        for name in app.selectbox(key="tokens_passage_box").options
    }
    assert len(means) > 2
    assert " of the 63 tokens of this passage; " in finding(app)  # the first was not predicted
    assert f"Picture and table are of passage 1 of {len(means)}, over which this ρ is matched." in " ".join(
        caption.value for caption in app.caption
    )
    assert app.selectbox(key="tokens_order_box").label == "Passages by entropy at τ = 1"
    app.selectbox(key="tokens_order_box").select("mean").run()
    first = app.selectbox(key="tokens_passage_box").options[0]
    assert means[first] == max(means.values())
    assert app.session_state["tokens_passage"] == first.partition(":")[0]
    before = [token["position"] for token in passage_on(app)["tokens"]]
    app.selectbox(key="tokens_passage_box").select_index(1).run()
    assert app.session_state["tokens_passage"] == app.selectbox(key="tokens_passage_box").options[1].partition(":")[0]
    assert [token["id"] for token in passage_on(app)["tokens"]] != before
    app.session_state["tokens_view"] = Shown("rank", "tau", "teacher", 2.0, 6.0, 0.0, False).as_link()
    app.run()
    assert app.selectbox(key="tokens_order_box").label == "Passages by rank of the token"
    options = app.selectbox(key="tokens_passage_box").options
    ranks = [float(name.partition("mean ")[2].partition(",")[0]) for name in options]
    assert ranks == sorted(ranks, reverse=True)
    assert max(ranks) > math.log(CLASSES)  # no entropies any more


def test_a_link_to_an_order_alone_shows_its_first_passage_and_one_to_a_passage_that_one(models: Path) -> None:
    text = " ".join(f"w{20 + (30 + number * number) % 60}" for number in range(240))
    link = {**ALONE, "tokens_text": text, "tokens_order": "largest"}

    def opened(**further: str) -> AppTest:
        app = open_app("tokens", **link, **further)
        return wait_for(app, lambda: "cist_tokens" in components(app))

    def shown(app: AppTest) -> str:
        return str(app.selectbox(key="tokens_passage_box").value)

    app = opened()
    options = app.selectbox(key="tokens_passage_box").options
    numbers = [option.partition(":")[0] for option in options]
    assert len(numbers) > 2
    assert numbers != sorted(numbers)
    assert shown(app) == numbers[0]
    assert shown(opened(tokens_passage=numbers[1])) == numbers[1]
    app.selectbox(key="tokens_order_box").select("text").run()
    assert shown(app) == "1"
    app.selectbox(key="tokens_passage_box").select("2").run()
    assert shown(app) == "2"


@pytest.mark.parametrize(
    "told",
    [
        {"tau": 99},
        {"tau": "nan"},
        {"rho": -1},
        {"measure": "<b>"},
        {"floor": 7},
        {"pinned": "x"},
        {"pinned": -2},
        {"matched": 3},
        {"tau": []},
    ],
)
def test_what_no_hand_can_set_is_not_taken_over(told: dict[str, object]) -> None:
    assert Shown().told(told) == Shown()


def test_what_a_hand_has_set_is_taken_over_and_goes_into_the_link() -> None:
    shown = Shown().told(
        {"tau": 3.5, "rho": 9.25, "pinned": 4, "matched": False, "rule": "rho", "between": [1, 4], "else": 1}
    )
    assert shown == Shown(tau=3.5, rho=9.25, pinned=4, matched=False, rule="rho")
    assert Shown.from_link(shown.as_link()) == shown


def test_matched_sliders_have_the_same_mean_entropy_and_others_stay_as_they_are(pair) -> None:
    _, found = pair
    curves = curves_of(found.teacher, rows_of(found.teacher, 0, 0))
    matched = Shown(tau=0.8, rho=1.5).with_partner(curves)
    assert np.mean(Cist(matched.rho, 0.0).entropy(curves)) == pytest.approx(
        np.mean(curves.at_temperature(0.8)), rel=1e-3
    )
    assert matched.with_partner(curves) == matched
    apart = Shown(tau=0.8, rho=1.5, matched=False)
    assert apart.with_partner(curves) == apart
    # No rho has a mean entropy below that of the floor.
    assert Shown(tau=0.5, floor=1.0).with_partner(curves).rho == RHOS[1]


def test_the_table_has_a_row_a_token_and_what_both_models_say_under_both_rules(pair) -> None:
    passage, found = pair
    rows, shown = rows_of(found.teacher, 0, 0), Shown(tau=2.0, rho=4.0)
    table = table_of(passage, found, rows, shown)
    assert list(table["text"]) == [token["text"] for token in passage["tokens"]]
    assert table["nll"].isna().tolist() == [True] + [False] * (len(table) - 1)
    for whose, tokens in (("", found.teacher), ("student's ", found.student)):
        expected = tokens.curves(counted_only=False).at_temperature(2.0)
        assert table[f"{whose}entropy, tau=2"].iloc[1:].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert table["KL, tau=2"].iloc[1:].to_numpy() == pytest.approx(found.divergence(2.0, 2.0), abs=1e-6)
    alone = table_of(passage, found.teacher, rows, shown)
    assert not [name for name in alone if name == "passage" or "student" in name or "KL" in name]
    assert set(table_of(passage, found.teacher, rows, shown, number=3)["passage"]) == {3}


@pytest.mark.parametrize(
    ("measure", "rule", "model", "column", "ends"),
    [
        ("entropy", "tau", "teacher", "entropy, tau=2", (0, math.log(WORDS))),
        ("surprisal", "tau", "teacher", None, (0, math.log(WORDS))),
        ("temperature", "tau", "student", "student's CIST temperature", (0.25, 16)),
        ("divergence", "rho", "student", "KL, cist:rho=4,floor=0", (0.01, 10)),
        ("rank", "tau", "teacher", "rank", (1, WORDS)),
    ],
)
def test_the_picture_has_the_values_and_the_scale_of_the_screen(pair, measure, rule, model, column, ends) -> None:
    passage, found = pair
    rows, shown = rows_of(found.teacher, 0, 0), Shown(measure, rule, model, tau=2.0, rho=4.0)
    figure = picture_of(passage, found, rows, shown, title="Found", selected=np.array([2, 5]))
    table = table_of(passage, found, rows, shown)
    wanted = found.teacher.surprisal(2.0) if column is None else table[column].to_numpy()[1:]
    drawn = figure.datasets["tokens"].groupby("token").first()
    assert drawn["value"].to_numpy()[1:] == pytest.approx(wanted, rel=1e-6)
    low, high = ends
    place = (wanted - low) / (high - low) if low == 0 else np.log(wanted / low) / math.log(high / low)
    assert drawn["place"].to_numpy()[1:] == pytest.approx(np.clip(place, 0, 1), abs=1e-6)
    assert math.isnan(drawn["value"].iloc[0])  # nothing predicts the first token
    assert drawn.index[drawn["strength"] == 1].tolist() == [2, 5]


def test_the_picture_of_differences_and_of_weights_is_on_their_scales(pair) -> None:
    passage, found = pair
    rows, shown = rows_of(found.teacher, 0, 0), Shown("entropy", "difference", "both", tau=2.0, rho=4.0)
    drawn = picture_of(passage, found, rows, shown, title="Found").datasets["tokens"].groupby("token").first()
    table = table_of(passage, found, rows, shown)
    under = [
        table[f"{whose}entropy, {rule}"] for whose in ("", "student's ") for rule in ("tau=2", "cist:rho=4,floor=0")
    ]
    wanted = ((under[3] - under[1]) - (under[2] - under[0])).to_numpy()[1:]
    assert drawn["value"].to_numpy()[1:] == pytest.approx(wanted, abs=1e-6)
    half = math.log(WORDS) / 2
    assert drawn["place"].to_numpy()[1:] == pytest.approx((wanted + half) / (2 * half), abs=1e-6)
    weights = picture_of(passage, found, rows, Shown("weight", rho=4.0), title="Found").datasets["tokens"]
    assert weights.groupby("token").first()["value"].mean() == pytest.approx(1)
    asked = passage | {
        "tokens": [token | {"role": "prompt"} for token in passage["tokens"][:3]] + passage["tokens"][3:]
    }
    drawn = picture_of(asked | {"prompts": ["prompt"]}, found, rows, shown, title="Found").datasets["tokens"]
    assert drawn.loc[drawn["strength"] < 1, "token"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("names", [["tiny-teacher"], ["tiny-teacher", "tiny-student"]])
def test_the_code_of_the_export_prints_the_numbers_of_the_page(pair, names, tmp_path, monkeypatch, capsys) -> None:
    _, found = pair
    monkeypatch.chdir(tmp_path)
    code = code_of(names, Shown(tau=2.0, rho=4.0), "text.txt")
    exec(code.python, {})
    curves, said = found.teacher.curves(), capsys.readouterr().out
    for mean in (curves.at_temperature(2.0).mean(), curves.at_ratio(4.0).mean()):
        assert f"mean={mean:.4g}" in said
    assert code.command == "cist analyze --lm tiny-teacher --text text.txt --rule tau=2 cist:rho=4,floor=0"


def test_the_cache_is_bounded_by_bytes_too(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = models.parent / "cache" / "readings"
    for number in range(4):
        (root / f"{number}" / PAIR).mkdir(parents=True)
        (root / f"{number}" / PAIR / "tokens").write_bytes(bytes(1_000_000))
        os.utime(root / f"{number}", (number, number))
    monkeypatch.setattr(readings, "MOST_BYTES", 2_500_000)
    readings.forget_surplus()
    assert {folder.name for folder in root.iterdir()} == {"2", "3"}


def tiny_teacher() -> Readers:
    found = find_language_model("tiny-teacher")
    assert found is not None
    return Readers.of_models([TextModel.of_known(found)])


class Dead:
    """A child process that was ended before it wrote anything."""

    pid, started, begun = 0, "", 0

    def __init__(self, *_: object, **__: object) -> None:
        Dead.begun += 1

    def release(self) -> None: ...

    def exit_code(self) -> int:
        return -9


def test_a_process_that_dies_is_begun_once_and_again_when_somebody_asks(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "children", {})
    monkeypatch.setattr(readings, "Child", Dead)
    monkeypatch.setattr(Dead, "begun", 0)
    model = tiny_teacher()
    assert readings.reading_of(model, OwnText(TEXT)) is None
    for _ in range(4):
        with pytest.raises(CistError, match="did not come to the end"):
            readings.reading_of(model, OwnText(TEXT))
    assert Dead.begun == 1
    readings.forget_fault(model, OwnText(TEXT))
    assert readings.reading_of(model, OwnText(TEXT)) is None
    assert Dead.begun == 2
    with pytest.raises(CistError, match="sign in"):
        readings.reading_of(model, OwnText("another"), may_begin=False)
    assert not readings.children


def test_a_process_whose_time_is_up_is_killed_whoever_asks(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_teacher()
    monkeypatch.setattr(readings, "age", lambda started: readings.OPENING_SECONDS + readings.SECONDS + 60.0)
    killed: list[int] = []
    monkeypatch.setattr(readings, "signal_group", lambda pid, number: killed.append(pid))
    monkeypatch.setattr(Dead, "exit_code", lambda self: -9 if killed else None)
    monkeypatch.setattr(readings, "children", {})
    monkeypatch.setattr(readings, "Child", Dead)
    assert readings.reading_of(model, OwnText(TEXT)) is None
    assert readings.reading_of(model, OwnText("another")) is None
    assert killed == [Dead.pid]
    with pytest.raises(CistError, match="did not come to the end"):
        readings.reading_of(model, OwnText(TEXT))


def test_a_reading_that_is_there_stays_whoever_asks_for_it_again(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_teacher()
    monkeypatch.setattr(readings, "children", {})
    monkeypatch.setattr(readings, "Child", Dead)
    assert readings.reading_of(model, OwnText(TEXT)) is None
    (folder,) = readings.children
    (folder / readings.INDEX).write_text('{"passages": [{"file": "0.json"}]}')
    readings.forget_fault(model, OwnText(TEXT))
    found = readings.reading_of(model, OwnText(TEXT), may_begin=False)
    assert found is not None
    with pytest.raises(CistError, match="cleared away meanwhile"):
        found.passage(0)
    readings.read_anew(model, OwnText(TEXT))
    with pytest.raises(CistError, match="sign in"):
        readings.reading_of(model, OwnText(TEXT), may_begin=False)


def test_a_process_that_cannot_be_killed_holds_up_nobody(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a disk that does not answer; and the disk of the cache is full."""
    model = tiny_teacher()
    killed: list[int] = []
    monkeypatch.setattr(readings, "signal_group", lambda pid, number: killed.append(pid))
    monkeypatch.setattr(Dead, "exit_code", lambda self: None)
    monkeypatch.setattr(readings, "children", {})
    monkeypatch.setattr(readings, "Child", Dead)
    monkeypatch.setattr(readings, "ended", set())
    monkeypatch.setattr(readings, "AT_ONCE", 1)
    assert readings.reading_of(model, OwnText(TEXT)) is None

    def full(*_: object, **__: object) -> None:
        raise CistError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(readings, "write_whole", full)
        readings.stop(model, OwnText(TEXT))
    assert killed == [Dead.pid]
    with pytest.raises(CistError, match="has not gone yet"):
        readings.reading_of(model, OwnText(TEXT))
    assert readings.reading_of(model, OwnText("another")) is None
    assert killed == [Dead.pid]


def hanging(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Readers:
    """A process of Python's that works for so long that it shows, and then waits for something that never comes."""
    work = "while time.process_time() < 0.3:\n    pass\n"  # a start alone may take less than the system counts
    (folder / "hanging_reader.py").write_text(f"import time\n{work}time.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{Path.cwd()}")
    monkeypatch.setattr(readings, "children", {})
    return Readers(("nobody",), "hanging_reader", (), ())


def fault_of(readers: Readers) -> str:
    """Why there is no reading, once its process has ended."""
    for _ in range(240):
        try:
            readings.reading_of(readers, OwnText(TEXT))
        except CistError as error:
            return str(error)
        time.sleep(0.5)
    raise AssertionError("the process never ended")


def wait_until_quiet(readers: Readers) -> None:
    """Until the process has begun to wait, and shows no more sign of work."""
    (child,) = readings.children.values()
    seen = (0.0, 0)
    for _ in range(240):
        readings.reading_of(readers, OwnText(TEXT))
        before, seen = seen, signs_of_work(child.pid)
        if before == seen and seen > (0.0, 0):
            return
        time.sleep(0.5)
    raise AssertionError("it never came to rest")


def test_a_process_that_hangs_is_ended_long_before_its_time_is_up(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = hanging(tmp_path, monkeypatch)
    assert readings.reading_of(readers, OwnText(TEXT)) is None
    (child,) = readings.children.values()
    wait_until_quiet(readers)
    assert readings.reading_of(readers, OwnText(TEXT)) is None  # it may still come to something
    monkeypatch.setattr(readings, "QUIET_SECONDS", 0.5)
    time.sleep(1)
    assert "no sign of work" in fault_of(readers)
    assert child.exit_code() == -9
    assert readings.waiting(readers, OwnText(TEXT)) is None


def test_a_process_that_works_is_not_ended_for_hanging(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = iter(range(100))
    monkeypatch.setattr(readings, "signs_of_work", lambda pid: (0.0, next(work)))
    monkeypatch.setattr(readings, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(Dead, "exit_code", lambda self: None)
    monkeypatch.setattr(readings, "children", {})
    monkeypatch.setattr(readings, "Child", Dead)
    model = tiny_teacher()
    assert [readings.reading_of(model, OwnText(TEXT)) for _ in range(5)] == [None] * 5


def test_somebody_who_waits_can_stop_it_and_start_it_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = hanging(tmp_path, monkeypatch)
    assert readings.reading_of(readers, OwnText(TEXT)) is None
    (child,) = readings.children.values()
    assert readings.waiting(readers, OwnText(TEXT)).seconds >= 0
    readings.stop(readers, OwnText(TEXT))
    assert "Somebody stopped" in fault_of(readers)
    assert child.exit_code() == -9
    readings.forget_fault(readers, OwnText(TEXT))
    assert readings.reading_of(readers, OwnText(TEXT)) is None
    readings.stop(readers, OwnText(TEXT))
    assert "Somebody stopped" in fault_of(readers)


def test_what_no_sentence_was_written_for_is_told_all_the_same(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[object] = []
    monkeypatch.setattr(reading, "limit_memory", lambda at_once: limits.append(at_once) or 1_000_000)
    monkeypatch.setattr(reading, "limit_time", lambda seconds, sentence: limits.append(seconds))
    monkeypatch.setattr(reading.sys, "argv", ["", "text.txt", str(tmp_path), "tiny-teacher"])
    for error, said in (
        (KeyError("a"), "KeyError"),
        (MemoryError(), "more memory than the 1.0 MB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "more memory"),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(reading, "read", fail)
        reading.main()
        assert said in (tmp_path / reading.FAULT).read_text()
    assert limits == [reading.AT_ONCE, reading.OPENING_SECONDS, reading.SECONDS] * 3


@pytest.mark.usefixtures("read_here")
def test_the_cache_keeps_the_readings_that_are_asked_for(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = models.parent / "cache" / "readings"
    for number in range(5):
        (root / f"{number}").mkdir(parents=True)
        os.utime(root / f"{number}", (number, number))
    monkeypatch.setattr(readings, "MOST_KEPT", 3)
    read_it(open_app("tokens", **ALONE))
    kept = {folder.name for folder in root.iterdir()}
    assert not kept & {"0", "1", "2"}
