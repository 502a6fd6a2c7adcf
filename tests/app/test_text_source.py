"""A language model on a text as the Studio's source: what is added, what the pages show, and what they refuse."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run
from scipy.special import softmax
from scipy.stats import entropy

pytest.importorskip("transformers")

from tiny_language_models import WORDS, save_tiny_model

from app.state import NO_LOGITS
from cist_core import CistError
from cist_core.added import AddedState, AddedStore, AddSpec, Entry
from cist_core.language.models import open_language_model
from cist_core.objectives import cist_loss
from cist_core.temperature import Cist
from tests.app.driver import HereAndNow, finding, note_of, open_app, shown_by, view_of

IDS = np.random.default_rng(1).integers(2, WORDS, 220)
TEXT = " ".join(f"w{number}" for number in IDS)
PAGES = ("overview", "entropy", "ratio", "weights", "samples", "rho", "teachers")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_tiny_model(folder / "tiny", scale=8.0)
    save_tiny_model(folder / "other", scale=6.0, seed=1)
    return folder


@pytest.fixture(scope="module")
def added(models, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """Both models on the text, as a child process leaves them; the folder of the store, and the ids by model."""
    folder = tmp_path_factory.mktemp("studio")
    ids = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIST_ROOTS", str(models))
        patch.setenv("CIST_CACHE", str(folder / "cache"))
        patch.setattr("cist_core.added.store.Child", HereAndNow)
        store = AddedStore(folder / "added")
        for name in ("tiny", "other"):
            draft = store.draft(title=f"{name} on words")
            file = draft.place_for("words.txt", "texts")
            file.write_text(TEXT)
            spec = AddSpec.of(title=f"{name} on words", language={"model": str(models / name), "texts": str(file)})
            store.start_preview(draft.id, spec)
            store.start(draft.id, spec)
            assert store.snapshot(draft.id).state is AddedState.READY, store.snapshot(draft.id).reason
            ids[name] = draft.id
    return store.root, ids


@pytest.fixture
def text(added, models, monkeypatch, tmp_path) -> str:
    """The id of the first model on the text, in a Studio that has both."""
    root, ids = added
    monkeypatch.setenv("CIST_ADDED", str(root))
    monkeypatch.setenv("CIST_ROOTS", str(models))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    return ids["tiny"]


@pytest.fixture(scope="module")
def logits(models) -> np.ndarray:
    """Of the model itself, row by row: the text is read in parts of 64, each of which begins with the last token."""
    model = open_language_model(str(models / "tiny"))
    ids = torch.tensor([*IDS, 1])
    rows = []
    for start in range(0, len(ids) - 1, 63):
        with torch.inference_mode():
            rows.append(model.network(input_ids=ids[None, start : start + 64]).logits[0, :-1, :WORDS].double().numpy())
    return np.concatenate(rows)


def words_on(app) -> list[str]:
    """Everything that a page says, but for what names something."""
    kinds = ("title", "header", "subheader", "caption", "info", "warning", "markdown", "error")
    return [element.value for kind in kinds for element in getattr(app, kind)]


def test_the_sliders_start_at_temperature_1_and_the_rho_of_the_same_mean_entropy(text, logits) -> None:
    app = open_app(teacher=text)
    view = view_of(app)
    expected = entropy(softmax(logits, axis=1), axis=1)
    assert (view.tau, view.floor) == (1.0, 0.0)
    np.testing.assert_allclose(view.fixed.entropy, expected, atol=1e-4)
    centred = logits - logits.mean(axis=1, keepdims=True)
    held = entropy(softmax(view.rho * centred / centred.max(axis=1, keepdims=True), axis=1), axis=1)
    assert held.mean() == pytest.approx(expected.mean(), abs=0.01)
    assert (view.matched, note_of(app)) == (True, "")
    assert shown_by(app, "cist_sliders")["bounds"]["rho"] == [0.5, 30.0]


def test_overview_says_what_is_loaded(text, logits) -> None:
    app = open_app(teacher=text)
    facts = " ".join(element.proto.body for element in app.get("html"))
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", facts))
    ids = np.array([*IDS[1:], 1])
    nll = float(-np.log(softmax(logits, axis=1)[np.arange(len(ids)), ids]).mean())
    right = 100 * float(np.mean(logits.argmax(axis=1) == ids))
    assert (facts["Tokens"], facts["Vocabulary"], facts["Text"]) == (f"{len(ids):,}", f"{WORDS}", "words.txt")
    assert facts["NLL at τ = 1"].startswith(f"{nll:.2f} nats (perplexity ")
    assert facts["Accuracy"] == (f"{right:.1f} %" if right >= 1 else f"{right:.2f} %" if right else "0 %")
    assert facts["Precision"] == "weights in float32, states in float32, logits in float32"


@pytest.mark.parametrize("page", PAGES)
def test_every_page_speaks_of_tokens(text, page) -> None:
    app = open_app(page, teacher=text)
    assert not app.error
    said = [words for words in words_on(app) if re.search(r"\b[Ss]amples?\b(?! size)", words)]
    assert not said
    assert page == "teachers" or any("token" in words for words in words_on(app))
    beside = [caption.value for caption in app.sidebar.caption]
    assert "Precision: weights in float32, states in float32, logits in float32" in beside


@pytest.mark.parametrize(
    ("page", "tab", "sentence"),
    [
        ("weights", {"weights_tab": "Gradients"}, f"There are no gradients here. {NO_LOGITS}"),
        ("teachers", {"teachers_tab": "Calibration"}, f"The calibration is not known here. {NO_LOGITS}"),
        ("teachers", {"teachers_tab": "Student"}, f"The distance to a student is not known here. {NO_LOGITS}"),
    ],
)
def test_what_needs_all_logits_is_refused_in_a_sentence(text, page, tab, sentence) -> None:
    assert sentence in [info.value for info in open_app(page, teacher=text, **tab).info]


@pytest.mark.parametrize(
    ("page", "tab"),
    [
        ("entropy", {"entropy_tab": "Tables", "rules": "lskd:tau=2"}),
        ("ratio", {"ratio_tab": "Exceptions"}),
        ("weights", {"weights_tab": "Exceptions"}),
        ("rho", {"rho_tab": "Compare entropies"}),
        ("rho", {"rho_tab": "Export"}),
        ("teachers", {"teachers_tab": "Tables"}),
    ],
)
def test_the_other_tabs_open_too(text, page, tab) -> None:
    app = open_app(page, teacher=text, **tab)
    assert not app.error
    assert not [words for words in words_on(app) if re.search(r"\b[Ss]amples?\b(?! size)", words)]


def test_the_command_shown_prints_the_same_numbers(text, added, capsys, monkeypatch) -> None:
    monkeypatch.setattr("app.catalogue.on_own_machine", lambda: True)  # whoever added it knows where the model lies
    app = open_app(teacher=text)
    view = view_of(app)
    command = shlex.split(view.code().command)
    assert command[:3] == ["cist", "analyze", "--lm"]
    monkeypatch.chdir(added[0] / text / "uploads" / "texts")
    code, out, err = run(capsys, *command[1:], "--json")
    assert code == 0, err
    fixed, cist = json.loads(out)["profiles"]
    assert fixed["mean"] == pytest.approx(view.fixed.profile.mean, abs=1e-6)
    assert cist["std"] == pytest.approx(view.cist.profile.std, abs=1e-6)


def test_the_python_shown_reads_the_same_curves(text, added, monkeypatch) -> None:
    monkeypatch.setattr("app.catalogue.on_own_machine", lambda: True)  # whoever added it knows where the model lies
    view = view_of(open_app("weights", teacher=text))
    monkeypatch.chdir(added[0] / text / "uploads" / "texts")
    names: dict[str, object] = {}
    exec(view.code().python, names)
    np.testing.assert_allclose(names["curves"].at_temperature(1.0), view.fixed.entropy, atol=1e-6)


def test_tokens_are_selected_by_position_frequency_and_type(text) -> None:
    app = open_app("samples", teacher=text, select="position=10..20 & frequency=2.. & token_type=word start")
    view = view_of(app)
    ids = [*IDS[1:].tolist(), 1]
    counts = Counter(ids)
    places = [1 + number % 63 for number in range(len(ids))]  # in each part the first token is that before
    expected = [10 <= place <= 20 and counts[number] > 1 for number, place in zip(ids, places, strict=True)]
    assert view.selected is not None
    assert view.selected.tolist() == expected
    assert view.selection.describe().endswith("token type word start")
    assert len(app.dataframe[0].value) == sum(expected)


def test_a_click_on_a_type_selects_it(text) -> None:
    app = open_app("entropy", teacher=text, select="token_type=special")
    assert int(np.count_nonzero(view_of(app).selected)) == 1  # the end of the text
    assert "1 of 220 tokens" in "".join(element.value for element in app.markdown)


def test_a_type_that_is_none_is_refused(text) -> None:
    app = open_app("samples", teacher=text, select="token_type=verb")
    assert "to be among word start, continuation" in app.error[0].value


def test_images_have_no_measures_of_tokens(text) -> None:
    app = open_app("entropy", select="position=..3")
    assert "The measure 'position' needs a text" in app.error[0].value
    assert "position" not in next(element.help for element in app.markdown if element.value.startswith("All "))


def test_each_source_has_its_own_usual_floor(text) -> None:
    app = open_app(teacher=text)
    assert view_of(app).floor == 0.0
    app.selectbox(key="teacher_box").set_value("mnist5k-cnn").run()
    assert view_of(app).floor == 1.0
    assert view_of(app).matched
    app.selectbox(key="teacher_box").set_value(text).run()
    assert (view_of(app).tau, view_of(app).floor) == (1.0, 0.0)


def test_choose_rho_recommends_that_of_temperature_1_and_says_where_the_floor_forbids_it(text) -> None:
    app = open_app("rho", teacher=text)
    assert "as KD at τ = 1" in app.subheader[0].value
    assert view_of(app).rho == pytest.approx(float(app.metric[0].value), abs=0.05)
    app.number_input(key="floor_box").set_value(2.0).run()
    assert "No rho" in app.error[0].value
    next(button for button in app.button if button.label == "Set the floor to 0").click().run()
    assert not app.error
    assert view_of(app).floor == 0.0


def test_the_snippet_that_choose_rho_gives_trains_a_student_on_the_tokens_that_count(text, models) -> None:
    app = open_app("rho", teacher=text, rho_tab="Export", rho_export="Python")
    assert not app.error
    view = view_of(app)
    made = [code.value for code in app.code if "def training_step" in code.value]
    assert len(made) == 2  # to copy the recommended one, and to export that of the slider
    assert f'create_objective("{Cist(view.rho, view.floor)}")' in made[1]
    teacher, student = (open_language_model(str(models / name)).network for name in ("tiny", "other"))
    ids = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 1, 1]])
    held = ids.masked_fill(torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool), -100)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    counted = (held != -100)[:, 1:]
    with torch.no_grad():
        logits = [each(input_ids=ids, attention_mask=mask).logits[:, :-1][counted] for each in (student, teacher)]
    expected = cist_loss(
        student_logits=logits[0], teacher_logits=logits[1], labels=ids[:, 1:][counted], rho=view.rho, floor=view.floor
    )
    before = student.get_input_embeddings().weight.detach().clone()
    place: dict[str, object] = {}
    exec(made[1], place)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": held}
    terms = place["training_step"](student, teacher, batch, torch.optim.SGD(student.parameters(), lr=0.1))
    assert terms["total"].item() == pytest.approx(expected["total"].item(), rel=1e-5)
    assert len(terms["tau_student"]) == int(counted.sum()) == 6
    assert not torch.equal(student.get_input_embeddings().weight, before)


def test_teachers_offers_the_other_models_on_the_same_text(text, monkeypatch) -> None:
    monkeypatch.setattr("app.catalogue.on_own_machine", lambda: True)
    app = open_app("teachers", teacher=text)
    assert app.multiselect[0].options == ["other on words"]
    assert "tiny on words" in finding(app)
    assert "other on words" in finding(app)
    computed = "weights in float32, states in float32, logits in float32"
    assert f"Precision: tiny on words: {computed}; other on words: {computed}." in [each.value for each in app.caption]


def test_a_text_is_pasted_read_and_opened(models, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CIST_ROOTS", str(models))
    monkeypatch.setattr("cist_core.added.store.Child", HereAndNow)
    tiny = str(models / "tiny")  # the test runner cannot type a folder into a select box
    monkeypatch.setattr("app.forms.add.language_models", lambda: {tiny: "Tiny"})
    app = open_app("add")
    app.segmented_control(key="add_kind").set_value("Text").run()
    assert any("Choose a language model." in caption.value for caption in app.caption)
    app.selectbox(key="add_lm").set_value(tiny).run()
    app.segmented_control(key="add_texts_from").set_value("Paste").run()
    app.button(key="add-paste").click().run()
    assert "There is no text yet" in app.error[0].value
    app.text_area(key="add_pasted").set_value("w3 w4 w5 w6 w7").run()
    app.button(key="add-paste").click().run()
    app.run()
    assert not app.error
    assert app.title[0].value.startswith("tiny on pasted: 5 tokens count, over a vocabulary of 90")
    app.button(key="add-start").click().run()
    assert app.title[0].value == "tiny on pasted is ready: 5 tokens"
    app.button(key="add-look").click().run()
    assert view_of(app).source.predictions.num_samples == 5


def test_a_model_and_a_text_must_be_uploaded_or_open_to_visitors(models, monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("CIST_ROOTS", raising=False)
    store = AddedStore(tmp_path / "added")
    draft = store.draft()
    file = draft.place_for("words.txt", "texts")
    file.write_text(TEXT)
    outside = tmp_path / "secret.txt"
    outside.write_text(TEXT)
    for model, texts in ((str(models / "tiny"), str(file)), ("smollm2", str(outside)), ("smollm2", "secret.txt")):
        with pytest.raises(CistError, match="was not uploaded, and is not in a folder that may be read"):
            store.start(draft.id, AddSpec.of(title="x", language={"model": model, "texts": texts}))
    assert Entry.read(draft.folder).task is None


def test_a_text_without_a_token_that_counts_is_refused(models, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_ROOTS", str(models))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("cist_core.added.store.Child", HereAndNow)
    store = AddedStore(tmp_path / "added")
    draft = store.draft()
    file = draft.place_for("empty.jsonl", "texts")
    file.write_text('{"messages": [{"role": "user", "content": "w3 w4"}]}')
    file.write_text('{"prompt": "w3 w4 w5", "response": ""}')
    store.start_preview(
        draft.id, AddSpec.of(title="x", language={"model": str(models / "tiny"), "texts": str(file), "length": 2})
    )
    assert "No token of empty.jsonl counts" in str(store.snapshot(draft.id).reason)
