"""The browser's window, as the lesson needs it: how large it is, and the arrow keys that turn its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

_KEY = "lesson_window"
PHONE = 640
"""Below this width, in pixels, columns stand under each other."""
USUAL = (1280, 720)


class Window(NamedTuple):
    """Width and height of the window, in pixels."""

    width: int
    height: int

    @property
    def is_phone(self) -> bool:
        return self.width < PHONE


def watch_window(turn: Callable[[int], None], *, keys: bool) -> Window:
    """The window's size; a usual one until the browser has told it.

    Args:
        turn: called with 1 or -1 when an arrow key asks for another step.
        keys: whether arrow keys do.
    """

    def turned() -> None:
        by = (st.session_state[_KEY].get("turn") or {}).get("by")
        if by in (1, -1):
            turn(by)

    with st.container(key="lesson-window"):
        st.html("<style>.st-key-lesson-window { display: none; }</style>")
        said = _WINDOW(key=_KEY, data={"keys": keys}, on_size_change=lambda: None, on_turn_change=turned)
    size = said.size if isinstance(said.size, dict) else {}
    width, height = (size.get(name) for name in ("width", "height"))
    if not isinstance(width, int) or not isinstance(height, int):
        return Window(*USUAL)
    return Window(min(max(width, 200), 8000), min(max(height, 200), 5000))


_JS = """
const PAUSE = 250, STEP = 10
const OWN_KEYS = ["input", "textarea", "select", "[contenteditable=true]",
  ...["slider", "tab", "radio", "listbox", "combobox"].map(role => `[role=${role}]`)].join()

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const mark = parentElement.querySelector("span")
  // Rounded, so that a scroll bar or the address bar of a phone asks for nothing.
  const tell = () => {
    const size = [innerWidth, innerHeight].map(length => STEP * Math.floor(length / STEP))
    if (mark.dataset.size === size.join()) return
    mark.dataset.size = size.join()
    setStateValue("size", { width: size[0], height: size[1] })
  }
  const resized = () => { clearTimeout(mark.timer); mark.timer = setTimeout(tell, PAUSE) }
  const pressed = event => {
    const by = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }[event.key]
    if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return
    // Whatever has arrow keys of its own keeps them.
    if (event.composedPath().some(each => each.matches?.(OWN_KEYS))) return
    event.preventDefault()
    setTriggerValue("turn", { by })
  }
  mark.stop?.()
  addEventListener("resize", resized)
  if (data.keys) addEventListener("keydown", pressed)
  mark.stop = () => { removeEventListener("resize", resized); removeEventListener("keydown", pressed) }
  tell()
  return () => { clearTimeout(mark.timer); mark.stop?.() }
}
"""

_WINDOW = st.components.v2.component("cist_lesson_window", html="<span></span>", js=_JS)
