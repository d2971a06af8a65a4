"""Run work in threads, ahead of the caller that takes the results.

Reading, decoding and waiting for a network release Python's global lock, so threads are enough.
"""

import atexit
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Any, Generic, NamedTuple, Self, TypeVar

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


class Background(Generic[Item]):
    """Iterate over `items` in one thread, ahead of the caller; iteration starts it.

    What `items` raises is raised in place of the item, and ends the iteration.

    Args:
        most: bound on the items that are being made, or made and not yet taken, while the caller
            waits for one; all but one of them while it works.
    """

    def __init__(self, items: Generator[Item], most: int, name: str) -> None:
        self._items, self._most, self._closed = items, most, False
        self._room: SimpleQueue[None] = SimpleQueue()
        self._made: SimpleQueue[Item | _Raised] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        if self._closed:
            raise StopIteration
        if self._thread.ident is None:
            self._start()
        self._room.put(None)
        item = self._made.get()
        if isinstance(item, _Raised):
            self.close()
            raise item.error
        return item

    def _start(self) -> None:
        for _ in range(self._most - 1):
            self._room.put(None)
        atexit.register(self.close)  # or the interpreter would end with the thread at work
        self._thread.start()

    def _work(self) -> None:
        with ExitStack() as stack:
            stack.push(self._pass_on)
            stack.callback(self._items.close)
            while not (self._room.get() or self._closed):
                self._made.put(next(self._items))

    def _pass_on(self, _: Any, error: BaseException | None, *__: Any) -> bool:
        """Let the caller raise what ended the iteration, and not the thread."""
        self._made.put(_Raised(error or StopIteration()))
        return True

    def close(self) -> None:
        """End the iteration after the item that is being made; whoever waits for one is told."""
        self._closed = True
        atexit.unregister(self.close)
        self._room.put(None)
        if self._thread.ident and self._thread is not current_thread():
            self._thread.join()


class _Raised(NamedTuple):
    error: BaseException
