"""Which tokens of a passage are selected: the rule in text of the other pages, on a text that only this page has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.tokens.view import RHOS, Shown
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.language.passage import curves_of
from cist_core.language.token_set import TokenPair, TokenSet
from cist_core.samples.selection import Between, Selection
from cist_core.samples.table import SampleTable
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rule

SELECT = "tokens_select"
"""The rule's field and query parameter; `app.selection` has that of the samples that the other pages show."""
_POSITION = "position"


@dataclass(frozen=True)
class PassageTokens:
    """The tokens of a passage that count, as `SampleTable` reads them; N of them.

    Attributes:
        kinds: their types.
        positions: in the text.
        frequencies: how often each is among the tokens of the text that count.
        surprisals: ``-ln p`` at temperature 1.
        ranks: of the actual tokens.
    """

    kinds: NDArray[np.int64]
    positions: NDArray[np.int64]
    frequencies: NDArray[np.int64]
    surprisals: NDArray[np.float32]
    ranks: NDArray[np.int64]


@dataclass(frozen=True)
class StudentTokens:
    """The same tokens as a student beside the teacher reads them."""

    curves: EntropyCurves
    loss: NDArray[np.float32]


def measures_of(
    passage: Mapping[str, Any], read: TokenSet | TokenPair, rows: NDArray[np.int64], shown: Shown
) -> SampleTable:
    """What there is to select by.

    Args:
        passage: as `cist_core.language.passage.describe` makes it.
        read: what it was made of.
        rows: its tokens that count, in what was read.
        shown: where the controls stand, with a rho.
    """
    teacher, *students = read.models
    type_at = {token["position"]: token["type"] for token in passage["tokens"]}
    positions, ids = teacher.facts.positions[rows], teacher.facts.ids
    numbers, counts = np.unique(ids[teacher.facts.counted], return_counts=True)
    curves = curves_of(teacher, rows)
    return SampleTable(
        curves,
        read_rule(Fixed(shown.tau), curves),
        read_rule(Cist(shown.rho or RHOS[1], shown.floor), curves),
        student=StudentTokens(curves_of(students[0], rows), students[0].nll[rows]) if students else None,
        text=PassageTokens(
            np.array([type_at[position] for position in positions.tolist()], np.int64),
            positions,
            counts[np.searchsorted(numbers, ids[rows])],
            teacher.nll[rows],
            teacher.rank[rows].astype(np.int64),
        ),
    )


def _change_rule(change: Callable[[Selection], Selection]) -> None:
    """Change what the field says; what cannot be read is left as somebody has written it."""
    with suppress(CistError):
        st.session_state[SELECT] = str(change(Selection.parse(st.session_state.get(SELECT) or "")))


def stretch_of(rule: Selection) -> tuple[float | None, float | None] | None:
    """The positions that a rule holds the tokens between, None for an open end; None where it holds them nowhere."""
    for condition in rule.conditions:
        if isinstance(condition, Between) and condition.measure == _POSITION:
            return _closed(condition.low), _closed(condition.high)
    return None


def _closed(end: float) -> float | None:
    return None if math.isinf(end) else end


def without_stretch(rule: Selection) -> Selection:
    return rule.without(_POSITION)


def take_stretch(told: object) -> None:
    """Put a stretch that a hand has drawn into the rule, by its first and last position; None lifts it.

    What is no stretch changes nothing.
    """
    if told is None:
        lift_stretch()
    elif (
        isinstance(told, list) and len(told) == 2 and all(type(end) is int for end in told) and 0 <= told[0] <= told[1]
    ):
        _change_rule(lambda rule: rule.between(_POSITION, *told))


def lift_stretch() -> None:
    """Take the stretch out of the rule."""
    _change_rule(without_stretch)
