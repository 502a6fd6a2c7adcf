"""What a language model makes of a text: made by a child process, kept in the cache, one for all who ask for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cist_core.errors import CistError
from cist_core.files import own_folder, write_whole
from cist_core.language.known import KnownLanguageModel
from cist_core.language.reading import AT_ONCE, FAULT, INDEX, OPENING_SECONDS, PAIR, SECONDS, TOKENS
from cist_core.language.token_set import FORMAT, PAIR_FORMAT, TokenPair, TokenSet
from cist_core.processes import Child, age, signal_group

MOST_CHARACTERS = 20_000
MOST_KEPT, MOST_BYTES = 200, 2_000_000_000
"""Readings in the cache, and what they may take; of more, those go that nobody has asked for longest."""
_LATE_SECONDS = 5.0
"""Time that a process has to say itself that its time is up, before it is killed."""

children: dict[Path, Child] = {}
"""By the folder that they fill; those that have ended are taken out by `_see_to_children`."""
_lock = threading.RLock()


@dataclass(frozen=True)
class Reading:
    """A text that a model has read, or a teacher and a student.

    Attributes:
        folder: where it lies.
        index: what it is: models, remarks, passages; see `cist_core.language.reading.read`.
    """

    folder: Path
    index: dict[str, Any]

    @property
    def found(self) -> TokenSet | TokenPair:
        """What they expected."""
        pair = self.folder / PAIR
        return TokenPair.load(pair) if pair.is_dir() else TokenSet.load(self.folder / TOKENS)

    def passage(self, number: int) -> bytes:
        """As `cist_core.language.passage.describe` makes it, in JSON."""
        return (self.folder / str(self.index["passages"][number]["file"])).read_bytes()


def called(model: KnownLanguageModel) -> str:
    """As people call it here: one that ships by its name, as on other pages."""
    return model.name if model.card else model.title


def reading_of(models: Sequence[KnownLanguageModel], text: str, *, may_begin: bool = True) -> Reading | None:
    """The reading, if it is there; else a child process makes it, and this is None for now.

    Args:
        models: one, or a teacher and a student.
        text: that they read.
        may_begin: whether the visitor may have it made.

    Raises:
        CistError: if the text cannot be read; it says why, until `forget_fault`.
    """
    folder = _folder(models, text)
    with _lock:
        _see_to_children()
        if folder in children:
            return None
        with suppress(OSError):  # it is not there, or is just being cleared away
            index = json.loads((folder / INDEX).read_bytes())
            os.utime(folder)  # somebody asks for it
            return Reading(folder, index)
        if (folder / FAULT).is_file():
            raise CistError((folder / FAULT).read_text(encoding="utf-8"))
        if not may_begin:
            raise CistError("Nobody has had this text read yet; sign in to have a text of your own read.")
        _begin(models, text, folder)
    return None


def forget_fault(models: Sequence[KnownLanguageModel], text: str) -> None:
    """Let a text that could not be read be tried again."""
    (_folder(models, text) / FAULT).unlink(missing_ok=True)


def _folder(models: Sequence[KnownLanguageModel], text: str) -> Path:
    """Another one for other weights, another text, and another version of the tables."""
    made_of = [(model.name, _state(model.path)) for model in models]
    key = json.dumps([FORMAT, PAIR_FORMAT, made_of, text])
    return _root() / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _root() -> Path:
    return own_folder("CIST_CACHE", "cache") / "readings"


def _state(path: Path | None) -> list[tuple[str, int]]:
    files = [] if path is None else [path] if path.is_file() else sorted(path.iterdir())
    return [(file.name, file.stat().st_mtime_ns) for file in files]


def _begin(models: Sequence[KnownLanguageModel], text: str, folder: Path) -> None:
    if len(text) > MOST_CHARACTERS:
        raise CistError(
            f"The text has {len(text):,} characters, and {MOST_CHARACTERS:,} are read here; give a part of it."
        )
    if len(children) >= AT_ONCE:
        raise CistError(f"{AT_ONCE} texts are being read at the moment; wait until one is done.")
    forget_surplus()
    file = folder / "text.txt"
    # Half a character, as a browser may send it, is none in UTF-8.
    whole = text.encode("utf-8", "replace")
    write_whole(file, lambda partial: partial.write_bytes(whole), what="The text", durable=False)
    command = [sys.executable, "-m", "cist_core.language.reading", str(file), str(folder), *(m.name for m in models)]
    child = Child(command, working_directory=Path.cwd(), stderr_file=folder / "errors.txt")
    child.release()
    children[folder] = child


def _see_to_children() -> None:
    """Kill those whose time is up, and let go of those that have ended; one that left nothing leaves a fault."""
    for folder, child in list(children.items()):
        if child.exit_code() is None:
            if (age(child.started) or 0.0) > OPENING_SECONDS + SECONDS + _LATE_SECONDS:
                signal_group(child.pid, signal.SIGKILL)
        else:
            del children[folder]
            if not (folder / INDEX).is_file() and not (folder / FAULT).is_file():
                write_whole(folder / FAULT, _write_unfinished, what="The reason", durable=False)


def _write_unfinished(file: Path) -> None:
    file.write_text("The model did not come to the end of the text; give a shorter one, or press 'Read it' again.")


def forget_surplus() -> None:
    """Clear away what nobody has asked for longest."""
    found = []
    with suppress(OSError):  # nothing was ever read
        for folder in _root().iterdir():
            with suppress(OSError):  # another process clears away as well
                size = sum(file.stat().st_size for file in folder.rglob("*"))
                found.append((folder.stat().st_mtime, size, folder))
    total = 0
    for number, (_, size, folder) in enumerate(sorted(found, reverse=True), 1):
        total += size
        if (number >= MOST_KEPT or total > MOST_BYTES) and folder not in children:
            shutil.rmtree(folder, ignore_errors=True)
