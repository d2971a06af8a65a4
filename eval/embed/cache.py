"""Embeddings of task splits, cached on disk: a second probe of the same system embeds nothing.

A split is one file, `<system>/<task>/<split>-<digest of its clips>.npy`: two arrays in numpy's
format and their CRC-32. The first array holds the embeddings, float32 [N, D], and is what
`numpy.load(file)` returns; the second holds timestamps, float64 [N, 2] (clip number, milliseconds)
in event tasks, [0, 2] in others. Nothing is evicted; any folder may be deleted at any time.
"""

import hashlib
import logging
import struct
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.files import replacing

from ..sound.cache_folder import caching
from ..tasks.task import Clip, Task

log = logging.getLogger(__name__)

FORMAT = 1
"""Part of the digests, so that files of another format are not found."""
ORPHAN_AGE_S = 3600
"""A scratch file that was last written to longer ago belongs to a process that was killed."""


@dataclass(frozen=True)
class Rows:
    """Embeddings of a split, in the order of its clips."""

    embeddings: Tensor
    """Float32 [N, D], on the host."""
    timestamps_ms: tuple[np.ndarray, ...] = ()
    """Event tasks: float64 [T] for each clip; their lengths add up to N."""


@dataclass(frozen=True)
class EmbeddingCache:
    """The cached embeddings of one system; safe for several processes at once."""

    folder: Path
    """Holds the caches of all systems."""
    system: str
    """Fingerprint of everything that affects its embeddings."""

    def file(self, task: Task, split: str, sample_rate: int) -> Path:
        """Return the path of a split whose clips have a sample rate in Hz."""
        digest = fingerprint(task.splits[split], task.metadata.embedding_type, sample_rate)
        return self.folder / "embeddings" / self.system / task.name / f"{split}-{digest}.npy"

    def read(self, file: Path, n_clips: int) -> Rows | None:
        """Read what `write` wrote; None if the file is missing or damaged.

        The embeddings are memory-mapped copy-on-write, so that pages are read when first used.
        """
        try:
            embeddings, timestamps = _read_arrays(file)
            return Rows(torch.from_numpy(embeddings), _by_clip(timestamps, n_clips))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s: is damaged (%s); the clips are embedded again", file, error)
            return None

    def write(self, file: Path, rows: Rows) -> None:
        """Write the embeddings of a split atomically."""
        embeddings = np.ascontiguousarray(rows.embeddings.numpy(), dtype="<f4")
        numbered = [
            np.stack([np.full(len(times), clip, dtype="<f8"), times], axis=1)
            for clip, times in enumerate(rows.timestamps_ms)
        ]
        timestamps = np.concatenate([np.empty((0, 2), dtype="<f8"), *numbered])
        _remove_orphans(file)
        with caching(file), replacing(file) as scratch, scratch.open("wb") as out:
            checksummed = _ChecksumWriter(out)
            for array in (embeddings, timestamps):
                np.lib.format.write_array(checksummed, array, allow_pickle=False)
            out.write(struct.pack("<I", checksummed.checksum))


def fingerprint(clips: Sequence[Clip], embedding_type: str, sample_rate: int) -> str:
    """Digest embedding type, rate, and the clips' names, sizes and mtimes, but not their labels."""
    digest = hashlib.sha256(f"{FORMAT} {embedding_type} {sample_rate} float32\n".encode())
    for clip in clips:
        status = clip.path.stat()
        digest.update(f"{clip.path.name}\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _remove_orphans(file: Path) -> None:
    for scratch in file.parent.glob(f".{file.name}.*.tmp"):
        with suppress(FileNotFoundError):  # another process has just renamed or removed it
            if time.time() - scratch.stat().st_mtime > ORPHAN_AGE_S:
                scratch.unlink()


class _ChecksumWriter:
    def __init__(self, file: BinaryIO) -> None:
        self.file, self.checksum = file, 0

    def write(self, data: bytes) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self.file.write(data)


def _read_arrays(file: Path) -> tuple[np.ndarray, np.ndarray]:
    content = np.memmap(file, mode="r")
    if zlib.crc32(content[:-4].data) != int.from_bytes(content[-4:].tobytes(), "little"):
        raise ValueError("its checksum differs")
    # Copy on write, because torch warns about read-only arrays.
    embeddings: np.memmap = np.lib.format.open_memmap(file, mode="c")
    with file.open("rb") as rest:
        rest.seek(embeddings.offset + embeddings.nbytes)
        return embeddings, np.lib.format.read_array(rest, allow_pickle=False)


def _by_clip(timestamps: np.ndarray, n_clips: int) -> tuple[np.ndarray, ...]:
    if not len(timestamps):
        return ()
    ends = np.searchsorted(timestamps[:, 0], np.arange(n_clips), side="right")
    return tuple(np.split(np.ascontiguousarray(timestamps[:, 1]), ends[:-1]))
