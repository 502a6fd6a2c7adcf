"""The tokens of a text in a table: where each stands, what the model expected there, and how sure it was."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from app.pages import FOLDER
from app.settings import page_setting
from app.state import View
from app.tokens.models import link_to_added
from app.tokens.texts import ADDED
from app.widgets import show_floor, show_table
from cist_core.data.dataset import evenly_spaced
from cist_core.language.pieces import TOKEN_TYPES
from cist_core.plain_text import written_out
from cist_core.samples.table import find_measure
from cist_core.wording import three_digits

FEW = 6
_START, _END = "\x02", "\x03"  # in no text that is shown
MOST = 200
"""Rows of the list; the export of the selection is on every chart."""
SORTS = ("entropy", "entropy_cist", "surprisal", "temperature", "ratio", "margin", "frequency", "position", "index")
_COLUMNS = {
    "Token": ("index", "%d", "Its number among the tokens that count"),
    "Entropy at τ": ("entropy", "%.3f", "Of the soft label at the fixed temperature, in nats"),
    "Under CIST": ("entropy_cist", "%.3f", "Of the soft label under CIST, in nats"),
    "τᵢ": ("temperature", "%.3f", "Its temperature under CIST, in logit units"),
    "Surprisal": ("surprisal", "%.2f", "-ln p of the actual token at temperature 1, in nats"),
    "Rank": ("rank", "%d", "Of the actual token, 1 for the most likely"),
    "Position": ("position", "%d", "Place in its text, counted from 0"),
    "Frequency": ("frequency", "%d", "How often it is among the tokens that count"),
}


def in_context(view: View, samples: Sequence[int] | NDArray[np.integer], marks: str = "«»") -> list[str]:
    """Each token between marks, with what stands before and after it in its text, as plain text."""
    text = view.source.text
    assert text is not None
    found = []
    for sample in map(int, samples):
        before, after = text.context(sample)
        found.append(f"{_one_line(before)}{marks[0]}{text.word(sample)}{marks[1]}{_one_line(after)}")
    return found


def show_few(view: View) -> None:
    """A few tokens from the least to the largest entropy at the fixed temperature, each in its text."""
    order = np.argsort(view.fixed.entropy, kind="stable")
    shown = order[evenly_spaced(len(order), min(FEW, len(order)))]
    lines = (
        f"<li>{escape(line).replace(_START, '<mark>').replace(_END, '</mark>')}"
        f"<span>{three_digits(float(view.fixed.entropy[sample]))} nats at τ, "
        f"{three_digits(float(view.cist.entropy[sample]))} under CIST</span></li>"
        for sample, line in zip(shown, in_context(view, shown, _START + _END), strict=True)
    )
    # One element: each of them costs the server time on every move of a slider.
    st.html(f'<p>From the least to the largest entropy at τ</p><ol class="cist-tokens">{"".join(lines)}</ol>')


def _one_line(text: str) -> str:
    return written_out(text.replace("\r\n", "↵").replace("\n", "↵").replace("\t", "⇥"))


def token_table(view: View, samples: NDArray[np.int64]) -> pd.DataFrame:
    """One row a token; entropies in nats."""
    text, table = view.source.text, view.samples
    assert text is not None
    names, expected = text.class_names, table.column("prediction")[samples]
    measured = {title: table.column(name)[samples] for title, (name, _, _) in _COLUMNS.items()}
    return pd.DataFrame(
        {
            "Token": measured.pop("Token"),
            "In the text": in_context(view, samples),
            "Type": [TOKEN_TYPES[kind] for kind in text.kinds[samples]],
            "Expected": [names[number] for number in expected],
            **measured,
        }
    )


def show_tokens(view: View, samples: NDArray[np.int64], *, key: str) -> None:
    """The table of these tokens."""
    numbers = {
        title: st.column_config.NumberColumn(format=format_, help=help_)
        for title, (_, format_, help_) in _COLUMNS.items()
    }
    show_table(
        token_table(view, samples),
        key=key,
        alt=f"{len(samples):,} tokens in their text, with the entropies of their soft labels under both rules",
        columns={
            **numbers,
            "In the text": st.column_config.TextColumn(
                width="large",
                help="The token in marks, between those before and after it; · is a space, ↵ a line end",
            ),
            "Expected": st.column_config.TextColumn(help="The most likely token"),
        },
    )


def list_tokens(view: View) -> None:
    """The selected tokens in an order that somebody chooses, instead of the gallery of images."""
    by, up = st.columns([3, 2], vertical_alignment="bottom")
    name = by.selectbox(
        "Sort by", SORTS, **page_setting("tokens_sort", keep=False),
        help="; ".join(f"`{name}`: {find_measure(name).help.lower()}" for name in SORTS),
    )  # fmt: skip
    ascending = up.toggle("Ascending", **page_setting("tokens_ascending", keep=False))
    every = np.arange(view.samples.num_samples)
    chosen = every if view.selected is None else np.flatnonzero(view.selected)
    values = view.samples.column(str(name))[chosen].astype(np.float64)
    order = chosen[np.argsort(values if ascending else -values, kind="stable")]
    if not len(order):
        st.info("No token fulfils all conditions of the selection.", icon=":material/filter_alt_off:")
        return
    show_tokens(view, order[:MOST], key="samples-tokens")
    if len(order) > MOST:
        st.caption(f"The first {MOST:,} of {len(order):,} tokens.")
    show_floor(view.cist)
    if (FOLDER / "tokens.py").is_file():
        link = link_to_added(view.source.teacher)
        st.page_link(
            "../pages/tokens.py",
            label=f"{'This' if ADDED in link else 'A'} text token by token, as it reads",
            icon=":material/short_text:",
            query_params=link,
        )
