"""Transformed teacher matching (Zheng, Yang 2024, arXiv 2402.11148): the student keeps temperature 1."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Softening
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature.logit_rows import LogitRows
from cist_core.temperature.parameters import Number

Gamma = Annotated[float, Number("exponent of the teacher's probabilities", above=0)]
Beta = Annotated[float, Number("weight of the divergence", minimum=0)]


@register_objective("ttm")
def ttm_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    gamma: Gamma = 0.1,
    beta: Beta = 45.0,
    lambda_ce: LambdaCe = 1.0,
) -> Terms:
    """Only the teacher is softened, by a power of its probabilities (TTM, Zheng, Yang 2024).

    ``L = lambda_ce CE + beta mean_i KL(p_i^gamma / sum_k p_ik^gamma || softmax(z_s,i))`` with ``p = softmax(z_t)``,
    which is the teacher at temperature ``1 / gamma``. Computed in log space: the powers underflow in half precision.
    Shapes, terms and errors as in `kd_loss`. The authors tune gamma and beta for every pair of networks; the defaults
    are those of VGG-13 and VGG-8 on CIFAR-100, as in the README of their repository (zkxufo/TTM).
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ones = batch.for_each_sample(1.0)
    return _transformed(batch, ones, gamma=gamma, beta=beta, lambda_ce=lambda_ce)


@register_objective("wttm")
def wttm_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    gamma: Gamma = 0.1,
    beta: Beta = 2.25,
    lambda_ce: LambdaCe = 1.0,
) -> Terms:
    """TTM whose samples weigh by the power sum of the teacher (WTTM, Zheng, Yang 2024).

    `ttm_loss` with the weight ``S_i = sum_k p_ik^gamma``, between 1 for a certain teacher and ``C^(1 - gamma)`` for a
    uniform one (``gamma < 1``).

    Beta is not that of TTM: the weight averages 32 at ``gamma = 0.1`` on the CIFAR-100 teacher that comes along, and
    the authors' betas for WTTM are 20 to 35 times lower than for TTM there. Their repository has no run of WTTM alone;
    the defaults are those of VGG-13 and VGG-8 on CIFAR-100, the pair of TTM's defaults, in Table 8 of the paper's
    appendix A.4.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    power_sum = batch.read_rows(partial(_power_sum, gamma=gamma))
    return _transformed(batch, power_sum, gamma=gamma, beta=beta, lambda_ce=lambda_ce)


def _power_sum(student: LogitRows, teacher: LogitRows, *, gamma: float) -> Tensor:
    log_p = teacher.log_probabilities(torch.ones_like(teacher.maximum))
    return (gamma * log_p).logsumexp(-1).exp()


def _transformed(batch: Batch, weight: Tensor, *, gamma: float, beta: float, lambda_ce: float) -> Terms:
    ones = torch.ones_like(weight)
    softening = Softening(teacher=ones / gamma, student=ones, weight=weight)
    divergence = softening.compare(batch, forward_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=beta)
