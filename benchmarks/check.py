"""Names what got slower from one result file to another, by more than the noise of both.

    python benchmarks/check.py OLD.json NEW.json

Takes what `bench.py` and `streaming.py` write. A row's noise is its ``spread``: how far its repetitions lie apart, in
seconds. Slower is what took longer by more than the sum of both spreads; rows that were measured once have none and are
not judged. Of a file with several measurements of the same thing the last counts.

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
    """One figure, in seconds; the spread is None where it was measured once."""

    seconds: float
    spread: float | None


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
        found = {
            name: Measured(float(row["seconds"]), _spread(row)) for name, row in _named(json.loads(path.read_text()))
        }
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


def _spread(row: dict[str, Any]) -> float | None:
    return None if row.get("spread") is None else float(row["spread"])


def compare(old: dict[str, Measured], new: dict[str, Measured]) -> Comparison:
    """What changed by more than the noise of both.

    Example:
        >>> old = {"table": Measured(1.0, 0.1), "read": Measured(0.2, 0.1)}
        >>> new = {"table": Measured(1.3, 0.1), "read": Measured(0.3, 0.1)}
        >>> sorted(compare(old, new).slower)
        ['table']
    """
    slower, quicker, unjudged = {}, {}, []
    both = [name for name in old if name in new]
    for name in both:
        first, second = old[name], new[name]
        if first.spread is None or second.spread is None:
            unjudged.append(name)
            continue
        noise = first.spread + second.spread
        if second.seconds - first.seconds > noise:
            slower[name] = first, second
        elif first.seconds - second.seconds > noise:
            quicker[name] = first, second
    only_one = sorted(old.keys() ^ new.keys())
    return Comparison(slower, quicker, unjudged, only_one, len(both) - len(unjudged))


def said(found: Comparison) -> Iterator[str]:
    """The comparison in lines, the largest change first."""
    for word, changed in (("slower", found.slower), ("quicker", found.quicker)):
        for name, (old, new) in sorted(changed.items(), key=lambda item: -abs(_times(*item[1]) - 1)):
            noise = (old.spread or 0.0) + (new.spread or 0.0)
            yield (
                f"{word}: {name}: {old.seconds * 1e3:.3g} ms before, {new.seconds * 1e3:.3g} ms now, "
                f"{_times(old, new):.2f} times; noise {noise * 1e3:.2g} ms"
            )
    if any(name.startswith(READ) for name in found.slower):
        yield "A bare read got slower too: the machine was busier, or is another one."
    if found.unjudged:
        yield f"measured once, so not judged: {', '.join(found.unjudged)}"
    if found.only_one:
        yield f"in one file only: {', '.join(found.only_one)}"
    yield f"{len(found.slower)} of {found.judged} got slower by more than the noise of both."


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
