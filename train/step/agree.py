"""Decisions that all processes of a run must share: to stop, and that the reader is too slow."""

from typing import NamedTuple

from .ranks import AgreedError, Ranks

STALL_STEPS = 20
"""Steps after the first line before a run may fail because it waits for data."""


class Agreed(NamedTuple):
    """The same values in all processes."""

    stop: int
    """Number of the signal that any of them got, or 0."""
    wait: float
    """Largest share of the time that any of them waited for data."""


def agree(ranks: Ranks, stop: int, wait: float) -> Agreed:
    """Combine the values of all processes, which must call it after the same step."""
    stop_of_all, wait_of_all = ranks.largest([float(stop), wait])
    return Agreed(int(stop_of_all), wait_of_all)


class Stall:
    """Add up the time spent waiting for data, which must not exceed the share `limit`."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.lines = self.steps = 0
        self.seconds = self.waited = 0.0

    def add(self, steps: int, seconds: float, wait: float) -> None:
        """Count the steps and seconds of a line, of which the share `wait` was waiting."""
        self.lines += 1
        if self.lines > 1:  # the first includes what happens once: compiling, the first reads
            self.steps += steps
            self.seconds += seconds
            self.waited += wait * seconds

    @property
    def is_over(self) -> bool:
        """Whether waiting exceeds the limit, over STALL_STEPS steps or more."""
        return self.steps >= STALL_STEPS and self.waited > self.limit * self.seconds

    def check(self, step: int) -> None:
        """Raise an AgreedError if waiting exceeds the limit."""
        if self.is_over:
            raise AgreedError(
                f"{100 * self.waited / self.seconds:.1f} % of the last {self.steps} steps went by "
                f"waiting for data, --max-stall allows {100 * self.limit:.3g} %; saved at step "
                f"{step}: read faster (--reader-ahead, a local disk), then continue by --resume"
            )
