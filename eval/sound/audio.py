"""Sound files as float waveforms at the rate a model wants."""

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
    """Read a whole sound file: channels averaged, then resampled with soxr where needed.

    Args:
        path: a file in any format that libsndfile reads.
        sample_rate: wanted, in Hz.

    Returns:
        float32 [samples], finite, at least one sample.
    """
    wave, rate = read_samples(path)
    mono = mono_of(wave)
    return usable(mono if rate == sample_rate else soxr.resample(mono, rate, sample_rate), path)


def read_at_rate(path: Path, sample_rate: int) -> np.ndarray:
    """Read a whole sound file as `read_audio` does; it must be at `sample_rate` (Hz)."""
    wave, rate = read_samples(path)
    if rate != sample_rate:
        raise AudioError(f"{path}: is at {rate} Hz; wanted {sample_rate} Hz, as its folder says")
    return usable(mono_of(wave), path)


def mono_of(wave: np.ndarray) -> np.ndarray:
    """Average the channels of float32 [samples, channels]."""
    return wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1, dtype=np.float32)


def usable(mono: np.ndarray, path: Path) -> np.ndarray:
    """Pass float32 [samples] on, unless they are none or not finite."""
    if not len(mono):
        raise AudioError(f"{path}: holds no samples; leave it out")
    if not np.isfinite(mono).all():
        raise AudioError(f"{path}: holds NaN or infinite samples; leave it out or repair it")
    return mono


def read_samples(path: Path) -> tuple[np.ndarray, int]:
    """Read a sound file as it is: float32 [samples, channels] and its sample rate in Hz."""
    if not path.is_file():
        raise AudioError(f"{path}: no such file; check the path")
    try:
        return soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", None) or error
        raise AudioError(f"{path}: cannot be read as audio: {reason}") from error


def find_audio(paths: Iterable[Path]) -> list[Path]:
    """List the named files, and in sorted order those below named folders with a known ending."""
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
