"""What a link asks for: choices whose names in the address are not those on the screen, and links that lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.settings import page_setting
from app.widgets import plain

_UNTIDY = re.compile(r"[^A-Za-z0-9_-]+")  # in a name of CSS


class _Unfollowed(NamedTuple):
    """Why a link is not followed, and the values of its key under which that is still so; None: those shown first."""

    sentence: str
    while_shown: tuple[object, ...] | None


def follow(
    key: str,
    offered: Sequence[str],
    what: str,
    *,
    titles: Mapping[str, str] | None = None,
    why: str = "",
    depends: bool = False,
) -> bool:
    """Before a widget that is bound to the address is drawn: remember what a link asks of it and cannot have.

    Streamlit itself takes such a value out of the address and says nothing.

    Args:
        key: of the widget, and the name of its query parameter.
        offered: what it has; the first is what it starts at.
        what: that is chosen, in words.
        titles: what the names are called on the screen; themselves if None.
        why: more to say.
        depends: whether what it has depends on other choices, so that a value of the session may be an earlier one's.

    Returns:
        Whether it can have what is asked; if not, the session has what it starts at.
    """
    mine = key in st.session_state
    asked = st.session_state[key] if mine else st.query_params.get(key)
    if asked is None or asked == "" or asked in offered:
        return True
    if mine:
        st.session_state[key] = offered[0]
    if not (mine and depends):
        shown = offered[0] if titles is None else titles[offered[0]]
        sentence = f"The link asks for the {what} “{str(asked)[:80]}”, which is not here; shown is {shown}."
        unfollowed(key, f"{sentence} {why}".strip(), while_shown=(offered[0], asked))
    return False


def follow_number(key: str, low: float, high: float, what: str) -> None:
    """The same before a slider or a field is drawn, of a number that it cannot have."""
    asked = None if key in st.session_state else st.query_params.get(key)
    if asked is not None and not is_number(asked, low, high):
        words = f"“{asked[:80]}”" if asked else "nothing"
        sentence = f"The link asks for {words} as {what}, which is no number from {low:g} to {high:g}"
        _unfollowed()[key] = _Unfollowed(sentence, None)


def is_number(text: str, low: float, high: float) -> bool:
    """Whether a text is a number from ``low`` to ``high``."""
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def unfollowed(key: str, sentence: str, *, while_shown: Sequence[object]) -> None:
    """Say of a link why it cannot be followed, until the session has another value under this key than these."""
    _unfollowed()[key] = _Unfollowed(sentence, tuple(while_shown))


def _unfollowed() -> dict[str, _Unfollowed]:
    known: dict[str, _Unfollowed] = st.session_state.setdefault("_unfollowed_link", {})
    return known


def say_unfollowed(place: DeltaGenerator, *keys: str) -> None:
    """The sentences about these keys that still hold, as one warning; after their widgets are drawn."""
    known, sentences = _unfollowed(), []
    for key in (key for key in keys if key in known):
        shown = st.session_state.get(key)
        if known[key].while_shown is None and shown is not None:
            known[key] = _Unfollowed(f"{known[key].sentence}; shown is {shown:g}.", (shown,))
        if shown in (known[key].while_shown or ()):
            sentences.append(known[key].sentence)
        else:
            del known[key]
    if sentences:
        place.warning(plain(" ".join(sentences)), icon=":material/link_off:")


def titled_choice(
    widget: Callable[..., Any],
    label: str,
    titles: Mapping[str, str],
    *,
    setting: dict[str, Any],
    place: DeltaGenerator | None = None,
    default: str | None = None,
    unsaid: str | None = None,
    **arguments: Any,
) -> str:
    """Let somebody choose one of several names, shown by their titles; the name chosen, which the address keeps.

    Streamlit writes into the address what a box shows. So a field that nobody sees is bound to it, and moves the box.

    Args:
        widget: `selectbox`, `radio` or `segmented_control` of a place.
        label: of the widget.
        titles: of every name that is offered, in order.
        setting: `linked` or `page_setting`, with the key of the choice, which is the name of its query parameter;
            ``session_state`` has the chosen name under it.
        place: where the hidden field is; here if None.
        default: what it starts at; the first name if None.
        unsaid: what the address leaves out: the default if None, else no name, so that each name is in it.
        arguments: of the widget.
    """
    key, default = setting["key"], next(iter(titles)) if default is None else default
    chosen = hidden_field(place, default if unsaid is None else unsaid, setting)
    chosen = chosen if chosen in titles else default  # the next run mends what a link has brought; see `follow`
    box = f"{key}_box"
    st.session_state[box] = chosen
    widget(label, list(titles), key=box, format_func=titles.__getitem__, on_change=_take, args=(key, box), **arguments)
    return chosen


def asked_for(key: str) -> str:
    """What the session, or its link, names."""
    return str(st.session_state.get(key) or st.query_params.get(key, ""))


def page_choice(
    widget: Callable[..., Any],
    label: str,
    titles: Mapping[str, str],
    *,
    key: str,
    what: str,
    default: str | None = None,
    depends: bool = False,
    why: str = "",
    notices: DeltaGenerator | None = None,
    **arguments: Any,
) -> str:
    """`titled_choice` of one page, which the link to the page carries; above it stands what a link cannot have.

    Args:
        widget: `st.selectbox` or `st.radio`.
        label: of the widget.
        titles: of every name that is offered, in order.
        key: of the choice, and the name of its query parameter.
        what: that is chosen, in words.
        default: what it starts at; the first name if None.
        depends: whether what is offered depends on other choices; see `follow`.
        why: more to say of what a link cannot have.
        notices: where what a link cannot have is said, such as above a row of choices; here if None.
        arguments: of the widget.
    """
    start = next(iter(titles)) if default is None else default
    notice = (st if notices is None else notices).empty()
    follow(key, [start, *titles], what, titles=titles, why=why, depends=depends)
    chosen = titled_choice(widget, label, titles, setting=page_setting(key), default=start, **arguments)
    say_unfollowed(notice, key)
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
    text = hidden_field(None, ",".join(default), page_setting(key))
    box = f"{key}_box"
    st.session_state[box] = [name for name in dict.fromkeys(text.split(",")) if name in options]
    chosen = st.multiselect(
        label, options, key=box, format_func=titles.__getitem__, on_change=_take_all, args=(key, box), **arguments
    )
    return list(chosen)


def hidden_field(place: DeltaGenerator | None, default: str, setting: dict[str, Any]) -> str:
    """A field that nobody sees, bound to the address."""
    name = _UNTIDY.sub("-", setting["key"])
    with (st if place is None else place).container(key=f"address-{name}"):
        return str(st.text_input(f"address-{name}", default, label_visibility="collapsed", **setting))


def _take(key: str, box: str) -> None:
    st.session_state[key] = st.session_state[box]


def _take_all(key: str, box: str) -> None:
    st.session_state[key] = ",".join(st.session_state[box])
