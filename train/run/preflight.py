"""Before the first step: what the reader can deliver, what the network can take."""

import time
from dataclasses import dataclass

import torch

from ..step.trainer import Trainer

READ_S = 0.5
READ_BATCHES = 64
WARM_UP, TIMED = 1, 2


@dataclass(frozen=True)
class Preflight:
    """Two ceilings of a run, each measured alone."""

    reader: float
    """Clips a second that the readers of all processes deliver."""
    network: float
    """Clips a second that views, forward and backward take."""

    def __str__(self) -> str:
        ratio = self.reader / self.network
        if ratio >= 1:
            verdict = f"the network will limit, the reader could feed it {ratio:.3g} times over"
        else:
            verdict = (
                f"the reader will limit: the network will wait {100 * (1 - ratio):.0f} % of the "
                "time; try more --reader-ahead or a faster disk"
            )
        return (
            f"preflight: reader {self.reader:.4g} clips/s, network {self.network:.4g} clips/s; "
            f"{verdict}"
        )


def measure(trainer: Trainer) -> Preflight:
    """Measure both ceilings at the batches that come next; leave the trainer as it was.

    Every process must call it, as the network's pass is a common one.
    """
    mine = [_seconds_per_batch_read(trainer), _seconds_per_batch_computed(trainer)]
    slowest = trainer.ranks.largest(mine)
    return Preflight(*(trainer.config.batch / seconds for seconds in slowest))


def _seconds_per_batch_read(trainer: Trainer) -> float:
    """Read ahead of the run for a moment, from files as cold as the run finds them."""
    n_read, begin = 0, time.perf_counter()
    for _ in trainer.reader.batches(trainer.step, READ_BATCHES):
        n_read += 1
        if time.perf_counter() - begin > READ_S:
            break
    return (time.perf_counter() - begin) / n_read


def _seconds_per_batch_computed(trainer: Trainer) -> float:
    """Compute on one batch a few times, without a step of the optimiser."""
    kept = {name: value.clone() for name, value in trainer.network.named_buffers()}
    views = trainer.make_views()
    batch = next(trainer.batches())
    seconds = []
    for _ in range(WARM_UP + TIMED):
        begin = time.perf_counter()
        trainer.compute(batch, views)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        seconds.append(time.perf_counter() - begin)
    trainer.optimiser.zero_grad(set_to_none=True)
    for name, value in trainer.network.named_buffers():
        value.copy_(kept[name])
    trainer.clock.lap()
    return min(seconds[WARM_UP:])
