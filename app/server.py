"""The server with headers that keep other pages from framing the app: `streamlit run app/server.py`."""

import os
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FRAMED_BY = os.environ.get("CIST_FRAMED_BY", "").strip() or "'self'"
"""What may show the app in a frame, as `frame-ancestors` of Content-Security-Policy has it."""
HEADERS = {
    "content-security-policy": f"frame-ancestors {FRAMED_BY}",
    "x-content-type-options": "nosniff",
    # For browsers that do not know the first; it cannot name other pages.
    **({"x-frame-options": "SAMEORIGIN"} if FRAMED_BY == "'self'" else {}),
}


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


app = st.App(Path(__file__).with_name("main.py"), middleware=[Middleware(Headers)])
