"""Runs of which only a copy is left, on the page Runs: who sees that there may be some, and how they come back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from example_runs import ExampleStore
from streamlit.testing.v1 import AppTest

from app.forms import run_copies
from cist_core.runs import RunState, RunStore
from cist_core.training.mirror.lease import Lease
from cist_core.training.mirror.store import Store
from tests.app.driver import open_app

STOPPED, FINISHED = "20261124-171500-ab12", "20261124-171600-cd34"  # the newest is listed first
LABEL = "Copies of runs that are not here"


@pytest.fixture
def runs(tmp_path, monkeypatch) -> RunStore:
    """The runs that the page shows: none. The operator's store has copies of two."""
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda store: None)
    store = RunStore(tmp_path / "runs")
    monkeypatch.setenv("CIST_RUNS", str(store.root))
    elsewhere = ExampleStore(tmp_path / "elsewhere")
    for run_id, run in (
        (FINISHED, elsewhere.put("finished", done=12, right=0.8)),
        (STOPPED, elsewhere.put("cancelled", done=3, objective="kd:tau=4")),
    ):
        shutil.copytree(run.directory.path, tmp_path / "copies" / run_id)
    (store.root / "executors.toml").write_text(f'[mirror]\nurl = "{(tmp_path / "copies").as_uri()}"\n')
    return store


def copies_of(app: AppTest) -> object:
    return next((one for one in app.main.expander if one.label == LABEL), None)


def until(app: AppTest, condition: Callable[[], object]) -> None:
    """As the clock of the page does."""
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, [error.value for error in app.error]
        time.sleep(0.2)
        app.run()
    assert not app.exception


def look(app: AppTest) -> None:
    app.button(key="copies-look").click().run()
    until(app, lambda: app.button(key="copies-look").label != "Looking ...")


def select(app: AppTest, *rows: int) -> None:
    desk = app.session_state["_copies"]
    key = f"copies-{desk.looks}-{len(app.main.dataframe[-1].value)}"
    app.session_state[key] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    app.run()


def errors(app: AppTest) -> list[str]:
    return [error.value for error in app.error]


def test_without_a_mirror_the_page_says_nothing_of_copies(runs) -> None:
    (runs.root / "executors.toml").unlink()
    assert copies_of(open_app("runs")) is None


def test_a_store_is_asked_only_when_somebody_wants_it(runs, monkeypatch) -> None:
    monkeypatch.setattr(run_copies, "CommandJob", lambda *_, **__: pytest.fail("it asks"))
    app = open_app("runs")
    assert copies_of(app) is not None
    assert app.button(key="copies-look").label == "Look"
    assert not errors(app)


def test_what_only_the_store_has_is_listed_and_brought_here(runs) -> None:
    app = open_app("runs")
    look(app)
    table = app.main.dataframe[-1].value.set_index("Copy")
    assert [address.rpartition("/")[2] for address in table.index] == [FINISHED, STOPPED]
    assert table["State"].tolist() == ["finished", "cancelled"]
    assert table["Epoch"].tolist() == ["12 of 12", "3 of 12"]
    assert table["Test"].tolist()[0] == pytest.approx(80.0)
    assert app.button(key="copies-bring").disabled
    select(app, 0)
    assert app.button(key="copies-bring").label == "Bring it here"
    app.button(key="copies-bring").click().run()
    assert app.button(key="copies-stop").label == "Stop"
    assert any(text.value.endswith("so far ...") for text in copies_of(app).markdown)
    until(app, lambda: not app.session_state["_copies"].busy)
    assert runs.get(FINISHED).state is RunState.FINISHED
    assert app.session_state["run"] == [FINISHED]
    assert app.main.subheader[0].value.startswith("CIST ρ = 3.5 reached 80.0 % on test")
    assert not errors(app)
    assert [address.rpartition("/")[2] for address in app.main.dataframe[-1].value["Copy"]] == [STOPPED]
    select(app, 0)
    app.button(key="copies-bring").click().run()
    until(app, lambda: not app.session_state["_copies"].busy)
    assert runs.get(STOPPED).state is RunState.CANCELLED
    assert "All 2 runs that have a copy there are here." in [text.value for text in copies_of(app).markdown]
    app.button(key=f"resume-{STOPPED}").click().run()
    assert runs.get(STOPPED).state is RunState.QUEUED


def test_what_stands_against_a_run_is_said_where_it_was_asked_for(runs, tmp_path) -> None:
    app = open_app("runs")
    look(app)
    with (tmp_path / "runs" / "limits.toml").open("w") as limits:
        limits.write("disk_bytes = 10\n")
    select(app, 0, 1)
    assert app.button(key="copies-bring").label == "Bring 2 here"
    app.button(key="copies-bring").click().run()
    until(app, lambda: not app.session_state["_copies"].busy)
    (said,) = [error.value for error in copies_of(app).error]
    for copy in (FINISHED, STOPPED):  # which of them is meant
        assert f"{copy}: Expected at most 10 bytes in a run, but this one has" in said
    assert runs.list_runs() == []
    assert len(app.main.dataframe[-1].value) == 2


def test_a_store_that_is_not_there_leaves_the_page_as_it_is(runs, tmp_path) -> None:
    shutil.rmtree(tmp_path / "copies")
    app = open_app("runs")
    look(app)
    (said,) = [error.value for error in copies_of(app).error]
    assert said.startswith("There is no folder ")
    assert app.button(key="copies-look").label == "Look"


def test_a_store_that_gives_no_answer_is_left_after_a_while(runs, monkeypatch) -> None:
    start, started = subprocess.Popen, []

    def hang(command: list[str], **options: object) -> subprocess.Popen[str]:
        assert command[-4:-2] == ["runs", "--mirror"]
        started.append(start([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return started[-1]

    monkeypatch.setattr(run_copies, "LOOK_SECONDS", 0.0)
    app = open_app("runs")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", hang)
        look(app)
    (said,) = [error.value for error in copies_of(app).error]
    assert "has given no answer for 0 seconds; look again when it does" in said
    assert started[0].poll() is not None


def test_a_fetch_can_be_stopped_and_leaves_nothing(runs, tmp_path) -> None:
    url = (tmp_path / "copies" / STOPPED).as_uri()
    Lease(Store(url)).take()
    (lease,) = (tmp_path / "copies" / STOPPED).glob("lease-*")
    lease.write_text(json.dumps(json.loads(lease.read_text()) | {"host": "another"}))  # it is watched for a minute
    app = open_app("runs")
    look(app)
    select(app, 1)
    app.button(key="copies-bring").click().run()
    app.button(key="copies-stop").click().run()
    assert not app.session_state["_copies"].busy
    assert runs.list_runs() == []
    assert len(app.main.dataframe[-1].value) == 2
    assert not errors(app)


def test_settings_that_are_wrong_are_named(runs) -> None:
    (runs.root / "executors.toml").write_text("[mirror]\nurl = 3\n")
    app = open_app("runs")
    (said,) = errors(app)
    assert said.startswith("Mend \\[mirror\\] in ")
    assert "No runs yet" in app.main.markdown[0].value


def test_who_has_signed_in_sees_no_copies(runs, monkeypatch) -> None:
    app = AppTest.from_file(str(Path(__file__).resolve().parents[2] / "app" / "main.py"), default_timeout=60)
    app.secrets = {
        "auth": {
            "redirect_uri": "https://studio.org/oauth2callback",
            "cookie_secret": "x" * 32,
            "client_id": "studio",
            "client_secret": "secret",
            "server_metadata_url": "https://id.org/metadata",
        }
    }
    app.user = {"is_logged_in": True, "iss": "https://id.org", "sub": "1", "email": "a@lab.edu", "email_verified": True}
    app.switch_page("../pages/runs.py").run()
    assert not app.exception
    assert "No runs yet" in app.main.markdown[0].value
    assert copies_of(app) is None
