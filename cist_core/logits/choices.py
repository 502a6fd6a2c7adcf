"""What provenance tells of what was chosen, guessed, converted or left out: the same in the terminal and in the app.

`cist_core.logits.files.read_logits`, `cist_core.inference.run.infer` and the readers of weights and data write it
there.
"""

from __future__ import annotations

from collections.abc import Mapping

CLIPPED = "clipped"
"""The key of what rests on the floor that probabilities of 0 were clipped to, which concerns every rho."""

LIKE_MASKS = "like masks"
"""The key of classes that look masked, but by a number that a logit can have."""

CHOICES = {
    "weights": "Weights: ",
    "class_order": "",
    "sample_order": "",
    "identifiers": "Columns that name the samples and are no classes: ",
    "unused": "Not used: ",
    "unused beside the labels": "Not used in the file of labels: ",
    "labels": "Labels: ",
    "absent classes": "Classes that take no part, left out: ",
    LIKE_MASKS: "Like masks: ",
    "left out": "Left out: ",
    "given_as": "Given as ",
    CLIPPED: "ρ rests on clipped zeros: ",
    "tokens": "Token logits, one sample a position: ",
}
"""The keys, and how each sentence begins."""


def chosen(provenance: Mapping[str, str]) -> list[str]:
    """One sentence for each decision that was made on the way to some logits.

    Example:
        >>> chosen({"weights": "state_dict_ema, a running average; left out: state_dict", "split": "test"})
        ['Weights: state_dict_ema, a running average; left out: state_dict.']
    """
    return [sentence for key in CHOICES if (sentence := chosen_at(provenance, key)) is not None]


def chosen_at(provenance: Mapping[str, str], key: str) -> str | None:
    """The sentence of one of the `CHOICES`; None where nothing was decided there."""
    return f"{CHOICES[key]}{provenance[key]}." if provenance.get(key) else None


def chosen_for_student(provenance: Mapping[str, str]) -> list[str]:
    """The same for a student's logits beside a teacher's, each sentence with whose it is.

    Example:
        >>> chosen_for_student({"given_as": "probabilities", "sample_order": "Samples of the student by 'id'"})
        ["Samples of the student by 'id'.", 'Of the student: given as probabilities.']
    """
    return [
        sentence if "the student" in sentence else f"Of the student: {sentence[:1].lower()}{sentence[1:]}"
        for sentence in chosen(provenance)
    ]
