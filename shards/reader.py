"""Read training crops: one `preadv` a crop, straight into the batch that goes to the device."""

import os
import resource
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from shards.cli import UserError
from shards.order import Order
from shards.place import is_remote, place
from shards.shardset import ShardSet, open_shards

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
    """Deliver the crops of a shard set in the order of `shards.order`.

    Args:
        shards: a folder or an open set.
        frames: length of a crop; shorter clips are padded with zeros at the end.
        batch: crops a step on this rank.
        seed: another seed, another order.
        rank, world: this process reads rows [rank * batch, (rank + 1) * batch) of a global batch.
        threads: batches that are filled at the same time.
        ahead: batches that are ready or being filled while one is used.
        hold: batches that stay valid at a time, the newest included.
        block_shards: see `shards.order.Order`.

    Raises:
        UserError: the set is missing or cannot be opened.
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
    ) -> None:
        if min(frames, batch, threads, ahead + 1, hold) < 1 or not 0 <= rank < world:
            raise UserError(
                f"frames {frames}, batch {batch}, threads {threads} and hold {hold} must be 1 or "
                f"more, ahead {ahead} 0 or more, rank {rank} below world {world}"
            )
        folder = shards.folder if isinstance(shards, ShardSet) else place(shards)
        if is_remote(folder):
            raise UserError(f"{folder} is a URL; crops are read from local sets, copy it first")
        self.shard_set = shards if isinstance(shards, ShardSet) else open_shards(folder)
        self.order = Order(self.shard_set, frames=frames, seed=seed, block_shards=block_shards)
        self.frames, self.batch, self.rank, self.world = frames, batch, rank, world
        self.threads, self.ahead, self.hold = threads, ahead, hold
        self.crop_bytes = frames * self.shard_set.form.frame_bytes
        self._files = _open_tars(self.shard_set)

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
        with ThreadPoolExecutor(self.threads, thread_name_prefix="crops") as pool:
            plan = next_plan = pool.submit(self._plan, first_step)
            try:
                for step in steps:
                    if (row := step % PLAN_STEPS) == 0:
                        following = first_step + step + PLAN_STEPS
                        plan, next_plan = next_plan, pool.submit(self._plan, following)
                    buffer = buffers[step % len(buffers)]
                    pending.append(pool.submit(self._fill, buffer, plan, row))
                    if len(pending) > self.ahead:
                        yield pending.popleft().result()
                for future in pending:
                    yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _plan(self, first_step: int) -> "_Plan":
        """Work out where the crops of PLAN_STEPS steps lie; many steps at once cost little more."""
        steps = np.arange(first_step, first_step + PLAN_STEPS)[:, None]
        rows = np.arange(self.batch) + self.rank * self.batch
        epochs, clips = self.order.clips((steps * self.world * self.batch + rows).ravel())
        starts = self.order.starts(epochs, clips)
        offsets = self.shard_set.offsets[clips] + starts * self.shard_set.form.frame_bytes
        files = self._files[self.shard_set.shard_of(clips)]
        return _Plan(clips, epochs, starts, self.shard_set.n_frames[clips], files, offsets)

    def _fill(self, buffer: "_Buffer", plan: "Future[_Plan]", row: int) -> Batch:
        """Read the crops of one planned step into `buffer`."""
        part = slice(row * self.batch, (row + 1) * self.batch)
        clips, epochs, starts, lengths, files, offsets = (all_[part] for all_ in plan.result())
        rows, wanted = buffer.rows, self.batch * self.crop_bytes
        if lengths.min() < self.frames:
            rows, wanted = buffer.padded(lengths)
        if sum(map(os.preadv, files.tolist(), rows, offsets.tolist())) != wanted:
            self._explain(clips, offsets.tolist(), rows)
        return Batch(buffer.crops, *map(torch.from_numpy, (clips, epochs, starts)))

    def _explain(self, clips: np.ndarray, offsets: list[int], rows: list[list[memoryview]]) -> None:
        """Find the crop that could not be read whole and say which clip it is."""
        shards = self.shard_set.shard_of(clips)
        for clip, shard, offset, row in zip(clips, shards, offsets, rows, strict=True):
            if os.preadv(self._files[shard], row, offset) < row[0].nbytes:
                path = self.shard_set.folder / f"{self.shard_set.names[shard]}.tar"
                raise UserError(
                    f"{path} ends inside clip {self.shard_set.keys[clip]}; "
                    f"run `python -m shards verify {self.shard_set.folder}`"
                )

    def close(self) -> None:
        """Close the tars; the reader cannot be used after it."""
        for file in self._files:
            os.close(file)
        self._files = np.empty(0, np.int64)

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
    files: np.ndarray
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

    def padded(self, lengths: np.ndarray) -> tuple[list[list[memoryview]], int]:
        """Shorten the rows of short clips, put zeros behind them; also return the bytes to read."""
        rows = self.rows.copy()
        for i in np.flatnonzero(lengths < self.frames):
            self.crops[i, lengths[i] :] = 0
            rows[i] = [rows[i][0][: int(lengths[i]) * self.frame_bytes]]
        return rows, int(np.minimum(lengths, self.frames).sum()) * self.frame_bytes


def _open_tars(shard_set: ShardSet) -> np.ndarray:
    """Open every tar for random reads, int64 [shards] of file descriptors."""
    _allow_files(len(shard_set.names))
    files: list[int] = []
    try:
        for name, size in zip(shard_set.names, shard_set.tar_bytes, strict=True):
            files.append(_open_tar(shard_set.folder / f"{name}.tar", size))
    except UserError:
        for file in files:
            os.close(file)
        raise
    return np.array(files, np.int64)


def _open_tar(path: Path, size: int) -> int:
    advice = f"run `python -m shards verify {path.parent}`"
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {advice}") from error
    if (found := os.fstat(file).st_size) != size:
        os.close(file)
        raise UserError(f"{path} has {found} bytes, written were {size}; {advice}")
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    return file


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files if the set has more shards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + len(os.listdir("/dev/fd")) + 512
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UserError(
            f"the set has {wanted} shards, but this system allows {hard} open files; "
            f"raise it (`ulimit -Hn {needed}`) or ingest with a larger --shard-clips"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
