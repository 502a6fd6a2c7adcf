"""Which runs have a copy below a folder of a store, whether or not any of them lies on this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cist_core.documents import parse_json
from cist_core.errors import CistError, first_line
from cist_core.plain_text import written_out
from cist_core.training.mirror.mark import ID_FILE
from cist_core.training.mirror.store import BEGIN_SECONDS, Store, within

MOST_BYTES = 1_000_000
"""Of a file that is only looked at."""
_MARKS = ("config.json", ID_FILE, "status.json")
_ABOUT = ("status.json", ID_FILE, "run.json")  # the last is the row that the table of runs had
_LONGEST_TITLE = 80


@dataclass(frozen=True)
class CopiedRun:
    """A copy as it says of itself.

    Attributes:
        url: of its folder.
        status: the content of its ``status.json``; empty where there is none that can be read.
        mark: tells it from all other runs; None for one that was copied without.
        title: the name that it had in the table of runs; empty where it was in none.
    """

    url: str
    status: dict[str, Any]
    mark: str | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """Of its folder; of a run of the queue its id."""
        return self.url.rpartition("/")[2]

    @property
    def state(self) -> str:
        """As the run last said; one that was killed says for ever that it is running."""
        said = self.status.get("state")
        return said if isinstance(said, str) and re.fullmatch("[a-z]{1,20}", said) else "unknown"

    @property
    def epoch(self) -> str | None:
        """Epochs done, of all: ``7 of 12``; None where it does not say so."""
        said = [self.status.get(name) for name in ("epoch", "epochs")]
        return "{:,} of {:,}".format(*said) if all(type(one) is int and 0 <= one < 2**53 for one in said) else None

    @property
    def test_accuracy(self) -> float | None:
        """At its end; None where it does not say so."""
        said = self.status.get("test_accuracy")
        return said if isinstance(said, float) and 0 <= said <= 1 else None


def copied_runs(url: str) -> list[CopiedRun]:
    """The runs of a folder, by name: what lies in it, or in folders below it, beside a ``config.json``.

    A run may have others below it; its own folders are none, as they have neither an id nor a status.

    Raises:
        CistError: if the store is of no known kind or gives no answer.
    """
    store = Store(url)
    return within(BEGIN_SECONDS, lambda: _copied_runs(store), f"The store of {url}")


def _copied_runs(store: Store) -> list[CopiedRun]:
    try:
        store.check_there()
        names = [PurePosixPath(name) for name in store.names()]
        marks = {mark: {name.parent for name in names if name.name == mark} for mark in _MARKS}
        # The student of a language model lies in a folder of its run, with a config.json of its own, but no run's id.
        folders, known = marks["config.json"], marks[ID_FILE] | marks["status.json"]
        runs = sorted(folder for folder in folders if folder in known or folders.isdisjoint(folder.parents))
        contents = store.read_all(
            [str(folder / name) for folder in runs for name in _ABOUT], most=MOST_BYTES, lenient=True
        )
        about = zip(contents[0::3], contents[1::3], contents[2::3], strict=True)
        return [
            CopiedRun(written_out(_joined(store.url, folder)), _status(status), _mark(mark), _title(record))
            for folder, (status, mark, record) in zip(runs, about, strict=True)
        ]
    except CistError:
        raise
    except Exception as error:  # of whatever library the store has
        raise CistError(f"The store of {store.url} cannot be read ({first_line(error)}).") from error


def _joined(url: str, folder: PurePosixPath) -> str:
    return url if folder == PurePosixPath() else f"{url}/{folder}"


def _status(content: bytes | None) -> dict[str, Any]:
    """The numbers and texts of ``status.json``; what else stands there is left out, as it may be anything."""
    return {name: value for name, value in json_object(content).items() if isinstance(value, str | int | float | None)}


def _mark(content: bytes | None) -> str | None:
    return written_out((content or b"").decode("ascii", errors="replace").strip()) or None


def _title(content: bytes | None) -> str:
    name = json_object(content).get("name")
    return written_out(" ".join(name.split()))[:_LONGEST_TITLE] if isinstance(name, str) else ""


def json_object(content: bytes | None) -> dict[str, Any]:
    """What a file of JSON holds; nothing where that cannot be read, or is no object."""
    try:
        found = parse_json(content or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
