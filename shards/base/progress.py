"""How far long work has come: a bar at a terminal, lines in a log; and what a task says of it."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from tqdm import tqdm

from .cli import say

LINE_S = 10.0
"""Time between two lines, where no terminal shows a bar."""

Report = Callable[[int], None]
_reporting: ContextVar[Report] = ContextVar("reporting", default=lambda more: None)


class Progress:
    """Show on stderr how much of `total` is done: as a bar, or without a terminal in lines.

    A context manager. Lines appear every `LINE_S` when something is told, and at the end.
    """

    def __init__(self, total: int, unit: str, title: str = "") -> None:
        bar = tqdm if sys.stderr.isatty() else _Lines
        self._bar = bar(total=total, unit=unit, desc=title or None, smoothing=0.05, miniters=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def update(self, more: int) -> None:
        """Add what was done since; less than 0 if some was lost."""
        self._bar.update(more)

    def move_to(self, done: int) -> None:
        """Say how much is done altogether."""
        self._bar.update(done - self._bar.n)

    def show(self, text: str) -> None:
        """Show a text behind the numbers."""
        self._bar.set_postfix_str(text)


class _Lines(tqdm):
    """A bar for a log: tqdm counts, and a plain line is written now and then."""

    monitor_interval = 0  # no thread that draws what has not moved

    def __init__(self, **options: Any) -> None:
        self.said_at = time.monotonic()
        super().__init__(file=io.StringIO(), **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if time.monotonic() - self.said_at >= LINE_S:
            self.said_at = time.monotonic()
            say(progress_line(**self.format_dict), stream=sys.stderr)

    def close(self) -> None:
        self.said_at = -LINE_S  # the last line is due
        super().close()


def progress_line(
    *, n: int, total: int, elapsed: float, rate: float | None, prefix: str, unit: str,
    postfix: str | None, **_: object,
) -> str:  # fmt: skip
    """Return `ingest 5,120 of 21,203 clips (24 %), 71.3 clips/s, 3 min 46 s left, ok=5100`.

    Args:
        n, total: how much is done, of what.
        elapsed: s since the start.
        rate: current speed, 1/s; by default that since the start.
        prefix: what is done, '' for nothing to say.
        unit: of what, in the singular.
        postfix: what else to say.
    """
    rate = rate or (n / elapsed if elapsed else 0.0)
    share = f" ({100 * n // total} %)" if total else ""
    parts = [f"{prefix} {n:,} of {total:,} {unit}s{share}".lstrip()]
    if rate > 0:
        parts.append(f"{rate:,.1f} {unit}s/s" if rate >= 1 else f"{rate:.2g} {unit}s/s")
    if n >= total:
        parts.append(f"in {span(elapsed)}")
    elif rate > 0:
        parts.append(f"{span((total - n) / rate)} left")
    return ", ".join([*parts, *filter(None, [postfix])])


def span(seconds: float) -> str:
    """Return a time in its two largest units: 46 s, 3 min 46 s, 2 h 5 min, 4 d 0 h."""
    minutes, s = divmod(round(seconds), 60)
    hours, min_ = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if h:
        return f"{h} h {min_} min"
    return f"{min_} min {s} s" if min_ else f"{s} s"


def report_progress(more: int) -> None:
    """Say in a task that it has done so much more, for the bar of whoever waits for it.

    It costs nothing and waits for nothing; where nobody waits, it does nothing.
    """
    _reporting.get()(more)


@contextmanager
def reporting_to(report: Report) -> Iterator[None]:
    """Let `report_progress` call `report` inside the block."""
    before = _reporting.set(report)
    try:
        yield
    finally:
        _reporting.reset(before)
