"""Does CIST teach better than a tuned fixed temperature? Every run behind docs/claim.md.

    python benchmarks/claim.py run --images DIR              # train what is missing, setting by setting; resumes
    python benchmarks/claim.py run digits patch-features     # of these only
    python benchmarks/claim.py again cifar100-10k kd cist    # the reported runs of these methods on this device too
    python benchmarks/claim.py open                          # what is still missing
    python benchmarks/claim.py report --images DIR           # docs/claim.md, its figures, and the library's evidence

DIR holds cifar100_train.npz and cifar100_test.npz, for one setting also cifar10_test.npz with the teacher's logits.
Each trained run is one line of claim_runs.jsonl and is never trained twice. Hyper-parameters are chosen by the accuracy
on validation in the last epoch of one seed; reported are the test accuracies of other seeds. On a GPU many students are
trained side by side (--students), on the CPU one after the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import claim_objectives
import torch
from claim_factorial import FACTORIALS, factorial_plans
from claim_search import Found, Runs, canonical, found, what_is_open
from claim_settings import SETTINGS
from students import Lesson, Plan, train_side_by_side

HERE = Path(__file__).parent
RESULTS = HERE / "claim_runs.jsonl"


class Trainer:
    """Trains plans in waves and writes every wave down when it is done."""

    def __init__(self, runs: Runs, images: Path | None, device: str, students: int, seconds: float) -> None:
        self.runs, self._images, self._device, self._students = runs, images, device, students
        self._where = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        self._end = time.monotonic() + seconds
        self._lessons: dict[str, Lesson] = {}
        self._cost: dict[str, float] = {}
        """Seconds a student, by setting, from the wave before."""

    def lesson(self, name: str) -> Lesson:
        if name not in self._lessons:
            self._lessons = {name: SETTINGS[name].lesson(self._images)}
        return self._lessons[name]

    def train(self, name: str, plans: Sequence[Plan], *, again: bool = False) -> bool:
        """Train those that are missing, or that another device has trained; False if the time is up before."""
        trained = partial(self.runs.on, self._where) if again else self.runs.get
        missing = [
            plan
            for plan in dict.fromkeys(plans)
            if trained(name, plan.objective, plan.learning_rate, plan.seed) is None
        ]
        while missing:
            left, cost = self._end - time.monotonic(), self._cost.get(name, 0.0)
            size = next((count for count in range(self._students, 0, -1) if count * cost < left), 0)
            wave, missing = missing[:size], missing[size:]
            if not wave:
                return False
            lesson = self.lesson(name)
            started = time.monotonic()
            rows = train_side_by_side(
                wave, {name: lesson}, SETTINGS[name].recipe, device=self._device, report=lambda text: None
            )
            self._cost[name] = (time.monotonic() - started) / len(wave)
            self.runs.add({"setting": name, **row, "device": self._where} for row in rows)
            for row in rows:
                print(
                    f"{name} {row['objective']} lr {row['learning_rate']:g} seed {row['seed']}: "
                    f"validation {row['val_accuracy']:.4f}, test {row.get('test_accuracy', float('nan')):.4f}",
                    flush=True,
                )
            print(f"{len(wave)} students in {time.monotonic() - started:.1f} s", flush=True)
        return True


def plan(name: str, objective: str, learning_rate: float, seed: int) -> Plan:
    return Plan(name, canonical(objective), round(learning_rate, 10), seed)


def stages(name: str, runs: Runs) -> Iterator[list[Plan]]:
    """What a setting needs next, until nothing is missing: rounds of tuning, then the seeds that are reported."""
    setting = SETTINGS[name]
    while True:
        searches = {method: found(runs, SETTINGS, name, method) for method in setting.methods}
        if setting.tuned_in is not None:
            break
        missing = [
            plan(name, setting.methods[method].objective(values), values["learning_rate"], setting.tuning_seed)
            for method, state in searches.items()
            for values in state.missing
        ]
        if not missing:
            break
        yield missing
    yield [each for method, state in searches.items() for each in final_plans(name, method, state)]


def final_plans(name: str, method: str, state: Found) -> list[Plan]:
    """The runs of a method that are reported; none before it is tuned."""
    if state.best is None:
        return []
    setting = SETTINGS[name]
    objective = setting.methods[method].objective(state.best)
    return [plan(name, objective, state.best["learning_rate"], seed) for seed in setting.final_seeds]


def run(names: Sequence[str], trainer: Trainer) -> None:
    for name in names:
        if name in FACTORIALS:
            factorial = FACTORIALS[name]
            rounds = iter([factorial_plans(trainer.runs, factorial, trainer.lesson(factorial.setting))])
            setting = factorial.setting
        else:
            rounds, setting = stages(name, trainer.runs), name
        nothing = True
        for plans in rounds:
            nothing = nothing and not plans
            if not trainer.train(setting, plans):
                print(f"The time is up; {name} goes on with the next call.", flush=True)
                return
        if nothing:
            print(f"{name} waits for the setting that it starts from to be tuned.", flush=True)


def run_again(name: str, methods: Sequence[str], trainer: Trainer) -> None:
    for method in methods:
        plans = final_plans(name, method, found(trainer.runs, SETTINGS, name, method))
        if not trainer.train(name, plans, again=True):
            print("The time is up; the rest is trained with the next call.", flush=True)
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    names = [*SETTINGS, *FACTORIALS]
    train = commands.add_parser("run", help="train what is missing")
    train.add_argument("settings", nargs="*", metavar="SETTING", help=f"all by default: {', '.join(names)}")
    again = commands.add_parser(
        "again", help="the reported runs of some methods, where another device has trained them"
    )
    again.add_argument("setting", choices=list(SETTINGS))
    again.add_argument("methods", nargs="+", metavar="METHOD", help="such as kd and cist")
    for command in (train, again):
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        command.add_argument("--students", type=int, help="side by side; 64 on a GPU, 1 on the CPU")
        command.add_argument("--seconds", type=float, default=float("inf"), help="start nothing that would take longer")
    commands.add_parser("open", help="what is still missing")
    report = commands.add_parser("report", help="docs/claim.md, its figures and the library's evidence")
    for command in (train, again, report):
        command.add_argument("--images", type=Path, help="folder of the images; also by CLAIM_IMAGES")
    for command in commands.choices.values():
        command.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    claim_objectives.register()
    runs = Runs(options.results)
    if options.command == "open":
        print("\n".join(what_is_open(runs, SETTINGS)) or "Nothing is missing.")
    elif options.command == "report":
        from claim_report import write_report

        write_report(runs, options.images)
    else:
        methods = list(SETTINGS[options.setting].methods) if options.command == "again" else []
        given, known = (options.settings, names) if options.command == "run" else (options.methods, methods)
        unknown = sorted(set(given) - set(known))
        if unknown:
            parser.error(f"there is no '{unknown[0]}'; known are {', '.join(known)}")
        if options.device == "cpu":
            torch.set_num_threads(1)
        students = options.students or (64 if options.device == "cuda" else 1)
        trainer = Trainer(runs, options.images, options.device, students, options.seconds)
        if options.command == "run":
            run(options.settings or names, trainer)
        else:
            run_again(options.setting, options.methods, trainer)


if __name__ == "__main__":
    main()
