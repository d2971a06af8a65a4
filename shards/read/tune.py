"""How fast a reader reads here, and what it must read ahead for that."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Literal

import numpy as np

from ..stored.shardset import ShardSet
from .local import MAY_ANNOUNCE, LocalTars, announce, open_tar
from .reader import CropReader, Unit
from .whole import read_in_order

READ_S = 0.5
"""Length of one measurement, s; it ends with the batch in progress."""
LEAST_GAIN = 1.05
"""Rates that differ by less are the same."""
EPOCH_SHARE = 8
"""Part of an epoch that one measurement reads at most: what it leaves in memory would make the next
depths look faster."""
MOST_BYTES = 512 * 10**6
"""Most bytes ahead that `tune` chooses; half of them have buffers, which may be pinned."""
PROBES = 32
QUICK_S = 30e-6
"""A crop that is read in this time was in memory: no disk is that quick."""

Advice = Literal["heeded", "ignored", "missing", "unknown"]
"""What the system does when it is told what will be read: `missing` on macOS, `ignored` by some
network file systems, `unknown` where crops are in memory anyway."""
Slowest = Callable[[list[float]], list[float]]


@dataclass(frozen=True)
class ReadSpeed:
    """What was measured, and what was chosen for it."""

    seconds: float
    """For one batch, of the slowest process."""
    cached: bool
    """Most batches were in memory, so this says nothing about the disk."""
    limit: bool
    """More batches ahead would not be read faster."""
    ahead: int
    unit: Unit
    in_order: float = 0.0
    """Clips/s of whole shards in order; 0 if not measured, or if memory does not keep them."""
    advice: Advice = "unknown"


def tune(
    reader: CropReader,
    first_step: int,
    *,
    enough_s: float,
    ahead: bool = True,
    unit: bool = True,
    slowest: Slowest = lambda values: values,
) -> ReadSpeed:
    """Choose what a reader reads ahead by reading from a step on, and return how fast that is.

    Args:
        enough_s: time for a batch below which nothing better is looked for.
        ahead: double `reader.ahead` until the rate stops growing.
        unit: read whole shards (`reader.unit`) if clips come faster so, and the order has blocks
            of which memory holds two.
        slowest: element-wise maximum over all processes, which must all call this.
    """
    depths = _depths(reader) if ahead else iter([reader.ahead])
    found, step = _find_depth(reader, first_step, depths, enough_s, slowest)
    reader.ahead = found.ahead
    if found.cached or found.seconds <= enough_s or not isinstance(reader.tars, LocalTars):
        return found
    advice = follow_advice(reader, step)  # before whole shards are in memory
    (clip_s,) = slowest([clip_in_order_s(reader)])
    found = replace(found, in_order=1 / clip_s, advice=advice)
    whole_s = reader.batch * clip_s
    if (
        unit
        and whole_s * LEAST_GAIN < found.seconds
        and reader.order.n_blocks > 1
        and _fits(reader)
    ):
        reader.unit = "shards"
        found = replace(found, seconds=whole_s, unit=reader.unit)
    return found


def _find_depth(
    reader: CropReader, step: int, depths: Iterator[int], enough_s: float, slowest: Slowest
) -> tuple[ReadSpeed, int]:
    """Return the least depth that is as fast as any, and the first step that was not touched.

    Depths are tried within one epoch: of a small set, later ones would find much in memory.
    """
    tried: list[tuple[int, float, bool]] = []
    epoch, limit = len(reader.shard_set) // reader.batch, False
    last, most = step + epoch, max(1, epoch // EPOCH_SHARE)
    for depth in depths:
        if tried and step + depth + most > last:
            break
        reader.ahead = depth
        seconds, missed, n = slowest(list(time_batches(reader, step, most)))
        step += int(n) + depth  # so many more were asked for
        tried.append((depth, seconds, missed < 0.5))
        best = min(seconds for _, seconds, _ in tried)
        # Two doublings without gain, since one may have met other traffic.
        limit = len(tried) > 2 and best * LEAST_GAIN > min(s for _, s, _ in tried[:-2])
        if limit or missed < 0.5 or seconds <= enough_s:
            break
    good = (each for each in tried if each[1] <= best * LEAST_GAIN)
    ahead, seconds, cached = tried[-1] if seconds <= enough_s else next(good)
    return ReadSpeed(seconds, cached, limit, ahead, reader.unit), step


def time_batches(
    reader: CropReader, first_step: int, most: float = math.inf
) -> tuple[float, float, int]:
    """Read `most` batches, or for READ_S; return seconds for each, the share not in memory, and n.

    The first batch is not timed: before it, all that is read ahead must be asked for.
    """
    with closing(reader.batches(first_step)) as batches:
        next(batches)
        missed, begin = 0, time.perf_counter()
        for n in count(1):
            missed += not next(batches).cached
            if (elapsed := time.perf_counter() - begin) > READ_S or n >= most:
                return elapsed / n, missed / n, n + 1
    raise AssertionError("the batches are endless")


def clip_in_order_s(reader: CropReader) -> float:
    """Read whole shards for READ_S; return seconds per clip, infinite if they leave memory."""
    shards, begin, size = reader.shard_set, time.perf_counter(), 0
    last = len(shards.names) - 1
    for piece in chain.from_iterable(read_in_order(shards, i) for i in range(last, -1, -1)):
        size += piece
        if (elapsed := time.perf_counter() - begin) > READ_S:
            break
    if _again_s(shards, last) > QUICK_S:
        return math.inf
    return elapsed / size * sum(shards.tar_bytes) / len(shards)


def _again_s(shards: ShardSet, shard: int) -> float:
    """Return the shortest time in which one of the first pages of a shard is read."""
    file = open_tar(shards, shard)
    times = []
    for page in range(5):
        begin = time.perf_counter()
        os.pread(file, 4096, 4096 * page)
        times.append(time.perf_counter() - begin)
    os.close(file)
    return min(times)


def follow_advice(reader: CropReader, step: int) -> Advice:
    """Read some crops plainly, then others that were announced as long before."""
    if not MAY_ANNOUNCE:
        return "missing"
    crops = reader.order.crops(step * reader.batch + np.arange(2 * PROBES))
    files = reader.tars.opened(crops)
    if files is None:
        return "unknown"
    offsets, size = crops.offsets.tolist(), reader.crop_bytes

    def read_s(part: slice) -> float:
        begin = time.perf_counter()
        for file, offset in zip(files[part], offsets[part], strict=True):
            os.pread(file, size, offset)
        return time.perf_counter() - begin

    first, second = slice(PROBES), slice(PROBES, None)
    plain_s = read_s(first)
    announce(files[second], offsets[second], size)
    time.sleep(plain_s)
    announced_s = read_s(second)
    if plain_s < PROBES * QUICK_S:
        return "unknown"
    return "heeded" if announced_s < max(plain_s / 2, PROBES * QUICK_S) else "ignored"


def _depths(reader: CropReader) -> Iterator[int]:
    ahead, of_batch = reader.ahead, len(reader.rows) * reader.crop_bytes
    yield ahead
    while (ahead := 2 * ahead) * of_batch <= MOST_BYTES:
        yield ahead


def _fits(reader: CropReader) -> bool:
    """Tell whether memory holds two blocks of shards."""
    blocks = 2 * reader.order.block_shards * max(reader.shard_set.tar_bytes)
    return blocks < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
