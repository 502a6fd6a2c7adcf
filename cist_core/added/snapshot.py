"""`Added`: one thing that was added, as it was when somebody looked."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cist_core.added.entry import PREVIEW, PROGRESS, WEIGHTS, Entry, Preview, Progress, read_failure, read_json
from cist_core.added.spec import AddSpec
from cist_core.errors import CistError
from cist_core.processes import is_alive

MOST_FILES = 16
"""Uploads for one purpose."""
LOGITS, STUDENT, TOKENS = "logits.safetensors", "student.safetensors", "tokens.safetensors"
SILENT_END = (
    "The process that read the files ended without a word, which happens when memory runs out (CIST_ADDED_MEMORY "
    "bounds it), the time allowed is used up, or a library crashes over a damaged file; check the file, or use fewer "
    "samples."
)
_UNTIDY = re.compile(r"[^A-Za-z0-9._\-]+")


class AddedState(StrEnum):
    """How far something that is added has come."""

    DRAFT = "draft"
    PREVIEWING = "previewing"
    PREVIEWED = "previewed"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def at_work(self) -> bool:
        return self in (AddedState.PREVIEWING, AddedState.RUNNING)


@dataclass(frozen=True)
class Added:
    """One folder of the store, as it was when it was read.

    Attributes:
        folder: all of its files.
        owner: who added it; None: somebody who had not signed in.
        created_at: Unix time.
        spec: what was asked for last; None before anything was.
        state: how far it is.
        reason: why it failed, as a sentence; None unless it did.
        preview: what the last preview found.
        progress: how far the child process is; None before it has said so.
        weights_named: the names of weights that it failed for want of a choice among.
    """

    folder: Path
    owner: str | None
    created_at: float
    spec: AddSpec | None
    state: AddedState
    reason: str | None
    preview: Preview | None
    progress: Progress | None
    weights_named: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def title(self) -> str:
        return self.spec.title if self.spec is not None else "Not named yet"

    @property
    def uploads(self) -> Path:
        return self.folder / "uploads"

    @property
    def of_text(self) -> bool:
        """Whether it is a language model on texts."""
        return self.spec is not None and self.spec.language is not None

    @property
    def logit_file(self) -> Path:
        """What is there once it is ready: logits, or the tokens of a text."""
        return self.folder / (TOKENS if self.of_text else LOGITS)

    @property
    def student_file(self) -> Path | None:
        """The student's logits, if some were added."""
        path = self.folder / STUDENT
        return path if path.is_file() else None

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, C)`` of the logits, once they are there; nothing but the head of the file is read.

        Of a text it is ``()``: how many tokens count is not in the head.
        """
        from safetensors import safe_open

        if self.of_text:
            return ()
        with safe_open(self.logit_file, framework="np") as file:
            return tuple(file.get_slice("logits").get_shape())

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return size_of(self.folder)

    def place_for(self, name: str, role: str) -> Path:
        """Where an uploaded file goes: below `uploads`, under a tidy name that keeps its ending.

        Args:
            name: as the browser says it.
            role: what it is for, such as ``"teacher"``; files of the same name for other roles stay apart.

        Raises:
            CistError: if there are `MOST_FILES` already.
        """
        plain = name.replace("\\", "/").rpartition("/")[2]
        stem, _, ending = plain.rpartition(".") if "." in plain else (plain, "", "")
        tidy = _UNTIDY.sub("_", stem).strip("._")[:60] or "file"
        suffix = f".{_UNTIDY.sub('', ending)[:12].lower()}" if ending else ""
        folder = self.uploads / role
        folder.mkdir(parents=True, exist_ok=True)
        taken = {path.name for path in folder.iterdir()}
        if len(taken) >= MOST_FILES:
            raise CistError(
                f"At most {MOST_FILES} files can be added at once, and so many are here; remove some first."
            )
        others = (f"{tidy}-{number}{suffix}" for number in range(2, MOST_FILES + 2))
        return folder / next(name for name in (f"{tidy}{suffix}", *others) if name not in taken)


def snapshot(folder: Path) -> Added:
    """Read everything there is about one folder, once; nothing is changed, and no process hears of it.

    Raises:
        CistError: if its entry is gone or damaged.
    """
    entry = Entry.read(folder)
    state = state_of(folder, entry)
    return Added(
        folder=folder,
        owner=entry.owner,
        created_at=entry.created_at,
        spec=entry.spec,
        state=state,
        reason=(read_failure(folder) or SILENT_END) if state is AddedState.FAILED else None,
        preview=read_json(Preview, folder / PREVIEW),
        progress=read_json(Progress, folder / PROGRESS),
        weights_named=read_json(tuple[str, ...], folder / WEIGHTS) or (),
    )


def state_of(folder: Path, entry: Entry) -> AddedState:
    """How far it is, by the entry, its process and the files."""
    works = is_alive(entry.pid, entry.pid_created_at)  # before its files: what has ended has written them
    if (folder / LOGITS).is_file() or (folder / TOKENS).is_file():
        return AddedState.READY
    if entry.task is None:
        return AddedState.DRAFT
    if works:
        return AddedState.PREVIEWING if entry.task == "preview" else AddedState.RUNNING
    if entry.cancelled_at is not None:
        return AddedState.CANCELLED
    if entry.task == "preview" and (folder / PREVIEW).is_file():
        return AddedState.PREVIEWED
    return AddedState.FAILED


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
