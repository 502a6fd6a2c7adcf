"""Which models there are: those that ship, and what visitors have added."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.people import visitor
from app.references import InFile, Named, Reference, own_name
from app.state import Source
from cist_core.added import Added, AddedState, AddedStore
from cist_core.cards import Card, known_sample_models, sample_models
from cist_core.data import DATASETS
from cist_core.errors import CistError
from cist_core.logits import LogitSet

_MINE = "_added"


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


# ---- what was added --------------------------------------------------------------------------------------------------


def remember(added_id: str) -> None:
    """Offer something that was added to this session, beside what its visitor owns."""
    mine: list[str] = st.session_state.setdefault(_MINE, [])
    if added_id not in mine:
        mine.insert(0, added_id)


def forget(added_id: str) -> None:
    """Stop offering it."""
    mine: list[str] = st.session_state.get(_MINE, [])
    if added_id in mine:
        mine.remove(added_id)


def find_added(added_id: str) -> Added | None:
    """What was added under this id, if it is still there and this visitor may see it.

    Whoever knows an id may: it cannot be guessed, and is what a link passes on. Only where people sign in, what
    belongs to somebody is shown to nobody who has not.
    """
    try:
        added = AddedStore().get(added_id)
        return added if added.owner is None or visitor() is not None else None
    except CistError:
        return None


def my_added() -> list[Added]:
    """What this session or its visitor has added, the newest first."""
    ids = [*st.session_state.get(_MINE, []), *(added.id for added in AddedStore().list(visitor()))]
    found = (find_added(added_id) for added_id in dict.fromkeys(ids))
    return [added for added in found if added is not None]


def ready_added() -> dict[str, Added]:
    """Those of `my_added` that can be looked at."""
    return {added.id: added for added in my_added() if added.state is AddedState.READY}


def title_of(name: str) -> str:
    """What people call a model: its name, or the title under which it was added."""
    added = find_added(name)
    return name if added is None else added.title


def data_of(added: Added) -> tuple[str, str]:
    """What something that was added was computed on: data and split, in words that fit into a link."""
    spec = added.spec
    assert spec is not None
    if spec.model is not None:
        return Path(spec.model.data).stem, spec.model.split
    assert spec.logits is not None
    return Path(spec.logits.teacher).stem, "all"


def own_student(added: Added) -> str | None:
    """The name of the student whose logits were added along."""
    if added.student_file is None or added.spec is None or added.spec.logits is None:
        return None
    return Path(str(added.spec.logits.student)).stem


def student_of(added: Added) -> tuple[LogitSet, Reference]:
    """The logits of the student that was added along, and how to find them again."""
    assert added.student_file is not None
    assert added.spec is not None
    assert added.spec.logits is not None
    files = added.spec.logits
    return LogitSet.load(added.student_file), InFile(
        own_name(str(files.student), added.uploads), given_as=files.given_as
    )


def reference(name: str, data: str, split: str) -> Reference:
    """How the logits of a model, shipped or added, are found without the app."""
    added = find_added(name)
    if added is None:
        return Named(name, data, split)
    assert added.spec is not None
    files = added.spec.logits
    if files is None:
        return InFile(download_name(added))  # computed here: the Add page hands them out under this name
    labels = None if files.labels is None else own_name(files.labels, added.uploads)
    return InFile(own_name(files.teacher, added.uploads), labels, files.given_as)


def beside(source: Source) -> list[str]:
    """Every other model that answers the same samples, as far as can be told: what was added, then what ships."""
    shape = source.logit_set.logits.shape
    added = [name for name, other in ready_added().items() if name != source.teacher and other.shape == shape]
    own = DATASETS.get(source.data)
    fitting = [
        card
        for card in sample_models()
        if own is not None
        and card.name != source.teacher
        and card.data in DATASETS
        and (DATASETS[card.data].classes, DATASETS[card.data].image_shape) == (own.classes, own.image_shape)
    ]
    return added + [
        card.name for card in sorted(fitting, key=lambda card: (card.role != "teacher", card.data != source.data))
    ]


def download_name(added: Added) -> str:
    """What the file with all logits of something that was added is called."""
    return f"{added.id.rpartition('-')[0]}.safetensors"


def load(name: str, data: str, split: str) -> LogitSet:
    """The logits of a model, shipped or added, that need no waiting for a download.

    Raises:
        CistError: if they cannot be had.
    """
    added = find_added(name)
    if added is not None:
        return LogitSet.load(added.logit_file)
    from cist_core.sources import load_logits

    return load_logits(name, data, split).logit_set
