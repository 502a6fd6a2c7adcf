"""How much likelier a text became to a student by its training, and how much closer the student came to its teacher."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.language.token_set import TokenPair
from cist_core.wording import three_digits


class Change(NamedTuple):
    """A mean before and after."""

    before: float
    after: float

    @property
    def fell_by(self) -> float:
        return self.before - self.after

    def __str__(self) -> str:
        return f"from {three_digits(self.before)} to {three_digits(self.after)}"


class Gain(NamedTuple):
    """What training changed over some tokens that count, at temperature 1.

    Attributes:
        nll: mean of ``-ln p`` of the actual tokens, in nats.
        bits_per_byte: ``sum -ln p / (ln 2 * bytes)`` of the text in UTF-8; None where these tokens stand for no byte.
        divergence: mean of ``KL(p_teacher || p_student)``, in nats; None where the tables do not reach temperature 1.
    """

    nll: Change
    bits_per_byte: Change | None
    divergence: Change | None

    def sentence(self, token: str = "a token of this passage") -> str:
        """The change of each, without a full stop; ``token`` says of which tokens it is the mean."""
        word = "likelier" if self.nll.fell_by >= 0 else "less likely"
        said = (
            f"After distillation {token} is {three_digits(abs(self.nll.fell_by))} nats {word} than before ({self.nll})"
        )
        if self.bits_per_byte is not None:
            word = "fewer" if self.bits_per_byte.fell_by >= 0 else "more"
            said += f", {three_digits(abs(self.bits_per_byte.fell_by))} bits per byte {word} ({self.bits_per_byte})"
        if self.divergence is not None:
            said += f"; the divergence from the teacher goes {self.divergence} nats"
        return said


def gain_over(before: TokenPair, after: TokenPair, rows: NDArray[np.int64], size: int) -> Gain:
    """What changed from one student of a teacher to another over some tokens.

    Args:
        before: of the teacher and the student before its training.
        after: of the teacher and the student after it, on the same texts.
        rows: which tokens, by number; at least one.
        size: bytes of the text that they stand for.

    Raises:
        CistError: if the pairs are not of the same tokens, or there are no rows.
    """
    before.student.check_same_tokens(after.student)
    if not len(rows):
        raise CistError("Expected at least one token that counts, but got none; choose another passage.")
    pairs = (before, after)
    nll = Change(*(float(pair.student.nll[rows].mean(dtype=np.float64)) for pair in pairs))
    bits = Change(*(mean * len(rows) / (math.log(2) * size) for mean in nll)) if size else None
    try:
        divergence = Change(*(float(pair.divergence(1.0, 1.0)[rows].mean()) for pair in pairs))
    except CistError:  # a ratio lies beyond the tables
        divergence = None
    return Gain(nll, bits, divergence)
