"""Sound files as float waveforms at a model's sample rate.

Any file is decoded as an ingest decodes it. The clips of a HEAR task are read as HEAR reads them:
by libsndfile, at the rate that their folder says, and never clipped.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from audio_barlow_twins.shards.base.errors import ClipError, UserError
from audio_barlow_twins.shards.decode import files
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.sound import decode_float


class AudioError(UserError):
    """A sound file is missing, unreadable or unusable."""


def read_audio(path: Path, sample_rate: int, max_s: float = DecodeLimits.max_s) -> np.ndarray:
    """Decode a sound file, mix its channels to mono, and resample it to `sample_rate` (Hz).

    Args:
        path: a file in any format that ffmpeg reads.
        max_s: longest file, s.

    Returns:
        float32 [samples] in [-1, 1), at least one sample.
    """
    try:
        return decode_float(str(path), sample_rate, DecodeLimits(max_s=max_s))
    except ClipError as error:
        raise AudioError(f"{files.shown(path)}: {error}") from error


def read_at_rate(path: Path, sample_rate: int) -> np.ndarray:
    """Read a clip of a task, float32 [samples]; it must be at `sample_rate` (Hz)."""
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


def require_there(path: Path) -> None:
    """Raise AudioError if there is nothing of this name."""
    if not os.path.lexists(path):
        raise AudioError(f"{files.shown(path)}: no such file; check the path")


def find_audio(paths: Iterable[Path]) -> list[Path]:
    """List files; a folder stands for the sound files below it, by ending, sorted.

    What is left out in a folder is counted and logged.
    """
    found: list[Path] = []
    for path in paths:
        require_there(path)
        if not path.is_dir():
            found.append(path)
            continue
        inside = files.find_audio(path)
        if not inside.audio:
            raise AudioError(f"{path}: holds no audio ({' '.join(sorted(files.ENDINGS))})")
        inside.log_left_out(path)
        found += inside.audio
    return found
