"""The app in Streamlit's own test runner, on one of its pages."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.state import View
from cist_core import CistError, LogitSet
from cist_core.added import AddedStore, AddSpec, Entry

ROOT = Path(__file__).resolve().parents[2]


class HereAndNow:
    """In place of the child process: the same work, done when it is released."""

    pid, started = 1, "0.0"  # no process that started then is alive

    def __init__(self, command: list[str], **_: object) -> None:
        self.task, self.folder = command[-2], Path(command[-1])

    def release(self) -> None:
        from cist_core.added import __main__ as child

        try:
            child.work_on(self.task, self.folder, Entry.read(self.folder), None)
        except CistError as error:
            child.write_failure(self.folder, str(error))

    def exit_code(self) -> int:
        return 0


class ReadHere:
    """In place of the process that reads a text, which takes seconds to import torch and transformers: the same work,
    without limits on this process."""

    pid, started = 1, "0.0"  # no process that started then is alive

    def __init__(self, command: list[str], **_: object) -> None:
        self.module, self.arguments = command[command.index("-m") + 1], command[command.index("-m") + 2 :]

    def release(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cist_core.language.reading.limit_memory", lambda at_once: None)
            patch.setattr("cist_core.language.reading.limit_time", lambda seconds, sentence: None)
            patch.setattr("sys.argv", [self.module, *self.arguments])
            importlib.import_module(self.module).main()

    def exit_code(self) -> int:
        return 0


def open_app(page: str = "overview", **query: str | list[str]) -> AppTest:
    """Open a page under an address with these parameters."""
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    if page != "overview":
        app.switch_page(f"../pages/{page}.py")
    app.run()
    assert not app.exception
    return app


def finding(app: AppTest) -> str:
    """The sentence beneath a page's question."""
    sentence: str = app.header[0].value
    return sentence


def view_of(app: AppTest) -> View:
    return app.session_state["_view"]


def shown_by(app: AppTest, component: str) -> dict[str, Any]:
    """What a component of the page was given to draw."""
    given = [element.proto for element in app.get("bidi_component") if element.proto.component_name == component]
    assert len(given) == 1, component
    return json.loads(given[0].mixed.json or given[0].json)


def components(app: AppTest) -> set[str]:
    """Which components the page has."""
    return {element.proto.component_name for element in app.get("bidi_component")}


def note_of(app: AppTest) -> str:
    """What the bar says under the sliders; empty for a matched pair."""
    return str(shown_by(app, "cist_sliders")["here"]["note"])


def add_synthetic(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, classes: int, samples: int, names: Sequence[str] | None = None
) -> str:
    """Logits with a student beside them, added as if somebody had brought them; returns the id that a link names."""
    store = AddedStore(folder / "added")
    monkeypatch.setenv("CIST_ADDED", str(store.root))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, samples)
    logits = rng.normal(size=(samples, classes))
    logits[np.arange(samples), labels] += 2 + classes / 300
    logits *= 4 * rng.gamma(4, 0.5, size=(samples, 1))
    draft = store.draft(title=f"{classes} classes")
    files = {kind: str(draft.place_for(f"{kind}.npz", kind)) for kind in ("teacher", "student")}
    spec = AddSpec.of(title=f"{classes} classes", logits=files)
    entry = draft.folder / "entry.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "spec": spec.model_dump()}))
    for file, scale in ((draft.logit_file, 1.0), (draft.folder / "student.safetensors", 0.6)):
        noisy = scale * logits + rng.normal(size=logits.shape) * 0.3 * (scale < 1)
        LogitSet.create(noisy.astype(np.float32), labels, class_names=names).save(file)
    return draft.id


def wait_for(app: AppTest, done: Callable[[], bool]) -> AppTest:
    """Run a page that waits for a text again until it is read, or an error says why it is not."""
    for _ in range(240):
        if done() or app.error:
            return app
        time.sleep(0.5)
        app.run()
    raise AssertionError("the text was not read")


def passage_on(app: AppTest) -> dict[str, Any]:
    """What the browser was sent of the text, once."""
    (sent,) = [each.proto for each in app.get("bidi_component") if each.proto.component_name == "cist_tokens_passage"]
    return json.loads(sent.bytes.partition(b"\n")[2])


def warnings(app: AppTest) -> str:
    """All warnings of the page."""
    return " ".join(warning.value for warning in app.warning)
