"""The tars of a local set, and how a file is read that may lie in memory or not."""

import os
import resource
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import numpy as np

from ..base.errors import UserError
from ..stored.shardset import ShardSet
from .order import Crops


class LocalTars:
    """The tars of a local set, all of them open; one thread reads, crop after crop.

    Raises:
        UserError: a tar is missing or has another size than its sidecar says.
    """

    def __init__(self, shard_set: ShardSet) -> None:
        allow_files(len(shard_set.names))
        files = []
        with ExitStack() as stack:
            for name, size in zip(shard_set.names, shard_set.tar_bytes, strict=True):
                files.append(_open_tar(shard_set.folder / f"{name}.tar", size))
                stack.callback(os.close, files[-1])
            self._opened = stack.pop_all()
        self._files = np.array(files)

    def opened(self, crops: Crops) -> list[int]:
        """Return a file descriptor for each crop.

        Raises:
            ValueError: the tars were closed.
        """
        if not len(self._files):
            raise closed_early()
        return self._files[crops.shards].tolist()

    def borrow(self, crops: Crops) -> Iterator[tuple[slice, list[int]]]:
        """Yield crops in parts, each once its tars are open, and a file descriptor for each crop.

        The descriptors are valid until the next part is asked for.

        Raises:
            ValueError: the tars were closed.
        """
        yield slice(None), self.opened(crops)

    def close(self) -> None:
        """Close every file; the thread that reads has ended."""
        self._files = np.empty(0, np.int64)
        self._opened.close()


def closed_early() -> ValueError:
    """Return what is raised where a batch is asked for that will never be read."""
    return ValueError(
        "the reader was closed while its batches were read, or has begun to read from another step"
    )


def allow_files(wanted: int) -> None:
    """Raise this process's limit of open files if that many tars need it.

    Raises:
        UserError: the system does not allow it.
    """
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


def _open_tar(path: Path, size: int) -> int:
    advice = f"run `abt shards verify {path.parent}`"
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {advice}") from error
    if (found := os.fstat(file).st_size) != size:
        os.close(file)
        raise UserError(f"{path} has {found} bytes, written were {size}; {advice}")
    read_at_random(file)
    return file


def read_at_random(file: int) -> None:
    """Tell the kernel not to read ahead."""
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)


def announce(files: Sequence[int], offsets: Sequence[int], size: int) -> None:
    """Tell the kernel which `size` bytes of each file are read next, so that it fetches them all.

    Args:
        files: descriptors; a file may come several times.
        offsets: first byte, for each of `files`.
        size: bytes of each piece.
    """
    if hasattr(os, "posix_fadvise"):  # not on macOS
        advice = repeat(os.POSIX_FADV_WILLNEED)
        deque(map(os.posix_fadvise, files, offsets, repeat(size), advice), maxlen=0)


def read_cached(
    files: Sequence[int], rows: Sequence[list[memoryview]], offsets: Sequence[int]
) -> int:
    """Fill `rows` from what the system holds in memory; return the bytes, -1 if some are not there.

    What is warm costs one call; without it each crop would be announced and read.
    """
    if not hasattr(os, "RWF_NOWAIT"):  # not on macOS
        return -1
    try:
        return sum(map(os.preadv, files, rows, offsets, repeat(os.RWF_NOWAIT)))
    except OSError:  # it would wait, or the file system cannot tell; the plain read says what else
        return -1
