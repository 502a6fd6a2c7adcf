"""The worker: takes runs from the table, starts their processes, watches them, and writes down how they ended.

Nothing is lost when it goes away: the runs go on in sessions of their own, and the next worker finds them again by pid
and start time. One worker lives per root; a second one leaves.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import Timeout

from cist_core.errors import CistError
from cist_core.processes import Child, is_alive, signal_group
from cist_core.runs.limits import Limits
from cist_core.runs.run import Run
from cist_core.runs.store import RunStore

ENGINE = (sys.executable, "-m", "cist_core", "distill")
WORKER_LOG = "worker.log"
IDLE_SECONDS = 60.0
_LOCK_SECONDS = 5.0  # longer than anybody holds the lock who only looks


class Worker:
    """Works off the queue of one root.

    Args:
        store: of the runs.
        command: what is started for a run; ``DIR/config.json --run-dir DIR`` and, to continue, ``--resume`` follow.
        tick_seconds: between two looks at the table and the processes.
        grace_seconds: from the request to stop to SIGTERM, and from there to SIGKILL.
        disk_seconds: between two looks at the size of a run's directory.
        idle_seconds: leave after so long without a run; None: never.
        say: takes a line about what is done.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        command: Sequence[str] = ENGINE,
        tick_seconds: float = 0.5,
        grace_seconds: float = 30.0,
        disk_seconds: float = 10.0,
        idle_seconds: float | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.store = store
        self.command = tuple(command)
        self.tick_seconds = tick_seconds
        self.grace_seconds = grace_seconds
        self.disk_seconds = disk_seconds
        self.idle_seconds = idle_seconds
        self._say = say
        self._children: dict[str, Child] = {}
        self._next_disk_check: dict[str, float] = {}
        self._signals: dict[tuple[str, int], signal.Signals] = {}
        self._limits = Limits()
        self._complaints: set[str] = set()

    def run(self, stop: threading.Event | None = None) -> bool:
        """Work until told to stop, or idle for long enough; false if another worker lives.

        Args:
            stop: set it to make the worker leave; its runs go on.

        Raises:
            CistError: if the limits are wrong at the start, or the root cannot be written.
        """
        stop = threading.Event() if stop is None else stop
        self._limits = self.store.limits
        while True:
            try:
                with self.store.worker_lock().acquire(timeout=_LOCK_SECONDS), self.store.kept_open():
                    self._work(stop)
            except Timeout:
                return False
            except CistError:
                if self.store.root.is_dir():
                    raise
                return True  # somebody removed it just now
            except OSError as error:
                raise CistError(f"No worker can run in {self.store.root} ({error.strerror or error}).") from error
            # Whoever added a run just before the lock was free has seen a living worker and started none.
            if stop.is_set() or not self.store.root.is_dir() or not self.store.has_queued():
                return True

    def _work(self, stop: threading.Event) -> None:
        idle_since = time.monotonic()
        while not stop.is_set() and self.store.root.is_dir():
            busy = True
            with self._complaining():
                busy = self.tick()
            now = time.monotonic()
            if busy:
                idle_since = now
            elif self.idle_seconds is not None and now - idle_since >= self.idle_seconds:
                return
            stop.wait(self.tick_seconds)

    def tick(self) -> bool:
        """Look once at every run, and start those that may start; whether any runs.

        Raises:
            CistError: if the table cannot be used, or the limits have become wrong.
        """
        with self._complaining():
            self._limits = self.store.limits
        for run in self.store.running():
            with self._complaining():
                self._watch(run)
        while self._start_next():
            pass
        return bool(self.store.running())

    # ---- start -------------------------------------------------------------------------------------------------------

    def _start_next(self) -> bool:
        """Start one run, if one waits and may start; whether to ask for another."""
        child = None
        try:
            with self.store.claiming(self._limits.concurrent_runs, self._limits.user_runs_at_once) as claim:
                if claim is None:
                    return False
                run = claim.run
                try:
                    child = self._child(run)
                except OSError as error:
                    reason = f"It cannot start ({error.strerror or error}: {error.filename})."
                    claim.failed(reason)
                    self._tell(f"{run.id} failed: {reason}")
                else:
                    claim.started(child.pid, child.created_at)
        except BaseException:
            if child is not None:
                child.abandon()
            raise
        if child is not None:
            child.release()
            self._children[run.id] = child
            self._tell(f"{run.id} started as process {child.pid}")
        return True

    def _child(self, run: Run) -> Child:
        directory = run.directory
        directory.cancel_file.unlink(missing_ok=True)
        command = [*self.command, str(directory.config_file), "--run-dir", str(directory.path)]
        if run.resume:
            command.append("--resume")
        return Child(command, working_directory=run.working_directory, stderr_file=run.stderr_file)

    # ---- watch -------------------------------------------------------------------------------------------------------

    def _watch(self, run: Run) -> None:
        child = self._children.get(run.id)
        if child is not None and child.pid == run.pid:
            exit_code = child.exit_code()
            alive = exit_code is None
        else:  # an earlier worker started it
            exit_code, alive = None, is_alive(run.pid, run.pid_created_at)
        if not alive:
            self._settle(run, exit_code)
        elif run.cancel_requested:
            self._escalate_stop(run)
        elif reason := self._limit_reached(run):
            self.store.stop_for_limit(run, reason)
            self._tell(f"{run.id} is told to stop: {reason}")

    def _settle(self, run: Run, exit_code: int | None) -> None:
        how = self.store.settle(run, exit_code)
        self._children.pop(run.id, None)
        self._next_disk_check.pop(run.id, None)
        if how is not None:
            self._tell(f"{run.id} {how.state}" + (f": {how.reason}" if how.reason else ""))

    def _escalate_stop(self, run: Run) -> None:
        """A run that was told to stop and goes on gets SIGTERM after the grace, and SIGKILL after another."""
        assert run.pid is not None
        assert run.stop_requested_at is not None
        graces = (time.time() - run.stop_requested_at) / self.grace_seconds
        if graces < 1:
            with contextlib.suppress(OSError):
                run.directory.cancel_file.touch()  # whoever asked may have been killed before this
            return
        number = signal.SIGTERM if graces < 2 else signal.SIGKILL
        attempt = (run.id, run.attempt)
        if self._signals.get(attempt) != number:
            self._signals[attempt] = number
            self._tell(f"{run.id} goes on, so it gets {number.name}")
            signal_group(run.pid, number)

    def _limit_reached(self, run: Run) -> str | None:
        limits = self._limits
        if run.started_at is not None and time.time() - run.started_at > limits.wall_seconds:
            return (
                f"It was stopped after {limits.wall_seconds:,g} seconds, the limit for one attempt; resume it, or "
                "raise 'wall_seconds' in limits.toml."
            )
        if time.monotonic() < self._next_disk_check.get(run.id, 0.0):
            return None
        self._next_disk_check[run.id] = time.monotonic() + self.disk_seconds
        used = run.directory.bytes_used()
        if used > limits.disk_bytes:
            return (
                f"It was stopped because its directory has grown to {used:,} bytes and {limits.disk_bytes:,} are "
                "allowed; raise 'disk_bytes' in limits.toml."
            )
        return None

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the log may lie on the disk that is full, the terminal may be closed
            self._say(line)

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        """Say once what goes wrong and go on: a full disk may have room again at the next look."""
        try:
            yield
        except (CistError, OSError) as error:
            if str(error) not in self._complaints:
                self._complaints.add(str(error))
                self._tell(str(error))


_started: dict[Path, subprocess.Popen[bytes]] = {}
_starting = threading.Lock()


def ensure_worker(store: RunStore) -> None:
    """Start a worker for a root unless one lives.

    It outlives this process, and leaves when it has been idle for a while. Cheap enough to be called
    whenever a run was added or a page is shown.

    Raises:
        CistError: if no process can be started, or the last one that this process started has failed; the next call
            starts another.
    """
    with _starting:
        process = _started.get(store.root)
        if process is not None and process.poll() is None:
            return
        _started.pop(store.root, None)
        if process is not None and process.returncode > 0:
            raise CistError(f"The worker of {store.root} has failed; {store.root / WORKER_LOG} says why.")
        if store.has_worker():
            return
        try:
            with (store.root / WORKER_LOG).open("ab") as log:
                _started[store.root] = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "cist_core", "worker", "--root", str(store.root)),
                        *("--idle-seconds", f"{IDLE_SECONDS:g}"),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise CistError(f"No worker can be started for {store.root} ({error.strerror or error}).") from error
