"""`Mirror`: copies a run directory to a store while the run goes on, and from there to a machine that is to go on.

The run itself trains in a directory of a disk, with its lock and its files as always. What lies in the store is such a
directory as well: every file whole, and in an order that keeps it valid at any moment, as `kill -9` would leave it.
Checkpoints come after what belongs to them, and the status, which may say that the run has finished, comes last.

A copy is there because disks are lost. So nothing is removed from it because it is missing here, but checkpoints that
newer ones replace; and a place that is not the copy of this very run is refused before anything is written.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from cist_core.documents import parse_json
from cist_core.errors import CistError, first_line
from cist_core.files import file_state, write_whole
from cist_core.training.config import config_changes, is_free_on_resume
from cist_core.training.fields import upgraded
from cist_core.training.mirror.lease import RENEW_SECONDS, STALE_SECONDS, Lease, LeaseLost, is_lease
from cist_core.training.mirror.mark import ID_FILE, mirror_id
from cist_core.training.mirror.store import BEGIN_SECONDS, Store, within
from cist_core.training.run_directory import RunDirectory

FETCH_SECONDS = 3600.0
"""For one file; a store that falls silent in the middle of one is noticed earlier by its own library."""
END_SECONDS = 300.0
COPY_SECONDS = 30.0
"""Between two copies while there is no new checkpoint: of the log, the status and the metrics."""
_PART_BYTES = 8 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_STEP = re.compile(r"checkpoints/step-(\d+)\.pt")

log = logging.getLogger("cist_core.training")


class CopyFailed(CistError):  # noqa: N818 - what has happened to the copy, not to the run
    """A run could not begin, or has ended, without its copy."""


@contextlib.contextmanager
def copied(mirror: Mirror | None, *, resume: bool, replace: bool) -> Iterator[None]:
    """A run has its copy: begun before it, closed behind it; nothing without a mirror.

    Args:
        mirror: of the run.
        resume: as in `Mirror.begin`.
        replace: likewise.

    Raises:
        CopyFailed: as `Mirror.begin` and `Mirror.close`, unless the run itself has failed.
    """
    if mirror is None:
        yield
        return
    with _of_the_copy():
        mirror.begin(resume=resume, replace=replace)
    try:
        yield
    except BaseException:
        with contextlib.suppress(CistError):  # what ended the run counts
            mirror.close()
        raise
    with _of_the_copy():
        mirror.close()


@contextlib.contextmanager
def _of_the_copy() -> Iterator[None]:
    try:
        yield
    except CistError as error:
        raise CopyFailed(str(error)) from error


class Mirror:
    """The copy of one run in a store. Everything that asks the store does so in a thread of its own.

    Args:
        url: of the folder.
        directory: in which the run trains.
        renew_seconds: between two signs of life.
        stale_seconds: see `Lease`.
        end_seconds: for so long `close` waits for a store that gives no answer.
    """

    def __init__(
        self,
        url: str,
        directory: RunDirectory,
        *,
        renew_seconds: float = RENEW_SECONDS,
        stale_seconds: float = STALE_SECONDS,
        end_seconds: float = END_SECONDS,
    ) -> None:
        self.store = Store(url)
        self.directory = directory
        self._renew_seconds, self._end_seconds = renew_seconds, end_seconds
        self._lease = Lease(self.store, stale_seconds=stale_seconds)
        self._sent: dict[str, tuple[int, ...]] = {}
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._renewing = threading.Thread(target=self._renew, name="mirror-lease", daemon=True)
        self._done = threading.Event()
        self._copied_at: float | None = None
        self._fault: str | None = None
        self._lost: LeaseLost | None = None
        self._id_there: str | None = None

    # ---- for whoever trains ------------------------------------------------------------------------------------------

    def begin(self, *, resume: bool, replace: bool = False) -> None:
        """Have the right to write there, and fetch the run if the store has more of it than the disk.

        Args:
            resume: go on with what is there; false: there must be nothing yet.
            replace: remove an earlier attempt at the run of this directory instead.

        Raises:
            CistError: if another process trains the run, something else is there, or the store gives no answer.
        """
        self._take_within(resume=resume, replace=replace)
        try:
            if resume:
                self._fetch()
            elif replace:
                within(BEGIN_SECONDS, self._clear, self._who)
        except BaseException:
            self._give_back()
            raise
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def fetch(self) -> None:
        """Bring all that the store has of the run to an empty directory, then let others have the run; the copy stays.

        Raises:
            CistError: if another process trains the run, no run is there, or the store gives no answer.
        """
        self._take_within(resume=True, replace=False)
        try:
            self._fetch_files(within(BEGIN_SECONDS, self.files_there, self._who))
        finally:
            self._give_back()

    def offer(self) -> None:
        """There is a new checkpoint; it is copied while the run goes on."""
        self._wake.set()

    def said(self) -> dict[str, Any]:
        """For the status: where the copy is, when it was last complete, and what keeps it from that now."""
        return {"url": self.store.url, "copied_at": self._copied_at, "fault": self._fault}

    def check(self) -> None:
        """Raise `LeaseLost` if another process has taken the run over."""
        if self._lost is not None:
            raise self._lost

    def close(self) -> None:
        """Copy what is left and let others have the run.

        Raises:
            LeaseLost: if another process has taken the run over.
            CistError: if the copy is not complete after `end_seconds`.
        """
        assert self._thread is not None
        self._closing = True
        self._wake.set()
        self._thread.join(self._end_seconds)
        self.check()
        if self._thread.is_alive() or self._fault is not None:
            raise CistError(
                f"The copy of {self.directory.path} in {self.store.url} is not complete "
                f"({self._fault or 'the store gives no answer'}); the same command with --resume completes it."
            )

    def files_there(self) -> list[str]:
        """Those of the run that the store has.

        Raises:
            CistError: as `Store.names`; anything else that the store's library raises.
        """
        names = [name for name in self.store.names() if not is_lease(name) and not _is_partial(name)]
        return _without_runs_below(names)

    # ---- in the thread -----------------------------------------------------------------------------------------------

    @property
    def _who(self) -> str:
        return f"The store of {self.store.url}"

    def _take_within(self, *, resume: bool, replace: bool) -> None:
        within(BEGIN_SECONDS, lambda: self._take(resume, replace), self._who)
        self._renewing.start()

    def _give_back(self) -> None:
        """Let others have the run; that this fails matters less than what has come before."""
        with contextlib.suppress(CistError):
            within(self._end_seconds, self._let_go, self._who)

    def _take(self, resume: bool, replace: bool) -> None:
        """The lease, if this place is the right one; asked before, and again when nobody else can write there."""
        said = self.directory.status().get("mirror")
        if resume and isinstance(said, dict) and said.get("url") == self.store.url and said.get("copied_at"):
            self.store.expect_folder()
            self._copied_at = said["copied_at"]
        self._refuse_what_is_there(resume, replace)
        self._lease.take()
        try:
            self._refuse_what_is_there(resume, replace)
        except BaseException:
            self._lease.release()
            raise

    def _refuse_what_is_there(self, resume: bool, replace: bool) -> None:
        """Anything but the copy of this run, that too unless it may be there, and nothing at all where it has to be."""
        names = self.files_there()
        if not names:
            if resume and not self.directory.config_file.exists():
                raise CistError(
                    f"There is no run to resume in {self.store.url}; see that the address is right: 'cist runs "
                    "--mirror URL' lists those below one."
                )
            return
        if "config.json" not in names:
            raise CistError(
                f"Expected {self.store.url} to be empty or the copy of a run, but it holds {min(names)} and no "
                "config.json of its own; choose another place, such as a new folder in it."
            )
        if not (resume or replace):
            raise CistError(
                f"There is a run in {self.store.url} already; go on with it (--resume), or choose another place."
            )
        if not self.directory.config_file.exists():
            return  # all there is of the run is in the store
        changes = config_changes(self._config_there(), self.directory.config().model_dump(mode="json"))
        if refused := [change.field for change in changes if not is_free_on_resume(change.field)]:
            raise CistError(
                f"The run in {self.store.url} is not the one in {self.directory.path} ({', '.join(refused)} of its "
                "config differ); choose another place for the copy."
            )
        self._refuse_another_id(names)

    def _refuse_another_id(self, names: list[str]) -> None:
        """Another run of the same config; a directory in which nothing was trained yet may become that of the copy."""
        if ID_FILE not in names:  # of a version that wrote none
            return
        self._id_there = self.store.read(ID_FILE).decode("ascii", errors="replace").strip()
        here = mirror_id(self.directory)
        if here != self._id_there and (here is not None or any(self.directory.checkpoints.glob("*.pt"))):
            raise CistError(
                f"The run in {self.store.url} is not the one in {self.directory.path}, though it has the same config; "
                "choose another place for the copy."
            )

    def _config_there(self) -> dict[str, Any]:
        try:
            return upgraded(parse_json(self.store.read("config.json")))
        except (ValueError, TypeError, AttributeError) as error:
            raise CistError(
                f"The config.json in {self.store.url} is none of a run ({first_line(error)}); choose another place."
            ) from error

    def _clear(self) -> None:
        """Remove an earlier attempt, but for its config: if this is cut short, it is still known whose copy it is."""
        names = self.files_there()
        if names and not self.directory.config_file.exists():
            raise CistError(
                f"The copy in {self.store.url} is not replaced, because {self.directory.path} holds no config.json to "
                "tell whether it is of the same run; go on with it (--resume)."
            )
        ours = {path.name for path in self.directory.files()} - {"config.json"}
        for name in sorted(names, key=_order, reverse=True):
            if name in ours or _step(name) >= 0:
                self._lease.check()
                self.store.remove(name)

    def _fetch(self) -> None:
        """What the store has, if that is further than what the disk has."""
        names = within(BEGIN_SECONDS, self.files_there, self._who)
        there = max(map(_step, names), default=-1)
        here = max(map(_step, self._files()), default=-1)
        if self.directory.status().get("state") == "finished":
            return
        if there <= here and not ("status.json" in names and within(BEGIN_SECONDS, self._has_finished, self._who)):
            return
        self._fetch_files(names)

    def _fetch_files(self, names: Sequence[str]) -> None:
        own = (self.directory.lock_file.name, self.directory.cancel_file.name)  # came with a copy made by other means
        names = [name for name in names if name not in own]
        self.directory.make()
        with self.directory.locked():
            for name in sorted(names, key=_order):
                target = self.directory.path / name

                def fetch(path: Path, name: str = name) -> None:
                    try:
                        within(FETCH_SECONDS, lambda: self.store.fetch(name, path), f"{name} in {self.store.url}")
                    except CistError as error:
                        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL:
                            raise error.__cause__ from None  # it is this disk that cannot, not the store
                        raise

                write_whole(target, fetch, what="The copy")
                self._sent[name] = file_state(target)
                self.check()
        log.info("Fetched %d files from %s", len(names), self.store.url)

    def _has_finished(self) -> bool:
        with contextlib.suppress(ValueError, FileNotFoundError):
            status = parse_json(self.store.read("status.json"))
            return isinstance(status, dict) and status.get("state") == "finished"
        return False

    def _work(self) -> None:
        """Copy whenever something is offered, and from time to time."""
        deadline: float | None = None
        while True:
            closing = self._closing
            if closing and deadline is None:
                deadline = time.monotonic() + self._end_seconds
            self._wake.clear()
            try:
                self._lease.check()
                self._copy()
                self._is_well()
                if closing:
                    self._let_go()
                    return
            except LeaseLost as error:
                self._lost = error
                self._done.set()
                return
            except Exception as error:  # of whatever library the store has
                self._is_behind(error)
                if deadline is not None and time.monotonic() > deadline:
                    self._done.set()
                    return
            if closing:
                time.sleep(min(1.0, self._renew_seconds))
            elif not self._closing:
                self._wake.wait(COPY_SECONDS if self._fault is None else self._renew_seconds)

    def _let_go(self) -> None:
        self._done.set()
        self._renewing.join(self._end_seconds)
        self._lease.release()

    def _renew(self) -> None:
        """Show that we live, however long a copy takes."""
        while not self._done.wait(self._renew_seconds):
            try:
                self._lease.renew()
            except LeaseLost as error:
                self._lost = error
                return
            except Exception as error:  # the copy says so in the log, unless there is nothing to copy
                self._is_behind(error)
                self._wake.set()

    def _copy(self) -> None:
        """Send what has changed, in an order that is valid at any moment; then remove checkpoints that are replaced.

        The lease is asked for before each write, because a process may be suspended for hours between two of them.
        """
        if not self.directory.config_file.exists():
            if "config.json" in self._sent:
                raise CistError(
                    f"{self.directory.path} holds no config.json any more, as if its disk were gone; its copy stays as "
                    "it is."
                )
            return  # the run has not begun
        if mirror_id(self.directory) is None:
            text = self._id_there or uuid4().hex
            write_whole(self.directory.path / ID_FILE, lambda file: file.write_text(text), what="The id of the run")
        there = set(self.files_there())
        for name, path in sorted(self._files().items(), key=lambda item: _order(item[0])):
            try:
                state = file_state(path)
                if self._sent.get(name) == state and name in there:
                    continue
                self._lease.check()
                self._send(path, name, state[1])
                self._sent[name] = state
            except FileNotFoundError:  # an older checkpoint, just removed; or the bucket
                if path.exists():
                    raise
        here = self._files()
        newest = max((_step(name) for name in here if name in self._sent), default=-1)
        for name in sorted(there):
            if 0 <= _step(name) < newest and name not in here:
                self._lease.check()
                self.store.remove(name)
                self._sent.pop(name, None)
        self._copied_at = time.time()

    def _send(self, path: Path, name: str, size: int) -> None:
        if size > _PART_BYTES:
            self.store.send(path, name)
        else:
            self.store.write(name, path.read_bytes())

    def _files(self) -> dict[str, Path]:
        """All files of the run, by their names in the store."""
        ours = (self.directory.lock_file, self.directory.cancel_file)
        found = {str(path.relative_to(self.directory.path).as_posix()): path for path in self.directory.path.rglob("*")}
        own = {*_without_runs_below(list(found))}
        return {
            name: path
            for name, path in found.items()
            if name in own and path.is_file() and path not in ours and not _is_partial(name) and not is_lease(name)
        }

    def _is_behind(self, error: Exception) -> None:
        fault = first_line(error) or type(error).__name__
        if self._fault is None:
            log.warning("The copy in %s is behind (%s); the run goes on, and it is tried again.", self.store.url, fault)
        self._fault = fault

    def _is_well(self) -> None:
        if self._fault is not None:
            log.info("The copy in %s is complete again.", self.store.url)
        self._fault = None


def _is_partial(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _step(name: str) -> int:
    """Of a checkpoint; -1 for other files."""
    match = _STEP.fullmatch(name)
    return -1 if match is None else int(match[1])


def _without_runs_below(names: Sequence[str]) -> list[str]:
    """Those that are not of another run, which lies in a folder of this one and has an id of its own."""
    paths = {name: PurePosixPath(name) for name in names}
    others = {path.parent for path in paths.values() if path.name == ID_FILE} - {PurePosixPath()}
    return [name for name, path in paths.items() if others.isdisjoint(path.parents)]


def _order(name: str) -> tuple[int, int, str]:
    """Config and id first, checkpoints behind what belongs to them, the status at the end."""
    place = {"config.json": 0, ID_FILE: 0, "status.json": 3}.get(name, 1 if _step(name) < 0 else 2)
    return place, _step(name), name
