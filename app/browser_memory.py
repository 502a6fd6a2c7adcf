"""What the browser keeps of what was added in it: ids and keys, in its local storage, for its other tabs and days."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import streamlit as st

from cist_core.added.store import ADDED_ID

MOST_KEPT = 50
_KEY = "browser_memory"
_ENTRY = re.compile(rf"{ADDED_ID.pattern}(:[0-9a-f]{{32}})?")


def keep_in_browser(
    begun: Sequence[str], keys: Mapping[str, str], forgotten: Sequence[str], *, surplus: Sequence[str] = ()
) -> None:
    """Let the browser keep these ids and forget those; it tells the others that it has, which runs the app again.

    Args:
        begun: ids to keep, the newest first.
        keys: of those that may be changed, by id.
        forgotten: ids to keep no more.
        surplus: which of more than `MOST_KEPT` go, once the app knows all that the browser has.
    """
    begun = [f"{each}:{keys[each]}" if each in keys else each for each in begun]
    with st.container(key="browser-memory"):
        data = {"begun": begun, "forgotten": list(forgotten), "surplus": list(surplus), "entry": _ENTRY.pattern}
        _MEMORY(key=_KEY, data=data, on_ids_change=lambda: None)


def kept_by_browser() -> dict[str, str | None]:
    """What this browser has told of last: ids, the newest first, each with the key that lets it be changed."""
    entries = (st.session_state.get(_KEY) or {}).get("ids") or []
    found: dict[str, str | None] = {}
    for entry in entries[:MOST_KEPT]:
        # Anybody can write into their own browser: only what looks like an id, or like one with a key, goes on.
        if isinstance(entry, str) and _ENTRY.fullmatch(entry):
            added_id, _, key = entry.partition(":")
            found[added_id] = key or None
    return found


_JS = """
const NAME = "cist-studio-added"

export default function ({ data, parentElement, setStateValue }) {
  const looksRight = new RegExp(`^${data.entry}$`)
  let kept = []
  try {
    const read = JSON.parse(localStorage.getItem(NAME) ?? "[]")
    if (Array.isArray(read)) kept = read.filter(entry => typeof entry === "string" && looksRight.test(entry))
  } catch { /* closed or damaged storage keeps nothing */ }
  const byId = new Map()
  for (const entry of [...data.begun, ...kept]) {
    const id = entry.split(":")[0]
    if (!data.forgotten.includes(id) && !byId.get(id)?.includes(":")) byId.set(id, entry)
  }
  // What another tab has just added is told before anything goes: only the server knows what is a draft.
  const untold = [...byId.values()].filter(entry => !data.begun.includes(entry))
  const told = [...byId.values()].filter(entry => data.begun.includes(entry))
  const left = untold.length ? told : told.filter(entry => !data.surplus.includes(entry.split(":")[0]))
  try { localStorage.setItem(NAME, JSON.stringify([...untold, ...left])) } catch { /* as above */ }
  const memory = parentElement.querySelector("span")
  if (untold.join() === (memory.dataset.told ?? "")) return
  memory.dataset.told = untold.join()
  if (untold.length) setStateValue("ids", untold)
}
"""

_MEMORY = st.components.v2.component("cist_browser_memory", html="<span></span>", js=_JS)
