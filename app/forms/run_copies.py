"""Runs that lie in the operator's store alone: asked for, shown and brought here beside the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from app.forms.command_job import CommandJob
from cist_core.runs.copies import fetched_bytes
from cist_core.training.mirror.listing import CopiedRun
from cist_core.wording import byte_size

LOOK_SECONDS = 60.0
"""The longest that a store may take to say what lies in it."""


class CopyDesk:
    """What one session has asked of a store. A store may be slow, so a process of its own asks it.

    Attributes:
        url: the folder that holds the copies.
        copies: those that were there at the last look; None before the first.
        coming: those that are being brought here; empty while none is.
        fault: what went wrong last; None if nothing did.
        looks: how often the store has answered.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self.copies: list[CopiedRun] | None = None
        self.coming: list[CopiedRun] = []
        self.fault: str | None = None
        self.looks = 0
        self._root = root
        self._job: CommandJob | None = None

    @property
    def busy(self) -> bool:
        return self._job is not None

    @property
    def so_far(self) -> str:
        """How much has come of the run that is being brought here, as people read it."""
        return byte_size(fetched_bytes(self._root))

    def look(self) -> None:
        """Ask which runs have a copy."""
        self.fault = None
        self._job = CommandJob(
            ["runs", "--mirror", self.url, "--json"],
            most_seconds=LOOK_SECONDS,
            too_long=f"The store of {self.url} has given no answer for {LOOK_SECONDS:.0f} seconds; look again when it "
            f"does, or on the command line: cist runs --mirror {self.url}",
        )

    def bring(self, copies: Sequence[CopiedRun]) -> None:
        """Have runs fetched, one after the other."""
        self.fault, self.coming = None, list(copies)
        self._job = CommandJob(
            ["runs", "--root", str(self._root), "--json", "fetch", *(copy.url for copy in copies)],
        )

    def stop(self) -> None:
        """Leave it; a run that is not whole yet is not listed."""
        if self._job is not None:
            self._job.stop()
        self._job, self.coming = None, []

    def go_on(self) -> list[str]:
        """Read the answer when it is there; the ids of the runs that have come with it."""
        if self._job is None:
            return []
        self._job.go_on()
        if not self._job.ended:
            return []
        found, self.fault = self._job.found, self._job.fault
        came = [str(run["id"]) for run in found["runs"]] if found is not None and self.coming else []
        if found is not None and not self.coming:
            self.copies = [CopiedRun(**run) for run in found["runs"]]
            self.looks += 1
        self._job, self.coming = None, []
        return came


def listing(copies: Sequence[CopiedRun]) -> pd.DataFrame:
    """One row a copy: what it says of itself."""
    return pd.DataFrame(
        {
            "Run": [copy.title or copy.name for copy in copies],
            "State": [copy.state for copy in copies],
            "Epoch": [copy.epoch for copy in copies],
            "Test": [None if copy.test_accuracy is None else 100 * copy.test_accuracy for copy in copies],
            "Copy": [copy.url for copy in copies],
        }
    )
