"""Runs as jobs of Ray, through its Jobs API.

The API is asked over HTTP (https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html), so
neither the worker nor the app imports Ray or becomes a part of the cluster, and Ray may be installed there alone.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cist_core.documents import parse_json, read_bytes
from cist_core.errors import CistError
from cist_core.processes import PYTHON
from cist_core.runs.executors.local import exit_of
from cist_core.runs.executors.protocol import (
    ENGINE,
    RAY_ADDRESS,
    Executor,
    ExecutorUnreachable,
    Exit,
    RunPutOff,
    refuse_busy,
    register_executor,
)
from cist_core.runs.executors.settings import SETTINGS_FILE, mirror_of, settings_of
from cist_core.runs.run import Run

_FIRST_SENTENCE = re.compile(r"(?<=\.) | class_name: ")  # what follows are details of Ray's own
_NO_JOB = re.compile(r"Job \S+ does not exist")  # the words of the API
_HANDLE = re.compile(r"job (\S+) at (\S+)")
_DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ANSWER_SECONDS = 10.0
_STOP_SECONDS = "30"  # from SIGTERM, on which a run saves where it is, to SIGKILL
_MOST_BYTES = 1 << 20
_SHOWN = 300
_MACHINE_LOST = (
    "JOB_SUPERVISOR_ACTOR_DIED",
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
)
_WORKS = ("PENDING", "RUNNING")
_SAID = ("finished", "failed")
_PASSED_ON = ("PYTHONPATH", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE")

Amount = Annotated[float, Field(ge=0)]


class RaySettings(BaseModel):
    """The table ``[ray]`` of `executors.toml`.

    Example::

        [ray]
        address = "http://head:8265"
        num_gpus = 1
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    address: str = _DEFAULT_ADDRESS
    """Of the dashboard on the head node, where the Jobs API is; ``CIST_RAY_ADDRESS`` goes before it."""
    num_cpus: Amount | None = None
    """CPUs that a run reserves; None: as many as the ``machine.threads`` of its config, or 1."""
    num_gpus: Amount | None = None
    """GPUs that a run reserves; None: 1 where its ``machine.device`` is ``cuda``, else 0."""
    memory: Annotated[int, Field(ge=0)] | None = None
    """Bytes that a run reserves."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that share each batch of a run, on one node or several; each reserves all that is asked for here."""
    resources: dict[str, Amount] = {}
    """Amounts of resources that nodes were given names for."""

    @classmethod
    def load(cls, root: Path) -> RaySettings:
        """The settings of a root, with the address of the environment.

        Raises:
            CistError: if they are wrong.
        """
        table = settings_of(root, RayExecutor.name)
        if address := os.environ.get(RAY_ADDRESS):
            table["address"] = address
        try:
            settings = cls.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            raise CistError(
                f"Mend [ray] in {root / SETTINGS_FILE}: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}; "
                f"known are {', '.join(cls.model_fields)}."
            ) from None
        _check_address(settings.address)
        return settings

    def of_a_process(self, machine: dict[str, Any]) -> dict[str, float]:
        """What one process reserves, by Ray's names for it.

        Args:
            machine: the part of the run's config.
        """
        on_gpu = str(machine.get("device", "auto")).startswith("cuda")
        return {
            "CPU": self.num_cpus if self.num_cpus is not None else machine.get("threads") or 1,
            "GPU": self.num_gpus if self.num_gpus is not None else int(on_gpu),
            **({} if self.memory is None else {"memory": self.memory}),
            **self.resources,
        }

    def reserved(self, machine: dict[str, Any]) -> dict[str, Any]:
        """What a job asks for, in the words of the API; one with several workers asks for those itself.

        Args:
            machine: the part of the run's config.
        """
        asked = self.of_a_process(machine) if self.workers == 1 else {"CPU": 0, "GPU": 0}
        names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        plain = {f"entrypoint_{names[name]}": amount for name, amount in asked.items() if name in names}
        further = {name: amount for name, amount in asked.items() if name not in names}
        return plain | ({"entrypoint_resources": further} if further else {})


@register_executor
class RayExecutor(Executor):
    """A job a run, named by the run and its attempt, so that none is started twice."""

    name = "ray"

    def __init__(self, *, command: Sequence[str] = ENGINE) -> None:
        super().__init__(command=command)
        self._told_to_stop: set[str] = set()

    def check_available(self) -> None:
        _check_address(os.environ.get(RAY_ADDRESS, _DEFAULT_ADDRESS))

    def find(self, run: Run) -> str | None:
        for handle, job in self._earlier_jobs(run):
            status = job.get("status")
            if status in _WORKS and handle in self._told_to_stop:
                raise RunPutOff(f"The {handle} of {run.id} still stops; the run starts once it has.")
            # What has ended is this attempt if the run has said so; else somebody has cleared its directory since, or
            # it was ended from outside.
            if status in _WORKS or (status != "STOPPED" and run.directory.status().get("state") in _SAID):
                return handle
        return None

    def start(self, run: Run) -> str:
        settings = RaySettings.load(run.directory.path.parent)
        address, arguments = settings.address.rstrip("/"), self.command_for(run)
        earlier = len(list(self._earlier_jobs(run)))
        if earlier and "--resume" not in arguments:  # one of them may have begun
            arguments.append("--resume")
        job = _job_name(run, earlier + 1)
        refuse_busy(run)
        if settings.workers > 1:
            arguments = _on_workers(run, settings, resume="--resume" in arguments)
        command = shlex.join(arguments)
        request = {
            "submission_id": job,
            "entrypoint": f"cd {shlex.quote(str(run.working_directory))} && "
            f"exec {command} </dev/null 2>{shlex.quote(str(run.stderr_file))}",
            "metadata": {"run": run.name},
            "runtime_env": {"env_vars": _environment()},
            **settings.reserved(_machine(run)),
        }
        _ask(address, "POST", "/api/jobs/", request)
        return f"job {job} at {address}"

    def _earlier_jobs(self, run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
        """Those that Ray knows of this attempt, by their handles, the first one first."""
        address = RaySettings.load(run.directory.path.parent).address.rstrip("/")
        for number in itertools.count(1):
            handle = f"job {_job_name(run, number)} at {address}"
            known = self.job(handle)
            if known is None:
                return
            yield handle, known

    def poll(self, handle: str) -> Exit | None:
        if _HANDLE.fullmatch(handle) is None:
            return Exit(reason="Nobody knows its job")
        job = self.job(handle)
        if job is None:
            return Exit(reason=f"Ray knows no {handle}, as after the end of its head node", machine_lost=True)
        status, code = job.get("status"), job.get("driver_exit_code")
        if status in _WORKS:
            return None
        if status == "SUCCEEDED":
            return Exit(0)
        if isinstance(code, int) and code:
            return exit_of(code)
        said = _FIRST_SENTENCE.split(" ".join(str(job.get("message") or status).split()))[0]
        return Exit(
            reason=f"Ray says: {said.rstrip('.')[:_SHOWN]}", machine_lost=job.get("error_type") in _MACHINE_LOST
        )

    def stop(self, handle: str, *, force: bool) -> None:
        """Ray sends SIGTERM and, where that has not ended the command 30 seconds later, SIGKILL."""
        match = _HANDLE.fullmatch(handle)
        if match is not None and self.poll(handle) is None:
            self._told_to_stop.add(handle)
            _ask(match[2], "POST", f"/api/jobs/{match[1]}/stop")

    def job(self, handle: str) -> dict[str, Any] | None:
        """What Ray knows of a job; None if that is nothing."""
        match = _HANDLE.fullmatch(handle)
        assert match is not None
        return _ask(match[2], "GET", f"/api/jobs/{match[1]}")


def _job_name(run: Run, number: int) -> str:
    """Of the first, second, ... job for an attempt; Ray takes no name twice."""
    return f"{run.id}-{run.attempt}" + (f"-{number}" if number > 1 else "")


def _on_workers(run: Run, settings: RaySettings, *, resume: bool) -> list[str]:
    """The command of a run on several workers."""
    each = json.dumps(settings.of_a_process(_machine(run)))
    amounts = ["--workers", str(settings.workers), "--resources", each]
    place = [str(run.directory.config_file), "--run-dir", str(run.directory.path)]
    url = mirror_of(run.directory.path)
    more = [*(["--resume"] if resume else []), *(["--no-code"] if run.owner is not None else [])]
    more += [] if url is None else ["--mirror", url]
    return [*PYTHON, "-m", "cist_core.runs.ray_workers", *place, *amounts, *more]


def _check_address(address: str) -> None:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CistError(
            f"Expected the address of Ray's dashboard, such as {_DEFAULT_ADDRESS}, but got '{address}'; set "
            f"{RAY_ADDRESS}, or address under [ray] in {SETTINGS_FILE}."
        )


def _environment() -> dict[str, str]:
    """What a job takes along from here: Ray's nodes have an environment of their own."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("CIST_") or name in _PASSED_ON}
    return {**kept, "RAY_JOB_STOP_WAIT_TIME_S": _STOP_SECONDS}


def _machine(run: Run) -> dict[str, Any]:
    """This part of the config as it lies there, without the torch that would be needed to understand all of it."""
    try:
        config = parse_json(read_bytes(run.directory.config_file, _MOST_BYTES))
    except ValueError as error:
        raise CistError(f"The config {run.directory.config_file} is damaged ({error}).") from error
    machine = config.get("machine") if isinstance(config, dict) else None
    return machine if isinstance(machine, dict) else {}


def _ask(address: str, method: str, path: str, content: object = None) -> dict[str, Any] | None:
    """The answer of the Jobs API; None if it knows no such job.

    Raises:
        ExecutorUnreachable: if there is no answer, or one that passes.
        CistError: if it refuses what it was asked.
    """
    request = urllib.request.Request(
        address + path,
        method=method,
        data=None if content is None else json.dumps(content).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            found = parse_json(answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            said = " ".join(error.read(2000).decode("utf-8", errors="replace").split())[-300:]
        if error.code == 404 and method == "GET":
            if _NO_JOB.search(said):
                return None
            # Of a proxy, or of a dashboard that is about to start.
            raise ExecutorUnreachable(f"Ray at {address} cannot answer now ({said or error}).") from None
        if error.code in (400, 404, 409, 422):
            raise CistError(f"Ray at {address} refuses the job ({said or error}).") from None
        raise ExecutorUnreachable(f"Ray at {address} cannot answer now ({said or error}).") from None
    except (OSError, ValueError) as error:  # no connection, or nothing that is JSON
        reason = getattr(error, "reason", None) or error
        raise ExecutorUnreachable(f"Ray at {address} gives no answer ({reason}).") from error
    if not isinstance(found, dict):
        raise ExecutorUnreachable(f"Ray at {address} gives an answer that is none of its Jobs API.")
    return found
