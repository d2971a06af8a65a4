"""Storage of high latency, simulated in this process: reads of files wait as a network's would.

What has arrived stays in memory. A request takes `latency_s` on one of `depth` channels, whether it
came from a read, which waits for it, or from `posix_fadvise`, which does not.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heapify, heapreplace
from unittest.mock import patch


class SlowStorage:
    """The state of the storage: what is in memory, and what is on its way.

    Args:
        depth: requests that are served at a time.
        heeds: whether `posix_fadvise` has an effect.
    """

    def __init__(self, latency_s: float, depth: int, heeds: bool = True) -> None:
        self.latency_s, self.heeds = latency_s, heeds
        self.requests, self.keeps = 0, True
        self._free_at = [0.0] * depth
        heapify(self._free_at)
        self._here_at: dict[tuple[int, int], float] = {}
        self._whole: set[int] = set()
        self._lock = threading.Lock()
        self._preadv, self._readv, self._pread = os.preadv, os.readv, os.pread

    def request(self, file: int, offset: int) -> float:
        """Return when what lies at an offset is in memory; requested now, unless it was before."""
        with self._lock:
            if _identity(file) in self._whole:
                return 0.0
            place, now = (_identity(file), offset), time.perf_counter()
            if place not in self._here_at:
                self.requests += 1
                self._here_at[place] = max(now, self._free_at[0]) + self.latency_s
                heapreplace(self._free_at, self._here_at[place])
            return self._here_at[place]

    def preadv(self, file: int, rows: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            with self._lock:
                identity = _identity(file)
                here = self._here_at.get((identity, offset), time.perf_counter() + 1)
                if here > time.perf_counter() and identity not in self._whole:
                    raise BlockingIOError
        else:
            _sleep_until(self.request(file, offset))
        return self._preadv(file, rows, offset)

    def pread(self, file: int, size: int, offset: int) -> bytes:
        _sleep_until(self.request(file, offset))
        return self._pread(file, size, offset)

    def posix_fadvise(self, file: int, offset: int, size: int, advice: int) -> None:
        if advice == os.POSIX_FADV_WILLNEED and self.heeds:
            self.request(file, offset)

    def readv(self, file: int, rows: list[bytearray]) -> int:
        """Read in order, at the speed of the disk below; and then all of the file is in memory."""
        size = self._readv(file, rows)
        if self.keeps:
            with self._lock:
                self._whole.add(_identity(file))
        return size


@contextmanager
def slow_storage(latency_s: float, depth: int, heeds: bool = True) -> Iterator[SlowStorage]:
    """Replace the calls by which shards are read."""
    storage = SlowStorage(latency_s, depth, heeds)
    calls = {name: getattr(storage, name) for name in ("preadv", "pread", "posix_fadvise", "readv")}
    with patch.multiple(os, **calls):
        yield storage


def _identity(file: int) -> int:
    return os.fstat(file).st_ino


def _sleep_until(moment: float) -> None:
    if (wait := moment - time.perf_counter()) > 0:
        time.sleep(wait)
