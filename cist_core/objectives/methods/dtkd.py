"""Dynamic temperature (Wei, Bai 2024, arXiv 2404.12711)."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, Tau, Warmup
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Softening, fixed
from cist_core.objectives.terms import Terms, collect, share_passed
from cist_core.temperature import Dtkd
from cist_core.temperature.logit_rows import scalar
from cist_core.temperature.parameters import Number


@register_objective("dtkd")
def dtkd_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    epoch: float | Tensor | None = None,
    alpha: Annotated[float, Number("weight of the part with dynamic temperatures", minimum=0)] = 3.0,
    beta: Annotated[float, Number("weight of the part with the fixed temperature", minimum=0)] = 1.0,
    tau: Tau = 4.0,
    warmup: Warmup = 20.0,
    lambda_ce: LambdaCe = 1.0,
) -> Terms:
    """Temperatures that share out ``2 tau`` between teacher and student by their largest logits (DTKD, Wei, Bai 2024).

    ``L = lambda_ce CE + min(epoch / warmup, 1) mean_i( alpha tau_t,i tau_s,i KL_i(tau_t,i, tau_s,i) + beta tau^2
    KL_i(tau) )`` with ``tau_t = 2 tau m_t / (m_t + m_s)``, ``tau_s = 2 tau m_s / (m_t +
    m_s)`` and ``m`` the largest raw logit. As in the published code the gradient flows through both temperatures, in
    the softmaxes and in the weight. Shapes and errors as in `dkd_loss`.

    Raw maxima can be negative, which would reverse the ranking of the classes, or cancel, which would divide by 0.
    Where one of them is not positive, the centred maxima take their place (our guard, that of
    `cist_core.temperature.Dtkd`).

    Returns:
        `Terms` with ``dynamic``, ``fixed`` (weighted means without alpha and beta) and ``ramp``;
        ``kd = alpha dynamic + beta fixed``. Per-sample terms are those of the dynamic part.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ramp = share_passed(epoch, warmup)
    teacher, student = Dtkd(tau).torch_pair(batch.teacher, batch.student)
    dynamic = Softening(teacher, student, alpha * teacher * student)
    constant = fixed(batch, tau)
    dynamic_kl = dynamic.compare(batch, forward_kl)
    fixed_part = constant.weight * constant.compare(batch, forward_kl)
    return collect(
        batch,
        dynamic,
        dynamic_kl,
        lambda_ce=lambda_ce,
        lambda_kl=ramp,
        added=beta * fixed_part,
        dynamic=batch.mean(teacher * student * dynamic_kl),
        fixed=batch.mean(fixed_part),
        ramp=scalar(ramp, like=dynamic_kl),
    )
