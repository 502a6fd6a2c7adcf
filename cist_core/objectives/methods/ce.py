"""Plain cross-entropy: what a student learns without its teacher."""

from __future__ import annotations

from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.registry import register_objective
from cist_core.objectives.terms import Terms


@register_objective("ce")
def ce_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
) -> Terms:
    """Cross-entropy alone, the baseline of every comparison.

    ``L = mean_i CE(z_s,i, y_i)`` in nats. Shapes as in `kd_loss`; the terms are ``total`` and ``ce``.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ce = batch.mean(batch.cross_entropy)
    return {"total": ce, "ce": ce}
