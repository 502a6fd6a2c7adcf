"""A sentence as a language model reads it, recorded by `sample_models/record_sentence.py`: no model is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cist_core.compare.matching import match_rho
from cist_core.entropy.curves import EntropyCurves
from cist_core.language.text_predictions import TextPredictions, visible
from cist_core.temperature import Cist

FOLDER = Path(__file__).with_name("sentence")
MODEL = "SmolLM2-135M-Instruct"
NAMED = 5
"""Of the likeliest tokens; the actual one has a bar of its own as well, and all others share one."""


@dataclass(frozen=True)
class Scale:
    """The positions of a slider, evenly spaced."""

    low: float
    high: float
    step: float

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        return np.linspace(self.low, self.high, round((self.high - self.low) / self.step) + 1)


TAUS, RHOS = Scale(0.6, 4.0, 0.05), Scale(2.0, 30.0, 0.25)


class Sentence:
    """The tokens that were predicted, n of them, and their soft labels at any position of the sliders."""

    def __init__(self, predictions: TextPredictions) -> None:
        self.predictions = predictions
        self.curves: EntropyCurves = predictions.curves()
        self.words = [predictions.word(number) for number in range(predictions.num_samples)]

    @property
    def text(self) -> str:
        """The first word, which does not count, and the tokens that do; the line before them is left out."""
        rows = self.predictions.rows
        return "".join(self.predictions.texts[rows[0] - 1 : rows[-1] + 1])

    @cached_property
    def start_rho(self) -> float:
        """The position of rho that is nearest to the mean entropy of temperature 1."""
        wanted = float(self.curves.at_temperature(1.0).mean())
        rho = match_rho(self.curves, wanted, floor=0.0)
        return float(RHOS.positions[np.abs(RHOS.positions - rho).argmin()])

    def at_tau(self, tau: float) -> NDArray[np.floating]:
        """Entropies at a fixed temperature, ``(n,)``."""
        return self.curves.at_temperature(tau)

    def at_rho(self, rho: float) -> NDArray[np.floating]:
        """Entropies under CIST without a floor, ``(n,)``."""
        return Cist(rho, 0.0).entropy(self.curves)

    def temperature(self, token: int, rho: float) -> float:
        """What CIST gives a token."""
        return float(self.curves.statistics.maximum[token]) / rho

    def names(self, token: int) -> list[str]:
        """Of the bars of a token."""
        tokens = self.predictions.tokens
        shown = [visible(self.predictions.vocabulary[number]) for number in self._top(token).tolist()]
        own = [] if self._own_is_named(token) else [self.words[token]]
        return [*shown, *own, f"{tokens.num_classes - len(shown) - len(own):,} others"]

    def shares(self, token: int, tau: float) -> list[float]:
        """The heights of these bars at a temperature."""
        return [float(share) for share in self._shares(token, np.array([tau]))[0]]

    @cached_property
    def moving_entropies(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """`at_tau` and `at_rho` at every position of their sliders, ``(positions, n)``."""
        return (
            np.array([self.at_tau(tau) for tau in TAUS.positions]),
            np.array([self.at_rho(rho) for rho in RHOS.positions]),
        )

    @cached_property
    def moving_shares(self) -> list[tuple[NDArray[np.floating], NDArray[np.floating]]]:
        """By token, `shares` at every position of the sliders of tau and of rho, ``(positions, bars)``."""
        own = [self.temperature(token, 1.0) / RHOS.positions for token in range(len(self.words))]
        return [(self._shares(token, TAUS.positions), self._shares(token, taus)) for token, taus in enumerate(own)]

    def _shares(self, token: int, taus: NDArray[np.floating]) -> NDArray[np.floating]:
        rows = np.full(len(taus), self.predictions.rows[token])
        soft = self.predictions.tokens.soft_labels(taus, rows)
        own = soft.actual[:, None][:, : 0 if self._own_is_named(token) else 1]
        shares = np.concatenate([soft.top[:, :NAMED], own], axis=1)
        return np.column_stack([shares, np.maximum(1.0 - shares.sum(axis=1), 0.0)])

    def _top(self, token: int) -> NDArray[np.int32]:
        return self.predictions.tokens.top_ids[self.predictions.rows[token], :NAMED]

    def _own_is_named(self, token: int) -> bool:
        return bool(np.isin(self.predictions.tokens.facts.ids[self.predictions.rows[token]], self._top(token)))


@cache
def recorded() -> Sentence:
    """The sentence of the lesson."""
    return Sentence(TextPredictions.load(FOLDER))
