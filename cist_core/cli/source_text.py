"""What the commands say of the logits they work on: how many, how good, and what was chosen on the way."""

from __future__ import annotations

from typing import Any

from cist_core import LogitSet
from cist_core.cli.output import size
from cist_core.logits.accuracy import judge_accuracy
from cist_core.logits.choices import chosen

_MOST_PAIRS = 20


def source_text(logit_set: LogitSet, *more: str) -> str:
    """The size and accuracy with further words, and below it one sentence for all that whoever reads it should know."""
    first = ", ".join([size(logit_set.num_samples, logit_set.num_classes, logit_set.accuracy), *more])
    judged = judge_accuracy(logit_set)
    found = [] if judged is None else list(judged.sentences)
    explained = None if judged is None else judged.explanation
    if explained is not None and explained.class_map is not None and _numbers_mean_places(logit_set):
        pairs = [f"{label}={place}" for label, place in explained.class_map.items() if label != place]
        rest = (
            ""
            if len(pairs) <= _MOST_PAIRS
            else f" ... ({len(pairs):,} such pairs, all of them in the output of --json)"
        )
        found.append(f"--class-map takes this map, as a file of such lines too: {' '.join(pairs[:_MOST_PAIRS])}{rest}.")
    return "\n".join([first, *found, *chosen(logit_set.provenance)])


def _numbers_mean_places(logit_set: LogitSet) -> bool:
    """Whether a number in a class map is the place of a class: where classes are called 1, 2, 3, it is a name."""
    names = logit_set.class_names or ()
    return not any(name.isdecimal() and int(name) != place for place, name in enumerate(names))


def source_record(logit_set: LogitSet) -> dict[str, Any]:
    """The same for JSON."""
    judged = judge_accuracy(logit_set)
    return {
        "samples": logit_set.num_samples,
        "classes": logit_set.num_classes,
        "accuracy": logit_set.accuracy,
        "accuracy_check": None if judged is None else judged.to_dict(),
        **{key: logit_set.provenance.get(key) for key in ("weights", "class_order", "sample_order")},
        "left_out_classes": list(logit_set.left_out),
        "remarks": chosen(logit_set.provenance),
    }
