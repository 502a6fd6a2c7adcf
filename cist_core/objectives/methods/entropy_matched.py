"""The oracle of consistency: every soft label with one entropy."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from cist_core.objectives.batch import Batch, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import GradientMode, Normalise, Weighting, by_rule, weighing
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature import Matched
from cist_core.temperature.parameters import Number


@register_objective("entropy-matched", all_at_once="looks for the root of every row, thirty softmaxes of all logits")
def entropy_matched_loss(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
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
    temperature is proportional to the scale of the logits as well, so the three gradient modes mean the same. There is
    no floor, so nothing holds the student's scale. Our own construction, about thirty softmaxes a call: for
    comparison, not for speed.

    The gradient of one sample, with ``s = c_s / tau_s`` and ``u`` the derivative of the root,
    ``u = q (s - E_q s) / Var_q(s)``:

    ``w / tau_s ((q - p) - (1 - e) KL u)`` with ``e = d ln w / d ln tau_s`` under ``full``, else 0; without ``u`` under
    ``constant``. So ``full`` with ``product`` is ``constant``, ``tau_t (q - p)``.

    Where the student's largest logits are nearly tied and ``H`` lies below the logarithm of their number, ``KL`` and
    ``1 / tau_s`` grow without bound as the tie closes. There ``u`` is shortened so that ``KL u`` takes at most five
    times the length of ``q - p``, and ``w / tau_s``, where it exceeds ``tau_t``, is multiplied by ``10 r_eq / r``, with
    ``r = m_s / tau_s`` and ``r_eq`` that of a row whose other classes are equal (`cist_core.temperature.Matched` has
    both). The values stay, ``<grad, c_s>`` is still 0 under ``scale-free``, and elsewhere the gradient is the
    derivative. Not bounded are the uniform weights under ``full``, where a sample's temperature weighs all others.

    Raises:
        CistError: also if ``H`` is not below ``ln C``.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = by_rule(batch, Matched(H), weighing(batch, weighting, normalise=normalise), gradient=gradient)
    divergence = softening.compare(batch, forward_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)
