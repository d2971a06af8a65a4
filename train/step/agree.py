"""What all processes of a run must decide alike: to stop, and whether the reader is too slow."""

from typing import NamedTuple

from .ranks import AgreedError, Ranks

STALL_STEPS = 20
"""Steps after the first line that are watched before a run may fail for waiting."""


class Agreed(NamedTuple):
    """What holds for all processes."""

    stop: int
    """Number of the signal that any of them got, or 0."""
    wait: float
    """Largest share of the time that any of them waited for data."""


def agree(ranks: Ranks, stop: int, wait: float) -> Agreed:
    """Exchange what each process knows; all of them must call it after the same step."""
    stop_of_all, wait_of_all = ranks.largest([float(stop), wait])
    return Agreed(int(stop_of_all), wait_of_all)


class Stall:
    """Watch how much of the time goes by waiting, from the second line on.

    Args:
        limit: largest share that is allowed.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.lines = self.steps = 0
        self.seconds = self.waited = 0.0

    def add(self, steps: int, seconds: float, wait: float) -> None:
        """Count a line's steps, its seconds and the share of them that was waited."""
        self.lines += 1
        if self.lines > 1:  # the first one holds what happens once: compiling, the first reads
            self.steps += steps
            self.seconds += seconds
            self.waited += wait * seconds

    @property
    def is_over(self) -> bool:
        """Whether too much of the time went by waiting, over STALL_STEPS steps or more."""
        return self.steps >= STALL_STEPS and self.waited > self.limit * self.seconds

    def check(self, step: int) -> None:
        """Fail if the limit is over.

        Raises:
            AgreedError: it is.
        """
        if self.is_over:
            raise AgreedError(
                f"{100 * self.waited / self.seconds:.1f} % of the last {self.steps} steps went by "
                f"waiting for data, --max-stall allows {100 * self.limit:.3g} %; saved at step "
                f"{step}: read faster (--reader-ahead, a local disk), then go on with --resume"
            )
