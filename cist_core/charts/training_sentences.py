"""Sentences about training runs: the titles of the charts over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cist_core.training.logit_scale import VERBS, ScaleFault, scale_fault
from cist_core.wording import percent, three_digits

SAME_POINTS = 0.05
"""Accuracies nearer than this, in percentage points, print as the same number."""

MOST_NAMED = 3
"""So many settings have their numbers in a title; more are told by the smallest and the largest."""

_TERMS = {"loss_total": "total loss", "loss_ce": "cross-entropy", "loss_kd": "distillation term"}


Row = Mapping[str, float]


@dataclass(frozen=True)
class RunCurve:
    """One setting as the charts show it: a run, or the mean of several that differ in nothing but the seed.

    Attributes:
        name: told apart from the others on the chart.
        colour: the same on every chart.
        rows: its metrics, one row a finished epoch (see `cist_core.training.RunDirectory.metrics`).
        epochs: how many there will be.
        seeds: the rows of every seed that has one; empty for a single run.
    """

    name: str
    colour: str
    rows: Sequence[Row] = field(repr=False)
    epochs: int
    seeds: Sequence[Sequence[Row]] = field(default=(), repr=False)

    @classmethod
    def over_seeds(cls, name: str, colour: str, runs: Sequence[Sequence[Row]], epochs: int) -> RunCurve:
        """The mean, epoch by epoch, of the runs that have come so far."""
        started = [rows for rows in runs if rows]
        if len(started) < 2:
            return cls(name, colour, started[0] if started else (), epochs)
        return cls(name, colour, _mean_rows(started), epochs, started)

    @property
    def histories(self) -> Sequence[Sequence[Row]]:
        """The rows of every run behind it, one at least."""
        return self.seeds or (self.rows,)

    @property
    def softened(self) -> bool:
        """Whether its objective has soft labels, as far as its epochs tell."""
        return self.last("teacher_entropy_mean") is not None

    def last(self, key: str) -> float | None:
        """The newest value of a metric; None if no epoch has it."""
        return next((row[key] for row in reversed(self.rows) if row.get(key) is not None), None)

    @property
    def scale_fault(self) -> ScaleFault | None:
        """What is wrong with the scale of a student's logits in the newest epoch of its run, if anything."""
        return next((fault for rows in self.histories if (fault := scale_fault(rows, self.epochs))), None)

    def first(self, key: str) -> float | None:
        return next((row[key] for row in self.rows if row.get(key) is not None), None)


def _mean_rows(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """One row an epoch: the mean of every metric over the runs that have it there."""
    epochs = max(runs, key=len)
    return [
        {
            "epoch": epochs[index]["epoch"],
            **{
                key: float(np.mean(values))
                for key in epochs[index]
                if key != "epoch"
                if (
                    values := [
                        rows[index][key] for rows in runs if len(rows) > index and rows[index].get(key) is not None
                    ]
                )
            },
        }
        for index in range(len(epochs))
    ]


def term_name(term: str) -> str:
    """A loss as a person reads it: ``loss_kd`` is the distillation term."""
    return _TERMS.get(term, f"{term.removeprefix('loss_').replace('_', ' ')} term")


def accuracy_sentence(runs: Sequence[RunCurve]) -> str:
    """How far every setting is on validation, at an epoch that all have reached; who is best is for tests to say."""
    started = [run for run in runs if run.rows]
    if not started:
        return "No epoch has ended yet"
    if len(started) == 1:
        return _one_accuracy(started[0])
    common = min(len(run.rows) for run in started)
    same_length = all(len(run.rows) == common for run in started)
    when = f"after {_epochs(common)}" if same_length else f"after {_epochs(common)}, the last that all have"
    if len(started) > MOST_NAMED:
        reached = [run.rows[common - 1]["val_accuracy"] for run in started]
        return f"Validation accuracy {when}: {percent(min(reached))} to {percent(max(reached))}"
    told = ", ".join(f"{run.name} {percent(run.rows[common - 1]['val_accuracy'])}" for run in started)
    return f"Validation accuracy {when}: {told}"


def _one_accuracy(run: RunCurve) -> str:
    now, done = run.rows[-1]["val_accuracy"], len(run.rows)
    if done < run.epochs:
        return f"{run.name} is at {percent(now)} on validation after {done:,} of {_epochs(run.epochs)}"
    best = max(range(done), key=lambda index: run.rows[index]["val_accuracy"])
    start = f"{run.name} reached {percent(now)} on validation after {_epochs(done)}"
    behind = 100 * (run.rows[best]["val_accuracy"] - now)
    return start if behind < SAME_POINTS else f"{start}, {_points(behind)} below its best, epoch {best + 1:,}"


def loss_sentence(runs: Sequence[RunCurve], term: str) -> str:
    """How far a loss has come since the first epoch; losses of different objectives do not compare."""
    changes = [(run, first, last) for run in runs if (ends := _ends(run, term)) for first, last in [ends]]
    if not changes:
        return f"No epoch with a {term_name(term)} has ended yet"
    if len(changes) == 1:
        _, first, last = changes[0]
        return f"The {term_name(term)} went from {three_digits(first)} to {three_digits(last)}"
    if len(changes) > MOST_NAMED:
        return f"The {term_name(term)} of {len(changes)} settings since the first epoch"
    told = [f"{run.name} {_change(first, last)}" for run, first, last in changes]
    return f"The {term_name(term)} since the first epoch: {', '.join(told)}"


def entropy_sentence(runs: Sequence[RunCurve]) -> str:
    """Mean entropy of teacher and student for one run; how far the teacher's spread for several."""
    softened = [run for run in runs if run.softened]
    if not softened:
        return "No soft labels so far"
    if len(softened) == 1:
        run = softened[0]
        teacher, student = run.last("teacher_entropy_mean"), run.last("student_entropy_mean")
        start = f"The teacher's soft labels have {_nats(teacher)} on average"
        return f"{start}, the student's {_nats(student)}" if student is not None else start
    told = _told([(run.name, run.last("teacher_entropy_std")) for run in softened], " nats")
    return f"Spread of the teacher's entropy: {told}"


def temperature_sentence(runs: Sequence[RunCurve]) -> str:
    """Mean temperature of teacher and student for one run; of the student for several."""
    softened = [run for run in runs if run.last("tau_student_mean") is not None]
    if not softened:
        return "No temperatures so far"
    if len(softened) == 1:
        run = softened[0]
        teacher, student = run.last("tau_teacher_mean"), run.last("tau_student_mean")
        if teacher == student and not run.last("tau_teacher_std"):
            return f"One temperature for everything: τ = {_number(teacher)}"
        first = run.first("tau_student_mean")
        return (
            f"The student's temperature went from {_number(first)} to {_number(student)}, "
            f"the teacher's is {_number(teacher)} on average"
        )
    told = _told([(run.name, run.last("tau_student_mean")) for run in softened])
    return f"The student's mean temperature: {told}"


def maximum_sentence(runs: Sequence[RunCurve]) -> str:
    """Whether the student's logits grow, have collapsed or run away."""
    ends = [(run, *pair) for run in runs if (pair := _ends(run, "student_maximum_mean"))]
    if not ends:
        return "No epoch has ended yet"
    if faults := scale_sentence(runs):
        return f"{faults[0].upper()}{faults[1:]}"
    if len(ends) == 1:
        _, first, last = ends[0]
        return f"The student's centred maximum went from {_number(first)} to {_number(last)}"
    told = _told([(run.name, last) for run, _, last in ends])
    return f"The student's centred maximum: {told}"


def scale_sentence(runs: Sequence[RunCurve]) -> str:
    """Whose logits have collapsed or are running away; empty if nobody's."""
    faulty = [(run.name, fault) for run in runs if (fault := run.scale_fault)]
    if len(faulty) == 1:
        ((name, fault),) = faulty
        return f"the logits of {name} {fault}"
    names = {state: [name for name, fault in faulty if fault.state == state] for state in VERBS}
    return " and ".join(f"the logits of {', '.join(names[state])} {VERBS[state]}" for state in VERBS if names[state])


def _told(values: Sequence[tuple[str, float | None]], unit: str = "") -> str:
    """The value of each, or from the smallest to the largest of many."""
    if len(values) <= MOST_NAMED:
        return ", ".join(f"{_number(value)}{unit} under {name}" for name, value in values)
    known = [value for _, value in values if value is not None]
    return f"{_number(min(known, default=None))} to {_number(max(known, default=None))}{unit}"


def _ends(run: RunCurve, key: str) -> tuple[float, float] | None:
    first, last = run.first(key), run.last(key)
    return None if first is None or last is None else (first, last)


def _change(first: float, last: float) -> str:
    if first <= 0:
        return f"{three_digits(first)} to {three_digits(last)}"
    return f"{100 * (last - first) / first:+.0f} %".replace("-", "−")


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count:,} epochs"


def _points(points: float) -> str:
    return f"{points:.1f} points"


def _nats(value: float | None) -> str:
    return f"{_number(value)} nats"


def _number(value: float | None) -> str:
    return "?" if value is None else three_digits(value)
