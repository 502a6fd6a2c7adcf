"""Tokens with what was added: the models of texts, and the texts themselves, for their owner and by a link."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("transformers")

from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox
from tiny_language_models import WORDS, save_tiny_model, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from app.tokens.models import link_to_added
from app.tokens.texts import AddedText
from cist_core.added import Added, AddedState, AddedStore, AddSpec
from cist_core.added.roots import HUB
from cist_core.added.snapshot import snapshot
from cist_core.errors import CistError
from cist_core.language.inference import infer_tokens
from cist_core.language.known import SMOLLM2
from cist_core.language.models import open_language_model
from cist_core.language.sources import tokens_for
from cist_core.language.texts import load_texts
from cist_core.language.token_set import read_head
from tests.app.driver import HereAndNow, components, finding, open_app, passage_on, wait_for, warnings

TEXT = " ".join(f"w{20 + 7 * number % 70}" for number in range(30))
NOWHERE = "nothing-0123456789abcdef"


class Studio(NamedTuple):
    """What was added.

    Attributes:
        store: of everybody.
        ids: by title.
        models: the folder of the models, which is open to visitors.
    """

    store: AddedStore
    ids: dict[str, str]
    models: Path

    def add(self, model: str, title: str) -> str:
        """Add the text with a model, as its child process does; the id."""
        draft = self.store.draft(title=title)
        file = draft.place_for("words.txt", "texts")
        file.write_text(TEXT)
        self.store.start(draft.id, AddSpec.of(title=title, language={"model": model, "texts": str(file)}))
        assert self.store.snapshot(draft.id).state is AddedState.READY, self.store.snapshot(draft.id).reason
        self.ids[title] = draft.id
        return draft.id


def rotated() -> PreTrainedTokenizerFast:
    """As many words as the others, at other numbers."""
    ids = tiny_tokenizer().get_vocab()
    known = Tokenizer(models.WordLevel({word: (number + 1) % WORDS for word, number in ids.items()}, unk_token="w0"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=known, eos_token="<end>", pad_token="<end>")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Texts of three models, of which the third has another vocabulary of the same size; the first has two texts."""
    folder = tmp_path_factory.mktemp("studio")
    for seed, name in enumerate(("tiny", "other", "foreign")):
        save_tiny_model(folder / "models" / name, scale=6.0, seed=seed)
    rotated().save_pretrained(folder / "models" / "foreign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIST_ROOTS", str(folder / "models"))
        patch.setenv("CIST_CACHE", str(folder / "cache"))
        patch.setattr("cist_core.added.store.Child", HereAndNow)
        studio = Studio(AddedStore(folder / "added"), {}, folder / "models")
        for name, title in (("tiny", "first"), ("tiny", "second"), ("other", "third"), ("foreign", "fourth")):
            studio.add(str(folder / "models" / name), title)
    return studio


@pytest.fixture
def studio(made: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Studio:
    monkeypatch.setenv("CIST_ADDED", str(made.store.root))
    monkeypatch.setenv("CIST_ROOTS", str(made.models))
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    return made


@pytest.fixture
def owner(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """On one's own machine everything is one's own."""
    monkeypatch.setattr("app.catalogue.on_own_machine", lambda: True)
    return studio


class Unread:
    """In place of the process that reads a text: it ends at once, and has read nothing."""

    pid, started = 0, ""

    def __init__(self, *_: object, **__: object) -> None: ...

    def release(self) -> None: ...

    def exit_code(self) -> int:
        return 0


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the choices are looked at, no text is read."""
    monkeypatch.setattr("app.tokens.readings.Child", Unread)


def offered(app: AppTest, box: str = "model") -> Sequence[str]:
    return app.selectbox(key=f"tokens_{box}_box").options


@pytest.mark.usefixtures("unread")
def test_the_models_of_texts_are_offered_once_each_under_their_names(owner: Studio) -> None:
    app = open_app("tokens")
    assert offered(app)[-3:] == ["tiny", "other", "foreign"]
    assert offered(app).count("tiny") == 1
    assert not app.warning


def read_by_a_run(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of what was added, as often as each is looked at while the page runs."""
    read: list[str] = []

    def counted(folder: Path) -> Added:
        read.append(folder.name)
        return snapshot(folder)

    monkeypatch.setattr("cist_core.added.store.snapshot", counted)
    app.run()
    return read


@pytest.mark.usefixtures("unread")
def test_a_move_reads_what_was_added_once_each(owner: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app("tokens", tokens_model=owner.ids["second"], tokens_added=owner.ids["third"])
    assert sorted(read_by_a_run(app, monkeypatch)) == sorted(owner.ids.values())


@pytest.mark.usefixtures("unread")
def test_a_move_reads_what_a_link_shows_of_somebody_else_once(owner: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.catalogue.on_own_machine", lambda: False)
    app = open_app("tokens", tokens_model=owner.ids["second"])
    assert read_by_a_run(app, monkeypatch) == [owner.ids["second"]]


@pytest.mark.usefixtures("unread")
def test_the_form_for_a_text_of_ones_own_stands_behind_the_choice_of_texts(owner: Studio) -> None:
    places = [node.key if isinstance(node, Selectbox) else node.type for node in open_app("tokens").main]
    assert places.index("tokens_model_box") < places.index("tokens_added_box") < places.index("popover")


@pytest.mark.usefixtures("unread")
def test_beside_one_stand_those_with_the_same_token_at_every_number(owner: Studio) -> None:
    heads = {title: read_head(owner.store.snapshot(added_id).logit_file) for title, added_id in owner.ids.items()}
    assert len({head.vocabulary_size for head in heads.values()}) == 1
    assert heads["first"].provenance["vocabulary_sha256"] == heads["third"].provenance["vocabulary_sha256"]
    app = open_app("tokens", tokens_model=owner.ids["first"])
    assert offered(app, "student") == ["None", "other"]
    app = open_app("tokens", tokens_model="scripture-gpt")
    assert offered(app, "student") == ["None", "scripture-gpt-small"]
    app = open_app("tokens", tokens_model=owner.ids["fourth"], tokens_student=owner.ids["first"])
    assert "No model here has the vocabulary of foreign" in warnings(app)


@pytest.mark.usefixtures("unread")
def test_a_model_goes_by_the_text_that_the_link_names_it_by_and_is_not_beside_itself(owner: Studio) -> None:
    app = open_app("tokens", tokens_model=owner.ids["second"], tokens_student=owner.ids["first"])
    assert (app.session_state["tokens_model"], app.session_state["tokens_student"]) == (owner.ids["second"], "none")
    assert f"The link asks for the student “{owner.ids['first']}”" in warnings(app)
    assert "asks for the model" not in warnings(app)


@pytest.mark.usefixtures("read_here")
def test_a_link_of_somebody_else_shows_the_model_and_hides_where_it_lies(studio: Studio) -> None:
    link = {"tokens_model": studio.ids["second"], "tokens_student": studio.ids["third"]}
    app = open_app("tokens", **link, tokens_text=TEXT)
    assert not app.warning
    assert offered(app)[-2:] == ["tiny", "other"]  # what the link names, and nothing else of somebody's
    wait_for(app, lambda: "cist_tokens" in components(app))
    given = passage_on(app)
    assert [token["text"].strip() for token in given["tokens"][:30]] == TEXT.split()
    assert given["student"]["cross"]
    assert "the student's" in finding(app)
    said = " ".join(element.value for kind in ("caption", "code", "error") for element in getattr(app, kind))
    assert 'open_language_model("tiny")' in said
    assert "tiny stands for the folder or file of that model" in said
    assert str(studio.models) not in said


@pytest.mark.usefixtures("unread")
def test_the_file_of_a_text_is_read_for_nobody_but_who_added_it(studio: Studio) -> None:
    """It may hold more than was shown, and something else by now."""
    app = open_app("tokens", tokens_model=studio.ids["second"], tokens_added=studio.ids["second"])
    assert f"The link asks for the text “{studio.ids['second']}”, which is not here" in warnings(app)
    assert "read here for whoever added it alone" in warnings(app)
    assert app.session_state["tokens_added"] == "typed"
    (link,) = [
        each.proto
        for each in open_app("samples", teacher=studio.ids["first"]).get("page_link")
        if "token by token" in each.proto.label
    ]
    assert link.label.startswith("A text")
    assert link.query_string == f"tokens_model={studio.ids['first']}"


@pytest.mark.parametrize("whose", ["owner", "somebody else"])
def test_the_code_of_other_pages_says_where_a_model_lies_to_who_added_it_alone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    monkeypatch.setattr("app.catalogue.on_own_machine", lambda: whose == "owner")
    app = open_app("entropy", teacher=studio.ids["first"])
    said = " ".join(element.value for element in app.code)
    assert ("--lm tiny --text words.txt" in said) == (whose != "owner")
    assert (f"--lm {studio.models / 'tiny'} --text words.txt" in said) == (whose == "owner")


@pytest.mark.usefixtures("read_here")
def test_what_was_read_of_a_text_is_not_shown_where_its_file_may_not_be_read_any_more(
    owner: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    monkeypatch.setattr("cist_core.added.store.Child", HereAndNow)
    file = tmp_path / "texts" / "words.txt"
    file.parent.mkdir()
    file.write_text(TEXT)
    monkeypatch.setenv("CIST_ROOTS", os.pathsep.join([str(owner.models), str(file.parent)]))
    store = AddedStore(tmp_path / "added")
    draft = store.draft(title="my words")
    store.start(
        draft.id, AddSpec.of(title="my words", language={"model": str(owner.models / "tiny"), "texts": str(file)})
    )
    app = open_app("tokens", tokens_model="scripture-gpt", tokens_student="none", tokens_added=draft.id)
    wait_for(app, lambda: "cist_tokens" in components(app))
    monkeypatch.setattr("app.catalogue.may_read_server_paths", lambda: False)
    app.run()
    assert "The file of “my words” is not on the Studio's machine any more, or not in a folder" in app.error[0].value
    assert "cist_tokens" not in components(app)


@pytest.mark.usefixtures("read_here")
def test_the_code_of_an_owner_names_the_folder_and_runs(owner: Studio, tmp_path, monkeypatch, capsys) -> None:
    link = {"tokens_model": owner.ids["first"], "tokens_added": owner.ids["first"], "tokens_student": "none"}
    app = open_app("tokens", **link)
    wait_for(app, lambda: "cist_tokens" in components(app))
    command, python = (element.value for element in app.code)
    assert command.startswith(f"cist analyze --lm {owner.models / 'tiny'} --text text.txt")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    exec(python, {})
    model = open_language_model(str(owner.models / "tiny"))
    curves = infer_tokens(model, tokens_for([model], load_texts("text.txt"))).curves()
    assert f"mean={curves.at_temperature(1.0).mean():.4g}" in capsys.readouterr().out


@pytest.mark.usefixtures("unread")
def test_a_link_to_what_is_not_there_says_so_in_a_sentence(studio: Studio) -> None:
    app = open_app("tokens", tokens_model=NOWHERE, tokens_student=NOWHERE, tokens_added=NOWHERE)
    for what in ("model", "student", "text"):
        assert f"The link asks for the {what} “{NOWHERE}”, which is not here" in warnings(app)
    assert warnings(app).count("It may have been deleted, or belong to somebody who has signed in.") == 2
    assert warnings(app).count("A text that was added is read here for whoever added it alone.") == 1
    assert app.session_state["tokens_model"] == "scripture-gpt"


@pytest.mark.usefixtures("read_here")
@pytest.mark.parametrize("whose", ["owner", "somebody else"])
def test_a_model_that_is_gone_or_damaged_is_named_where_one_looks(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whose: str
) -> None:
    monkeypatch.setattr("app.catalogue.on_own_machine", lambda: whose == "owner")
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path))
    monkeypatch.setattr("cist_core.added.store.Child", HereAndNow)
    place = shutil.copytree(studio.models / "tiny", tmp_path / "mine")
    added_id = Studio(AddedStore(tmp_path / "added"), {}, tmp_path).add(str(place), "my words")
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    app = open_app("tokens", tokens_model=added_id, tokens_student="none")
    wait_for(app, lambda: bool(app.error))
    assert "safetensors" in app.error[0].value
    assert (str(tmp_path) in app.error[0].value) == (whose == "owner")
    shutil.rmtree(place)
    app.run()
    named = place if whose == "owner" else "mine"
    assert f"The model {named}, with which “my words” was added, is not on" in app.error[0].value
    assert app.button(key="tokens-again")


@pytest.mark.usefixtures("unread")
def test_a_model_of_the_hub_goes_by_its_name_as_long_as_the_cache_has_it(
    owner: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(owner.models / "tiny", cache / "snapshots" / "0123456")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123456")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    monkeypatch.setattr("cist_core.added.store.Child", HereAndNow)
    added_id = Studio(AddedStore(tmp_path / "added"), {}, tmp_path).add(f"{HUB}owner/tiny", "my words")
    app = open_app("tokens", tokens_model=added_id)
    assert offered(app)[-1] == f"{HUB}owner/tiny"
    assert not any("hub's cache" in error.value for error in app.error)
    shutil.rmtree(tmp_path / "hub")
    assert f"{HUB}owner/tiny, with which “my words” was added, is not in the hub's cache" in app.run().error[0].value


@pytest.mark.usefixtures("unread")
def test_a_text_whose_file_is_gone_is_named(owner: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    monkeypatch.setattr("cist_core.added.store.Child", HereAndNow)
    added_id = Studio(AddedStore(tmp_path / "added"), {}, tmp_path).add(str(owner.models / "tiny"), "my words")
    shutil.rmtree(tmp_path / "added" / added_id / "uploads")
    app = open_app("tokens", tokens_model="scripture-gpt", tokens_student="none", tokens_added=added_id)
    assert "The file of “my words” is not on the Studio's machine any more" in app.error[0].value


def test_a_text_is_read_as_its_file_has_it_unless_that_has_become_too_large(
    owner: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = owner.store.snapshot(owner.ids["first"])
    plain, lines = (added.place_for(f"of mine.{ending}", "texts") for ending in ("md", "jsonl"))
    for file, name in ((plain, "text.txt"), (lines, "text.jsonl")):
        file.write_bytes(b"w2 w3")
        found = AddedText(added, "mine", file)
        assert (found.file_name, found.content) == (name, b"w2 w3")
        key = found.key
        os.utime(file, (1, 1))
        assert found.key != key  # what was read of it before is another text
        with monkeypatch.context() as patch:
            patch.setattr("app.tokens.texts.MOST_BYTES_OF_TEXT", 4)
            with pytest.raises(CistError, match="“mine” has more than 4 Bytes by now, which are read here"):
                found.content  # noqa: B018 - it is read anew each time
        file.unlink()
        with pytest.raises(CistError, match="“mine” is not on the Studio's machine any more"):
            found.check()


@pytest.mark.usefixtures("unread")
def test_two_models_of_one_name_are_told_apart(owner: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path))
    monkeypatch.setattr("cist_core.added.store.Child", HereAndNow)
    mine = Studio(AddedStore(tmp_path / "added"), {}, tmp_path)
    for number in ("1", "2"):
        mine.add(str(shutil.copytree(owner.models / "tiny", tmp_path / number / "tiny")), f"text {number}")
    assert offered(open_app("tokens"))[-2:] == ["tiny, added with text 1", "tiny, added with text 2"]


@pytest.mark.usefixtures("unread")
def test_a_text_of_a_model_that_is_known_by_name_is_read_by_that_name(
    owner: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app("samples", teacher=owner.ids["first"])
    (link,) = [each.proto for each in app.get("page_link") if "token by token" in each.proto.label]
    assert link.query_string == f"tokens_model={owner.ids['first']}&tokens_added={owner.ids['first']}"
    found = owner.store.snapshot(owner.ids["first"])
    for model, expected in ((SMOLLM2, SMOLLM2), (f"{HUB}owner/name", found.id)):
        spec = AddSpec.of(title="x", language={"model": model, "texts": f"{HUB}some/texts"})
        known = type(found)(**{**vars(found), "spec": spec})
        monkeypatch.setattr("app.tokens.models.find_added", lambda name, known=known: known)
        assert link_to_added(found.id) == {"tokens_model": expected}


def test_the_head_of_a_token_set_is_what_the_set_says(owner: Studio) -> None:
    file = owner.store.snapshot(owner.ids["first"]).logit_file
    model = open_language_model(str(owner.models / "tiny"))
    head = read_head(file)
    assert head.vocabulary_size == model.vocabulary.size
    assert head.provenance["vocabulary_sha256"] == model.vocabulary.sha256
    assert head.provenance["teacher"] == "tiny"
