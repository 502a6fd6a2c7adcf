"""What the browser keeps of what was added in it: ids and keys, in its local storage, for its other tabs and days."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import streamlit as st

from cist_core.added.store import ADDED_ID

MOST_KEPT = 50
_KEY = "browser_memory"
_SECRET = re.compile(r"[0-9a-f]{32}")


def keep_in_browser(
    begun: Sequence[str], keys: Mapping[str, str], forgotten: Sequence[str], *, ready: Sequence[str] = ()
) -> None:
    """Let the browser keep these ids and forget those; it tells the others that it has, which runs the app again.

    Args:
        begun: ids to keep, the newest first.
        keys: of those that may be changed, by id.
        forgotten: ids to keep no more.
        ready: which of more than `MOST_KEPT` are finished, and so kept before drafts.
    """
    begun = [f"{each}:{keys[each]}" if each in keys else each for each in begun]
    with st.container(key="browser-memory"):
        data = {"begun": list(begun), "forgotten": list(forgotten), "ready": list(ready), "most": MOST_KEPT}
        _MEMORY(key=_KEY, data=data, on_ids_change=lambda: None)


def kept_by_browser() -> dict[str, str | None]:
    """The ids that this browser has told of, the newest first, each with the key that lets it be changed."""
    entries = (st.session_state.get(_KEY) or {}).get("ids") or []
    found: dict[str, str | None] = {}
    for entry in entries[:MOST_KEPT]:
        added_id, _, key = entry.partition(":") if isinstance(entry, str) else ("", "", "")
        # Anybody can write into their own browser: only what looks like an id goes on.
        if ADDED_ID.fullmatch(added_id):
            found[added_id] = key if _SECRET.fullmatch(key) else None
    return found


_JS = """
const NAME = "cist-studio-added"

export default function ({ data, parentElement, setStateValue }) {
  let kept = []
  try {
    const read = JSON.parse(localStorage.getItem(NAME) ?? "[]")
    if (Array.isArray(read)) kept = read.filter(id => typeof id === "string")
  } catch { /* closed or damaged storage keeps nothing */ }
  const byId = new Map()
  for (const entry of [...data.begun, ...kept]) {
    const id = entry.split(":")[0]
    if (!data.forgotten.includes(id) && !byId.get(id)?.includes(":")) byId.set(id, entry)
  }
  const isDraft = id => !data.ready.includes(id)
  const first = [...byId.keys()].sort((one, other) => isDraft(one) - isDraft(other)).slice(0, data.most)
  const ids = [...byId].filter(([id]) => first.includes(id)).map(([, entry]) => entry)
  try { localStorage.setItem(NAME, JSON.stringify(ids)) } catch { /* as above */ }
  const memory = parentElement.querySelector("span")
  if (ids.join() === memory.dataset.sent) return
  memory.dataset.sent = ids.join()
  // The server knows those that were begun here.
  if (ids.some(id => !data.begun.includes(id))) setStateValue("ids", ids)
}
"""

_MEMORY = st.components.v2.component("cist_browser_memory", html="<span></span>", js=_JS)
