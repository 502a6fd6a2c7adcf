"""What provenance tells of a choice among several, in sentences: the same on the command line and in the app."""

from __future__ import annotations

from collections.abc import Mapping

CHOICES = {"weights": "Weights: ", "class_order": "", "sample_order": ""}
"""The keys, and how each sentence begins."""


def chosen(provenance: Mapping[str, str]) -> list[str]:
    """One sentence for each choice that was made on the way to some logits.

    Example:
        >>> chosen({"weights": "state_dict_ema, a running average; left out: state_dict", "split": "test"})
        ['Weights: state_dict_ema, a running average; left out: state_dict.']
    """
    found = ((begin, provenance.get(key)) for key, begin in CHOICES.items())
    return [f"{begin}{text}." for begin, text in found if text]
