"""The page about a run while the run goes on."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from audio_barlow_twins.shards.base.errors import UserError

from .report import Page

EVERY_S = 60.0
"""Time between two pages."""
SHARE = 0.05
"""Largest part of the time that goes into pages; those of large sets are written more rarely."""

log = logging.getLogger(__name__)


@contextmanager
def live_report(out: Path) -> Iterator[None]:
    """Write OUT/ingest.html every minute while the block runs, once a shard is finished.

    A thread does it, so that the block does not wait. However the block ends, the page no longer
    says then that the run is going on. A page that cannot be written is no reason to stop: what
    is wrong is logged.
    """
    ended = Event()
    with ThreadPoolExecutor(1, "report") as thread:
        writing = thread.submit(_write_until, ended, Page(out))
        try:
            yield
        finally:
            ended.set()
    writing.result()


def _write_until(ended: Event, page: Page) -> None:
    pause, is_there = EVERY_S, False
    while not ended.wait(pause):
        begun = time.monotonic()
        is_there |= _renew(page, ended)
        pause = pause_after(time.monotonic() - begun)
    if is_there:
        _renew(page)


def pause_after(seconds: float) -> float:
    """Return how long to wait, s, after a page that took `seconds`."""
    return max(EVERY_S, seconds * (1 / SHARE - 1))


def _renew(page: Page, ended: Event | None = None) -> bool:
    """Write the page, as that of a run that goes on until `ended`; tell whether it was written."""
    try:
        for _ in page.read():
            if ended and ended.is_set():
                return False
        if page.is_empty:
            return False
        page.write(going_on=ended is not None)
    except UserError as error:
        log.warning("ingest.html is not up to date: %s", error)
        return False
    return True
