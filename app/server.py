"""The server with headers of its own and what keeps the browser's history: `streamlit run app/server.py`."""

import os
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.history import with_watch

METRICS_OPEN = os.environ.get("CIST_METRICS", "").strip() == "1"
"""Whether `/_stcore/metrics` tells everybody who asks how many sessions there are and what they take."""
FRAMED_BY = os.environ.get("CIST_FRAMED_BY", "").strip() or "'self'"
"""What may show the app in a frame, as `frame-ancestors` of Content-Security-Policy has it."""
_FRAME_OPTIONS = {"'self'": "SAMEORIGIN", "'none'": "DENY"}
HEADERS = {
    "content-security-policy": f"frame-ancestors {FRAMED_BY}",
    "x-content-type-options": "nosniff",
    # For browsers that do not know the first; it cannot name other pages.
    **({"x-frame-options": _FRAME_OPTIONS[FRAMED_BY]} if FRAMED_BY in _FRAME_OPTIONS else {}),
}


class Closed:
    """Answers 404 at `/_stcore/metrics`, also below a path, unless `CIST_METRICS` is 1."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and scope["path"].rstrip("/").endswith("/_stcore/metrics")
        answer = PlainTextResponse("Not Found", 404) if asked and not METRICS_OPEN else self._app
        await answer(scope, receive, send)


class Headers:
    """Adds `HEADERS` to each answer that has none of that name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given: list[Any] = list(message.get("headers", []))
                names = {name.lower() for name, _ in given}
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                given += [header for header in added if header[0] not in names]
                message = {**message, "headers": given}
            await send(message)

        await self._app(scope, receive, answer)


class Watched:
    """Puts what keeps the browser's history into the page, where it runs before Streamlit's own script."""

    _WHOLE = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
    """Headers that ask for something else than the page as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or b"text/html" not in dict(scope["headers"]).get(b"accept", b"")
        ):
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # of a page, which is held back until all of it is there
        page = b""

        async def answer(message: Message) -> None:
            nonlocal start, page
            if message["type"] == "http.response.start" and _is_page(message):
                start = message
            elif start is None or message["type"] != "http.response.body":
                await send(message)
            else:
                page += message.get("body", b"")
                if not message.get("more_body", False):
                    body = with_watch(page)
                    others = [header for header in start["headers"] if header[0] not in (b"content-length", b"etag")]
                    await send({**start, "headers": [*others, (b"content-length", str(len(body)).encode())]})
                    await send({"type": "http.response.body", "body": body})

        asked = [header for header in scope["headers"] if header[0] not in self._WHOLE]
        await self._app({**scope, "headers": asked}, receive, answer)


def _is_page(start: Message) -> bool:
    kind: bytes = dict(start.get("headers", [])).get(b"content-type", b"")
    return bool(start["status"] == 200) and kind.startswith(b"text/html")


app = st.App(
    Path(__file__).with_name("main.py"), middleware=[Middleware(Headers), Middleware(Closed), Middleware(Watched)]
)
