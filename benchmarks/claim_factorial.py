"""What does it? The parts of CIST switched on one by one, at the learning rate that suited CIST best."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from claim_search import Runs, canonical, found
from claim_settings import SETTINGS
from students import Lesson, Plan

from cist_core import Cist, EntropyCurves, LogitSet
from cist_core.compare.matching import match_tau

RHO, LAMBDAS = 3.0, (1.0, 2.0, 4.0, 8.0)
TEMPERATURES = {
    "global": "one temperature, of the same mean entropy",
    "teacher": "one per sample for the teacher, one for all for the student",
    "both": "one per sample for teacher and student",
}
WEIGHTS = {"uniform": "the same for all, of equal mean", "product": "product of the temperatures"}
FLOORS = (0.0, 1.0)


@dataclass(frozen=True)
class Factorial:
    """Where the combinations are trained, and with how many seeds."""

    setting: str
    seeds: tuple[int, ...]


FACTORIALS = {
    "factorial-features": Factorial("patch-features", tuple(range(100, 110))),
    "factorial": Factorial("cifar100-10k", (100, 101)),
}
"""By the names that ``claim.py run`` takes; the quick one first."""


@dataclass(frozen=True)
class Cell:
    """One combination of the factors."""

    temperatures: str
    weight: str
    floor: float
    lambda_kl: float

    def objective(self, taus: dict[float, float]) -> str:
        """Its objective, in the gradient mode ``constant`` at any floor.

        Args:
            taus: the fixed temperature of the mean entropy of CIST, by floor.
        """
        tau, common = taus[self.floor], f"lambda_kl={self.lambda_kl:g}"
        if self.temperatures == "global":
            return canonical(f"kd:tau={tau:g},{common}")
        if self.temperatures == "teacher":
            return canonical(
                f"cist-teacher-only:rho={RHO:g},tau={tau:g},floor={self.floor:g},weighting={self.weight},{common}"
            )
        return canonical(f"cist:rho={RHO:g},floor={self.floor:g},weighting={self.weight},{common}")


def cells() -> Iterator[Cell]:
    """Every combination; one temperature for all has one weight, ``tau^2``, which is both of them."""
    for cell in itertools.starmap(Cell, itertools.product(TEMPERATURES, WEIGHTS, FLOORS, LAMBDAS)):
        if cell.temperatures != "global" or cell.weight == "product":
            yield cell


def matched_taus(lesson: Lesson) -> dict[float, float]:
    """The fixed temperature with the mean entropy of CIST on the training samples, by floor."""
    assert lesson.teacher_logits is not None
    curves = EntropyCurves.from_logits(LogitSet.create(lesson.teacher_logits.numpy()))
    means = {floor: float(np.mean(Cist(RHO, floor).entropy(curves), dtype=np.float64)) for floor in FLOORS}
    return {floor: float(f"{match_tau(curves, mean):.3g}") for floor, mean in means.items()}


def learning_rate(runs: Runs, setting: str) -> float | None:
    """CIST's own, once it is tuned there."""
    best = found(runs, SETTINGS, setting, "cist").best
    return None if best is None else best["learning_rate"]


def factorial_plans(runs: Runs, factorial: Factorial, lesson: Lesson) -> list[Plan]:
    """All runs of a factorial; none before CIST is tuned."""
    rate, taus = learning_rate(runs, factorial.setting), matched_taus(lesson)
    if rate is None:
        return []
    return list(
        dict.fromkeys(
            Plan(factorial.setting, cell.objective(taus), rate, seed) for cell in cells() for seed in factorial.seeds
        )
    )
