"""Which clip, and which crop of it, comes at global position i: a pure function, no state.

Position i lies in epoch i // n. An epoch is a permutation of the clips; where the whole set cannot
be cached (a remote set), shards are shuffled and cut into blocks, and clips are shuffled inside a
block. All random numbers are SplitMix64 hashes (Steele, Lea, Flood 2014) of (fingerprint, seed,
epoch), so the order is the same for every version of numpy and every number of processes, threads
and devices.
"""

import hashlib
from functools import lru_cache

import numpy as np

from ..stored.shardset import ShardSet


class Order:
    """The endless sequence of (clip, crop) of a shard set.

    Args:
        shard_set: its fingerprint and sizes key the order.
        frames: length of a crop, in frames.
        seed: another seed, another order.
        block_shards: shards whose clips are mixed with each other; 0 means all.
    """

    def __init__(
        self, shard_set: ShardSet, *, frames: int, seed: int = 0, block_shards: int = 0
    ) -> None:
        self.shard_set, self.frames, self.seed = shard_set, frames, seed
        self.block_shards = block_shards or len(shard_set.names)
        self.n_blocks = -(-len(shard_set.names) // self.block_shards)
        self._permutation = lru_cache(maxsize=2)(self._epoch)

    def clips(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the epoch and the clip at each global position, int64 [N] both."""
        epochs, inside = np.divmod(positions, len(self.shard_set))
        clips = np.empty_like(positions)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            clips[chosen] = self._permutation(int(epoch))[inside[chosen]]
        return epochs, clips

    def starts(self, epochs: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Return the first frame of each crop, uniform over its clip, int64 [N]."""
        spare = np.maximum(self.shard_set.n_frames[clips].astype(np.uint64), self.frames)
        spare -= np.uint64(self.frames - 1)
        keys = np.empty(len(clips), np.uint64)
        for epoch in np.unique(epochs):
            keys[epochs == epoch] = self._key("crop", int(epoch))
        draws = hash64(keys + clips.astype(np.uint64)) >> np.uint64(32)
        return (draws * spare >> np.uint64(32)).astype(np.int64)

    def blocks(self, epoch: int) -> np.ndarray:
        """Return which block of an epoch holds each shard, counted from 0: int64 [shards]."""
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
        if self.n_blocks == 1:
            return np.argsort(shuffled, kind="stable").astype(np.int32)
        block = np.repeat(self.blocks(epoch), np.diff(self.shard_set.first))
        return np.lexsort((shuffled, block)).astype(np.int32)

    def _key(self, what: str, epoch: int) -> np.uint64:
        text = f"{self.shard_set.fingerprint} {self.seed} {epoch} {what}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return np.uint64(int.from_bytes(digest, "little"))


def hash64(values: np.ndarray) -> np.ndarray:
    """Hash uint64 values with the SplitMix64 finaliser."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
