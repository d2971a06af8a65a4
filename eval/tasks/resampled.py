"""Tasks at a rate that their folder lacks: each clip is resampled once, into a cache.

HEAR's archives hold 48000 Hz. hear-preprocess resamples them with soxr, through ffmpeg at its
default of 20 bits, and rounds to 16-bit samples; the paper used librosa's default, which does the
same. Here soxr works at the same 20 bits, but its float32 samples are stored without rounding or
clipping; a second of sound at 16 kHz takes 64 kB.

The name of a cached file contains a digest of its source's size and mtime, so that a source that
changed is resampled again. Files get their names when they are complete.
"""

import hashlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile
import soxr
from tqdm import tqdm

from audio_barlow_twins.shards.base.ahead import ahead, all_threads
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.lock import alone

from ..sound.audio import read_at_rate, usable
from ..sound.cache_folder import caching
from .metadata import TaskError
from .task import Clip, Task, read_task

log = logging.getLogger(__name__)

WAITING = 64
"""Clips to resample ahead of the next one to count."""


def task_at(folder: Path, sample_rate: int, cache: Path) -> Task:
    """Read a task at a rate in Hz, with clips from the cache where the folder lacks the rate.

    Clips that the cache lacks are resampled; tasks and processes may share the cache.

    Raises:
        TaskError: the folder cannot be used, or has no clips at any rate.
        AudioError: a clip cannot be used; the clips before it are in the cache.
    """
    if (folder / str(sample_rate)).is_dir():
        return read_task(folder, sample_rate)
    rate = best_rate(folder)
    task = read_task(folder, rate)
    if rate < sample_rate:
        log.warning(
            "%s: has %d Hz at most; at %d Hz there is nothing above %d Hz in it",
            task.name, rate, sample_rate, rate // 2,
        )  # fmt: skip
    # A digest of the path, so that two folders of one name do not evict each other's clips.
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    store = _Store(cache / "resampled" / f"{task.name}-{place}", rate, sample_rate)
    return replace(task, splits=store.filled(task.splits))


def rates_of(folder: Path) -> list[int]:
    """List the rates of a task folder in Hz, lowest first."""
    return sorted(
        int(sub.name) for sub in folder.iterdir() if sub.name.isdecimal() and sub.is_dir()
    )


def best_rate(folder: Path) -> int:
    """Return the highest rate of a task folder in Hz, to resample from."""
    rates = rates_of(folder) if folder.is_dir() else []
    if not rates:
        raise TaskError(f"{folder}: holds no folder of clips, such as 48000")
    return rates[-1]


@dataclass(frozen=True)
class _Store:
    folder: Path
    rate: int
    wanted: int

    def filled(self, splits: Mapping[str, tuple[Clip, ...]]) -> dict[str, tuple[Clip, ...]]:
        """Resample what is missing; return the clips with the paths of their resampled files."""
        placed = {
            split: tuple(replace(clip, path=self.target(split, clip.path)) for clip in clips)
            for split, clips in splits.items()
        }
        pairs = [
            (source.path, clip.path)
            for split, clips in placed.items()
            for source, clip in zip(splits[split], clips, strict=True)
        ]
        if not all(target.is_file() for _, target in pairs):
            waiting = f"{self.folder.name}: another process resamples it"
            lock = self.folder / ".lock"
            with caching(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                lock.touch()
            with alone(lock, waiting):
                self.resample(pairs)
        return placed

    def target(self, split: str, source: Path) -> Path:
        """Return the path for a source with its present size and mtime."""
        status = source.stat()
        state = f"{source.name} {self.rate} {status.st_size} {status.st_mtime_ns}"
        digest = hashlib.sha256(state.encode()).hexdigest()[:12]
        return self.folder / str(self.wanted) / split / f"{source.stem}.{digest}.wav"

    def resample(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        """Remove files of changed sources and of killed processes, then resample in threads."""
        needed = {target for _, target in pairs}
        for file in (self.folder / str(self.wanted)).glob("*/*"):
            if file not in needed:
                file.unlink(missing_ok=True)
        missing = [pair for pair in pairs if not pair[1].is_file()]
        title = f"{self.folder.name}: to {self.wanted} Hz"
        log.info("%s: %d of %d clips from %d Hz", title, len(missing), len(pairs), self.rate)
        with tqdm(total=len(missing), desc=title, unit="clip", disable=None) as bar:
            for _, done in ahead(self.resample_clip, missing, all_threads(), WAITING):
                done.result()
                bar.update()

    def resample_clip(self, pair: tuple[Path, Path]) -> None:
        source, target = pair
        status = source.stat()
        wave = read_at_rate(source, self.rate)
        wave = usable(soxr.resample(wave, self.rate, self.wanted, quality="HQ"), source)
        # Python says why a file cannot be written, libsndfile does not.
        content = io.BytesIO()
        soundfile.write(content, wave, self.wanted, "FLOAT", format="WAV")
        with caching(target), replacing(target) as scratch:
            scratch.write_bytes(content.getvalue())
            # Cached embeddings are found by mtime, also after the clips were resampled again.
            os.utime(scratch, ns=(status.st_atime_ns, status.st_mtime_ns))
