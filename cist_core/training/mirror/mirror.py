"""`Mirror`: copies a run directory to a store while the run goes on, and from there to a machine that is to go on.

The run itself trains in a directory of a disk, with its lock and its files as always. What lies in the store is such a
directory as well: every file whole, and in an order that keeps it valid at any moment, as `kill -9` would leave it.
Checkpoints come after what belongs to them, and the status, which may say that the run has finished, comes last.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cist_core.documents import parse_json
from cist_core.errors import CistError, first_line
from cist_core.files import file_state, write_whole
from cist_core.training.mirror.lease import RENEW_SECONDS, STALE_SECONDS, Lease, LeaseLost, is_lease
from cist_core.training.mirror.store import Store
from cist_core.training.run_directory import RunDirectory

BEGIN_SECONDS = 300.0
END_SECONDS = 300.0
COPY_SECONDS = 30.0
"""Between two copies while there is no new checkpoint: of the log, the status and the metrics."""
_PART_BYTES = 8 << 20
_STEP = re.compile(r"checkpoints/step-(\d+)\.pt")

log = logging.getLogger("cist_core.training")
_T = TypeVar("_T")


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

    # ---- for whoever trains ------------------------------------------------------------------------------------------

    def begin(self, *, resume: bool, replace: bool = False) -> None:
        """Have the right to write there, and fetch the run if the store has more of it than the disk.

        Args:
            resume: go on with what is there; false: there must be no run yet.
            replace: remove the run that is there instead.

        Raises:
            CistError: if another process trains the run, there is one already, or the store gives no answer.
        """
        _within(BEGIN_SECONDS, lambda: self._begin(resume, replace), f"The store of {self.store.url}")
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()
        self._renewing.start()

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
            CistError: if the copy is not complete after `end_seconds`.
        """
        assert self._thread is not None
        self._closing = True
        self._wake.set()
        self._thread.join(self._end_seconds)
        if self._lost is None and (self._thread.is_alive() or self._fault is not None):
            raise CistError(
                f"The copy of {self.directory.path} in {self.store.url} is not complete "
                f"({self._fault or 'the store gives no answer'}); the same command with --resume completes it."
            )

    # ---- in the thread -----------------------------------------------------------------------------------------------

    def _begin(self, resume: bool, replace: bool) -> None:
        if not resume and not replace and self._runs_files():
            raise CistError(
                f"There is a run in {self.store.url} already; go on with it (--resume), or choose another place."
            )
        self._lease.take()
        try:
            if resume:
                self._fetch()
            for name in self._runs_files():
                if resume:
                    self._sent.setdefault(name, ())
                else:
                    self.store.remove(name)
        except BaseException:
            self._lease.release()
            raise

    def _runs_files(self) -> list[str]:
        """Those of the run that the store has."""
        return [name for name in self.store.names() if not is_lease(name) and not _is_partial(name)]

    def _fetch(self) -> None:
        """What the store has, if that is further than what the disk has."""
        names = self._runs_files()
        there = max(map(_step, names), default=-1)
        here = max(map(_step, self._files()), default=-1)
        finished = self.directory.status().get("state") == "finished"
        if finished or (there <= here and not ("status.json" in names and self._has_finished())):
            return
        self.directory.make()
        with self.directory.locked():
            for name in sorted(names, key=_order):
                target = self.directory.path / name

                def fetch(path: Path, name: str = name) -> None:
                    self.store.fetch(name, path)

                write_whole(target, fetch, what="The copy")
                self._sent[name] = file_state(target)
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
                    self._done.set()
                    self._renewing.join(self._end_seconds)
                    self._lease.release()
                    return
            except LeaseLost as error:
                self._lost = error
                return
            except Exception as error:  # of whatever library the store has
                self._is_behind(error)
                if deadline is not None and time.monotonic() > deadline:
                    return
            if closing:
                time.sleep(min(1.0, self._renew_seconds))
            elif not self._closing:
                self._wake.wait(COPY_SECONDS if self._fault is None else self._renew_seconds)

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
        """Send what has changed, in an order that is valid at any moment; then remove what is gone here."""
        for name, path in sorted(self._files().items(), key=lambda item: _order(item[0])):
            with contextlib.suppress(FileNotFoundError):  # an older checkpoint, just removed
                state = file_state(path)
                if self._sent.get(name) == state:
                    continue
                if state[1] > _PART_BYTES:
                    self.store.send(path, name)
                else:
                    self.store.write(name, path.read_bytes())
                self._sent[name] = state
        here = self._files()
        for name in [name for name in self._sent if name not in here]:
            self.store.remove(name)
            del self._sent[name]
        self._copied_at = time.time()

    def _files(self) -> dict[str, Path]:
        """All files of the run, by their names in the store."""
        ours = (self.directory.lock_file, self.directory.cancel_file)
        found = {str(path.relative_to(self.directory.path).as_posix()): path for path in self.directory.path.rglob("*")}
        return {
            name: path for name, path in found.items() if path.is_file() and path not in ours and not _is_partial(name)
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


def _order(name: str) -> tuple[int, int, str]:
    """The config first, checkpoints behind what belongs to them, the status at the end."""
    place = {"config.json": 0, "status.json": 3}.get(name, 1 if _step(name) < 0 else 2)
    return place, _step(name), name


def _within(seconds: float, work: Callable[[], _T], who: str) -> _T:
    """What a function returns or raises, unless it takes too long; it is then left alone in its thread."""
    outcome: list[_T] = []
    faults: list[BaseException] = []

    def attempt() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=attempt, name="mirror-begin", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise CistError(f"{who} has given no answer for {seconds:g} seconds; try again when it does.")
    if faults:
        if isinstance(faults[0], CistError):
            raise faults[0]
        raise CistError(
            f"{who} cannot be used ({first_line(faults[0])}); see that it exists and that this machine may write there."
        ) from faults[0]
    return outcome[0]
