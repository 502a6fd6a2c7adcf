"""What a link asks for: choices whose names in the address are not those on the screen, and links that lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.settings import linked, page_setting
from app.widgets import plain

_UNFOLLOWED = "_unfollowed_link"
_UNTIDY = re.compile(r"[^A-Za-z0-9_-]+")  # in a name of CSS


class _Unfollowed(NamedTuple):
    """Why a link is not followed, and the values of its key under which that is still so."""

    sentence: str
    while_shown: tuple[object, ...]


def follow(key: str, offered: Sequence[str], what: str, *, why: str = "", depends: bool = False) -> None:
    """Before a widget that is bound to the address is drawn: remember what a link asks of it and cannot have.

    Streamlit itself takes such a value out of the address and says nothing.

    Args:
        key: of the widget, and the name of its query parameter.
        offered: what it has; the first is what it starts at.
        what: that is chosen, in words.
        why: more to say.
        depends: whether what it has depends on other choices, so that a value of the session may be an earlier one's.
    """
    mine = key in st.session_state
    asked = st.session_state[key] if mine else st.query_params.get(key)
    if asked is None or asked == "" or asked in offered:
        return
    if mine:
        st.session_state[key] = offered[0]
    if not (mine and depends):
        sentence = f"The link asks for the {what} “{str(asked)[:80]}”, which is not here; shown is {offered[0]}."
        unfollowed(key, f"{sentence} {why}".strip(), while_shown=(offered[0], asked))


def follow_number(key: str, low: float, high: float, start: float, what: str) -> None:
    """The same before a slider is drawn, of a number that it cannot have; ``start`` is shown then."""
    asked = None if key in st.session_state else st.query_params.get(key)
    try:
        if asked is None or low <= float(asked) <= high:
            return
    except ValueError:
        pass
    sentence = (
        f"The link asks for “{str(asked)[:80]}” as {what}, which is no number from {low:g} to {high:g}; "
        f"shown is {start:g}."
    )
    unfollowed(key, sentence, while_shown=(start,))


def unfollowed(key: str, sentence: str, *, while_shown: Sequence[object]) -> None:
    """Say of a link why it cannot be followed, until the session has another value under this key than these."""
    st.session_state.setdefault(_UNFOLLOWED, {})[key] = _Unfollowed(sentence, tuple(while_shown))


def say_unfollowed(place: DeltaGenerator, *keys: str) -> None:
    """The sentences about these keys that still hold, as one warning; after their widgets are drawn."""
    known: dict[str, _Unfollowed] = st.session_state.get(_UNFOLLOWED, {})
    for key in [key for key in keys if key in known and st.session_state.get(key) not in known[key].while_shown]:
        del known[key]
    sentences = [known[key].sentence for key in keys if key in known]
    if sentences:
        place.warning(plain(" ".join(sentences)), icon=":material/link_off:")


def titled_selectbox(
    label: str,
    options: Sequence[str],
    *,
    key: str,
    titles: Mapping[str, str],
    place: DeltaGenerator,
    **arguments: Any,
) -> str:
    """A select box that shows titles, while the address keeps the names, which are what a link passes on.

    Streamlit writes into the address what a box shows. So a field that nobody sees is bound to it, and moves the box.

    Args:
        label: of the box.
        options: names; the first is the default. ``session_state[key]`` is the one that is chosen.
        key: of the choice, and the name of its query parameter.
        titles: of the names.
        place: where it is drawn.
        arguments: of `st.selectbox`.
    """
    chosen = _hidden(place, options[0], linked(key))
    chosen = chosen if chosen in options else options[0]  # the next run mends what a link has brought; see `follow`
    box = f"{key}_box"
    st.session_state[box] = chosen
    place.selectbox(
        label, options, key=box, format_func=titles.__getitem__, on_change=_take, args=(key, box), **arguments
    )
    return chosen


def titled_multiselect(
    label: str,
    options: Sequence[str],
    *,
    key: str,
    default: Sequence[str],
    titles: Mapping[str, str],
    **arguments: Any,
) -> list[str]:
    """The same for several, which the address has apart by commas; the link to the page carries them.

    Args:
        label: of the box.
        options: names.
        key: of the choice, and the name of its query parameter.
        default: those that are chosen to begin with.
        titles: of the names.
        arguments: of `st.multiselect`.
    """
    text = _hidden(st.container(), ",".join(default), page_setting(key))
    box = f"{key}_box"
    st.session_state[box] = [name for name in dict.fromkeys(text.split(",")) if name in options]
    chosen = st.multiselect(
        label, options, key=box, format_func=titles.__getitem__, on_change=_take_all, args=(key, box), **arguments
    )
    return list(chosen)


def _hidden(place: DeltaGenerator, default: str, setting: dict[str, Any]) -> str:
    """A field that nobody sees, bound to the address."""
    name = _UNTIDY.sub("-", setting["key"])
    with place.container(key=f"address-{name}"):
        return str(st.text_input(f"address-{name}", default, label_visibility="collapsed", **setting))


def _take(key: str, box: str) -> None:
    st.session_state[key] = st.session_state[box]


def _take_all(key: str, box: str) -> None:
    st.session_state[key] = ",".join(st.session_state[box])
