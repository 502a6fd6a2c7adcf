"""Reading and stopping runs, for the tests that train some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cist_core.training import CLOCK_FIELDS, RunDirectory, preset

TINY = preset("demo").changed(
    data={"validation_samples": 50},
    student={"architecture": "mlp_14x14"},
    objective="cist-authors",
    epochs=4,
    machine={"device": "cpu", "threads": 1},
)
"""A run of about a second."""


def results(path: Path) -> list[dict[str, float]]:
    """Metrics without what depends on the clock."""
    return [
        {name: value for name, value in row.items() if name not in CLOCK_FIELDS} for row in RunDirectory(path).metrics()
    ]


def stop_after(steps: int) -> Callable[[], bool]:
    """To be asked before every step: true once it has been asked so often."""
    calls = iter(range(steps))
    return lambda: next(calls, None) is None
