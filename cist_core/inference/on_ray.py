"""The logits of a teacher computed by the nodes of a Ray cluster, through Ray Data.

The samples are cut into shards. Actors, one a CPU or GPU at most, hold the network and the images and turn numbers of
samples into logits; this process asks for one shard after the other and writes each where a pass on one machine would
(`cist_core.logits.cache.LogitWriter`), so resuming and the finished file are the same. What a node had that
dies is computed again by another one.

This process is a part of the cluster: it runs on one of its nodes, and what it has loaded goes to the actors through
Ray's object store. Pictures that are decoded on demand are read by the actors, at the same paths.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import BrokenOff, Cancelled, CistError, first_line
from cist_core.installing import pip_install
from cist_core.progress import ProgressCallback

log = logging.getLogger(__name__)

SAMPLES_PER_SHARD = 512
ATTEMPTS = 5
"""Processes that may end over the same shard, or before they have their network, one after the other."""
_CONNECT_SECONDS = 10.0

Compute = Callable[[NDArray[np.int64]], NDArray[np.float32]]


class Rows(Protocol):
    """Where logits go: those of a `LogitWriter`."""

    @property
    def logits(self) -> NDArray[np.float32]: ...

    @property
    def done(self) -> int: ...

    def keep(self, end: int) -> None: ...


def fill(
    rows: Rows,
    make_compute: Callable[[], Compute],
    *,
    on_gpu: bool | None,
    most_workers: int | None = None,
    shard: int = SAMPLES_PER_SHARD,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Fill the rows that are not done yet, in their order.

    Args:
        rows: to be filled.
        make_compute: called once by each actor; what it returns turns the numbers of rows into these rows. It travels
            there by pickling.
        on_gpu: whether each actor reserves a GPU, not a CPU; None: where the cluster has one.
        most_workers: actors at a time; by default as many as the cluster has CPUs, or GPUs.
        shard: rows that are asked for at a time. At most those that are under way are computed again after a failure.
        progress: called after each shard with the number of rows done and in all.
        should_stop: asked before each shard.

    Raises:
        Cancelled: if ``should_stop`` said so.
        CistError: if Ray or its cluster is not there, the network cannot be sent, or teacher and data do not fit.
        BrokenOff: if the cluster or an actor fails, or `ATTEMPTS` processes die over the same rows; those that are done
            are kept.
    """
    total = len(rows.logits)
    starts = range(rows.done, total, shard)
    if not starts:
        return
    with _connected() as ray, _in_words(ray):
        kind = _kind(ray.cluster_resources(), on_gpu)
        made, attempts = _send(ray, make_compute), _attempts(ray)
        workers = _workers(ray.cluster_resources(), kind, most_workers)
        shards = ray.data.from_items(
            [{"start": start, "end": min(start + shard, total)} for start in starts], override_num_blocks=len(starts)
        )
        computed = shards.map_batches(
            _Worker,
            fn_constructor_args=(made, attempts),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(starts))),
            **({"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}),
        )
        computed.context.execution_options.preserve_order = True
        computed.context.enable_progress_bars = False
        done = rows.done
        # Ray Data's thread that prefetches may ask for a block after this process has left, which makes it join again.
        for batch in computed.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            if should_stop is not None and should_stop():
                raise Cancelled(f"Inference was stopped after {done} of {total} samples; nothing was kept.")
            logits, fault = batch["logits"], str(batch["fault"][0])
            if fault:
                raise CistError(fault) if batch["refused"][0] else BrokenOff(fault)
            if not np.array_equal(batch["row"], np.arange(done, done + len(logits))):
                raise BrokenOff(f"Ray gave other samples than {done} to {done + len(logits) - 1}; start it again.")
            rows.logits[done : done + len(logits)] = logits
            done += len(logits)
            rows.keep(done)
            if progress is not None:
                progress(done, total)
        if done < total:
            raise BrokenOff(f"Ray gave {done} of {total} samples only; start it again to go on from there.")


class _Attempts:
    """Counts what was begun and not ended, since Ray starts a process that dies anew without end."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}

    def begin(self, what: str) -> int:
        """How often it was begun, now included, and not ended."""
        self._begun[what] = self._begun.get(what, 0) + 1
        return self._begun[what]

    def end(self, what: str) -> None:
        self._begun.pop(what, None)


def _attempts(ray: Any) -> Any:
    """The counter, an actor on the node of this process: it lives as long as who waits for the result."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(_Attempts).options(num_cpus=0, scheduling_strategy=here).remote()


class _Worker:
    """What each actor does. What goes wrong travels as text: of an exception Ray keeps its own report only."""

    def __init__(self, made: Any, attempts: Any) -> None:
        import ray

        self._get, self._attempts = ray.get, attempts
        self._compute: Compute | None = None
        me = f"worker {ray.get_runtime_context().get_actor_id()}"  # that of the process before, if this one replaces it
        self._fault = self._begin(me, "a process before it had its network")
        if not self._fault:
            self._make: Callable[[], Compute] = ray.get(made)
            self._end(me)

    def __call__(self, shard: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
        rows, refused = np.arange(int(shard["start"][0]), int(shard["end"][0])), False
        what = f"the process that computed the samples {rows[0]} to {rows[-1]}"
        fault = self._fault or self._begin(what, what)
        if fault:
            return self._answer(rows, np.zeros((len(rows), 1), np.float32), fault, refused)
        try:
            if self._compute is None:
                self._compute = self._make()
            logits = self._compute(rows)
        except CistError as error:
            logits, fault, refused = np.zeros((len(rows), 1), np.float32), str(error), True
        except Exception as error:  # a library's, of which the node's log has the rest
            log.exception("The rows %d to %d could not be computed", rows[0], rows[-1])
            logits, fault = np.zeros((len(rows), 1), np.float32), f"A node of Ray failed: {first_line(error)}."
        self._end(what)
        return self._answer(rows, logits, fault, refused)

    def _answer(
        self, rows: NDArray[np.int64], logits: NDArray[np.float32], fault: str, refused: bool
    ) -> dict[str, NDArray[Any]]:
        said = {"fault": np.full(len(rows), fault), "refused": np.full(len(rows), refused)}
        return {"row": rows, "logits": logits, **said}

    def _begin(self, what: str, said: str) -> str:
        """Say that it is begun; returns what to say instead of doing it once more, or nothing."""
        before = self._get(self._attempts.begin.remote(what)) - 1
        if before < ATTEMPTS:
            return ""
        return (
            f"On Ray {said} has died {before} times, as where memory is too small; the logs of Ray's nodes say more. "
            "What is done is kept: start it again to go on from there, with fewer --workers or a smaller --batch-size."
        )

    def _end(self, what: str) -> None:
        self._get(self._attempts.end.remote(what))


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    """Ray, as a part of its cluster for so long; a program that is one already stays one."""
    try:
        import ray
        import ray.data
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise CistError(
            f"Inference on Ray needs Ray with Ray Data ({first_line(error)}); {pip_install('ray')}."
        ) from error
    if ray.is_initialized():
        yield ray
        return
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise CistError(
            f"There is no cluster of Ray at '{address}' ({first_line(error)}); start one (ray start --head), set "
            "RAY_ADDRESS to the HOST:PORT of its head, or run the command on a node: ray job submit -- cist infer ..."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Knock where the head should be, as Ray itself tries for minutes.

    Raises:
        OSError: if nobody answers.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


def _kind(resources: dict[str, float], on_gpu: bool | None) -> str:
    """What each actor reserves one of."""
    return "GPU" if on_gpu or (on_gpu is None and resources.get("GPU", 0) >= 1) else "CPU"


def _workers(resources: dict[str, float], kind: str, most: int | None) -> int:
    there = int(resources.get(kind, 0))
    if there < 1:
        raise CistError(f"The cluster of Ray has no {kind}; choose another --device, or start nodes that have one.")
    return there if most is None else min(there, most)


def _send(ray: Any, make_compute: Callable[[], Compute]) -> Any:
    try:
        return ray.put(make_compute)
    except TypeError as error:  # with Ray's report of what it is, over many lines
        raise CistError(
            "This teacher cannot be sent to other machines, as those of ONNX and of exported programs; run it here, "
            f"without --executor ray ({first_line(error)})."
        ) from error


@contextlib.contextmanager
def _in_words(ray: Any) -> Iterator[None]:
    """What Ray says is wrong, in a sentence."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise BrokenOff(
            f"Ray cannot compute the logits ({first_line(error)}); its logs say more. What is done is kept: start it "
            "again to go on from there, where memory was too small with fewer --workers."
        ) from error
