"""What one epoch of training looked like: means and spreads over its samples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from cist_core.objectives import Terms
from cist_core.objectives.values import taking_part
from cist_core.temperature.logit_rows import LogitRows, entropy

SPREAD = ("teacher_entropy", "student_entropy", "tau_teacher", "tau_student", "weight")
"""Quantities with one value a sample, of which mean and standard deviation are reported."""

MAXIMA = ("student_maximum", "teacher_maximum")
"""The centred maxima: their means tell the scale of the logits."""


def widest(device: torch.device) -> torch.dtype:
    """What sums are kept in: float64, which Apple's GPUs do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


class EpochStatistics:
    """Counts, sums and sums of squares of every quantity; they add up over steps and processes."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(
        self, *, terms: Terms, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, **others: Tensor
    ) -> None:
        """Take one step in.

        Args:
            terms: what the objective returned.
            student_logits: ``(B, C)``.
            teacher_logits: likewise.
            labels: ``(B,)``.
            others: what else the objective was called with; not read.
        """
        student, teacher = student_logits.detach().float(), teacher_logits.float()
        count = len(labels)
        for name, term in terms.items():
            if term.dim() == 0:
                self._add(f"loss_{name}", term.detach().float().expand(count))
        self._add("train_accuracy", (student.argmax(1) == labels).float())
        part = taking_part(student, teacher, labels)
        rows = {"student": LogitRows(student, part), "teacher": LogitRows(teacher, part)}
        for model in ("student", "teacher"):
            self._add(f"{model}_maximum", rows[model].maximum)
        if "tau_teacher" in terms:
            for name in ("tau_teacher", "tau_student", "weight"):
                self._add(name, terms[name].float())
            for model in ("teacher", "student"):
                self._add(f"{model}_entropy", entropy(rows[model].log_probabilities(terms[f"tau_{model}"].float())))

    def _add(self, name: str, values: Tensor) -> None:
        wide = values.to(widest(values.device))
        added = torch.stack([torch.ones_like(wide).sum(), wide.sum(), wide.square().sum()])
        self._sums[name] = self._sums[name] + added if name in self._sums else added

    def state(self) -> dict[str, Tensor]:
        """The sums, to be kept or added up over processes."""
        return dict(self._sums)

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._sums = dict(state)

    def row(self) -> dict[str, float]:
        """Every quantity by its name in ``metrics.jsonl``; empty before the first step."""
        out: dict[str, float] = {}
        for name, sums in self._sums.items():
            count, total, squares = sums.tolist()
            mean = total / max(count, 1.0)
            if name in SPREAD:
                out[f"{name}_mean"] = mean
                out[f"{name}_std"] = math.sqrt(max(squares / max(count, 1.0) - mean * mean, 0.0))
            elif name in MAXIMA:
                out[f"{name}_mean"] = mean
            else:
                out[name] = mean
        return out
