"""Temperature and weight of every sample: the half of an objective that says how soft, before the half that compares.

An objective reads ``batch -> softening -> log-probabilities -> divergence -> terms``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from cist_core.objectives.batch import Batch
from cist_core.temperature import Cist, TemperatureRule
from cist_core.temperature.logit_rows import LogitRows, scalar
from cist_core.temperature.parameters import Choice, Number, Switch
from cist_core.temperature.weights import WEIGHT_FORMULAS


def _for_every_sample(formula: Callable[..., Tensor | float]) -> Callable[..., Tensor]:
    """The formula with its one weight for all, where it has one, given to each."""

    def weigh(teacher: Tensor, student: Tensor, mean: Callable[[Tensor], Tensor] = torch.mean) -> Tensor:
        return scalar(formula(teacher, student, mean), like=teacher).expand_as(teacher)

    return weigh


WEIGHTINGS: Mapping[str, Callable[..., Tensor]] = {
    name: _for_every_sample(formula) for name, formula in WEIGHT_FORMULAS.items()
}
"""Weight of each sample from both temperatures, ``(N,)``, and from the mean over the samples, where they are a part of
what it is meant for. ``product`` is the per-sample form of Hinton's ``T^2``."""

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
        return (
            batch.teacher.log_probabilities(self.teacher),
            batch.student.log_probabilities(self.student, self._damping(weight)),
        )

    def compare(self, batch: Batch, divergence: Callable[..., Tensor], *per_sample: Tensor) -> Tensor:
        """The divergence between the soft labels of both models in every sample, ``(N,)``.

        Args:
            batch: the logits; where they are made a chunk at a time, so are the soft labels.
            divergence: from log soft labels of teacher and student, ``(n, C)`` each, and further numbers, ``(n,)``.
            per_sample: these numbers, ``(N,)`` each.
        """

        def read(
            student: LogitRows, teacher: LogitRows, tau_t: Tensor, tau_s: Tensor, damping: Tensor | None, *own: Tensor
        ) -> Tensor:
            return divergence(teacher.log_probabilities(tau_t), student.log_probabilities(tau_s, damping), *own)

        return batch.read_rows(read, self.teacher, self.student, self._damping(None), *per_sample)

    def _damping(self, weight: Tensor | None) -> Tensor | None:
        if self.least_damping is None:
            return None
        applied = self.weight if weight is None else weight
        bound = (self.teacher * self.student / applied).detach().clamp(max=1)
        return torch.maximum(bound, self.least_damping)

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
    taus = batch.for_each_sample(tau)
    return Softening(taus, taus, taus.square())


def by_rule(
    batch: Batch,
    rule: TemperatureRule,
    weigh: Callable[[Tensor, Tensor], Tensor],
    *,
    gradient: str = "scale-free",
) -> Softening:
    """Teacher and student with the temperatures that a rule gives them.

    Args:
        batch: the logits.
        rule: one that has its formula in torch.
        weigh: from the teacher's and the student's temperatures to the weights.
        gradient: one of `GRADIENTS`.
    """
    through_softmax, through_weight = GRADIENTS[gradient]
    teacher, student = rule.torch_pair(batch.teacher, batch.student)
    damping = rule.torch_least_damping(batch.student, student.detach())
    constant = teacher.detach(), student.detach()
    weight = weigh(teacher, student) if through_weight else weigh(*constant)
    return Softening(*((teacher, student) if through_softmax else constant), weight, damping)


def weighing(batch: Batch, weighting: str, *, normalise: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """One of `WEIGHTINGS`, on request divided by the mean of the weights; means as in `Batch.step_mean`."""

    def weigh(teacher: Tensor, student: Tensor) -> Tensor:
        weight = WEIGHTINGS[weighting](teacher, student, batch.step_mean)
        return weight / batch.step_mean(weight) if normalise else weight

    return weigh


def cist(batch: Batch, *, rho: float, floor: float, weighting: str, normalise: bool, gradient: str) -> Softening:
    """The temperatures and weights of CIST: ``tau_i = max(m_i / rho, floor)`` for each model (arXiv 2605.20357)."""
    return by_rule(batch, Cist(rho, floor), weighing(batch, weighting, normalise=normalise), gradient=gradient)
