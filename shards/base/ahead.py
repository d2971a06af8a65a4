"""Run work in threads, ahead of the caller that takes the results.

Reading, decoding and waiting for a network release Python's global lock, so threads are enough.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 16


def all_threads() -> int:
    """Return how many threads should read when nothing else needs the cores."""
    return min(MOST_THREADS, os.cpu_count() or 1)


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, most: int
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Run `work` on each item in threads; yield each item with its future, in order.

    A caller that stops early does not wait for work that has not started.

    Args:
        work: called once for each item; the future's `result` raises what it raised.
        items: consumed only as far as needed.
        threads: how many calls run at once.
        most: bound on the calls that are running, or finished and not yet taken.
    """
    remaining = iter(items)
    pool = ThreadPoolExecutor(threads, "ahead")
    begun: deque[tuple[Item, Future[Result]]] = deque()
    try:
        while True:
            for item in islice(remaining, most - len(begun)):
                begun.append((item, pool.submit(work, item)))
            if not begun:
                return
            yield begun.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
