"""`RunStore`: the table of runs, which is also the queue.

The table alone decides what runs: a row leaves the queue in one transaction, for the worker that says first that it has
started it, so two workers never run one row twice. A task queue such as huey would be a second queue beside it, and one
that forgets a running task when its consumer is killed.

Every method opens the database, does one short transaction and closes it, so a store may be shared by threads, and any
number of processes may have one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock, Timeout

from cist_core.errors import CistError
from cist_core.files import file_lock, flush, own_folder, write_whole
from cist_core.runs.endings import Ending, ending
from cist_core.runs.executors.local import LocalExecutor, process_handle
from cist_core.runs.executors.protocol import ExecutorUnreachable, Exit, chosen_executor, executor_of
from cist_core.runs.limits import RunLimits
from cist_core.runs.records import (
    RECORD_FILE,
    Recovered,
    RunRecord,
    is_run_id,
    queued,
    recover,
    recover_one,
    write_record,
)
from cist_core.runs.run import Run, RunState
from cist_core.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig

_T = TypeVar("_T")
_BUSY_SECONDS = 3.0
_BUSY_ROUNDS = 10
_NO_VALUES: Mapping[str, object] = {}
_TABLE_VERSION = 3
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNWRITTEN = "The table of runs cannot be written now, so it does not say so yet."
_RESERVE_BYTES = 1 << 16  # for some changes of rows, with pages that split
_LONGEST_NAME = 80
_WHOLE = ".whole"
"""Marks a directory from elsewhere that has all its files, while it gets its place and its row."""
_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    note TEXT NOT NULL,
    state TEXT NOT NULL,
    sweep TEXT,
    created_at REAL NOT NULL,
    queued_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    reason TEXT,
    stop_requested_at REAL,
    limit_reason TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    resume INTEGER NOT NULL DEFAULT 0,
    executor TEXT,
    handle TEXT,
    working_directory TEXT NOT NULL,
    owner TEXT
)
"""
# People take turns: whoever was served longest ago, or never, is next, and with them their run that waited longest.
# Those who started a run without sign-in (NULL) count as one person without a limit.
_NEXT_IN_QUEUE = """
WITH people AS (
    SELECT owner, max(started_at) AS served_at, total(state = 'running') AS running FROM runs GROUP BY owner
), waiting AS (
    SELECT *, rowid AS number, coalesce(executor, :executor) AS place FROM runs WHERE state = 'queued'
)
SELECT waiting.* FROM waiting JOIN people ON people.owner IS waiting.owner
WHERE (waiting.owner IS NULL OR people.running < :user_runs_at_once)
AND (SELECT count(*) FROM runs WHERE state = 'running' AND executor = place)
    < iif(place = :executor, :concurrent_runs, :cluster_runs)
AND place NOT IN (SELECT value FROM json_each(:without))
AND id NOT IN (SELECT value FROM json_each(:without_runs))
ORDER BY served_at, queued_at, number LIMIT 1
"""
_ID_BYTES = 2  # to be typed after 'cist runs'
_OWNED_ID_BYTES = 8  # nobody guesses the address of somebody's run


class _TableDamagedError(CistError):
    """There is no table of runs, or one that cannot be read."""


class Claim:
    """The run that is next, as it stood in the queue: have it started, then say what became of it.

    The table is free meanwhile. What is said of a run that was cancelled, deleted or queued anew since does not count.
    """

    def __init__(self, store: RunStore, run: Run, queued_at: float) -> None:
        self._store = store
        self._queued_at = queued_at
        self.run = run

    def started(self, executor: str, handle: str) -> bool:
        """It has been started, and may go to work unless this is false: then it is to be stopped.

        Args:
            executor: the name of what has started it.
            handle: by which that executor knows it again.
        """
        return self._store._take(
            self.run,
            self._queued_at,
            "state = 'running', ended_at = NULL, reason = NULL, executor = :executor, handle = :handle",
            executor=executor,
            handle=handle,
        )

    def failed(self, reason: str) -> bool:
        """It cannot be started."""
        return self._store._take(
            self.run,
            self._queued_at,
            "state = 'failed', ended_at = :now, reason = :reason, handle = NULL",
            reason=reason,
        )


class RunStore:
    """The runs of one root: a folder with the table ``runs.sqlite`` and one directory a run, named by its id.

    A table that is missing or damaged is rebuilt from the directories of the runs, whenever that is found; what lay
    in its place is set aside, and `rebuilt` says so.

    A store that acts for somebody adds runs that are theirs, lists these alone, and changes no others. This is the one
    place where it is decided who may do what: whoever shows runs opens the store for the person who looks.
    """

    def __init__(self, root: Path | None = None, *, owner: str | None = None) -> None:
        """Open the runs of a root, which is made if there is none.

        Args:
            root: default: ``CIST_RUNS``, or a folder among the user's data.
            owner: whom the store acts for; None: the operator, who may change every run.

        Raises:
            CistError: if the folder or the table cannot be made.
        """
        self.owner = owner
        self.root = Path(own_folder("CIST_RUNS", "data", "runs") if root is None else root).resolve()
        self.table_file = self.root / "runs.sqlite"
        self.notice_file = self.root / "rebuilt.txt"
        self._unwritten: dict[tuple[str, int], Ending] = {}  # by run and attempt
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CistError(
                f"The folder of runs {self.root} cannot be made ({error.strerror or error}); set CIST_RUNS to another."
            ) from error
        self._folder = _identity(self.root)
        version = self._version()
        if version is None:
            self._make_table()
        elif version > _TABLE_VERSION:
            raise CistError(f"The table of runs {self.table_file} is of a newer version; update cist-studio.")
        elif version < _TABLE_VERSION:
            with self._connection() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
            with self._transaction() as connection:
                _migrate(connection)
                connection.execute(f"PRAGMA user_version = {_TABLE_VERSION}")

    # ---- look --------------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> RunLimits:
        """The limits as they are now.

        Raises:
            CistError: if `limits.toml` is wrong.
        """
        return RunLimits.load(self.root)

    @property
    def is_removed(self) -> bool:
        """Whether the folder is gone that this store has opened, also if another was made in its place since."""
        return _identity(self.root) != self._folder

    @property
    def rebuilt(self) -> str | None:
        """What happened when the table was last rebuilt, for people; None if it was not, or somebody has read it."""
        try:
            return self.notice_file.read_text(encoding="utf-8").strip() or None
        except (OSError, ValueError):
            return None

    def forget_rebuilt(self) -> None:
        """Somebody has read what `rebuilt` says.

        Raises:
            CistError: if that cannot be noted.
        """
        with _explained(f"{self.notice_file} cannot be removed"):
            self.notice_file.unlink(missing_ok=True)

    def get(self, run_id: str) -> Run:
        """One run, to look at: also somebody else's, whose id is only known to those who were given it.

        The keeper's own are not kept secret: their ids are short, to be typed.

        Raises:
            CistError: if there is none of this id.
        """
        runs = self._select("SELECT * FROM runs WHERE id = :id", id=run_id)
        if not runs:
            raise self._unknown(run_id)
        return runs[0]

    def get_owned(self, run_id: str) -> Run:
        """One run, to change it or to take it away.

        Raises:
            CistError: if there is none of this id, or this store's owner may not change it.
        """
        return self._owned(self.get(run_id))

    def owns(self, run: Run) -> bool:
        """Whether this store's owner may change a run and take it away."""
        return self.owner is None or run.owner == self.owner

    def list_runs(self, group: str | None = None) -> list[Run]:
        """All runs that this store's owner may change, or those of one sweep; newest first."""
        wanted = [
            *(["sweep = :group"] if group is not None else []),
            *(["owner = :owner"] if self.owner is not None else []),
        ]
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        return self._select(
            f"SELECT * FROM runs {where} ORDER BY created_at DESC, rowid DESC", group=group, owner=self.owner
        )

    def count_active(self) -> int:
        """How many runs wait or run, whosever they are."""
        query = "SELECT count(*) FROM runs WHERE state IN ('queued', 'running')"
        return int(self._mended(lambda: self._read(query))[0][0])

    def running(self) -> list[Run]:
        """The runs that run, or did so when somebody last looked."""
        return self._select("SELECT * FROM runs WHERE state = 'running' ORDER BY started_at, rowid")

    def has_queued(self) -> bool:
        """Whether a run waits."""
        return bool(self._select("SELECT * FROM runs WHERE state = 'queued' LIMIT 1"))

    def wanted_executors(self) -> list[str | None]:
        """By whom the waiting runs are to run; None: by the worker's own executor."""
        query = "SELECT DISTINCT executor FROM runs WHERE state = 'queued' ORDER BY executor"
        return [row[0] for row in self._mended(lambda: self._read(query))]

    # ---- change ------------------------------------------------------------------------------------------------------

    def add(
        self,
        config: RunConfig,
        *,
        name: str = "",
        note: str = "",
        group: str | None = None,
        executor: str | None = None,
    ) -> Run:
        """Queue a run of whom this store acts for.

        Args:
            config: saved in the new run's directory.
            name: default: the objective's preset, or else its text.
            note: anything.
            group: the sweep that it belongs to.
            executor: where it is to run ("local", "slurm", "ray"); None: on Ray where ``CIST_RAY_ADDRESS`` is set, else
                where its worker runs.

        Raises:
            CistError: if this machine cannot run it or has no such executor, it is longer than allowed, the queue is
                full, its owner has used up what one person may, or the directory cannot be written.
        """
        return self.add_all([(name, config)], note=note, group=group, executor=executor)[0]

    def add_all(
        self,
        entries: Sequence[tuple[str, RunConfig]],
        *,
        note: str = "",
        group: str | None = None,
        executor: str | None = None,
    ) -> list[Run]:
        """Queue several runs, given by name and config, or none of them.

        Raises:
            CistError: as `add`.
        """
        limits = self.limits
        executor = chosen_executor(executor)
        for _, config in entries:
            limits.check_length(config)
            config.check_available()
        self._check_disk(limits)
        made: list[Path] = []
        with self._mending():  # after the directories are gone, from which the table is rebuilt
            try:
                records = []
                for name, config in entries:  # before the transaction: others wait for it
                    made.append(self._make_directory())
                    place = RunDirectory(made[-1])
                    config.save(place.config_file)
                    record = queued(
                        place.path.name,
                        name=_one_line(name) or config.objective.label,
                        note=note,
                        group=group,
                        owner=self.owner,
                        executor=executor,
                        working_directory=Path.cwd(),
                    )
                    write_record(place, record.model_dump())
                    records.append(record)
                with self._unmended_transaction() as connection:
                    self._check_queue(connection, limits, len(entries))
                    for record in records:
                        _insert(connection, record)
                    return [self._get(connection, record.id) for record in records]
            except BaseException:
                for directory in made:
                    shutil.rmtree(directory, ignore_errors=True)
                raise

    def check_keeper(self) -> None:
        """Refuse what is the operator's alone: copies of runs may be anybody's.

        Raises:
            CistError: if this store acts for somebody.
        """
        if self.owner is not None:
            raise CistError("Copies of runs may be anybody's, so only the operator of this machine brings them back.")

    def unused_id(self) -> str:
        """An id that no run has, of a directory that is not there."""
        directory = self._make_directory()
        directory.rmdir()
        return directory.name

    def adopt(self, directory: Path, record: RunRecord) -> Run:
        """Give the whole directory of a run its place among the others, and the run its row.

        Args:
            directory: lies in the root under a name that is no run's.
            record: the row.

        Raises:
            CistError: if there is such a run, or something lies in its place; the directory is then left where it is.
        """
        self.check_keeper()
        record = record.model_copy(update={"name": _one_line(record.name)})
        write_record(RunDirectory(directory), record.model_dump())
        (directory / _WHOLE).touch()
        place, moved = self.root / record.id, False
        with self._mending():  # after the directory is away, from which the table would be rebuilt
            try:
                with self._unmended_transaction() as connection:
                    self._check_free(connection, record.id)
                    with _explained(f"The directory {place} cannot be made"):
                        directory.rename(place)
                        moved = True
                        flush(self.root)
                    _insert(connection, record)
            except BaseException:
                if moved and not self._is_listed(record.id):  # which it is if it was interrupted just behind the end
                    place.rename(directory)
                raise
        (place / _WHOLE).unlink(missing_ok=True)
        return self.get(record.id)

    def adopt_left(self) -> list[str]:
        """Give their rows to the runs that `adopt` had given their place when its process was killed; their ids."""
        left = []
        for mark in self.root.glob(f"*/{_WHOLE}"):
            found = recover_one(mark.parent) if is_run_id(mark.parent.name) else None
            if found is not None:
                with self._transaction() as connection:
                    _insert(connection, found.record)
                left.append(found.record.id)
            mark.unlink(missing_ok=True)
        return left

    def _is_listed(self, run_id: str) -> bool:
        with contextlib.suppress(_TableDamagedError, sqlite3.Error, CistError), self._connection() as connection:
            return connection.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is not None
        return False

    def check_free(self, run_id: str) -> None:
        """Refuse an id that is taken.

        Raises:
            CistError: if there is a run of this id, or something lies where its directory would.
        """
        with self._mending(), self._connection() as connection:
            self._check_free(connection, run_id)

    def cancel(self, run_id: str) -> Run:
        """Take a run out of the queue, or tell it to stop: it does so at its next step, saving where it is.

        A worker sees to it that a run which does not listen ends as well.

        Raises:
            CistError: if it has ended already, or is somebody else's, as in all that changes a run.
        """
        with self._transaction() as connection:
            run = self._owned(self._get(connection, run_id))
            if run.state.ended:
                raise CistError(f"The run {run_id} cannot be cancelled: it is {run.state} already.")
            if run.state is RunState.QUEUED:
                _end(connection, run, Ending(RunState.CANCELLED, "Cancelled before it started."))
                _leave_word(run)  # for what a worker has started just now and not written down yet
            elif run.stop_requested_at is None:
                _request_stop(connection, run, limit_reason=None)
        self.reconcile()
        return self.get(run_id)

    def stop_for_limit(self, run: Run, reason: str) -> None:
        """Tell a running run to stop because it has used up a limit, unless it was told to stop before.

        Args:
            run: as it was read.
            reason: the sentence that becomes the reason of its failure.
        """
        with self._transaction() as connection:
            current = self._get(connection, run.id)
            if (current.state, current.attempt) == (RunState.RUNNING, run.attempt) and not current.cancel_requested:
                _request_stop(connection, current, limit_reason=reason)

    def resume(self, run_id: str) -> Run:
        """Queue a run that did not finish; it continues from its last checkpoint.

        Raises:
            CistError: if it waits, runs, or has finished; if the queue is full.
        """
        return self._requeue(run_id, resume=True)

    def retry(self, run_id: str) -> Run:
        """Queue a run that has ended, to start from scratch: all of its files but the config are removed.

        Raises:
            CistError: if it waits or runs, or a process trains in its directory all the same; if the queue is full; if
                the files cannot be removed.
        """
        return self._requeue(run_id, resume=False)

    def delete(self, run_id: str) -> None:
        """Remove a run and its directory.

        Raises:
            CistError: if it runs, or a process trains in its directory all the same; if that cannot be removed.
        """
        doomed, moved = self.root / f".{run_id}.deleted", False
        try:
            with self._transaction() as connection:
                run = self._owned(self._get(connection, run_id))
                if run.state is RunState.RUNNING:
                    raise CistError(f"The run {run_id} cannot be deleted while it runs; cancel it first.")
                connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))
                with _explained(f"The directory {run.directory.path} cannot be removed"):
                    if os.path.lexists(run.directory.path):
                        with _unused(run.directory):
                            run.directory.path.rename(doomed)  # large files are removed when nobody waits for us
                        moved = True
        except BaseException:
            if moved:
                doomed.rename(self.root / run_id)
            raise
        with _explained(f"The run {run_id} is deleted, but its files in {doomed} cannot be removed"):
            _remove(doomed)

    def rename(self, run_id: str, name: str) -> Run:
        """Give a run another name.

        Raises:
            CistError: if the name is empty.
        """
        if not name.strip():
            raise CistError(f"The run {run_id} needs a name of at least one character.")
        return self._set(run_id, "name", _one_line(name))

    def set_note(self, run_id: str, note: str) -> Run:
        """Replace the note of a run."""
        return self._set(run_id, "note", note)

    # ---- for workers -------------------------------------------------------------------------------------------------

    def worker_lock(self) -> FileLock:
        """Held by the one worker of this root; the system frees it when the worker ends, however it does."""
        return file_lock(self.root / "worker.lock")

    def has_worker(self) -> bool:
        """Whether a worker lives.

        Raises:
            CistError: if the root cannot be written.
        """
        with _explained(f"No worker can work in {self.root}"):
            try:
                with self.worker_lock().acquire(timeout=0):
                    return False
            except Timeout:
                return True

    @contextmanager
    def kept_open(self) -> Iterator[Callable[[], None]]:
        """Keep a journal with room beside the table, so that a worker can write down how a run ended on a full disk.

        What it gives is to be called at every look: it does the same for a table that was rebuilt since.
        """
        if self._version() is None:
            self._make_table()
        with contextlib.ExitStack() as kept:
            known: tuple[int, int] | None = None

            def keep() -> None:
                nonlocal known
                there = _identity(self.table_file)
                if there == known:
                    return
                kept.close()
                known = None
                connection = kept.enter_context(self._connection())
                known = there
                # Where that fails, the worker says of each change that it fails.
                with contextlib.suppress(sqlite3.Error, CistError):
                    connection.execute("DROP TABLE IF EXISTS reserve")
                    connection.execute("CREATE TABLE reserve AS SELECT zeroblob(?)", (_RESERVE_BYTES,))
                    connection.execute("DROP TABLE reserve")  # its pages stay, for rows that grow
                    self._keep_missing_records()

            keep()
            yield keep

    def claim(
        self,
        concurrent_runs: int,
        user_runs_at_once: int = sys.maxsize,
        *,
        executor: str = LocalExecutor.name,
        cluster_runs: int = sys.maxsize,
        without: Sequence[str] = (),
        without_runs: Sequence[str] = (),
    ) -> Claim | None:
        """The run that is next, unless as many as may run do.

        People take turns, and each one's runs go in the order in which they were queued. Somebody of whom as many run
        as may is passed over. It stays in the queue until the claim says what became of it, and so it does if this
        process ends before. Of two that claim one run at once, the first to say that it started has it.

        Args:
            concurrent_runs: how many may run at the same time by `executor`.
            user_runs_at_once: how many of one person may.
            executor: runs those that were queued for none.
            cluster_runs: how many may run at the same time by each other executor.
            without: executors that take none now.
            without_runs: ids of runs that cannot start now.
        """
        values = {
            "executor": executor,
            "concurrent_runs": concurrent_runs,
            "user_runs_at_once": user_runs_at_once,
            "cluster_runs": cluster_runs,
            "without": json.dumps(list(without)),
            "without_runs": json.dumps(list(without_runs)),
        }
        rows = self._mended(lambda: self._read(_NEXT_IN_QUEUE, values))
        return Claim(self, self._run(rows[0]), rows[0]["queued_at"]) if rows else None

    def _take(self, run: Run, queued_at: float, changes: str, **values: object) -> bool:
        """Take a run out of the queue, unless it has left it since."""
        known = {"id": run.id, "attempt": run.attempt, "queued_at": queued_at, "now": time.time()}
        with self._transaction() as connection:
            taken = connection.execute(
                f"UPDATE runs SET {changes}, attempt = attempt + 1, started_at = :now, stop_requested_at = NULL, "
                "limit_reason = NULL "
                "WHERE id = :id AND state = 'queued' AND attempt = :attempt AND queued_at = :queued_at",
                {**known, **values},
            ).rowcount
            if taken:
                _keep_record(connection, run)
        return bool(taken)

    def say_why_unheard(self, executor: str, reason: str | None, *, default: bool) -> None:
        """Say of the runs of an executor why none starts, and why nobody knows of those that run; None: it answers.

        Args:
            executor: its name.
            reason: a sentence.
            default: whether runs without a wish are its own.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE runs SET reason = ? WHERE state IN ('queued', 'running') "
                "AND (executor = ? OR (? AND executor IS NULL))",
                (reason, executor, default),
            )

    def settle(self, run: Run, how: Exit) -> Ending | None:
        """Write down how a run has ended; None if somebody did so before.

        One whose machine was lost is queued again, to go on from its last checkpoint.

        Args:
            run: as it was read.
            how: what its executor knows.
        """
        attempts = self.limits.attempts if how.machine_lost else 0
        with self._transaction() as connection:
            current = self._get(connection, run.id)
            if (current.state, current.attempt) != (RunState.RUNNING, run.attempt):
                return None
            end = ending(current, how)
            _end(connection, current, end)
            if end.state is RunState.LOST and current.attempt < attempts:
                _queue_again(connection, current, resume=True)
                end = Ending(end.state, f"{how.reason}; it goes on from its last checkpoint.")
            if not how.unanswered:  # a job that begins when its cluster is back finds the file, and ends
                with contextlib.suppress(OSError):
                    run.directory.cancel_file.unlink(missing_ok=True)
        return end

    def reconcile(self) -> None:
        """Settle the runs that are gone, unless a worker lives, which does so itself.

        Where nothing can be written, this store says from now on how they ended; the table follows when it can.
        """
        try:
            with self.worker_lock().acquire(timeout=0):
                pass
        except Timeout:  # a worker lives, which alone knows the exit codes
            if not self._has_room():
                self._settle_gone(self._gone(), write=False)
            return
        except OSError:
            self._settle_gone(self._gone())
            return
        gone = self._gone()  # not under the lock: a cluster may let us wait, and a worker that starts must not
        with contextlib.suppress(Timeout), self.worker_lock().acquire(timeout=0):
            self._settle_gone(gone)

    def _gone(self) -> list[tuple[Run, Exit]]:
        """The runs that have ended, as far as their executors tell, and how."""
        self._unwritten.clear()
        unanswered: set[str | None] = set()
        gone = []
        for run in self.running():
            if run.executor in unanswered:  # what was known last stays
                continue
            with contextlib.suppress(OSError):
                try:
                    executor, handle = executor_of(run)
                    how = executor.poll(handle)
                except ExecutorUnreachable:
                    unanswered.add(run.executor)
                    continue
                if how is not None:
                    gone.append((run, how))
        return gone

    def _settle_gone(self, gone: Sequence[tuple[Run, Exit]], *, write: bool = True) -> None:
        for run, how in gone:
            with contextlib.suppress(OSError):
                if write:
                    with contextlib.suppress(CistError):
                        self.settle(run, how)
                        continue
                end = ending(run, how)
                reason = " ".join(filter(None, (end.reason, _UNWRITTEN)))
                self._unwritten[run.id, run.attempt] = Ending(end.state, reason)

    def _has_room(self) -> bool:
        """Whether files can be written here."""
        try:
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(bytes(_RESERVE_BYTES))
        except OSError:
            return False
        return True

    # ---- inside ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _connection(self, mode: str = "rw") -> Iterator[sqlite3.Connection]:
        """A connection; a table that somebody removed does not come back empty.

        Raises:
            CistError: if the table cannot be used, also in what is done with the connection; `_TableDamagedError` if
                there is none.
        """
        if not os.path.exists(self.table_file):  # nor where its folder may not be searched
            raise _TableDamagedError(f"The table of runs {self.table_file} is missing.")
        try:
            connection = sqlite3.connect(
                f"{self.table_file.as_uri()}?mode={mode}", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
            )
            with contextlib.closing(connection):
                connection.row_factory = sqlite3.Row
                # The journal is used over again after every transaction, so on a full disk there is room for the next.
                connection.execute("PRAGMA wal_autocheckpoint = 1")
                yield connection
        except sqlite3.Error as error:
            undecodable = str(error).startswith("Could not decode")  # Python's own error, which has no code
            if (
                _code(error) in _DAMAGE or undecodable
            ) and mode == "rw":  # read while others write, it may only seem so
                raise _TableDamagedError(f"The table of runs {self.table_file} is damaged ({error}).") from error
            if _code(error) == sqlite3.SQLITE_BUSY:
                raise CistError(
                    f"The table of runs {self.table_file} is locked by another process for more than "
                    f"{_BUSY_SECONDS:g} seconds; try again, or end what holds it."
                ) from error
            raise CistError(
                f"The table of runs {self.table_file} cannot be used ({error}); "
                "see that the folder exists, can be written to and has room."
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mending(), self._unmended_transaction() as connection:
            yield connection

    @contextmanager
    def _unmended_transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            self._begin(connection)
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _mending(self) -> Iterator[None]:
        """A table that is found to be lost or damaged is rebuilt, and what was to be done with it is refused."""
        try:
            yield
        except _TableDamagedError as error:
            self._make_table()
            raise CistError(f"{error} It has been rebuilt from the directories of the runs; try again.") from error

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction: many that come and go are waited for, one that stays is not."""
        for last in (False,) * (_BUSY_ROUNDS - 1) + (True,):
            before = self._last_changes()
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if last or _code(error) != sqlite3.SQLITE_BUSY or self._last_changes() == before:
                    raise

    def _last_changes(self) -> list[int]:
        """When the table and its journal were last written."""
        changes = []
        for file in (self.table_file, self.table_file.with_name("runs.sqlite-wal")):
            with contextlib.suppress(OSError):
                changes.append(file.stat().st_mtime_ns)
        return changes

    # ---- the table itself --------------------------------------------------------------------------------------------

    def _version(self) -> int | None:
        """Of the table; None if there is none, or what lies in its place is none."""
        query = "SELECT user_version, (SELECT count(*) FROM sqlite_master WHERE name = 'runs') FROM pragma_user_version"
        try:
            version, tables = self._read(query)[0]
        except _TableDamagedError:
            return None
        return int(version) if tables else None

    def _is_whole(self) -> bool:
        """Whether every page and row of the table can be read; the version alone lies in the first page."""
        if self._version() is None:
            return False
        try:
            states = {row["state"] for row in self._read("SELECT * FROM runs")}
            said = self._read("PRAGMA quick_check(1)")[0][0]
        except _TableDamagedError:
            return False
        return said == "ok" and states <= set(RunState)

    def _make_table(self) -> None:
        """Make the table from the directories of the runs, unless somebody has done so just before."""
        if self.is_removed:
            raise CistError(f"The folder of runs {self.root} has been removed; start anew where it should be.")
        with self._table_lock():
            if self._is_whole():
                return
            found = recover(self.root)
            partial = self.root / f".runs.sqlite.{os.getpid()}.partial"
            try:
                _write_table(partial, [one.record for one in found])
                aside = self._name_aside()
                if found or aside is not None:
                    text = _notice(aside, found) + "\n"
                    write_whole(self.notice_file, lambda file: file.write_text(text), what="The notice")
                for end in ("", "-wal", "-shm"):  # a journal that is left would be taken for the new table's
                    file = self.table_file.with_name(self.table_file.name + end)
                    if file.exists() and aside is not None:
                        file.replace(aside.with_name(aside.name + end))
                    file.unlink(missing_ok=True)
                partial.replace(self.table_file)
            finally:
                partial.unlink(missing_ok=True)

    def _name_aside(self) -> Path | None:
        """A free name for what lies in the table's place; None if that is nothing."""
        if not self.table_file.exists() or self.table_file.stat().st_size == 0:
            return None
        name = f"runs.sqlite.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(path for each in names if not (path := self.root / each).exists())

    @contextmanager
    def _table_lock(self) -> Iterator[None]:
        """Only one process at a time makes the table."""
        lock = self.root / "table.lock"
        what = f"The table of runs {self.table_file} cannot be used or rebuilt"
        with _explained(what):
            lock.touch()  # makes no folder, as the lock itself would for one that somebody has removed
            try:
                with file_lock(lock).acquire(timeout=_BUSY_SECONDS):
                    yield
            except Timeout as error:
                raise CistError(f"{what}: another process is at it; try again.") from error
            except sqlite3.Error as error:
                raise CistError(f"{what} ({error}); see that the folder can be written to and has room.") from error

    def _keep_missing_records(self) -> None:
        """Of runs that were added by a version that kept none."""
        for run in self._select("SELECT * FROM runs"):
            if not (run.directory.path / RECORD_FILE).exists():
                with self._transaction() as connection:
                    _keep_record(connection, run)

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _select(self, query: str, **values: object) -> list[Run]:
        return self._mended(lambda: [self._run(row) for row in self._read(query, values)])

    def _mended(self, look: Callable[[], _T]) -> _T:
        """What there is to see, after the table was rebuilt if it is found to be lost or damaged."""
        try:
            return look()
        except _TableDamagedError:
            self._make_table()
            return look()

    def _read(self, query: str, values: Mapping[str, object] = _NO_VALUES) -> list[sqlite3.Row]:
        try:
            with self._connection() as connection:
                return connection.execute(query, values).fetchall()
        except CistError as error:
            if isinstance(error, _TableDamagedError) or _code(error.__cause__) == sqlite3.SQLITE_BUSY:
                raise
            # Even to read, SQLite makes files beside the table: not on a full disk, nor in a folder that is read-only.
            # Where its journal is empty, the table is whole as it lies.
            journal = self.table_file.with_name("runs.sqlite-wal")
            if journal.exists() and journal.stat().st_size:
                raise
            with self._connection("ro&immutable=1") as connection:
                return connection.execute(query, values).fetchall()

    def _get(self, connection: sqlite3.Connection, run_id: str) -> Run:
        row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise self._unknown(run_id)
        return self._run(row)

    def _check_free(self, connection: sqlite3.Connection, run_id: str) -> None:
        place = self.root / run_id
        there = os.path.lexists(place)
        if connection.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone():
            raise CistError(
                f"The run {run_id} is here already, and nothing of it is replaced."
                if there
                else f"The run {run_id} is known here, but its directory is gone; delete it, then bring its copy here."
            )
        if there:
            raise CistError(f"{place} is there, though the table knows no such run; move it away, and try again.")

    def _owned(self, run: Run) -> Run:
        """The run, if whom this store acts for may change it."""
        if not self.owns(run):
            raise CistError(
                f"The run {run.id} belongs to somebody else: you can look at it, but not change it or take it away."
            )
        return run

    def _unknown(self, run_id: str) -> CistError:
        return CistError(f"There is no run '{run_id}' in {self.root}; 'cist runs' lists those that there are.")

    def _run(self, row: sqlite3.Row) -> Run:
        if row["state"] not in list(RunState):
            raise _TableDamagedError(f"The table of runs {self.table_file} is damaged (a state is {row['state']!r}).")
        run = Run(
            id=row["id"],
            name=row["name"],
            note=row["note"],
            state=RunState(row["state"]),
            group=row["sweep"],
            created_at=row["created_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            reason=row["reason"],
            stop_requested_at=row["stop_requested_at"],
            limit_reason=row["limit_reason"],
            attempt=row["attempt"],
            resume=bool(row["resume"]),
            executor=row["executor"],
            handle=row["handle"],
            working_directory=Path(row["working_directory"]),
            directory=RunDirectory(self.root / row["id"]),
            owner=row["owner"],
        )
        end = self._unwritten.get((run.id, run.attempt)) if run.state is RunState.RUNNING else None
        return run if end is None else replace(run, state=end.state, reason=end.reason)

    def _set(self, run_id: str, column: str, value: str) -> Run:
        with self._transaction() as connection:
            self._owned(self._get(connection, run_id))
            connection.execute(f"UPDATE runs SET {column} = ? WHERE id = ?", (value, run_id))
            return _keep_record(connection, self._get(connection, run_id))

    def _requeue(self, run_id: str, *, resume: bool) -> Run:
        limits = self.limits
        self._check_disk(limits)
        with self._transaction() as connection:
            run = self._owned(self._get(connection, run_id))
            if not run.state.ended:
                raise CistError(f"The run {run_id} is {run.state}; only one that has ended starts again.")
            if resume and run.state is RunState.FINISHED:
                raise CistError(f"The run {run_id} has finished; retry it to train it anew.")
            self._check_queue(connection, limits, 1)
            if not resume:
                with _explained(f"The files of the run {run_id} cannot be removed"):
                    _clear(run.directory)
            _queue_again(connection, run, resume=resume)
            return self._get(connection, run_id)

    def _check_queue(self, connection: sqlite3.Connection, limits: RunLimits, more: int) -> None:
        waiting, own_waiting = connection.execute(
            "SELECT count(*), total(owner = ?) FROM runs WHERE state = 'queued'", (self.owner,)
        ).fetchone()
        limits.check_queue(waiting=waiting, own_waiting=int(own_waiting), more=more, owner=self.owner)

    def _check_disk(self, limits: RunLimits) -> None:
        """Before a transaction: to look at many files takes a while."""
        if self.owner is not None:
            limits.check_user_disk(sum(run.directory.bytes_used() for run in self.list_runs()))

    def _make_directory(self) -> Path:
        with _explained(f"The directory of a run cannot be made in {self.root}"):
            while True:
                unguessed = secrets.token_hex(_ID_BYTES if self.owner is None else _OWNED_ID_BYTES)
                directory = self.root / f"{time.strftime('%Y%m%d-%H%M%S')}-{unguessed}"
                with contextlib.suppress(FileExistsError):
                    directory.mkdir()
                    flush(self.root)
                    return directory


def _identity(path: Path) -> tuple[int, int] | None:
    """By which the system knows a folder or file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _write_table(path: Path, records: Sequence[RunRecord]) -> None:
    """A new table with these rows, in this order."""
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN")
        connection.execute(_TABLE)
        for record in records:
            _insert(connection, record)
        connection.execute(f"PRAGMA user_version = {_TABLE_VERSION}")
        connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, record: RunRecord) -> None:
    columns = record.model_dump()
    marks = ", ".join(f":{name}" for name in columns)
    # The row is there already if the table was lost and another process has just rebuilt it.
    connection.execute(f"INSERT INTO runs ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING", columns)


def _keep_record(connection: sqlite3.Connection, run: Run) -> Run:
    """Write the row of a run into its directory as well; in the transaction, so that none overtakes another."""
    write_record(run.directory, connection.execute("SELECT * FROM runs WHERE id = ?", (run.id,)).fetchone())
    return run


def _notice(aside: Path | None, found: Sequence[Recovered]) -> str:
    """What people are told of a table that was rebuilt."""
    what = "was missing or empty" if aside is None else f"was damaged; what was there is kept as {aside.name}"
    counts = Counter(one.record.state for one in found)
    states = ", ".join(f"{counts[state]:,} {state}" for state in RunState if counts[state])
    said = (
        f"On {time.strftime('%Y-%m-%d at %H:%M:%S')} the table of runs {what}. It was rebuilt from the directories "
        f"of {len(found):,} run{'s' * (len(found) != 1)}" + (f": {states}." if states else ".")
    )
    unknown = sum(not one.known for one in found)
    if unknown:
        said += (
            f" Of {unknown:,} name, note, sweep and owner are not known any more; "
            f"{'it belongs' if unknown == 1 else 'they belong'} to the operator."
        )
    return said


def _code(error: BaseException | None) -> int | None:
    """SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _migrate(connection: sqlite3.Connection) -> None:
    """Make the table, or bring one of an older version to the present form, unless somebody has done so just before."""
    older = _columns(connection)
    if "pid" not in older:
        connection.execute(_TABLE)
        return
    # Versions 1 and 2 knew processes of this machine alone; the column 'owner' came with version 2. The columns of the
    # pid go, so that a worker that has not been restarted yet ends at its next look, instead of starting runs that
    # nobody finds again.
    connection.create_function("process_handle", 2, process_handle)
    connection.execute("ALTER TABLE runs RENAME TO older_runs")
    connection.execute(_TABLE)
    kept = ", ".join(["rowid", *(name for name in _columns(connection) if name in older)])
    connection.execute(
        f"INSERT INTO runs ({kept}, executor, handle) SELECT {kept}, "
        "CASE WHEN pid IS NOT NULL OR state = 'running' THEN ? END, "
        "CASE WHEN pid IS NOT NULL THEN process_handle(pid, coalesce(pid_created_at, 0)) "
        "WHEN state = 'running' THEN '' END "
        "FROM older_runs",
        (LocalExecutor.name,),
    )
    connection.execute("DROP TABLE older_runs")


def _columns(connection: sqlite3.Connection) -> list[str]:
    return [row["name"] for row in connection.execute("PRAGMA table_info(runs)")]


def _one_line(name: str) -> str:
    """A name that fits into a table and a heading."""
    words = " ".join(name.split())
    return words if len(words) <= _LONGEST_NAME else words[: _LONGEST_NAME - 1] + "…"


def _request_stop(connection: sqlite3.Connection, run: Run, *, limit_reason: str | None) -> None:
    connection.execute(
        "UPDATE runs SET stop_requested_at = ?, limit_reason = ? WHERE id = ?", (time.time(), limit_reason, run.id)
    )
    _keep_record(connection, run)
    _leave_word(run)


def _leave_word(run: Run) -> None:
    """Tell a process that trains there, or is about to, to stop."""
    with contextlib.suppress(OSError):  # where no file can be made, the worker sends a signal after the grace
        run.directory.cancel_file.touch()


def _queue_again(connection: sqlite3.Connection, run: Run, *, resume: bool) -> None:
    connection.execute(
        "UPDATE runs SET state = 'queued', queued_at = ?, resume = ?, started_at = NULL, ended_at = NULL, "
        "reason = NULL, stop_requested_at = NULL, limit_reason = NULL WHERE id = ?",
        (time.time(), resume, run.id),
    )
    _keep_record(connection, run)


def _end(connection: sqlite3.Connection, run: Run, how: Ending) -> None:
    connection.execute(
        "UPDATE runs SET state = ?, reason = ?, ended_at = ? WHERE id = ?", (how.state, how.reason, time.time(), run.id)
    )
    _keep_record(connection, run)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CistError(f"{what} ({error.strerror or error}); mend that and try again.") from error


@contextmanager
def _unused(directory: RunDirectory) -> Iterator[None]:
    """Nobody trains there meanwhile; what is no folder of its own is nobody's place to train."""
    own = directory.path.is_dir() and not directory.path.is_symlink()
    with directory.locked() if own else contextlib.nullcontext():
        yield


def _clear(directory: RunDirectory) -> None:
    if directory.path.is_symlink():
        raise CistError(f"{directory.path} is a link, so what is in it is left alone; delete the run instead.")
    with directory.locked():
        for entry in directory.path.iterdir():
            if entry not in (directory.config_file, directory.lock_file, directory.path / RECORD_FILE):
                _remove(entry)
        flush(directory.path)


def _remove(path: Path) -> None:
    """A file, a link (never what it points to), a folder with all that is in it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
