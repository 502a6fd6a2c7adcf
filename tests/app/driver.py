"""The app in Streamlit's own test runner, on one of its pages."""

from __future__ import annotations

from pathlib import Path

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


def finding(app: AppTest) -> str:
    """The sentence beneath a page's question."""
    sentence: str = app.header[0].value
    return sentence


def view_of(app: AppTest) -> View:
    return app.session_state["_view"]
