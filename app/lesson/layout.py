"""How much room the lesson has: on a page, on a phone, or projected."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from app.lesson.window import USUAL, Window

_LAYOUT = "_lesson_layout"

# What stands above and below the pictures, in pixels: steps, title, sliders, findings.
_ABOVE_ON_A_PAGE, _ABOVE_PRESENTED, _ABOVE_ON_A_PHONE = 400, 385, 400
_LEAST, _MOST_ON_A_PAGE = 200, 440

PRESENTED = """
<style>
[data-testid=stSidebar], [data-testid=stSidebarCollapsedControl], [data-testid=stExpandSidebarButton],
[data-testid=stHeader], .st-key-lesson-questions, div:has(> .st-key-rules-bar) { display: none !important; }
[data-testid=stMainBlockContainer] { padding: 0.8rem 2rem 0.5rem !important; max-width: none; }
</style>
"""
"""Hides what a projector should not show, the empty bar of the sliders and the room above it among them."""


class Layout(NamedTuple):
    """Whether the lesson is presented, and in which window."""

    present: bool
    window: Window

    def picture_height(self, count: int) -> int:
        """Of each of so many pictures beside each other, in pixels: on a phone they stand under each other."""
        if self.window.is_phone:
            return max(130, (self.window.height - _ABOVE_ON_A_PHONE) // count)
        room = self.window.height - (_ABOVE_PRESENTED if self.present else _ABOVE_ON_A_PAGE)
        return max(_LEAST, room if self.present else min(room, _MOST_ON_A_PAGE))


def set_layout(layout: Layout) -> None:
    st.session_state[_LAYOUT] = layout


def current_layout() -> Layout:
    """That of this run; `pages/learn.py` sets it before it draws a step."""
    layout: Layout = st.session_state.get(_LAYOUT, Layout(False, Window(*USUAL)))
    return layout
