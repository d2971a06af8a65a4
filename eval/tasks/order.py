"""The order in which heareval 2021.1.3 lines up the clips of a task; batches depend on it."""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def embedding_order(splits: Mapping[str, Sequence[T]]) -> dict[str, tuple[T, ...]]:
    """Put the clips of each split in heareval's order; `splits` are in the task's order."""
    shuffler = random.Random(0)
    ordered = {}
    for split, clips in splits.items():
        shuffled = list(clips)
        shuffler.shuffle(shuffled)
        ordered[split] = tuple(shuffled)
    return ordered
