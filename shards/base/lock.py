"""An exclusive lock between processes, which the kernel releases when its holder dies."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def alone(path: Path, why: str = "") -> Iterator[None]:
    """Hold the lock file `path` while the block runs; wait for another process that holds it.

    `why` is logged before a wait: what the other process does. The file stays: if it were
    removed, two processes could hold two files of one name.
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
