"""The cards of Overview, from which a first visitor starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st

from app.start import SYNTHETIC
from cist_core.added import AddedStore
from cist_core.errors import CistError
from cist_core.language.known import find_language_model
from tests.app.driver import open_app, view_of
from tests.app.language_pair import put_pair


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AddedStore:
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    return AddedStore(tmp_path / "added")


def start_cards(app) -> dict[str, str]:
    """What stands on each card, by its key."""
    return {button.key: button.label for button in app.main.button if (button.key or "").startswith("start-")}


def test_a_first_visitor_has_a_card_for_each_way_to_start() -> None:
    found = start_cards(open_app())
    language = ["start-language"] if find_language_model("scripture-gpt") else []
    made = ["start-mnist5k-cnn", "start-cifar100-resnet20", "start-synthetic"]
    assert list(found) == [*made, *language, "start-yours"]
    assert "10 classes, shown now" in found["start-mnist5k-cnn"]
    assert "100 classes, accuracy 64.5 %" in found["start-cifar100-resnet20"]
    assert "1,000 classes, synthetic" in found["start-synthetic"]


@pytest.mark.parametrize(
    "query", [{"teacher": "mnist5k-cnn"}, {"data": "mnist-5k"}, {"split": "train"}, {"student": "none"}]
)
def test_whoever_follows_a_link_to_a_source_is_no_first_visitor(query: dict[str, str]) -> None:
    assert not start_cards(open_app(**query))


@pytest.mark.parametrize(("card", "classes"), [("mnist5k-cnn", 10), ("cifar100-resnet20", 100), ("synthetic", 1_000)])
def test_one_press_opens_the_source_and_the_cards_go(card: str, classes: int) -> None:
    app = open_app()
    app.button(key=f"start-{card}").click().run()
    assert not app.exception
    assert not app.error
    assert view_of(app).source.logit_set.num_classes == classes
    assert not start_cards(app)
    app.switch_page("../pages/entropy.py").run()
    assert not start_cards(app.switch_page("../pages/overview.py").run())


def test_a_move_of_a_slider_keeps_the_cards_and_another_source_takes_them_away() -> None:
    app = open_app()
    app.slider(key="tau").set_value(2.0).run()
    assert start_cards(app)
    app.selectbox(key="teacher_box").select("mnist5k-mlp").run()
    assert not start_cards(app)


def test_a_source_that_was_chosen_on_another_page_takes_the_cards_away() -> None:
    app = open_app("entropy")
    app.selectbox(key="teacher_box").select("mnist5k-mlp").run()
    assert not start_cards(app.switch_page("../pages/overview.py").run())


def test_another_page_that_was_only_looked_at_leaves_the_cards() -> None:
    assert start_cards(open_app("entropy").switch_page("../pages/overview.py").run())


def test_the_made_sample_is_called_synthetic_and_is_made_once(
    store: AddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.catalogue.on_own_machine", lambda: True)  # where everything that was added is listed
    for _ in range(2):
        st.cache_data.clear()  # the list is a few seconds old at most
        app = open_app()
        app.button(key="start-synthetic").click().run()
        source = view_of(app).source
        assert source.logit_set.provenance["teacher"] == "synthetic, no network"
        [added] = store.list_all()
        assert (added.title, added.id) == (SYNTHETIC, source.teacher)
        assert added.logit_file.stat().st_nlink == 2  # what was brought and what is read are one file


def test_visitors_of_one_server_share_the_made_sample_and_none_of_them_deletes_it(store: AddedStore) -> None:
    visitors = [open_app() for _ in range(2)]
    for app in visitors:
        app.button(key="start-synthetic").click().run()
        [added] = store.list_all()
        assert view_of(app).source.teacher == added.id
        with pytest.raises(CistError, match="another browser"):
            AddedStore(store.root, keys=app.session_state["_added_keys"]).delete(added.id)
    store.delete(added.id)  # the operator may
    app = open_app()
    app.button(key="start-synthetic").click().run()
    [again] = store.list_all()
    assert view_of(app).source.teacher == again.id != added.id


def test_a_store_that_takes_nothing_is_said_and_the_cards_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_ADDED_BYTES", "-1")
    app = open_app()
    app.button(key="start-synthetic").click().run()
    assert "CIST_ADDED_BYTES" in app.error[0].value
    assert start_cards(app)


def test_the_language_card_is_there_with_the_pair_and_leads_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    put_pair(tmp_path / "models", monkeypatch)
    app = open_app()
    assert "vocabulary of 4,096, scripture-gpt" in start_cards(app)["start-language"]
    app.button(key="start-language").click().run()
    assert not app.exception
    assert app.title[0].value in {"How sure is a language model, word by word?", open_app("distill").title[0].value}


def test_yours_leads_to_add() -> None:
    app = open_app()
    app.button(key="start-yours").click().run()
    assert not app.exception
    assert app.title[0].value == open_app("add").title[0].value
