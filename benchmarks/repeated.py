"""Things timed in turn, many times each, and what their times say: the median, and how far they lie apart.

A machine that does something else meanwhile slows one turn and not the next. So what is compared takes turns, no time
is thrown away, and a ratio is the median of the ratios within each turn.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Times(NamedTuple):
    """Seconds of each turn: on the clock, and of all processors together, child processes that ended included."""

    wall: list[float]
    processor: list[float]


def in_turn(contenders: Mapping[str, Callable[[], object]], turns: int) -> dict[str, Times]:
    """Run each once a turn; every second turn goes through them backwards, so that none always follows the same."""
    times = {name: Times([], []) for name in contenders}
    for turn in range(turns):
        for name in list(contenders) if turn % 2 == 0 else reversed(list(contenders)):
            begun, used = time.perf_counter(), _processor()
            contenders[name]()
            times[name].wall.append(time.perf_counter() - begun)
            times[name].processor.append(_processor() - used)
    return times


def _processor() -> float:
    # `os.times` counts children too, in hundredths of a second; the process's own clock is finer.
    return time.process_time() + sum(os.times()[2:4])


def spread_of(values: list[float]) -> dict[str, float]:
    """The least, the quartiles around the median, and the most.

    Example:
        >>> spread_of([4.0, 1.0, 2.0, 3.0, 5.0])
        {'least': 1.0, 'lower': 2.0, 'median': 3.0, 'upper': 4.0, 'most': 5.0}
    """
    found = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return dict(zip(("least", "lower", "median", "upper", "most"), found, strict=True))


def figures(times: Times) -> dict[str, Any]:
    """One row's figures: ``seconds`` is the median; ``least``, ``lower``, ``upper`` and ``most`` lie around it.

    What was measured once has nothing around it.
    """
    wall = spread_of(times.wall)
    found = {
        "seconds": wall.pop("median"),
        "repeats": len(times.wall),
        "processor_seconds": spread_of(times.processor)["median"],
    }
    return found | (wall if len(times.wall) > 1 else {})


def times_of(one: list[float], other: list[float]) -> dict[str, float]:
    """How many times ``one`` is of ``other``, turn by turn.

    Example:
        >>> times_of([2.0, 20.0, 3.0], [1.0, 10.0, 1.0])["median"]
        2.0
    """
    return spread_of([first / second for first, second in zip(one, other, strict=True)])


def rows_beside(times: Mapping[str, Times], first: str, size: str) -> list[dict[str, Any]]:
    """A row for each contender, with how many times it takes of what the first one takes; they are printed as well."""
    base, rows = times[first], []
    for name, taken in times.items():
        wall, processor = times_of(taken.wall, base.wall), times_of(taken.processor, base.processor)
        row, lain = figures(taken), spread_of(taken.wall)
        rows.append({"name": name, "size": size, **row, "times_of_ours": wall, "processor_times_of_ours": processor})
        print(
            f"{name:42} {row['seconds']:6.2f} s ({lain['least']:.2f} to {lain['most']:.2f}), {wall['median']:.2f} of "
            f"ours ({wall['lower']:.2f} to {wall['upper']:.2f}); {row['processor_seconds']:.2f} s of processor, "
            f"{processor['median']:.2f} of ours"
        )
    return rows
