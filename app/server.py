"""The server with headers that keep other pages from framing the app: `streamlit run app/server.py`."""

import os
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


app = st.App(Path(__file__).with_name("main.py"), middleware=[Middleware(Headers), Middleware(Closed)])
