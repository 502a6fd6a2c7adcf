"""Which rows of an unfinished file of logits are done, so that the next run goes on from there.

Beside the file stands a list: after each batch, or each second, a line ``END SHA-256`` of the rows up to ``END``. What
a line promises is believed once its digest is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.files import write_whole

_SECONDS = 1.0


class KeptRows:
    """The rows of one file that are done, and the list of them."""

    def __init__(self, path: Path, rows: NDArray[np.float32], *, new: bool) -> None:
        """Read the list and check it against the rows.

        Args:
            path: of the list.
            rows: ``(N, C)``, of the unfinished file.
            new: whether there can be none, as the file has just been made.

        Raises:
            CistError: if the list cannot be written.
        """
        self._path, self._rows, self._written_at, self._end = path, rows, time.monotonic(), 0
        self.done = 0
        """Rows from the first that are listed."""
        good, damaged = ([], True) if new else self._good_lines()
        if damaged:
            write_whole(
                path,
                lambda file: file.write_text("".join(good), encoding="ascii"),
                what="The list of rows that are done",
                durable=False,
            )

    def keep(self, end: int) -> None:
        """Say that the rows up to ``end`` are done; written down once a second.

        Where the disk has no room for that, these rows are computed again if the process is killed.
        """
        self._end = end
        if time.monotonic() - self._written_at >= _SECONDS or end == len(self._rows):
            with contextlib.suppress(OSError):
                self.write()

    def write(self) -> None:
        """Write down what is done."""
        if self._end > self.done:
            with self._path.open("a", encoding="ascii") as stream:
                stream.write(f"{self._end} {_digest(self._rows[self.done : self._end])}\n")
            self.done = self._end
        self._written_at = time.monotonic()

    def _good_lines(self) -> tuple[list[str], bool]:
        """The lines up to the first that is not right, and whether there is such a one, or no list."""
        good: list[str] = []
        text = None
        with contextlib.suppress(OSError, ValueError):  # no list, or a line that was being written
            text = self._path.read_text(encoding="ascii")
            for line in text.splitlines():
                end, digest = line.split()
                if not self.done < int(end) <= len(self._rows) or _digest(self._rows[self.done : int(end)]) != digest:
                    break
                self.done = int(end)
                good.append(f"{line}\n")
        return good, text != "".join(good)


def _digest(rows: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data.cast("B")).hexdigest()
