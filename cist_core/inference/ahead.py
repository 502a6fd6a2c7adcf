"""Work that threads do ahead of whoever uses its results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    prepare: Callable[[], object] = lambda: None,
) -> Generator[Result, None, None]:
    """``work(item)`` of each item, in the order of the items, computed while the caller is busy with earlier ones.

    An error, of the work or of what brings the items, is raised in its turn, after the results before it. Closing the
    iterator drops what has not begun and waits for what has, so that no thread outlives it.

    Args:
        work: called in several threads at once.
        items: taken one by one, by the caller's thread, so that they may come from another `in_order`.
        threads: that work.
        ahead: results, finished or not, that there are at most beside the one in the caller's hands.
        prepare: called once in each thread before it works.

    Example:
        >>> list(in_order(abs, [-2, 1, -3], threads=2, ahead=2))
        [2, 1, 3]
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="cist-ahead", initializer=prepare)
    source, failure = iter(items), None
    try:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append(pool.submit(work, item))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)
