"""What is kept of a row of logits besides its entropy."""

from typing import Any, NamedTuple

Vector = Any
"""A NumPy array, or a torch tensor where the logits are one; ``(N,)``."""


SMALLEST_MAXIMUM = 1e-36
"""Below it a row counts as constant: a ratio over its spread would leave float32."""


class RowStatistics(NamedTuple):
    """Per row of ``(N, C)`` logits, in logit units.

    Attributes:
        maximum: centred maximum ``m = max(z) - mean(z) >= 0``, float32; exactly 0 for a constant row
            (and below `SMALLEST_MAXIMUM`).
        peak: ``max(z)``, float32.
        top1: the class of the maximum, the first one on a tie, int64.
        gap: ``max(z)`` minus the second largest logit, float32; 0 on a tie.
        std: population standard deviation (divides by C), float32.
    """

    maximum: Vector
    peak: Vector
    top1: Vector
    gap: Vector
    std: Vector


class TokenStatistics(NamedTuple):
    """What is kept of each row of logits that predicts a token, ``(N, C)``, besides `RowStatistics`.

    Attributes:
        top: the T largest logits less the largest, in falling order, ``(N, T)`` float32.
        top_classes: their classes, ``(N, T)`` int32; of tied ones the first.
        shifted: the logit of the actual class less the largest, ``(N,)`` float32.
        log_partition: ``ln sum_j e^(z_j - max z)``, ``(N,)`` float32, so that the negative log-likelihood at
            temperature 1 is ``log_partition - shifted``.
        entropy: at temperature 1, in nats, ``(N,)`` float32.
        rank: of the actual class, 1 for the most likely, ``(N,)`` int32; of tied ones all have the best.
    """

    top: Vector
    top_classes: Vector
    shifted: Vector
    log_partition: Vector
    entropy: Vector
    rank: Vector
