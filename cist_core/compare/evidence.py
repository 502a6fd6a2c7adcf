"""Which soft labels trained the best students in our own runs: the evidence behind the recommended rho.

``evidence.json`` is written by ``benchmarks/claim.py report``. It holds, for every setting of docs/claim.md, each
temperature and rho that was tried, the mean normalised entropy of the teacher's soft labels there, and the best
accuracy on validation over the learning rates and weights that were tried with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from cist_core.errors import CistError

_SPAN = 3.0
"""Evidence of one number of classes stands for others up to this factor more or fewer (our choice)."""
_DECISIVE = 0.5
"""Evidence that leaves more than this share of ln C open decides nothing (our choice)."""
_Z = 1.96
"""Two-sided 5 % of the normal distribution."""


@dataclass(frozen=True)
class TrainedPoint:
    """One rule of the teacher's soft labels and the best student that it trained.

    Attributes:
        rule: text of a fixed temperature or of CIST.
        normalised_entropy: mean entropy of the teacher's soft labels on the training samples over ``ln C``.
        accuracy: the best on validation, last epoch.
        runs: how many learning rates and weights were tried.
    """

    rule: str
    normalised_entropy: float
    accuracy: float
    runs: int

    @property
    def method(self) -> str:
        return "cist" if self.rule.startswith("cist") else "kd"


@dataclass(frozen=True)
class TrainedBest:
    """The soft labels that trained best in one setting.

    Attributes:
        setting: in words.
        classes: C.
        rule: the best.
        accuracy: its students' best accuracy on validation.
        target: its mean normalised entropy.
        low: the least mean normalised entropy whose students were not significantly worse.
        high: the largest.
        points: how many rules were tried.
        runs: how many runs there were with all of them.
        better: a rule that trained a better student with a learning rate and weight of its own, the best of those at a
            mean entropy outside that range where there are any; None if no rule did.
    """

    setting: str
    classes: int
    rule: str
    accuracy: float
    target: float
    low: float
    high: float
    points: int
    runs: int
    better: TrainedPoint | None = None

    @property
    def decides(self) -> bool:
        """Whether it leaves at most half of all mean entropies open, more than one was tried, and no better rule lies
        outside the range."""
        inside = self.better is None or self.low <= self.better.normalised_entropy <= self.high
        return self.points > 1 and self.high - self.low <= _DECISIVE and inside


@dataclass(frozen=True)
class Evidence:
    """The runs of one setting: with learning rates and weights that all rules were tried with, and others."""

    setting: str
    classes: int
    validation_samples: int
    points: tuple[TrainedPoint, ...]
    others: tuple[TrainedPoint, ...] = ()

    def best(self, method: str = "cist") -> TrainedBest | None:
        """The best of ``"cist"`` or ``"kd"``; None if the method was not tried.

        The range holds every rule whose accuracy lies within 1.96 standard errors of a difference,
        ``sqrt(2 a (1 - a) / n)`` on ``n`` validation samples, of the best accuracy ``a``. The same samples judge all
        rules, which makes the range wide; and a rule with fewer ``runs`` had fewer chances of a good one, which makes
        it narrow where the best was tried more often than the rest.
        """
        tried = [point for point in self.points if point.method == method]
        if not tried:
            return None
        best = max(tried, key=lambda point: point.accuracy)
        error = math.sqrt(2 * best.accuracy * (1 - best.accuracy) / self.validation_samples)
        level = [point.normalised_entropy for point in tried if point.accuracy >= best.accuracy - _Z * error]
        low, high = min(level), max(level)
        better = [point for point in self.others if point.method == method and point.accuracy > best.accuracy]
        return TrainedBest(
            self.setting,
            self.classes,
            best.rule,
            best.accuracy,
            best.normalised_entropy,
            low,
            high,
            len(tried),
            sum(point.runs for point in tried),
            max(
                better,
                key=lambda point: (not low <= point.normalised_entropy <= high, point.accuracy),
                default=None,
            ),
        )


def parse_evidence(entries: Iterable[Mapping[str, Any]]) -> tuple[Evidence, ...]:
    """From the content of ``evidence.json``."""
    return tuple(
        Evidence(
            entry["setting"],
            entry["classes"],
            entry["validation_samples"],
            tuple(TrainedPoint(**point) for point in entry["points"]),
            tuple(TrainedPoint(**point) for point in entry.get("others", ())),
        )
        for entry in entries
    )


@cache
def all_evidence() -> tuple[Evidence, ...]:
    """Every setting that was trained."""
    content = resources.files(__package__).joinpath("evidence.json").read_text(encoding="utf-8")
    return parse_evidence(json.loads(content))


def evidence_for(num_classes: int) -> Evidence | None:
    """The setting whose number of classes is nearest; None if none is within a factor of three.

    Of several it is the one with the most validation samples, which tells most apart.

    Raises:
        CistError: for fewer than two classes.

    Example:
        >>> evidence_for(100).classes
        100
        >>> evidence_for(1000) is None
        True
    """
    if num_classes < 2:
        raise CistError(f"Expected at least two classes, but got {num_classes}.")
    settings = [entry for entry in all_evidence() if entry.best() is not None]
    near = [entry for entry in settings if abs(math.log(entry.classes / num_classes)) <= math.log(_SPAN)]
    return min(
        near, key=lambda entry: (abs(math.log(entry.classes / num_classes)), -entry.validation_samples), default=None
    )
