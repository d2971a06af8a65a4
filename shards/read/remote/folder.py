"""A bounded folder of whole shards, used by the processes of one run.

The file locks are the whole state: who reads a tar holds a shared lock on it, who fetches one an
exclusive lock on its scratch file, who is in a block a shared lock on a file of its number, and the
kernel frees all of them when a process dies. One more lock, on the folder, makes "count, make room,
reserve" one step. A scratch file has its final size from its first moment, so what is on its way
counts.
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
    """Where the shards of a remote set are kept; a local set needs none of it."""

    folder: Path | None = None
    """Where they are kept between runs; default: audio-barlow-twins in the user's cache folder. A
    second run at the same time keeps its own beside it, in FOLDER-2."""
    max_bytes: int = 64 * 10**9
    """Most that the folder holds, shards on their way included; it keeps other sets if it can."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise UserError(f"cache: max_bytes is {self.max_bytes}, but must be 1 or more")


class CacheFolder:
    """The tars of one set in a folder that may hold other sets too.

    Args:
        shard_set: a set behind a URL.
        options: the folder; if another run uses it, the next free one of FOLDER-2, FOLDER-3, ...
        run: what all processes of a run say alike, and no other run; they share the folder.

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
        """Leave the folder to other runs."""
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
        """Open a shard's tar, so that it stays until it is closed; None if it is not there."""
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
        """Put the shard that is needed first into the folder, complete and checked.

        Args:
            urgent: shards that are needed before all others.
            requests: tells from a block on which shard is needed when, in the order of need. It is
                asked from the block of the process that is last, so that all agree on what goes.
            fetch: writes a shard's tar.

        Returns:
            whether there was a shard to bring, and room for it.

        Raises:
            UserError: the disk is full, or what `fetch` raises.
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
            with self._alone():  # who counts sees the scratch file or the tar, not both or none
                stack.close()
        return True

    def trim(self, requests: Sequence[ShardRequest]) -> None:
        """Remove what an earlier run with a larger budget left, what is needed last first."""
        with self._alone():
            self._make_room(self._sizes(), 0, requests[::-1])

    def _choose(self, urgent: set[int], requests: Sequence[ShardRequest]) -> int | None:
        """Find the shard that is needed first and neither here nor on its way; make room for it."""
        sizes = self._sizes()
        taken = {p.name.lstrip(".").split(".")[0] for p in sizes if p.parent == self.folder}
        for shard, needed_at in sorted(requests, key=lambda r: r.shard not in urgent):
            if self.shard_set.names[shard] not in taken:
                later = [r for r in reversed(requests) if r.needed_at > needed_at]
                room = self._make_room(sizes, self.shard_set.tar_bytes[shard], later)
                return shard if room else None
        return None

    def _sizes(self) -> dict[Path, int]:
        """List the tars of all sets and what is on its way; remove dead scratch files."""
        sizes = {}
        for path in self.root.glob("*/*shard-*.t[am][rp]"):
            with suppress(FileNotFoundError):  # a transfer that failed meanwhile
                if not (path.suffix == ".tmp" and _remove_unlocked(path)):
                    sizes[path] = path.stat().st_size
        return sizes

    def _make_room(
        self, sizes: dict[Path, int], size: int, expendable: Sequence[ShardRequest]
    ) -> bool:
        """Remove the tars of other sets, then `expendable` ones, until `size` bytes fit."""
        excess = sum(sizes.values()) + size - self.max_bytes
        others = [path for path in sizes if path.suffix == ".tar" and path.parent != self.folder]
        for path in (*others, *(self._path(shard) for shard, _ in expendable)):
            if excess <= 0:
                break
            if path in sizes and _remove_unlocked(path):
                excess -= sizes[path]
        return excess <= 0

    def _last_block(self) -> int:
        """Return the block of the process that is last."""
        blocks = [path for path in self.folder.glob(".block-*") if not _remove_unlocked(path)]
        return min((int(path.name.removeprefix(".block-")) for path in blocks), default=0)

    def _path(self, shard: int) -> Path:
        return self.folder / f"{self.shard_set.names[shard]}.tar"

    def _claim(self, run: str) -> bool:
        """Take the folder for a run, or join its processes; tell whether it was free for that."""
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
        """Keep other threads and processes from counting and making room."""
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
    """Remove a file that no living process uses; tell whether it is gone."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if not _lock(file.fileno(), fcntl.LOCK_EX):
            return False
        path.unlink()
    return True


def _lock(file: int, kind: int) -> bool:
    """Take a lock on an open file if it is free."""
    with suppress(BlockingIOError):
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    return False
