"""Which clip, and which crop of it, comes at global position i: pure functions, no state.

Position i lies in epoch i // n. An epoch is a permutation of the clips; where the whole set cannot
be cached (a remote set), shards are shuffled and cut into blocks, and clips are shuffled inside a
block. All random numbers are SplitMix64 hashes (Steele, Lea, Flood 2014) of (fingerprint, seed,
epoch), so the order is the same for every version of numpy and every number of processes, threads
and devices. The price of mixing all clips is one random read a crop.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..base.errors import UserError
from ..stored.shardset import ShardSet


class Crops(NamedTuple):
    """Where some crops are, in reading order; int64 [N] each."""

    clips: np.ndarray
    epochs: np.ndarray
    starts: np.ndarray
    """First frame of each crop in its clip."""
    lengths: np.ndarray
    """Frames of each crop that its clip has; a shorter clip has fewer than the crop."""
    shards: np.ndarray
    offsets: np.ndarray
    """First byte of each crop in its tar."""

    def part(self, rows: slice) -> "Crops":
        return Crops(*(values[rows] for values in self))


class Order:
    """The endless sequence of (clip, crop) of a shard set.

    Args:
        shard_set: its fingerprint and sizes key the order.
        frames: length of a crop, in frames.
        seed: selects the order.
        block_shards: shards whose clips are mixed with each other; 0 means all.
    """

    def __init__(
        self, shard_set: ShardSet, *, frames: int, seed: int = 0, block_shards: int = 0
    ) -> None:
        self.shard_set, self.frames, self.seed = shard_set, frames, seed
        self.block_shards = block_shards or len(shard_set.names)
        self.n_blocks = -(-len(shard_set.names) // self.block_shards)
        self._permutation = lru_cache(maxsize=2)(self._epoch)
        self.blocks = lru_cache(maxsize=4)(self._blocks)

    def crops(self, positions: np.ndarray) -> Crops:
        """Return the crop at each global position, int64 [N]."""
        epochs, clips = self.clips(positions)
        starts = self.starts(epochs, clips)
        offsets = self.shard_set.offsets[clips] + starts * self.shard_set.form.frame_bytes
        lengths = np.minimum(self.shard_set.n_frames[clips], self.frames, dtype=np.int64)
        shards = self.shard_set.shard_of(clips)
        return Crops(clips, epochs, starts, lengths, shards, offsets)

    def clips(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the epoch and the clip at each global position, int64 [N] both."""
        epochs, inside = np.divmod(positions, len(self.shard_set))
        clips = np.empty_like(positions)
        for epoch, rows in runs(epochs):
            clips[rows] = self._permutation(epoch)[inside[rows]]
        return epochs, clips

    def starts(self, epochs: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Return the first frame of each crop, uniform over its clip, int64 [N]."""
        spare = np.maximum(self.shard_set.n_frames[clips].astype(np.uint64), self.frames)
        spare -= np.uint64(self.frames - 1)
        keys = np.empty(len(clips), np.uint64)
        for epoch, rows in runs(epochs):
            keys[rows] = self._key("crop", epoch)
        draws = hash64(keys + clips.astype(np.uint64)) >> np.uint64(32)
        return (draws * spare >> np.uint64(32)).astype(np.int64)

    def by_block(self, crops: Crops) -> Iterator[tuple[int, slice]]:
        """Yield runs of crops that are read in one block, with its number over all epochs."""
        blocks = crops.epochs * self.n_blocks
        for epoch, rows in runs(crops.epochs):
            blocks[rows] += self.blocks(epoch)[crops.shards[rows]]
        yield from runs(blocks)

    def _blocks(self, epoch: int) -> np.ndarray:
        """Return the block of each shard in an epoch, counted from 0: int64 [shards]."""
        if self.n_blocks == 1:
            return np.zeros(len(self.shard_set.names), np.int64)
        shards = np.arange(len(self.shard_set.names), dtype=np.uint64)
        rank = np.argsort(np.argsort(hash64(shards + self._key("shard", epoch)), kind="stable"))
        return rank // self.block_shards

    def _epoch(self, epoch: int) -> np.ndarray:
        """Return the permutation of one epoch, int32 [clips]."""
        shuffled = np.arange(len(self.shard_set), dtype=np.uint64)
        shuffled += self._key("clip", epoch)
        shuffled = hash64(shuffled)
        if self.n_blocks == 1:  # no two hashes are equal, so every kind of sort gives the same
            return np.argsort(shuffled).astype(np.int32)
        block = np.repeat(self.blocks(epoch), np.diff(self.shard_set.first))
        return np.lexsort((shuffled, block)).astype(np.int32)

    def _key(self, what: str, epoch: int) -> np.uint64:
        text = f"{self.shard_set.fingerprint} {self.seed} {epoch} {what}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return np.uint64(int.from_bytes(digest, "little"))


class ShardRequest(NamedTuple):
    """A shard, and the block that needs it next, counted over all epochs."""

    shard: int
    needed_at: int


def shard_requests(order: Order, block: int) -> list[ShardRequest]:
    """Return when each shard is needed next, from `block` on, in the order of need.

    An epoch needs each shard in one of its blocks; shards without clips are never needed.
    """
    epoch, inside = divmod(block, order.n_blocks)
    this, following = order.blocks(epoch), order.blocks(epoch + 1) + order.n_blocks
    needed_at = np.where(this >= inside, this, following) + epoch * order.n_blocks
    shards = np.argsort(needed_at, kind="stable")
    shards = shards[np.diff(order.shard_set.first)[shards] > 0]
    return list(map(ShardRequest, shards.tolist(), needed_at[shards].tolist()))


def require_room(order: Order, max_bytes: int) -> bool:
    """Raise UserError if a cache is too small for a block; tell whether it has room for two."""
    sizes = np.array(order.shard_set.tar_bytes)[np.diff(order.shard_set.first) > 0]
    sizes = np.cumsum(np.sort(sizes)[::-1])
    mixed = min(order.block_shards, len(sizes))
    needed = int(sizes[mixed - 1])
    if needed <= max_bytes:
        return max_bytes >= min(2 * needed, int(sizes[-1]))
    fitting = int(np.searchsorted(sizes, max_bytes // 2, side="right"))
    fitting = fitting or int(max_bytes >= sizes[0])
    other = f", or mix fewer shards: block_shards={fitting}, another order" if fitting else ""
    which = f"all {mixed} shards" if mixed == len(sizes) else f"blocks of {mixed} shards"
    raise UserError(
        f"a cache of {max_bytes} bytes is too small for {order.shard_set.folder}, whose order "
        f"mixes {which}: give it at least max_bytes={needed}{other}"
    )


def runs(values: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Yield the value of each run of equal ones, and where it lies."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for begin, end in pairwise(edges if len(values) else ()):
        yield int(values[begin]), slice(begin, end)


def hash64(values: np.ndarray) -> np.ndarray:
    """Hash uint64 values with the SplitMix64 finaliser."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
