"""A second executor: a toy cluster that is asked over a connection and knows runs by the numbers of jobs."""

import contextlib
import signal
import subprocess
import threading
import xmlrpc.client
from collections.abc import Iterator, Sequence
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

from cist_core import CistError
from cist_core.processes import signal_group
from cist_core.runs import Run
from cist_core.runs.executors.protocol import ENGINE, Executor, ExecutorUnreachable, Exit, register_executor


@register_executor
class ClusterExecutor(Executor):
    """Holds nothing back: what was started for an attempt before is found again by its name."""

    name = "test-cluster"

    def __init__(self, url: str = "", *, command: Sequence[str] = ENGINE) -> None:
        super().__init__(command=command)
        self.url = url

    def find(self, run: Run) -> str | None:
        number = self._ask(self.url, "find", self._name(run))
        return None if number is None else f"{self.url} job {number}"

    def start(self, run: Run) -> str:
        answer = self._ask(
            self.url, "start", self._name(run), self.command_for(run), str(run.working_directory), str(run.stderr_file)
        )
        if isinstance(answer, str):
            raise CistError(f"It cannot start ({answer}).")
        return f"{self.url} job {answer}"

    def poll(self, handle: str) -> Exit | None:
        url, _, number = handle.split()
        alive, code, reason = self._ask(url, "poll", int(number))
        if alive:
            return None
        return Exit(code) if reason is None else Exit(reason=reason)

    def stop(self, handle: str, *, force: bool) -> None:
        url, _, number = handle.split()
        self._ask(url, "stop", int(number), force)

    def _name(self, run: Run) -> str:
        return f"{run.id}-{run.attempt}"

    def _ask(self, url: str, method: str, *values: object) -> Any:
        try:
            with xmlrpc.client.ServerProxy(url, allow_none=True) as cluster:
                return getattr(cluster, method)(*values)
        except OSError as error:
            raise ExecutorUnreachable(f"The cluster {url} gives no answer ({error}).") from error


class Cluster:
    """What `ClusterExecutor` talks to; it outlives every worker."""

    def __init__(self) -> None:
        self._jobs: list[subprocess.Popen[bytes]] = []
        self._by_name: dict[str, int] = {}
        self._serve(0)
        self.url = f"http://127.0.0.1:{self.port}"

    def find(self, name: str) -> int | None:
        """The number of a job that goes on."""
        number = self._by_name.get(name)
        return None if number is None or self._jobs[number].poll() is not None else number

    def start(self, name: str, command: list[str], working_directory: str, stderr_file: str) -> int | str:
        """The number of a job, or why there is none."""
        try:
            with open(stderr_file, "wb") as stderr:
                job = subprocess.Popen(command, cwd=working_directory, stderr=stderr, start_new_session=True)
        except OSError as error:
            return f"{error.strerror}: {error.filename}"
        self._jobs.append(job)
        self._by_name[name] = len(self._jobs) - 1
        return self._by_name[name]

    def poll(self, number: int) -> tuple[bool, int | None, str | None]:
        """Whether a job goes on, what it has returned, and what happened to it if it was ended."""
        code = self._jobs[number].poll()
        if code is not None and code < 0:
            return False, None, f"The job was ended by {signal.Signals(-code).name}"
        return code is None, code, None

    def stop(self, number: int, force: bool) -> None:
        if self._jobs[number].poll() is None:
            signal_group(self._jobs[number].pid, signal.SIGKILL if force else signal.SIGTERM)

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[None]:
        """Its jobs go on, but nobody gets an answer."""
        self._hang_up()
        try:
            yield
        finally:
            self._serve(self.port)

    def close(self) -> None:
        self._hang_up()
        for number, job in enumerate(self._jobs):
            self.stop(number, force=True)
            job.wait()

    def _serve(self, port: int) -> None:
        self._server = SimpleXMLRPCServer(("127.0.0.1", port), allow_none=True, logRequests=False)
        self._server.register_instance(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = self._server.server_address[1]

    def _hang_up(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
