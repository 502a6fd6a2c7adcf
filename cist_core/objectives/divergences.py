"""Divergences between soft labels, all from log-probabilities: ``(N, C)`` each in, ``(N,)`` nats out.

``p`` is the teacher's distribution, ``q`` the student's. Nothing here takes the logarithm of a probability.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cist_core.temperature.logit_rows import ABSENT


def forward_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``KL(p || q) = sum_k p_k (log p_k - log q_k)``."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``KL(q || p)``."""
    return forward_kl(log_q, log_p)


def top_k_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL over k classes and all others together, from the log-probabilities of the k, ``(N, k)`` each.

    ``sum_k p_k (log p_k - log q_k) + p_r (log p_r - log q_r)`` with ``p_r = 1 - sum_k p_k`` and ``q_r`` likewise: what
    a teacher of which only the most probable classes are kept can teach. It is never negative and at most the KL over
    all classes (the log-sum inequality); without the rest the sum can be negative, and renormalised it is another KL.
    At temperature 1 alone: the others' share at another temperature is not known.
    """
    return forward_kl(_with_rest(log_p), _with_rest(log_q))


def _with_rest(log_p: Tensor) -> Tensor:
    # Rounding can bring the sum to 1 or above, where the rest is no probability.
    seen = log_p.logsumexp(-1, keepdim=True).clamp(max=-torch.finfo(log_p.dtype).eps)
    return torch.cat([log_p, (-torch.expm1(seen)).log()], -1)


def jensen_shannon(log_p: Tensor, log_q: Tensor, *, beta: float) -> Tensor:
    """``beta KL(p || m) + (1 - beta) KL(q || m)`` with ``m = beta p + (1 - beta) q`` and ``0 < beta < 1``."""
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return beta * forward_kl(log_p, log_m) + (1 - beta) * forward_kl(log_q, log_m)


def target_kl(log_p: Tensor, log_q: Tensor, labels: Tensor) -> Tensor:
    """KL between ``(p_y, 1 - p_y)`` and ``(q_y, 1 - q_y)``, the label's class against all others together."""
    return forward_kl(_target_or_not(log_p, labels), _target_or_not(log_q, labels))


def non_target_kl(log_p: Tensor, log_q: Tensor, labels: Tensor) -> Tensor:
    """KL between the distributions over the classes other than the label's; 0 for two classes."""
    return forward_kl(_without(log_p, labels).log_softmax(-1), _without(log_q, labels).log_softmax(-1))


def _target_or_not(log_p: Tensor, labels: Tensor) -> Tensor:
    target = log_p.gather(1, labels.unsqueeze(1))
    # Summed over the others rather than 1 - p_y, which is 0 in float32 for a confident row.
    return torch.cat([target, _without(log_p, labels).logsumexp(-1, keepdim=True)], dim=1)


def _without(log_p: Tensor, labels: Tensor) -> Tensor:
    return log_p.scatter(1, labels.unsqueeze(1), ABSENT)
