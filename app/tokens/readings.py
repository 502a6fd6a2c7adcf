"""What a language model makes of a text: made by a child process, kept in the cache, one for all who ask for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from app.tokens.models import TextModel
from app.tokens.texts import Text, state_of
from cist_core.errors import CistError
from cist_core.files import own_folder, write_whole
from cist_core.language.reading import AT_ONCE, BEFORE, FAULT, INDEX, OPENING_SECONDS, PAIR, SECONDS, TOKENS
from cist_core.language.token_set import FORMAT, PAIR_FORMAT, TokenPair, TokenSet
from cist_core.processes import PYTHON, Child, age, signal_group, signs_of_work

if TYPE_CHECKING:
    from cist_core.runs import Run

_FORMAT = 4
"""Of the passages; those of another are made anew."""
MOST_KEPT, MOST_BYTES = 200, 2_000_000_000
"""Readings in the cache, and what they may take; of more, those go that nobody has asked for longest."""
QUIET_SECONDS = 120.0
"""Without a sign of work, until a process is ended; the limits on the whole are longer, as models are converted."""
_NOT_DONE = "The model did not come to the end of the text; give a shorter one, or try again."
_LATE_SECONDS = 5.0
"""Time that a process has to say itself that its time is up, before it is killed."""

children: dict[Path, Child] = {}
"""By the folder that they fill; those that have ended are taken out by `_see_to_children`."""
_worked: dict[Path, tuple[tuple[float, int], float]] = {}
"""The newest signs of work of each, and when they were seen first, by a clock that nobody sets."""
ended: set[Path] = set()
"""Those of `children` that were told to end, and do not hold a place any more."""
_lock = threading.RLock()


@dataclass(frozen=True)
class Readers:
    """Who reads a text: one model, a teacher and a student, or these and the student before its training.

    Attributes:
        titles: what people call them.
        module: of Python, which reads the text in a process of its own.
        references: its arguments after the text and the folder.
        states: what tells their files from others of the same names.
        converts: whether one of them is converted the first time, which takes minutes.
        base: where relative paths of models start; None: in the app's own folder.
    """

    titles: tuple[str, ...]
    module: str
    references: tuple[str, ...]
    states: tuple[Any, ...]
    converts: bool = False
    base: Path | None = None

    @classmethod
    def of_models(cls, models: Sequence[TextModel]) -> Readers:
        """One, or a teacher and a student."""
        return cls(
            tuple(model.title for model in models),
            "cist_core.language.reading",
            tuple(model.reference for model in models),
            tuple(state_of(model.path) for model in models),
            any(model.path is not None and model.path.suffix.lower() == ".gguf" for model in models),
        )

    @classmethod
    def of_run(cls, run: Run, title: str) -> Readers:
        """The teacher of a run of a language model, its student, and that student before its training."""
        directory, base = run.directory, run.working_directory.resolve()
        config = directory.config()
        begun_from = [state_of(base / name) for name in (config.teacher.name, config.student.architecture)]
        return cls(
            (title,),
            "cist_core.training.before_after",
            (str(directory.path.resolve()),),
            (state_of(directory.language_student), state_of(directory.config_file), str(base), begun_from),
            base=base,
        )


class Waiting(NamedTuple):
    """A reading that is being made.

    Attributes:
        seconds: since its process was started.
        quiet: seconds without a sign of work, as far as somebody has looked.
    """

    seconds: float
    quiet: float


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
        """What they expected.

        Raises:
            CistError: if it is damaged, or gone; so do the others.
        """
        pair = self.folder / PAIR
        return TokenPair.load(pair) if pair.is_dir() else TokenSet.load(self.folder / TOKENS)

    @property
    def before(self) -> TokenPair | None:
        """What the teacher expected and the student before its training; None but for a run."""
        pair = self.folder / BEFORE
        return TokenPair.load(pair) if pair.is_dir() else None

    def passage(self, number: int) -> bytes:
        """As `cist_core.language.passage.describe` makes it, in JSON."""
        try:
            return (self.folder / str(self.index["passages"][number]["file"])).read_bytes()
        except OSError as error:
            raise CistError("What was read of this text was cleared away meanwhile; press 'Try again'.") from error


def reading_of(readers: Readers, text: Text, *, may_begin: bool = True) -> Reading | None:
    """The reading, if it is there; else a child process makes it, and this is None for now.

    Args:
        readers: of the text.
        text: that they read.
        may_begin: whether the visitor may have it made.

    Raises:
        CistError: if the text cannot be read; it says why, until `forget_fault`.
    """
    text.check()
    folder = _folder(readers, text)
    with _lock:
        if (found := _kept(folder)) is not None or (folder in children and folder not in ended):
            return found
    if not may_begin:
        raise CistError("Nobody has had this text read yet; sign in to have a text of your own read.")
    content = text.content  # not under the lock: the disk that a file lies on may not answer
    with _lock:
        if (found := _kept(folder)) is None and (folder not in children or folder in ended):
            _begin(readers, content, folder, text.file_name)
    return found


def _kept(folder: Path) -> Reading | None:
    """The reading in a folder; None for none yet.

    Raises:
        CistError: if it was made and could not be.
    """
    _see_to_children()
    if folder in children and folder not in ended:
        return None
    with suppress(OSError):  # it is not there, or is just being cleared away
        index = json.loads((folder / INDEX).read_bytes())
        os.utime(folder)  # somebody asks for it
        return Reading(folder, index)
    if (folder / FAULT).is_file():
        raise CistError((folder / FAULT).read_text(encoding="utf-8"))
    return None


def waiting(readers: Readers, text: Text) -> Waiting | None:
    """How it stands with a reading that is being made; None for one that is not."""
    folder = _folder(readers, text)
    with _lock:
        child = children.get(folder)
        if child is None or folder in ended:
            return None
        _, since = _worked.get(folder, ((0.0, 0), time.monotonic()))
        return Waiting(age(child.started) or 0.0, time.monotonic() - since)


def stop(readers: Readers, text: Text) -> None:
    """End the process that makes a reading, for everybody who waits for it."""
    folder = _folder(readers, text)
    with _lock:
        if folder in children:
            _end(folder, "Somebody stopped the reading before it was done; press 'Try again' to start it anew.")


def forget_fault(readers: Readers, text: Text) -> None:
    """Let a text be read again that could not be read; what was read of it stays."""
    folder = _folder(readers, text)
    with _lock:
        _see_to_children()
        if folder not in children:
            (folder / FAULT).unlink(missing_ok=True)


def read_anew(readers: Readers, text: Text) -> None:
    """Clear away a reading that was found damaged, or why there is none."""
    folder = _folder(readers, text)
    with _lock:
        _see_to_children()
        if folder not in children:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(readers: Readers, text: Text) -> Path:
    """Another one for other weights, another text, and another version of the tables."""
    key = json.dumps([FORMAT, PAIR_FORMAT, _FORMAT, readers.module, readers.references, readers.states, *text.key])
    return _root() / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _root() -> Path:
    return own_folder("CIST_CACHE", "cache") / "readings"


def _begin(readers: Readers, content: bytes, folder: Path, file_name: str) -> None:
    if folder in children:
        raise CistError("The process that read the text was ended and has not gone yet; try again in a while.")
    if len(children) - len(ended) >= AT_ONCE:
        raise CistError(f"{AT_ONCE} texts are being read at the moment; wait until one is done.")
    forget_surplus()
    file = folder / file_name
    write_whole(file, lambda partial: partial.write_bytes(content), what="The text", durable=False)
    base = Path.cwd() if readers.base is None else readers.base
    if not base.is_dir():
        raise CistError(f"The folder {base}, in which the run was added and its models are looked for, is not there.")
    command = [*PYTHON, "-m", readers.module, str(file.resolve()), str(folder.resolve()), *readers.references]
    child = Child(command, working_directory=base, stderr_file=folder / "errors.txt")
    child.release()
    children[folder] = child


def _see_to_children() -> None:
    """End those that hang or whose time is up, and let go of those that have ended; one that left nothing leaves a
    fault."""
    now = time.monotonic()
    for folder, child in list(children.items()):
        if child.exit_code() is not None:
            del children[folder]
            ended.discard(folder)
            _worked.pop(folder, None)
            if not (folder / INDEX).is_file() and not (folder / FAULT).is_file():
                _leave(folder, _NOT_DONE)
        elif folder in ended:
            continue  # a disk that does not answer holds it
        elif (age(child.started) or 0.0) > OPENING_SECONDS + SECONDS + _LATE_SECONDS:
            _end(folder, _NOT_DONE)
        else:
            seen, signs = _worked.get(folder), signs_of_work(child.pid)
            if seen is None or signs != seen[0]:
                _worked[folder] = signs, now
            elif now - seen[1] > QUIET_SECONDS:
                _end(
                    folder,
                    f"The process that read the text showed no sign of work for {QUIET_SECONDS:.0f} seconds and was "
                    "ended; try again, and see whether the disk with the model answers if that does not help.",
                )


def _end(folder: Path, reason: str) -> None:
    child = children[folder]
    signal_group(child.pid, signal.SIGKILL)
    ended.add(folder)
    _leave(folder, reason)
    for _ in range(20):  # at once, unless a disk that does not answer holds it
        if child.exit_code() is not None:
            return
        time.sleep(0.05)


def _leave(folder: Path, reason: str) -> None:
    def write(file: Path) -> None:
        file.write_text(reason, encoding="utf-8")

    with suppress(CistError):  # on a full disk the text is read again when somebody asks
        write_whole(folder / FAULT, write, what="The reason", durable=False)


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
