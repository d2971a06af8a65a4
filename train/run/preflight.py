"""Before the first step: how many clips per second reader and network can process."""

import time
from dataclasses import dataclass

import torch

from ..step.graph import WARM_UP as GRAPH_WARM_UP
from ..step.trainer import Trainer

READ_S = 0.5
READ_BATCHES = 64
WARM_UP = {"plain": 1, "compiled": 2, "graph": GRAPH_WARM_UP + 1}
"""Steps before the timed ones, by their kind."""
TIMED = 2


@dataclass(frozen=True)
class Preflight:
    """The speed of all processes' readers and of the network, each measured alone, clips/s."""

    reader: float
    network: float
    """Whole steps on one batch."""

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
    """Measure on the next batches and leave the trainer as it was; all processes must call it."""
    mine = [_seconds_per_batch_read(trainer), _seconds_per_batch_computed(trainer)]
    slowest = trainer.ranks.largest(mine)
    return Preflight(*(trainer.config.batch / seconds for seconds in slowest))


def _seconds_per_batch_read(trainer: Trainer) -> float:
    """Time the batches that the run will read first, so that the files are as cold as for it."""
    n_read, begin = 0, time.perf_counter()
    for _ in trainer.reader.batches(trainer.step, READ_BATCHES):
        n_read += 1
        if time.perf_counter() - begin > READ_S:
            break
    return (time.perf_counter() - begin) / n_read


def _seconds_per_batch_computed(trainer: Trainer) -> float:
    """Time steps that are taken back, once what the first ones compile or capture is there."""
    inputs, seconds = next(trainer.batches()), []
    with trainer.rewound():
        for _ in range(WARM_UP[trainer.kind] + TIMED):
            begin = time.perf_counter()
            trainer.take_step(inputs)
            if trainer.device.type == "cuda":
                torch.cuda.synchronize(trainer.device)
            seconds.append(time.perf_counter() - begin)
    if trainer.device.type == "cuda":  # what was kept to take steps back is no part of the run
        torch.cuda.reset_peak_memory_stats(trainer.device)
    return min(seconds[-TIMED:])
