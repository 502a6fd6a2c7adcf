"""What the browser keeps of what was added in it: the ids, in its local storage, for its other tabs and other days."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from cist_core.added.store import ADDED_ID

MOST_KEPT = 50
_KEY = "browser_memory"


def keep_in_browser(begun: Sequence[str], forgotten: Sequence[str]) -> None:
    """Let the browser keep these ids and forget those; it tells the others that it has, which runs the app again.

    Args:
        begun: ids to keep.
        forgotten: ids to keep no more.
    """
    with st.container(key="browser-memory"):
        data = {"begun": list(begun), "forgotten": list(forgotten), "most": MOST_KEPT}
        _MEMORY(key=_KEY, data=data, on_ids_change=lambda: None)


def kept_by_browser() -> list[str]:
    """The ids that this browser has told of, the newest first."""
    ids = (st.session_state.get(_KEY) or {}).get("ids") or []
    # Anybody can write into their own browser: only what looks like an id goes on.
    return [each for each in ids[:MOST_KEPT] if isinstance(each, str) and ADDED_ID.fullmatch(each)]


_JS = """
const NAME = "cist-studio-added"

export default function ({ data, parentElement, setStateValue }) {
  let kept = []
  try {
    const read = JSON.parse(localStorage.getItem(NAME) ?? "[]")
    if (Array.isArray(read)) kept = read.filter(id => typeof id === "string")
  } catch { /* closed or damaged storage keeps nothing */ }
  const ids = [...new Set([...data.begun, ...kept])].filter(id => !data.forgotten.includes(id)).slice(0, data.most)
  try { localStorage.setItem(NAME, JSON.stringify(ids)) } catch { /* as above */ }
  const memory = parentElement.querySelector("span")
  if (ids.join() === memory.dataset.sent) return
  memory.dataset.sent = ids.join()
  // The server knows those that were begun here.
  if (ids.some(id => !data.begun.includes(id))) setStateValue("ids", ids)
}
"""

_MEMORY = st.components.v2.component("cist_browser_memory", html="<span></span>", js=_JS)
