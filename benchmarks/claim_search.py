"""Which runs are still missing: a search as a function of what is known, and the runs themselves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from claim_settings import Grid, Method, Setting

from cist_core.objectives import create_objective

LIMITS = {
    "alpha": (0.25, 24.0),
    "beta": (0.1, 64.0),
    "gamma": (0.025, 1.0),
    "k": (0.5, 16.0),
    "lambda_kl": (0.01, 64.0),
    "learning_rate": (1e-3, 1.6),
    "rho": (1.0, 64.0),
    "tau": (0.25, 32.0),
}
"""A grid grows by a factor of two at an end where the best lies, but not beyond these."""

Values = Mapping[str, float]
Score = Callable[[Values], float | None]


@dataclass(frozen=True)
class Found:
    """What a search has come to: the points that have to be tried next, or, where there are none, the best."""

    missing: list[dict[str, float]]
    best: dict[str, float] | None
    tried: int = 0
    """How many points the search has looked at."""


def search(method: Method, score: Score) -> Found:
    """Go as far as the known scores allow.

    The whole grid first, if the method asks for it; then one parameter at a time, until none moves, along grids that
    grow until the best value is inside.

    Args:
        method: with its grid and its start.
        score: of a point; None where it is not known yet.
    """
    looked_at: set[tuple[float, ...]] = set()

    def counted(values: Values) -> float | None:
        looked_at.add(tuple(values.values()))
        return score(values)

    state = _search(method, counted)
    return replace(state, tried=len(looked_at) - len(state.missing))


def _search(method: Method, score: Score) -> Found:
    grid = {name: list(values) for name, values in method.grid.items()}
    point = {name: method.start.get(name, values[0]) for name, values in grid.items()}
    if method.whole:
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        missing = [candidate for candidate in points if score(candidate) is None]
        if missing:
            return Found(missing, None)
        point = max(points, key=lambda candidate: score(candidate) or 0.0)
    return _one_at_a_time(grid, point, score)


def _one_at_a_time(grid: dict[str, list[float]], point: dict[str, float], score: Score) -> Found:
    while True:
        before = point
        for name, values in grid.items():
            while True:
                line = [{**point, name: value} for value in values]
                missing = [candidate for candidate in line if score(candidate) is None]
                if missing:
                    return Found(missing, None)
                best = max(line, key=lambda candidate: score(candidate) or 0.0)
                if not _grow(values, name, best[name]):
                    break
            if (score(best) or 0.0) > (score(point) or 0.0):
                point = best
        if point == before:
            return Found([], point)


def _grow(values: list[float], name: str, best: float) -> bool:
    """Extend a grid of at least two values where its best is at an end."""
    low, high = LIMITS[name]
    if len(values) > 1 and best == values[-1] and best * 2 <= high:
        values.append(best * 2)
    elif len(values) > 1 and best == values[0] and best / 2 >= low:
        values.insert(0, best / 2)
    else:
        return False
    return True


Key = tuple[str, str, float, int]
"""Setting, objective, learning rate, seed."""


@cache
def canonical(objective: str) -> str:
    """One spelling of an objective, every parameter written out: defaults may change, what was trained does not."""
    made = create_objective(objective)
    values = [f"{field.name}={field.kind.write(made.config()[field.name])}" for field in made.fields()]
    return f"{made.name}:{','.join(values)}" if values else made.name


class Runs:
    """Every trained run, one JSON line each. Of a run that was trained on several devices the first counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[Key, dict[str, Any]] = {}
        self._again: dict[tuple[Key, str], dict[str, Any]] = {}
        """What was trained once more on another device, by that device."""
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._keep(json.loads(line))

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            for row in rows:
                self._keep(row)
                stream.write(json.dumps(row) + "\n")

    def _keep(self, row: dict[str, Any]) -> None:
        key = (row["setting"], canonical(row["objective"]), row["learning_rate"], row["seed"])
        if self._known.setdefault(key, row).get("device") != row.get("device"):
            self._again[key, row["device"]] = row

    def get(self, setting: str, objective: str, learning_rate: float, seed: int) -> dict[str, Any] | None:
        return self._known.get((setting, canonical(objective), round(learning_rate, 10), seed))

    def on(self, device: str, setting: str, objective: str, learning_rate: float, seed: int) -> dict[str, Any] | None:
        """The run as that device has trained it, be it the first or once more."""
        first = self.get(setting, objective, learning_rate, seed)
        if first is not None and first.get("device") == device:
            return first
        return self._again.get(((setting, canonical(objective), round(learning_rate, 10), seed), device))

    def again(
        self, setting: str, objective: str, learning_rate: float, seeds: Iterable[int]
    ) -> dict[str, list[dict[str, Any]]]:
        """What was trained once more on other devices, by device."""
        spelled, rate = canonical(objective), round(learning_rate, 10)
        devices = dict.fromkeys(device for _, device in self._again)
        keys = [(setting, spelled, rate, seed) for seed in seeds]
        trained = {
            device: [self._again[key, device] for key in keys if (key, device) in self._again] for device in devices
        }
        return {device: rows for device, rows in trained.items() if rows}

    def of(self, setting: str) -> list[dict[str, Any]]:
        return [row for row in self._known.values() if row["setting"] == setting]

    def score(self, name: str, setting: Setting, method: Method) -> Score:
        """Validation accuracy of the last epoch, of the seed that tunes."""

        def score(values: Values) -> float | None:
            row = self.get(name, method.objective(values), values["learning_rate"], setting.tuning_seed)
            return None if row is None else float(row["val_accuracy"])

        return score


def found(runs: Runs, settings: Mapping[str, Setting], name: str, method_name: str) -> Found:
    """The state of the search of one method in one setting."""
    setting = settings[name]
    if setting.tuned_in is not None:
        return found(runs, settings, setting.tuned_in, method_name)
    method = setting.methods[method_name]
    if setting.start_from is not None:
        start = found(runs, settings, setting.start_from, method.begins_as or method_name)
        if start.best is None:
            return Found([], None)
        kept = {} if setting.tunes_rate else {"learning_rate": (start.best["learning_rate"],)}
        grid: Grid = {**method.grid, **kept}
        grid = {
            parameter: values if start.best[parameter] in values else tuple(sorted((*values, start.best[parameter])))
            for parameter, values in grid.items()
        }
        method = Method(method.title, method.template, grid, start=start.best)
    return search(method, runs.score(name, setting, method))


def what_is_open(runs: Runs, settings: Mapping[str, Setting]) -> list[str]:
    """One line for every setting that lacks runs."""
    lines = []
    for name, setting in settings.items():
        searches = {method: found(runs, settings, name, method) for method in setting.methods}
        searching = [setting.methods[method].title for method, state in searches.items() if state.best is None]
        lacking = [
            setting.methods[method].title
            for method, state in searches.items()
            if state.best is not None
            and any(
                runs.get(name, setting.methods[method].objective(state.best), state.best["learning_rate"], seed) is None
                for seed in setting.final_seeds
            )
        ]
        parts = [f"not tuned yet: {', '.join(searching)}"] * bool(searching)
        parts += [f"seeds missing: {', '.join(lacking)}"] * bool(lacking)
        if parts:
            lines.append(f"{setting.title}: {'; '.join(parts)}")
    return lines
