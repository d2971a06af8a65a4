"""One process at a time: an exclusive lock that the kernel frees when its holder dies."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def alone(path: Path, why: str = "") -> Iterator[None]:
    """Hold the lock `path` while the block runs; wait for another process that has it.

    The file stays: removing it would let two processes hold two files of one name.

    Args:
        path: the lock file, beside what it guards.
        why: what the other process does, logged if it must be waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if why:
            log.info("%s; waiting", why)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
