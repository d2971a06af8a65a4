"""The tars of a remote set: the block in use lies open in the cache, the next one is on its way.

One thread, the keeper, opens what has come of the block that is asked for and sends for what the
order wants next. Blocks are counted over all epochs; see `shards.read.blocks`.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ...base.errors import UserError
from ...stored.shardset import ShardSet
from ..blocks import Blocks
from ..local import allow_files, closed_early
from ..order import Order
from .client import Stopped, Store
from .folder import CacheFolder, CacheOptions, Crowd, Outcome

POLL_S = 0.05
"""How often a reader that waits looks for what other processes brought or released."""
IDLE_POLL_S = 1.0
AGAIN_S = 5.0
"""Pause after a shard that is not wanted yet could not be had."""
PATIENCE_S = 600.0
"""Longest wait for room that other readers take."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Demand:
    """Crops that wait for shards of one block."""

    block: int
    shards: frozenset[int]
    error: UserError | None = None


class CachedTars:
    """Lend the tars of a remote set, block by block, from a bounded folder.

    Args:
        shard_set: a set behind a URL.
        order: tells which shards will be read when.
        options: see there.

    Raises:
        UserError: the budget does not hold a block, or the folder cannot be used.
    """

    def __init__(self, shard_set: ShardSet, order: Order, options: CacheOptions) -> None:
        self.shard_set, self.options = shard_set, options
        self.blocks = Blocks(order, options.max_bytes)
        allow_files(2 * min(order.block_shards, len(shard_set.names)))
        self._folder = CacheFolder(shard_set, options)
        self._store = Store(
            shard_set,
            tries=options.tries,
            timeout_s=options.timeout_s,
            stopped=lambda: self._closed,
        )
        lock = threading.RLock()
        self._granted, self._work = threading.Condition(lock), threading.Condition(lock)
        self._files = np.full(len(shard_set.names), -1, np.int64)
        self._block = -1
        self._queue: list[_Demand] = []
        self._lent: Counter[int] = Counter()
        self._coming: dict[int, Future[Outcome]] = {}
        self._broken: BaseException | None = None
        self._closed = False
        self._crowd = Crowd()
        self._ahead_at = 0.0
        self._folder.trim(self.blocks.wanted_after(-1, 0))
        self._name = f"cache {id(self)}"
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix=self._name)
        self._keeper = threading.Thread(target=self._keep, name=self._name, daemon=True)

    def lane(self) -> "CacheLane":
        """Begin a sequence of batches."""
        return CacheLane(self)

    @contextmanager
    def lent(
        self, lane: "CacheLane", turn: int, last: bool, block: int, shards: np.ndarray
    ) -> Iterator[list[int]]:
        """Wait for the turn and the shards; lend a descriptor for each entry of `shards`."""
        with self._granted:
            self._granted.wait_for(lambda: lane.turn == turn or lane.stopped or self._closed)
            self._check(lane)
            if block != self._block or self._files[shards].min() < 0:
                self._wait(lane, _Demand(block, frozenset(shards.tolist())))
            self._lent[block] += 1
            if last:
                lane.turn += 1
                self._granted.notify_all()
            files = self._files[shards].tolist()
        try:
            yield files
        finally:
            with self._granted:
                self._lent -= Counter([block])  # which drops what nobody has
                if block not in self._lent and block != self._block:
                    self._drop()
                if self._closed:
                    self._granted.notify_all()

    def stop(self, lane: "CacheLane") -> None:
        """End the waiting of a lane's batches."""
        with self._granted:
            lane.stopped = True
            self._granted.notify_all()

    def close(self) -> None:
        """Close every file, as soon as what is being read is read."""
        with self._granted:
            self._closed = True
            self._granted.notify_all()
            self._work.notify_all()
            self._granted.wait_for(lambda: not self._lent and not self._queue)
        # The garbage collector may close a forgotten reader, and in any thread.
        ours = threading.current_thread().name.startswith(self._name)
        if self._keeper.is_alive() and not ours:
            self._keeper.join()
        self._pool.shutdown(wait=not ours, cancel_futures=True)
        self._drop(everything=True)
        self._folder.close()

    def _check(self, lane: "CacheLane") -> None:
        if self._closed or lane.stopped:
            raise closed_early()
        if self._broken:
            raise self._broken

    def _wait(self, lane: "CacheLane", demand: _Demand) -> None:
        """Wait until a demand's shards lie open; the keeper sees to the first in the queue."""
        if self._keeper.ident is None:
            self._keeper.start()
        shards = list(demand.shards)
        self._queue.append(demand)
        self._work.notify_all()
        try:
            while demand.block != self._block or self._files[shards].min() < 0:
                self._granted.wait(IDLE_POLL_S)
                self._check(lane)
                if demand.error:
                    raise demand.error
                if not self._keeper.is_alive():
                    raise RuntimeError("the thread that tends the cache has died")
        finally:
            self._queue.remove(demand)
            self._crowd = Crowd()
            self._granted.notify_all()
            self._work.notify_all()

    def _keep(self) -> None:
        with self._work:
            while not self._closed:
                demand = self._queue[0] if self._queue else None
                if demand and demand.block != self._block:
                    if self._block < 0:
                        self._announce(demand.block)
                    self._block = demand.block
                    self._drop()
                self._collect(demand)
                if demand and not self._crowd.resting():
                    self._hold()
                    self._granted.notify_all()
                self._send(demand)
                self._work.wait(POLL_S if demand else IDLE_POLL_S)

    def _announce(self, block: int) -> None:
        there, sizes = self._folder.present(), self.shard_set.tar_bytes
        wanted = self.blocks.shards(block)
        missing = [i for i in wanted if self.shard_set.names[i] not in there]
        order = self.blocks.order
        notes = f"; clips of {order.block_shards} shards are mixed" if order.n_blocks > 1 else ""
        if self.blocks.waits:
            notes += "; there is no room for the next block: each change of blocks is a wait"
        log.info(
            "%s through %s (at most %.1f GB): fetching %d of the first %d shards (%.2f GB)%s",
            self.shard_set.folder, self._folder.folder, self.options.max_bytes / 1e9,
            len(missing), len(wanted), sum(sizes[i] for i in missing) / 1e9, notes,
        )  # fmt: skip

    def _collect(self, demand: _Demand | None) -> None:
        """See what became of the shards that were sent for."""
        for shard in [shard for shard, future in self._coming.items() if future.done()]:
            future, urgent = self._coming.pop(shard), demand and shard in demand.shards
            error = future.exception()
            if isinstance(error, UserError):
                if demand and urgent:
                    demand.error = error
                else:
                    log.warning("not yet needed: %s", error)
                    self._ahead_at = time.monotonic() + AGAIN_S
            elif error and not isinstance(error, Stopped):
                self._broken = error
            elif not error and future.result() is Outcome.FULL:
                if demand and urgent and not self._coming:
                    self._make_way(demand)
                self._ahead_at = max(self._ahead_at, time.monotonic() + IDLE_POLL_S)

    def _make_way(self, demand: _Demand) -> None:
        """Release what others may be waiting for while they hold what we wait for."""
        if self._crowd.is_due():
            self._drop(everything=True)
        if self._crowd.waited_s() > PATIENCE_S:
            demand.error = UserError(
                f"{self._folder.root} is full of what other readers use, for {PATIENCE_S:.0f} s "
                f"now; give it more than {self.options.max_bytes} bytes, or this run its own folder"
            )

    def _send(self, demand: _Demand | None) -> None:
        """Send for the shards that are wanted first and are not there."""
        there, now = self._folder.present(), time.monotonic()
        urgent = [(shard, demand.block) for shard in sorted(demand.shards)] if demand else []
        ahead = self.blocks.ahead(self._block) if now >= self._ahead_at else iter(())
        for shard, block in chain(urgent, ahead):
            if len(self._coming) >= self.options.threads or self._crowd.resting():
                return
            if shard not in self._coming and self.shard_set.names[shard] not in there:
                try:
                    future = self._pool.submit(self._bring, shard, block)
                except RuntimeError:  # the interpreter ends, and nobody closed the reader
                    return
                self._coming[shard] = future
                future.add_done_callback(self._wake)

    def _bring(self, shard: int, block: int) -> Outcome:
        outcome = self._folder.bring(
            shard,
            expendable=lambda: self.blocks.wanted_after(block, self._block),
            fetch=lambda file: self._store.fetch(shard, file),
        )
        if outcome is not Outcome.HERE:
            time.sleep(POLL_S)
        return outcome

    def _wake(self, _: Future[Outcome]) -> None:
        with self._work:
            self._work.notify_all()

    def _hold(self) -> None:
        """Open what is there of the block in use, so that nobody removes it."""
        there = self._folder.present()
        for shard in self.blocks.shards(self._block):
            if self._files[shard] < 0 and self.shard_set.names[shard] in there:
                file = self._folder.open(shard)
                self._files[shard] = -1 if file is None else file

    def _drop(self, everything: bool = False) -> None:
        """Close what is neither lent nor of the block in use; or all that is not lent."""
        kept = np.zeros(len(self._files), bool)
        for block in (*self._lent, *(() if everything else (self._block,))):
            kept[self.blocks.shards(block)] = True
        for shard in np.flatnonzero((self._files >= 0) & ~kept):
            os.close(self._files[shard])
            self._files[shard] = -1


class CacheLane:
    """One sequence of batches; they ask in their order, so that no block is left and entered again.

    Args:
        tars: where the files come from.
    """

    def __init__(self, tars: CachedTars) -> None:
        self.tars, self.turn, self.stopped = tars, 0, False

    def lend(
        self, turn: int, epochs: np.ndarray, shards: np.ndarray
    ) -> Generator[tuple[slice, list[int]], None, None]:
        """Yield the crops of each block in a piece; see `shards.read.local.Lane.lend`."""
        done = False
        try:
            for part, block in self.tars.blocks.pieces(epochs, shards):
                last = part.stop == len(shards)
                with self.tars.lent(self, turn, last, block, shards[part]) as files:
                    done = last
                    yield part, files
        finally:
            if not done:
                self.stop()

    def stop(self) -> None:
        """End the waiting of this sequence's batches."""
        self.tars.stop(self)
