"""Sound files in, embeddings out.

Threads prefetch files, and clips with the same number of frames share a forward pass. No clip is
padded to another's length, so an embedding does not depend on the other clips of its pass.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.shards.base.ahead import MOST_THREADS, ahead
from audio_barlow_twins.shards.base.transfer import HostCopy, one_late, to_device
from audio_barlow_twins.shards.decode.files import shown

from ..sound.audio import AudioError, read_audio
from .batches import buckets

MAX_DURATION_S = 600
"""Longest file that is embedded as a whole."""
READ_AHEAD = 32
"""Files to prefetch; at most 1.2 GB of samples."""
FRAMES_WAITING = 4 * 128 * 96
"""Frames of clips that wait for others of their length: 8 min of sound, 30 MB."""
FRAMES_PER_PASS = {"cpu": 16 * 96, "cuda": 128 * 96}
"""Frames in one forward pass: few on a CPU, so that the encoder's maps fit its cache."""

Pass = Sequence[tuple[int, "Sound"]]
"""Numbered sounds with the same number of frames."""


@dataclass(frozen=True)
class Sound:
    file: Path
    wave: np.ndarray
    """float32 [samples] at the model's rate."""


@dataclass(frozen=True)
class FileEmbedding:
    file: Path
    duration_s: float
    embedding: np.ndarray
    """float32 [D]."""


@dataclass(frozen=True)
class Failed:
    file: Path
    reason: str


OnBad = Callable[[Failed], object]


def embed_files(
    files: Iterable[Path], model: Embedder, on_bad: OnBad | None = None
) -> Iterator[FileEmbedding]:
    """Embed sound files, each as a whole.

    Args:
        files: of any format that ffmpeg reads, any rate and number of channels.
        on_bad: called with each file that cannot be used, which is skipped; without it, the first
            one raises.

    Yields:
        Embeddings in the order of the files.

    Raises:
        AudioError: a file cannot be read, is empty, or is longer than ten minutes.
    """
    sounds = read_ahead(files, model.sample_rate, on_bad, reading_threads(model.device))
    queued = (
        (part, HostCopy(model.encode(log_mel_of(part, model)))) for part in passes(sounds, model)
    )
    done: dict[int, FileEmbedding] = {}
    following = 0
    for part, embeddings in one_late(queued):
        for (i, sound), row in zip(part, embeddings.result().numpy(), strict=True):
            done[i] = FileEmbedding(sound.file, len(sound.wave) / model.sample_rate, row)
        while following in done:
            yield done.pop(following)
            following += 1


def reading_threads(device: torch.device) -> int:
    """Return how many threads to read with: an encoder on the CPU needs most cores itself."""
    cores = os.cpu_count() or 1
    return max(1, cores // 4) if device.type == "cpu" else min(MOST_THREADS, cores)


def read_ahead(
    files: Iterable[Path], sample_rate: int, on_bad: OnBad | None = None, threads: int = 1
) -> Iterator[Sound]:
    """Prefetch files in threads and yield them in order; see `embed_files` for `on_bad`."""
    read = partial(read_audio, sample_rate=sample_rate, max_s=MAX_DURATION_S)
    for file, wave in ahead(read, map(Path, files), threads, READ_AHEAD):
        try:
            yield Sound(file, wave.result())
        except AudioError as error:
            if on_bad is None:
                raise
            on_bad(Failed(file, str(error).removeprefix(f"{shown(file)}: ")))


def passes(sounds: Iterable[Sound], model: Embedder) -> Iterator[Pass]:
    """Number sounds from 0, and group those that share a forward pass."""
    per_pass = FRAMES_PER_PASS["cpu" if model.device.type == "cpu" else "cuda"]

    def n_frames(sound: Sound) -> int:
        return max(len(sound.wave), model.least_samples) // model.front_end.hop + 1

    return buckets(sounds, n_frames, lambda frames: max(1, per_pass // frames), FRAMES_WAITING)


@torch.no_grad()
def log_mel_of(part: Pass, model: Embedder) -> Tensor:
    """Compute log-mels of a pass, float32 [n, T, F]; lengths may differ by less than a hop."""
    least = model.least_samples
    frames = []
    for n_samples, alike in groupby((sound.wave for _, sound in part), key=len):
        audio = to_device(torch.from_numpy(np.stack(list(alike))), model.device)
        frames.append(model.log_mel(F.pad(audio, (0, max(0, least - n_samples)))))
    return torch.cat(frames)
