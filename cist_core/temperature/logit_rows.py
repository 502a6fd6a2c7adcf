"""The logits of one model in torch, as rules and objectives read them in training: centred, scaled, in log space.

This file imports torch; the analysis has `cist_core.entropy.curves` in its place.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

ABSENT = -1e30
"""Logit and log-probability of a class that takes no part: ``0 * ABSENT`` is 0, where ``0 * -inf`` would be NaN in the
value or in the gradient. No logit over a temperature comes near it."""


class LogitRows:
    """The logits of one model, ``(N, C)``, and which classes take part in each row.

    Args:
        logits: float32 or float64; what stands at classes that take no part is not read.
        takes_part: ``(N, C)`` boolean, true at least once in every row.
        all_take_part: whether it is known to be true everywhere, which spares several copies.
    """

    def __init__(self, logits: Tensor, takes_part: Tensor, *, all_take_part: bool = False) -> None:
        self._all_take_part = all_take_part
        self._logits = logits if all_take_part else torch.where(takes_part, logits, 0.0)
        self.takes_part = takes_part

    def detach(self) -> LogitRows:
        """The same rows without gradient."""
        return LogitRows(self._logits.detach(), self.takes_part, all_take_part=self._all_take_part)

    @cached_property
    def classes(self) -> Tensor:
        """How many classes take part, ``(N,)``."""
        return self.takes_part.sum(-1).to(self._logits.dtype)

    @cached_property
    def peak(self) -> Tensor:
        """The largest logit, ``(N,)``."""
        return self._over_classes(self._logits).amax(-1)

    @property
    def answers(self) -> Tensor:
        """The class of the largest logit, ``(N,)``; of equal ones any."""
        return self._over_classes(self._logits).argmax(-1)

    @cached_property
    def centred(self) -> Tensor:
        """``c = z - mean(z)`` over the classes that take part, ``(N, C)``; 0 at the others."""
        # Taken from the peak first, so that a constant row is exactly 0 however large its logits are.
        shifted = self._where_part(self._logits - self.peak.detach().unsqueeze(-1))
        mean = shifted.sum(-1) / self.classes
        return self._where_part(shifted - mean.unsqueeze(-1))

    @cached_property
    def maximum(self) -> Tensor:
        """The centred maximum ``m = max(c)``, ``(N,)``; exactly 0 for a constant row."""
        return self._over_classes(self.centred).amax(-1)

    @cached_property
    def deviation(self) -> Tensor:
        """Standard deviation over the classes that take part (divides by their number less one), ``(N,)``."""
        variance = self.centred.square().sum(-1) / (self.classes - 1).clamp(min=1)
        positive = variance > 0
        # The square root has no finite slope at 0: a constant row must not pass through it.
        return torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)

    def log_probabilities(self, tau: Tensor, damping: Tensor | None = None) -> Tensor:
        """``log softmax(z_i / tau_i)``, ``(N, C)``; `ABSENT` or less at classes that take no part.

        Args:
            tau: ``(N,)``, positive.
            damping: ``(N,)``, factors on the gradient, through the logits and through ``tau``; the value does not
                depend on them.
        """
        scaled = self.centred / tau.unsqueeze(-1)
        if damping is not None:
            factor = damping.unsqueeze(-1)
            scaled = scaled * factor + (scaled * (1 - factor)).detach()
        return self._over_classes(scaled, ABSENT).log_softmax(-1)

    def entropy(self, tau: Tensor) -> Tensor:
        """Shannon entropy of ``softmax(z_i / tau_i)`` in nats, ``(N,)``."""
        return entropy(self.log_probabilities(tau))

    def _over_classes(self, values: Tensor, elsewhere: float = -torch.inf) -> Tensor:
        return values if self._all_take_part else values.masked_fill(~self.takes_part, elsewhere)

    def _where_part(self, values: Tensor) -> Tensor:
        return values if self._all_take_part else torch.where(self.takes_part, values, 0.0)


def entropy(log_p: Tensor) -> Tensor:
    """Shannon entropy in nats of log-probabilities ``(N, C)``, ``(N,)``."""
    return -(log_p.exp() * log_p).sum(-1)


def scalar(value: float | Tensor, *, like: Tensor) -> Tensor:
    """A number as a tensor of the type and on the device of another, ``()``, without a copy from the host."""
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), value)
