"""The app in Streamlit's own test runner, on one of its pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from app.state import View

ROOT = Path(__file__).resolve().parents[2]


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
