"""Several teachers as one: the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cist_core.errors import CistError
from cist_core.logits.alignment import align
from cist_core.logits.choices import CLIPPED
from cist_core.logits.logit_set import LogitSet, check_same_samples
from cist_core.logits.scratch import scratch_array

CHUNK_VALUES = 1 << 20

ENSEMBLE = " + "
"""Between the members, wherever an ensemble is named."""


def average_logits(sets: Sequence[LogitSet]) -> LogitSet:
    """The mean of the logits of several models on the same samples, in float32.

    Its soft label at temperature 1 is the geometric mean of theirs, rescaled to sum to 1. Labels and class names are
    those of the first set that has some.

    Raises:
        CistError: if there is no set, or samples, classes, class names or labels differ.

    Example:
        >>> pair = [LogitSet.create([[2.0, 0.0]]), LogitSet.create([[0.0, 1.0]])]
        >>> average_logits(pair).logits.tolist()
        [[1.0, 0.5]]
    """
    if not sets:
        raise CistError("Expected at least one set of logits to average, but got none.")
    first = sets[0]
    sets = [
        first,
        *(
            align(first, other, name=_spoken(other, number), of=_spoken(first, 1))
            for number, other in enumerate(sets[1:], 2)
        ),
    ]
    labels = next((each.labels for each in sets if each.labels is not None), None)
    class_names = next((each.class_names for each in sets if each.class_names is not None), None)
    for number, other in enumerate(sets, 1):
        name = _spoken(other, number)
        check_same_samples(first.logits.shape, other.logits.shape, labels=(labels, other.labels), name=name)
        if other.class_names is not None and other.class_names != class_names:
            raise CistError(
                f"Expected {name} to have the class names of the others in the same order, but they differ; "
                "export all logits with the same classes."
            )
    mean = scratch_array(first.logits.shape, np.float32)
    step = max(1, CHUNK_VALUES // first.num_classes)
    for start in range(0, first.num_samples, step):
        rows = [each.logits[start : start + step].astype(np.float64) for each in sets]
        mean[start : start + step] = np.sum(rows, axis=0) / len(sets)
    names = next((each.sample_names for each in sets if each.sample_names is not None), None)
    found = LogitSet.create(mean, labels, class_names=class_names, provenance=_provenance(sets), sample_names=names)
    return replace(found, left_out=first.left_out)  # of the others as well: they are aligned


def _provenance(sets: Sequence[LogitSet]) -> dict[str, str]:
    """What all members have in common, and their names."""
    shared = {
        key: value
        for key, value in sets[0].provenance.items()
        if all(each.provenance.get(key) == value for each in sets)
    }
    members = [_name(each, number) for number, each in enumerate(sets, 1)]
    for key in ("weights", "absent classes", CLIPPED):
        said = [
            (name, each.provenance[key]) for name, each in zip(members, sets, strict=True) if key in each.provenance
        ]
        if said:
            shared[key] = "; ".join(f"{name}: {text}" for name, text in said)
    return {**shared, "teacher": ENSEMBLE.join(members), "ensemble": f"mean of the logits of {len(sets)}"}


def _spoken(member: LogitSet, number: int) -> str:
    return f"member {number} ({_name(member, number)})"


def _name(member: LogitSet, number: int) -> str:
    provenance = member.provenance
    return provenance.get("teacher") or provenance.get("file") or f"model {number}"
