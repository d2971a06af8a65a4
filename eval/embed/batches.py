"""Items grouped by length, so that a batch needs no padding."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def buckets(
    items: Iterable[Item],
    length: Callable[[Item], int],
    most: Callable[[int], int],
    waiting_length: int,
) -> Iterator[list[tuple[int, Item]]]:
    """Number items from 0 and yield them in groups of equal length, each in the order given.

    A full group is yielded at once; while more than `waiting_length` waits, the oldest group is.

    Args:
        length: returns the length of an item, above 0.
        most: returns how many items of a length fill a group; at least 1.
        waiting_length: largest sum of lengths in groups that are not full.
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
