"""Rows shared out to threads.

Numba's own parallel loops are not used: its default threading layer ends the process when two threads enter it at once
(two visitors of a web app), and the OpenMP one does so in a forked child. The kernels release the GIL, so plain threads
do as well.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numba import config

TASK_VALUES = 1 << 17
"""Logits per task: long against the cost of handing one out, short enough to share evenly."""

_pool: ThreadPoolExecutor


def thread_count() -> int:
    """Numba's: the cores this process may use, or the environment variable ``NUMBA_NUM_THREADS``."""
    return int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def _new_pool() -> None:
    """Threads start when first needed; a forked child has none of its parent's."""
    global _pool
    _pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="cist-kernel")


_new_pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_pool)


def over_rows(
    kernel: Callable[..., None], rows: int, values_per_row: int, *arguments: object, together: int = 1
) -> None:
    """Run ``kernel(begin, end, *arguments)`` over all rows, shared between the caller and helper threads.

    The caller takes tasks as well and takes back what no helper has begun, so concurrent callers never wait for each
    other's work. Where a kernel takes so many rows ``together``, a task has a multiple of them.
    """
    size = together * max(1, TASK_VALUES // (together * values_per_row))
    tasks = deque(range(0, rows, size))

    def work() -> None:
        while True:
            try:
                begin = tasks.popleft()
            except IndexError:
                return
            kernel(begin, min(begin + size, rows), *arguments)

    helpers = [_pool.submit(work) for _ in range(min(thread_count(), len(tasks)) - 1)]
    try:
        work()
    finally:
        tasks.clear()
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def run_together(*works: Callable[[], Any]) -> list[Any]:
    """What each of several works returns, in their order; they share the cores with the rows of `over_rows`.

    Worth it where most of their time is spent without the GIL: in kernels, and in NumPy on long arrays.
    """
    helpers = [_pool.submit(work) for work in works[1:]]
    try:
        results = [work() for work in works[:1]]
        for work, helper in zip(works[1:], helpers, strict=True):
            results.append(work() if helper.cancel() else helper.result())
    finally:
        for helper in helpers:
            helper.cancel()
    return results
