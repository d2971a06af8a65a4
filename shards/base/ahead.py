"""Work done in threads ahead of the caller that takes its results.

What reads, decodes or waits for a network lets go of Python's lock, so threads are enough to keep
disk and cores busy.
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
    """Choose how many threads read when nothing else needs the cores."""
    return min(MOST_THREADS, os.cpu_count() or 1)


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, most: int
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Do `work` on items in threads, and yield each item with its work, in order.

    A caller that stops early does not wait for what has not begun.

    Args:
        work: called once for each item; the future's `result` waits for it, or raises what it did.
        items: taken only as far as they are worked on.
        threads: how many work at once.
        most: how many items may be worked on, or done, before they are asked for.
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
