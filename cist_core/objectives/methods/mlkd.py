"""Multi-level logit distillation (Jin, Wang, Lin 2023), also under CIST temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from cist_core.errors import CistError
from cist_core.objectives.batch import Batch, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Floor, GradientMode, Normalise, Rho, Softening, Weighting, cist, fixed
from cist_core.objectives.terms import Terms, hard_label_term, per_sample, totals
from cist_core.temperature import CIST_FLOOR
from cist_core.temperature.parameters import Number, Numbers

Temperatures = Annotated[tuple[float, ...], Numbers("temperatures, summed over")]
Keep = Annotated[float, Number("share of samples, and of classes, that the masks keep", above=0, maximum=1)]


_PAIRS = "compares every class with every other, as many numbers as the square of the vocabulary"


@register_objective("mlkd", all_at_once=_PAIRS)
def mlkd_loss(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    strong_student_logits: Tensor | None = None,
    strong_teacher_logits: Tensor | None = None,
    temperatures: Temperatures = (4.0, 3.0, 5.0, 2.0, 6.0),
    keep: Keep = 0.5,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """Soft labels matched by sample, across the batch and across the classes (MLKD, Jin, Wang, Lin 2023).

    ``L = lambda_ce CE + lambda_kl sum_T (instance_T + batch_T + class_T)``. With ``P``, ``Q`` the ``(B, C)`` soft
    labels of teacher and student, on the weakly augmented view:

    - ``instance_T``: mean over all B of ``T^2 KL_i``, counting the samples that the mask keeps;
    - ``batch_T``: ``sum_ij ((P P')_ij - (Q Q')_ij)^2 / B`` over the samples i, j that the mask keeps;
    - ``class_T``: ``sum_kl ((P' P)_kl - (Q' Q)_kl)^2 / C`` over the classes k, l that the mask keeps.

    The masks keep the share ``keep`` of the samples (classes) where the teacher is least confident: probability of its
    top class at temperature 1 (sum of its probabilities over the batch) at most the quantile ``keep``. Given the
    strongly augmented view, its cross-entropy is added to ``ce`` and its instance terms, without a mask, to
    ``instance``.

    This follows the description where the published code departs from it: there each masked term is a scalar by the
    time the mask multiplies it, so the mask selects nothing and only scales it; and two of the five strong terms read
    the weak view.

    Args:
        student_logits: of the weak view, ``(B, C)`` or ``(B, L, C)``.
        teacher_logits: likewise.
        labels: ``(B,)`` or ``(B, L)`` integers.
        mask: ``(B, L)`` boolean, for both views.
        strong_student_logits: of the strong view; without it the loss has the terms of the weak view only.
        strong_teacher_logits: likewise.
        temperatures: summed over.
        keep: share that the masks keep; 1 keeps everything.
        lambda_ce: weight of the cross-entropy of each view.
        lambda_kl: weight of all other terms.

    Returns:
        `Terms` with ``instance``, ``batch`` and ``class``, whose sum is ``kd``. Per-sample terms are means over the
        temperatures on the weak view; a sample that the mask leaves out has weight 0.

    Raises:
        CistError: as `kd_loss`, and if one strong view comes without the other.
    """
    weak, strong = _views(
        (student_logits, teacher_logits), (strong_student_logits, strong_teacher_logits), labels, mask, num_items
    )
    return _multi_level(
        weak,
        [fixed(weak, tau) for tau in temperatures],
        strong,
        [] if strong is None else [fixed(strong, tau) for tau in temperatures],
        keep=keep,
        lambda_ce=lambda_ce,
        lambda_kl=lambda_kl,
    )


@register_objective("cist+mlkd", all_at_once=_PAIRS)
def cist_mlkd_loss(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    strong_student_logits: Tensor | None = None,
    strong_teacher_logits: Tensor | None = None,
    rho: Rho,
    floor: Floor = CIST_FLOOR,
    weighting: Weighting = "product",
    normalise: Normalise = False,
    gradient: GradientMode = "constant",
    temperatures: Temperatures = (4.0, 3.0, 5.0, 2.0, 6.0),
    keep: Keep = 0.5,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """MLKD under the temperatures and weights of CIST.

    `mlkd_loss` with ``tau_i = g max(m_i / rho, floor)`` of each model in its softmaxes and ``g^2 w_i`` in the place of
    ``T^2``, where ``g`` runs through the temperatures divided by their mean: the published spread, around ``rho`` (our
    choice; the text names the combination only). Batch and class level have no weight, as in MLKD.

    ``lambda_ce`` is 0.1 by default, as in the code of MLKD. A second-hand account of the text has 1.0 for the
    combination: ``lambda_ce=1``.
    """
    weak, strong = _views(
        (student_logits, teacher_logits), (strong_student_logits, strong_teacher_logits), labels, mask, num_items
    )
    mean = sum(temperatures) / len(temperatures)

    def softenings(batch: Batch) -> list[Softening]:
        base = cist(batch, rho=rho, floor=floor, weighting=weighting, normalise=normalise, gradient=gradient)
        return [base.scaled(tau / mean) for tau in temperatures]

    return _multi_level(
        weak,
        softenings(weak),
        strong,
        [] if strong is None else softenings(strong),
        keep=keep,
        lambda_ce=lambda_ce,
        lambda_kl=lambda_kl,
    )


def _views(
    weak: tuple[Tensor, Tensor],
    strong: tuple[Tensor | None, Tensor | None],
    labels: Tensor | None,
    mask: Tensor | None,
    num_items: NumItems,
) -> tuple[Batch, Batch | None]:
    create = partial(Batch.create, labels=labels, mask=mask, num_items=num_items)
    first = create(student_logits=weak[0], teacher_logits=weak[1])
    if strong[0] is None and strong[1] is None:
        return first, None
    if strong[0] is None or strong[1] is None:
        raise CistError("Expected strong_student_logits and strong_teacher_logits together, but got one of them.")
    return first, create(student_logits=strong[0], teacher_logits=strong[1], view="strong_")


def _multi_level(
    weak: Batch,
    weak_softenings: Sequence[Softening],
    strong: Batch | None,
    strong_softenings: Sequence[Softening],
    *,
    keep: float,
    lambda_ce: float,
    lambda_kl: float,
) -> Terms:
    kept_samples, kept_classes = _least_confident(weak, keep)
    ce = hard_label_term(weak, lambda_ce)
    instance = across_batch = across_classes = torch.zeros_like(weak.student.maximum).sum()
    details: list[Terms] = []
    for softening in weak_softenings:
        log_p, log_q = softening.log_probabilities(weak)
        divergence = forward_kl(log_p, log_q)
        masked = replace(softening, weight=softening.weight * kept_samples)
        instance = instance + weak.mean(masked.weight * divergence)
        details.append(per_sample(masked, divergence))
        log_p, log_q = softening.log_probabilities(weak, weight=torch.ones_like(divergence))
        p, q = log_p.exp(), log_q.exp()
        across_batch = across_batch + weak.mean(_gram_distance(p, q, kept_samples))
        across_classes = across_classes + weak.share(_gram_distance(p.T, q.T, kept_classes).mean())
    if strong is not None:
        strong_ce = hard_label_term(strong, lambda_ce)
        ce = None if ce is None or strong_ce is None else ce + strong_ce
        for softening in strong_softenings:
            divergence = forward_kl(*softening.log_probabilities(strong))
            instance = instance + strong.mean(softening.weight * divergence)
    kd = instance + across_batch + across_classes
    return {
        **totals(ce, kd, lambda_ce=lambda_ce, lambda_kl=lambda_kl),
        "instance": instance,
        "batch": across_batch,
        "class": across_classes,
        **{name: torch.stack([terms[name] for terms in details]).mean(0) for name in details[0]},
    }


def _least_confident(batch: Batch, keep: float) -> tuple[Tensor, Tensor]:
    """Samples ``(B,)`` and classes ``(C,)`` where the teacher is least confident: 1 where kept, else 0."""
    probabilities = batch.teacher.log_probabilities(torch.ones_like(batch.teacher.maximum)).exp()
    confidence, mass = probabilities.amax(-1), probabilities.sum(0)
    present = batch.teacher.takes_part.any(0)
    if not len(confidence):  # the mask of a part of a batch keeps nothing
        return confidence, torch.zeros_like(mass)
    samples = confidence <= masked_quantile(confidence, torch.ones_like(confidence, dtype=torch.bool), keep)
    classes = present & (mass <= masked_quantile(mass, present, keep))
    return samples.to(mass.dtype), classes.to(mass.dtype)


def masked_quantile(values: Tensor, present: Tensor, share: float) -> Tensor:
    """The quantile of those values that are present, linear between its neighbours, as `torch.quantile`; ``()``."""
    # How many are present is known on the device alone: to select them would make the host wait.
    ordered = values.masked_fill(~present, torch.inf).sort().values
    position = share * (present.sum() - 1).to(values.dtype)
    below, above = (ordered.gather(0, index.long().unsqueeze(0)) for index in (position.floor(), position.ceil()))
    return torch.lerp(below, above, position - position.floor()).squeeze(0)


def _gram_distance(p: Tensor, q: Tensor, kept: Tensor) -> Tensor:
    """``sum_j ((P P')_ij - (Q Q')_ij)^2`` of every row i, over those that are kept; ``p`` and ``q`` are ``(B, C)``."""
    p, q = p * kept.unsqueeze(1), q * kept.unsqueeze(1)
    return (p @ p.T - q @ q.T).square().sum(-1)
