"""Charts are drawn in the colours of the theme, which the browser may change on an open page."""

from __future__ import annotations

import streamlit as st


def follow_theme() -> None:
    """Run the app again when the system turns light or dark: Streamlit tells the server with the next click only."""
    with st.container(key="theme-watch"):
        _WATCH(key="theme_watch", data={"drawn": st.context.theme.type}, on_turned_change=lambda: None)


_JS = """
export default function ({ data, setTriggerValue }) {
  // Streamlit calls this again when the theme is another.
  const shown = getComputedStyle(document.querySelector("[data-testid=stApp]")).colorScheme
  if (shown === data.drawn) delete window.cistThemeTold
  else if (window.cistThemeTold !== shown) {
    window.cistThemeTold = shown  // once, or a server that stays with the other would be asked for ever
    setTriggerValue("turned", shown)
  }
}
"""

_WATCH = st.components.v2.component("cist_theme_watch", html="<span></span>", js=_JS)
