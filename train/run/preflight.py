"""Before the first step: how many clips per second reader and network can process."""

import time
from dataclasses import dataclass

import torch

from audio_barlow_twins.shards.read.tune import ReadSpeed, tune

from ..step.graph import WARM_UP as GRAPH_WARM_UP
from ..step.trainer import Trainer

WARM_UP = {"plain": 1, "compiled": 2, "graph": GRAPH_WARM_UP + 1}
"""Steps before the timed ones, by their kind."""
TIMED = 2
ENOUGH = 2
"""A reader that could feed the network so many times over needs no tuning."""


@dataclass(frozen=True)
class Preflight:
    """The speed of all processes' readers and of the network, each measured alone, clips/s."""

    network: float
    """Whole steps on one batch."""
    batch: int
    read: ReadSpeed

    @property
    def reader(self) -> float:
        return self.batch / self.read.seconds

    def __str__(self) -> str:
        ratio = self.reader / self.network
        if ratio >= 1:
            verdict = f"the network will limit, the reader could feed it {ratio:.3g} times over"
        else:
            verdict = (
                "the reader will limit: the network will wait "
                f"{100 * (1 - ratio):.0f} % of the time; {self._advice()}"
            )
        return (
            f"preflight: reader {self.reader:.4g} clips/s {self._how()}, "
            f"network {self.network:.4g} clips/s; {verdict}"
        )

    def _how(self) -> str:
        if self.read.cached:
            return "from memory"
        if self.read.unit == "shards":
            return "by whole shards in order"
        most = ", the most that this storage gives" if self.read.limit else ""
        return f"from storage, {self.read.ahead} batches ahead{most}"

    def _advice(self) -> str:
        """Say what keeps the reader from reading faster, and what to do."""
        what = {
            "ignored": "this file system ignores what it is told to prefetch, so each crop waits; ",
            "missing": "this system cannot be told what to prefetch, so each crop waits; ",
        }.get(self.read.advice, "")
        if self.read.unit == "crops" and self.read.in_order > self.reader:
            return (
                f"{what}whole shards in order would give {self.read.in_order:.4g} clips/s: choose "
                "--reader-unit shards with a --block-shards of which memory holds two, another "
                "order of the clips"
            )
        return f"{what}put the shards on a faster disk, or into memory"


def measure(trainer: Trainer) -> Preflight:
    """Measure on the next batches and leave the trainer as it was, but for what its reader reads
    ahead, which is chosen here; all processes must call it."""
    config, slowest = trainer.config, trainer.ranks.largest
    (step_s,) = slowest([_seconds_per_batch_computed(trainer)])
    read = tune(
        trainer.reader,
        trainer.step,
        enough_s=step_s / ENOUGH,
        ahead=config.reader_ahead == "auto",
        unit=config.reader_unit == "auto",
        slowest=slowest,
    )
    return Preflight(config.batch / step_s, config.batch, read)


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
