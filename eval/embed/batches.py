"""Items grouped by length, so that none is padded to another's."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


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
