"""Who may do what: on one's own machine, signed in, signed out, not on the list, and with sign-in set up in part."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.config_option import ConfigOption
from streamlit.runtime.secrets import Secrets
from streamlit.testing.v1 import AppTest

from cist_core.runs import RunStore
from cist_core.training import preset

pytest.importorskip("authlib")
from tests.oidc_provider import provider

ROOT = Path(__file__).resolve().parents[2]
ISSUER = "https://id.org"
ANN = {"is_logged_in": True, "iss": ISSUER, "sub": "1", "email": "Ann@lab.edu", "email_verified": True}
BOB = {"is_logged_in": True, "iss": ISSUER, "sub": "2", "email": "bob@lab.edu", "email_verified": True}
UNVERIFIED = {**ANN, "sub": "3", "email_verified": False, "name": "Ann *the* first"}
OUT: dict[str, Any] = {"is_logged_in": False}


def settings(allowed: list[str] | None = None, **auth: str) -> dict[str, Any]:
    """What stands in a complete secrets.toml."""
    complete = {
        "redirect_uri": "https://studio.org/oauth2callback",
        "cookie_secret": "x" * 32,
        "client_id": "studio",
        "client_secret": "secret",
        "server_metadata_url": f"{ISSUER}/metadata",
    }
    return {"auth": complete | auth} | ({} if allowed is None else {"cist": {"allowed": allowed}})


def asking() -> None:
    """A page that asks everything there is to ask."""
    import streamlit as st

    from app import people
    from cist_core.errors import CistError

    people.account(st.sidebar.container())
    try:
        owner = people.run_store().owner
    except CistError as error:
        owner = f"refused: {error}"
    answers = {
        "configured": people.sign_in_configured(),
        "visitor": people.visitor(),
        "launch": people.may_launch(),
        "paths": people.may_read_server_paths(),
        "owner": owner,
        "required": people.require_sign_in("launch runs"),
    }
    st.json(answers)


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CIST_RUNS", str(tmp_path / "runs"))


def ask(secrets: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> AppTest:
    app = AppTest.from_function(asking, default_timeout=60)
    app.secrets, app.user = secrets or {}, user or {}
    app.run()
    assert not app.exception
    return app


def answers(app: AppTest) -> dict[str, Any]:
    return json.loads(app.json[0].value)


OPEN = {"launch": True, "paths": True, "required": True}
CLOSED = {"launch": False, "paths": False, "required": False, "visitor": None}


def test_without_sign_in_everything_is_open_and_nothing_is_shown() -> None:
    app = ask()
    assert answers(app) == OPEN | {"configured": False, "visitor": None, "owner": None}
    assert not app.button
    assert not app.info


@pytest.mark.parametrize(
    ("user", "allowed", "who"),
    [
        (ANN, None, "ann@lab.edu"),
        (ANN, ["@Lab.edu"], "ann@lab.edu"),
        (UNVERIFIED, None, f"{ISSUER}#3"),
        (UNVERIFIED, [f"{ISSUER}#3"], f"{ISSUER}#3"),
    ],
)
def test_who_is_signed_in_may_and_owns_what_they_start(user, allowed, who) -> None:
    app = ask(settings(allowed), user)
    assert answers(app) == OPEN | {"configured": True, "visitor": who, "owner": who}
    assert [button.label for button in app.button] == ["Sign out"]
    assert [code.value for code in app.sidebar.code] == [who]


def test_the_settings_are_read_once_a_run_and_anew_in_the_next(monkeypatch) -> None:
    from app import people

    read, reads = people.read_sign_in, []
    monkeypatch.setattr(people, "read_sign_in", lambda secrets: [reads.append(secrets), read(secrets)][1])
    app = ask(settings(["ann@lab.edu"]), ANN)
    assert answers(app).items() >= OPEN.items()
    assert len(reads) == 1
    app.secrets = settings([])
    app.run()
    assert answers(app).items() >= CLOSED.items()  # taken off the list
    assert len(reads) == 2


def test_who_is_signed_out_may_not_and_finds_the_way_in() -> None:
    app = ask(settings(), OUT)
    said = answers(app)
    assert said.items() >= (CLOSED | {"configured": True}).items()
    assert said["owner"].startswith("refused: Runs belong to whoever started them; sign in")
    assert app.info[0].value == "Sign in to launch runs."
    assert [button.label for button in app.button] == ["Sign in", "Sign in"]


@pytest.mark.parametrize("user", [{}, {**ANN, "is_logged_in": False}, {**ANN, "is_logged_in": "no"}])
def test_claims_without_a_sign_in_are_nobodys(user) -> None:
    assert answers(ask(settings(), user)).items() >= CLOSED.items()


@pytest.mark.parametrize("allowed", [["@lab.edu"], []])
@pytest.mark.parametrize("user", [UNVERIFIED, {"is_logged_in": True, "email": "ann@lab.edu"}])
def test_who_is_not_on_the_list_is_told_so_and_as_whom_they_came(user, allowed) -> None:
    app = ask(settings(allowed), user)
    assert answers(app).items() >= CLOSED.items()
    assert "but not on the list of those who may launch runs here" in app.warning[0].value
    assert "*the*" not in app.warning[0].value.replace(r"\*the\*", "")
    assert user.get("sub") is None or app.main.code[0].value == f"{ISSUER}#3"
    assert {button.label for button in app.button} == {"Sign out"}


@pytest.mark.parametrize("user", [OUT, ANN])
@pytest.mark.parametrize(
    ("secrets", "sentence"),
    [
        (settings(client_secret=""), "[auth] lacks client_secret"),
        ({"cist": {"allowed": ["@lab.edu"]}}, "[auth] lacks redirect_uri"),
        (settings() | {"cist": {"allow": ["@lab.edu"]}}, "[cist] has allow, but knows allowed only"),
    ],
)
def test_sign_in_that_is_set_up_in_part_closes_what_needs_it_and_says_what_is_missing(user, secrets, sentence) -> None:
    app = ask(secrets, user)
    assert answers(app).items() >= (CLOSED | {"configured": True}).items()
    assert [sentence in error.value.replace("\\", "") for error in app.error] == [True, True]


@pytest.fixture
def named_secrets(tmp_path, monkeypatch) -> Iterator[Path]:
    """A file that is not there yet, as ``--secrets.files`` names it."""
    file = tmp_path / "secrets.toml"
    monkeypatch.setattr(st, "secrets", Secrets())
    before = st.get_option("secrets.files")
    st.config.set_option("secrets.files", [str(file)])
    yield file
    st.config._set_option("secrets.files", before, ConfigOption.DEFAULT_DEFINITION)


@pytest.mark.parametrize("content", [b"[auth\n", b"[auth] # \xff\n"])
def test_secrets_that_are_no_toml_close_it_too(named_secrets, content) -> None:
    named_secrets.write_bytes(content)
    app = ask(user=ANN)
    assert answers(app).items() >= (CLOSED | {"configured": True}).items()
    assert "cannot be read" in app.error[0].value


def test_secrets_that_are_named_and_missing_close_it_too(named_secrets) -> None:
    app = ask(user=ANN)
    assert answers(app).items() >= (CLOSED | {"configured": True}).items()
    assert "but they are not there" in app.error[0].value


def test_secrets_that_are_named_and_say_nothing_of_sign_in_leave_it_open(named_secrets) -> None:
    named_secrets.write_text("[database]\n")
    assert answers(ask()).items() >= (OPEN | {"configured": False}).items()


def test_secrets_that_nobody_can_look_for_close_it_too(monkeypatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cist_core.sign_in.os", SimpleNamespace(lstat=refuse))
    app = ask(user=ANN)
    assert answers(app).items() >= (CLOSED | {"configured": True}).items()
    assert "cannot be told" in app.error[0].value


def test_each_provider_has_its_button_and_one_that_answers_is_gone_to(monkeypatch) -> None:
    gone_to: list[str | None] = []
    monkeypatch.setattr(st, "login", gone_to.append)
    with provider() as there:
        secrets = settings(server_metadata_url=there.metadata_url)
        secrets["auth"]["lab"] = {**secrets["auth"]}
        app = ask(secrets, OUT)
        assert [button.label for button in app.main.button] == ["Sign in", "Sign in with Lab"]
        app.main.button[0].click().run()
        app.main.button[1].click().run()
    assert gone_to == [None, "lab"]
    assert not app.error


def test_a_provider_that_is_down_is_told_beside_the_button(monkeypatch) -> None:
    monkeypatch.setattr(st, "login", lambda provider: pytest.fail("it went to a provider that is not there"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        app = ask(settings(server_metadata_url=f"http://{host}/metadata"), OUT)
        app.main.button[0].click().run()
    assert not app.exception
    (error,) = app.error
    assert error.value.startswith(f"{host} does not answer as a sign-in provider does")
    assert "in a minute" in error.value
    app.run()
    assert not app.error


# The pages


def open_page(name: str, user: dict[str, Any], *, run: str | None = None) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    app.secrets, app.user = settings(), user
    app.run()
    if run is not None:
        app.query_params["run"] = run
    app.switch_page(f"../pages/{name}.py").run()
    assert not app.exception
    return app


def test_runs_are_their_owners_and_others_look_at_one_by_its_link_only(tmp_path) -> None:
    root = tmp_path / "runs"
    run = RunStore(root, owner="ann@lab.edu").add(preset("demo"), name="of Ann")
    RunStore(root).cancel(run.id)

    hers = open_page("runs", ANN)
    assert hers.main.subheader[0].value.startswith("of Ann was cancelled")
    assert {"resume-" + run.id, "delete-" + run.id} <= {button.key for button in hers.main.button}

    assert open_page("runs", BOB).main.markdown[0].value.startswith("No runs yet")
    linked = open_page("runs", BOB, run=run.id)
    assert linked.main.subheader[0].value.startswith("of Ann was cancelled")
    assert "Somebody else's: to look at only." in [caption.value for caption in linked.main.caption]
    assert not linked.main.button
    assert not linked.main.text_input
    assert not linked.main.get("download_button")
    assert not linked.main.expander

    out = open_page("runs", OUT, run=run.id)
    assert not out.title
    assert out.info[0].value == "Sign in to see your runs."


def test_nobody_launches_without_signing_in(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda store: None)
    out = open_page("distill", OUT)
    assert out.button(key="launch").disabled
    assert out.button(key="experiment").disabled
    assert out.info[0].value == "Sign in to launch runs."

    signed_in = open_page("distill", ANN)
    signed_in.button(key="launch").click().run()
    (run,) = RunStore(tmp_path / "runs").list_runs()
    assert run.owner == "ann@lab.edu"
