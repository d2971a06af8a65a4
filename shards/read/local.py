"""The open tars of a set: all of a local one, a cached block of a remote one."""

import os
import resource
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from ..base.errors import UserError
from ..stored.shardset import ShardSet


class Lane(Protocol):
    """The files for one sequence of batches."""

    def lend(
        self, turn: int, epochs: np.ndarray, shards: np.ndarray
    ) -> Generator[tuple[slice, list[int]], None, None]:
        """Yield the crops of a batch in pieces: which they are, and a file descriptor for each.

        The descriptors are good until the next piece is asked for.

        Args:
            turn: number of the batch in its sequence, counted from 0.
            epochs: epoch of each crop, int64 [N].
            shards: shard of each crop, int64 [N].

        Raises:
            ValueError: the tars were closed.
        """

    def stop(self) -> None:
        """Nobody waits for a batch of this sequence any more."""


class Tars(Protocol):
    """The tars of a set."""

    def lane(self) -> Lane:
        """Begin a sequence of batches."""

    def close(self) -> None:
        """Close every file, as soon as what is being read is read."""


class LocalTars:
    """The tars of a local set, open from the begin to the end.

    Raises:
        UserError: a tar is missing or has another size than its sidecar says.
    """

    def __init__(self, shard_set: ShardSet) -> None:
        allow_files(len(shard_set.names))
        files: list[int] = []
        try:
            for name, size in zip(shard_set.names, shard_set.tar_bytes, strict=True):
                files.append(_open_tar(shard_set.folder / f"{name}.tar", size))
        except UserError:
            for file in files:
                os.close(file)
            raise
        self._files = np.array(files, np.int64)
        self._idle = threading.Condition()
        self._readers = 0

    def lane(self) -> Self:
        """Return these files: they serve any number of sequences."""
        return self

    def stop(self) -> None:
        """Do nothing: nobody waits here."""

    def lend(
        self, turn: int, epochs: np.ndarray, shards: np.ndarray
    ) -> Generator[tuple[slice, list[int]], None, None]:
        """Yield all crops in one piece; see `Lane.lend`."""
        with self._idle:
            if not len(self._files):
                raise closed_early()
            self._readers += 1
        try:
            yield slice(None), self._files[shards].tolist()
        finally:
            with self._idle:
                self._readers -= 1
                if not self._readers:
                    self._idle.notify_all()

    def close(self) -> None:
        """Close every file, as soon as what is being read is read."""
        with self._idle:
            files, self._files = self._files, np.empty(0, np.int64)
            self._idle.wait_for(lambda: not self._readers)
        for file in files.tolist():
            os.close(file)


def closed_early() -> ValueError:
    """Return what a batch of a closed reader raises."""
    return ValueError("the reader was closed while its batches were read")


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
