"""KD without its entropy outliers: the ablations of the CIST text (arXiv 2605.20357).

The text names the two ablations only. What counts as an outlier, and what becomes of it, is read from the authors'
development repository (lhchau/element-wise-kd, ``utils/losses/kd.py`` at commit e1b1a68).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from cist_core.errors import CistError
from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl, Tau
from cist_core.objectives.registry import register_objective
from cist_core.objectives.softening import Softening, fixed
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature.parameters import Choice, Number

Sides = Annotated[str, Choice(("low", "both"), "outliers have the lowest entropies, or half of them the highest")]
OutlierShare = Annotated[float, Number("share of the batch that counts as outliers", above=0, maximum=1)]


@register_objective("kd-entout-ce")
def kd_entropy_outliers_ce_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    tau: Tau = 4.0,
    sides: Sides = "low",
    share: OutlierShare = 0.05,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """KD whose entropy outliers learn from the hard label alone (KD-EntOut-CE).

    ``L = mean_i( CE_i for an outlier, lambda_ce CE_i + lambda_kl tau^2 KL_i otherwise )``. The outliers are the
    ``k = max(1, floor(share B))`` samples of the batch whose soft labels at ``tau`` have the lowest entropy (``sides =
    low``), or the ``max(1, floor(share B / 2))`` lowest and as many highest (``both``); of equal entropies the earlier
    samples count, and the low end goes first where the ends meet. ``B`` counts the tokens that the mask keeps. Shapes
    and errors as in `kd_loss`.

    Returns:
        `Terms` with ``outliers``, their share of the batch, and ``outlier_ce``, the sum of their cross-entropies over
        ``B``; ``total = lambda_ce (ce - outlier_ce) + outlier_ce + lambda_kl kd``. An outlier's ``weight`` is 0.
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ordinary = fixed(batch, tau)
    low, high = _outliers(batch.teacher.entropy(ordinary.teacher), sides=sides, share=share)
    outlier = (low | high).to(ordinary.teacher.dtype)
    softening = Softening(ordinary.teacher, ordinary.student, ordinary.weight * (1 - outlier))
    outlier_ce = batch.mean(batch.cross_entropy * outlier)
    terms = collect(
        batch,
        softening,
        ordinary.compare(batch, forward_kl),
        lambda_ce=lambda_ce,
        lambda_kl=lambda_kl,
        outliers=batch.mean(outlier),
        outlier_ce=outlier_ce,
    )
    return terms | {"total": terms["total"] + (1 - lambda_ce) * outlier_ce}


def _check_lower_temperature(values: Mapping[str, Any]) -> None:
    tau, step = values["tau"], values["step"]
    if values["sides"] == "both" and tau <= step:
        raise CistError(
            f"With sides=both the outliers of high entropy get the temperature tau - step = {tau:g} - {step:g}, which "
            "is not positive; choose a larger tau, a smaller step, or sides=low."
        )


@register_objective("kd-entout-ht", check=_check_lower_temperature)
def kd_entropy_outliers_ht_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    tau: Tau = 4.0,
    step: Annotated[float, Number("temperature of the outliers less that of the others", above=0)] = 1.0,
    sides: Sides = "low",
    share: OutlierShare = 0.05,
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """KD whose over-sharp outliers get a higher temperature (KD-EntOut-HT).

    `kd_loss` with ``tau_i = tau + step`` for the outliers of low entropy and, with ``sides = both``, ``tau - step`` for
    those of high entropy, in both models and in the weight ``tau_i^2``. Outliers as in `kd_entropy_outliers_ce_loss`.

    Returns:
        `Terms` with ``outliers``, their share of the batch.

    Raises:
        CistError: also if ``sides`` is ``both`` and ``tau - step`` is not positive.
    """
    _check_lower_temperature({"tau": tau, "step": step, "sides": sides})
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    ordinary = fixed(batch, tau)
    low, high = _outliers(batch.teacher.entropy(ordinary.teacher), sides=sides, share=share)
    low, high = low.to(ordinary.teacher.dtype), high.to(ordinary.teacher.dtype)
    taus = ordinary.teacher + step * (low - high)
    softening = fixed(batch, taus)
    divergence = softening.compare(batch, forward_kl)
    return collect(
        batch,
        softening,
        divergence,
        lambda_ce=lambda_ce,
        lambda_kl=lambda_kl,
        outliers=batch.mean(low + high),
    )


def _outliers(entropies: Tensor, *, sides: str, share: float) -> tuple[Tensor, Tensor]:
    """Where the outliers of low and of high entropy are, ``(B,)`` booleans; no sample is both."""
    if sides == "low":
        low = _lowest(entropies, share)
        return low, torch.zeros_like(low)
    low = _lowest(entropies, share / 2)
    return low, _lowest(-entropies, share / 2) & ~low


def _lowest(values: Tensor, share: float) -> Tensor:
    count = max(1, int(len(values) * share))
    # A stable sort, as topk leaves open which of equal values it takes.
    indices = values.argsort(stable=True)[:count]
    return torch.zeros_like(values, dtype=torch.bool).scatter(0, indices, True)
