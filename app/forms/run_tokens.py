"""Runs of language models as the Runs page shows them: by how likely the test texts are, not by right answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from app.forms.run_views import RunView, SettingView
from cist_core.wording import three_digits


class Likelihood(NamedTuple):
    """The tests of one setting: the negative log-likelihood of a token after the last epoch, in nats, by seed."""

    name: str
    by_seed: dict[int, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.by_seed.values())))

    @property
    def perplexity(self) -> str:
        """``exp`` of the mean, for people."""
        return three_digits(math.exp(self.mean)) if self.mean < 100 else "beyond all numbers"


def are_texts(settings: Sequence[SettingView]) -> bool:
    """Whether all settings are of language models, which is when likelihoods compare them."""
    return bool(settings) and all(run.of_texts for setting in settings for run in setting.runs)


def ranked(settings: Sequence[SettingView]) -> list[Likelihood]:
    """Those that have been tested, the likeliest first."""
    found = [
        Likelihood(setting.label, {seed or 0: nll for seed, run in setting.by_seed.items() if (nll := nll_of(run))})
        for setting in settings
    ]
    return sorted((one for one in found if one.by_seed), key=lambda one: one.mean)


def nll_of(run: RunView) -> float | None:
    return run.number("test_nll")


def comparison_sentence(tested: Sequence[Likelihood]) -> str:
    """Which setting's test texts are likeliest, and whether the seeds tell it from the next: by two standard deviations
    of the differences, seed by seed. Without a full stop; empty for none."""
    if not tested:
        return ""
    best, *others = tested
    if not others:
        return f"{best.name} reached a test perplexity of {best.perplexity} ({_seeds(best)})"
    other = others[0]
    next_ = ", the next" if len(others) > 1 else ""
    gaps = differences(other, best)
    if len(gaps) < 2:
        return (
            f"{best.name} has the lowest test perplexity, {best.perplexity} against {other.perplexity} of {other.name}"
            f"{next_}; one seed does not say whether that is more than chance"
        )
    mean, deviation = float(np.mean(gaps)), float(np.std(gaps, ddof=1))
    by = f"{mean:.4f} nats a token less, deviation {deviation:.4f} over {len(gaps)} seeds"
    if mean < 2 * deviation:
        return (
            f"{best.name} cannot be told apart from {other.name}{next_}: test perplexity {best.perplexity} and "
            f"{other.perplexity} ({by})"
        )
    return (
        f"{best.name} is better than {other.name}{next_}: test perplexity {best.perplexity} against {other.perplexity} "
        f"({by})"
    )


def differences(one: Likelihood, other: Likelihood) -> list[float]:
    """In nats, of the seeds that both have."""
    return [nll - other.by_seed[seed] for seed, nll in one.by_seed.items() if seed in other.by_seed]


def _seeds(one: Likelihood) -> str:
    return "one seed" if len(one.by_seed) == 1 else f"{len(one.by_seed)} seeds"


def best_number(tested: Sequence[Likelihood]) -> list[tuple[str, str, str]]:
    """Label, value and help of the number under the picture; none before the first test."""
    if not tested:
        return []
    help_ = f"Of {tested[0].name}; {_seeds(tested[0])}. exp of {tested[0].mean:.3f} nats a token."
    return [("Lowest test perplexity", tested[0].perplexity, help_)]


def over_seeds(settings: Sequence[SettingView]) -> pd.DataFrame:
    """One row a setting, the likeliest first: NLL on test in nats a token, and how far it is above the first, seed by
    seed; a difference below two of its standard deviations says nothing."""
    tested = ranked(settings)
    rows = []
    for one in tested:
        values, gaps = list(one.by_seed.values()), differences(one, tested[0]) if one is not tested[0] else []
        rows.append(
            {
                "Setting": one.name,
                "Seeds": len(values),
                "Test NLL": one.mean,
                "Deviation": float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
                "Above the first": float(np.mean(gaps)) if gaps else math.nan,
                "Its deviation": float(np.std(gaps, ddof=1)) if len(gaps) > 1 else math.nan,
            }
        )
    return pd.DataFrame(rows)


SCORES = {
    "Test NLL": "test_nll",
    "Perplexity": "test_perplexity",
    "Bits per byte": "test_bits_per_byte",
    "NLL at best": "test_nll_at_best",
    "ROUGE-L": "test_rouge_l",
}
"""Columns of `results`, and where a status has them."""
MEASURES = {
    "Student's mean m": "student_maximum_mean",
    "Teacher's mean m": "teacher_maximum_mean",
    "Median weight": "weight_median",
    "95 % of the weights below": "weight_95",
    "Tokens an epoch": "tokens",
}
"""Likewise, in the metrics of the newest epoch."""


def results(views: Sequence[RunView]) -> pd.DataFrame:
    """One row a run: likelihoods on the test texts, and what the newest epoch says of scales and weights; columns that
    no run has are left out."""
    newest = [(view.run.directory.metrics() or [{}])[-1] for view in views]
    table: dict[str, Any] = {"Run": [view.label for view in views]}
    for name, key in SCORES.items():
        table[name] = pd.Series([view.number(key) for view in views], dtype=float)
    for name, key in MEASURES.items():
        table[name] = pd.Series([row.get(key) for row in newest], dtype=float)
    table["Seed"] = pd.Series([view.seed for view in views], dtype="Int64")
    return pd.DataFrame(table).dropna(axis="columns", how="all")
