"""Dark knowledge: what a soft label says about the classes that are not the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core.entropy.soft_labels import soft_labels
from cist_core.errors import CistError
from cist_core.temperature import TemperatureRule

TEACHER, STUDENT = "teacher", "student"

CHUNK_VALUES = 1 << 22


@dataclass(frozen=True, eq=False)
class SoftLabel:
    """What one model says about one sample under one rule.

    Attributes:
        model: `TEACHER` or `STUDENT`.
        rule: that gave the temperature.
        temperature: of this sample, in logit units.
        answer: the label's class, or the teacher's top class where there is no label.
        probabilities: ``(C,)``.
        wrong_shares: ``(C,)``, how the mass off the answer divides, see `wrong_class_shares`.
    """

    model: str
    rule: TemperatureRule
    temperature: float
    answer: int
    probabilities: NDArray[np.float64]
    wrong_shares: NDArray[np.float64]

    @classmethod
    def of(
        cls, logits: ArrayLike, rule: TemperatureRule, temperature: float, answer: int, *, model: str = TEACHER
    ) -> SoftLabel:
        """From the logits of one sample, ``(C,)``, and the temperature that the rule gives it.

        Raises:
            CistError: if the temperature is not positive or a logit not finite.
        """
        shares = wrong_class_shares(logits, temperature, answer)
        return cls(model, rule, float(temperature), answer, soft_labels(logits, temperature), shares)

    @property
    def wrong_mass(self) -> float:
        """Probability off the answer: the size of the dark knowledge."""
        return float(np.delete(self.probabilities, self.answer).sum())


def wrong_class_shares(logits: ArrayLike, tau: float, answer: int) -> NDArray[np.float64]:
    """How one sample's mass off the answer divides among the other classes, ``(C,)``; 0 at the answer.

    ``p_k / (1 - p_answer)``, which is the softmax over the other classes alone: it has all its digits even where
    nothing is left off the answer.

    Args:
        logits: of one sample, ``(C,)``.
        tau: positive, in logit units.
        answer: the label's class, or the top class where there is no label.

    Raises:
        CistError: if the temperature is not positive or a logit not finite.

    Example:
        >>> wrong_class_shares([9.0, 2.0, 2.0], tau=1.0, answer=0).tolist()
        [0.0, 0.5, 0.5]
    """
    others = soft_labels(np.delete(np.asarray(logits, dtype=np.float64), answer), tau)
    return np.insert(others, answer, 0.0)


class ClassMass(NamedTuple):
    """Mean soft label of the samples of each class.

    Attributes:
        mean: ``(C, C)``: row *y* is the mean soft label of the samples whose answer is *y*, so each row sums to 1; NaN
            for a class without samples.
        samples: ``(C,)``, how many each row is the mean of.
    """

    mean: NDArray[np.float64]
    samples: NDArray[np.int64]


def mean_soft_labels(logits: ArrayLike, tau: ArrayLike, answers: ArrayLike) -> ClassMass:
    """Where the soft labels of each class put their mass: ``mean of softmax(z_i / tau_i) over answer_i = y``.

    Args:
        logits: ``(N, C)``, read in chunks of rows.
        tau: positive, one temperature or ``(N,)``.
        answers: ``(N,)`` integers in ``[0, C)``: the labels, or the top classes where there are none.

    Raises:
        CistError: if a temperature is not positive.

    Example:
        >>> mass = mean_soft_labels([[1.0, 1.0], [50.0, 0.0], [0.0, 0.0]], 1.0, [0, 0, 1])
        >>> mass.mean.tolist(), mass.samples.tolist()
        ([[0.75, 0.25], [0.5, 0.5]], [2, 1])
    """
    from scipy.sparse import csr_array  # takes longer to import than the rest of the analysis

    values, classes = np.asanyarray(logits), np.asarray(answers, dtype=np.int64)
    count, width = values.shape
    temperatures = np.broadcast_to(np.asarray(tau, dtype=np.float32), (count,))
    if not (temperatures > 0).all():
        raise CistError(
            f"Expected every temperature to be positive, but got {temperatures[~(temperatures > 0)].flat[0]:g}."
        )
    sums = np.zeros((width, width))
    for start in range(0, count, step := max(1, CHUNK_VALUES // width)):
        rows = _softmax(values[start : start + step], temperatures[start : start + step])
        belongs = classes[start : start + step]
        sums += csr_array((np.ones(len(rows), np.float32), (belongs, np.arange(len(rows)))), (width, len(rows))) @ rows
    samples = np.bincount(classes, minlength=width)
    with np.errstate(invalid="ignore"):
        return ClassMass(sums / samples[:, None], samples)


class Confusion(NamedTuple):
    """One pair of classes and what the soft labels say about it, as indices and shares of the mass."""

    answer: int
    other: int
    mass: float


def confused_pairs(mass: ClassMass, most: int) -> list[Confusion]:
    """The wrong classes that get most of another's soft labels, the largest mean mass first."""
    off = mass.mean.copy()
    np.fill_diagonal(off, np.nan)
    order = np.argsort(off, axis=None)  # NaN goes last
    order = order[: np.count_nonzero(~np.isnan(off))][::-1][:most]
    rows, columns = np.unravel_index(order, off.shape)
    return [
        Confusion(int(row), int(column), float(off[row, column])) for row, column in zip(rows, columns, strict=True)
    ]


def _softmax(rows: NDArray[np.floating[Any]], tau: NDArray[np.float32]) -> NDArray[np.float32]:
    """In float32, as `soft_labels` in float64 takes three times as long on whole data sets."""
    scaled = rows.astype(np.float32)
    scaled -= scaled.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # minus infinity is a probability of 0, as it should be
        scaled /= tau[:, None]
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled
