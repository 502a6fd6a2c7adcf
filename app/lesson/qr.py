"""The link to a step as a picture that a phone reads."""

from __future__ import annotations

import importlib.util
import io
from urllib.parse import urlencode, urlsplit

import streamlit as st

from app.people import is_loopback
from app.settings import page_settings

SIZE = 112
"""Of the code in the corner, in pixels."""


def step_link() -> str | None:
    """The address of this step with its settings, for somebody who follows on a screen of their own."""
    if st.context.url is None:
        return None
    return f"{st.context.url.partition('?')[0]}?{urlencode(page_settings(), doseq=True)}"


def qr_png(link: str) -> bytes:
    """Black on white with its quiet zone, which phones expect in either theme."""
    import segno

    content = io.BytesIO()
    segno.make(link, error="m", micro=False).save(content, kind="png", scale=4, border=3)
    return content.getvalue()


def show_qr() -> None:
    """The code where phones in the room can follow it; where none can, what to do about it."""
    link = step_link()
    if link is None or importlib.util.find_spec("segno") is None:
        return
    picture, alt = qr_png(link), f"QR code of the link to this step: {link}"
    if not is_loopback(urlsplit(link).hostname or ""):
        st.image(picture, width=SIZE, alt=alt)
        return
    with st.popover("QR code", icon=":material/qr_code:", key="lesson-qr"):
        st.image(picture, width=2 * SIZE, alt=alt)
        st.caption(
            "Phones cannot follow it yet: the Studio listens on this machine only. Start it with "
            "`cist studio --address 0.0.0.0`, and open it by this machine's name or address."
        )
