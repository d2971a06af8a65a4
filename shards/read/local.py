"""The tars of a local set, and reads that use the page cache."""

import os
import resource
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import repeat

import numpy as np

from ..base.errors import UserError
from ..stored.shardset import ShardSet
from .order import Crops

MAY_ANNOUNCE = hasattr(os, "posix_fadvise")
"""Whether the kernel can be told what will be read; not on macOS."""


class LocalTars:
    """The open tars of a local set; raises UserError if one is missing or has the wrong size."""

    def __init__(self, shard_set: ShardSet) -> None:
        allow_files(len(shard_set.names))
        files = []
        with ExitStack() as stack:
            for shard in range(len(shard_set.names)):
                files.append(open_tar(shard_set, shard))
                stack.callback(os.close, files[-1])
                read_at_random(files[-1])
            self._opened = stack.pop_all()
        self._files = np.array(files)

    def opened(self, crops: Crops) -> list[int]:
        """Return a file descriptor for each crop; ValueError if the tars are closed."""
        if not len(self._files):
            raise closed_early()
        return self._files[crops.shards].tolist()

    def borrow(self, crops: Crops) -> Iterator[tuple[slice, list[int]]]:
        """Yield slices of the crops, once their tars are open, and a file descriptor for each crop.

        The descriptors are valid until the next slice is requested.
        """
        yield slice(None), self.opened(crops)

    def close(self) -> None:
        """Close every file; the reading thread must have ended."""
        self._files = np.empty(0, np.int64)
        self._opened.close()


def closed_early() -> ValueError:
    """Return the error for a request of a batch that will never be read."""
    return ValueError(
        "the reader was closed while its batches were read, or has begun to read from another step"
    )


def allow_files(wanted: int) -> None:
    """Raise the limit of open files if `wanted` tars need it; UserError if that is forbidden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + len(os.listdir("/dev/fd")) + 512
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UserError(
            f"{wanted} shards must be open, but this system allows {hard} open files; "
            f"raise it (`ulimit -Hn {needed}`) or ingest with a larger --shard-clips"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def open_tar(shard_set: ShardSet, shard: int) -> int:
    """Return a file descriptor; UserError if the tar is missing or has the wrong size."""
    path = shard_set.folder / f"{shard_set.names[shard]}.tar"
    size = shard_set.tar_bytes[shard]
    advice = f"run `abt shards verify {path.parent}`"
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {advice}") from error
    if (found := os.fstat(file).st_size) != size:
        os.close(file)
        raise UserError(f"{path} has {found} bytes, written were {size}; {advice}")
    return file


def read_at_random(file: int) -> None:
    """Tell the kernel not to read ahead."""
    if MAY_ANNOUNCE:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)


def announce(files: Sequence[int], offsets: Sequence[int], size: int) -> None:
    """Ask the kernel to prefetch `size` bytes at each offset of its file descriptor."""
    if MAY_ANNOUNCE:
        advice = repeat(os.POSIX_FADV_WILLNEED)
        deque(map(os.posix_fadvise, files, offsets, repeat(size), advice), maxlen=0)


def read_cached(
    files: Sequence[int], rows: Sequence[list[memoryview]], offsets: Sequence[int]
) -> int:
    """Fill `rows` from the page cache; return the number of bytes, or -1 if some are not cached.

    Cached crops cost one call; without this, each would be announced and then read.
    """
    if not hasattr(os, "RWF_NOWAIT"):  # not on macOS
        return -1
    try:
        return sum(map(os.preadv, files, rows, offsets, repeat(os.RWF_NOWAIT)))
    except OSError:  # it would block, or is not supported; a plain read reports any other error
        return -1
