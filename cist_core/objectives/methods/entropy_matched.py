"""The oracle of consistency: every soft label with one entropy."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from torch import Tensor

from cist_core.objectives.batch import Batch
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl
from cist_core.objectives.parameters import Number
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import GradientMode, Normalise, Weighting, weighted
from cist_core.objectives.temperatures import matched_temperature
from cist_core.objectives.terms import Terms, collect


@register_objective("entropy-matched")
def entropy_matched_loss(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: float | Tensor | None = None,
    H: Annotated[float, Number("entropy of every soft label, in nats", above=0)],
    weighting: Weighting = "product",
    normalise: Normalise = False,
    gradient: GradientMode = "scale-free",
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """Every soft label with exactly the entropy H: the upper bound of consistency.

    Teacher and student each get the temperatures that do so on their own logits.
    `cist_loss` with the root ``tau_i`` of ``entropy(softmax(z_i / tau_i)) = H`` in the place of ``m_i / rho``. Such a
    temperature is proportional to the scale of the logits as well, so the three gradient modes mean the same; the
    derivative of the root is that of the implicit function. There is no floor, so nothing holds the student's scale.
    Our own construction, about thirty softmaxes a call: for comparison, not for speed.

    Raises:
        CistError: also if ``H`` is not below ``ln C``.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    rule = partial(matched_temperature, H=H)
    softening = weighted(batch, rule, weighting=weighting, normalise=normalise, gradient=gradient)
    divergence = forward_kl(*softening.log_probabilities(batch))
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)
