"""Runs as the Runs page shows them: read from their directories, listed, coloured, compared."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import zipfile
from collections import Counter
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
from cist_core.documents import parse_json, read_bytes
from cist_core.errors import CistError
from cist_core.logits.logit_set import LogitSet
from cist_core.runs.comparison import SettingAccuracy, comparison_sentence, confidence_of_each, difference
from cist_core.runs.summary import setting_key
from cist_core.training.fields import flat, upgraded
from cist_core.training.logit_scale import VERBS, ScaleFault
from cist_core.training.objective_names import objective_label, parameter_label
from cist_core.training.run_files import MOST_BYTES
from cist_core.wording import percent, three_digits

if TYPE_CHECKING:
    from cist_core.runs import Run

MOST_SELECTED = len(RUN_COLOURS)
"""As many settings lie over one another on the charts; each has a colour of its own."""

ACTIVE = ("queued", "running")

METHOD_COLOURS = {"cist": RUN_COLOURS[0], "kd": RUN_COLOURS[1]}
"""One setting under CIST is blue, one under a fixed temperature amber, as on the other pages."""

STATES = ("running", "stopping", "queued", "finished", "failed", "lost", "cancelled")
"""In the order in which a setting says how many of its runs are in each."""

PLACES = {"local": "this machine", "slurm": "Slurm", "ray": "Ray"}
"""Where runs run, by the names of their executors, in words."""


@dataclass(frozen=True)
class RunView:
    """One run, read once; everything the page says of it comes from here."""

    run: Run
    label: str
    config: Mapping[str, Any] = field(repr=False)
    status: Mapping[str, Any] = field(repr=False)

    @property
    def damage(self) -> list[str]:
        """What of its files is damaged and therefore left out."""
        config = [] if self.config else [f"{self.run.directory.config_file.name} cannot be read"]
        return [*config, *self.run.directory.damage()]

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
    def of_texts(self) -> bool:
        """Whether its student is a language model."""
        return self.config.get("task") == "language"

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
        """Epochs done. A run that goes on where it was has not said so yet before its first step; its metrics do."""
        said = self.status.get("epoch")
        return len(self.run.directory.metrics()) if said is None and self.state == "running" else int(said or 0)

    @property
    def stopping(self) -> bool:
        return self.run.cancel_requested

    @property
    def shown_state(self) -> str:
        """Its state, or that it has been told to stop and is about to."""
        return "stopping" if self.stopping else self.state

    @property
    def test_images(self) -> int | None:
        """How many images it was tested on; None before that."""
        return count_samples(self.run.directory.test_logits)

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
        if self.stopping:
            parts.append("is stopping: it ends its step, saves where it is, and can be resumed")
        elif self.state == "running":
            parts += [self.phase] if self.phase else []
            parts += [f"epochs: {self.position()}"] if self.epoch or not self.phase else []
            if (speed := self.number("samples_per_second")) is not None:
                parts.append(f"{speed:,.0f} {'rows' if self.of_texts else 'images'} a second")
            parts += [self.run.reason.rstrip(".")] if self.run.reason else []  # why nobody knows whether it goes on
        elif self.state == "finished":
            if self.of_texts and (perplexity := self.number("test_perplexity")) is not None:
                parts.append(f"test perplexity {three_digits(perplexity)}")
            elif (accuracy := self.number("test_accuracy")) is not None:
                parts.append(f"{percent(accuracy)} on test")
            if self.seconds is not None:
                parts.append(f"trained in {duration(self.seconds)}")
        elif self.state == "queued":
            parts += [self.run.reason.rstrip(".")] if self.run.reason else []  # why it still waits
        else:
            reason = self.run.reason or str(self.status.get("reason") or "no reason was recorded")
            parts.append(reason.rstrip("."))
            if self.epoch:
                parts.append(f"{self.epoch:,} of {self.epochs:,} epochs are done")
        if self.run.executor is not None:
            parts.append(f"on {PLACES.get(self.run.executor, self.run.executor)}")
        parts += [*(self.status.get("warnings") or ()), *self.damage]
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
    return [RunView(run, run.name or run.id, _config_of(run), run.directory.status()) for run in runs]


def _config_of(run: Run) -> Mapping[str, Any]:
    """Nothing of one that cannot be used; a file that cannot be opened now may be there the next time."""
    try:
        return _read_config(str(run.directory.config_file))
    except OSError:
        return {}


@lru_cache(maxsize=4096)
def _read_config(path: str) -> Mapping[str, Any]:
    """A run's config never changes."""
    content = read_bytes(path, MOST_BYTES)
    try:
        known = parse_json(content)
        config = upgraded(known) if isinstance(known, dict) else {}
        return config if _is_config(config) else {}
    except (ValueError, CistError):
        return {}


def _is_config(content: Mapping[str, Any]) -> bool:
    """Whether it holds what this page reads of a config."""
    objective, student, data = (content.get(part) for part in ("objective", "student", "data"))
    named = ((objective, "name"), (student, "architecture"), (data, "name"))
    if not all(isinstance(part, dict) and isinstance(part.get(name), str) for part, name in named):
        return False
    counts = (content.get("seed", 0), content.get("epochs") or 1)
    if not all(isinstance(count, int) and 0 <= count < 2**53 for count in counts):
        return False
    try:
        setting_key(content)
        objective_label(content["objective"])
    except (TypeError, ValueError, AttributeError, KeyError):  # its parameters
        return False
    return True


@dataclass(frozen=True)
class SettingView:
    """The runs that differ in nothing but the seed, in the order of their seeds.

    Attributes:
        key: of the setting (`setting_key`).
        label: told apart from the others beside it.
        runs: one at least.
    """

    key: str
    label: str
    runs: tuple[RunView, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.runs[0].config

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the config by dotted name, but for the seed and the machine, which do not make a setting."""
        return flat({**self.config, "seed": 0, "machine": {}})

    @property
    def method(self) -> str:
        return self.runs[0].method

    @property
    def active(self) -> bool:
        return any(run.active for run in self.runs)

    @property
    def newest(self) -> float:
        return max(run.run.created_at for run in self.runs)

    @property
    def by_seed(self) -> dict[int | None, RunView]:
        """The runs that ended well; of a seed that was trained twice the newest, so that it counts once."""
        finished = [run for run in self.runs if run.state == "finished" and run.number("test_accuracy") is not None]
        return {run.seed: run for run in sorted(finished, key=lambda run: run.run.created_at)}

    def curve(self, colour: str) -> RunCurve:
        """Its metrics, as the mean over the seeds."""
        histories = [run.run.directory.metrics() for run in self.runs]
        return RunCurve.over_seeds(self.label, colour, histories, max(run.epochs for run in self.runs))

    def accuracy(self) -> SettingAccuracy | None:
        """Its tests; None before the first."""
        tested = self.by_seed
        if not tested:
            return None
        by_seed = {seed or 0: run.number("test_accuracy") or 0.0 for seed, run in tested.items()}
        return SettingAccuracy(self.label, by_seed, next(iter(tested.values())).test_images)


def ranked(settings: Sequence[SettingView]) -> list[SettingAccuracy]:
    """Those that have been tested, the best first."""
    tested = (setting.accuracy() for setting in settings)
    return sorted((one for one in tested if one is not None), key=lambda one: -one.mean)


def states_of(runs: Sequence[RunView]) -> dict[str, int]:
    """How many of them are in each state."""
    counts = Counter(run.shown_state for run in runs)
    return {state: counts[state] for state in STATES if counts[state]}


def in_settings(views: Sequence[RunView]) -> list[SettingView]:
    """The runs by setting, the newest setting first; one whose config cannot be read stands for itself."""
    groups: dict[str, list[RunView]] = {}
    for view in views:
        groups.setdefault(setting_key(view.config) if view.config else view.id, []).append(view)
    settings = [
        SettingView(key, _label(runs), tuple(sorted(runs, key=lambda run: (run.seed or 0, run.run.created_at))))
        for key, runs in groups.items()
    ]
    return sorted(settings, key=lambda setting: -setting.newest)


def _label(runs: Sequence[RunView]) -> str:
    """The name that somebody gave all of them, else the objective with the parameter that matters."""
    objective = runs[0].config.get("objective")
    if not isinstance(objective, Mapping):
        return runs[0].label
    names = {run.run.name for run in runs} - {""}
    (name,) = names if len(names) == 1 else ("",)
    preset = objective.get("preset")
    by_itself = re.split("[:,]", name)[0] in ("", objective.get("name"), preset)
    if not by_itself:
        return name
    return objective_label(objective) + (f", {preset}" if preset else "")


def told_apart(settings: Sequence[SettingView]) -> list[SettingView]:
    """The settings with labels that differ: one that stands twice is followed by what differs, or by a number."""
    labels: list[str] = []
    for setting in settings:
        namesakes = [other for other in settings if other.label == setting.label]
        differences = ", ".join(_differences(setting, namesakes))
        labels.append(f"{setting.label} ({differences})" if differences else setting.label)
    numbered = [
        f"{label} ({labels[:index].count(label) + 1})" if labels.count(label) > 1 else label
        for index, label in enumerate(labels)
    ]
    return [
        replace(setting, label=label, runs=tuple(replace(run, label=label) for run in setting.runs))
        for setting, label in zip(settings, numbered, strict=True)
    ]


def _differences(setting: SettingView, namesakes: Sequence[SettingView]) -> list[str]:
    """The first few fields in which settings of one label differ, with this one's values."""
    fields, own = [other.fields for other in namesakes], setting.fields
    names = dict.fromkeys(name for other in fields for name in other)
    differing = [name for name in names if any(other.get(name) != fields[0].get(name) for other in fields)]
    wanted = [name for name in differing if name != "objective.preset"]
    return [
        str(own.get(name, "–"))
        if name in ("student.architecture", "data.name")
        else parameter_label(name.rpartition(".")[2], own.get(name, "–"))
        for name in wanted[:_MOST_DIFFERENCES]
    ]


_MOST_DIFFERENCES = 3


def assign_colours(selected: Sequence[SettingView], kept: Mapping[str, str]) -> dict[str, str]:
    """A colour for each setting, up to `MOST_SELECTED`: the one it has had, its method's, or the next free one."""
    colours = {view.key: kept[view.key] for view in selected if view.key in kept}
    for view in selected:
        colour = METHOD_COLOURS.get(view.method)
        if view.key not in colours and colour is not None and colour not in colours.values():
            colours[view.key] = colour
    # Those that stand for a method go last.
    spare = sorted(RUN_COLOURS, key=lambda colour: colour in METHOD_COLOURS.values())
    for view in selected:
        if view.key not in colours:
            colours[view.key] = next(colour for colour in spare if colour not in colours.values())
    return colours


def swatch(colour: str | None) -> str:
    """A small disc as an image address; None: an empty one."""
    paint = f"fill='{colour}'" if colour else "fill='none'"
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='6' {paint}/></svg>"
    return "data:image/svg+xml;utf8," + svg.replace("#", "%23")


def listing(settings: Sequence[SettingView], colours: Mapping[str, str]) -> pd.DataFrame:
    """One row a setting for the list, the newest first; a column of perplexities where there are language models."""
    tested = [setting.accuracy() for setting in settings]
    table = pd.DataFrame(
        {
            "Colour": [swatch(colours.get(setting.key)) for setting in settings],
            "Setting": [setting.label for setting in settings],
            "Runs": [_states_in_words(setting) for setting in settings],
            "Progress": [100 * float(np.mean([run.progress for run in setting.runs])) for setting in settings],
            "Test": [_hundredfold(None if found is None else found.mean) for found in tested],
            "Seeds": pd.Series([0 if found is None else found.seeds for found in tested], dtype="Int64"),
            "Student": [setting.runs[0].student for setting in settings],
            "Data": [setting.runs[0].data for setting in settings],
            "Added": pd.to_datetime([setting.newest for setting in settings], unit="s", utc=True),
        }
    )
    if any(setting.runs[0].of_texts for setting in settings):
        table.insert(4, "Perplexity", [_perplexity(setting) for setting in settings])
    return table


def _perplexity(setting: SettingView) -> float:
    """Of the test texts: ``exp`` of the mean over the seeds; NaN of images, and before a test."""
    found = [nll for run in setting.by_seed.values() if run.of_texts and (nll := run.number("test_nll")) is not None]
    return float(np.exp(np.mean(found))) if found else math.nan


def _states_in_words(setting: SettingView) -> list[str]:
    faults = dict.fromkeys(run.scale_fault.state for run in setting.runs if run.scale_fault)
    states = states_of(setting.runs)
    if len(setting.runs) == 1:
        return [*states, *faults]
    return [*(f"{count} {state}" for state, count in states.items()), *faults]


def _hundredfold(share: float | None) -> float:
    return float("nan") if share is None else 100 * share


def headline(settings: Sequence[SettingView], curves: Sequence[RunCurve], *, tested: str = "") -> str:
    """What came of the selected settings, in one sentence: their tests, or how far they are.

    Args:
        settings: the selected ones.
        curves: of each.
        tested: what the tests say; by default, `comparison_sentence` of their accuracies.
    """
    tests = ranked(settings)
    if tests:
        so_far = "So far: " if any(setting.active for setting in settings) else ""
        missing = len(settings) - len(tests)
        untested = (
            f"{missing} of {len(settings)} settings {'has' if missing == 1 else 'have'} no test" if missing else ""
        )
        return so_far + "; ".join(filter(None, (tested or comparison_sentence(tests), untested, _faults(settings))))
    if any(curve.rows for curve in curves):
        return "; ".join(filter(None, (accuracy_sentence(curves), _faults(settings))))
    if len(settings) > 1:
        return f"None of these {len(settings)} settings has finished an epoch yet"
    first = settings[0].runs[0]
    if first.phase is not None:
        return f"{settings[0].label} is getting ready: {first.phase}"
    return f"{settings[0].label} {_WITHOUT_AN_EPOCH[first.state]}"


def _faults(settings: Sequence[SettingView]) -> str:
    """Whose logits have collapsed or are running away, in the fewest words."""
    faulty = [
        (setting.label, next(run.scale_fault.state for run in setting.runs if run.scale_fault))
        for setting in settings
        if any(run.scale_fault for run in setting.runs)
    ]
    if len(settings) == 1 and faulty:
        return f"its logits {VERBS[faulty[0][1]]}"
    return "; ".join(f"the logits of {label} {VERBS[state]}" for label, state in faulty)


_WITHOUT_AN_EPOCH = {
    "queued": "is queued",
    "running": "is in its first epoch",
    "finished": "ended without an epoch",
    "failed": "failed before its first epoch ended",
    "cancelled": "was cancelled before its first epoch ended",
    "lost": "was lost before its first epoch ended",
}


OF_TESTS = ("Highest test accuracy", "Difference to the next, points", "The teacher")
"""What those of the three numbers are called that speak of accuracies."""


def three_numbers(settings: Sequence[SettingView]) -> list[tuple[str, str, str]]:
    """Label, value and help of the numbers under the picture: the best test, its lead, and how many runs are done."""
    tested = ranked(settings)
    runs = [run for setting in settings for run in setting.runs]
    done = sum(run.run.state.ended for run in runs)
    left = [seconds for run in runs if run.state == "running" if (seconds := run.number("eta_seconds")) is not None]
    teacher = next((number for run in runs if (number := run.number("teacher_test_accuracy")) is not None), None)
    best = [(OF_TESTS[0], percent(tested[0].mean), f"Of {tested[0].name}; {tested[0].basis}.")] if tested else []
    if len(tested) > 1:
        found = difference(tested[0], tested[1], confidence=confidence_of_each(len(tested) - 1))
        points = f"{100 * found.low:.1f} to {100 * found.high:.1f}".replace("-", "−")
        second = [
            (
                OF_TESTS[1],
                f"{100 * found.mean:.1f}" if math.isnan(found.low) else points,
                f"To {tested[1].name}: {100 * found.mean:.1f} points, 95 % interval; {found.basis}.",
            )
        ]
    else:
        second = (
            [(OF_TESTS[2], percent(teacher), f"Its accuracy on the same test {unit_of(runs)}.")]
            if teacher is not None
            else []
        )
    return [
        *best,
        *second,
        (
            "Runs that have ended",
            f"{done:,} of {len(runs):,}",
            f"The one that runs needs about {duration(max(left))} more." if left else "Of the selected settings.",
        ),
    ]


def unit_of(runs: Sequence[RunView]) -> str:
    """What accuracies are shares of."""
    units = {"tokens" if run.of_texts else "images" for run in runs}
    return units.pop() if len(units) == 1 else "samples"


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


def over_seeds(settings: Sequence[SettingView]) -> pd.DataFrame:
    """One row for every setting with several tested seeds; empty if there is none.

    Mean and standard deviation of the test accuracy of the last epoch, in percent, and the 95 % interval of the mean.
    """
    rows = []
    for setting in settings:
        tested = setting.accuracy()
        if tested is None or tested.seeds < 2:
            continue
        low, high = tested.interval() or (float("nan"), float("nan"))
        numbers = {"Mean": tested.mean, "Deviation": tested.deviation, "From": low, "To": high}
        rows.append(
            {"Setting": setting.label, "Seeds": tested.seeds, **{key: 100 * value for key, value in numbers.items()}}
        )
    return pd.DataFrame(rows)


def differences_table(settings: Sequence[SettingView]) -> pd.DataFrame:
    """The best test beside each of the others: by how many points it is better, with the interval that the headline
    goes by; empty for fewer than two."""
    tested = ranked(settings)
    rows = []
    for best, other in itertools.product(tested[:1], tested[1:]):
        found = difference(best, other, confidence=confidence_of_each(len(tested) - 1))
        rows.append(
            {
                "Setting": best.name,
                "Compared with": other.name,
                "Points": 100 * found.mean,
                "From": 100 * found.low,
                "To": 100 * found.high,
                "Told apart": "yes" if found.told_apart else "no",
                "Interval": found.basis,
            }
        )
    return pd.DataFrame(rows)


def config_difference(settings: Sequence[SettingView]) -> pd.DataFrame:
    """The fields of the configs that are not the same everywhere, one row a field; seeds and machines aside."""
    written = {
        setting.label: {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in setting.fields.items()
        }
        for setting in settings
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
                f"{len(other.top):,}), so their answers cannot be compared; select runs on the same data."
            )


def count_samples(path: Path) -> int | None:
    """How many samples a file of logits holds, from its header; None if it is not there or no such file."""
    try:
        return _count_samples(str(path), path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _count_samples(path: str, changed_at: int) -> int | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return int(file.get_slice("logits").get_shape()[0])
    except SafetensorError:
        return None


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
    """The trained student as a zip file: weights of the last and the best epoch, its card and the config.

    A language model's last weights are in its folder for transformers alone.
    """
    directory = view.run.directory
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        folder = sorted(directory.language_student.glob("*"))  # opens in transformers
        last = [] if any(file.suffix == ".safetensors" for file in folder) else [directory.student]
        for file in (*last, directory.best_student, directory.student_card, directory.config_file):
            if file.is_file():
                archive.write(file, file.name)
        for file in folder:
            archive.write(file, f"student/{file.name}")
    return buffer.getvalue()
