"""Runs of language models as the Runs page shows them: by how likely the test texts are, not by right answers."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from app.forms.run_views import RunView, SettingView, in_settings, read_runs, told_apart
from cist_core.registry import listed
from cist_core.runs.comparison import Difference, confidence_of_each, difference_over_seeds
from cist_core.wording import perplexity

if TYPE_CHECKING:
    from cist_core.runs import Run


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
        return perplexity(self.mean)


def are_texts(settings: Sequence[SettingView]) -> bool:
    """Whether all settings are of language models, which is when likelihoods compare them."""
    return bool(settings) and all(run.of_texts for setting in settings for run in setting.runs)


def has_student(run: Run) -> bool:
    """Whether it has finished and left a language model."""
    return run.state == "finished" and run.directory.language_student.is_dir()


def with_student(runs: Sequence[Run]) -> dict[str, RunView]:
    """The finished runs of language models whose student is there, by their ids and with labels that differ; the newest
    setting first."""
    views = [view for view in read_runs([run for run in runs if has_student(run)]) if view.of_texts]
    return {view.id: view for setting in told_apart(in_settings(views)) for view in setting.runs}


def titles_of(views: Mapping[str, RunView]) -> dict[str, str]:
    """What such runs are called beside models, by what they are given by."""
    titles = {name: f"Run {view.label}, seed {view.seed}" for name, view in views.items()}
    count = Counter(titles.values())
    return {name: f"{title} ({views[name].id[-4:]})" if count[title] > 1 else title for name, title in titles.items()}


def ranked(settings: Sequence[SettingView]) -> list[Likelihood]:
    """Those that have been tested, the likeliest first; by the seeds that all have, where these are two at least."""
    found = [
        Likelihood(setting.label, {seed or 0: nll for seed, run in setting.by_seed.items() if (nll := nll_of(run))})
        for setting in settings
    ]
    tested = [one for one in found if one.by_seed]
    common = set.intersection(*(set(one.by_seed) for one in tested)) if tested else set()
    if len(common) > 1:
        tested = [Likelihood(one.name, {seed: one.by_seed[seed] for seed in sorted(common)}) for one in tested]
    return sorted(tested, key=lambda one: one.mean)


def nll_of(run: RunView) -> float | None:
    return run.number("test_nll")


def finding(settings: Sequence[SettingView]) -> str:
    """What the tests say, without a full stop: `comparison_sentence`, or why perplexities do not rank the settings.

    Perplexity is one of tokens: it compares runs that read the same test texts in rows of one length, through the same
    tokenizer, which is the teacher's.
    """
    different = differing(settings)
    if different:
        return (
            f"The settings differ in {listed(different, 'and')}, so perplexity does not rank them; bits per byte, "
            "under Tables, compare tokenizers on the same texts"
        )
    return comparison_sentence(ranked(settings))


def differing(settings: Sequence[SettingView]) -> list[str]:
    """The fields that keep perplexities of the tested settings from being compared; empty if they can be."""
    places = [_tested_on(setting) for setting in settings if any(map(nll_of, setting.by_seed.values()))]
    names = [name for name in places[0] if all(name in place for place in places)] if places else []
    return [name for name in names if len({json.dumps(place[name]) for place in places}) > 1]


def _tested_on(setting: SettingView) -> dict[str, Any]:
    """The fields of the config that decide which test tokens there are."""
    fields = setting.fields
    texts = (
        ["data.test"]
        if fields.get("data.test")
        else ["data.name", "data.test", "data.validation", "data.validation_share", "data.split_seed"]
    )
    return {name: fields.get(name) for name in ("teacher.name", "data.length", *texts)}


def comparison_sentence(tested: Sequence[Likelihood]) -> str:
    """Which setting's test texts are likeliest, and whether the seeds tell it from the others: by the 95 % interval of
    each difference (all of them together) and two standard deviations. Without a full stop; empty for none.

    Args:
        tested: the likeliest first.
    """
    if not tested:
        return ""
    best, *others = tested
    if not others:
        return f"{best.name} reached a test perplexity of {best.perplexity} ({_seeds(best)})"
    other = others[0]
    next_ = ", the next" if len(others) > 1 else ""
    if max(len(one.by_seed) for one in tested) < 2:
        return (
            f"{best.name} has the lowest test perplexity, {best.perplexity} against {other.perplexity} of {other.name}"
            f"{next_}; one seed does not say whether that is more than chance"
        )
    found = differences(tested)
    by = f"{_words(found[0])}; {found[0].basis}"
    alike = [one.name for one, gap in zip(others, found, strict=True) if not gap.clear]
    if not alike:
        return (
            f"{best.name} is better than {other.name}{next_}: test perplexity {best.perplexity} against "
            f"{other.perplexity} ({by})"
        )
    if len(others) == 1:
        return (
            f"{best.name} cannot be told apart from {other.name}: test perplexity {best.perplexity} and "
            f"{other.perplexity} ({by})"
        )
    return (
        f"{best.name} has the lowest test perplexity of {len(tested)}, {best.perplexity}, but cannot be told apart "
        f"from {listed(alike, 'and')}"
    )


def differences(tested: Sequence[Likelihood]) -> list[Difference]:
    """By how many nats a token each is above the first, with intervals that hold together."""
    best, *others = tested
    confidence = confidence_of_each(len(others))
    return [difference_over_seeds(other.by_seed, best.by_seed, confidence=confidence) for other in others]


def _words(found: Difference) -> str:
    if math.isnan(found.low):
        return f"{found.mean:.4f} nats a token less"
    return f"{found.mean:.4f} nats a token less, 95 % interval {found.low:.4f} to {found.high:.4f}".replace("-", "−")


def _seeds(one: Likelihood) -> str:
    return "one seed" if len(one.by_seed) == 1 else f"{len(one.by_seed)} seeds"


def numbers(settings: Sequence[SettingView]) -> list[tuple[str, str, str]]:
    """Label, value and help of the numbers under the picture, the best test and the teacher; none before the first
    test, nor of several settings whose perplexities do not compare. Earlier runs have kept no likelihood of theirs."""
    tested = ranked(settings)
    if not tested or differing(settings):
        return []
    help_ = f"Of {tested[0].name}; {_seeds(tested[0])}. exp of {tested[0].mean:.3f} nats a token."
    runs = [run for setting in settings for run in setting.runs]
    teacher = next((nll for run in runs if (nll := run.number("teacher_test_nll")) is not None), None)
    found = [("Lowest test perplexity", tested[0].perplexity, help_)]
    if teacher is not None:
        own = Likelihood("the teacher", {0: teacher})
        found.append(("The teacher", own.perplexity, f"On the same test texts. exp of {own.mean:.3f} nats a token."))
    return found


def over_seeds(settings: Sequence[SettingView]) -> pd.DataFrame:
    """One row a setting, the likeliest first: NLL on test in nats a token; and how far it is above the first, with the
    interval and whether it is told apart, where perplexities compare the settings."""
    tested = ranked(settings)
    found = [None, *differences(tested)] if tested and not differing(settings) else [None] * len(tested)
    rows = []
    for one, gap in zip(tested, found, strict=True):
        values = list(one.by_seed.values())
        rows.append(
            {
                "Setting": one.name,
                "Seeds": len(values),
                "Test NLL": one.mean,
                "Deviation": float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
                "Above the first": math.nan if gap is None else gap.mean,
                "From": math.nan if gap is None else gap.low,
                "To": math.nan if gap is None else gap.high,
                "Told apart": "" if gap is None else "yes" if gap.clear else "no",
            }
        )
    return pd.DataFrame(rows)


SCORES = {
    "Test NLL": "test_nll",
    "Perplexity": "test_perplexity",
    "Bits per byte": "test_bits_per_byte",
    "NLL at best": "test_nll_at_best",
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
