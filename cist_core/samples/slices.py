"""Named selections and their own statistics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.samples.selection import Selection
from cist_core.samples.table import SampleTable
from cist_core.wording import percent, three_digits

EVERYTHING, SELECTED = "all samples", "selected"
"""Rows that the statistics of slices have of their own; no slice may take these names."""


def parse_slices(text: str) -> dict[str, Selection]:
    """Named selections, one a line: ``name: rule``. A name that comes again replaces the first.

    Raises:
        CistError: for a line without a name or with one that is taken, or with a rule that cannot be read.

    Example:
        >>> {name: str(rule) for name, rule in parse_slices("confused: correct=no & margin=..1").items()}
        {'confused': 'correct=no & margin=..1'}
    """
    slices: dict[str, Selection] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, colon, rule = (part.strip() for part in line.partition(":"))
        if not (colon and name and rule):
            raise CistError(
                f"Expected a slice as 'name: rule', but got '{line}'; write for example 'confused: correct=no'."
            )
        if name in (EVERYTHING, SELECTED):
            raise CistError(f"The name '{name}' belongs to the table of slices itself; give the slice another one.")
        slices[name] = Selection.parse(rule)
    return slices


def format_slices(slices: Mapping[str, Selection]) -> str:
    """The text that `parse_slices` reads; a name cannot hold the colon that ends it."""
    return "\n".join(f"{' '.join(name.replace(':', ' ').split())}: {selection}" for name, selection in slices.items())


def selection_words(samples: SampleTable, mask: NDArray[np.bool_]) -> str:
    """How many samples a selection holds, how many of them are right, and how much they weigh beside all.

    The weight is that of CIST's product, where there is a student; the accuracy is there with labels.

    Example:
        ``70 selected: 81.4 % right, weight 0.310 × the mean``
    """
    count = int(np.count_nonzero(mask))
    known = {measure.name for measure in samples.measures()}
    facts = []
    if count and "correct" in known:
        facts.append(f"{percent(float(samples.column('correct')[mask].mean()))} right")
    if count and "weight" in known:
        weight = samples.column("weight").astype(np.float64)
        facts.append(f"weight {three_digits(float(weight[mask].mean() / weight.mean()))} × the mean")
    return f"{count:,} selected" + (f": {', '.join(facts)}" if facts else "")


def slice_statistics(samples: SampleTable, masks: Mapping[str, NDArray[np.bool_]]) -> pd.DataFrame:
    """One row a slice, all samples first: count, share, accuracy, and mean and spread of the entropy under both rules.

    And the share of a slice's samples at which the floor of CIST decides the temperature.

    Args:
        samples: of the view.
        masks: which samples each slice holds, ``(N,)``.

    Returns:
        Columns ``slice``, ``samples``, ``share``, ``accuracy`` (missing without labels), ``mean_fixed``,
        ``spread_fixed``, ``mean_cist``, ``spread_cist`` in nats, ``mean_ratio`` and ``at_floor``; missing for an empty
        slice.
    """
    everything = {EVERYTHING: np.ones(samples.num_samples, bool)}
    return pd.DataFrame([_row(samples, name, mask) for name, mask in {**everything, **masks}.items()])


def _row(samples: SampleTable, name: str, mask: NDArray[np.bool_]) -> dict[str, str | int | float]:
    count = int(np.count_nonzero(mask))

    def over(measure: str, statistic: str) -> float:
        values = samples.column(measure)[mask].astype(np.float64)
        return float(getattr(values, statistic)()) if count else np.nan

    return {
        "slice": name,
        "samples": count,
        "share": count / samples.num_samples,
        "accuracy": over("correct", "mean") if samples.curves.labels is not None else np.nan,
        "mean_fixed": over("entropy", "mean"),
        "spread_fixed": over("entropy", "std"),
        "mean_cist": over("entropy_cist", "mean"),
        "spread_cist": over("entropy_cist", "std"),
        "mean_ratio": over("ratio", "mean"),
        "at_floor": over("at_floor", "mean"),
    }
