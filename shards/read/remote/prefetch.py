"""The tars of a remote set: those of the current block are open, the next ones are fetched.

A shard is in one of four states. Each is a file and a lock of the kernel, so all ranks of a run see
the same state, and a process that dies leaves none behind:

    REMOTE      no file
      |  reserve: it is needed before all others that are missing, and there is room for it, if
      |  need be after CACHED shards that are needed later were evicted (REMOTE)
      v
    FETCHING    a scratch file of the final size, locked by its prefetch thread
      |  commit: it is complete and every checksum matches; on an error, or if the process dies,
      |  it is REMOTE again
      v
    CACHED      a tar
      |  ^  open: a batch is read from it; close: its block is done, or the reader waits for
      v  |  another shard: it then pins nothing, so that another rank can use the room
    IN USE      a tar with a shared lock

All ranks fetch and evict by one list of what is needed when, which begins at the block of the
slowest rank. What this rank needs next is never evicted, so it always makes progress, and then the
others do.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

from ...base.errors import UserError
from ..local import allow_files, closed_early
from ..order import Crops, Order, ShardRequest, require_room, shard_requests
from .client import Stopped, StoreClient
from .folder import CacheFolder, CacheOptions

THREADS = 8
POLL_S = 0.05
"""How often a waiting reader checks what other processes fetched or released."""
WARN_S = 60.0
"""How often a waiting reader logs that it waits."""

log = logging.getLogger(__name__)


class CachedTars:
    """The tars of a remote set, fetched block by block into a bounded folder.

    Args:
        run: see `CacheFolder`; "" stands for all runs in this order.
        stop: ends a wait for shards when it is set.

    Raises:
        UserError: the cache is too small for a block, or the folder cannot be used.
    """

    def __init__(
        self, order: Order, options: CacheOptions, run: str, stop: threading.Event
    ) -> None:
        self.shard_set, self.order, self._stop = order.shard_set, order, stop
        roomy = require_room(order, options.max_bytes)
        allow_files(min(order.block_shards, len(self.shard_set.names)))
        run = f"{self.shard_set.fingerprint} {order.seed} {order.block_shards} {run}"
        if sum(self.shard_set.tar_bytes) <= options.max_bytes:
            run = self.shard_set.fingerprint  # every run needs all of it, and nothing is evicted
        self._closed = threading.Event()
        self._client = StoreClient(self.shard_set, self._closed)
        self._folder = CacheFolder(self.shard_set, options, run)
        self._folder.trim(shard_requests(order, 0))
        log.info(
            "%s through %s (at most %.1f GB), %d of %d shards at a time%s",
            self.shard_set.folder, self._folder.root, options.max_bytes / 1e9, order.block_shards,
            len(self.shard_set.names), "" if roomy else "; there is no room to fetch the next ones",
        )  # fmt: skip
        self._files = np.full(len(self.shard_set.names), -1)
        self._block = -1
        self._changed = threading.Condition(threading.RLock())
        self._coming: set[Future[bool]] = set()
        self._wanted: set[int] = set()
        """Shards that the reader waits for."""
        self._failed: set[int] = set()
        """Shards whose fetch failed; the next block, or a reader that waits, retries them."""
        self._error: BaseException | None = None
        self._name = f"prefetch {id(self)}"
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=self._name)

    def opened(self, crops: Crops) -> list[int] | None:
        """Return a file descriptor for each crop, or None if not all tars are open."""
        files = self._files[crops.shards]
        return None if files.min() < 0 else files.tolist()

    def borrow(self, crops: Crops) -> Iterator[tuple[slice, list[int]]]:
        """Yield the crops of each block, once all its tars are open; see `LocalTars.borrow`."""
        if self._closed.is_set():
            raise closed_early()
        for block, rows in self.order.by_block(crops):
            part = crops.part(rows)
            if self._block != block:
                self._enter(block, set(part.shards.tolist()))
            if (files := self.opened(part)) is None:
                self._wait_for(set(part.shards.tolist()))
                files = self._files[part.shards].tolist()
            yield rows, files

    def close(self) -> None:
        """Close every file and cancel all transfers."""
        self._closed.set()
        # The garbage collector may close a forgotten reader in any thread.
        ours = threading.current_thread().name.startswith(self._name)
        self._pool.shutdown(wait=not ours, cancel_futures=True)
        self._release()
        self._folder.close()

    def _enter(self, block: int, first: set[int]) -> None:
        self._release()
        self._folder.enter(block)
        self._block, self._failed, self._wanted = block, set(), first
        self._prefetch()

    def _wait_for(self, shards: set[int]) -> None:
        """Wait until some shards of the block are open; they are fetched before all others."""
        warn_at = time.monotonic() + WARN_S
        with self._changed:
            self._wanted, self._error = shards, None
            while not self._open(shards):
                self._prefetch()
                self._changed.wait(POLL_S)
                if self._closed.is_set() or self._stop.is_set():
                    raise closed_early()
                if self._error:
                    raise self._error
                if time.monotonic() > warn_at:
                    warn_at += WARN_S
                    log.warning(
                        "still waiting for %d shards of %s; another reader of this run may need "
                        "the room in %s", len(shards), self.shard_set.folder, self._folder.root,
                    )  # fmt: skip
            self._wanted = set()

    def _open(self, shards: set[int]) -> bool:
        """Open all of some tars, or close every one; tell which."""
        for shard in shards:
            if self._files[shard] < 0:
                if (file := self._folder.open(shard)) is None:
                    self._release()
                    return False
                self._files[shard] = file
        return True

    def _release(self) -> None:
        """Close every tar, so that it may be evicted."""
        for file in self._files[self._files >= 0].tolist():
            os.close(file)
        self._files[:] = -1

    def _prefetch(self) -> None:
        """Start a transfer; it starts the next one while there is something to fetch."""
        with self._changed:
            if len(self._coming) >= THREADS or self._closed.is_set():
                return
            try:
                bring = self._folder.bring
                future = self._pool.submit(bring, self._wanted, self._requests, self._fetch)
            except RuntimeError:  # the interpreter exits with the reader still open
                self._closed.set()
                return
            self._coming.add(future)
            future.add_done_callback(self._arrived)

    def _requests(self, block: int) -> list[ShardRequest]:
        requests = shard_requests(self.order, block)
        return [r for r in requests if r.shard not in self._failed or r.shard in self._wanted]

    def _fetch(self, shard: int, file: BinaryIO) -> None:
        self._prefetch()
        try:
            self._client.fetch(shard, file)
        except UserError as error:
            if shard in self._wanted:
                raise
            log.warning("not yet needed: %s", error)
            self._failed.add(shard)
            raise Stopped from error

    def _arrived(self, future: Future[bool]) -> None:
        with self._changed:
            self._coming.discard(future)
            if not future.cancelled():
                error = future.exception()
                if isinstance(error, Stopped) or (not error and future.result()):
                    self._prefetch()
                elif error:
                    self._error = error
            self._changed.notify_all()
