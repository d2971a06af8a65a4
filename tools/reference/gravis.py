"""Notes of sampled instruments: reads the samples of a Gravis patch (.pat) and plays them."""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

RATE = 16_000
_HEADER, _SAMPLE = 129 + 63 + 47, 96
"""Bytes before the first sample, and of the header of each."""
_SAMPLES_AT = 129 + 63 + 6
_BITS, _UNSIGNED, _LOOPED = 1, 2, 4


class Sample(NamedTuple):
    """One recorded note of an instrument."""

    wave: np.ndarray
    """float32 [samples] in [-1, 1)."""
    rate: int
    """Hz."""
    root_hz: float
    loop: tuple[int, int] | None
    """First sample of the part that may be repeated, and its end (exclusive)."""


def read_patch(path: Path) -> list[Sample]:
    """Return the samples of a patch.

    The layout: GF1PATCH110, 129 bytes of header, 63 of the instrument, 47 of its layer, then for
    each sample 96 bytes and its data.
    """
    data = path.read_bytes()
    if not data.startswith(b"GF1PATCH"):
        raise ValueError(f"{path} is no Gravis patch")
    found, at = [], _HEADER
    for _ in range(data[_SAMPLES_AT]):
        head = data[at : at + _SAMPLE]
        size, begin, end, rate, _, _, root = struct.unpack_from("<IIIHIII", head, 8)
        mode = head[55]
        raw = data[at + _SAMPLE : at + _SAMPLE + size]
        found.append(Sample(_decoded(raw, mode), rate, root / 1000, _loop(begin, end, mode)))
        at += _SAMPLE + size
    return found


def _decoded(raw: bytes, mode: int) -> np.ndarray:
    width = 2 if mode & _BITS else 1
    kind = ("<u" if mode & _UNSIGNED else "<i") + str(width)
    wave = np.frombuffer(raw[: len(raw) // width * width], kind).astype(np.float32)
    half = np.float32(2 ** (8 * width - 1))
    return (wave - half if mode & _UNSIGNED else wave) / half


def _loop(begin: int, end: int, mode: int) -> tuple[int, int] | None:
    width = 2 if mode & _BITS else 1
    return (begin // width, end // width) if mode & _LOOPED and end > begin else None


def play(sample: Sample, pitch_hz: float, seconds: float) -> np.ndarray:
    """Return a note, float32 [samples] at 16 kHz: at its pitch, repeated in its loop, faded out."""
    wanted = round(seconds * RATE)
    rate = sample.rate * pitch_hz / sample.root_hz
    wave, needed = sample.wave, int(seconds * rate) + 1
    if sample.loop and len(wave) < needed:
        body = wave[slice(*sample.loop)]
        wave = np.concatenate([wave[: sample.loop[1]], np.tile(body, needed // len(body) + 1)])
    note = soxr.resample(wave[:needed], rate, RATE)[:wanted]
    fade = min(len(note), round(0.02 * RATE))
    note[len(note) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return np.pad(note, (0, wanted - len(note)))
