"""Tasks at a rate that their folder lacks: every clip is resampled once, into a cache.

HEAR's archives hold 48000 Hz. hear-preprocess makes other rates of them with soxr, through ffmpeg
at its default of 20 bits, and rounds to 16-bit samples; the paper took librosa's default and did
the same. Here soxr works at the same 20 bits, and its float32 samples are kept as they are: nothing
is rounded, nothing clipped, and a second of sound at 16 kHz takes 64 kB.

A cached file carries size and time of its source in its name, so a source that changed is done
again, and a file that has its name is complete.
"""

import hashlib
import io
import logging
import os
from collections.abc import Iterable, Mapping
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
"""Clips that may be resampled before the one that is the next to be counted."""


def task_at(folder: Path, sample_rate: int, cache: Path) -> Task:
    """Read a task; where the folder lacks the rate, resample its clips or take those of before.

    Args:
        folder: the task folder.
        sample_rate: wanted, in Hz.
        cache: folder of resampled clips, of any number of tasks and processes.

    Raises:
        TaskError: the folder cannot be used, or has no clips at any rate.
        AudioError: a clip cannot be used; those before it are kept.
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
    # The path is in the name, so that two folders of one name do not clear each other's clips.
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    store = _Store(cache / "resampled" / f"{task.name}-{place}", rate, sample_rate)
    return replace(task, splits=store.bring(task.splits))


def rates_of(folder: Path) -> list[int]:
    """List the rates of a task folder in Hz, lowest first."""
    return sorted(
        int(sub.name) for sub in folder.iterdir() if sub.name.isdecimal() and sub.is_dir()
    )


def best_rate(folder: Path) -> int:
    """Choose what to resample from, in Hz: the highest rate, which lacks least."""
    rates = rates_of(folder) if folder.is_dir() else []
    if not rates:
        raise TaskError(f"{folder}: holds no folder of clips, such as 48000")
    return rates[-1]


@dataclass(frozen=True)
class _Store:
    """The resampled clips of one task."""

    folder: Path
    rate: int
    wanted: int

    def bring(self, splits: Mapping[str, tuple[Clip, ...]]) -> dict[str, tuple[Clip, ...]]:
        """Return the clips with their resampled files, which are then all there."""
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
        """Name the file for a source as it is now."""
        status = source.stat()
        state = f"{source.name} {self.rate} {status.st_size} {status.st_mtime_ns}"
        digest = hashlib.sha256(state.encode()).hexdigest()[:12]
        return self.folder / str(self.wanted) / split / f"{source.stem}.{digest}.wav"

    def resample(self, pairs: Iterable[tuple[Path, Path]]) -> None:
        """Resample what is missing, in threads, and clear what no clip needs any more."""
        pairs = list(pairs)
        self.clear({target for _, target in pairs})
        missing = [pair for pair in pairs if not pair[1].is_file()]
        title = f"{self.folder.name}: to {self.wanted} Hz"
        log.info("%s: %d of %d clips from %d Hz", title, len(missing), len(pairs), self.rate)
        with tqdm(total=len(missing), desc=title, unit="clip", disable=None) as bar:
            for _, done in ahead(self.resample_clip, missing, all_threads(), WAITING):
                done.result()
                bar.update()

    def resample_clip(self, pair: tuple[Path, Path]) -> None:
        """Write one clip; it has its name when it is complete."""
        source, target = pair
        status = source.stat()
        wave = read_at_rate(source, self.rate)
        wave = usable(soxr.resample(wave, self.rate, self.wanted, quality="HQ"), source)
        # libsndfile does not say why it cannot write, Python does.
        content = io.BytesIO()
        soundfile.write(content, wave, self.wanted, "FLOAT", format="WAV")
        with caching(target), replacing(target) as scratch:
            scratch.write_bytes(content.getvalue())
            # So that a cached embedding is found again when the clips had to be made again.
            os.utime(scratch, ns=(status.st_atime_ns, status.st_mtime_ns))

    def clear(self, needed: set[Path]) -> None:
        """Remove clips of former sources, and what killed processes left."""
        for file in (self.folder / str(self.wanted)).glob("*/*"):
            if file not in needed:
                file.unlink(missing_ok=True)
