"""Our reader and the bare loops beside it, and what only our reader is asked: stalls, depths."""

import math
import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from queue import Empty, Queue

import numpy as np
import torch
from reader_clock import Way, cool, started, timed
from reader_files import BATCH, FRAMES
from reader_tars import keep_shards
from slow_storage import slow_storage
from torch import Tensor

from audio_barlow_twins.shards.read.local import read_at_random
from audio_barlow_twins.shards.read.order import Order
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.read.tune import tune
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards
from audio_barlow_twins.shards.stored.synthetic import synthetic_shards
from audio_barlow_twins.train.views.draws import sample_keys
from audio_barlow_twins.train.views.norm import SetNorm
from audio_barlow_twins.train.views.pipeline import TwoViews, samples_of
from audio_barlow_twins.train.views.registry import PAPER, default_views, make_chain

OURS = "CropReader"
OURS_VIEWS = "CropReader + our views on CPU"
WAVES = ", waves"
THREADS = (1, 4, 16, 64)
READY = torch.empty(0)
"""An empty batch, before anything is read, so that a cold pass is timed from its very start."""
PLAN_STEPS = 4096
"""Steps after which a bare loop starts over: fewer crops would stay in the CPU's cache."""
LATENCY_S = 0.001
CHANNELS = 256
"""Requests that the simulated storage serves at a time: more than any depth that is tried."""
DEPTHS = (0, 1, 2, 4, 8, 16)
BLOCKS = 8
"""Blocks of an epoch that is read by whole shards."""
SPIN_S = 0.0002


def bare_name(threads: int) -> str:
    return f"bare preadv loop, {threads} thread{'s' * (threads > 1)}"


BARE = bare_name(1)


def our_ways(ahead: int) -> list[Way]:
    """Return the ways to read shards of log-mel and of waves.

    Args:
        ahead: batches that `CropReader` reads ahead.
    """
    reader = partial(crop_reader, ahead)
    a_pass = partial(crop_reader, ahead, endless=False)
    of_log_mel = {"form": "shards", "write": keep_shards, "workers": (0,)}
    of_waves = {"form": "waves", "write": write_waves, "workers": (0,)}
    ways = []
    for kind, suffix in ((of_log_mel, ""), (of_waves, WAVES)):
        for n in THREADS:
            loops = partial(bare_loops, n)
            once = partial(bare_loops, n, endless=False)
            name = bare_name(n) + suffix
            ways.append(Way(name=name, batches=loops, one_pass=once, busy=True, **kind))
        ways.append(Way(name=OURS + suffix, batches=reader, one_pass=a_pass, busy=True, **kind))
    return [*ways, Way(name=OURS_VIEWS, batches=partial(two_views, ahead), **of_log_mel)]


def write_waves(shard_set: ShardSet, folder: Path) -> None:
    """Write as many clips of waves."""
    synthetic_shards(folder, len(shard_set), form=wave_form())


def crop_length(shard_set: ShardSet) -> int:
    """Return the length of a crop, 0.95 s: frames of log-mel, or samples."""
    return samples_of(FRAMES, FrontEnd()) if shard_set.form.kind == "wave" else FRAMES


def crop_reader(ahead: int, folder: Path, workers: int, endless: bool = True) -> Generator[Tensor]:
    """Yield the batches of our reader, of one epoch or endlessly."""
    shard_set = open_shards(folder)
    n_steps = None if endless else len(shard_set) // BATCH
    with CropReader(shard_set, frames=crop_length(shard_set), batch=BATCH, ahead=ahead) as reader:
        yield READY
        for batch in reader.batches(0, n_steps):
            yield batch.crops


def two_views(ahead: int, folder: Path, workers: int) -> Generator[Tensor]:
    """Yield two views of each crop, made a batch at a time as in training, [N, 2, T, F]."""
    shard_set = open_shards(folder)
    statistics = shard_set.statistics
    views = TwoViews(
        make_chain(PAPER, default_views()), SetNorm(statistics.mean, statistics.std), (FRAMES, 64)
    )
    with CropReader(shard_set, frames=FRAMES, batch=BATCH, ahead=ahead) as reader:
        yield READY
        for batch in reader.batches():
            keys = sample_keys(0, batch.epochs, batch.clips)
            yield torch.stack(views(batch.crops, torch.from_numpy(keys)), dim=1)


class Plan:
    """The reader's crops in its order, for loops that do nothing but read."""

    def __init__(self, folder: Path) -> None:
        self.shard_set = shard_set = open_shards(folder)
        self.order = Order(shard_set, frames=crop_length(shard_set))
        self.size = self.order.frames * shard_set.form.frame_bytes
        files = [os.open(folder / f"{name}.tar", os.O_RDONLY) for name in shard_set.names]
        for file in files:
            read_at_random(file)
        crops = self.order.crops(np.arange(PLAN_STEPS * BATCH))
        self.files = np.array(files)[crops.shards].reshape(PLAN_STEPS, BATCH).tolist()
        self.offsets = crops.offsets.reshape(PLAN_STEPS, BATCH).tolist()

    def buffer(self) -> tuple[Tensor, list[memoryview]]:
        """Return memory for a batch, and where each crop goes."""
        form = self.shard_set.form
        dtype = torch.int16 if form.kind == "wave" else torch.float16
        batch = torch.empty(BATCH, self.order.frames, *form.frame_shape, dtype=dtype)
        flat = memoryview(batch.view(BATCH, -1).numpy().data).cast("B")
        return batch, [flat[i * self.size :][: self.size] for i in range(BATCH)]


def bare_loops(threads: int, folder: Path, workers: int, endless: bool = True) -> Generator[Tensor]:
    """Yield the reader's crops from plain loops, each with one batch buffer.

    With one thread that is the caller's. A batch of several threads is yielded when one of them
    has read it.
    """
    plan = Plan(folder)
    steps = PLAN_STEPS if endless else len(plan.shard_set) // BATCH

    def loop(first: int, batch: Tensor, rows: list[memoryview]) -> Iterator[Tensor]:
        mine = range(first, steps, threads)
        for step in cycle(mine) if endless else mine:
            files, offsets = plan.files[step], plan.offsets[step]
            for file, row, offset in zip(files, rows, offsets, strict=True):
                os.preadv(file, (row,), offset)
            yield batch

    loops = [loop(i, *plan.buffer()) for i in range(threads)]
    yield READY
    yield from loops[0] if threads == 1 else at_once(loops)


def at_once(loops: Sequence[Iterator[Tensor]]) -> Generator[Tensor]:
    """Run each loop in a thread of its own; yield a batch when there is one."""
    stop, done = threading.Event(), Queue[Tensor | None](maxsize=1)

    def run(loop: Iterator[Tensor]) -> None:
        for batch in loop:
            if stop.is_set():
                return
            done.put(batch)
        done.put(None)

    running = [threading.Thread(target=run, args=(loop,)) for loop in loops]
    try:
        for thread in running:
            thread.start()
        for _ in running:
            yield from iter(done.get, None)
    finally:
        stop.set()
        while any(thread.is_alive() for thread in running):
            with suppress(Empty):
                done.get(timeout=0.01)


def tuned_ahead(folder: Path) -> int:
    """Return how many batches the preflight would read ahead from cold files."""
    cool(folder)
    shard_set = open_shards(folder)
    with CropReader(shard_set, frames=crop_length(shard_set), batch=BATCH) as reader:
        return tune(reader, 0, enough_s=0, unit=False).ahead


def stall(folder: Path, ahead: int, per_s: float, seconds: float) -> float:
    """Read cold files for a network that takes `per_s` crops/s; return the share that it waits."""
    interval_s, waited, steps = BATCH / per_s, 0.0, 0
    of_pass = len(open_shards(folder)) // BATCH - 1
    a_pass = partial(crop_reader, ahead, folder, 0, endless=False)
    while waited + steps * interval_s < seconds:
        cool(folder)
        batches = started(a_pass(), 2)  # READY, and a first batch
        for _ in range(of_pass):
            compute(interval_s)
            begin = time.perf_counter()
            next(batches)
            waited += time.perf_counter() - begin
        steps += of_pass
        batches.close()
    return waited / (waited + steps * interval_s)


def compute(seconds: float) -> None:
    """Take time as a step on a GPU does: asleep, but for the end, which must be exact."""
    end = time.perf_counter() + seconds
    time.sleep(max(0.0, seconds - SPIN_S))
    while time.perf_counter() < end:
        pass


def rate_of_latency(folder: Path, ahead: int) -> float:
    """Return crops/s from storage whose every request takes LATENCY_S."""
    with slow_storage(LATENCY_S, CHANNELS):
        batches = started(crop_reader(ahead, folder, 0, endless=False), 1)
        crops, elapsed = timed(batches, math.inf, math.inf)
    return crops / elapsed


def depth_of_latency(folder: Path) -> int:
    """Return how many batches the preflight would read ahead from such storage."""
    with (
        slow_storage(LATENCY_S, CHANNELS),
        CropReader(folder, frames=FRAMES, batch=BATCH) as reader,
    ):
        return tune(reader, 0, enough_s=0, unit=False).ahead


def in_order(folder: Path) -> float:
    """Read cold files by whole shards, a pass from its very start; return MB/s."""
    cool(folder)
    shard_set = open_shards(folder)
    block = max(1, len(shard_set.names) // BLOCKS)
    with CropReader(
        shard_set, frames=FRAMES, batch=BATCH, block_shards=block, unit="shards"
    ) as reader:
        begin = time.perf_counter()
        for _ in reader.batches(0, len(shard_set) // BATCH):
            pass
        elapsed = time.perf_counter() - begin
    return sum(shard_set.tar_bytes) / 1e6 / elapsed
