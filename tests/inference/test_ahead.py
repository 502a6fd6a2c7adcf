"""Work is done ahead, in order, within bounds, and leaves no thread behind."""

import threading
from collections.abc import Iterator

import pytest

from cist_core.inference.ahead import in_order


def threads_at_work() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cist-ahead")]


def test_results_come_in_order_though_later_ones_are_ready_first() -> None:
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(30)
        if number == 1:
            second_is_done.set()
        return 10 * number

    assert list(in_order(work, range(5), threads=2, ahead=3)) == [0, 10, 20, 30, 40]


def test_work_goes_on_while_the_caller_is_busy_and_no_further_than_asked_for() -> None:
    begun, enough = [], threading.Semaphore(0)

    def work(number: int) -> int:
        begun.append(number)
        enough.release()
        return number

    results = in_order(work, range(100), threads=2, ahead=3)
    for taken in range(5):
        assert next(results) == taken
        # the one taken, and the three ahead of it less the place that the taken one leaves
        while len(begun) < taken + 3:
            assert enough.acquire(timeout=30)
        assert len(begun) == taken + 3
    results.close()
    assert sorted(begun) == list(range(7))


def test_an_error_comes_in_its_turn_and_nothing_outlives_it() -> None:
    def work(number: int) -> int:
        if number >= 2:
            raise ValueError(f"number {number}")
        return number

    results = in_order(work, range(50), threads=2, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="number 2"):
        next(results)
    assert threads_at_work() == []


def test_an_error_of_what_brings_the_items_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("no more")

    results = in_order(abs, items(), threads=2, ahead=3)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="no more"):
        next(results)
    assert threads_at_work() == []


def test_closing_drops_what_has_not_begun() -> None:
    done: list[int] = []
    results = in_order(done.append, range(1000), threads=1, ahead=20)
    next(results)
    results.close()
    assert len(done) <= 20
    assert threads_at_work() == []


def test_each_thread_is_prepared_once() -> None:
    prepared: list[int] = []
    both = threading.Barrier(2, timeout=30)

    def work(number: int) -> int:
        both.wait()
        return threading.get_ident()

    found = set(in_order(work, range(4), threads=2, ahead=2, prepare=lambda: prepared.append(threading.get_ident())))
    assert sorted(prepared) == sorted(found)
