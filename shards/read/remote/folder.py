"""A bounded cache folder of whole shards, shared by the processes of one run.

The file locks are the whole state: a reader of a tar holds a shared lock on it, a fetch an
exclusive lock on its scratch file, a process in a block a shared lock on a file of that number, and
the kernel releases all of them when a process dies. One more lock, on the folder, makes "count,
make room, reserve" one step. A scratch file has its final size from its first moment, so shards
that are being fetched count.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

from ...base.errors import UserError
from ...base.files import replacing
from ...stored.shardset import ShardSet
from ..local import read_at_random
from ..order import ShardRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where the shards of a remote set are cached; local sets need no cache."""

    folder: Path | None = None
    """The cache, kept between runs; default: audio-barlow-twins in the user's cache folder. A
    second run at the same time uses its own beside it, FOLDER-2."""
    max_bytes: int = 64 * 10**9
    """Largest size of the folder, bytes, with shards on their way; other sets stay if they fit."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise UserError(f"cache: max_bytes is {self.max_bytes}, but must be 1 or more")


class CacheFolder:
    """The tars of one set in a folder that may hold other sets too.

    Args:
        options: the folder; if another run uses it, the next free one of FOLDER-2, FOLDER-3, ...
        run: a name that all processes of a run share, and no other run; they share the folder.

    Raises:
        UserError: the folder cannot be made or written.
    """

    def __init__(self, shard_set: ShardSet, options: CacheOptions, run: str) -> None:
        self.shard_set, self.max_bytes = shard_set, options.max_bytes
        first = options.folder or _default_root()
        self.root, self._in_block = first, ExitStack()
        try:
            for number in count(2):
                self.folder = self.root / shard_set.fingerprint
                self.folder.mkdir(parents=True, exist_ok=True)
                if self._claim(run):
                    break
                self.root = first.with_name(f"{first.name}-{number}")
                log.info("another run uses %s; this one takes %s", first, self.root)
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be used as a cache ({error.strerror}); name another folder"
            ) from error

    def close(self) -> None:
        self.enter(None)
        os.close(self._run)

    def enter(self, block: int | None) -> None:
        """Tell the other processes which block is read here; None: none any more."""
        with self._alone():
            self._in_block.close()
            if block is not None:
                file = os.open(self.folder / f".block-{block}", os.O_RDWR | os.O_CREAT)
                self._in_block.callback(os.close, file)
                fcntl.flock(file, fcntl.LOCK_SH)

    def open(self, shard: int) -> int | None:
        """Open a shard's tar, which keeps it from eviction; return None if it is not cached."""
        path = self._path(shard)
        with suppress(FileNotFoundError):
            file = os.open(path, os.O_RDONLY)
            if _lock(file, fcntl.LOCK_SH) and (status := os.fstat(file)).st_nlink:
                if status.st_size == self.shard_set.tar_bytes[shard]:
                    read_at_random(file)
                    return file
                log.warning("%s has %d bytes, it is fetched again", path, status.st_size)
                path.unlink(missing_ok=True)
            os.close(file)
        return None

    def bring(
        self,
        urgent: set[int],
        requests: Callable[[int], Sequence[ShardRequest]],
        fetch: Callable[[int, BinaryIO], None],
    ) -> bool:
        """Fetch the missing shard that is needed first; tell whether one was missing and had room.

        Args:
            urgent: shards that are needed before all others.
            requests: returns from a block on when each shard is needed, in the order of need. It is
                called with the block of the slowest process, so all processes evict alike.
            fetch: writes a shard's tar.

        Raises:
            UserError: the disk is full, or `fetch` raised it.
        """
        with ExitStack() as locked, ExitStack() as stack:
            with self._alone():
                if (shard := self._choose(urgent, requests(self._last_block()))) is None:
                    return False
                scratch = stack.enter_context(replacing(self._path(shard)))
                file = stack.enter_context(scratch.open("xb+"))
                # The same lock by another descriptor: it must hold until the file has its name.
                locked.callback(os.close, lock := os.dup(file.fileno()))
                fcntl.flock(lock, fcntl.LOCK_EX)
                file.truncate(self.shard_set.tar_bytes[shard])
            fetch(shard, file)
            os.fsync(lock)
            with self._alone():  # a count sees either the scratch file or the tar
                stack.close()
        return True

    def trim(self, requests: Sequence[ShardRequest]) -> None:
        """Evict what an earlier run with a larger limit left, what is needed last first."""
        with self._alone():
            self._make_room(self._sizes(), 0, requests[::-1])

    def _choose(self, urgent: set[int], requests: Sequence[ShardRequest]) -> int | None:
        """Return the missing shard that is needed first, once there is room for it."""
        sizes = self._sizes()
        taken = {p.name.lstrip(".").split(".")[0] for p in sizes if p.parent == self.folder}
        for shard, needed_at in sorted(requests, key=lambda r: r.shard not in urgent):
            if self.shard_set.names[shard] not in taken:
                later = [r for r in reversed(requests) if r.needed_at > needed_at]
                room = self._make_room(sizes, self.shard_set.tar_bytes[shard], later)
                return shard if room else None
        return None

    def _sizes(self) -> dict[Path, int]:
        """Return the sizes of all sets' tars and live scratch files; remove dead ones."""
        sizes = {}
        for path in self.root.glob("*/*shard-*.t[am][rp]"):
            with suppress(FileNotFoundError):  # its transfer has just failed
                if not (path.suffix == ".tmp" and _remove_unlocked(path)):
                    sizes[path] = path.stat().st_size
        return sizes

    def _make_room(
        self, sizes: dict[Path, int], size: int, expendable: Sequence[ShardRequest]
    ) -> bool:
        """Evict tars of other sets, then `expendable` ones, until `size` bytes fit."""
        excess = sum(sizes.values()) + size - self.max_bytes
        others = [path for path in sizes if path.suffix == ".tar" and path.parent != self.folder]
        for path in (*others, *(self._path(shard) for shard, _ in expendable)):
            if excess <= 0:
                break
            if path in sizes and _remove_unlocked(path):
                excess -= sizes[path]
        return excess <= 0

    def _last_block(self) -> int:
        """Return the block of the slowest process."""
        blocks = [path for path in self.folder.glob(".block-*") if not _remove_unlocked(path)]
        return min((int(path.name.removeprefix(".block-")) for path in blocks), default=0)

    def _path(self, shard: int) -> Path:
        return self.folder / f"{self.shard_set.names[shard]}.tar"

    def _claim(self, run: str) -> bool:
        """Take the folder for a run, or join its processes; False if another run has it."""
        self._run = os.open(self.root / ".run", os.O_RDWR | os.O_CREAT, 0o666)
        with self._alone():
            if _lock(self._run, fcntl.LOCK_EX):
                os.truncate(self._run, 0)
                os.pwrite(self._run, run.encode(), 0)
            elif os.pread(self._run, 10_000, 0) != run.encode():
                os.close(self._run)
                return False
            fcntl.flock(self._run, fcntl.LOCK_SH)
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _default_root() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "audio-barlow-twins" / "shards"


def _remove_unlocked(path: Path) -> bool:
    """Remove a file that no living process has locked; tell whether it is gone."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if not _lock(file.fileno(), fcntl.LOCK_EX):
            return False
        path.unlink()
    return True


def _lock(file: int, kind: int) -> bool:
    """Lock an open file unless another process has; tell whether that worked."""
    with suppress(BlockingIOError):
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    return False
