"""The coloured passage as a picture: the numbers and colours of `tokens.js`, for a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.tokens.ranking import ranking_of
from app.tokens.view import Shown, scales_of
from cist_core.charts.figure import Figure
from cist_core.charts.tokens import TokenScale, token_text_figure
from cist_core.language.token_set import TokenPair, TokenSet

_OF_THE_MEAN = "× the mean"


def picture_of(
    passage: Mapping[str, Any],
    read: TokenSet | TokenPair,
    rows: NDArray[np.int64],
    shown: Shown,
    *,
    title: str,
    before: TokenPair | None = None,
    selected: NDArray[np.int64] | None = None,
) -> Figure:
    """A passage in its colours.

    Args:
        passage: as `cist_core.language.passage.describe` makes it.
        read: what it was made of.
        rows: its tokens in what was read.
        shown: where the controls stand, with a rho.
        title: the finding.
        before: what the teacher and the student before its training expected of the same text.
        selected: the positions of the selected tokens, beside which the others stand back; None: those of a prompt do.
    """
    ranking = ranking_of(read, replace(shown, matched=False), before=before)  # with the rho of this passage
    positions = np.array([token["position"] for token in passage["tokens"]])
    values = np.full(len(positions), np.nan)
    values[np.searchsorted(positions, read.models[0].facts.positions[rows])] = ranking.values[rows]
    given = np.array([token["role"] in passage["prompts"] for token in passage["tokens"]])
    unit = ranking.unit
    if ranking.measure == "weight":
        counted = np.array([token["counted"] for token in passage["tokens"]]) & ~np.isnan(values)
        values /= np.nanmean(values[counted] if counted.any() else values)
        unit = _OF_THE_MEAN
    low, high, log = scales_of(passage["classes"])[ranking.measure]
    if ranking.compared:
        half = high / (4 if log else 2)
        scale = TokenScale(-half, half, diverging=True, unit=unit)
    else:
        scale = TokenScale(low, high, log=log, diverging=ranking.measure == "weight", unit=unit)
    return token_text_figure(
        [token["text"] for token in passage["tokens"]],
        values,
        scale,
        title=title,
        measure=ranking.words,
        faint=given if selected is None else ~np.isin(positions, selected),
    )
