"""Start from: what a first visitor can look at, each by one press, until something has been chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from app import catalogue
from app.state import View
from app.widgets import plain, show_error
from cist_core.added import AddedState, AddedStore
from cist_core.data.loading import DATASETS
from cist_core.errors import CistError
from cist_core.language.known import known_language_models, lacking
from cist_core.logits.synthetic import imagenet_shaped
from cist_core.wording import percent

SYNTHETIC = "ImageNet-shaped, synthetic"
_CHOSEN, _FAULT = "_start_chosen", "_start_fault"
_SOURCE = ("teacher", "data", "split", "student")


class _Card(NamedTuple):
    key: str
    title: str
    words: str
    open: Callable[[], None]


def greet() -> None:
    """Look whether the address names a source, on whatever page; before the sidebar is drawn, as what stands at its
    default there does not stay in the address.
    """
    if any(key in st.query_params for key in _SOURCE):
        st.session_state[_CHOSEN] = True


def show_start(view: View) -> None:
    """A row of cards, for somebody whose address names no source, and who has not chosen one yet."""
    place = st.empty()  # on every run, or everything below it would move by one place
    greet()  # once more, as the sidebar has written what was chosen in this run
    if st.session_state.get(_CHOSEN):
        return
    with place.container(key="start-from", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="start-cards"):
            st.markdown("Start from", width="content")
            for card in _cards(view):
                st.button(
                    f"**{plain(card.title)}** :small[{plain(card.words)}]", key=f"start-{card.key}", on_click=card.open
                )
            _show_language_card()
            # The rest of the address goes along by itself.
            if st.button("**Yours** :small[logits, or a model and data]", key="start-yours"):
                st.switch_page("../pages/add.py", query_params={})
        fault = st.session_state.pop(_FAULT, None)
        if fault is not None:
            show_error(fault)


def _cards(view: View) -> list[_Card]:
    """A teacher for each data set that one ships for, and one that is made."""
    found: dict[str, _Card] = {}
    for card in catalogue.cards().values():
        if card.role != "teacher" or card.data in found:
            continue
        shown = card.name == view.source.teacher
        test = card.accuracy.get("test")
        words = "shown now" if shown else "" if test is None else f"accuracy {percent(test)}"
        words = ", ".join(filter(None, (f"{card.num_classes:,} classes", words)))
        title = DATASETS[card.data].title if card.data in DATASETS else ""
        found[card.data] = _Card(card.name, title or card.data, words, partial(_choose, card.name))
    made = [_Card("synthetic", "ImageNet-shaped", "1,000 classes, synthetic", _make)] if _may_add() else []
    return [*found.values(), *made]


def _show_language_card() -> None:
    """The language model that ships, where it is here; it is looked at on a page of its own."""
    try:
        model = next((one for one in known_language_models() if one.role == "teacher" and one.card), None)
    except CistError as error:
        show_error(error)
        return
    if model is None or lacking() is not None:
        return
    words = f"vocabulary of {model.vocabulary:,}, {model.name}"
    if st.button(f"**Language** :small[{plain(words)}]", key="start-language"):
        st.switch_page("../pages/tokens.py", query_params={})


def _choose(teacher: str) -> None:
    st.session_state[_CHOSEN] = True
    st.session_state["teacher"] = teacher


def _may_add() -> bool:
    """Whether this visitor has a store, which the sample that is made goes into."""
    try:
        catalogue.added_store()
    except CistError:
        return False
    return True


def _make() -> None:
    """Open the sample that is there, or make it."""
    try:
        added_id = _sample()
    except CistError as error:
        st.session_state[_FAULT] = error
        return
    st.session_state[_CHOSEN] = True
    catalogue.remember(added_id, linked=True)
    st.session_state["teacher"] = added_id


def _sample() -> str:
    """The id of the sample: one listed on one's own machine, or that which all visitors of this server share."""
    for added in catalogue.my_added():
        if added.title == SYNTHETIC and added.state is AddedState.READY:
            return added.id
    root = str(AddedStore().root)
    if catalogue.find_added(_made(root)) is None:  # it had to make room
        _made.clear()
    return _made(root)


@st.cache_resource(show_spinner=False, max_entries=1)
def _made(root: str) -> str:
    """Makes the sample under a key that no browser gets: nobody deletes what others look at."""
    return AddedStore(Path(root), keys={}).add_logits(imagenet_shaped(), title=SYNTHETIC).id
