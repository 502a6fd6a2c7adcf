"""Links: one that cannot be followed says so, and what somebody added is found again."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import catalogue, people
from app.forms import add as form
from cist_core.added import AddedState, AddedStore, AddSpec
from cist_core.logits.logit_set import LogitSet
from tests.app.driver import open_app, view_of

NOWHERE = "nothing-0123456789abcdef"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"teacher": "nonsense"}, "The link asks for the teacher “nonsense”, which is not here; shown is mnist5k-cnn"),
        ({"teacher": NOWHERE}, "It may have been deleted, or belong to somebody who has signed in"),
        (
            {"student": "nobody"},
            "The link asks for the student “nobody”, which is not here; shown is mnist5k-cnn-small",
        ),
        ({"data": "cifar10"}, "The link asks for the data set “cifar10”, which is not here; shown is mnist-5k"),
        ({"split": "last"}, "The link asks for the split “last”, which is not here; shown is test"),
        ({"tau": "9999"}, "9999"),
    ],
)
def test_a_link_that_cannot_be_followed_says_so(asked, sentence) -> None:
    app = open_app(**asked)
    assert any(sentence in warning.value for warning in app.warning)
    assert view_of(app).source.teacher == "mnist5k-cnn"
    app.run()
    assert any(sentence in warning.value for warning in app.warning)


def test_several_at_once_are_one_warning_that_goes_with_what_it_names() -> None:
    app = open_app(teacher="nonsense", student="nobody")
    [warning] = [each.value for each in app.warning]
    assert "teacher “nonsense”" in warning
    assert "student “nobody”" in warning
    app.selectbox(key="teacher_box").select("mnist5k-mlp").run()
    assert not [each for each in app.warning if "nonsense" in each.value]


def test_words_of_a_link_are_plain() -> None:
    app = open_app(teacher="**x** [y](http://z)")
    [warning] = [each.value for each in app.warning]
    assert "\\*\\*x\\*\\*" in warning


def test_a_link_that_can_be_followed_says_nothing() -> None:
    app = open_app(teacher="mnist5k-mlp", student="none", split="validation")
    assert not app.warning
    assert view_of(app).source.teacher == "mnist5k-mlp"
    app.selectbox(key="teacher_box").select("cifar100-resnet20").run()  # other data: no link has asked for those
    assert not app.warning
    assert view_of(app).source.data == "cifar100"


@pytest.mark.parametrize("asked", [{"split": "nonsense"}, {"data": "nonsense"}, {"teacher": "nonsense"}])
def test_a_choice_that_cannot_be_followed_leaves_the_pair_in_the_address(asked) -> None:
    app = open_app(**asked, tau="2.5", rho="9", matched="false")
    for _ in range(2):
        app.run()
        assert {key: app.query_params.get(key) for key in ("tau", "rho", "matched")} == {
            "tau": "2.5", "rho": "9", "matched": "false",
        }  # fmt: skip
        assert (view_of(app).tau, view_of(app).rho) == (2.5, 9)


def test_what_is_shown_instead_is_named_as_on_the_screen() -> None:
    app = open_app("distill", method="nonsense")
    shown = app.selectbox(key="method_box")
    [warning] = [each.value for each in app.warning if "nonsense" in each.value]
    assert warning.endswith(f"shown is {shown.format_func(shown.value)}.")


def test_a_number_whose_widget_is_not_there_is_passed_over() -> None:
    def page() -> None:
        import streamlit as st

        from app.links import follow_number, say_unfollowed

        notice = st.empty()
        follow_number("absent", 0, 1, "number")
        say_unfollowed(notice, "absent")

    app = AppTest.from_function(page)
    app.query_params["absent"] = "9"
    assert not app.run().exception
    assert not app.warning


def test_a_link_to_nothing_that_is_being_added_says_so() -> None:
    app = open_app("add", adding=NOWHERE)
    assert any(f"There is nothing added under “{NOWHERE}”" in warning.value for warning in app.warning)
    app.run()
    assert "adding" not in app.query_params


# ---- yours -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Adds logits under a title, as another tab or another day would have."""
    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    catalogue.my_added.__globals__["_owned"].clear()

    def add(title: str, *, seed: int = 0) -> str:
        store = AddedStore()
        draft = store.draft(title=title)
        content = io.BytesIO()
        rows = np.random.default_rng(seed).normal(size=(60, 5)).astype(np.float32) * 4
        np.savez(content, logits=rows)
        content.seek(0)
        path = form.keep_upload(store, draft, "teacher", "logits.npz", content)
        store.start_preview(draft.id, AddSpec.of(title=title, logits={"teacher": str(path)}))
        LogitSet.create(rows, np.arange(60) % 5).save(draft.logit_file)
        return draft.id

    return add


@pytest.fixture
def own_machine(monkeypatch):
    monkeypatch.setattr(catalogue, "on_own_machine", lambda: True)


def test_on_ones_own_machine_everything_is_found_again_by_its_title(added, own_machine) -> None:
    first, second = added("My teacher", seed=1), added("My teacher", seed=2)
    app = open_app()
    shown = app.selectbox(key="teacher_box").options
    assert "My teacher" in shown
    assert len([title for title in shown if title.startswith("My teacher")]) == 2
    assert not [title for title in shown if first in title or second in title]
    app.selectbox(key="teacher_box").select_index(len(shown) - 1).run()
    assert view_of(app).source.teacher in (first, second)
    assert app.session_state["teacher"] == view_of(app).source.teacher  # what the address and links carry


def test_sources_of_different_tabs_compare(added, own_machine) -> None:
    first, second = added("One", seed=1), added("Two", seed=2)
    app = open_app("teachers", teacher=first, teachers_tab="Tables")
    box = app.multiselect(key=f"teachers_beside_{first}_box")
    assert box.options == ["Two"]
    assert box.value == [second]
    assert list(app.dataframe[0].value["Teacher"]) == ["One", "Two"], [error.value for error in app.error]


def test_elsewhere_another_browser_finds_nothing(added) -> None:
    added("Somebody's")
    assert not [title for title in open_app().selectbox(key="teacher_box").options if "Somebody" in title]


def test_a_browser_that_keeps_too_many_forgets_what_is_gone_then_the_oldest_drafts(monkeypatch) -> None:
    monkeypatch.setattr(catalogue, "MOST_KEPT", 3)
    states = {
        "in hand": AddedState.DRAFT, "running": AddedState.RUNNING, "later": AddedState.DRAFT,
        "earlier": AddedState.DRAFT, "ready": AddedState.READY,
    }  # fmt: skip
    known = [
        SimpleNamespace(id=name, state=state, created_at=10.0 - age) for age, (name, state) in enumerate(states.items())
    ]
    monkeypatch.setattr(catalogue, "my_added", lambda: known)
    assert catalogue.surplus_of([*states, "gone"]) == ["gone", "earlier", "later"]
    assert catalogue.surplus_of(["gone", *states]) == ["earlier", "later", "ready"]  # the last begun, whatever it is
    # Told by the browser after it was begun: still in somebody's hands.
    assert catalogue.surplus_of(["later", "earlier", "ready", "in hand"]) == ["earlier"]


@pytest.mark.parametrize(
    ("address", "headers", "expected"),
    [
        ("127.0.0.1", {"Host": "127.0.0.1:8501", "Origin": "http://127.0.0.1:8501"}, True),
        ("localhost", {"Host": "localhost:8501", "Origin": "http://localhost:8501"}, True),
        ("127.0.0.1", {"Host": "127.0.0.1:8501", "Origin": "https://studio.example.org"}, False),  # a proxy
        ("127.0.0.1", {"Host": "studio.example.org", "Origin": "https://studio.example.org"}, False),
        ("127.0.0.1", {"Host": "localhost", "Origin": "http://localhost", "X-Forwarded-For": "192.0.2.1"}, False),
        ("0.0.0.0", {"Host": "127.0.0.1:8501", "Origin": "http://127.0.0.1:8501"}, False),
        ("", {"Host": "127.0.0.1:8501", "Origin": "http://127.0.0.1:8501"}, False),
        ("127.0.0.1", {}, False),
    ],
)
def test_ones_own_machine_is_one_that_nobody_else_reaches(monkeypatch, address, headers, expected) -> None:
    monkeypatch.setattr(people, "sign_in_configured", lambda: False)
    monkeypatch.setattr(st, "get_option", lambda name: address)
    monkeypatch.setattr(st, "context", SimpleNamespace(headers=headers))
    assert people.on_own_machine() is expected
    monkeypatch.setattr(people, "sign_in_configured", lambda: True)
    assert not people.on_own_machine()
