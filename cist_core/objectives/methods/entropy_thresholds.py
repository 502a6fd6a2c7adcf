"""KD whose soft labels of too low or too high an entropy go another way, by thresholds of our own.

`cist_core.objectives.methods.entropy_outliers` has the rule of the CIST authors, which goes by shares of the batch.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl, Tau
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Softening, fixed
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature.parameters import Number
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED

Low = Annotated[float, Number("entropy below this share of ln C makes an outlier", minimum=0, maximum=1)]
High = Annotated[float, Number("entropy above this share of ln C makes an outlier", minimum=0, maximum=1)]


@register_objective("kd-entropy-threshold-ce")
def kd_entropy_threshold_ce_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    tau: Tau = 4.0,
    low: Low = OVER_SHARP,
    high: High = OVER_SMOOTHED,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """KD whose samples beyond two entropy thresholds learn from the hard label instead (ours).

    ``L = lambda_ce CE + lambda_kl mean_i( CE_i for an outlier, tau^2 KL_i otherwise )``. A sample is an outlier if the
    entropy of the teacher's soft label lies below ``low ln C`` (over-sharp) or above ``high ln C`` (over-smoothed),
    with ``C`` the number of classes that take part. Shapes and errors as in `kd_loss`.

    Returns:
        `Terms` with ``outliers``, their share of the batch; an outlier's ``weight`` is 0.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ordinary = fixed(batch, tau)
    share = _normalised_entropy(batch, ordinary)
    outlier = (share < low) | (share > high)
    softening = Softening(ordinary.teacher, ordinary.student, torch.where(outlier, 0.0, ordinary.weight))
    return collect(
        batch,
        softening,
        ordinary.compare(batch, forward_kl),
        lambda_ce=lambda_ce,
        lambda_kl=lambda_kl,
        added=torch.where(outlier, batch.cross_entropy, 0.0),
        outliers=batch.mean(outlier.to(share.dtype)),
    )


@register_objective("kd-entropy-threshold-ht")
def kd_entropy_threshold_ht_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    tau: Tau = 4.0,
    higher_tau: Annotated[float, Number("temperature of the outliers", above=0)] = 8.0,
    low: Low = OVER_SHARP,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """KD whose samples below an entropy threshold get a higher temperature (ours).

    `kd_loss` with ``tau_i = higher_tau`` where the entropy of the teacher's soft label at ``tau`` lies below
    ``low ln C``, for both models and in the weight ``tau_i^2``. Over-smoothed samples keep ``tau``: a higher one would
    take them further out.

    Returns:
        `Terms` with ``outliers``, their share of the batch.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ordinary = fixed(batch, tau)
    outlier = _normalised_entropy(batch, ordinary) < low
    taus = torch.where(outlier, higher_tau, ordinary.teacher)
    softening = fixed(batch, taus)
    divergence = softening.compare(batch, forward_kl)
    return collect(
        batch,
        softening,
        divergence,
        lambda_ce=lambda_ce,
        lambda_kl=lambda_kl,
        outliers=batch.mean(outlier.to(divergence.dtype)),
    )


def _normalised_entropy(batch: Batch, softening: Softening) -> Tensor:
    # One class alone has entropy 0 of ln 1 = 0; it counts as sharp.
    return batch.teacher.entropy(softening.teacher) / batch.teacher.classes.clamp(min=2).log()
