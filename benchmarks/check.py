"""Names what got slower from one result file to another, by more than the noise of both.

    python benchmarks/check.py OLD.json NEW.json

Takes what `bench.py`, `streaming.py`, `inference.py` and `epoch.py` write. A row has its median, ``seconds``, and the
quartiles around it, ``lower`` and ``upper``. Slower is what takes longer in its quicker repetitions than it took in its
slower ones before: its lower quartile lies above the old upper one. Rows that were measured once have no quartiles and
are not judged. Of a file with several measurements of the same thing the last counts.

Ends with status 1 if something got slower, 2 if the files cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

READ = "bare read"


class Measured(NamedTuple):
    """The median in seconds, and the quartiles around it; these are None where it was measured once."""

    seconds: float
    lower: float | None = None
    upper: float | None = None


class Comparison(NamedTuple):
    """The names of what changed, each with its two figures, and of what only one file has."""

    slower: dict[str, tuple[Measured, Measured]]
    quicker: dict[str, tuple[Measured, Measured]]
    unjudged: list[str]
    only_one: list[str]
    judged: int


def read_results(path: Path) -> dict[str, Measured]:
    """What a result file measured, by name and size.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        content = json.loads(path.read_text())
        rows = content["rows"] if isinstance(content, dict) else content
        found = {name: _measured(row) for name, row in _named(rows)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no result file of bench.py or streaming.py ({type(error).__name__}: {error})."
        ) from error
    if not found:
        raise ValueError(f"{path} holds no results.")
    return found


def _named(rows: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in rows:
        if "steps" in row:
            for step, what in row["steps"].items():
                yield f"{step} ({row['size']}, {row['look']})", what
        else:
            yield f"{row['name']} ({row['size']})", row


def _measured(row: dict[str, Any]) -> Measured:
    lower, upper = (None if row.get(key) is None else float(row[key]) for key in ("lower", "upper"))
    return Measured(float(row["seconds"]), lower, upper)


def compare(old: dict[str, Measured], new: dict[str, Measured]) -> Comparison:
    """What changed by more than the noise of both.

    Example:
        >>> old = {"table": Measured(1.0, 0.9, 1.1), "read": Measured(0.2, 0.1, 0.3)}
        >>> new = {"table": Measured(1.3, 1.2, 1.4), "read": Measured(0.3, 0.2, 0.4)}
        >>> sorted(compare(old, new).slower)
        ['table']
    """
    slower, quicker, unjudged = {}, {}, []
    both = [name for name in old if name in new]
    for name in both:
        first, second = old[name], new[name]
        if first.lower is None or first.upper is None or second.lower is None or second.upper is None:
            unjudged.append(name)
        elif second.lower > first.upper:
            slower[name] = first, second
        elif second.upper < first.lower:
            quicker[name] = first, second
    only_one = sorted(old.keys() ^ new.keys())
    return Comparison(slower, quicker, unjudged, only_one, len(both) - len(unjudged))


def said(found: Comparison) -> Iterator[str]:
    """The comparison in lines, the largest change first."""
    for word, changed in (("slower", found.slower), ("quicker", found.quicker)):
        for name, (old, new) in sorted(changed.items(), key=lambda item: -abs(_times(*item[1]) - 1)):
            yield f"{word}: {name}: {_in_words(old)} before, {_in_words(new)} now, {_times(old, new):.2f} times"
    if any(name.startswith(READ) for name in found.slower):
        yield "A bare read got slower too: the machine was busier, or is another one."
    if found.unjudged:
        yield f"measured once, so not judged: {', '.join(found.unjudged)}"
    if found.only_one:
        yield f"in one file only: {', '.join(found.only_one)}"
    yield f"{len(found.slower)} of {found.judged} got slower by more than the noise of both."


def _in_words(measured: Measured) -> str:
    lower, upper = (1e3 * (each or 0.0) for each in (measured.lower, measured.upper))
    return f"{1e3 * measured.seconds:.3g} ms ({lower:.3g} to {upper:.3g})"


def _times(old: Measured, new: Measured) -> float:
    return new.seconds / old.seconds if old.seconds > 0 else float("inf")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Name what got slower from one result file to another.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    given = parser.parse_args(arguments)
    try:
        found = compare(read_results(given.old), read_results(given.new))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if not found.judged:
        print(
            f"{given.old} and {given.new} share nothing that was measured several times; measure both with the same "
            "script and sizes, of this version.",
            file=sys.stderr,
        )
        return 2
    print("\n".join(said(found)))
    return 1 if found.slower else 0


if __name__ == "__main__":
    sys.exit(main())
