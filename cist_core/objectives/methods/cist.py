"""CIST: one temperature per sample and model (Luong, Vo, Zhao, Chen, arXiv 2605.20357)."""

from __future__ import annotations

from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Floor, GradientMode, Normalise, Rho, Weighting, cist
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature import CIST_FLOOR


@register_objective("cist")
def cist_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    rho: Rho,
    floor: Floor = CIST_FLOOR,
    weighting: Weighting = "product",
    normalise: Normalise = False,
    gradient: GradientMode = "constant",
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """Teacher and student each get their own temperature on every sample (CIST).

    ``L = lambda_ce CE + lambda_kl mean_i( w_i KL(softmax(z_t,i / tau_t,i) || softmax(z_s,i / tau_s,i)) )`` with
    ``tau_i = max(m_i / rho, floor)`` and ``m_i = max_k(z_ik) - mean_k(z_ik)`` of each model, so that the ratio
    ``m / tau`` is ``rho`` wherever the floor does not bind, and ``m / floor`` where it does. Shapes, terms and errors
    as in `kd_loss`.

    The gradient of one sample with respect to its student logits, in the unweighted mean:

    - ``constant`` (no gradient through ``tau_s``), with ``product``: exactly ``tau_t (q - p)``, as the weight cancels
      ``1 / tau_s``, whether the floor binds or not.
    - ``full`` (through ``tau_s`` everywhere), with ``product``, above the floor: ``<grad, c_s> = w KL``; a smaller
      scale of the student's logits lowers the loss.
    - ``scale-free`` (through ``tau_s`` in the softmax, constant weight), above the floor: ``<grad, c_s> = 0``; the
      student's scale is free.

    At the floor the three modes are the same. The floor holds the student's scale: while ``m_s <= rho floor`` the
    student is softened at the floor, and matches a label of ratio ``rho`` only by growing. With ``floor=0`` nothing
    holds it, and the scale can collapse (``constant``, ``full``) or run away (``scale-free`` with ``product``).

    Floor, gradient mode and weight are those of the authors' development repository (lhchau/element-wise-kd, commit
    e1b1a68); the published text at hand names none of them. With ``floor=0`` a constant student row has the gradient
    ``tau_t (q - p)`` under every weighting, where it would be larger; with a floor above ``TAU_MIN`` it has
    ``w / tau_s (q - p)``, as any row at the floor.

    Args:
        student_logits: ``(B, C)`` or ``(B, L, C)``.
        teacher_logits: likewise.
        labels: ``(B,)`` or ``(B, L)`` integers.
        mask: ``(B, L)`` boolean.
        rho: the ratio.
        floor: smallest temperature of either model, in logit units; 0 is the pure ratio rule (and then no temperature
            falls below ``TAU_MIN``).
        weighting: ``product`` (``tau_t tau_s``), ``teacher`` (``tau_t^2``), ``student`` (``tau_s^2``), ``uniform`` (the
            batch mean of the product), ``uniform-teacher`` (the square of the batch mean of ``tau_t``, as in the
            authors' repository) or ``none`` (1).
        normalise: divide the weights by their batch mean.
        gradient: ``constant``, ``scale-free`` or ``full``.
        lambda_ce: weight of the cross-entropy.
        lambda_kl: weight of the divergence.

    Example:
        >>> import torch
        >>> teacher, student = torch.tensor([[14.0, 2.0, -4.0]]), torch.tensor([[7.0, 1.0, -2.0]])
        >>> terms = cist_loss(student_logits=student, teacher_logits=teacher, labels=torch.tensor([0]), rho=2.0)
        >>> terms["tau_teacher"].item(), terms["tau_student"].item()  # the student is half as confident
        (5.0, 2.5)
        >>> terms["kd"].item()
        0.0
        >>> terms = cist_loss(student_logits=student / 4, teacher_logits=teacher, labels=torch.tensor([0]), rho=2.0)
        >>> terms["tau_student"].item()  # an eighth as confident: the floor binds
        1.0
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = cist(batch, rho=rho, floor=floor, weighting=weighting, normalise=normalise, gradient=gradient)
    divergence = softening.compare(batch, forward_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)
