"""Which runs have a copy below a folder of a store, whether or not any of them lies on this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cist_core.documents import parse_json
from cist_core.errors import CistError, first_line
from cist_core.plain_text import written_out
from cist_core.training.mirror.mirror import ID_FILE
from cist_core.training.mirror.store import Store

_MOST_BYTES = 1_000_000
_MARKS = ("config.json", ID_FILE, "status.json")


@dataclass(frozen=True)
class CopiedRun:
    """A copy as it says of itself.

    Attributes:
        url: of its folder.
        status: the content of its ``status.json``; empty where there is none that can be read.
    """

    url: str
    status: dict[str, Any]

    @property
    def state(self) -> str:
        """As the run last said; one that was killed says for ever that it is running."""
        said = self.status.get("state")
        return said if isinstance(said, str) and re.fullmatch("[a-z]{1,20}", said) else "unknown"

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
    try:
        store.check_there()
        names = [PurePosixPath(name) for name in store.names()]
        marks = {mark: {name.parent for name in names if name.name == mark} for mark in _MARKS}
        # The student of a language model lies in a folder of its run, with a config.json of its own, but no run's id.
        folders, known = marks["config.json"], marks[ID_FILE] | marks["status.json"]
        runs = sorted(folder for folder in folders if folder in known or folders.isdisjoint(folder.parents))
        return [CopiedRun(written_out(_joined(store.url, folder)), _status(store, folder)) for folder in runs]
    except CistError:
        raise
    except Exception as error:  # of whatever library the store has
        raise CistError(f"The store of {url} cannot be read ({first_line(error)}).") from error


def _joined(url: str, folder: PurePosixPath) -> str:
    return url if folder == PurePosixPath() else f"{url}/{folder}"


def _status(store: Store, folder: PurePosixPath) -> dict[str, Any]:
    """The numbers and texts of ``status.json``; what else stands there is left out, as it may be anything."""
    try:
        status = parse_json(store.read(str(folder / "status.json"), most=_MOST_BYTES))
    except (OSError, ValueError):
        return {}
    if not isinstance(status, dict):
        return {}
    return {name: value for name, value in status.items() if isinstance(value, str | int | float | None)}
