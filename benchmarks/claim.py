"""Does CIST teach better than a tuned fixed temperature? Every run behind docs/claim.md.

    python benchmarks/claim.py run digits-mlp              # train what is missing; hours for all three settings
    python benchmarks/claim.py ablation digits-mlp         # weighting and gradient mode
    python benchmarks/claim.py run cifar100 --images DIR   # DIR holds cifar100_train.npz and cifar100_test.npz
    python benchmarks/claim.py report                      # docs/claim.md and its figures, from what was trained

Each trained run is one line of claim_runs.jsonl and is never trained twice. Hyper-parameters are chosen by the mean
accuracy on validation in the last epoch over the tuning seeds; reported are the test accuracies of other seeds.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from cist_core import EntropyCurves, default_pair
from cist_core.errors import CistError
from cist_core.sources import load_logits
from cist_core.training import RunDirectory, parse_config
from cist_core.training.engine import train

HERE = Path(__file__).parent
RESULTS = HERE / "claim_runs.jsonl"
WEIGHTINGS = ("product", "teacher", "student", "uniform", "none")
GRADIENTS = ("scale-free", "constant", "full")


@dataclass(frozen=True)
class Setting:
    """A teacher, a student, a little data, and how much is spent on tuning."""

    title: str
    teacher: str
    data: str
    student: str
    train_samples: int
    validation_samples: int
    epochs: int
    learning_rates: tuple[float, ...]
    tuning_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    ablated_weightings: tuple[str, ...] = WEIGHTINGS

    @property
    def recommended_rho(self) -> float:
        """What the Studio recommends for this teacher, from its logits on validation."""
        logits = load_logits(self.teacher, self.data, "validation").logit_set
        return round(default_pair(EntropyCurves.from_logits(logits)).rho, 2)


SETTINGS = {
    "digits-mlp": Setting(
        title="500 digits, a perceptron of 12 hidden units",
        teacher="mnist5k-cnn",
        data="mnist-5k",
        student="mlp_14x14",
        train_samples=500,
        validation_samples=500,
        epochs=30,
        learning_rates=(0.01, 0.03, 0.1),
        tuning_seeds=(0, 1, 2),
        final_seeds=tuple(range(100, 110)),
    ),
    "digits-cnn": Setting(
        title="200 digits, a convolutional network of 115,274 weights",
        teacher="mnist5k-cnn",
        data="mnist-5k",
        student="cnn_16_32",
        train_samples=200,
        validation_samples=500,
        epochs=20,
        learning_rates=(0.01, 0.03, 0.1),
        tuning_seeds=(0, 1, 2),
        final_seeds=tuple(range(100, 108)),
    ),
    "cifar100": Setting(
        title="1,500 images of CIFAR-100, a ResNet-8",
        teacher="cifar100-resnet20",
        data="cifar100",
        student="resnet8",
        train_samples=1500,
        validation_samples=2500,
        epochs=15,
        learning_rates=(0.03, 0.1),
        tuning_seeds=(0,),
        final_seeds=(100, 101, 102),
        ablated_weightings=(),
    ),
}


class Runs:
    """Results by setting, objective, learning rate and seed; trained when they are asked for the first time."""

    def __init__(self, name: str, images: Path | None = None, *, read_only: bool = False) -> None:
        self.name, self.setting, self.images, self._read_only = name, SETTINGS[name], images, read_only
        self._known: dict[tuple[str, float, int], dict[str, Any]] = {}
        if RESULTS.is_file():
            for line in RESULTS.read_text().splitlines():
                row = json.loads(line)
                if row["setting"] == name:
                    self._known[row["objective"], row["learning_rate"], row["seed"]] = row

    def get(self, objective: str, learning_rate: float, seed: int) -> dict[str, Any]:
        key = (objective, learning_rate, seed)
        if key not in self._known:
            if self._read_only:
                raise KeyError(f"{self.name}: {objective}, learning rate {learning_rate:g}, seed {seed} is not trained")
            self._known[key] = self._train(*key)
            with RESULTS.open("a") as stream:
                stream.write(json.dumps(self._known[key]) + "\n")
        return self._known[key]

    def known(self) -> list[dict[str, Any]]:
        return list(self._known.values())

    def _train(self, objective: str, learning_rate: float, seed: int) -> dict[str, Any]:
        s = self.setting
        folder = Path(tempfile.mkdtemp())
        data: dict[str, Any] = {
            "name": s.data,
            "train_samples": s.train_samples,
            "validation_samples": s.validation_samples,
        }
        if self.images is not None:
            data |= {
                part: str(self.images / f"{s.data}_{file}.npz") for part, file in (("name", "train"), ("test", "test"))
            }
        config = parse_config(
            {
                "data": data,
                "teacher": {"name": s.teacher},
                "student": {"architecture": s.student},
                "objective": objective,
                "optimiser": {"learning_rate": learning_rate},
                "epochs": s.epochs,
                "batch_size": 50,
                "seed": seed,
                "device": "cpu",
                "threads": 1,
            }
        )
        row: dict[str, Any] = {
            "setting": self.name,
            "objective": objective,
            "learning_rate": learning_rate,
            "seed": seed,
        }
        try:
            status = train(config, folder)
        except CistError as error:
            if "diverged" not in str(error):
                raise
            print(f"{self.name} {objective} lr {learning_rate:g} seed {seed}: {error}", flush=True)
            return row | {"diverged": str(error)}
        finally:
            last = RunDirectory(folder).metrics()[-1:]
            shutil.rmtree(folder)
        row |= {
            name: round(status[name], 6) for name in ("test_accuracy", "test_accuracy_at_best", "test_nll", "test_ece")
        }
        row |= {"val_accuracy": status["last_val_accuracy"], "best_val_accuracy": status["best_val_accuracy"]}
        kept = ("teacher_entropy_mean", "teacher_entropy_std", "student_entropy_mean", "student_entropy_std")
        row |= {name: round(last[0][name], 6) for name in (*kept, "student_maximum_mean") if name in last[0]}
        print(
            f"{self.name} {objective} lr {learning_rate:g} seed {seed}: "
            f"validation {row['val_accuracy']:.4f}, test {row['test_accuracy']:.4f}",
            flush=True,
        )
        return row


@dataclass(frozen=True)
class Choice:
    """The best setting of one method on validation."""

    objective: str
    learning_rate: float
    val_accuracy: float


def score(runs: Runs, objective: str, learning_rate: float, seeds: Iterable[int]) -> float:
    """Mean validation accuracy of the last epoch; a diverged run counts as 0."""
    return fmean(runs.get(objective, learning_rate, seed).get("val_accuracy", 0.0) for seed in seeds)


def tune(runs: Runs, written: str, values: Sequence[float] = (), *, lowest: float = 0.0) -> Choice:
    """Search hyper-parameter and learning rate in turn until neither moves; grids grow until the best is inside.

    Args:
        runs: the setting.
        written: the objective, with ``{}`` where its hyper-parameter goes.
        values: first grid of the hyper-parameter; none if it has none to tune.
        lowest: the hyper-parameter never goes below this.
    """
    grid, rates = sorted(values) or [0.0], list(runs.setting.learning_rates)

    def score_of(value: float, rate: float) -> float:
        return score(runs, written.format(f"{value:g}"), rate, runs.setting.tuning_seeds)

    value, rate = grid[0], rates[-1]
    while True:
        before = (value, rate)
        value = _best(grid, partial(score_of, rate=rate), factor=2, lowest=lowest, highest=500)
        rate = _best(rates, partial(score_of, value), factor=3, lowest=3e-4, highest=1)
        if (value, rate) == before:
            return Choice(written.format(f"{value:g}"), rate, score_of(value, rate))


def _best(grid: list[float], score_of: Callable[[float], float], factor: float, lowest: float, highest: float) -> float:
    """The best value of a grid, which grows in place while the best is at an end of it."""
    while True:
        best = max(grid, key=score_of)
        if len(grid) > 1 and best == grid[-1] and best * factor <= highest:
            grid.append(_digits(best * factor))
        elif len(grid) > 1 and best == grid[0] and best / factor >= max(lowest, 1e-4):
            grid.insert(0, _digits(best / factor))
        else:
            return best


def _digits(value: float) -> float:
    return float(f"{value:.2g}")


def methods(runs: Runs) -> Iterator[tuple[str, Choice]]:
    """Every method at its best on validation; CIST at the recommended rho as well."""
    rho = runs.setting.recommended_rho
    rhos = [_digits(rho / 2), _digits(rho / 2**0.5), rho, _digits(rho * 2**0.5)]
    yield "KD, tau tuned", tune(runs, "kd:tau={}", (1, 2, 4, 8), lowest=1.0)
    yield "Cross-entropy only", tune(runs, "ce")
    yield "LSKD", tune(runs, "lskd")
    yield "DKD", tune(runs, "dkd")
    yield "DTKD", tune(runs, "dtkd")
    yield "CIST, rho recommended", tune(runs, f"cist:rho={rho:g}")
    yield "CIST, rho tuned", tune(runs, "cist:rho={}", rhos)
    yield "CIST + DKD, rho recommended", tune(runs, f"cist+dkd:rho={rho:g}")


def ablation(runs: Runs) -> dict[tuple[str, str], Choice]:
    """Gradient mode and weighting at the recommended rho, each pair at its own best learning rate."""
    rho = runs.setting.recommended_rho
    return {
        (gradient, weighting): tune(runs, f"cist:rho={rho:g},weighting={weighting},gradient={gradient}")
        for gradient in GRADIENTS
        for weighting in runs.setting.ablated_weightings
    }


def run(name: str, images: Path | None) -> None:
    runs = Runs(name, images)
    print(f"{name}: recommended rho {runs.setting.recommended_rho}", flush=True)
    for method, choice in methods(runs):
        print(f"== {name} {method}: {choice}", flush=True)
        for seed in runs.setting.final_seeds:
            runs.get(choice.objective, choice.learning_rate, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "ablation", "report"])
    parser.add_argument("setting", nargs="?", choices=SETTINGS)
    parser.add_argument("--images", type=Path, help="folder with cifar100_train.npz and cifar100_test.npz")
    options = parser.parse_args()
    logging.getLogger("cist_core.training").setLevel(logging.ERROR)
    if options.what == "run":
        run(options.setting, options.images)
    elif options.what == "ablation":
        ablation(Runs(options.setting, options.images))
    else:
        from claim_report import write_report

        write_report()


if __name__ == "__main__":
    main()
