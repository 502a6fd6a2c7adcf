"""The worker: takes runs from the table, has an executor start them, watches them, and writes down how they ended.

Nothing is lost when it goes away: the runs go on, and the next worker finds them again by the handles in the table. One
worker lives per root; a second one leaves.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import Timeout

from cist_core.errors import CistError
from cist_core.processes import PYTHON
from cist_core.runs.executors.local import LocalExecutor
from cist_core.runs.executors.protocol import (
    Executor,
    ExecutorUnreachable,
    Exit,
    RunPutOff,
    executor_named,
    executor_of,
)
from cist_core.runs.limits import RunLimits
from cist_core.runs.run import Run
from cist_core.runs.store import Claim, RunStore
from cist_core.training.run_directory import RunDirectoryBusy

WORKER_LOG = "worker.log"
IDLE_SECONDS = 60.0
LOCK_SECONDS = 5.0  # longer than anybody holds the lock who only looks


class Worker:
    """Works off the queue of one root.

    Args:
        store: of the runs.
        executor: starts runs that were queued for none; the others are started, watched and stopped through theirs.
            None: processes of this machine.
        tick_seconds: between two looks at the table and the runs.
        grace_seconds: from the request to stop until its executor stops it, and from there until it does so by force.
        disk_seconds: between two looks at the size of a run's directory.
        idle_seconds: leave after so long without a run; None: never.
        silent_seconds: for so long an executor that gave no answer is not asked again, nor a run that was put off.
        say: takes a line about what is done.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        executor: Executor | None = None,
        tick_seconds: float = 0.5,
        grace_seconds: float = 30.0,
        disk_seconds: float = 10.0,
        idle_seconds: float | None = None,
        silent_seconds: float = 30.0,
        say: Callable[[str], None] = print,
    ) -> None:
        self.store = store
        self.executor = LocalExecutor() if executor is None else executor
        self.tick_seconds = tick_seconds
        self.grace_seconds = grace_seconds
        self.disk_seconds = disk_seconds
        self.idle_seconds = idle_seconds
        self.silent_seconds = silent_seconds
        self._say = say
        self._next_disk_check: dict[str, float] = {}
        # Of the attempts that go on, by run and attempt. Times are those of `time.monotonic`, which nobody sets.
        self._started: dict[tuple[str, int], float] = {}
        self._asked_to_stop: dict[tuple[str, int], float] = {}
        self._stopped: dict[tuple[str, int], bool] = {}  # whether by force
        # Executors by name and runs by id that are left alone, until when and why.
        self._silent: dict[str, tuple[float, ExecutorUnreachable]] = {}
        self._put_off: dict[str, float] = {}
        self._unanswered_since: dict[str, float] = {}  # executors, by name
        self._heard: set[str] = set()  # executors whose last answer was one
        self._limits = RunLimits()
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
        try:
            while True:
                with self.store.worker_lock().acquire(timeout=LOCK_SECONDS), self.store.kept_open() as keep:
                    self._work(stop, keep)
                # Whoever added a run just before the lock was free has seen a living worker and started none.
                if stop.is_set() or self.store.is_removed or not self.store.has_queued():
                    return True
        except Timeout:
            return False
        except (CistError, OSError) as error:
            if self.store.is_removed:  # just now, whatever it was that failed for it
                return True
            if isinstance(error, CistError):
                raise
            raise CistError(f"No worker can run in {self.store.root} ({error.strerror or error}).") from error

    def _work(self, stop: threading.Event, keep: Callable[[], None]) -> None:
        idle_since = time.monotonic()
        while not stop.is_set() and not self.store.is_removed:
            busy = True
            with self._complaining():
                busy = self.tick()
                keep()
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
        now = time.monotonic()
        self._silent = {name: silence for name, silence in self._silent.items() if silence[0] > now}
        self._put_off = {run_id: until for run_id, until in self._put_off.items() if until > now}
        for run in self.store.running():
            with self._complaining():
                assert run.executor is not None
                if run.executor not in self._silent:  # it is asked once, not about each of its runs
                    try:
                        self._watch(run)
                    except ExecutorUnreachable as error:
                        self._is_silent(run.executor, error)
                if run.executor in self._silent:
                    self._give_up_stopped(run)
                    raise self._silent[run.executor][1]
        while self._start_next():
            pass
        for name in self.store.wanted_executors():
            if (name or self.executor.name) in self._silent:
                raise self._silent[name or self.executor.name][1]
        return bool(self.store.running())

    def _is_silent(self, executor: str, error: ExecutorUnreachable) -> None:
        now = time.monotonic()
        self._silent[executor] = (now + self.silent_seconds, error)
        self._unanswered_since.setdefault(executor, now)
        self._heard.discard(executor)
        self.store.say_why_unheard(executor, str(error), default=executor == self.executor.name)

    def _answers(self, executor: str) -> None:
        self._unanswered_since.pop(executor, None)
        if executor not in self._heard:  # an earlier worker may have written that it gives no answer
            self.store.say_why_unheard(executor, None, default=executor == self.executor.name)
            self._heard.add(executor)

    # ---- start -------------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Executor:
        return self.executor if name == self.executor.name else executor_named(name)

    def _start_next(self) -> bool:
        """Start one run, if one waits and may start; whether to ask for another.

        The runs of executors that gave no answer stay in the queue, and those of others do not wait for them. The table
        is free while an executor is asked; who cancels or deletes the run meanwhile is heard at the end.
        """
        claim = self.store.claim(
            self._limits.concurrent_runs,
            self._limits.user_runs_at_once,
            executor=self.executor.name,
            cluster_runs=self._limits.cluster_runs,
            without=list(self._silent),
            without_runs=list(self._put_off),
        )
        if claim is None:
            return False
        run = claim.run
        name = run.executor or self.executor.name
        try:
            executor = self._named(name)
            handle = executor.find(run)
            if handle is None:
                _forget_earlier_attempt(run)
                handle = executor.start(run)
        except ExecutorUnreachable as error:
            self._is_silent(name, error)
        except RunPutOff as error:
            self._put_off[run.id] = time.monotonic() + self.silent_seconds
            self._complain(error)
        except (CistError, OSError) as error:
            reason = _why_not(error)
            if claim.failed(reason):
                self._tell(f"{run.id} failed: {reason}")
        else:
            self._started_as(handle, executor, claim)  # first, so that nothing that was started is forgotten
            self._answers(name)
        return True

    def _started_as(self, handle: str, executor: Executor, claim: Claim) -> None:
        """Write down that a run was started and let it go to work, or stop what the table will not have."""
        run, taken = claim.run, False
        try:
            taken = claim.started(executor.name, handle)
        finally:
            if not taken:
                executor.stop(handle, force=True)
        if taken:
            self._started[run.id, run.attempt + 1] = time.monotonic()
            executor.release(handle)
            self._tell(f"{run.id} started as {handle}")
        else:
            self._tell(f"{run.id} has left the queue while it was started, so {handle} is stopped")

    # ---- watch -------------------------------------------------------------------------------------------------------

    def _watch(self, run: Run) -> None:
        executor, handle = executor_of(run, self.executor)
        how = executor.poll(handle)
        self._answers(executor.name)
        if how is not None:
            self._settle(run, how)
        elif run.cancel_requested or run.directory.is_removed():
            self._escalate_stop(run, executor, handle)
        elif reason := self._limit_reached(run, self._seconds(run, executor, handle)):
            self.store.stop_for_limit(run, reason)
            self._tell(f"{run.id} is told to stop: {reason}")

    def _settle(self, run: Run, how: Exit) -> None:
        end = self.store.settle(run, how)
        self._next_disk_check.pop(run.id, None)
        for known in (self._started, self._asked_to_stop, self._stopped):
            known.pop((run.id, run.attempt), None)
        if end is not None:
            self._tell(f"{run.id} {end.state}" + (f": {end.reason}" if end.reason else ""))

    def _escalate_stop(self, run: Run, executor: Executor, handle: str) -> None:
        """A run that goes on is stopped by its executor after the grace, and by force after another."""
        attempt = (run.id, run.attempt)
        graces = (time.monotonic() - self._asked_to_stop.setdefault(attempt, time.monotonic())) / self.grace_seconds
        if graces < 1:
            with contextlib.suppress(OSError):
                run.directory.cancel_file.touch()  # whoever asked may have been killed before this
            return
        force = graces >= 2
        if self._stopped.get(attempt) != force:
            executor.stop(handle, force=force)
            self._stopped[attempt] = force
            self._tell(f"{run.id} goes on, so it is stopped{' by force' if force else ''}")

    def _give_up_stopped(self, run: Run) -> None:
        """A run that was told to stop ends without its executor, if that never answers and nobody trains there."""
        if not run.cancel_requested:
            return
        assert run.executor is not None
        now = time.monotonic()
        asked = self._asked_to_stop.setdefault((run.id, run.attempt), now)
        since = max(asked, self._unanswered_since.get(run.executor, now))
        if now - since < 2 * self.grace_seconds:
            return
        with contextlib.suppress(RunDirectoryBusy):
            if not run.directory.is_removed():
                with run.directory.locked():
                    pass
            reason = f"It was told to stop, '{run.executor}' gives no answer, and nothing trains in its directory"
            self._settle(run, Exit(reason=reason, unanswered=True))

    def _seconds(self, run: Run, executor: Executor, handle: str) -> float:
        """How long an attempt has gone on. The system's clock is asked once at most, where the executor does not know.

        That is when an earlier worker started it; later steps of the clock change nothing.
        """
        now, attempt = time.monotonic(), (run.id, run.attempt)
        if attempt not in self._started:
            seconds = executor.age(handle)
            if seconds is None:
                seconds = max(0.0, time.time() - (run.started_at or time.time()))
            self._started[attempt] = now - seconds
        return now - self._started[attempt]

    def _limit_reached(self, run: Run, seconds: float) -> str | None:
        limits = self._limits
        if seconds > limits.wall_seconds:
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
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if str(error) not in self._complaints:
            self._complaints.add(str(error))
            self._tell(str(error))


def _forget_earlier_attempt(run: Run) -> None:
    """What it was told and what it said last do not count any more, whatever the clock says of when that was.

    A process that trains there keeps its files.
    """
    with contextlib.suppress(RunDirectoryBusy), run.directory.locked():
        run.directory.cancel_file.unlink(missing_ok=True)
        if status := run.directory.status():
            run.directory.write_status({**status, "state": "starting"})


def _why_not(error: Exception) -> str:
    if isinstance(error, OSError):
        where = "" if error.filename is None else f": {error.filename}"
        return f"It cannot start ({error.strerror or error}{where})."
    return str(error)


started_workers: dict[Path, subprocess.Popen[bytes]] = {}
"""The worker that `ensure_worker` of this process has started last, by the root of its store."""
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
        process = started_workers.get(store.root)
        if process is not None and process.poll() is None:
            return
        started_workers.pop(store.root, None)
        if process is not None and process.returncode > 0:
            raise CistError(f"The worker of {store.root} has failed; {store.root / WORKER_LOG} says why.")
        if store.has_worker():
            return
        try:
            with (store.root / WORKER_LOG).open("ab") as log:
                started_workers[store.root] = subprocess.Popen(
                    [
                        *(*PYTHON, "-m", "cist_core", "worker", "--root", str(store.root)),
                        *("--idle-seconds", f"{IDLE_SECONDS:g}"),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise CistError(f"No worker can be started for {store.root} ({error.strerror or error}).") from error
