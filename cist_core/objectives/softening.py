"""Temperature and weight of every sample: the half of an objective that says how soft, before the half that compares.

An objective reads ``batch -> softening -> log-probabilities -> divergence -> terms``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from cist_core.objectives.batch import Batch
from cist_core.objectives.parameters import Choice, Number, Switch
from cist_core.objectives.rows import Rows, scalar
from cist_core.objectives.temperatures import centred_maximum_temperature
from cist_core.temperature import TAU_MIN
from cist_core.temperature.weights import WEIGHT_FORMULAS

Rule = Callable[[Rows], Tensor]
"""From the logits of one model to its temperatures, ``(N,)``."""


def _for_every_sample(formula: Callable[[Tensor, Tensor], Tensor | float]) -> Callable[[Tensor, Tensor], Tensor]:
    """The formula with its one weight for all, where it has one, given to each."""

    def weigh(teacher: Tensor, student: Tensor) -> Tensor:
        return scalar(formula(teacher, student), like=teacher).expand_as(teacher)

    return weigh


WEIGHTINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    name: _for_every_sample(formula) for name, formula in WEIGHT_FORMULAS.items()
}
"""Weight of each sample from both temperatures, ``(N,)``. ``product`` is the per-sample form of Hinton's ``T^2``."""

GRADIENTS: Mapping[str, tuple[bool, bool]] = {
    "scale-free": (True, False),
    "constant": (False, False),
    "full": (True, True),
}
"""Whether the gradient flows through the student's temperature in the softmax, and in the weight."""

Rho = Annotated[float, Number("ratio of the centred maximum to the temperature", above=0)]
Floor = Annotated[float, Number("smallest temperature, in the unit of the logits; 0 is the pure ratio rule", minimum=0)]
Weighting = Annotated[str, Choice(tuple(WEIGHTINGS), "weight of a sample, from the two temperatures")]
Normalise = Annotated[bool, Switch("divide the weights by their batch mean")]
GradientMode = Annotated[str, Choice(tuple(GRADIENTS), "where the gradient flows through the student's temperature")]


@dataclass(frozen=True, eq=False)
class Softening:
    """One temperature for each model and one weight, per sample, ``(N,)`` each.

    Attributes:
        teacher: temperatures of the teacher.
        student: temperatures of the student, as they stand in the softmax.
        weight: of the sample's divergence.
        least_damping: smallest factor by which the gradient of a sample may be damped, ``(N,)``; None: none is.
    """

    teacher: Tensor
    student: Tensor
    weight: Tensor
    least_damping: Tensor | None = None

    def log_probabilities(self, batch: Batch, *, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log soft labels of teacher and student, ``(N, C)`` each.

        A temperature that follows the scale of the logits, and has no floor to hold it, is near 0 on a constant student
        row, and the gradient ``w / tau_s (q - p)`` would know no bound. There it is damped to what the weight
        ``tau_t tau_s`` gives, ``tau_t (q - p)``: multiplied by ``max(min(1, tau_t tau_s / w), d)`` with ``d`` the
        sample's least damping. Smaller gradients stay, and so does every value.

        Args:
            batch: the logits.
            weight: what the divergence will be multiplied by; the softening's own weight unless given.
        """
        damping = None
        if self.least_damping is not None:
            applied = self.weight if weight is None else weight
            bound = (self.teacher * self.student / applied).detach().clamp(max=1)
            damping = torch.maximum(bound, self.least_damping)
        return (
            batch.teacher.log_probabilities(self.teacher),
            batch.student.log_probabilities(self.student, damping),
        )

    def scaled(self, factor: float | Tensor) -> Softening:
        """Both temperatures times a factor, the weight times its square."""
        return replace(
            self, teacher=self.teacher * factor, student=self.student * factor, weight=self.weight * factor**2
        )


def fixed(batch: Batch, tau: float | Tensor) -> Softening:
    """One temperature for both models, weight ``tau^2`` (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        batch: the logits.
        tau: one for all samples, or one each, ``(N,)``.
    """
    taus = scalar(tau, like=batch.student.maximum).expand_as(batch.student.maximum)
    return Softening(taus, taus, taus.square())


def per_model_temperatures(
    batch: Batch,
    rule: Rule,
    weigh: Callable[[Tensor, Tensor], Tensor],
    *,
    gradient: str = "scale-free",
    floor: float = 0.0,
) -> Softening:
    """Teacher and student each get the temperatures that the rule reads from their own logits.

    Args:
        batch: the logits.
        rule: a temperature rule.
        weigh: from the teacher's and the student's temperatures to the weights.
        gradient: one of `GRADIENTS`.
        floor: of the rule. One above ``TAU_MIN`` holds the temperature of a constant row, whose gradient then is that
            of any row at the floor; otherwise only a guard does, and the gradient is damped.
    """
    teacher, student = rule(batch.teacher), rule(batch.student)
    damping = None if floor > TAU_MIN else torch.where(is_constant(batch.student), 0.0, torch.ones_like(student))
    return with_temperatures(teacher, student, weigh, gradient=gradient, least_damping=damping)


def with_temperatures(
    teacher: Tensor,
    student: Tensor,
    weigh: Callable[[Tensor, Tensor], Tensor],
    *,
    gradient: str,
    least_damping: Tensor | None,
) -> Softening:
    """Temperatures of both models and their weights, with the gradient through the student's as one of `GRADIENTS`."""
    through_softmax, through_weight = GRADIENTS[gradient]
    weight = weigh(teacher, student if through_weight else student.detach())
    return Softening(teacher, student if through_softmax else student.detach(), weight, least_damping)


def is_constant(rows: Rows) -> Tensor:
    """Which rows are constant as far as temperatures know: ``m <= TAU_MIN``, ``(N,)``."""
    return rows.maximum.detach() <= TAU_MIN


def weighing(weighting: str, *, normalise: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """One of `WEIGHTINGS`, on request divided by the batch mean of the weights."""

    def weigh(teacher: Tensor, student: Tensor) -> Tensor:
        weight = WEIGHTINGS[weighting](teacher, student)
        return weight / weight.mean() if normalise else weight

    return weigh


def cist(batch: Batch, *, rho: float, floor: float, weighting: str, normalise: bool, gradient: str) -> Softening:
    """The temperatures and weights of CIST: ``tau_i = max(m_i / rho, floor)`` for each model (arXiv 2605.20357)."""
    rule = partial(centred_maximum_temperature, rho=rho, floor=floor)
    return per_model_temperatures(batch, rule, weighing(weighting, normalise=normalise), gradient=gradient, floor=floor)
