"""Which models there are: those that ship, and what visitors have added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from app.browser_memory import MOST_KEPT, keep_in_browser, kept_by_browser
from app.forms.references import InFile, Named, OfText, Reference, known_as
from app.people import may_read_server_paths, on_own_machine, sign_in_configured, visitor
from app.state import Source
from cist_core.added import Added, AddedState, AddedStore, check_paths
from cist_core.added.roots import check_path
from cist_core.added.store import ADDED_ID
from cist_core.cards import Card, find_sample_model, known_sample_models, sample_models
from cist_core.data.loading import DATASETS
from cist_core.errors import CistError
from cist_core.language.text_predictions import TextPredictions
from cist_core.language.token_set import TokenSet
from cist_core.logits.logit_set import LogitSet

_BEGUN, _KEYS, _LINKED, _FORGOTTEN = "_added", "_added_keys", "_linked", "_forgotten"
_LIST_SECONDS = 10  # until something that was added in another window is offered in this one


def cards() -> dict[str, Card]:
    """Teachers before students, and the one whose images come along first: it is what the app opens on.

    Raises:
        CistError: if there are none, or one was trained on data that nobody knows.
    """
    found = sample_models()
    if not found:
        raise CistError(f"Expected a sample model to open on, but there are {known_sample_models()}.")
    for card in found:
        if card.data not in DATASETS:
            raise CistError(
                f"The card of {card.name} names the data set '{card.data}'; expected one of {', '.join(DATASETS)}."
            )
    return {
        card.name: card
        for card in sorted(found, key=lambda card: (card.role != "teacher", not DATASETS[card.data].bundled))
    }


def suitable_data(card: Card) -> list[str]:
    """The data set of the model first, then those with as many classes and images of the same shape."""
    own = DATASETS[card.data]
    others = (info for info in DATASETS.values() if info is not own)
    return [
        own.name,
        *(info.name for info in others if (info.classes, info.image_shape) == (own.classes, own.image_shape)),
    ]


def fitting_cards(known: Mapping[str, Card], teacher: str, data: str, *, first: str) -> list[Card]:
    """Those of `cards` beside a teacher that answer these data: of a role first, then those trained on them."""
    fitting = [card for card in known.values() if card.name != teacher and data in suitable_data(card)]
    return sorted(fitting, key=lambda card: (card.role != first, card.data != data))


# ---- what was added --------------------------------------------------------------------------------------------------


def added_store() -> AddedStore:
    """The store as the visitor may use it; where there is no sign-in, by the keys that their browser has.

    Raises:
        CistError: if nobody is signed in who would have to be.
    """
    if not sign_in_configured():
        return AddedStore(keys=None if on_own_machine() else st.session_state.setdefault(_KEYS, {}))
    who = visitor()
    if who is None:
        raise CistError("What is added belongs to whoever added it; sign in to add something of your own.")
    return AddedStore(owner=who)


def remember(added_id: str, *, key: str | None = None, linked: bool = False) -> None:
    """Offer something to this session, beside what its visitor owns: begun here, or shown by a link.

    Args:
        added_id: of it.
        key: lets this session change it.
        linked: whether a link has shown it.
    """
    if key is not None:
        st.session_state.setdefault(_KEYS, {})[added_id] = key
    ids: list[str] = st.session_state.setdefault(_LINKED if linked else _BEGUN, [])
    if added_id not in ids:
        ids.insert(0, added_id)


def forget(added_id: str) -> None:
    """Stop offering it."""
    st.session_state.setdefault(_FORGOTTEN, []).append(added_id)
    for ids in (st.session_state.get(_BEGUN, []), st.session_state.get(_LINKED, [])):
        if added_id in ids:
            ids.remove(added_id)


def find_added(added_id: str) -> Added | None:
    """What was added under this id, to look at, if it is still there.

    Whoever knows an id may: it cannot be guessed, and is what a link passes on. Where people sign in, they have to.
    """
    if not ADDED_ID.fullmatch(added_id):
        return None  # the name of a model that ships, as every run asks of several
    try:
        return added_store().snapshot(added_id)
    except CistError:
        return None


def is_mine(added_id: str) -> bool:
    """Whether the visitor may change it, and knows of the files that it names."""
    try:
        added_store().own_snapshot(added_id)
    except CistError:
        return False
    return True


def offer_linked(name: str) -> None:
    """Offer what a link names, if it is there and was added."""
    if find_added(name) is not None and find_sample_model(name) is None:
        remember(name, linked=True)


def why_not_here(name: str) -> str:
    """What to say, beside that it is not here, of something that a link names; empty where there is nothing to say."""
    return "It may have been deleted, or belong to somebody who has signed in." if ADDED_ID.fullmatch(name) else ""


def recall() -> None:
    """Offer what this browser has added in other tabs and on other days."""
    for added_id, key in reversed(kept_by_browser().items()):
        if added_id not in st.session_state.get(_FORGOTTEN, []):
            remember(added_id, key=key)


def let_browser_remember() -> None:
    """After the page, so that what it began is kept as well. Only where nobody signs in, and not on one's own machine:
    there the store knows.
    """
    if not sign_in_configured() and not on_own_machine():
        begun = st.session_state.get(_BEGUN, [])
        surplus = surplus_of(begun) if len(begun) > MOST_KEPT else []
        keep_in_browser(begun, st.session_state.get(_KEYS, {}), st.session_state.get(_FORGOTTEN, []), surplus=surplus)


def surplus_of(begun: Sequence[str]) -> list[str]:
    """Which of these ids, the newest first, are more than a browser keeps: what is gone, then drafts, then the rest,
    the oldest first; never the last that was begun, which may be a draft in somebody's hands.
    """
    found = {added.id: added for added in my_added()}
    oldest_first = list(reversed(begun))
    oldest_first.sort(key=lambda each: found[each].created_at if each in found else 0.0)
    oldest_first = [each for each in oldest_first[:-1] if each != begun[0]]
    drafts = [each for each in oldest_first if each in found and found[each].state is AddedState.DRAFT]
    gone = [each for each in oldest_first if each not in found]
    return list(dict.fromkeys([*gone, *drafts, *oldest_first]))[: len(begun) - MOST_KEPT]


def my_added() -> list[Added]:
    """Yours, the newest first: what the one who has signed in owns, what this browser has added, or, on one's own
    machine, everything.
    """
    try:
        store = added_store()
    except CistError:
        return []
    yours = store.owner is not None or on_own_machine()
    owned = _owned(str(store.root), store.owner) if yours else []
    found = []
    for added_id in dict.fromkeys([*st.session_state.get(_BEGUN, []), *owned]):
        with suppress(CistError):  # deleted meanwhile, or of somebody who has signed out
            found.append(store.own_snapshot(added_id))
    return found


@st.cache_data(ttl=_LIST_SECONDS, max_entries=256, show_spinner=False)
def _owned(root: str, owner: str | None) -> list[str]:
    """The ids of what somebody has added; every move of a slider asks, and it takes a look at what everybody has."""
    store = AddedStore(Path(root), owner=owner)
    return [added.id for added in (store.list_all() if owner is None else store.list_added())]


class Seen(NamedTuple):
    """What was added, each as it was found once: what the visitor has added, and what a link has shown.

    Attributes:
        added: by their ids.
        mine: the ids of those that the visitor may change, and of whose files they know.
    """

    added: Mapping[str, Added]
    mine: frozenset[str]

    @property
    def ready(self) -> dict[str, Added]:
        """Those that can be looked at."""
        return {name: added for name, added in self.added.items() if added.state is AddedState.READY}


def seen_added(*, linked: Sequence[str] = ()) -> Seen:
    """What there is to offer, of which each file is read once.

    Args:
        linked: what a link names; from now on it is offered as well, if it is there and was added.
    """
    found = {added.id: added for added in my_added()}
    mine = set(found)
    for name in dict.fromkeys([*st.session_state.get(_LINKED, []), *linked]):
        if name in found or (other := find_added(name)) is None or find_sample_model(name) is not None:
            continue
        found[name] = other
        with suppress(CistError):  # somebody else's
            added_store().check_own(other)
            mine.add(name)
    for name in linked:
        if name in found:
            remember(name, linked=True)
    return Seen(found, frozenset(mine))


def ready_added() -> dict[str, Added]:
    """Those of `my_added` that can be looked at, and what a link has shown."""
    return seen_added().ready


def alike_added(teacher: str, shape: tuple[int, ...]) -> list[str]:
    """The others of `ready_added` with as many samples and classes; texts are not among them."""
    others = ((name, other) for name, other in ready_added().items() if name != teacher and not other.of_text)
    return [name for name, other in others if other.shape == shape]


def alike_texts(teacher: str, text: TextPredictions) -> list[str]:
    """The others of `ready_added` that are a language model on the same tokens."""
    found = []
    for name, other in ready_added().items():
        if name != teacher and other.of_text:
            with suppress(CistError):
                text.tokens.check_same_tokens(TokenSet.load(other.logit_file))
                found.append(name)
    return found


def check_readable(added: Added) -> None:
    """Refuse to open the files behind something that was added, where they are no longer what may be read.

    Raises:
        CistError: naming the file.
    """
    if added.spec is not None:
        check_paths(added.spec, added.uploads, server_paths=may_read_server_paths())


def may_read(added: Added, file: str) -> bool:
    """Whether one file or folder behind something that was added is there, and is still what may be read."""
    try:
        check_path(file, added.uploads, server_paths=may_read_server_paths())
    except CistError:
        return False
    return True


def title_of(name: str) -> str:
    """What people call a model: its name, or the title under which it was added."""
    added = find_added(name)
    return name if added is None else added.title


def titles(names: Sequence[str], seen: Seen | None = None) -> dict[str, str]:
    """What people call these models; those of one title are told apart by when they were added, or by a number.

    Args:
        names: of them.
        seen: what was added, where it has been looked at already.
    """
    shown: dict[str, str] = {}
    for name in names:
        added = find_added(name) if seen is None else seen.added.get(name)
        title = name if added is None else added.title
        if added is not None and title in shown.values():
            title = f"{title}, {datetime.fromtimestamp(added.created_at):%d %b %H:%M}"
        other = 2
        while title in shown.values():
            title, other = f"{title.removesuffix(f' ({other - 1})')} ({other})", other + 1
        shown[name] = title
    return shown


def data_of(added: Added) -> tuple[str, str]:
    """What something that was added was computed on: data and split, in words that fit into a link."""
    spec = added.spec
    assert spec is not None
    if spec.model is not None:
        known = spec.model.data in DATASETS
        preview = added.preview
        split = spec.model.split if preview is None or preview.split is None else preview.split
        return spec.model.data if known else _called(spec.model.data), split
    if spec.language is not None:
        return _called(spec.language.texts), "all"
    assert spec.logits is not None
    return _called(spec.logits.teacher), "all"


def _called(path: str) -> str:
    """A file or folder in words that no data set or model goes by."""
    name = Path(path).name
    return name if "." in name else f"{name}/"


def own_student(added: Added) -> str | None:
    """The name of the student whose logits were added along."""
    if added.student_file is None or added.spec is None or added.spec.logits is None:
        return None
    return _called(str(added.spec.logits.student))


def student_of(added: Added) -> tuple[LogitSet, Reference]:
    """The logits of the student that was added along, and how to find them again."""
    assert added.student_file is not None
    assert added.spec is not None
    assert added.spec.logits is not None
    files = added.spec.logits
    return LogitSet.load(added.student_file), InFile(_known_as(str(files.student), added), given_as=files.given_as)


def reference(name: str, data: str, split: str) -> Reference:
    """How the logits of a model, shipped or added, are found without the app."""
    added = find_added(name)
    if added is None:
        return Named(name, data, split)
    assert added.spec is not None
    files, language = added.spec.logits, added.spec.language
    if language is not None:
        return OfText(_known_as(language.model, added), _known_as(language.texts, added), language.length)
    if files is None:
        return InFile(download_name(added))  # computed here: the Add page hands them out under this name
    labels = None if files.labels is None else _known_as(files.labels, added)
    return InFile(_known_as(files.teacher, added), labels, files.given_as, files.class_map)


def _known_as(path: str, added: Added) -> str:
    return known_as(path, added.uploads, own=is_mine(added.id))


def comparable_models(source: Source) -> list[str]:
    """Every other model that answers the same samples, as far as can be told: what was added, then what ships."""
    if source.text is not None:
        return alike_texts(source.teacher, source.text)
    shipped = fitting_cards(cards(), source.teacher, source.data, first="teacher")
    return [*alike_added(source.teacher, source.logit_set.logits.shape), *(card.name for card in shipped)]


def download_name(added: Added) -> str:
    """What the file with all logits of something that was added is called."""
    return f"{added.id.rpartition('-')[0]}.safetensors"


def load(name: str, data: str, split: str) -> LogitSet | TextPredictions:
    """What a model, shipped or added, says of its samples, if it needs no waiting for a download.

    Raises:
        CistError: if they cannot be had.
    """
    added = find_added(name)
    if added is not None:
        return TextPredictions.load(added.folder) if added.of_text else LogitSet.load(added.logit_file)
    from cist_core.inference.sources import load_logits

    return load_logits(name, data, split).logit_set
