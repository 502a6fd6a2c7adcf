"""How strongly every sample pulls at the student: the gradient of an objective with respect to each sample's logits.

Computed by automatic differentiation of the pieces that the objectives are made of, not from a closed form. A set of
any size counts as one batch, which the weightings with a batch mean need, but goes through in chunks of rows: the chain
rule of ``L(w(tau), D)`` is cut between weights and divergences, ``(N,)`` each, and the logits, ``(N, C)``.

torch is imported when a gradient is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core.errors import CistError
from cist_core.logits.logit_set import check_same_samples
from cist_core.temperature import CIST_FLOOR, Cist
from cist_core.temperature.weights import FloatVector, share_of_largest

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.objectives.batch import Batch
    from cist_core.objectives.softening import Softening

CHUNK_VALUES = 1 << 21
"""Logits of a model that are differentiated at a time: some fifteen copies of them live at once, 130 MB in float32."""


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """The pull of each of N samples.

    Attributes:
        norm: ``||dL / dz_s,i||_2``, ``(N,)``, where ``L`` is the mean over the samples, in nats over logit units.
        share: ``norm`` over its sum, ``(N,)``; ``1 / N`` each where all are 0.
    """

    norm: FloatVector
    share: FloatVector

    @classmethod
    def of(cls, norm: NDArray[np.floating[Any]]) -> GradientNorms:
        exact = norm.astype(np.float64)
        total = exact.sum()
        return cls(exact, exact / total if total > 0 else np.full(len(exact), 1 / len(exact)))

    def held_by(self, part: float) -> float:
        """The share of all norms that the ``part`` of the samples with the largest hold, both from 0 to 1."""
        return share_of_largest(self.norm, part)


def kd_gradients(
    *,
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    tau: float,
    labels: ArrayLike | None = None,
    lambda_ce: float = 0.0,
    lambda_kl: float = 1.0,
) -> GradientNorms:
    """Gradients of knowledge distillation at one temperature, `cist_core.objectives.kd_loss`.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: likewise, of the same samples.
        tau: temperature, above 0.
        labels: ``(N,)`` integers; needed where ``lambda_ce`` is not 0.
        lambda_ce: weight of the cross-entropy; 0, the default, leaves the divergence alone.
        lambda_kl: weight of the divergence.

    Raises:
        CistError: for logits of different samples or classes, labels that are missing, or a temperature not above 0.
    """
    from cist_core.objectives.softening import fixed

    if not tau > 0:
        raise CistError(f"Expected the temperature to be above 0, but got {tau:g}.")
    samples = _Samples.of(student_logits, teacher_logits, labels, needed=lambda_ce != 0)
    loss = _Loss(lambda batch: fixed(batch, tau), lambda teacher, student: teacher * student, lambda_ce, lambda_kl)
    return GradientNorms.of(_norms(samples, loss))


def cist_gradients(
    *,
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    rho: float,
    floor: float = CIST_FLOOR,
    weighting: str = "product",
    normalise: bool = False,
    gradient: str = "constant",
    labels: ArrayLike | None = None,
    lambda_ce: float = 0.0,
    lambda_kl: float = 1.0,
) -> GradientNorms:
    """Gradients of CIST, `cist_core.objectives.cist_loss`; the arguments are its own and those of `kd_gradients`.

    Raises:
        CistError: as `kd_gradients`, and for a weighting or a mode that does not exist, a rho not above 0 or a negative
            floor.

    Example:
        >>> teacher, student = [[8.0, 0.0, -2.0], [2.0, 0.0, -2.0]], [[1.0, 0.9, 0.0], [1.0, 0.9, 0.0]]
        >>> norms = cist_gradients(student_logits=student, teacher_logits=teacher, rho=3.0)
        >>> norms.share.round(3).tolist()  # the sample of which the teacher is sure pulls harder
        [0.718, 0.282]
    """
    from cist_core.objectives.softening import GRADIENTS, WEIGHTINGS, by_rule

    for name, value, known in (("weighting", weighting, WEIGHTINGS), ("gradient mode", gradient, GRADIENTS)):
        if value not in known:
            raise CistError(f"There is no {name} '{value}'; known are {', '.join(known)}.")
    if not rho > 0:
        raise CistError(f"Expected rho to be above 0, but got {rho:g}.")
    if not 0 <= floor < math.inf:
        raise CistError(f"Expected the floor to be a finite number of 0 or above, but got {floor:g}.")

    rule = Cist(rho, floor)

    def soften(batch: Batch) -> Softening:
        return by_rule(batch, rule, WEIGHTINGS["none"], gradient=gradient)

    def weigh(teacher: Tensor, student: Tensor) -> Tensor:
        weight = WEIGHTINGS[weighting](teacher, student)
        return weight / weight.mean() if normalise else weight

    samples = _Samples.of(student_logits, teacher_logits, labels, needed=lambda_ce != 0)
    _, through_weight = GRADIENTS[gradient]
    loss = _Loss(soften, weigh, lambda_ce, lambda_kl, through_weight=through_weight)
    return GradientNorms.of(_norms(samples, loss))


@dataclass(frozen=True, eq=False)
class _Samples:
    """Logits as they are stored, ``(N, C)`` each, and the type that they are differentiated in."""

    student: NDArray[Any]
    teacher: NDArray[Any]
    labels: NDArray[Any] | None

    @classmethod
    def of(cls, student: ArrayLike, teacher: ArrayLike, labels: ArrayLike | None, *, needed: bool) -> _Samples:
        student_logits, teacher_logits = np.asanyarray(student), np.asanyarray(teacher)
        check_same_samples(teacher_logits.shape, student_logits.shape)
        if labels is None and needed:
            raise CistError("The cross-entropy needs labels, and these logits have none; set lambda_ce to 0.")
        return cls(student_logits, teacher_logits, None if labels is None else np.asarray(labels))

    @property
    def precision(self) -> np.dtype[Any]:
        """Single, or double where one of both is: in half precision a gradient over N would be rounded to 0."""
        return np.result_type(self.student, self.teacher, np.float32)

    def batches(self) -> Iterator[tuple[slice, Tensor, Batch]]:
        """Chunk by chunk: which rows, the student's logits as a leaf, and the batch that hangs on it."""
        import torch

        from cist_core.objectives.batch import Batch

        step = max(1, CHUNK_VALUES // self.student.shape[1])
        for start in range(0, len(self.student), step):
            rows = slice(start, start + step)
            student, teacher = (torch.tensor(of[rows].astype(self.precision)) for of in (self.student, self.teacher))
            leaf = student.requires_grad_()
            labels = None if self.labels is None else torch.as_tensor(self.labels[rows])
            yield rows, leaf, Batch.create(student_logits=leaf, teacher_logits=teacher, labels=labels)


@dataclass(frozen=True, eq=False)
class _Loss:
    """``lambda_ce mean_i CE_i + lambda_kl mean_i(w_i D_i)``, as the objectives write it.

    Attributes:
        soften: the temperatures of a batch; its weights are not read.
        weigh: from the temperatures of all samples, ``(N,)`` each, to their weights.
        lambda_ce: weight of the cross-entropy.
        lambda_kl: weight of the divergence.
        through_weight: whether the gradient flows through the student's temperature in the weight.
    """

    soften: Callable[[Batch], Softening]
    weigh: Callable[[Tensor, Tensor], Tensor]
    lambda_ce: float
    lambda_kl: float
    through_weight: bool = False


def _norms(samples: _Samples, loss: _Loss) -> NDArray[np.float64]:
    import torch

    from cist_core.objectives.divergences import forward_kl

    weight, along_divergence, along_temperature = _outer_gradients(samples, loss)
    norms = []
    for rows, leaf, batch in samples.batches():
        softening = loss.soften(batch)
        divergence = forward_kl(*softening.log_probabilities(batch, weight=weight[rows]))
        # A linear function of the inner values with the same gradient as the loss.
        linear = (along_divergence[rows] * divergence).sum()
        if loss.through_weight:
            linear = linear + (along_temperature[rows] * softening.student).sum()
        if loss.lambda_ce:
            linear = linear + loss.lambda_ce * batch.cross_entropy.sum() / len(weight)
        (gradient,) = torch.autograd.grad(linear, leaf)
        norms.append(gradient.double().norm(dim=1).numpy())
    return np.concatenate(norms)


def _outer_gradients(samples: _Samples, loss: _Loss) -> tuple[Tensor, Tensor, Tensor]:
    """The weights, and the derivative of ``lambda_kl mean(w D)`` along every divergence and student temperature."""
    import torch

    from cist_core.objectives.divergences import forward_kl

    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    for _, _, batch in samples.batches():
        with torch.no_grad():
            softening = loss.soften(batch)
            # With a constant weight nothing hangs on the divergence here.
            divergence = (
                forward_kl(*softening.log_probabilities(batch))
                if loss.through_weight
                else torch.zeros_like(softening.student)
            )
        columns.append((softening.teacher, softening.student, divergence))
    teacher, student, divergence = (torch.cat(column) for column in zip(*columns, strict=True))
    student.requires_grad_()
    weight = loss.weigh(teacher, student)
    # The 0 is there for the weightings that do not ask the student.
    outer = loss.lambda_kl * (weight * divergence).mean() + 0.0 * student.sum()
    (along_temperature,) = torch.autograd.grad(outer, student)
    weight = weight.detach()
    return weight, loss.lambda_kl * weight / len(weight), along_temperature
