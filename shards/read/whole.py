"""Whole shards of a local set, read in order into the page cache before their crops are needed."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..stored.shardset import ShardSet
from .local import LocalTars, closed_early, open_tar
from .order import Crops, Order

PIECE_BYTES = 1 << 20


class WholeShards:
    """A local set's tars, of which a thread reads one block ahead of the one that is used.

    For storage that is slow at random, or cannot be told what will be needed. Memory must hold two
    blocks beside all else; what it lost by then is read again, crop by crop.

    Args:
        stop: ends a wait for a block when it is set.
    """

    def __init__(self, tars: LocalTars, order: Order, stop: threading.Event) -> None:
        self._tars, self._order, self._stop = tars, order, stop
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="crops in order")
        self._begun: int | None = None
        """The last block whose reading was begun."""
        self._coming: deque[tuple[int, Future[None]]] = deque()
        """Blocks that are being read, or were and nobody has asked since."""

    def opened(self, crops: Crops) -> list[int] | None:
        """Return a file descriptor for each crop, or None if some are not in memory yet."""
        if all(self._bring(block) for block, _ in self._order.by_block(crops)):
            return self._tars.opened(crops)
        return None

    def borrow(self, crops: Crops) -> Iterator[tuple[slice, list[int]]]:
        """Yield the crops of each block, once its shards were read; see `LocalTars.borrow`."""
        for block, rows in self._order.by_block(crops):
            self._bring(block, wait=True)
            yield rows, self._tars.opened(crops.part(rows))

    def close(self) -> None:
        """End the thread; `stop` must be set, or it first reads to the end of a block."""
        self._pool.shutdown(cancel_futures=True)

    def _bring(self, block: int, wait: bool = False) -> bool:
        """Begin to read a block and the next one, unless that was done; tell if this one is read.

        Raises:
            UserError: a tar is missing or has the wrong size.
        """
        begin = block if self._begun is None else self._begun + 1
        for number in range(begin, block + 2):
            self._coming.append((number, self._pool.submit(self._read, number)))
            self._begun = number
        while self._coming and self._coming[0][0] <= block:
            if not (wait or self._coming[0][1].done()):
                return False
            self._coming.popleft()[1].result()
        return True

    def _read(self, block: int) -> None:
        epoch, inside = divmod(block, self._order.n_blocks)
        for shard in np.flatnonzero(self._order.blocks(epoch) == inside).tolist():
            for _ in read_in_order(self._order.shard_set, shard):
                if self._stop.is_set():
                    raise closed_early()


def read_in_order(shard_set: ShardSet, shard: int) -> Iterator[int]:
    """Read a shard's tar from begin to end into the page cache; yield the size of each piece."""
    file = open_tar(shard_set, shard)
    try:
        piece = bytearray(PIECE_BYTES)
        while size := os.readv(file, [piece]):
            yield size
    finally:
        os.close(file)
