"""Read training crops: one `preadv` a crop, straight into the batch that goes to the device."""

import os
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UserError
from ..base.place import is_remote
from ..stored.shardset import ShardSet, open_shards
from .local import Lane, LocalTars, Tars
from .order import Order
from .remote.folder import CacheOptions
from .remote.prefetch import CachedTars

PLAN_STEPS = 64


@dataclass(frozen=True)
class Batch:
    """One batch; its memory is refilled once `hold` further batches were asked for."""

    crops: Tensor
    """float16 [N, frames, n_mels] (logmel) or int16 [N, frames] (wave); pinned where CUDA is."""
    clips: Tensor
    """Number of each clip in the set, int64 [N]."""
    epochs: Tensor
    """Epoch of each crop, int64 [N]."""
    starts: Tensor
    """First frame of each crop in its clip, int64 [N]."""


class CropReader:
    """Deliver the crops of a shard set in the order of `shards.read.order`.

    Args:
        shards: a folder, a URL, or an open set. What lies behind a URL is read through a cache.
        frames: length of a crop; shorter clips are padded with zeros at the end.
        batch: crops a step on this rank.
        seed: another seed, another order.
        rank, world: this process reads rows [rank * batch, (rank + 1) * batch) of a global batch.
        threads: batches that are filled at the same time.
        ahead: batches that are ready or being filled while one is used.
        hold: batches that stay valid at a time, the newest included.
        block_shards: see `Order`. Another number is another order, for a local set and for a
            remote one alike; the cache has no say in it.
        cache: the cache of a remote set, default `CacheOptions()`. It must hold a block of shards;
            if it holds two, the next one comes while one is read.

    Raises:
        UserError: the set is missing or cannot be opened, or the cache is too small for it.
    """

    def __init__(
        self,
        shards: ShardSet | Path | str,
        *,
        frames: int,
        batch: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        threads: int = 4,
        ahead: int = 4,
        hold: int = 1,
        block_shards: int = 0,
        cache: CacheOptions | None = None,
    ) -> None:
        if min(frames, batch, threads, ahead + 1, hold) < 1 or not 0 <= rank < world:
            raise UserError(
                f"frames {frames}, batch {batch}, threads {threads} and hold {hold} must be 1 or "
                f"more, ahead {ahead} 0 or more, rank {rank} below world {world}"
            )
        self.shard_set = shards if isinstance(shards, ShardSet) else open_shards(shards)
        self.order = Order(self.shard_set, frames=frames, seed=seed, block_shards=block_shards)
        self.frames, self.batch, self.rank, self.world = frames, batch, rank, world
        self.threads, self.ahead, self.hold = threads, ahead, hold
        self.crop_bytes = frames * self.shard_set.form.frame_bytes
        self._tars: Tars
        if is_remote(self.shard_set.folder):
            self._tars = CachedTars(self.shard_set, self.order, cache or CacheOptions())
        else:
            self._tars = LocalTars(self.shard_set)
        self._finish = weakref.finalize(self, self._tars.close)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every clip is seen once."""
        return len(self.shard_set) / (self.batch * self.world)

    def batches(self, first_step: int = 0, n_steps: int | None = None) -> Iterator[Batch]:
        """Yield the batches of steps first_step, first_step + 1, ...; endless without `n_steps`."""
        # Step k refills the memory of step k - len(buffers), which is out of its hold by then.
        buffers = [_Buffer(self) for _ in range(self.ahead + self.hold)]
        steps = count() if n_steps is None else range(n_steps)
        pending: deque[Future[Batch]] = deque()
        lane = self._tars.lane()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="crops") as pool:
            plan = next_plan = pool.submit(self._plan, first_step)
            try:
                for step in steps:
                    if step % PLAN_STEPS == 0:
                        following = first_step + step + PLAN_STEPS
                        plan, next_plan = next_plan, pool.submit(self._plan, following)
                    buffer = buffers[step % len(buffers)]
                    pending.append(pool.submit(self._fill, buffer, plan, lane, step))
                    if len(pending) > self.ahead:
                        yield pending.popleft().result()
                for future in pending:
                    yield future.result()
            finally:
                lane.stop()
                pool.shutdown(cancel_futures=True)

    def _plan(self, first_step: int) -> "_Plan":
        """Work out where the crops of PLAN_STEPS steps lie; many steps at once cost little more."""
        steps = np.arange(first_step, first_step + PLAN_STEPS)[:, None]
        rows = np.arange(self.batch) + self.rank * self.batch
        epochs, clips = self.order.clips((steps * self.world * self.batch + rows).ravel())
        starts = self.order.starts(epochs, clips)
        offsets = self.shard_set.offsets[clips] + starts * self.shard_set.form.frame_bytes
        shards = self.shard_set.shard_of(clips)
        return _Plan(clips, epochs, starts, self.shard_set.n_frames[clips], shards, offsets)

    def _fill(self, buffer: "_Buffer", plan: "Future[_Plan]", lane: Lane, step: int) -> Batch:
        """Read the crops of one planned step into `buffer`."""
        first = step % PLAN_STEPS * self.batch
        planned = _Plan(*(all_[first : first + self.batch] for all_ in plan.result()))
        clips, epochs, starts, lengths, shards, offsets = planned
        short = lengths.min() < self.frames
        rows = buffer.padded(lengths) if short else buffer.rows
        with closing(lane.lend(step, epochs, shards)) as pieces:
            for part, files in pieces:
                wanted = len(files) * self.crop_bytes
                if short:
                    wanted = sum(row[0].nbytes for row in rows[part])
                if sum(map(os.preadv, files, rows[part], offsets[part].tolist())) != wanted:
                    self._explain(clips[part], files, offsets[part].tolist(), rows[part])
        return Batch(buffer.crops, *map(torch.from_numpy, (clips, epochs, starts)))

    def _explain(
        self,
        clips: np.ndarray,
        files: list[int],
        offsets: list[int],
        rows: list[list[memoryview]],
    ) -> None:
        """Find the crop that could not be read whole and say which clip it is."""
        for clip, file, offset, row in zip(clips, files, offsets, rows, strict=True):
            if os.preadv(file, row, offset) < row[0].nbytes:
                name = self.shard_set.names[self.shard_set.shard_of(clip)]
                raise UserError(
                    f"{self.shard_set.folder / name}.tar ends inside clip "
                    f"{self.shard_set.keys[clip]}; "
                    f"run `abt shards verify {self.shard_set.folder}`"
                )

    def close(self) -> None:
        """Close the tars; a batch that is asked for after it is a ValueError."""
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Plan(NamedTuple):
    """Where the crops of some steps lie, one flat array each."""

    clips: np.ndarray
    epochs: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    shards: np.ndarray
    offsets: np.ndarray


class _Buffer:
    """Memory of one batch and, for every row, the list of one memoryview that `preadv` wants."""

    def __init__(self, reader: CropReader) -> None:
        form = reader.shard_set.form
        self.crops = torch.zeros(
            reader.batch, reader.frames, *form.frame_shape,
            dtype=torch.int16 if form.kind == "wave" else torch.float16,
            pin_memory=torch.cuda.is_available(),
        )  # fmt: skip
        self.frame_bytes, self.frames = form.frame_bytes, reader.frames
        flat = memoryview(self.crops.view(reader.batch, -1).numpy().data).cast("B")
        size = reader.crop_bytes
        self.rows = [[flat[i * size : (i + 1) * size]] for i in range(reader.batch)]

    def padded(self, lengths: np.ndarray) -> list[list[memoryview]]:
        """Shorten the rows of short clips and put zeros behind them."""
        rows = self.rows.copy()
        for i in np.flatnonzero(lengths < self.frames):
            self.crops[i, lengths[i] :] = 0
            rows[i] = [rows[i][0][: int(lengths[i]) * self.frame_bytes]]
        return rows
