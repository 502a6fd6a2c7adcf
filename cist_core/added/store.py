"""`AddedStore`: one folder for everything that somebody adds, and `Added`, one such folder.

A folder is known by its id, which cannot be guessed: whoever has the id may look at it, so a link to a view can be
passed on. It holds ``entry.json``, the ``uploads``, and what the child process leaves (`cist_core.added.__main__`):
``preview.json``, ``progress.json``, ``logits.safetensors`` or ``failure.txt``. The files say how far it is, so nothing
is lost with the page, or with the Studio.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from cist_core.added.roots import roots
from cist_core.added.spec import AddSpec
from cist_core.errors import CistError
from cist_core.files import own_folder, write_whole
from cist_core.processes import Child, is_alive, signal_group

NAME_OF_REMOTE = re.compile(r"(torchvision|timm|hf):\w[\w.\-]*(/\w[\w.\-]*)?([@:]\w[\w.\-]*)?")
ADDED_ID = re.compile(r"[a-z0-9][a-z0-9\-]{0,40}-[0-9a-f]{16}")
_UNTIDY = re.compile(r"[^A-Za-z0-9._\-]+")

DRAFT_SECONDS = 24 * 3600
"""A draft that nobody has touched for so long is removed."""
KEPT_SECONDS = 7 * DRAFT_SECONDS
"""What belongs to nobody is kept so long at least; then it goes when the room is needed."""
MOST_AT_WORK, MOST_OF_ONE = 8, 2
"""Child processes that work or wait: of all visitors together, and of one who has signed in."""
MOST_FILES = 16
"""Uploads for one purpose."""
DEFAULT_BYTES = 50_000_000_000
_KILL_AFTER_SECONDS = 10.0


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
class PreviewImage:
    """One image with the teacher's answer; classes by name where there are names, else by number."""

    uri: str
    label: str
    prediction: str
    probability: float


@dataclass(frozen=True)
class Preview:
    """What is known before the long work begins.

    Attributes:
        name: of the model or the file.
        architecture: of the model; None for logits.
        parameters: of the model; None for logits.
        num_samples: all there are to be read or answered.
        num_classes: C.
        class_names: C names, or None.
        accuracy: share of right answers on the sample; None without labels.
        sample_size: number of samples that the accuracy is of.
        preprocessing: fields of `cist_core.zoo.Preprocessing`; None for logits.
        warnings: sentences, each with its remedy.
        remarks: sentences on what was chosen among several: weights, the order of classes or samples.
        facts: for people: origin, licence, what was recognised.
        images: a few of the sample.
        split: of the data; ``"all"`` where they have none.
        seconds: estimate for all samples; None for logits.
        other_weights: names of the groups of weights in the file that could be taken instead.
        class_map: from each class of the data to the teacher's, both by number, under which far more answers would be
            right; None where there is no such map.
    """

    name: str
    num_samples: int
    num_classes: int
    architecture: str | None = None
    parameters: int | None = None
    class_names: tuple[str, ...] | None = None
    accuracy: float | None = None
    sample_size: int = 0
    preprocessing: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    images: tuple[PreviewImage, ...] = ()
    split: str | None = None
    seconds: float | None = None
    other_weights: tuple[str, ...] = ()
    class_map: dict[str, str] | None = None

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preview:
        names = fields["class_names"]
        return cls(
            **{
                **fields,
                "class_names": None if names is None else tuple(names),
                **{name: tuple(fields.get(name, ())) for name in ("warnings", "remarks", "other_weights")},
                "images": tuple(PreviewImage(**image) for image in fields["images"]),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """Samples done and in all (0 while that is not known), and the seconds left at the present speed."""

    done: int
    total: int
    seconds_left: float | None


class Added:
    """One folder of the store.

    Attributes:
        folder: all of its files.
        id: its name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    # ---- look --------------------------------------------------------------------------------------------------------

    @property
    def uploads(self) -> Path:
        return self.folder / "uploads"

    @property
    def logit_file(self) -> Path:
        return self.folder / "logits.safetensors"

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, C)`` of the logits, once they are there; nothing but the head of the file is read."""
        from safetensors import safe_open

        with safe_open(self.logit_file, framework="np") as file:
            return tuple(file.get_slice("logits").get_shape())

    @property
    def student_file(self) -> Path | None:
        """The student's logits, if some were added."""
        path = self.folder / "student.safetensors"
        return path if path.is_file() else None

    @property
    def owner(self) -> str | None:
        """Who added it; None: somebody who had not signed in."""
        owner: str | None = self._entry()["owner"]
        return owner

    @property
    def created_at(self) -> float:
        return float(self._entry()["created_at"])

    @property
    def title(self) -> str:
        return self.spec.title if self.spec is not None else "Not named yet"

    @property
    def spec(self) -> AddSpec | None:
        """What was asked for last; None before anything was."""
        content = self._entry()["spec"]
        return None if content is None else AddSpec.of(**content)

    @property
    def state(self) -> AddedState:
        entry = self._entry()
        if self.logit_file.is_file():
            return AddedState.READY
        if entry["task"] is None:
            return AddedState.DRAFT
        if is_alive(entry["pid"], entry["pid_created_at"]):
            self._kill_if_stuck(entry)
            return AddedState.PREVIEWING if entry["task"] == "preview" else AddedState.RUNNING
        if entry["cancelled_at"] is not None:
            return AddedState.CANCELLED
        if entry["task"] == "preview" and self._preview_file.is_file():
            return AddedState.PREVIEWED
        return AddedState.FAILED

    @property
    def reason(self) -> str | None:
        """Why it failed, as a sentence."""
        if self.state is not AddedState.FAILED:
            return None
        with contextlib.suppress(OSError):
            return self._failure_file.read_text(encoding="utf-8")
        return (
            "The process that read the files ended without a word, which happens when memory runs out "
            "(CIST_ADDED_MEMORY bounds it), the time allowed is used up, or a library crashes over a damaged file; "
            "check the file, or use fewer samples."
        )

    @property
    def preview(self) -> Preview | None:
        """What the last preview found, for the present spec."""
        with contextlib.suppress(OSError):
            return Preview.from_dict(json.loads(self._preview_file.read_text(encoding="utf-8")))
        return None

    @property
    def weights_named(self) -> tuple[str, ...]:
        """The names of weights that it failed for want of a choice among."""
        with contextlib.suppress(OSError, ValueError):
            return tuple(json.loads(self._weights_file.read_text(encoding="utf-8")))
        return ()

    @property
    def progress(self) -> Progress | None:
        """How far the child process is; None before it has said so."""
        with contextlib.suppress(OSError, ValueError):
            return Progress(**json.loads((self.folder / "progress.json").read_text(encoding="utf-8")))
        return None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return _size(self.folder)

    # ---- change ------------------------------------------------------------------------------------------------------

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

    def start_preview(self, spec: AddSpec, *, server_paths: bool = True) -> None:
        """Look at the files in a process of its own; `state` and `preview` tell what comes of it.

        Args:
            spec: what is to be added.
            server_paths: whether paths below the `roots` may be opened.

        Raises:
            CistError: if a path is neither uploaded nor allowed, this one is at work, or too many are.
        """
        self._begin("preview", spec, server_paths=server_paths)

    def start(self, spec: AddSpec, *, server_paths: bool = True) -> None:
        """Read or compute all logits in a process of its own; `state` and `progress` tell how far it is.

        Raises:
            CistError: as `start_preview`.
        """
        self._begin("add", spec, server_paths=server_paths)

    def cancel(self) -> None:
        """Stop the child process; what it has computed so far is not kept."""
        entry = self._entry()
        if is_alive(entry["pid"], entry["pid_created_at"]):
            self._write({**entry, "cancelled_at": time.time()})
            signal_group(entry["pid"], signal.SIGTERM)

    def _begin(self, task: str, spec: AddSpec, *, server_paths: bool) -> None:
        check_paths(spec, self.uploads, server_paths=server_paths)
        AddedStore(self.folder.parent).check_work(self.owner)
        with FileLock(self.folder / ".begin.lock"):  # two tabs may show one draft
            self._spawn(task, spec, server_paths=server_paths)

    def _spawn(self, task: str, spec: AddSpec, *, server_paths: bool) -> None:
        if self.state.at_work:
            raise CistError(f"'{self.title}' is being read; wait, or cancel it first.")
        stale = [self._failure_file, self._weights_file, self.folder / "progress.json"]
        if task == "preview":
            stale.append(self._preview_file)
        for left in stale:
            left.unlink(missing_ok=True)
        command = [sys.executable, "-m", "cist_core.added", task, str(self.folder)]
        child = Child(command, working_directory=self.folder, stderr_file=self.folder / "log.txt")
        self._write(
            {
                **self._entry(),
                "spec": spec.model_dump(),
                "server_paths": server_paths,
                "task": task,
                "pid": child.pid,
                "pid_created_at": child.created_at,
                "cancelled_at": None,
            }
        )
        child.release()
        _children.append(child)

    def _kill_if_stuck(self, entry: dict[str, Any]) -> None:
        """End a child that was told to stop and is stuck in a library."""
        if entry["cancelled_at"] is not None and time.time() - entry["cancelled_at"] > _KILL_AFTER_SECONDS:
            signal_group(entry["pid"], signal.SIGKILL)

    # ---- files -------------------------------------------------------------------------------------------------------

    @property
    def _preview_file(self) -> Path:
        return self.folder / "preview.json"

    @property
    def _weights_file(self) -> Path:
        return self.folder / "weights.json"

    @property
    def _failure_file(self) -> Path:
        return self.folder / "failure.txt"

    def _entry(self) -> dict[str, Any]:
        for child in _children[:]:  # so that none stays as a zombie
            if child.exit_code() is not None:
                _children.remove(child)
        try:
            entry: dict[str, Any] = json.loads((self.folder / "entry.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CistError(f"What was added as '{self.id}' is gone or damaged; add it again.") from error
        return entry

    def _write(self, entry: dict[str, Any]) -> None:
        text = json.dumps(entry)
        write_whole(self.folder / "entry.json", lambda file: file.write_text(text, encoding="utf-8"), what="The entry")

    @classmethod
    def _create(cls, folder: Path, owner: str | None) -> Added:
        folder.mkdir(parents=True, mode=0o700)
        added = cls(folder)
        added._write(
            {
                "owner": owner,
                "created_at": time.time(),
                "spec": None,
                "server_paths": False,
                "task": None,
                "pid": None,
                "pid_created_at": None,
                "cancelled_at": None,
            }
        )
        return added


_children: list[Child] = []


class AddedStore:
    """Everything that was added, below one root, as one person may use it."""

    def __init__(self, root: Path | None = None, *, owner: str | None = None) -> None:
        """Open the store; its folder is made when something is added.

        Args:
            root: default: ``CIST_ADDED``, or a folder among the user's data.
            owner: who uses it, and may change what is theirs; None: the operator, or anybody where nobody signs in,
                who may change everything.
        """
        self.root = own_folder("CIST_ADDED", "data", "added").resolve() if root is None else root
        self.owner = owner

    def draft(self, *, title: str = "mine") -> Added:
        """A new, empty one of this owner; drafts that were left lying are removed.

        Args:
            title: begins the id, as far as it can.

        Raises:
            CistError: if the folder cannot be made, or the store is full.
        """
        self._sweep()
        self.check_room()
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "mine"
        folder = self.root / f"{slug}-{secrets.token_hex(8)}"
        try:
            return Added._create(folder, self.owner)
        except OSError as error:
            raise CistError(
                f"Nothing can be added in {self.root} ({error.strerror or error}); "
                "make room there, or set CIST_ADDED to a folder that can be written to."
            ) from error

    def get(self, added_id: str) -> Added:
        """The one of this id, to look at: the id is what a link passes on.

        Raises:
            CistError: if there is none.
        """
        # The id comes from a link: only what looks like one becomes a path.
        if ADDED_ID.fullmatch(added_id) and (self.root / added_id / "entry.json").is_file():
            return Added(self.root / added_id)
        raise CistError(f"There is nothing added under '{added_id}'; it may have been deleted. Add it again.")

    def get_owned(self, added_id: str) -> Added:
        """The one of this id, to change.

        Raises:
            CistError: if there is none, or it is somebody else's.
        """
        added = self.get(added_id)
        if self.owner is not None and added.owner != self.owner:
            raise CistError(f"'{added.title}' was added by somebody else; you may look at it, and add your own.")
        return added

    def list_added(self) -> Sequence[Added]:
        """What the owner has added, the newest first; empty for anonymous visitors, who cannot be told apart."""
        found = [] if self.owner is None else [added for added in self._all() if added.owner == self.owner]
        return sorted(found, key=lambda added: -added.created_at)

    def ready(self) -> Sequence[Added]:
        """All that has logits, whoever added it, the newest first: for the operator."""
        found = [added for added in self._all() if added.state is AddedState.READY]
        return sorted(found, key=lambda added: -added.created_at)

    def delete(self, added_id: str) -> None:
        """Remove one with all its files; its child process is ended.

        Raises:
            CistError: if there is none, it is somebody else's, or its files cannot be removed.
        """
        added = self.get_owned(added_id)
        entry = added._entry()
        if is_alive(entry["pid"], entry["pid_created_at"]):
            signal_group(entry["pid"], signal.SIGKILL)
        try:
            shutil.rmtree(added.folder)
        except OSError as error:
            raise CistError(
                f"{added.folder} cannot be removed ({error.strerror or error}); remove it by hand."
            ) from error

    def check_work(self, owner: str | None) -> None:
        """Refuse more child processes than this machine should bear, or than one person may have.

        Raises:
            CistError: naming the limit.
        """
        busy = [added.owner for added in self._all() if added.state.at_work]
        if len(busy) >= MOST_AT_WORK:
            raise CistError(f"{MOST_AT_WORK} files are being read at the moment; wait until one is done.")
        if owner is not None and busy.count(owner) >= MOST_OF_ONE:
            raise CistError(f"{MOST_OF_ONE} of your files are being read at the moment; wait until one is done.")

    def check_room(self, arriving: int = 0) -> None:
        """Refuse more bytes than the store may hold; what belongs to nobody and is old makes room first.

        Args:
            arriving: bytes that are about to be written.

        Raises:
            CistError: if the store has used up ``CIST_ADDED_BYTES``.
        """
        allowed, used = _allowed_bytes(), _size(self.root) + arriving
        if used > allowed:
            used -= self._make_room(used - allowed)
        if used > allowed:
            raise CistError(
                f"What was added takes {used / 1e9:,.1f} GB, and {allowed / 1e9:,.1f} GB are allowed; "
                "delete something, or raise CIST_ADDED_BYTES."
            )

    def _all(self) -> Iterator[Added]:
        if self.root.is_dir():
            for folder in self.root.iterdir():
                if ADDED_ID.fullmatch(folder.name):
                    with contextlib.suppress(CistError):
                        added = Added(folder)
                        added._entry()
                        yield added

    def _make_room(self, wanted: int) -> int:
        """Remove the oldest that are ready, of nobody, and not of this week; returns the bytes that came free."""
        free = 0
        for added in sorted(self._all(), key=lambda added: added.created_at):
            old = time.time() - added.created_at > KEPT_SECONDS
            if free < wanted and old and added.owner is None and added.state is AddedState.READY:
                size = added.size
                shutil.rmtree(added.folder, ignore_errors=True)
                free += size
        return free

    def _sweep(self) -> None:
        finished = (AddedState.READY, AddedState.PREVIEWING, AddedState.RUNNING)
        for added in self._all():
            with contextlib.suppress(OSError, CistError):
                if added.state not in finished and time.time() - added.folder.stat().st_mtime > DRAFT_SECONDS:
                    shutil.rmtree(added.folder)


def check_paths(spec: AddSpec, uploads: Path, *, server_paths: bool) -> None:
    """Refuse a spec that would read a file which was neither uploaded for it nor opened to visitors.

    Raises:
        CistError: naming the file.
    """
    from cist_core.cards import find_sample_model
    from cist_core.data import DATASETS
    from cist_core.inference.sources import split_ensemble

    allowed = [uploads.resolve(), *(roots() if server_paths else ())]
    if spec.logits is not None:
        files = [spec.logits.teacher, spec.logits.labels, spec.logits.student]
    else:
        assert spec.model is not None
        files = [] if spec.model.data in DATASETS or _is_remote(spec.model.data) else [spec.model.data]
        members = split_ensemble(spec.model.teacher)
        files += [name for name in members if find_sample_model(name) is None and not _is_remote(name)]
    for file in files:
        if file is None:
            continue
        try:
            found = Path(file).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            found = None
        if found is None or not Path(file).is_absolute() or not any(found.is_relative_to(place) for place in allowed):
            raise CistError(f"'{file}' was not uploaded, and is not in a folder that may be read; upload it.")


def _is_remote(name: str) -> bool:
    return NAME_OF_REMOTE.fullmatch(name) is not None


def _allowed_bytes() -> int:
    text = os.environ.get("CIST_ADDED_BYTES", "")
    try:
        return int(float(text)) if text else DEFAULT_BYTES
    except (ValueError, OverflowError):
        raise CistError(f"Expected CIST_ADDED_BYTES to be a number of bytes, but it is '{text}'.") from None


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
