"""Which shards an order will want when: blocks of shards, counted over all epochs."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import count, pairwise

import numpy as np

from ..base.errors import UserError
from .order import Order


class Blocks:
    """What the order says about the future of each shard; shards without clips have none.

    Args:
        order: the sequence of the clips.
        max_bytes: how much is kept of what is read.

    Raises:
        UserError: the largest block is larger than that.
    """

    def __init__(self, order: Order, max_bytes: int) -> None:
        self.order, self.max_bytes = order, max_bytes
        self._filled = np.diff(order.shard_set.first) > 0
        self._sizes = np.array(order.shard_set.tar_bytes, np.int64) * self._filled
        self._epoch = lru_cache(maxsize=8)(order.blocks)
        self.shards = lru_cache(maxsize=64)(self._shards)
        self.waits = False
        """Whether the cache has no room for the next block beside the one in use."""
        self._require_room()

    def pieces(self, epochs: np.ndarray, shards: np.ndarray) -> Iterator[tuple[slice, int]]:
        """Cut a batch where one block ends and another begins.

        Args:
            epochs: epoch of each crop, in the order of reading, int64 [N].
            shards: shard of each crop, int64 [N].

        Yields:
            crops, and the block that they are read in.
        """
        blocks = epochs * self.order.n_blocks
        if self.order.n_blocks > 1:
            for epoch in np.unique(epochs).tolist():
                chosen = epochs == epoch
                blocks[chosen] += self._epoch(epoch)[shards[chosen]]
        edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(blocks)]
        for begin, end in pairwise(edges):
            yield slice(begin, end), int(blocks[begin])

    def _shards(self, block: int) -> list[int]:
        """Return the shards of a block."""
        epoch, inside = divmod(block, self.order.n_blocks)
        return np.flatnonzero((self._epoch(epoch) == inside) & self._filled).tolist()

    def ahead(self, block: int) -> Iterator[tuple[int, int]]:
        """Yield shards and the block that wants each next, from `block` on, as many as fit."""
        seen: set[int] = set()
        room, wanted = self.max_bytes, int(self._filled.sum())
        for following in count(block):
            for shard in self.shards(following):
                if shard in seen:
                    continue
                seen.add(shard)
                room -= int(self._sizes[shard])
                if room < 0:
                    return
                yield shard, following
            if len(seen) == wanted:
                return

    def wanted_after(self, block: int, now: int) -> list[int]:
        """Return the shards that are not wanted from block `now` to `block`, the last one first."""
        epoch, inside = divmod(now, self.order.n_blocks)
        this, following = self._epoch(epoch), self._epoch(epoch + 1)
        uses = np.where(this >= inside, this, following + self.order.n_blocks)
        uses += epoch * self.order.n_blocks
        latest = np.argsort(-uses, kind="stable")
        return latest[uses[latest] > block].tolist()

    def _require_room(self) -> None:
        sizes = np.cumsum(np.sort(self._sizes)[::-1])  # no block is larger than the largest shards
        mixed = min(self.order.block_shards, len(sizes))
        needed = int(sizes[mixed - 1])
        self.waits = self.order.n_blocks > 1 and self.max_bytes < min(2 * needed, int(sizes[-1]))
        if needed <= self.max_bytes:
            return
        fitting = int(np.searchsorted(sizes, self.max_bytes // 2, side="right"))
        fitting = fitting or int(self.max_bytes >= sizes[0])
        other = f", or mix fewer shards: block_shards={fitting}, another order" if fitting else ""
        which = f"all {mixed} shards" if mixed == len(sizes) else f"blocks of {mixed} shards"
        raise UserError(
            f"a cache of {self.max_bytes} bytes is too small for {self.order.shard_set.folder}, "
            f"whose order mixes {which}: give it at least max_bytes={needed}{other}"
        )
