"""A bounded folder of whole shards, shared by every process of a machine.

The file locks are the whole state: who reads a tar holds a shared lock on it, who fetches one an
exclusive lock on its scratch file, and the kernel frees both when a process dies. One more lock, on
the folder, makes "count, make room, reserve" one step. A scratch file has its final size from its
first moment, so what is on its way counts.
"""

import errno
import fcntl
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from ...base.errors import UserError
from ...base.files import replacing
from ...stored.shardset import ShardSet
from ..local import read_at_random

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where and how the shards of a remote set are kept; a local set needs none of it."""

    folder: Path | None = None
    """Where they are kept between runs; default: audio-barlow-twins in the user's cache folder."""
    max_bytes: int = 64 * 10**9
    """Most that the folder holds, shards on their way included; it keeps other sets if it can."""
    threads: int = 8
    """Shards that are fetched at the same time."""
    tries: int = 5
    """How often a request is made before it is reported."""
    timeout_s: float = 30
    """Longest wait for the answer to one request (at most 8 MiB), s."""

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.threads, self.tries) < 1 or self.timeout_s <= 0:
            raise UserError(
                f"cache: max_bytes {self.max_bytes}, threads {self.threads} and tries {self.tries} "
                f"must be 1 or more, timeout_s {self.timeout_s} above 0"
            )


class Outcome(Enum):
    """What became of the wish for a shard."""

    HERE = "it is in the folder"
    BUSY = "another process is fetching it"
    FULL = "there is no room that may be cleared"


class CacheFolder:
    """The tars of one set in a folder that may hold other sets too.

    Raises:
        UserError: the folder cannot be made or written.
    """

    def __init__(self, shard_set: ShardSet, options: CacheOptions) -> None:
        self.shard_set, self.max_bytes = shard_set, options.max_bytes
        self.root = options.folder or _default_root()
        self.folder = self.root / shard_set.fingerprint
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.root / ".lock").touch()
            self._used = os.open(self.folder / ".used", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be used as a cache ({error.strerror}); name another folder"
            ) from error
        fcntl.flock(self._used, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let other sets have the room of this one."""
        os.close(self._used)

    def present(self) -> set[str]:
        """List the shards that are there, by name."""
        return {name.removesuffix(".tar") for name in os.listdir(self.folder)}

    def open(self, shard: int) -> int | None:
        """Open a shard's tar, so that nobody removes it until it is closed; None if it is away."""
        path = self._path(shard)
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        status = os.fstat(file)
        if _lock(file, fcntl.LOCK_SH) and os.fstat(file).st_nlink:
            if status.st_size == self.shard_set.tar_bytes[shard]:
                read_at_random(file)
                return file
            log.warning("%s has %d bytes, it is fetched again", path, status.st_size)
            path.unlink(missing_ok=True)
        os.close(file)
        return None

    def bring(
        self,
        shard: int,
        expendable: Callable[[], Sequence[int]],
        fetch: Callable[[BinaryIO], None],
    ) -> Outcome:
        """Have a shard's tar in the folder, complete and checked.

        Args:
            shard: its number.
            expendable: returns the shards that may go for it, the least needed first.
            fetch: writes the tar.

        Raises:
            UserError: the disk is full, or what `fetch` raises.
        """
        path, size = self._path(shard), self.shard_set.tar_bytes[shard]
        with ExitStack() as locked, ExitStack() as stack:
            with self._alone():
                if self._is_coming(path):
                    return Outcome.BUSY
                if path.exists():
                    return Outcome.HERE
                if not self._make_room(size, expendable()):
                    return Outcome.FULL
                scratch = stack.enter_context(replacing(path))
                file = stack.enter_context(scratch.open("xb+"))
                # The same lock by another descriptor: it must hold until the file has its name.
                locked.callback(os.close, lock := os.dup(file.fileno()))
                fcntl.flock(lock, fcntl.LOCK_EX)
                file.truncate(size)
            _reserve(file, scratch)
            fetch(file)
            os.fsync(lock)
            with self._alone():  # who counts sees the scratch file or the tar, not both or none
                stack.close()
        return Outcome.HERE

    def trim(self, expendable: Sequence[int]) -> None:
        """Remove what an earlier run with a larger budget left."""
        with self._alone():
            self._make_room(0, expendable)

    def _make_room(self, size: int, expendable: Sequence[int]) -> bool:
        """Remove dead scratch files, idle sets, then `expendable` shards until `size` bytes fit."""
        sizes: dict[Path, int] = {}
        for path in self.root.glob("*/*shard-*.t[am][rp]"):
            with suppress(FileNotFoundError):  # a transfer that failed meanwhile
                if not (path.suffix == ".tmp" and _remove_unlocked(path)):
                    sizes[path] = path.stat().st_size
        excess = sum(sizes.values()) + size - self.max_bytes
        others = (path for path in sizes if path.suffix == ".tar" and path.parent != self.folder)
        for path in (*filter(_is_idle, others), *map(self._path, expendable)):
            if excess <= 0:
                break
            if path in sizes and _remove_unlocked(path):
                excess -= sizes[path]
        return excess <= 0

    def _path(self, shard: int) -> Path:
        return self.folder / f"{self.shard_set.names[shard]}.tar"

    def _is_coming(self, path: Path) -> bool:
        scratch = self.folder.glob(f".{path.name}.*.tmp")
        return not all(_remove_unlocked(path) for path in scratch)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads and processes from counting and making room."""
        lock = os.open(self.root / ".lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


class Crowd:
    """How long there has been no room, and when to release everything for a moment.

    Two readers that hold half of what they want, each waiting for the other, would wait forever;
    random times let one of them go first.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._due = self._rested = 0.0

    def waited_s(self) -> float:
        """Return for how long there has been no room."""
        return time.monotonic() - self._since

    def resting(self) -> bool:
        """Tell whether others go first now."""
        return time.monotonic() < self._rested

    def is_due(self) -> bool:
        """Note that there is no room; tell whether it is time to release everything."""
        now = time.monotonic()
        if not self._since:
            self._since, self._due = now, now + random.uniform(0.5, 1.5)
        if now < self._due:
            return False
        self._rested = now + random.uniform(0.2, 1.0)
        self._due = self._rested + random.uniform(0.5, 1.5)
        return True


def _default_root() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "audio-barlow-twins" / "shards"


def _is_idle(path: Path) -> bool:
    """Tell whether no process reads the set that a cached tar belongs to."""
    file = os.open(path.with_name(".used"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        return _lock(file, fcntl.LOCK_EX)
    finally:
        os.close(file)


def _remove_unlocked(path: Path) -> bool:
    """Remove a file that no living process uses; tell whether it is gone."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        if _lock(file, fcntl.LOCK_EX):
            path.unlink()
            return True
        return False
    finally:
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    """Take a lock on an open file if it is free."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reserve(file: BinaryIO, scratch: Path) -> None:
    """Have the disk set its blocks aside, so that a full one is known before the transfer."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # this file system cannot
            return
        raise OSError(error.errno, error.strerror, str(scratch)) from error
