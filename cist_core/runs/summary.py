"""What a sweep has shown: mean, deviation and interval over the seeds of every setting."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cist_core.errors import CistError
from cist_core.runs.run import Run, RunState
from cist_core.training.fields import flat

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig

MEASURES = {"test_accuracy": "test_accuracy", "val_accuracy": "last_val_accuracy"}
"""The measures of a summary, and where the status of a run has them; both of the last epoch, never of the best."""
LANGUAGE_MEASURES = {"test_nll": "test_nll"}
"""Those of language models: the negative log-likelihood of a token of the test texts, in nats."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcome:
    """What a summary needs of one run."""

    config: RunConfig
    state: RunState
    status: Mapping[str, Any]


@dataclass(frozen=True)
class Statistics:
    """Of ``n`` values; what one value cannot have is NaN.

    Attributes:
        n: how many.
        mean: their mean.
        sd: their standard deviation (``n - 1`` in the denominator).
        low: lower end of the 95 % interval of the mean, by Student's t with ``n - 1`` degrees of freedom.
        high: upper end.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistics | None:
        """None for no values.

        Example:
            >>> accuracy = Statistics.of([0.90, 0.92, 0.94])
            >>> print(f"{accuracy.mean:.2f}, 95 % interval {accuracy.low:.2f} to {accuracy.high:.2f}")
            0.92, 95 % interval 0.87 to 0.97
        """
        n = len(values)
        if n == 0:
            return None
        mean = float(np.mean(values))
        if n == 1:
            return cls(1, mean, math.nan, math.nan, math.nan)
        from scipy import stats

        sd = float(np.std(values, ddof=1))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / math.sqrt(n)
        return cls(n, mean, sd, mean - half, mean + half)


@dataclass(frozen=True)
class Setting:
    """The runs that differ in nothing but the seed, and in what does not decide a result (``machine``).

    Attributes:
        name: the objective, by its preset where it is one, and the other fields in which the settings differ.
        objective: its text.
        differences: those other fields and their values.
        runs: how many belong to it.
        measures: over those that have finished, by `MEASURES`, or `LANGUAGE_MEASURES` where they are of texts.
    """

    name: str
    objective: str
    differences: Mapping[str, Any]
    runs: int
    measures: Mapping[str, Statistics | None]


def outcomes(runs: Iterable[Run]) -> list[Outcome]:
    """Read what a summary needs from the directories; a run whose config cannot be read is left out."""
    found = []
    for run in runs:
        try:
            found.append(Outcome(run.directory.config(), run.state, run.directory.status()))
        except CistError:
            continue
    return found


def summarise(outcomes: Iterable[Outcome]) -> list[Setting]:
    """One entry a setting, in the order in which they first appear. Only finished runs count, and each seed once."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(setting_key(outcome.config.model_dump(mode="json")), []).append(outcome)
    fields = [flat({**json.loads(key), "objective": None}) for key in groups]  # the objective has its text
    names = dict.fromkeys(name for setting in fields for name in setting)
    varying = [name for name in names if any(setting.get(name) != fields[0].get(name) for setting in fields)]
    return [
        _setting(members, {name: setting.get(name) for name in varying})
        for members, setting in zip(groups.values(), fields, strict=True)
    ]


def _setting(members: Sequence[Outcome], differences: Mapping[str, Any]) -> Setting:
    objective = str(members[0].config.objective)
    labels = {member.config.objective.label for member in members}  # the same values may go by two names
    # A seed that was trained twice says the same twice: it counts once, or the interval would be too narrow.
    by_seed = {member.config.seed: member.status for member in members if member.state is RunState.FINISHED}
    finished = list(by_seed.values())
    measures = LANGUAGE_MEASURES if members[0].config.task == "language" else MEASURES
    written = [f"{name.rpartition('.')[2]}={value}" for name, value in differences.items()]
    return Setting(
        name=", ".join([labels.pop() if len(labels) == 1 else objective, *written]),
        objective=objective,
        differences=differences,
        runs=len(members),
        measures={
            measure: Statistics.of([float(status[key]) for status in finished if status.get(key) is not None])
            for measure, key in measures.items()
        },
    )


def setting_key(config: Mapping[str, Any]) -> str:
    """What runs of one setting have in common, as text: the config but for the seed and what does not decide a result.

    Args:
        config: of a run, as its ``config.json`` has it.
    """
    objective = config.get("objective")
    named = {"objective": {**objective, "preset": None}} if isinstance(objective, Mapping) else {}
    return json.dumps({**config, **named, "seed": 0, "machine": None}, sort_keys=True)
