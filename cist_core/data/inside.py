"""Names of files that somebody else wrote down: they lead to files of one folder, or are refused."""

from __future__ import annotations

import os
from pathlib import Path

from cist_core.errors import CistError
from cist_core.plain_text import is_plain_text


class Inside:
    """One folder, and the files that lie in it when links are followed.

    Attributes:
        root: the folder as it was given; what `path` returns starts with it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = os.path.realpath(root)
        self._seen: dict[str, bool] = {}

    def path(self, name: str, *, where: str) -> Path:
        """The path of a file or folder that a list calls ``name``, relative to the folder or absolute.

        Args:
            name: as written in the list.
            where: begins the error, for example ``"Row 3 of list.csv"``.

        Raises:
            CistError: if it has a part ``..`` or a character that no name has, or leads out of the folder.
        """
        # A backslash separates folders on Windows only; refused everywhere, a list means the same on every machine.
        parts = name.replace("\\", "/").split("/")
        if not name or ".." in parts or not is_plain_text(name):
            raise CistError(f"{where} names {name!r}; expected the path of a file in {self.root}, without '..'.")
        path = self.root / name
        self.check(path, where=where)
        return path

    def check(self, path: Path, *, where: str) -> None:
        """Refuse a path below the folder that leads out of it through a link.

        Raises:
            CistError: naming the path.
        """
        folder = str(path.parent)
        if folder not in self._seen:
            self._seen[folder] = self._holds(folder)
        if not self._seen[folder] or (os.path.islink(path) and not self._holds(path)):
            raise CistError(
                f"{where} names {str(path)!r}, which lies outside {self.root}; only files inside it are read: copy it "
                "there."
            )

    def _holds(self, path: str | Path) -> bool:
        real = os.path.realpath(path)
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)
