"""`AddedStore`: one folder for everything that somebody adds.

A folder is known by its id, which cannot be guessed: whoever has the id may look at it, so a link to a view can be
passed on. To change it or delete it one has to be its owner, or, where nobody signs in, to have its key. It holds
``entry.json``, the ``uploads``, and what the child process leaves (`cist_core.added.__main__`): ``preview.json``,
``progress.json``, ``logits.safetensors`` or ``failure.txt``. The files say how far it is, so nothing is lost with the
page, or with the Studio.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path

from cist_core.added.entry import (
    CANCEL_SECONDS,
    FAILURE,
    PREVIEW,
    PROGRESS,
    WEIGHTS,
    Entry,
    Progress,
    Task,
    read_failure,
    read_json,
    seconds_for,
    too_slow,
    write_failure,
)
from cist_core.added.roots import check_paths
from cist_core.added.snapshot import SILENT_END, Added, AddedState, size_of, snapshot, state_of
from cist_core.added.spec import AddSpec
from cist_core.errors import CistError
from cist_core.files import file_lock, own_folder
from cist_core.logits.logit_set import LogitSet
from cist_core.partial_files import remove_abandoned
from cist_core.processes import PYTHON, Child, is_alive, signal_group
from cist_core.wording import byte_size

ADDED_ID = re.compile(r"[a-z0-9][a-z0-9\-]{0,40}-[0-9a-f]{16}")

DRAFT_SECONDS = 24 * 3600
"""A draft that nobody has touched for so long is removed."""
KEPT_SECONDS = 7 * DRAFT_SECONDS
"""What belongs to nobody is kept so long at least; then it goes when the room is needed."""
MOST_AT_WORK, MOST_OF_ONE = 8, 2
"""Child processes that work or wait: of all visitors together, and of one who has signed in."""
DEFAULT_BYTES = 50_000_000_000
OVERDUE_SECONDS = 60.0
"""Time beyond its own limit after which a child that did not keep it is ended."""

_children: list[Child] = []


class AddedStore:
    """Everything that was added, below one root, as one person may use it."""

    def __init__(
        self, root: Path | None = None, *, owner: str | None = None, keys: MutableMapping[str, str] | None = None
    ) -> None:
        """Open the store; its folder is made when something is added.

        Args:
            root: default: ``CIST_ADDED``, or a folder among the user's data.
            owner: who uses it, and may change what is theirs; None: the operator, who may change everything, or
                somebody where nobody signs in.
            keys: of the latter, by id: what they may change, to which what they begin is added; None: the operator.
        """
        self.keys = keys
        self.root = own_folder("CIST_ADDED", "data", "added").resolve() if root is None else root
        self.owner = owner

    # ---- look --------------------------------------------------------------------------------------------------------

    def snapshot(self, added_id: str) -> Added:
        """The one of this id, to look at: the id is what a link passes on.

        Raises:
            CistError: if there is none.
        """
        # The id comes from a link: only what looks like one becomes a path.
        if ADDED_ID.fullmatch(added_id) and (self.root / added_id / "entry.json").is_file():
            return snapshot(self.root / added_id)
        raise CistError(f"There is nothing added under '{added_id}'; it may have been deleted. Add it again.")

    def own_snapshot(self, added_id: str) -> Added:
        """The one of this id, to change.

        Raises:
            CistError: if there is none, or it is somebody else's.
        """
        added = self.snapshot(added_id)
        self.check_own(added)
        return added

    def check_own(self, added: Added) -> None:
        """Refuse to change what somebody else has added.

        Raises:
            CistError: if it is somebody else's.
        """
        if self.owner is not None and added.owner != self.owner:
            raise CistError(f"'{added.title}' was added by somebody else; you may look at it, and add your own.")
        if self.owner is None and self.keys is not None:
            key, digest = self.keys.get(added.id), Entry.read(added.folder).key_sha256
            if key is None or digest is None or not secrets.compare_digest(_digest(key), digest):
                raise CistError(f"'{added.title}' was added in another browser; you may look at it, and add your own.")

    def list_added(self) -> Sequence[Added]:
        """What the owner has added, the newest first; empty for anonymous visitors, who cannot be told apart."""
        if self.owner is None:
            return []
        return self._newest(folder for folder, entry in self._entries() if entry.owner == self.owner)

    def list_all(self) -> Sequence[Added]:
        """Everything, whoever added it, the newest first: for the operator, and on one's own machine."""
        return self._newest(folder for folder, _ in self._entries())

    def ready(self) -> Sequence[Added]:
        """All that has logits, whoever added it, the newest first: for the operator."""
        return self._newest(folder for folder, entry in self._entries() if state_of(folder, entry) is AddedState.READY)

    # ---- change ------------------------------------------------------------------------------------------------------

    def draft(self, *, title: str = "mine") -> Added:
        """A new, empty one of this owner, or under a new key; drafts that were left lying are removed.

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
            folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise CistError(
                f"Nothing can be added in {self.root} ({error.strerror or error}); "
                "make room there, or set CIST_ADDED to a folder that can be written to."
            ) from error
        entry = Entry(owner=self.owner, created_at=time.time())
        if self.owner is None and self.keys is not None:
            key = self.keys[folder.name] = secrets.token_hex(16)
            entry = entry.model_copy(update={"key_sha256": _digest(key)})
        entry.write(folder)
        return snapshot(folder)

    def start_preview(self, added_id: str, spec: AddSpec, *, server_paths: bool = True) -> None:
        """Look at the files in a process of its own; a later `snapshot` tells what comes of it.

        Args:
            added_id: where it is added.
            spec: what is to be added.
            server_paths: whether paths below the `roots` may be opened.

        Raises:
            CistError: if it is somebody else's, a path is neither uploaded nor allowed, it is at work, or too many are.
        """
        self._start("preview", added_id, spec, server_paths=server_paths)

    def start(self, added_id: str, spec: AddSpec, *, server_paths: bool = True) -> None:
        """Read or compute all logits in a process of its own; a later `snapshot` tells how far it is.

        Raises:
            CistError: as `start_preview`.
        """
        self._start("add", added_id, spec, server_paths=server_paths)

    def add_logits(self, logit_set: LogitSet, *, title: str) -> Added:
        """Add logits that are at hand, as if their file had been uploaded and read.

        Raises:
            CistError: if they cannot be written, or the store is full.
        """
        added = self.draft(title=title)
        uploaded = added.place_for(f"{added.id.rpartition('-')[0]}.safetensors", "teacher")
        logit_set.save(uploaded)
        try:
            os.link(uploaded, added.logit_file)  # what is written anew later takes the place of the name only
        except OSError:  # a file system without links
            logit_set.save(added.logit_file)
        entry = Entry.read(added.folder)
        spec = AddSpec.of(title=title, logits={"teacher": str(uploaded)})
        entry.model_copy(update={"spec": spec, "task": "add"}).write(added.folder)
        return snapshot(added.folder)

    def cancel(self, added_id: str) -> None:
        """Stop the child process; what it has computed so far is not kept.

        Raises:
            CistError: if there is none, or it is somebody else's.
        """
        folder = self.own_snapshot(added_id).folder
        with _lock(folder):
            entry = Entry.read(folder)
            if entry.pid is not None and is_alive(entry.pid, entry.pid_created_at):
                entry.model_copy(update={"cancelled_at": time.time()}).write(folder)
                signal_group(entry.pid, signal.SIGTERM)

    def delete(self, added_id: str) -> None:
        """Remove one with all its files; its child process is ended.

        Raises:
            CistError: if there is none, it is somebody else's, or its files cannot be removed.
        """
        folder = self.own_snapshot(added_id).folder
        entry = Entry.read(folder)
        if entry.pid is not None and is_alive(entry.pid, entry.pid_created_at):
            signal_group(entry.pid, signal.SIGKILL)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise CistError(f"{folder} cannot be removed ({error.strerror or error}); remove it by hand.") from error

    def reap(self) -> None:
        """End the child processes that are overdue, and record those that have ended.

        Overdue is one that was told to stop `CANCEL_SECONDS` ago, or has not kept its limit of time (`SECONDS`) by
        `OVERDUE_SECONDS`: stuck in a library, it hears no signal that it could answer. Whoever waits for something
        calls this from time to time, for what anybody has added; to look changes nothing.
        """
        for child in _children[:]:  # so that none stays as a zombie
            if child.exit_code() is not None:
                _children.remove(child)
        for folder, entry in self._entries():
            if _end_of(folder, entry) is not None:
                with contextlib.suppress(OSError, CistError):  # it may be deleted meanwhile
                    _reap(folder)

    # ---- bounds ------------------------------------------------------------------------------------------------------

    def check_work(self, owner: str | None) -> None:
        """Refuse more child processes than this machine should bear, or than one person may have.

        Raises:
            CistError: naming the limit.
        """
        self.reap()
        busy = [entry.owner for folder, entry in self._entries() if state_of(folder, entry).at_work]
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
        allowed, used = _allowed_bytes(), size_of(self.root) + arriving
        if used > allowed:
            used -= self._make_room(used - allowed)
        if used > allowed:
            raise CistError(
                f"What was added takes {byte_size(used)}, and {byte_size(allowed)} are allowed; "
                "delete something, or raise CIST_ADDED_BYTES."
            )

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _start(self, task: Task, added_id: str, spec: AddSpec, *, server_paths: bool) -> None:
        added = self.own_snapshot(added_id)
        check_paths(spec, added.uploads, server_paths=server_paths)
        self.check_work(added.owner)
        with _lock(added.folder):  # two tabs may show one draft
            entry = Entry.read(added.folder)
            if state_of(added.folder, entry).at_work:
                raise CistError(f"'{added.title}' is being read; wait, or cancel it first.")
            for left in (FAILURE, WEIGHTS, PROGRESS, *([PREVIEW] if task == "preview" else [])):
                (added.folder / left).unlink(missing_ok=True)
            command = [*PYTHON, "-m", "cist_core.added", task, str(added.folder)]
            child = Child(command, working_directory=added.folder, stderr_file=added.folder / "log.txt")
            Entry(
                owner=entry.owner,
                created_at=entry.created_at,
                key_sha256=entry.key_sha256,
                spec=spec,
                server_paths=server_paths,
                task=task,
                pid=child.pid,
                pid_created_at=child.started,
            ).write(added.folder)
            child.release()
            _children.append(child)

    def _entries(self) -> Iterator[tuple[Path, Entry]]:
        if self.root.is_dir():
            for folder in self.root.iterdir():
                if ADDED_ID.fullmatch(folder.name):
                    with contextlib.suppress(CistError):
                        yield folder, Entry.read(folder)

    def _newest(self, folders: Iterator[Path]) -> Sequence[Added]:
        found = []
        for folder in folders:
            with contextlib.suppress(CistError):  # deleted meanwhile
                found.append(snapshot(folder))
        return sorted(found, key=lambda added: -added.created_at)

    def _make_room(self, wanted: int) -> int:
        """Remove the oldest that are ready, of nobody, and not of this week; returns the bytes that came free."""
        free = 0
        for folder, entry in sorted(self._entries(), key=lambda found: found[1].created_at):
            old = time.time() - entry.created_at > KEPT_SECONDS
            if free < wanted and old and entry.owner is None and state_of(folder, entry) is AddedState.READY:
                size = size_of(folder)
                shutil.rmtree(folder, ignore_errors=True)
                free += size
        return free

    def _sweep(self) -> None:
        kept = (AddedState.READY, AddedState.PREVIEWING, AddedState.RUNNING)
        for folder, entry in self._entries():
            remove_abandoned(folder)
            with contextlib.suppress(OSError):
                if state_of(folder, entry) not in kept and time.time() - folder.stat().st_mtime > DRAFT_SECONDS:
                    shutil.rmtree(folder)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Between reading an entry and writing it."""
    lock = file_lock(folder / ".begin.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise CistError(
            f"Nothing can be read in {folder.parent}, where no file can be locked ({error.strerror or error}); set "
            "CIST_ADDED to a folder on another disk."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _end_of(folder: Path, entry: Entry) -> str | None:
    """Why the child process is over, or has to be; None where there is none, or it works and is in time."""
    if entry.pid is None:
        return None
    if not is_alive(entry.pid, entry.pid_created_at):
        return SILENT_END
    if entry.cancelled_at is not None and time.time() - entry.cancelled_at > CANCEL_SECONDS:
        return "It was cancelled."
    progress = read_json(Progress, folder / PROGRESS)
    if entry.task is None or progress is None or progress.began_at is None:
        return None  # its turn has not come
    late = time.monotonic() - progress.began_at - seconds_for(entry.task, entry.spec)
    return too_slow(entry.task, entry.spec) if late > OVERDUE_SECONDS else None


def _reap(folder: Path) -> None:
    with _lock(folder):
        entry = Entry.read(folder)
        reason = _end_of(folder, entry)
        if reason is None or entry.pid is None:
            return
        if is_alive(entry.pid, entry.pid_created_at):
            signal_group(entry.pid, signal.SIGKILL)
        ended = entry.model_copy(update={"pid": None, "pid_created_at": None})
        if state_of(folder, ended) is AddedState.FAILED and read_failure(folder) is None:
            write_failure(folder, reason)
        ended.write(folder)


def _allowed_bytes() -> int:
    text = os.environ.get("CIST_ADDED_BYTES", "")
    try:
        return int(float(text)) if text else DEFAULT_BYTES
    except (ValueError, OverflowError):
        raise CistError(f"Expected CIST_ADDED_BYTES to be a number of bytes, but it is '{text}'.") from None
