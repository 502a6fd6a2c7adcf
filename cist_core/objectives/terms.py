"""From the divergence of every sample to the named terms that an objective returns."""

from __future__ import annotations

from numbers import Real

from torch import Tensor

from cist_core.errors import CistError
from cist_core.objectives.batch import Batch
from cist_core.objectives.softening import Softening

Terms = dict[str, Tensor]
"""Named results of one call.

Scalars that carry the gradient: ``total``, ``kd``, and ``ce`` unless it has no weight and no labels were given; means
over the samples, or with ``num_items`` this batch's part of the means over that many. Per sample, ``(N,)``, without
gradient: ``tau_teacher``, ``tau_student``, ``weight``, and ``kl``, the divergence before its weight. An objective may
add terms of its own.
"""


def collect(
    batch: Batch,
    softening: Softening,
    divergence: Tensor,
    *,
    lambda_ce: float,
    lambda_kl: float | Tensor,
    added: Tensor | None = None,
    **own: Tensor,
) -> Terms:
    """``total = lambda_ce ce + lambda_kl kd``, with ``ce`` and ``kd = mean_i(w_i D_i)`` means over the samples.

    Args:
        batch: the samples.
        softening: their temperatures and weights.
        divergence: ``D_i``, ``(N,)``.
        lambda_ce: weight of the mean cross-entropy.
        lambda_kl: weight of ``kd``.
        added: ``(N,)``, added to ``w_i D_i`` before the mean.
        own: further terms of the objective.
    """
    contributions = softening.weight * divergence
    kd = batch.mean(contributions if added is None else contributions + added)
    ce = hard_label_term(batch, lambda_ce)
    return {
        **totals(ce, kd, lambda_ce=lambda_ce, lambda_kl=lambda_kl),
        **own,
        **per_sample(softening, divergence),
    }


def hard_label_term(batch: Batch, lambda_ce: float) -> Tensor | None:
    """The mean cross-entropy; None where it has no weight and there are no labels.

    Raises:
        CistError: if it has a weight and there are no labels.
    """
    if batch.given_labels is None:
        if lambda_ce == 0:
            return None
        raise CistError(
            f"The cross-entropy has the weight lambda_ce = {lambda_ce:g}, but labels is None; give the class of every "
            "sample, or set lambda_ce=0."
        )
    return batch.mean(batch.cross_entropy)


def totals(ce: Tensor | None, kd: Tensor, *, lambda_ce: float, lambda_kl: float | Tensor) -> Terms:
    """``total = lambda_ce ce + lambda_kl kd`` and both; without ``ce`` where there is none."""
    if ce is None:
        return {"total": lambda_kl * kd, "kd": kd}
    return {"total": lambda_ce * ce + lambda_kl * kd, "ce": ce, "kd": kd}


def per_sample(softening: Softening, divergence: Tensor) -> Terms:
    """The per-sample terms, without gradient."""
    return {
        "tau_teacher": softening.teacher.detach(),
        "tau_student": softening.student.detach(),
        "weight": softening.weight.detach(),
        "kl": divergence.detach(),
    }


def share_passed(epoch: float | Tensor | None, epochs: float) -> float | Tensor:
    """``min(epoch / epochs, 1)``, which a linear warm-up multiplies by; 1 where ``epochs`` is 0.

    Args:
        epoch: the current one, counted from 1 (fractions are welcome); a scalar tensor where a recorded CUDA graph is
            to read it anew at every replay.
        epochs: how long the warm-up lasts.

    Raises:
        CistError: if the epoch is missing or negative; not for a tensor on an accelerator, whose value is not read.
    """
    if epochs == 0:
        return 1.0
    passed = _checked(epoch) / epochs
    return passed.clamp(max=1) if isinstance(passed, Tensor) else min(passed, 1.0)


def _checked(epoch: float | Tensor | None) -> float | Tensor:
    if isinstance(epoch, Tensor):
        is_number = epoch.dim() == 0 and not epoch.is_complex()
        if is_number and epoch.device.type != "cpu":
            return epoch
    else:
        is_number = isinstance(epoch, float | Real) and not isinstance(epoch, bool)
    if epoch is None or not is_number or not epoch >= 0:
        raise CistError(
            "This objective grows to full strength over some epochs: expected epoch=1 in the first, 2 in the next, but "
            f"got {epoch!r}; set its warm-up (`warmup` or `ramp`) to 0 to do without."
        )
    return epoch
