"""The Add page and the form behind it: answers become a spec, a child process looks, and what it found is shown.

The child process works within the test here; `tests/added` starts real ones, and the browser tests all of it together.
"""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run
from streamlit.testing.v1 import AppTest

from app.forms import add as form
from app.forms.add import DATA, LABELS, LOGITS, MODEL, PREVIEW, STUDENT, TEACHER
from cist_core import CistError, LogitSet
from cist_core.added import Added, AddedState, AddedStore, AddSpec, Entry, Preview, PreviewImage, Progress
from tests.app.driver import HereAndNow, open_app

ROOT = Path(__file__).resolve().parents[2]

GIVEN = {TEACHER: "/up/t.npz", LABELS: None, STUDENT: None, "given_as": "auto", "title": ""}
MODEL_GIVEN = {
    "kind": MODEL, TEACHER: "/up/net.pt", DATA: "/srv/photos.npz", "architecture": None, "preprocessing": None,
    "split": None, "limit": None, "seed": 3, "class_map": "", "download": False, "title": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch) -> AddedStore:
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CIST_ROOTS", raising=False)
    monkeypatch.setattr("cist_core.added.store.Child", HereAndNow)
    return AddedStore()


@pytest.fixture
def content(logits, labels) -> bytes:
    """A file of logits with labels that have nothing to do with them."""
    file = io.BytesIO()
    np.savez(file, logits=logits, labels=labels)
    return file.getvalue()


def share_of_right(content: bytes) -> float:
    with np.load(io.BytesIO(content)) as arrays:
        return float((arrays["logits"].argmax(1) == arrays["labels"]).mean())


# The files


def test_an_upload_lands_under_a_tidy_name_in_the_folder_of_its_place(store) -> None:
    added = store.draft()
    path = form.keep_upload(store, added, TEACHER, "../../etc/<b>my net</b>.PT", io.BytesIO(b"abc"))
    assert path.parent == added.uploads / TEACHER
    assert path.read_bytes() == b"abc"
    assert path.suffix == ".pt"
    assert not set(path.name) & set("<>/ ")


def test_another_upload_replaces_the_first_and_several_stand_beside_each_other(store) -> None:
    added = store.draft()
    form.keep_upload(store, added, TEACHER, "a.pt", io.BytesIO(b"a"))
    form.keep_upload(store, added, LABELS, "labels.npy", io.BytesIO(b"l"))
    form.keep_upload(store, added, TEACHER, "b.pt", io.BytesIO(b"b"))
    assert [file.name for file in form.uploaded(added, TEACHER)] == ["b.pt"]
    form.keep_upload(store, added, TEACHER, "c.pt", io.BytesIO(b"c"), beside=True)
    assert {file.name for file in form.uploaded(added, TEACHER)} == {"b.pt", "c.pt"}
    assert [file.name for file in form.uploaded(added, LABELS)] == ["labels.npy"]
    assert form.uploaded(None, TEACHER) == []


def test_a_session_may_have_so_many_files_and_bytes_here_and_is_told(store, monkeypatch) -> None:
    monkeypatch.setattr(form, "MOST_UPLOADS", 3)
    monkeypatch.setattr(form, "MOST_UPLOADED", 100)
    before, added = store.draft(), store.draft()
    session = {"begun": [before.id, added.id]}
    form.keep_upload(store, before, TEACHER, "a.pt", io.BytesIO(b"a" * 50), **session)
    with pytest.raises(
        CistError, match="you would have 2 files of 101 Bytes here, and 3 of 100 Bytes in all are allowed"
    ):
        form.keep_upload(store, added, TEACHER, "b.pt", io.BytesIO(b"b" * 51), **session)
    form.keep_upload(store, before, TEACHER, "c.pt", io.BytesIO(b"c" * 98), **session)  # in place of the first
    form.keep_upload(store, added, TEACHER, "d.pt", io.BytesIO(b"d"), **session)
    form.keep_upload(store, added, LABELS, "e.npy", io.BytesIO(b"e"), **session)
    with pytest.raises(CistError, match="you would have 4 files"):
        form.keep_upload(store, added, STUDENT, "f.npy", io.BytesIO(b""), **session)
    store.delete(before.id)
    form.keep_upload(store, added, STUDENT, "f.npy", io.BytesIO(b"f" * 98), **session)


# The spec


def test_what_is_missing_is_said_step_by_step() -> None:
    assert form.missing({"kind": LOGITS, **GIVEN, TEACHER: None}) == "Choose a file of logits."
    assert form.missing({"kind": LOGITS, **GIVEN}) is None
    assert form.missing({**MODEL_GIVEN, TEACHER: ""}) == "Choose a model."
    assert form.missing({**MODEL_GIVEN, DATA: None}) == "Choose the data that the model is to answer."
    assert form.missing(MODEL_GIVEN) is None


def test_answers_make_the_spec() -> None:
    spec = form.make_spec({"kind": LOGITS, **GIVEN, LABELS: "/up/l.npy", "given_as": "probabilities"})
    assert spec.title == "t"
    assert spec.logits is not None
    assert (spec.logits.labels, spec.logits.student, spec.logits.given_as) == ("/up/l.npy", None, "probabilities")

    spec = form.make_spec({**MODEL_GIVEN, "class_map": "automobile = car\n 3=cat\n", "limit": 500})
    assert spec.title == "net on photos"
    assert spec.model is not None
    assert (spec.model.limit, spec.model.seed, spec.model.split) == (500, 3, "test")
    assert spec.model.class_map == {"automobile": "car", "3": "cat"}


def test_all_samples_need_no_seed_and_a_title_changes_no_preview() -> None:
    spec = form.make_spec(MODEL_GIVEN)
    assert spec.model is not None
    assert spec.model.seed is None
    assert form.same_but_for_the_title(spec, form.make_spec({**MODEL_GIVEN, "title": "mine"}))
    assert not form.same_but_for_the_title(spec, form.make_spec({**MODEL_GIVEN, "split": "train"}))
    assert not form.same_but_for_the_title(None, spec)


@pytest.mark.parametrize("text", ["car", "= car", "a = b\nc"])
def test_a_class_map_that_cannot_be_read_is_quoted(text: str) -> None:
    with pytest.raises(CistError, match="such as 'automobile = car'"):
        form.read_class_map(text)


def test_channels_are_read_as_they_are_written() -> None:
    assert form.read_channels(form.write_channels([0.485, 0.456, 0.4]), "the mean") == [0.485, 0.456, 0.4]
    with pytest.raises(CistError, match=r"the mean .* got 'grey'"):
        form.read_channels("grey", "the mean")


@pytest.mark.parametrize(
    ("teacher", "chosen"),
    [("/a/net.pt", True), ("/a/a.pt + /a/b.th", True), ("/a/net.onnx", False), ("timm:resnet18", False), ("", False)],
)
def test_an_architecture_is_asked_of_weights_alone(teacher: str, chosen: bool) -> None:
    assert form.is_checkpoint({TEACHER: teacher}) is chosen


def test_a_download_is_offered_for_what_may_not_be_here(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path / "none"))
    assert form.may_need_download({TEACHER: "torchvision:resnet18", DATA: "mnist-5k"})
    assert form.may_need_download({TEACHER: "/a/net.pt", DATA: "cifar10"})
    assert not form.may_need_download({TEACHER: "/a/net.pt", DATA: "mnist-5k"})


@pytest.mark.parametrize(
    "answers",
    [
        {"kind": LOGITS, **GIVEN},
        {**MODEL_GIVEN, "split": "train", "limit": 50, "class_map": "a = b", "architecture": "vgg8"},
    ],
)
def test_answers_come_back_with_what_was_added(store, answers: dict) -> None:
    added = store.draft()
    Entry.read(added.folder).model_copy(update={"spec": form.make_spec(answers)}).write(added.folder)
    found = form.restored(store.snapshot(added.id))
    kept = {name: value for name, value in answers.items() if name in found}
    assert kept.items() <= found.items()
    assert found["teacher_from"] == form.SERVER
    assert found["teacher_path"] == answers[TEACHER]


# In words


def preview(**fields: object) -> Preview:
    return Preview(**{"name": "n", "num_samples": 10_000, "num_classes": 10, **fields})


def test_the_headline_says_how_good_and_how_long() -> None:
    sample = preview(accuracy=0.934, sample_size=512, seconds=41.0)
    assert form.headline(sample, "net") == (
        "net answers 93.4 % of a sample of 512 right; all 10,000 will take about 41 s"
    )
    assert form.headline(preview(accuracy=0.9339, sample_size=10_000), "net") == (
        "net answers 93.39 % of 10,000 samples right"
    )
    assert form.headline(preview(), "net") == "net has 10 classes and 10,000 samples, without labels"


def test_a_wrong_answer_is_told_in_words() -> None:
    assert form.card(PreviewImage("", "cat", "cat", 0.98)) == ("cat, 98.0\u00a0%", True)
    assert form.card(PreviewImage("", "cat", "dog", 0.62)) == ("cat, taken for dog, 62.0\u00a0%", False)


def test_progress_is_told_in_samples_and_time() -> None:
    assert form.progress_words(None) == (0.0, "Opening the files")
    assert form.progress_words(Progress(2_500, 10_000, 30.0)) == (0.25, "2,500 of 10,000 samples, about 30 s left")


def test_a_fault_belongs_to_the_file_that_it_names_and_hides_where_it_lies(tmp_path) -> None:
    uploads = tmp_path / "uploads"
    files = {place: str(uploads / place / "x.npz") for place in (TEACHER, LABELS)}
    spec = AddSpec.of(title="x", logits=files)
    reason = f"{files[LABELS]} has 3 labels."
    assert form.blame(reason, spec, uploads) == LABELS
    assert form.in_own_words(reason, uploads) == "x.npz has 3 labels."
    assert form.blame("It is too large.", spec, uploads) == PREVIEW


# The same without the app


def test_the_code_of_logits_reads_the_same(store, content, capsys, tmp_path, monkeypatch) -> None:
    added = store.draft()
    teacher = form.keep_upload(store, added, TEACHER, "mine.npz", io.BytesIO(content))
    with np.load(io.BytesIO(content)) as arrays:
        file = io.BytesIO()
        np.save(file, arrays["labels"])
    labels = form.keep_upload(store, added, LABELS, "labels.npy", io.BytesIO(file.getvalue()))
    spec = form.make_spec({"kind": LOGITS, **GIVEN, TEACHER: str(teacher), LABELS: str(labels)})
    code = form.code(spec, added.uploads, None)
    assert str(added.uploads) not in code.command + code.python
    for path in (teacher, labels):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    exit_code, out, err = run(capsys, *code.command.split()[1:], "--json")
    assert exit_code == 0, err
    names: dict = {}
    exec(code.python, names)
    assert json.loads(out)["samples"] == 300
    assert names["logits"].accuracy == share_of_right(content)
    assert names["curves"].num_samples == 300


def test_the_code_of_a_model_makes_the_same_logits(store, capsys, tmp_path, monkeypatch) -> None:
    answers = {**MODEL_GIVEN, TEACHER: "mnist5k-mlp", DATA: "mnist-5k", "split": "test", "limit": 60}
    spec = form.make_spec(answers)
    monkeypatch.chdir(tmp_path)
    code = form.code(spec, tmp_path / "uploads", "all")
    exit_code, _, err = run(capsys, *code.command.split()[1:])
    assert exit_code == 0, err
    by_command = LogitSet.load(tmp_path / "logits.safetensors")
    exec(form.code(form.make_spec({**answers, "preprocessing": {"resize": False}}), tmp_path, None).python, {})
    by_python = LogitSet.load(tmp_path / "logits.safetensors")
    assert by_command.num_samples == 60
    np.testing.assert_allclose(by_command.logits, by_python.logits, rtol=1e-5, atol=1e-5)


# The page


def open_add(*, browser_of: AppTest | None = None, **query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    if browser_of is not None:  # which tells its keys
        app.session_state["_added_keys"] = browser_of.session_state["_added_keys"]
    app.run()
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page("../pages/add.py").run()
    assert not app.exception
    return app


def upload(app: AppTest, place: int, name: str, content: bytes) -> None:
    app.file_uploader[place].upload(name, content).run()
    assert not app.exception


def adding(app: AppTest) -> Added:
    return AddedStore().snapshot(app.session_state["_adding"])


def choose_sample_model(app: AppTest) -> None:
    """The smallest model that ships, on the images that come along."""
    app.button_group(key="add_kind").set_value(MODEL).run()
    app.button_group(key="add_teacher_from").set_value(form.NAME).run()
    app.text_input(key="add_teacher_name").set_value("mnist5k-mlp").run()
    app.selectbox(key="add_data_name").select("mnist-5k").run()
    assert not app.exception


def test_the_first_view_says_what_to_choose(store) -> None:
    app = open_add()
    assert app.title[0].value == "Add a teacher, data or logits of your own"
    captions = " ".join(caption.value for caption in app.main.caption)
    assert "Choose a file of logits." in captions
    assert "CIST_ROOTS" in captions
    assert list(store.root.glob("*")) == []


def test_logits_are_looked_at_added_and_opened(content) -> None:
    app = open_add()
    upload(app, 0, "mine.npz", content)
    assert app.title[0].value == f"mine answers {share_of_right(content) * 100:.1f} % of 300 samples right"
    assert adding(app).state is AddedState.PREVIEWED
    app.text_input(key="add_title").set_value("my *own*").run()
    app.button(key="add-start").click().run()
    assert app.title[0].value.startswith(r"my \*own\* is ready: 300 samples")
    app.button(key="add-look").click().run()
    assert not app.exception
    assert app.selectbox(key="teacher_box").value == adding(app).id


def test_low_accuracy_is_explained(content) -> None:
    app = open_add()
    upload(app, 0, "mine.npz", content)
    assert "not above that of always answering" in app.main.warning[0].value


def test_a_broken_file_is_refused_in_its_place_and_another_one_replaces_it(content) -> None:
    app = open_add()
    upload(app, 0, "broken.npz", b"PK\x03\x04 and no more")
    assert "broken.npz" in app.main.error[0].value.replace("\\", "")
    assert str(adding(app).uploads) not in app.main.error[0].value
    assert app.button(key="add-again").label == "Try again"
    upload(app, 0, "fine.npz", content)
    assert not app.main.error
    assert app.title[0].value.startswith("fine answers")


def test_the_same_name_with_other_content_is_looked_at_again(content, logits) -> None:
    app = open_add()
    upload(app, 0, "mine.npz", content)
    other = io.BytesIO()
    np.savez(other, logits=logits[:50])
    upload(app, 0, "mine.npz", other.getvalue())
    assert app.title[0].value == "mine has 10 classes and 50 samples, without labels"


def test_a_file_can_be_taken_away(content) -> None:
    app = open_add()
    upload(app, 0, "mine.npz", content)
    app.button(key="remove_teacher_mine.npz").click().run()
    assert app.title[0].value == "Add a teacher, data or logits of your own"
    assert form.uploaded(adding(app), TEACHER) == []


def test_a_model_is_previewed_with_images_and_its_preprocessing_can_be_changed_and_put_back() -> None:
    app = open_add()
    choose_sample_model(app)
    assert "of a sample of 512 right; all 1,000 will take about" in app.title[0].value
    found = adding(app).preview
    assert found is not None
    assert len(found.images) == 12
    before = found.accuracy
    field = next(field for field in app.text_input if field.label == "Mean")
    assert field.value == "0.1307"
    field.set_value("5")
    next(button for button in app.button if button.label == "Use these").click().run()
    assert not app.exception
    spec = adding(app).spec
    assert spec is not None
    assert spec.model is not None
    assert spec.model.preprocessing is not None
    assert spec.model.preprocessing["mean"] == [5.0]
    changed = adding(app).preview
    assert changed is not None
    assert changed.accuracy < before - 0.1
    app.button(key="add-own-pixels").click().run()
    assert adding(app).spec.model.preprocessing is None
    assert adding(app).preview.accuracy == before


def test_a_preprocessing_that_is_no_numbers_is_named() -> None:
    app = open_add()
    choose_sample_model(app)
    next(field for field in app.text_input if field.label == "Deviation").set_value("wide")
    next(button for button in app.button if button.label == "Use these").click().run()
    assert "got 'wide'" in app.main.error[0].value


def test_a_sample_is_drawn_by_a_seed() -> None:
    app = open_add()
    choose_sample_model(app)
    app.number_input(key="add_limit").set_value(100).run()
    app.number_input(key="add_seed").set_value(7).run()
    model = adding(app).spec.model
    assert (model.limit, model.seed) == (100, 7)
    assert adding(app).preview.num_samples == 100


def test_images_of_another_size_are_resized_by_one_press(monkeypatch) -> None:
    app = open_add()
    choose_sample_model(app)

    def refuse(*_: object) -> None:
        raise CistError("The teacher reads images of 28x28 pixels; have them resized (`resize=True`).")

    monkeypatch.setattr("cist_core.added.__main__.work_on", refuse)
    app.selectbox(key="add_split").select("train").run()
    next(button for button in app.button if button.label == "Resize the images").click().run()
    assert adding(app).spec.model.preprocessing == {"resize": True}


def test_answers_are_there_after_a_look_at_another_page() -> None:
    app = open_add()
    choose_sample_model(app)
    app.selectbox(key="add_split").select("validation").run()
    app.switch_page("../pages/ratio.py").run()
    app.switch_page("../pages/add.py").run()
    assert app.text_input(key="add_teacher_name").value == "mnist5k-mlp"
    assert app.selectbox(key="add_split").value == "validation"
    assert "of a sample of 500 right" in app.title[0].value or "of 500 samples right" in app.title[0].value


def test_a_link_brings_the_answers_back() -> None:
    app = open_add()
    choose_sample_model(app)
    again = open_add(browser_of=app, adding=adding(app).id)
    assert again.title[0].value == app.title[0].value
    assert again.text_input(key="add_teacher_name").value == "mnist5k-mlp"


def test_a_link_to_nothing_begins_anew() -> None:
    app = open_add(adding="nothing-0123456789abcdef")
    assert app.title[0].value == "Add a teacher, data or logits of your own"


def test_paths_on_the_server_open_only_below_the_roots(content, tmp_path, monkeypatch) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "mine.npz").write_bytes(content)
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path / "root"))
    app = open_add()
    app.button_group(key="add_teacher_from").set_value(form.SERVER).run()
    app.text_input(key="add_teacher_path").set_value("/etc/passwd").run()
    assert "in the folders that may be read" in app.main.error[0].value
    app.text_input(key="add_teacher_path").set_value("mine.npz").run()
    assert not app.main.error
    assert app.title[0].value.startswith("mine answers")


def test_nobody_opens_a_path_without_being_allowed_to(content, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path))
    monkeypatch.setattr("app.people.may_read_server_paths", lambda: False)
    app = open_add()
    assert not [group for group in app.button_group if group.key == "add_teacher_from"]
    assert "after signing in" in " ".join(caption.value for caption in app.main.caption)


def test_a_failure_of_the_long_work_can_be_tried_again(content, monkeypatch) -> None:
    app = open_add()
    upload(app, 0, "mine.npz", content)
    with monkeypatch.context() as patch:
        patch.setattr(
            "cist_core.added.work.add", lambda *_, **__: (_ for _ in ()).throw(CistError("The disk is full."))
        )
        app.button(key="add-start").click().run()
    assert app.main.error[0].value == "The disk is full."
    app.button(key="add-start").click().run()
    assert "is ready" in app.title[0].value


def test_another_can_be_added_and_what_there_is_deleted(content, store) -> None:
    app = open_add()
    upload(app, 0, "mine.npz", content)
    app.button(key="add-start").click().run()
    first = adding(app).id
    app.button(key="add-another").click().run()
    assert app.title[0].value == "Add a teacher, data or logits of your own"
    assert app.button(key=f"open-{first}").label == "Open"
    app.button(key=f"delete-{first}").click().run()
    assert not app.exception
    assert not (store.root / first).exists()
    assert not [button for button in app.button if button.key == f"open-{first}"]


def test_a_link_alone_changes_nothing_where_nobody_signs_in(content, store) -> None:
    app = open_add()
    upload(app, 0, "mine.npz", content)
    app.button(key="add-start").click().run()
    added_id = adding(app).id
    for keys in ({}, {added_id: "0" * 32}, {added_id: ""}):
        other = open_add(adding=added_id)
        other.session_state["_added_keys"] = keys
        other.session_state["_added"] = [added_id]  # as if the browser had kept the id
        other.run()
        assert not other.exception
        assert other.title[0].value == "Add a teacher, data or logits of your own"
        assert not [button for button in other.button if added_id in str(button.key)]
        stranger = AddedStore(store.root, keys=keys)
        assert stranger.snapshot(added_id).state is AddedState.READY
        again = partial(stranger.start, spec=adding(app).spec)
        for change in (stranger.delete, stranger.cancel, again):
            with pytest.raises(CistError, match="was added in another browser; you may look at it"):
                change(added_id)
    assert store.snapshot(added_id).logit_file.is_file()
    key = app.session_state["_added_keys"][added_id]
    assert key not in (store.root / added_id / "entry.json").read_text()
    AddedStore(store.root, keys={added_id: key}).delete(added_id)
    assert not (store.root / added_id).exists()


def test_words_from_outside_are_plain(monkeypatch, content) -> None:
    def fake(_: AddSpec) -> Preview:
        return preview(
            warnings=("Beware of **bold** and $x$.",), facts={"licence": "[x](http://evil)"},
            images=(PreviewImage("data:image/png;base64,", "**a**", ":red[b]", 0.5),),
        )  # fmt: skip

    monkeypatch.setattr("cist_core.added.work.preview", fake)
    app = open_add()
    upload(app, 0, "mine.npz", content)
    shown = [*app.main.warning, *app.main.markdown, *app.main.caption]
    text = " ".join(element.value for element in shown)
    assert r"\*\*bold\*\* and \$x\$" in text
    assert "\\[x\\](http\u2060://evil)" in text
    assert r"\*\*a\*\*" in text
    assert ":red[" not in text


# People


def sign_in_as(monkeypatch, who: str | None) -> None:
    """A Studio where people sign in, and this is who has."""
    for module in ("app.people", "app.catalogue"):
        monkeypatch.setattr(f"{module}.sign_in_configured", lambda: True)
        monkeypatch.setattr(f"{module}.visitor", lambda: who)


def test_nobody_adds_anything_without_signing_in_where_people_do(monkeypatch, store) -> None:
    sign_in_as(monkeypatch, None)
    app = open_add()
    assert len(app.file_uploader) == 0
    assert list(store.root.glob("*")) == []


def test_a_link_shows_anothers_and_lets_nobody_but_its_owner_change_it(monkeypatch, store, content) -> None:
    sign_in_as(monkeypatch, "ann@lab.edu")
    anns = open_add()
    upload(anns, 0, "mine.npz", content)
    anns.button(key="add-start").click().run()
    added_id = anns.session_state["_adding"]
    assert store.snapshot(added_id).owner == "ann@lab.edu"
    sign_in_as(monkeypatch, "bob@lab.edu")
    bobs = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    bobs.query_params["teacher"] = added_id
    bobs.query_params["adding"] = added_id
    bobs.run()
    assert bobs.selectbox(key="teacher_box").value == added_id
    bobs.switch_page("../pages/add.py").run()
    assert not bobs.exception
    assert not [button for button in bobs.button if "delete" in str(button.key)]
    assert bobs.title[0].value == "Add a teacher, data or logits of your own"
    assert store.snapshot(added_id).logit_file.is_file()


def test_a_button_drawn_before_somebody_lost_the_right_does_nothing(monkeypatch, store, content) -> None:
    sign_in_as(monkeypatch, "ann@lab.edu")
    app = open_add()
    upload(app, 0, "mine.npz", content)
    added_id = app.session_state["_adding"]
    sign_in_as(monkeypatch, None)
    app.button(key="add-start").click().run()
    assert not app.exception
    assert not store.snapshot(added_id).logit_file.exists()


# What was chosen among several, and what would explain a low accuracy


@pytest.fixture
def both_weights() -> bytes:
    """A checkpoint with a good average beside weights that were never trained."""
    import torch

    from cist_core.cards import find_sample_model
    from cist_core.zoo.architectures import create_model
    from cist_core.zoo.checkpoints import read_checkpoint

    card = find_sample_model("mnist5k-mlp")
    assert card is not None
    torch.manual_seed(0)
    fresh = create_model(card.architecture, num_classes=10).state_dict()
    file = io.BytesIO()
    torch.save({"state_dict": fresh, "state_dict_ema": read_checkpoint(card.checkpoint), "epoch": 3}, file)
    return file.getvalue()


def choose_digits(app: AppTest) -> None:
    app.button_group(key="add_kind").set_value(MODEL).run()
    app.selectbox(key="add_data_name").select("mnist-5k").run()


def test_the_weights_that_are_taken_are_named_and_others_can_be_chosen(both_weights) -> None:
    app = open_add()
    choose_digits(app)
    upload(app, 0, "both.pt", both_weights)
    captions = " ".join(caption.value for caption in app.main.caption).replace("\\", "")
    assert "Weights: state_dict_ema, a running average; left out: state_dict." in captions
    good = adding(app).preview
    assert good is not None
    assert good.accuracy > 0.85
    field = app.selectbox(key="add_weights")
    assert field.options == ["state_dict"]
    field.select("state_dict").run()
    assert not app.exception
    assert adding(app).spec.model.weights == "state_dict"
    other = adding(app).preview
    assert other is not None
    assert other.accuracy < 0.5
    assert "Weights: state_dict; left out: state_dict_ema." in other.remarks
    code = form.code(adding(app).spec, adding(app).uploads, "test")
    assert "--weights state_dict" in code.command
    assert "weights='state_dict'" in code.python
    again = open_add(browser_of=app, adding=adding(app).id)
    assert again.selectbox(key="add_weights").value == "state_dict"


def test_weights_that_fit_nothing_are_listed_and_asked_for() -> None:
    import torch

    from cist_core.zoo.architectures import create_model

    file = io.BytesIO()
    state = create_model("mlp_14x14", num_classes=10).state_dict()
    parts = {f"{side}.{name}": tensor for side in ("left", "right") for name, tensor in state.items()}
    torch.save(parts, file)
    app = open_add()
    choose_digits(app)
    upload(app, 0, "two.pt", file.getvalue())
    said = app.main.error[0].value.replace("\\", "")
    assert "two.pt holds several networks: left (" in said
    assert "name one with the field Weights" in said
    app.selectbox(key="add_weights").select("right").run()
    assert not app.exception
    assert adding(app).preview.remarks == ("Weights: right; left out: left.",)


def digits_archive(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def test_labels_off_by_one_are_noticed_and_mended_by_one_press() -> None:
    from cist_core.data.loading import load_dataset

    digits = load_dataset("mnist-5k")
    app = open_add()
    app.button_group(key="add_kind").set_value(MODEL).run()
    app.button_group(key="add_teacher_from").set_value(form.NAME).run()
    app.text_input(key="add_teacher_name").set_value("mnist5k-mlp").run()
    app.button_group(key="add_data_from").set_value(form.UPLOAD).run()
    upload(app, 0, "shifted.npz", digits_archive(images=digits.images, labels=(digits.labels + 1) % 10))
    said = app.main.warning[0].value.replace("\\", "")
    assert "is not above that of always answering" in said
    assert "But labels - 1 would give 9" in said
    app.button(key="add-class-map").click().run()
    assert not app.exception
    assert app.text_area(key="add_class_map").value.startswith("0 = 9\n1 = 0")
    assert not app.main.warning
    assert adding(app).preview.accuracy > 0.85
    assert adding(app).spec.model.class_map["9"] == "8"


def test_logits_with_a_background_class_are_noticed(logits) -> None:
    rng = np.random.default_rng(0)
    labels = logits.argmax(1)
    with_background = np.hstack([rng.normal(-30, 1, (300, 1)), logits])
    app = open_add()
    upload(app, 0, "mine.npz", digits_archive(logits=with_background, labels=labels))
    assert "labels + 1 would give 100 %" in app.main.warning[0].value.replace("\\", "")
    app.button(key="add-class-map").click().run()
    assert not app.exception
    assert not app.main.warning
    assert adding(app).spec.logits.class_map["3"] == "4"
    assert adding(app).preview.accuracy == 1


def test_an_accuracy_of_two_classes_is_not_called_chance() -> None:
    labels = np.repeat([0, 1], 1500)
    answers = np.where(np.arange(3000) % 5 == 0, 1 - labels, labels)
    app = open_add()
    upload(app, 0, "two.npz", digits_archive(logits=np.eye(2)[answers] * 3, labels=labels))
    assert not app.main.warning
    assert app.title[0].value == "two answers 80.00 % of 3,000 samples right"


# What was decided about the files


def archive(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def captions(app: AppTest) -> str:
    return " ".join(caption.value.replace("\\", "") for caption in app.main.caption)


def test_rounded_probabilities_are_recognised_and_the_page_says_so(logits, labels) -> None:
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    app = open_add()
    upload(app, 0, "mine.npz", archive(probs=np.round(shares, 2), labels=labels))
    assert not app.main.error
    assert "Given as probabilities, rounded to 2 decimals; rows sum to" in captions(app)
    assert adding(app).preview.facts["given_as"].startswith("probabilities")


@pytest.mark.parametrize("mask", [-np.inf, -1e4, -1e9])
def test_a_masked_class_is_left_out_and_the_page_names_it(logits, labels, mask) -> None:
    kept = labels != 2
    masked = logits.copy()
    masked[:, 2] = mask
    app = open_add()
    upload(app, 0, "mine.npz", archive(logits=masked, labels=labels))
    assert not app.main.error
    said = captions(app)
    assert f"Classes that take no part, left out: 1 of 10, number 2; its logit is {mask:.5g} in every sample" in said
    assert f"Left out: {np.count_nonzero(~kept)} of 300 samples: their label is a class that takes no part." in said
    preview = adding(app).preview
    assert (preview.num_classes, preview.num_samples) == (9, np.count_nonzero(kept))
    answers = np.delete(np.arange(10), 2)[np.delete(logits, 2, 1).argmax(1)]
    assert preview.accuracy == pytest.approx(np.mean(answers[kept] == labels[kept]))


def test_a_class_that_is_masked_in_some_samples_is_refused_by_name(logits, labels) -> None:
    logits = logits.copy()
    logits[:40, 2] = -1e9
    app = open_add()
    upload(app, 0, "mine.npz", archive(logits=logits, labels=labels))
    said = app.main.error[0].value.replace("\\", "")
    assert "Class 2 is masked in 40 of 300 samples, first in sample 0 (its logit is -1e+09 there)" in said


def test_clipped_zeros_are_told_here_and_where_rho_is_chosen(logits, labels) -> None:
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shares[shares < 1e-3] = 0
    app = open_add()
    upload(app, 0, "mine.npz", archive(probs=shares / shares.sum(axis=1, keepdims=True), labels=labels))
    count = np.count_nonzero(shares == 0)
    zeros = f"ρ rests on clipped zeros: {count:,} of 3,000 probabilities are 0 and were clipped to a floor of"
    assert zeros in captions(app)
    app.button(key="add-start").click().run()
    rho = open_app("rho", teacher=adding(app).id)
    assert not rho.exception
    assert any(zeros in warning.value.replace("\\", "") for warning in rho.main.warning)


def test_a_row_that_does_not_fit_is_refused_in_the_words_of_the_page_and_the_way_out_works(logits) -> None:
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shares[7] *= 2
    app = open_add()
    upload(app, 0, "mine.npz", archive(probs=shares))
    said = app.main.error[0].value.replace("\\", "")
    assert "299 of 300 samples are probabilities" in said
    assert "but sample 7 lies between" in said
    assert "“Values are: probabilities” divides each row by its sum" in said
    assert "--given-as" not in said
    app.selectbox(key="add_given_as").select("probabilities").run()
    assert not app.main.error
    assert "Given as probabilities, as was said; rows sum to 1 to 2" in captions(app)


def test_columns_that_are_no_logits_are_listed(logits, labels) -> None:
    frame = pd.DataFrame(logits, columns=[f"logit_{index}" for index in range(10)])
    frame = frame.assign(y_true=labels, pred=logits.argmax(axis=1), loss=0.25)
    app = open_add()
    upload(app, 0, "mine.csv", frame.to_csv(index=False, sep=";", decimal=",").encode())
    assert "Not used: pred, loss." in captions(app)
    assert "Labels: from 'y_true'." in captions(app)
    assert adding(app).preview.num_classes == 10


def test_features_are_refused_beside_the_field(logits) -> None:
    app = open_add()
    upload(app, 0, "mine.npz", archive(features=logits))
    assert "is called like the inner values of a network" in app.main.error[0].value


def test_labels_of_a_part_of_the_classes_go_through_the_map(logits) -> None:
    names = np.array(["Hund", "Katze"])[np.arange(300) % 2]
    app = open_add()
    upload(app, 0, "mine.npz", archive(logits=logits))
    labels = "\n".join(names).encode()
    upload(app, 1, "labels.txt", labels)
    said = app.main.error[0].value.replace("\\", "")
    assert "labels.txt: Expected integer labels" in said
    assert said.endswith(", or map them with the field Class map.")
    app.text_area(key="add_class_map").set_value("Hund = 3\nKatze = 5").run()
    assert not app.main.error, app.main.error[0].value
    assert "Labels: through the class map." in captions(app)
    spec = adding(app).spec
    assert spec.logits.class_map == {"Hund": "3", "Katze": "5"}
    found = form.code(spec, adding(app).uploads, None)
    assert "--labels labels.txt --class-map Hund=3 Katze=5" in found.command
    assert "class_map={'Hund': '3', 'Katze': '5'}" in found.python
    again = open_add(browser_of=app, adding=adding(app).id)
    assert again.text_area(key="add_class_map").value == "Hund = 3\nKatze = 5"


def test_a_map_that_leaves_a_class_out_keeps_its_form(store) -> None:
    assert form.read_class_map("cat = 3\ndog =") == {"cat": "3", "dog": ""}
    assert form.read_class_map(form.write_class_map({"cat": "3", "dog": ""})) == {"cat": "3", "dog": ""}


def test_data_of_a_part_of_the_models_classes_name_the_field_of_the_map(tmp_path, monkeypatch) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "part.npz", images=images, labels=np.arange(20) % 2, classes=["odd", "even"])
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path))
    app = open_add()
    choose_sample_model(app)
    app.button_group(key="add_data_from").set_value(form.SERVER).run()
    app.text_input(key="add_data_path").set_value("part.npz").run()
    said = app.main.error[0].value.replace("\\", "")
    assert "tells 10 classes apart ('0', '1', '2', ...), but the data set 'part' has 2" in said
    assert "map each with the field Class map" in said
    app.text_area(key="add_class_map").set_value("odd = 1\neven =").run()
    assert not app.main.error, app.main.error[0].value
    assert "Classes through the class map: 'odd' is the teacher's class 1; 10 images" in captions(app)
    command = form.code(adding(app).spec, adding(app).uploads, "all").command
    assert "--class-map odd=1 even=" in command
