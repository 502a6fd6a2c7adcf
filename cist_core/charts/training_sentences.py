"""Sentences about training runs: the titles of the charts over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cist_core.training.logit_scale import VERBS, ScaleFault, scale_fault
from cist_core.wording import percent, three_digits

SAME_POINTS = 0.05
"""Accuracies nearer than this, in percentage points, print as the same number."""

_TERMS = {"loss_total": "total loss", "loss_ce": "cross-entropy", "loss_kd": "distillation term"}


@dataclass(frozen=True)
class RunCurve:
    """One run as the charts show it.

    Attributes:
        name: told apart from the others on the chart.
        colour: the same on every chart.
        rows: its metrics, one row a finished epoch (see `cist_core.training.RunDirectory.metrics`).
        epochs: how many there will be.
    """

    name: str
    colour: str
    rows: Sequence[Mapping[str, float]] = field(repr=False)
    epochs: int

    @property
    def softened(self) -> bool:
        """Whether its objective has soft labels, as far as its epochs tell."""
        return self.last("teacher_entropy_mean") is not None

    def last(self, key: str) -> float | None:
        """The newest value of a metric; None if no epoch has it."""
        return next((row[key] for row in reversed(self.rows) if row.get(key) is not None), None)

    @property
    def scale_fault(self) -> ScaleFault | None:
        """What is wrong with the scale of its student's logits in the newest epoch, if anything."""
        return scale_fault(self.rows, self.epochs)

    def first(self, key: str) -> float | None:
        return next((row[key] for row in self.rows if row.get(key) is not None), None)


def term_name(term: str) -> str:
    """A loss as a person reads it: ``loss_kd`` is the distillation term."""
    return _TERMS.get(term, f"{term.removeprefix('loss_').replace('_', ' ')} term")


def accuracy_sentence(runs: Sequence[RunCurve]) -> str:
    """Who is ahead on validation, by how much, after how many epochs; compared at an epoch that all have reached."""
    started = [run for run in runs if run.rows]
    if not started:
        return "No epoch has ended yet"
    if len(started) == 1:
        return _one_accuracy(started[0])
    common = min(len(run.rows) for run in started)
    ranked = sorted(started, key=lambda run: -run.rows[common - 1]["val_accuracy"])
    best, second = ranked[:2]
    reached = best.rows[common - 1]["val_accuracy"]
    ahead = 100 * (reached - second.rows[common - 1]["val_accuracy"])
    same_length = all(len(run.rows) == common for run in started)
    when = f"after {_epochs(common)}" if same_length else f"after {_epochs(common)}, the last that all have"
    if ahead < SAME_POINTS:
        return f"{best.name} and {second.name} are level at {percent(reached)} on validation {when}"
    verb = "reached" if same_length and common >= best.epochs else "is at"
    others = f"{second.name}, the next of {len(started)}" if len(started) > 2 else second.name
    return f"{best.name} {verb} {percent(reached)} on validation {when}, {_points(ahead)} above {others}"


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
    told = ", ".join(f"{_nats(run.last('teacher_entropy_std'))} under {run.name}" for run in softened)
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
    told = ", ".join(f"{_number(run.last('tau_student_mean'))} under {run.name}" for run in softened)
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
    told = ", ".join(f"{_number(last)} under {run.name}" for run, _, last in ends)
    return f"The student's centred maximum: {told}"


def scale_sentence(runs: Sequence[RunCurve]) -> str:
    """Whose logits have collapsed or are running away; empty if nobody's."""
    faulty = [(run.name, fault) for run in runs if (fault := run.scale_fault)]
    if len(faulty) == 1:
        ((name, fault),) = faulty
        return f"the logits of {name} {fault}"
    names = {state: [name for name, fault in faulty if fault.state == state] for state in VERBS}
    return " and ".join(f"the logits of {', '.join(names[state])} {VERBS[state]}" for state in VERBS if names[state])


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
