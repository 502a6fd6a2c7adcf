"""Knowledge distillation with one temperature (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)."""

from __future__ import annotations

from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl, Tau
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import fixed
from cist_core.objectives.terms import Terms, collect


@register_objective("kd")
def kd_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    tau: Tau = 4.0,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """Knowledge distillation with one temperature (Hinton et al. 2015).

    ``L = lambda_ce CE + lambda_kl tau^2 KL(softmax(z_t / tau) || softmax(z_s / tau))``, means over the samples.

    Args:
        student_logits: ``(B, C)`` or ``(B, L, C)``; half precision is computed in float32.
        teacher_logits: likewise; no gradient flows into them.
        labels: ``(B,)`` or ``(B, L)`` integers.
        mask: ``(B, L)`` boolean, true where a token counts; the means run over those.
        tau: temperature.
        lambda_ce: weight of the cross-entropy.
        lambda_kl: weight of the divergence.

    Returns:
        `Terms`, in nats.

    Raises:
        CistError: for inputs that do not fit together.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 1.0]]), torch.tensor([0])
        >>> terms = kd_loss(student_logits=logits, teacher_logits=logits, labels=labels)
        >>> round(terms["ce"].item(), 4), terms["kd"].item()
        (0.3133, 0.0)
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = fixed(batch, tau)
    divergence = softening.compare(batch, forward_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)
