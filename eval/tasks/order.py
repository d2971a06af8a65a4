"""The order of a task's clips in heareval 2021.1.3, on which training batches depend."""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def embedding_order(splits: Mapping[str, Sequence[T]]) -> dict[str, tuple[T, ...]]:
    """Return the clips of each split in heareval's order; `splits` must be in the task's order."""
    shuffler = random.Random(0)
    ordered = {}
    for split, clips in splits.items():
        shuffled = list(clips)
        shuffler.shuffle(shuffled)
        ordered[split] = tuple(shuffled)
    return ordered
