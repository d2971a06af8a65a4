"""Where the time of a step goes, as the host sees it."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = ("waiting for data", "views", "forward and backward", "optimiser", "logging", "other")
"""What a step's time is divided into."""


class Clock:
    """Add up seconds by part; parts must not overlap, what none covers is `other`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._begin = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block for `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begin

    def lap(self) -> tuple[float, dict[str, float]]:
        """Return the seconds since the last lap and the share of each part, and start anew."""
        now = time.perf_counter()
        total, self._begin = now - self._begin, now
        shares = {name: spent / total for name, spent in self.seconds.items()}
        self.seconds.clear()
        return total, shares | {"other": max(0.0, 1 - sum(shares.values()))}
