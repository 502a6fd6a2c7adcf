"""One entry of the catalogue of hostile files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path


@dataclass(frozen=True)
class Hostile:
    """One file or folder that must be refused.

    Attributes:
        what: in words, for people; no two of one reader are alike.
        file: its name.
        reader: a key of `security.readers.READERS`.
        make: puts it at a path.
        needs: a package that has to be installed for this to be looked at, or empty.
        at_keyboard: whether the command line refuses it too, which bounds no sizes that fit the memory.
        content: of a file that is written down as it is; None where it is made.
    """

    what: str
    file: str
    reader: str
    make: Callable[[Path], object]
    needs: str = ""
    at_keyboard: bool = True
    content: bytes | None = None


def these(
    reader: str,
    cases: Iterable[tuple[str, str, bytes | Callable[[Path], object]]],
    *,
    needs: str = "",
    at_keyboard: bool = True,
) -> list[Hostile]:
    """Several for one reader: what, file, and either the content or what makes it."""
    return [
        Hostile(what, file, reader, partial(_write, content=given), needs, at_keyboard, given)
        if isinstance(given, bytes)
        else Hostile(what, file, reader, given, needs, at_keyboard)
        for what, file, given in cases
    ]


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
