"""Kernels called from several threads, from forked children, and with no place for numba's cache."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

from cist_core import kernels
from cist_core.kernels import compiled, threads

ROWS = np.random.default_rng(0).standard_normal((4000, 100)).astype(np.float32)

CONCURRENT_FIRST_CALLS = """
import warnings
warnings.simplefilter("error")
import threading
import numpy as np
from cist_core import kernels

rows = np.random.default_rng(0).standard_normal((20000, 50)).astype(np.float32)
results, errors = [None] * 6, []
barrier = threading.Barrier(len(results))

def work(number):
    try:
        barrier.wait()
        for _ in range(5):
            statistics, entropy = kernels.first_pass(rows, rho=3.0)
        results[number] = entropy
    except BaseException as error:
        errors.append(error)

started = [threading.Thread(target=work, args=(number,)) for number in range(len(results))]
for thread in started: thread.start()
for thread in started: thread.join()
assert not errors, errors
assert all(np.array_equal(results[0], result) for result in results)
"""


def test_threads_may_make_the_first_calls_at_once(tmp_path):
    """Each visitor of the app has a thread; numba's default threading layer would abort the process."""
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_NUM_THREADS": "4",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", CONCURRENT_FIRST_CALLS], env=environment, check=True, timeout=120)
    assert list(tmp_path.rglob("*.nbc")), "nothing was cached on disk for the next process"


def test_many_threads_get_the_same_answers():
    statistics = kernels.row_statistics(ROWS)
    expected = kernels.entropy(ROWS, statistics.peak, 2.0)
    table = kernels.entropy_table(ROWS, statistics)
    read = kernels.read_table(table, 3.0)
    failures = []

    def work() -> None:
        for _ in range(10):
            if not np.array_equal(kernels.entropy(ROWS, statistics.peak, 2.0), expected):
                failures.append("entropy")
            if not np.array_equal(kernels.read_table(table, 3.0), read):
                failures.append("table")

    started = [threading.Thread(target=work) for _ in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert not failures


def _entropy_in_child(queue):
    queue.put(kernels.first_pass(ROWS, tau=2.0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(threads, "TASK_VALUES", 1000)  # many tasks, so that the helpers are really asked
    expected = kernels.first_pass(ROWS, tau=2.0)[1]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_entropy_in_child, args=(queue,))
    child.start()
    result = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_row_is_visited_once(monkeypatch, count):
    monkeypatch.setattr(threads, "thread_count", lambda: count)
    visits = np.zeros(1003, int)

    def kernel(begin, end, step):
        visits[begin:end] += step

    threads.over_rows(kernel, len(visits), threads.TASK_VALUES // 10, 1)
    assert (visits == 1).all()


def test_tasks_hold_whole_groups_of_rows_that_are_taken_together(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 1)
    found = []
    threads.over_rows(lambda begin, end: found.append((begin, end)), 70, threads.TASK_VALUES // 40, together=16)
    assert found == [(0, 32), (32, 64), (64, 70)]


def test_an_error_in_any_task_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 3)

    def kernel(begin, end):
        raise MemoryError

    with pytest.raises(MemoryError):
        threads.over_rows(kernel, 100, threads.TASK_VALUES)


def test_without_a_writable_cache_kernels_are_compiled_in_memory(monkeypatch):
    original = numba.njit

    def njit(*arguments, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(*arguments, **options)

    monkeypatch.setattr(numba, "njit", njit)
    doubled = compiled.compiled(lambda value: 2 * value)
    assert doubled(21) == 42


def test_works_that_run_together_keep_their_order_and_use_kernels():
    expected = [kernels.row_statistics(ROWS[:rows]).maximum for rows in (10, 4000, 300, 2000)]
    works = [lambda rows=rows: kernels.row_statistics(ROWS[:rows]).maximum for rows in (10, 4000, 300, 2000)]
    for result, wanted in zip(threads.run_together(*works), expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
    assert threads.run_together() == []


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_one_of_them_raises_is_raised(failing):
    def fail():
        raise ValueError("no such rule")

    works = [lambda: 1.0] * 3
    works[failing] = fail
    with pytest.raises(ValueError, match="no such rule"):
        threads.run_together(*works)
    assert threads.run_together(lambda: 2, lambda: 3) == [2, 3]


def test_what_takes_long_to_import_waits_until_something_is_computed():
    code = "import sys, cist_core; sys.exit(' '.join(name for name in ('numba', 'torch') if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stderr.strip() == ""
