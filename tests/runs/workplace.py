"""A store, real worker processes on it that start fake engines, and ways to wait for what they do."""

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from cist_core.runs import RunState, RunStore, Worker
from cist_core.runs.executors.local import LocalExecutor, process_handle
from cist_core.runs.executors.protocol import Executor, executor_of
from cist_core.runs.worker import started_workers
from cist_core.training import RunConfig, parse_config
from tests.runs.cluster import ClusterExecutor

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
SLURM_COMMANDS = Path(__file__).with_name("slurm_commands.py")
GONE = ("local", process_handle(2**22 + 1, 1.0))  # a pid above the largest
# By name, what makes an executor given its `command=`.
EXECUTORS: dict[str, Callable[[pytest.FixtureRequest], Callable[..., Executor]]] = {
    "local": lambda _: LocalExecutor,
    "cluster": lambda request: partial(ClusterExecutor, request.getfixturevalue("cluster").url),
}
on_every_executor = pytest.mark.parametrize("workplace", EXECUTORS, indirect=True)
QUICK = {"tick_seconds": 0.02, "grace_seconds": 60.0, "disk_seconds": 0.0, "silent_seconds": 0.0}

# Its processes start in milliseconds and without our threads; a worker that is killed is not this process.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["cist_core.runs"])


def until(condition: Callable[[], object], what: str = "", seconds: float = 60.0) -> None:
    """Wait for something that happens within milliseconds on a free machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain {what}"
        time.sleep(0.01)


class Workplace:
    """A store, and how to start workers on it that start fake engines.

    Args:
        root: of the store.
        executor: makes the executor of a worker, given its ``command=``.
    """

    def __init__(self, root: Path, executor: Callable[..., Executor] = LocalExecutor) -> None:
        self.store = RunStore(root)
        self._make_executor = executor
        self._executors: list[Executor] = []
        self.workers: list[BaseProcess] = []

    def add(self, seed: int = 0, **more: object) -> str:
        return self.store.add(config(seed), **more).id

    def executor(self, behaviours: str = "finish") -> Executor:
        executor = self._make_executor(command=[sys.executable, str(FAKE_ENGINE), behaviours])
        self._executors.append(executor)
        return executor

    def worker(self, behaviours: str = "finish", **settings: object) -> Worker:
        """A worker in this process, to be ticked by hand."""
        return Worker(self.store, executor=self.executor(behaviours), **(QUICK | settings))

    def start(self, behaviours: str = "finish", **settings: object) -> BaseProcess:
        """A worker in a process of its own."""
        process = _processes.Process(target=self.worker(behaviours, **settings).run)
        process.start()
        self.workers.append(process)
        return process

    def state(self, run_id: str) -> RunState:
        return self.store.get(run_id).state

    def alive(self, run_id: str) -> bool:
        """Whether its executor says so."""
        executor, handle = executor_of(self.store.get(run_id))
        return executor.poll(handle) is None

    def reaches(self, run_id: str, state: RunState) -> None:
        until(lambda: self.state(run_id) is state, f"for {state}: {self.store.get(run_id)}")

    def trains(self, run_id: str, *, beyond: int = 2) -> int:
        """Wait until a run has done some steps in its current attempt; the pid of the engine."""

        def status() -> dict[str, object]:
            run = self.store.get(run_id)
            said = run.directory.status()
            fresh = run.state is RunState.RUNNING and said.get("updated_at", 0) > run.started_at
            return said if fresh and said["state"] == "running" else {}

        until(lambda: status().get("step", 0) > beyond, f"for steps: {self.store.get(run_id)}")
        return self.store.get(run_id).directory.status()["pid"]

    def starts(self) -> list[str]:
        """The ids of the runs, once for each time that a process was started for them."""
        file = self.store.root / "starts.txt"
        return file.read_text().split() if file.exists() else []

    def stop(self) -> None:
        """End everything that works on the store, by force."""
        if ensured := started_workers.pop(self.store.root, None):
            ensured.kill()
            ensured.wait()
        for worker in self.workers:
            worker.kill()
            worker.join()
            worker.close()
        for run in self.store.list_runs():
            if run.handle is not None:
                executor, handle = executor_of(run)
                executor.stop(handle, force=True)
                for (
                    parent
                ) in self._executors:  # a process that nobody has waited for fails the test in which it is noticed
                    if parent.name == executor.name:
                        until(lambda parent=parent, handle=handle: parent.poll(handle) is not None)


def config(seed: int = 0, **changes: object) -> RunConfig:
    return parse_config(
        {
            "data": {"name": "mnist-5k", "train_samples": 100},
            "teacher": {"name": "mnist5k-cnn"},
            "student": {"architecture": "mlp_14x14"},
            "objective": "cist:rho=4",
            "epochs": 3,
            "seed": seed,
            **changes,
        }
    )


def rows(store: RunStore, query: str, *values: object) -> list[sqlite3.Row]:
    """What stands in the table of runs, or is done to it."""
    with contextlib.closing(sqlite3.connect(store.table_file, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query, values).fetchall()


def end(store: RunStore, run_id: str, state: RunState) -> None:
    """As if the run had ended so, whatever it is."""
    rows(store, "UPDATE runs SET state = ?, ended_at = ? WHERE id = ?", state, time.time(), run_id)


def write_limits(store: RunStore, text: str) -> None:
    """At once: a worker that read the file half written would go by the defaults."""
    half = store.root / "limits.partial"
    half.write_text(text)
    half.replace(store.root / "limits.toml")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
