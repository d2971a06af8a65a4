"""Read sound files as float waveforms at a model's sample rate."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from audio_barlow_twins.shards.base.errors import UserError

ENDINGS = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav")


class AudioError(UserError):
    """A sound file is missing, unreadable or unusable."""


def read_audio(path: Path, sample_rate: int) -> np.ndarray:
    """Read a sound file, average its channels, and resample it with soxr to `sample_rate` (Hz).

    Args:
        path: a file in any format that libsndfile reads.

    Returns:
        float32 [samples], finite, at least one sample.
    """
    wave, rate = read_samples(path)
    mono = mono_of(wave)
    return usable(mono if rate == sample_rate else soxr.resample(mono, rate, sample_rate), path)


def read_at_rate(path: Path, sample_rate: int) -> np.ndarray:
    """Read a sound file as `read_audio` does, but require it to be at `sample_rate` (Hz)."""
    wave, rate = read_samples(path)
    if rate != sample_rate:
        raise AudioError(f"{path}: is at {rate} Hz; wanted {sample_rate} Hz, as its folder says")
    return usable(mono_of(wave), path)


def mono_of(wave: np.ndarray) -> np.ndarray:
    """Average channels, float32 [samples, channels] to [samples]."""
    return wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1, dtype=np.float32)


def usable(mono: np.ndarray, path: Path) -> np.ndarray:
    """Return `mono` unless it is empty or not finite, which raises AudioError."""
    if not len(mono):
        raise AudioError(f"{path}: holds no samples; leave it out")
    if not np.isfinite(mono).all():
        raise AudioError(f"{path}: holds NaN or infinite samples; leave it out or repair it")
    return mono


def read_samples(path: Path) -> tuple[np.ndarray, int]:
    """Return the samples of a file, float32 [samples, channels], and its sample rate in Hz."""
    if not path.is_file():
        raise AudioError(f"{path}: no such file; check the path")
    try:
        return soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", None) or error
        raise AudioError(f"{path}: cannot be read as audio: {reason}") from error


def find_audio(paths: Iterable[Path]) -> list[Path]:
    """List files; a folder stands for the sound files below it, by ending, sorted."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = (file for file in path.rglob("*") if file.is_file())
        found = sorted(file for file in inside if file.suffix.lower() in ENDINGS)
        if not found:
            raise AudioError(f"{path}: holds no audio ({', '.join(ENDINGS)})")
        files += found
    return files
