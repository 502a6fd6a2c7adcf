"""`RunStore`: the table of runs, which is also the queue.

The table alone decides what runs: a claim is one transaction, so two workers never run one row twice. A task queue such
as huey would be a second queue beside it, and one that forgets a running task when its consumer is killed.

Every method opens the database, does one short transaction and closes it, so a store may be shared by threads, and any
number of processes may have one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from cist_core.errors import CistError
from cist_core.files import flush, own_folder
from cist_core.runs.endings import Ending, ending
from cist_core.runs.executors.local import LocalExecutor, process_handle
from cist_core.runs.executors.protocol import ExecutorUnreachable, Exit, executor_of
from cist_core.runs.limits import RunLimits
from cist_core.runs.run import Run, RunState
from cist_core.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig

_BUSY_SECONDS = 30.0
_TABLE_VERSION = 3
_LONGEST_NAME = 80
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
)
SELECT runs.* FROM runs JOIN people ON people.owner IS runs.owner
WHERE state = 'queued' AND (runs.owner IS NULL OR people.running < ?)
ORDER BY served_at, queued_at, runs.rowid LIMIT 1
"""
_ID_BYTES = 2  # to be typed after 'cist runs'
_OWNED_ID_BYTES = 8  # nobody guesses the address of somebody's run


class Claim:
    """A row taken from the queue, while nobody else can take one: say what became of it."""

    def __init__(self, connection: sqlite3.Connection, run: Run) -> None:
        self._connection = connection
        self.run = run

    def started(self, executor: str, handle: str) -> None:
        """It has been started, and may go to work once the claim is over.

        Args:
            executor: the name of what has started it.
            handle: by which that executor knows it again.
        """
        self._connection.execute(
            "UPDATE runs SET state = 'running', attempt = attempt + 1, started_at = ?, ended_at = NULL, reason = NULL, "
            "stop_requested_at = NULL, limit_reason = NULL, executor = ?, handle = ? WHERE id = ?",
            (time.time(), executor, handle, self.run.id),
        )

    def failed(self, reason: str) -> None:
        """It cannot be started."""
        now = time.time()
        self._connection.execute(
            "UPDATE runs SET state = 'failed', attempt = attempt + 1, started_at = ?, ended_at = ?, reason = ?, "
            "stop_requested_at = NULL, limit_reason = NULL, executor = NULL, handle = NULL WHERE id = ?",
            (now, now, reason, self.run.id),
        )


class RunStore:
    """The runs of one root: a folder with the table ``runs.sqlite`` and one directory a run, named by its id.

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
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CistError(
                f"The folder of runs {self.root} cannot be made ({error.strerror or error}); set CIST_RUNS to another."
            ) from error
        version = self._read("PRAGMA user_version")[0][0] if self.table_file.exists() else 0
        if version > _TABLE_VERSION:
            raise CistError(f"The table of runs {self.table_file} is of a newer version; update cist-studio.")
        if version < _TABLE_VERSION:
            with self._connection("rwc") as connection:
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
        return int(self._read("SELECT count(*) FROM runs WHERE state IN ('queued', 'running')")[0][0])

    def running(self) -> list[Run]:
        """The runs that run, or did so when somebody last looked."""
        return self._select("SELECT * FROM runs WHERE state = 'running' ORDER BY started_at, rowid")

    def has_queued(self) -> bool:
        """Whether a run waits."""
        return bool(self._select("SELECT * FROM runs WHERE state = 'queued' LIMIT 1"))

    # ---- change ------------------------------------------------------------------------------------------------------

    def add(self, config: RunConfig, *, name: str = "", note: str = "", group: str | None = None) -> Run:
        """Queue a run of whom this store acts for.

        Args:
            config: saved in the new run's directory.
            name: default: the objective's preset, or else its text.
            note: anything.
            group: the sweep that it belongs to.

        Raises:
            CistError: if this machine cannot run it, it is longer than allowed, the queue is full, its owner has used
                up what one person may, or the directory cannot be written.
        """
        return self.add_all([(name, config)], note=note, group=group)[0]

    def add_all(
        self, entries: Sequence[tuple[str, RunConfig]], *, note: str = "", group: str | None = None
    ) -> list[Run]:
        """Queue several runs, given by name and config, or none of them.

        Raises:
            CistError: as `add`.
        """
        limits = self.limits
        for _, config in entries:
            limits.check_length(config)
            config.check_available()
        self._check_disk(limits)
        made: list[Path] = []
        try:
            with self._transaction() as connection:
                self._check_queue(connection, limits, len(entries))
                runs = []
                for name, config in entries:
                    directory = self._make_directory()
                    made.append(directory)
                    config.save(RunDirectory(directory).config_file)
                    now = time.time()
                    connection.execute(
                        "INSERT INTO runs "
                        "(id, name, note, state, sweep, created_at, queued_at, working_directory, owner) "
                        "VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?)",
                        (
                            directory.name,
                            _one_line(name) or config.objective.label,
                            note,
                            group,
                            now,
                            now,
                            str(Path.cwd()),
                            self.owner,
                        ),
                    )
                    runs.append(self._get(connection, directory.name))
        except BaseException:
            for directory in made:
                shutil.rmtree(directory, ignore_errors=True)
            raise
        return runs

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
        return FileLock(self.root / "worker.lock")

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
    def kept_open(self) -> Iterator[None]:
        """Keep the journal beside the table, so that a worker can write down how a run ended on a full disk."""
        with self._connection():
            yield

    @contextmanager
    def claiming(self, concurrent_runs: int, user_runs_at_once: int = sys.maxsize) -> Iterator[Claim | None]:
        """Take the run that is next, unless as many as may run do; nobody else can claim meanwhile.

        People take turns, and each one's runs go in the order in which they were queued. Somebody of whom as many run
        as may is passed over. An exception inside leaves the run in the queue, and so does the end of this process.

        Args:
            concurrent_runs: how many may run at the same time.
            user_runs_at_once: how many of one person may.
        """
        with self._transaction() as connection:
            (running,) = connection.execute("SELECT count(*) FROM runs WHERE state = 'running'").fetchone()
            free = running < concurrent_runs
            row = connection.execute(_NEXT_IN_QUEUE, (user_runs_at_once,)).fetchone() if free else None
            yield None if row is None else Claim(connection, self._run(row))

    def settle(self, run: Run, how: Exit) -> Ending | None:
        """Write down how a run has ended; None if somebody did so before.

        Args:
            run: as it was read.
            how: what its executor knows.
        """
        with self._transaction() as connection:
            current = self._get(connection, run.id)
            if (current.state, current.attempt) != (RunState.RUNNING, run.attempt):
                return None
            end = ending(current, how)
            _end(connection, current, end)
            with contextlib.suppress(OSError):
                run.directory.cancel_file.unlink(missing_ok=True)
        return end

    def reconcile(self) -> None:
        """Settle the runs that are gone, unless a worker lives, which does so itself."""
        try:
            with self.worker_lock().acquire(timeout=0):
                for run in self.running():
                    with contextlib.suppress(ExecutorUnreachable):  # what was known last stays
                        executor, handle = executor_of(run)
                        if (how := executor.poll(handle)) is not None:
                            self.settle(run, how)
        except (Timeout, OSError):  # a worker lives; or nothing can be written here
            return

    # ---- inside ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _connection(self, mode: str = "rw") -> Iterator[sqlite3.Connection]:
        """A connection; in the usual mode a table that somebody removed does not come back empty."""
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
            raise CistError(
                f"The table of runs {self.table_file} cannot be used ({error}); "
                "see that the folder exists, can be written to and has room."
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _select(self, query: str, **values: object) -> list[Run]:
        return [self._run(row) for row in self._read(query, **values)]

    def _read(self, query: str, **values: object) -> list[sqlite3.Row]:
        try:
            with self._connection() as connection:
                return connection.execute(query, values).fetchall()
        except CistError:
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
        return Run(
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

    def _set(self, run_id: str, column: str, value: str) -> Run:
        with self._transaction() as connection:
            self._owned(self._get(connection, run_id))
            connection.execute(f"UPDATE runs SET {column} = ? WHERE id = ?", (value, run_id))
            return self._get(connection, run_id)

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
            connection.execute(
                "UPDATE runs SET state = 'queued', queued_at = ?, resume = ?, started_at = NULL, ended_at = NULL, "
                "reason = NULL, stop_requested_at = NULL, limit_reason = NULL WHERE id = ?",
                (time.time(), resume, run_id),
            )
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
    with contextlib.suppress(OSError):  # where no file can be made, the worker sends a signal after the grace
        run.directory.cancel_file.touch()


def _end(connection: sqlite3.Connection, run: Run, how: Ending) -> None:
    connection.execute(
        "UPDATE runs SET state = ?, reason = ?, ended_at = ? WHERE id = ?", (how.state, how.reason, time.time(), run.id)
    )


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
            if entry not in (directory.config_file, directory.lock_file):
                _remove(entry)
        flush(directory.path)


def _remove(path: Path) -> None:
    """A file, a link (never what it points to), a folder with all that is in it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
