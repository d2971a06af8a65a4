"""Embeddings of task splits, kept on disk: a second probe of the same system embeds nothing.

A split is one file, `<system>/<task>/<split>-<digest of its clips>.npy`, of two arrays in numpy's
format, one after another: embeddings float32 [N, D], and timestamps float64 [N, 2] in event tasks
(number of the clip, milliseconds; [0, 2] in others). The CRC-32 of all that is at the end.
`numpy.load(file)` gives the embeddings. Any folder may be deleted; none is removed by itself.
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
"""Goes into the digests, so that files of another form are not found."""
ORPHAN_AGE_S = 3600
"""A scratch file that has not been written to for so long is of a process that was killed."""


@dataclass(frozen=True)
class Rows:
    """Embeddings of the clips of a split, clip after clip."""

    embeddings: Tensor
    """Float32 [N, D]."""
    timestamps_ms: tuple[np.ndarray, ...] = ()
    """Event tasks: float64 [T] for each clip; their lengths add up to N."""


@dataclass(frozen=True)
class EmbeddingCache:
    """The embeddings that one system made; any number of processes may use it at once."""

    folder: Path
    """Holds the caches of all systems."""
    system: str
    """Fingerprint of everything that decides what the system makes of a clip."""

    def file(self, task: Task, split: str, sample_rate: int) -> Path:
        """Name the file of a split of a task whose clips are at a rate in Hz."""
        digest = fingerprint(task.splits[split], task.metadata.embedding_type, sample_rate)
        return self.folder / "embeddings" / self.system / task.name / f"{split}-{digest}.npy"

    def read(self, file: Path, n_clips: int) -> Rows | None:
        """Read what `write` wrote; None if there is no such file, or it is damaged.

        The embeddings are mapped into memory: private to the process, and read only when needed.
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
        """Write the embeddings of a split, complete or not at all."""
        embeddings = np.ascontiguousarray(rows.embeddings.cpu().numpy(), dtype="<f4")
        numbered = [
            np.stack([np.full(len(times), clip, dtype="<f8"), times], axis=1)
            for clip, times in enumerate(rows.timestamps_ms)
        ]
        timestamps = np.concatenate([np.empty((0, 2), dtype="<f8"), *numbered])
        _remove_orphans(file)
        with caching(file), replacing(file) as scratch, scratch.open("wb") as out:
            summing = _Summing(out)
            for array in (embeddings, timestamps):
                np.lib.format.write_array(summing, array, allow_pickle=False)
            out.write(struct.pack("<I", summing.checksum))


def fingerprint(clips: Sequence[Clip], embedding_type: str, sample_rate: int) -> str:
    """Digest what is embedded: kind, rate, and the clips' names, sizes and times of change.

    Labels have no part in it.
    """
    digest = hashlib.sha256(f"{FORMAT} {embedding_type} {sample_rate} float32\n".encode())
    for clip in clips:
        status = clip.path.stat()
        digest.update(f"{clip.path.name}\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _remove_orphans(file: Path) -> None:
    for scratch in file.parent.glob(f".{file.name}.*.tmp"):
        with suppress(FileNotFoundError):  # another process has just finished with it
            if time.time() - scratch.stat().st_mtime > ORPHAN_AGE_S:
                scratch.unlink()


class _Summing:
    """A file that keeps the checksum of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.checksum = file, 0

    def write(self, data: bytes) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self.file.write(data)


def _read_arrays(file: Path) -> tuple[np.ndarray, np.ndarray]:
    content = np.memmap(file, mode="r")
    if zlib.crc32(content[:-4].data) != int.from_bytes(content[-4:].tobytes(), "little"):
        raise ValueError("its checksum differs")
    # Copy on write: torch warns of arrays that cannot be written to.
    embeddings: np.memmap = np.lib.format.open_memmap(file, mode="c")
    with file.open("rb") as rest:
        rest.seek(embeddings.offset + embeddings.nbytes)
        return embeddings, np.lib.format.read_array(rest, allow_pickle=False)


def _by_clip(timestamps: np.ndarray, n_clips: int) -> tuple[np.ndarray, ...]:
    if not len(timestamps):
        return ()
    ends = np.searchsorted(timestamps[:, 0], np.arange(n_clips), side="right")
    return tuple(np.split(np.ascontiguousarray(timestamps[:, 1]), ends[:-1]))
