"""What one epoch of training on tokens looked like: its spreads too, of which sums alone say nothing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cist_core.objectives import ChunkedLogits, StepMean, Terms
from cist_core.objectives.chunks import Chunks
from cist_core.temperature.logit_rows import LogitRows
from cist_core.training.statistics import EpochStatistics, widest

_OCTAVES, _PARTS = 40, 32
"""Weights from 2^-40 to 2^40 are counted, in 32 parts an octave: quantiles are off by at most 2 %."""
_WEIGHT_BINS = 1 + 2 * _OCTAVES * _PARTS
"""The first is for weights of 0."""
_ENTROPIES = 500
DECILES = 10
_WEIGHTS, _COUNTS, _SHARES, _EMPTY = "weight counts", "entropy counts", "entropy weights", "empty steps"


class TokenStatistics(EpochStatistics):
    """Sums over the counted tokens, and counts of weights and entropies, which add up as well.

    Args:
        classes: of the vocabulary that take part.
        processes: whose sums will be added up.
    """

    def __init__(self, classes: int, processes: int = 1) -> None:
        super().__init__()
        self._processes = processes
        self._largest_entropy = math.log(classes)

    @torch.no_grad()
    def add(self, *, terms: Terms, **inputs: Any) -> None:
        """Take one step in.

        Args:
            terms: what the objective returned.
            inputs: what it was called with.
        """
        labels, step = inputs["labels"], inputs["num_items"]
        assert isinstance(step, StepMean)
        wide = widest(labels.device)
        empty = torch.as_tensor(step.nothing_counts, dtype=wide, device=labels.device)
        items = torch.as_tensor(step.num_items, dtype=wide, device=labels.device) * (1 - empty)
        for name, term in terms.items():
            if term.dim() == 0:
                value = term.detach().to(wide)
                self._sum(f"loss_{name}", torch.stack([items, items * value, items * value.square()]))
        self._sum(_EMPTY, (empty / self._processes).reshape(1))
        student, teacher = (ChunkedLogits.of(inputs[name]) for name in ("student_logits", "teacher_logits"))
        chunks = Chunks(("student_logits", "teacher_logits"), student, teacher, labels, check=False)
        softened = "tau_teacher" in terms
        taus = (terms["tau_student"], terms["tau_teacher"]) if softened else (None, None)
        read = chunks.read_several(_measures, labels, *taus)
        measures = ["train_accuracy", "student_maximum", "teacher_maximum", "student_entropy", "teacher_entropy"]
        for name, values in zip(measures, read, strict=False):
            self._add(name, values.float())
        if softened:
            for name in ("tau_teacher", "tau_student", "weight"):
                self._add(name, terms[name].float())
            self._count(terms["weight"].to(wide), read[4].to(wide))

    def _count(self, weights: Tensor, entropies: Tensor) -> None:
        place = ((weights.log2() + _OCTAVES) * _PARTS).floor().clamp(0, _WEIGHT_BINS - 2).long() + 1
        place = torch.where(weights == 0, 0, place)
        self._sum(_WEIGHTS, torch.bincount(place, minlength=_WEIGHT_BINS).to(weights.dtype))
        place = (entropies / self._largest_entropy * _ENTROPIES).floor().clamp(0, _ENTROPIES - 1).long()
        self._sum(_COUNTS, torch.bincount(place, minlength=_ENTROPIES).to(weights.dtype))
        self._sum(_SHARES, torch.bincount(place, weights=weights, minlength=_ENTROPIES))

    def _sum(self, name: str, values: Tensor) -> None:
        self._sums[name] = self._sums[name] + values if name in self._sums else values

    def row(self) -> dict[str, float]:
        """As of `EpochStatistics`; with ``tokens``, how many counted, ``steps_without_tokens``, and where there are
        weights ``weight_median``, ``weight_95`` (which 95 % of the tokens do not exceed) and, unless all are 0,
        ``weight_share_1`` to ``weight_share_10``: the part of all weight that tokens of each tenth of the teacher's
        entropies have, lowest first."""
        if not self._sums:
            return {}
        plain = EpochStatistics()
        plain.load(
            {name: sums for name, sums in self._sums.items() if name not in (_WEIGHTS, _COUNTS, _SHARES, _EMPTY)}
        )
        counted = self._sums.get("train_accuracy")
        row = {**plain.row(), "tokens": 0.0 if counted is None else float(counted[0])}
        row["steps_without_tokens"] = float(self._sums[_EMPTY].sum())
        if _WEIGHTS in self._sums and row["tokens"]:
            row |= {"weight_median": self._weight_at(0.5), "weight_95": self._weight_at(0.95)}
            row |= {f"weight_share_{tenth}": share for tenth, share in enumerate(self._shares(), start=1)}
        return row

    def _weight_at(self, share: float) -> float:
        counts = self._sums[_WEIGHTS].cpu().double()
        place = int(torch.searchsorted(counts.cumsum(0), share * counts.sum()))
        return float(2.0 ** ((place - 0.5) / _PARTS - _OCTAVES)) if place else 0.0

    def _shares(self) -> list[float]:
        """Bins are cut where a tenth ends; within a bin weight is spread evenly. Empty where no token has any."""
        counts, weights = self._sums[_COUNTS].cpu().double(), self._sums[_SHARES].cpu().double()
        if not weights.sum():
            return []
        there = counts > 0
        passed = torch.cat([torch.zeros(1, dtype=torch.float64), counts[there].cumsum(0) / counts.sum()])
        held = torch.cat([torch.zeros(1, dtype=torch.float64), weights[there].cumsum(0) / weights.sum()])
        ends = torch.linspace(0, 1, DECILES + 1, dtype=torch.float64)
        after = torch.searchsorted(passed, ends).clamp(1, len(passed) - 1)
        part = (ends - passed[after - 1]) / (passed[after] - passed[after - 1])
        at_ends = torch.lerp(held[after - 1], held[after], part)
        return [float(share) for share in at_ends.diff()]


def _measures(
    student: LogitRows, teacher: LogitRows, labels: Tensor, tau_s: Tensor | None, tau_t: Tensor | None
) -> tuple[Tensor, ...]:
    found = ((student.answers == labels).to(student.maximum.dtype), student.maximum, teacher.maximum)
    return found if tau_s is None or tau_t is None else (*found, student.entropy(tau_s), teacher.entropy(tau_t))
