"""Work done in threads ahead of whoever takes its results, and items grouped by length.

libsndfile and soxr let go of Python's lock, so threads are enough to keep disk and cores busy.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
) -> Iterator[tuple[Item, Future[Result]]]:
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


def buckets(
    items: Iterable[Item],
    length: Callable[[Item], int],
    most: Callable[[int], int],
    waiting_length: int,
) -> Iterator[list[tuple[int, Item]]]:
    """Number items from 0 and group those of equal length.

    A group is yielded when it is full, or when too much waits and it has waited longest.

    Args:
        items: in any order; a group keeps it.
        length: of an item, above 0.
        most: how many items of a length fill a group; at least 1.
        waiting_length: how much may wait for others of its length, as a sum of lengths.
    """
    waiting: dict[int, list[tuple[int, Item]]] = {}
    total = 0
    for i, item in enumerate(items):
        size = length(item)
        waiting.setdefault(size, []).append((i, item))
        total += size
        due = [size] if len(waiting[size]) >= most(size) else []
        while due or total > waiting_length:
            chosen = due.pop() if due else next(iter(waiting))
            total -= chosen * len(waiting[chosen])
            yield waiting.pop(chosen)
    yield from waiting.values()
