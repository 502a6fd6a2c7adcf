"""Runs as the Runs page shows them: read from their directories, listed, coloured, compared."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cist_core.charts.training import RUN_COLOURS
from cist_core.charts.training_sentences import RunCurve, accuracy_sentence
from cist_core.errors import CistError
from cist_core.logits.logit_set import LogitSet
from cist_core.training.fields import flat, upgraded
from cist_core.training.logit_scale import VERBS, ScaleFault
from cist_core.wording import percent

if TYPE_CHECKING:
    from cist_core.runs import Run

MOST_SELECTED = len(RUN_COLOURS)
"""As many runs lie over one another on the charts; each has a colour of its own."""

ACTIVE = ("queued", "running")

METHOD_COLOURS = {"cist": RUN_COLOURS[0], "kd": RUN_COLOURS[1]}
"""One run under CIST is blue, one under a fixed temperature amber, as on the other pages."""


@dataclass(frozen=True)
class RunView:
    """One run, read once; everything the page says of it comes from here."""

    run: Run
    label: str
    config: Mapping[str, Any] = field(repr=False)
    status: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def state(self) -> str:
        return str(self.run.state)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def scale_fault(self) -> ScaleFault | None:
        """What is wrong with the scale of the student's logits, as the run itself says."""
        return ScaleFault.from_status(self.status)

    @property
    def method(self) -> str:
        return str(self.config.get("objective", {}).get("name", "?"))

    @property
    def student(self) -> str:
        return str(self.config.get("student", {}).get("architecture", "?"))

    @property
    def data(self) -> str:
        return str(self.config.get("data", {}).get("name", "?"))

    @property
    def seed(self) -> int | None:
        return self.config.get("seed")

    @property
    def epoch(self) -> int:
        return int(self.status.get("epoch") or 0)

    @property
    def epochs(self) -> int:
        return int(self.status.get("epochs") or self.config.get("epochs") or 1)

    @property
    def progress(self) -> float:
        """Share of the steps that are done, from 0 to 1."""
        step, steps = self.status.get("step"), self.status.get("steps")
        share = step / steps if step is not None and steps else self.epoch / self.epochs
        return min(max(share, 0.0), 1.0)

    @property
    def seconds(self) -> float | None:
        """From start to end; None while it has not ended."""
        if self.run.started_at is None or self.run.ended_at is None:
            return None
        return self.run.ended_at - self.run.started_at

    def number(self, name: str) -> float | None:
        """A number of the status; None where it says none."""
        value = self.status.get(name)
        return float(value) if isinstance(value, int | float) else None

    def curve(self, colour: str) -> RunCurve:
        return RunCurve(self.label, colour, self.run.directory.metrics(), self.epochs)

    def position(self) -> str:
        """Epochs done of all, and what is left at the present speed: ``7 / 12, 15 s left``."""
        left = self.number("eta_seconds") if self.state == "running" else None
        done = f"{self.epoch:,} / {self.epochs:,}"
        return done if left is None else f"{done}, {duration(left)} left"

    @property
    def phase(self) -> str | None:
        """What a running run does beside training: ``teacher on training images, 600 of 1,000``."""
        phase = self.status.get("phase")
        if self.state != "running" or phase in (None, "training"):
            return None
        done, total = self.number("phase_done"), self.number("phase_total")
        return f"{phase}, {done:,.0f} of {total:,.0f}" if done is not None and total else str(phase)

    def details(self) -> str:
        """What a person wants to know next, in one line: why it stopped, how far it is, or how it ended."""
        parts = []
        if self.state == "running":
            parts.append(self.phase or f"epochs: {self.position()}")
            if (speed := self.number("samples_per_second")) is not None:
                parts.append(f"{speed:,.0f} images a second")
        elif self.state == "finished":
            if (accuracy := self.number("test_accuracy")) is not None:
                parts.append(f"{percent(accuracy)} on test")
            if self.seconds is not None:
                parts.append(f"trained in {duration(self.seconds)}")
        elif self.state != "queued":
            reason = self.run.reason or str(self.status.get("reason") or "no reason was recorded")
            parts.append(reason.rstrip("."))
            if self.epoch:
                parts.append(f"{self.epoch:,} of {self.epochs:,} epochs are done")
        parts += [str(warning) for warning in self.status.get("warnings") or ()]
        if self.run.note:
            parts.append(self.run.note)
        return " · ".join(parts)


def duration(seconds: float) -> str:
    """A time as a person says it.

    Example:
        >>> duration(8.2), duration(200), duration(18_600), duration(187_200)
        ('8 s', '3 min 20 s', '5 h 10 min', '2 d 4 h')
    """
    whole = max(1, round(seconds))
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = (whole % size) // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def read_runs(runs: Sequence[Run]) -> list[RunView]:
    """Read what the runs say of themselves; one without a readable config is listed all the same."""
    return [
        RunView(run, run.name or run.id, _read_config(str(run.directory.config_file)), run.directory.status())
        for run in runs
    ]


@lru_cache(maxsize=4096)
def _read_config(path: str) -> Mapping[str, Any]:
    """A run's config never changes."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return upgraded(content) if isinstance(content, dict) else {}
    except (OSError, ValueError, CistError):
        return {}


def told_apart(views: Sequence[RunView]) -> list[RunView]:
    """The runs with labels that differ: a name that stands twice is followed by what differs, or by a number."""
    labels: list[str] = []
    for view in views:
        namesakes = [other for other in views if other.label == view.label]
        parts = [view.label]
        for name, value in (("student", view.student), ("data", view.data), ("seed", f"seed {view.seed}")):
            if len({getattr(other, name) for other in namesakes}) > 1:
                parts.append(value)
        labels.append(", ".join(parts))
    numbered = [
        f"{label} ({labels[:index].count(label) + 1})" if labels.count(label) > 1 else label
        for index, label in enumerate(labels)
    ]
    return [replace(view, label=label) for view, label in zip(views, numbered, strict=True)]


def assign_colours(selected: Sequence[RunView], kept: Mapping[str, str]) -> dict[str, str]:
    """A colour for each run, up to `MOST_SELECTED`: the one it has had, else its method's, else the next free one."""
    colours = {view.id: kept[view.id] for view in selected if view.id in kept}
    for view in selected:
        colour = METHOD_COLOURS.get(view.method)
        if view.id not in colours and colour is not None and colour not in colours.values():
            colours[view.id] = colour
    # Those that stand for a method go last.
    spare = sorted(RUN_COLOURS, key=lambda colour: colour in METHOD_COLOURS.values())
    for view in selected:
        if view.id not in colours:
            colours[view.id] = next(colour for colour in spare if colour not in colours.values())
    return colours


def swatch(colour: str | None) -> str:
    """A small disc as an image address; None: an empty one."""
    paint = f"fill='{colour}'" if colour else "fill='none'"
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='6' {paint}/></svg>"
    return "data:image/svg+xml;utf8," + svg.replace("#", "%23")


def listing(views: Sequence[RunView], colours: Mapping[str, str]) -> pd.DataFrame:
    """One row a run for the list, the newest first."""
    table = pd.DataFrame(
        {
            "Colour": [swatch(colours.get(view.id)) for view in views],
            "Run": [view.label for view in views],
            "State": [[view.state, *([view.scale_fault.state] if view.scale_fault else [])] for view in views],
            "Progress": [view.progress * 100 for view in views],
            "Epoch": [view.position() for view in views],
            "Validation": [_hundredfold(view.number("last_val_accuracy")) for view in views],
            "Test": [_hundredfold(view.number("test_accuracy")) for view in views],
            "Method": [view.method for view in views],
            "Student": [view.student for view in views],
            "Data": [view.data for view in views],
            "Seed": pd.Series([view.seed for view in views], dtype="Int64"),
            "Added": pd.to_datetime([view.run.created_at for view in views], unit="s", utc=True),
            "Group": [view.run.group or "" for view in views],
        }
    )
    return table if table["Group"].any() else table.drop(columns="Group")


def _hundredfold(share: float | None) -> float:
    return float("nan") if share is None else 100 * share


def headline(views: Sequence[RunView], curves: Sequence[RunCurve]) -> str:
    """What came of the selected runs, in one sentence."""
    if any(curve.rows for curve in curves):
        return "; ".join(filter(None, (accuracy_sentence(curves), _faults(views))))
    first = views[0]
    if len(views) > 1:
        return f"None of these {len(views)} runs has ended an epoch yet"
    if first.phase is not None:
        return f"{first.label} is getting ready: {first.phase}"
    return f"{first.label} {_WITHOUT_AN_EPOCH[first.state]}"


def _faults(views: Sequence[RunView]) -> str:
    """Whose logits have collapsed or are running away, in the fewest words."""
    faulty = [(view.label, view.scale_fault.state) for view in views if view.scale_fault]
    if len(views) == 1 and faulty:
        return f"its logits {VERBS[faulty[0][1]]}"
    return "; ".join(f"the logits of {label} {VERBS[state]}" for label, state in faulty)


_WITHOUT_AN_EPOCH = {
    "queued": "waits in the queue",
    "running": "is in its first epoch",
    "finished": "ended without an epoch",
    "failed": "failed before its first epoch ended",
    "cancelled": "was cancelled before its first epoch ended",
    "lost": "was lost before its first epoch ended",
}


def results(views: Sequence[RunView]) -> pd.DataFrame:
    """One row a run: accuracies in percent, of the last epoch and of the best on validation."""
    columns = {
        "Validation, last": "last_val_accuracy",
        "Validation, best": "best_val_accuracy",
        "Test, last": "test_accuracy",
        "Test at best": "test_accuracy_at_best",
        "Teacher on test": "teacher_test_accuracy",
        "Agreement": "test_agreement",
    }
    table: dict[str, Any] = {"Run": [view.label for view in views]}
    for name, key in columns.items():
        table[name] = [_hundredfold(view.number(key)) for view in views]
    table["Best epoch"] = pd.Series([view.status.get("best_epoch") for view in views], dtype="Int64")
    table["Seed"] = pd.Series([view.seed for view in views], dtype="Int64")
    table["Time"] = [None if view.seconds is None else duration(view.seconds) for view in views]
    return pd.DataFrame(table).dropna(axis="columns", how="all")


def with_their_groups(selected: Sequence[RunView], every: Sequence[RunView]) -> list[RunView]:
    """The selected runs, and those that were launched together with one of them."""
    groups = {view.run.group for view in selected} - {None}
    chosen = {view.id for view in selected}
    return [view for view in every if view.id in chosen or view.run.group in groups]


def over_seeds(views: Sequence[RunView]) -> pd.DataFrame:
    """One row for every config that several of the runs share but for the seed; empty if there is none.

    Mean and standard deviation over the finished ones of the accuracy of the last epoch, in percent, and the 95 %
    interval of the mean by Student's t.
    """
    from cist_core.runs import outcomes, summarise

    rows = []
    for setting in summarise(outcomes(view.run for view in views)):
        for name, measure in (("test", "test_accuracy"), ("validation", "val_accuracy")):
            found = setting.measures[measure]
            if found is not None and found.n > 1:
                numbers = {"Mean": found.mean, "Deviation": found.sd, "From": found.low, "To": found.high}
                scaled = {key: 100 * value for key, value in numbers.items()}
                rows.append({"Setting": setting.name, "Accuracy on": name, "Seeds": found.n, **scaled})
    return pd.DataFrame(rows)


def config_difference(views: Sequence[RunView]) -> pd.DataFrame:
    """The fields of the configs that are not the same everywhere, one row a field."""
    written = {
        view.label: {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in flat(view.config).items()
        }
        for view in views
    }
    names = dict.fromkeys(name for fields in written.values() for name in fields)
    rows = {name: [fields.get(name, "–") for fields in written.values()] for name in names}
    different = {name: values for name, values in rows.items() if len(set(values)) > 1}
    table = pd.DataFrame.from_dict(different, orient="index", columns=list(written))
    return table.rename_axis("Field").reset_index()


@dataclass(frozen=True)
class Answers:
    """The top class that a student gives each test image, and the right one."""

    top: NDArray[np.int64]
    labels: NDArray[np.int64] | None

    @classmethod
    def load(cls, path: Path) -> Answers:
        """From a run's test logits.

        Raises:
            CistError: if the file cannot be read.
        """
        logit_set = LogitSet.load(path)
        return cls(np.asarray(logit_set.logits).argmax(axis=1), logit_set.labels)


def agreement(answers: Mapping[str, Answers]) -> pd.DataFrame:
    """Share of the images, in percent, on which each two students give the same class.

    Raises:
        CistError: if they were not tested on the same images.
    """
    _check_same_images(answers)
    names = list(answers)
    shares = [[100 * float(np.mean(answers[a].top == answers[b].top)) for b in names] for a in names]
    return pd.DataFrame(shares, columns=names, index=names).rename_axis("Run").reset_index()


def who_is_right(a: Answers, b: Answers) -> dict[str, int] | None:
    """How many images both students, only one, or neither gets right; None without labels."""
    if a.labels is None:
        return None
    right_a, right_b = a.top == a.labels, b.top == a.labels
    return {
        "both": int(np.count_nonzero(right_a & right_b)),
        "first": int(np.count_nonzero(right_a & ~right_b)),
        "second": int(np.count_nonzero(~right_a & right_b)),
        "neither": int(np.count_nonzero(~right_a & ~right_b)),
    }


def agreement_sentence(answers: Mapping[str, Answers]) -> str:
    """How much the students agree: for two, also who is right alone."""
    _check_same_images(answers)
    (first, a), *others = answers.items()
    if len(others) > 1:
        table = agreement(answers).drop(columns="Run").to_numpy()
        apart = table[np.triu_indices(len(answers), 1)]
        return f"The students agree on {apart.min():.1f} to {apart.max():.1f} % of {len(a.top):,} test images"
    second, b = others[0]
    same = percent(float(np.mean(a.top == b.top)))
    start = f"The students agree on {same} of {len(a.top):,} test images"
    counts = who_is_right(a, b)
    if counts is None:
        return start
    return f"{start}; only {first} is right on {counts['first']:,}, only {second} on {counts['second']:,}"


def _check_same_images(answers: Mapping[str, Answers]) -> None:
    (name, first), *others = answers.items()
    for other_name, other in others:
        same = len(first.top) == len(other.top) and (
            first.labels is None or other.labels is None or np.array_equal(first.labels, other.labels)
        )
        if not same:
            raise CistError(
                f"{name} and {other_name} were tested on different images ({len(first.top):,} and "
                f"{len(other.top):,}), so their answers do not compare; select runs on the same data."
            )


def metrics_table(views: Sequence[RunView]) -> pd.DataFrame:
    """Every epoch of every run, with the run's name and id in front."""
    rows = [{"run": view.label, "id": view.id, **row} for view in views for row in view.run.directory.metrics()]
    return pd.DataFrame(rows)


def everything(views: Sequence[RunView]) -> str:
    """Configs, states and metrics of the runs as JSON."""
    content = [
        {
            "id": view.id,
            "name": view.run.name,
            "note": view.run.note,
            "group": view.run.group,
            "state": view.state,
            "config": dict(view.config),
            "status": dict(view.status),
            "metrics": view.run.directory.metrics(),
        }
        for view in views
    ]
    return json.dumps(content, indent=2)


def student_archive(view: RunView) -> bytes:
    """The trained student as a zip file: weights of the last and the best epoch, its card and the config."""
    directory = view.run.directory
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in (directory.student, directory.best_student, directory.student_card, directory.config_file):
            if file.is_file():
                archive.write(file, file.name)
    return buffer.getvalue()
