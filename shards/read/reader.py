"""Read training crops: one `preadv` a crop, straight into the batch for the device."""

import os
import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ..base.ahead import Background, ahead
from ..base.errors import UserError
from ..base.place import is_remote
from ..stored.shardset import ShardSet, open_shards
from .local import LocalTars, announce, closed_early, read_cached
from .order import Crops, Order
from .remote.folder import CacheOptions
from .remote.prefetch import CachedTars
from .whole import WholeShards

PLAN_STEPS = 256
"""Steps planned at once. A thread plans the next, and asks for Python's lock as often for many as
for few: plans of 64 steps took a tenth of the speed of warm reads."""
Unit = Literal["crops", "shards"]
LEAST_AHEAD = 4
"""Batches to read ahead where nothing was measured: enough for a disk in the machine."""
Tars = LocalTars | CachedTars | WholeShards


@dataclass(slots=True)
class Batch:
    """One batch; its memory is reused once `hold` further batches have been requested."""

    crops: Tensor
    """float16 [N, frames, n_mels] (logmel) or int16 [N, frames] (wave); pinned if asked for."""
    clips: np.ndarray
    """Number of each clip in the set, int64 [N]."""
    epochs: np.ndarray
    """Epoch of each crop, int64 [N]."""
    starts: np.ndarray
    """First frame of each crop in its clip, int64 [N]."""
    cached: bool
    """Whether all crops lay in the page cache when they were first asked for, as far as the system
    tells."""


class CropReader:
    """Read the crops of a shard set in the order of `shards.read.order`.

    Args:
        shards: a folder, a URL, or an open set. A URL is read through a cache.
        frames: length of a crop; shorter clips are padded with zeros at the end.
        batch: crops a step, over all processes that share a batch.
        rows: which crops of each batch this process reads; default: all.
        seed: selects the order.
        ahead: batches that are read, or announced to the kernel, while one is used.
        hold: batches that stay valid at a time, the newest included.
        block_shards: see `Order`; it sets the order of local and remote sets alike.
        unit: what is read ahead of a local set: each crop, or the whole shards of the next block in
            order, see `WholeShards`. A remote set is fetched by whole shards anyway.
        cache: cache of a remote set, default `CacheOptions()`. It must hold a block of shards;
            if it holds two, the next block is fetched while one is read.
        run: readers of the same run and order share a cache, see `CacheFolder`.
        pin: read into pinned memory, from which a GPU copies while it computes. This starts CUDA.

    Raises:
        UserError: the set is missing or cannot be opened, or the cache is too small for it.
    """

    def __init__(
        self,
        shards: ShardSet | Path | str,
        *,
        frames: int,
        batch: int,
        rows: range | None = None,
        seed: int = 0,
        ahead: int = LEAST_AHEAD,
        hold: int = 1,
        block_shards: int = 0,
        unit: Unit = "crops",
        cache: CacheOptions | None = None,
        run: str = "",
        pin: bool = False,
    ) -> None:
        self.rows = rows = range(batch) if rows is None else rows
        if min(frames, batch, ahead + 1, hold) < 1 or not 0 <= rows.start < rows.stop <= batch:
            raise UserError(
                f"frames {frames}, batch {batch} and hold {hold} must be 1 or more, ahead {ahead} "
                f"0 or more, rows {rows.start} to {rows.stop} must be in the batch"
            )
        self.shard_set = shards if isinstance(shards, ShardSet) else open_shards(shards)
        self.order = Order(self.shard_set, frames=frames, seed=seed, block_shards=block_shards)
        self.batch, self.hold, self.pin = batch, hold, pin
        self.ahead, self.unit = ahead, unit  # of the sequences that are yet to begin
        self.crop_bytes = frames * self.shard_set.form.frame_bytes
        self._stop = threading.Event()
        self._stream: Background[_Buffer] | None = None
        self.tars: LocalTars | CachedTars
        if is_remote(self.shard_set.folder):
            self.tars = CachedTars(self.order, cache or CacheOptions(), run, self._stop)
        else:
            self.tars = LocalTars(self.shard_set)
        self._finish = weakref.finalize(self, self.tars.close)

    def batches(self, first_step: int = 0, n_steps: int | None = None) -> Generator[Batch]:
        """Yield the batches of steps first_step, first_step + 1, ...; endless without `n_steps`.

        One sequence is read at a time: a request to an earlier one raises ValueError.
        Step k, once asked for, frees the memory of step k - hold.
        """
        self._end()
        self._stop.clear()
        lag = (self.ahead + 1) // 2
        n, n_buffers = len(self.rows), self.ahead - lag + self.hold
        free = [_Buffer(n, self.order, self.pin) for _ in range(n_buffers)]
        held: deque[_Buffer] = deque()
        read = self._read(first_step, n_steps, lag, free)
        stream = self._stream = Background(read, self.ahead - lag + 1, "crops")
        try:
            while not self._left(stream):
                if len(held) == self.hold:
                    free.append(held.popleft())
                if (buffer := next(stream, None)) is None:
                    break
                held.append(buffer)
                yield buffer.batch
            if self._left(stream):
                raise closed_early()
        finally:
            stream.close()

    def _left(self, stream: Background["_Buffer"]) -> bool:
        """Tell whether the reader was closed, or has begun another sequence."""
        return self._stop.is_set() or stream is not self._stream

    def _end(self) -> None:
        """End the sequence in progress, after the read in progress."""
        self._stop.set()
        if self._stream:
            self._stream.close()

    def _read(
        self, first_step: int, n_steps: int | None, lag: int, free: "list[_Buffer]"
    ) -> Generator["_Buffer"]:
        """Read batch after batch into free buffers.

        A batch in the page cache is read at once. Otherwise the kernel is asked to prefetch it, and
        it is read `lag` batches later, when most of it has arrived: one thread gets the disk's full
        speed. The buffer that was freed last is the next one, as it may be in the CPU's cache; a
        batch takes none before its turn.
        """
        begun: deque[_Begun] = deque()
        with closing(self._planned(first_step)) as planned, self._in_units() as tars:
            for crops in islice(planned, n_steps):
                files, buffer = tars.opened(crops), free.pop()
                cached = files is not None and buffer.read_cached(crops, files)
                if cached and not begun:
                    yield buffer.filled(crops, cached)
                    continue
                free.append(buffer)
                if files is not None and not cached:
                    announce(files, crops.offsets.tolist(), self.crop_bytes)
                begun.append(_Begun(crops, files is not None, cached))
                while begun and (begun[0].cached or len(begun) > lag):
                    yield free.pop().read(begun.popleft(), tars)
            for each in begun:
                yield free.pop().read(each, tars)

    @contextmanager
    def _in_units(self) -> Iterator[Tars]:
        if self.unit == "crops" or isinstance(self.tars, CachedTars):
            yield self.tars
        else:
            with closing(WholeShards(self.tars, self.order, self._stop)) as tars:
                yield tars

    def _planned(self, first_step: int) -> Generator[Crops]:
        rows, n = np.array(self.rows), len(self.rows)

        def plan(first: int) -> Crops:
            steps = np.arange(first, first + PLAN_STEPS)[:, None]
            return self.order.crops((steps * self.batch + rows).ravel())

        with closing(ahead(plan, count(first_step, PLAN_STEPS), 1, 2)) as plans:
            for _, planned in plans:
                by_step = (values.reshape(PLAN_STEPS, n) for values in planned.result())
                yield from map(Crops._make, zip(*by_step, strict=True))

    def close(self) -> None:
        """Close the tars; a later request for a batch raises ValueError."""
        self._end()
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Begun(NamedTuple):
    """A batch that waits for its turn."""

    crops: Crops
    announced: bool
    """False: not all tars were open, or in memory."""
    cached: bool


class _Buffer:
    """Memory for a batch of `n` crops."""

    def __init__(self, n: int, order: Order, pin: bool) -> None:
        self.shard_set, form = order.shard_set, order.shard_set.form
        self.frame_bytes = form.frame_bytes
        self.size = size = order.frames * self.frame_bytes
        self.tensor = torch.zeros(
            n, order.frames, *form.frame_shape,
            dtype=torch.int16 if form.kind == "wave" else torch.float16,
            pin_memory=pin,
        )  # fmt: skip
        flat = memoryview(self.tensor.view(n, -1).numpy().data).cast("B")
        # For every crop the list of one memoryview that `preadv` wants.
        self._whole_rows = [[flat[i * size : (i + 1) * size]] for i in range(n)]

    def read_cached(self, crops: Crops, files: list[int]) -> bool:
        """Try to read the crops from the page cache; tell whether all of them were there."""
        self._fit(crops)
        return read_cached(files, self.rows, crops.offsets.tolist()) == self.wanted

    def read(self, begun: _Begun, tars: Tars) -> Self:
        """Read the crops, wherever they are."""
        crops = begun.crops
        self._fit(crops)
        for part, files in tars.borrow(crops):
            rows, offsets = self.rows[part], crops.offsets[part].tolist()
            if not begun.announced:
                announce(files, offsets, self.size)
            if sum(map(os.preadv, files, rows, offsets)) != self.sizes[part].sum():
                self._explain(crops.part(part), files, rows)
        return self.filled(crops, begun.cached)

    def filled(self, crops: Crops, cached: bool) -> Self:
        """Say in `batch` what was read."""
        self.batch = Batch(self.tensor, crops.clips, crops.epochs, crops.starts, cached)
        return self

    def _fit(self, crops: Crops) -> None:
        """Choose the memory of each crop; what lies behind a short clip becomes zero."""
        self.sizes = crops.lengths * self.frame_bytes
        self.rows, self.wanted = self._whole_rows, self.sizes.sum()
        if self.wanted < len(self.rows) * self.size:
            self.rows = [[row[:end]] for (row,), end in zip(self.rows, self.sizes, strict=True)]
            for (row,), end in zip(self._whole_rows, self.sizes, strict=True):
                row[end:] = bytes(self.size - end)

    def _explain(self, crops: Crops, files: list[int], rows: list[list[memoryview]]) -> None:
        """Raise UserError for the clip that cannot be read whole."""
        of, name = self.shard_set.folder, self.shard_set.names
        for i, (file, row) in enumerate(zip(files, rows, strict=True)):
            if os.preadv(file, row, crops.offsets[i]) < len(row[0]):
                raise UserError(
                    f"{of / name[crops.shards[i]]}.tar ends inside clip "
                    f"{self.shard_set.keys[crops.clips[i]]}; run `abt shards verify {of}`"
                )
