"""Resample sound block by block and keep one piece of it, as mono float."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import gcd

import numpy as np
import soxr

from ..stored.front_end import PCM16_SCALE
from .errors import BadAudio, NotBegun

SAMPLE_RATE = 16000
RATES = range(1000, 384_001)
"""Native rates that are resampled, Hz; others are no sound, or overload the resampler."""
EVERYTHING = (0, 2**62)
LOUDEST = (PCM16_SCALE - 1) / PCM16_SCALE
"""Largest sample that PCM16 holds."""
_AU_HEADER = struct.Struct(">4s5I")


@dataclass(frozen=True)
class Au:
    """A float AU as it arrives."""

    rate: int
    """Hz."""
    channels: int
    blocks: Iterator[np.ndarray]
    """float32 [samples, channels]."""


def read_au(blocks: Iterator[bytes]) -> Au:
    """Read the header of a float AU.

    Raises:
        NotBegun: there is none, because ffmpeg failed or found no sample.
        BadAudio: its rate is none of RATES.
    """
    head = b""
    while len(head) < _AU_HEADER.size:
        try:
            block = next(blocks, b"")
        except BadAudio as error:
            raise NotBegun(str(error)) from error
        if not block:
            raise NotBegun("it holds no sample")
        head += block
    magic, begin, _, encoding, rate, channels = _AU_HEADER.unpack_from(head)
    if (magic, encoding) != (b".snd", 6):
        raise RuntimeError(f"ffmpeg wrote no float AU: {magic!r} {encoding}")
    if rate not in RATES:
        raise BadAudio(f"its rate is {rate} Hz; {RATES[0]} to {RATES[-1]} Hz can be resampled")
    return Au(rate, channels, _samples(chain([head], blocks), begin, channels))


def _samples(blocks: Iterator[bytes], skip: int, channels: int) -> Iterator[np.ndarray]:
    rest = b""
    for block in blocks:
        rest += block
        count = (len(rest) - skip) // (4 * channels) * channels
        if count > 0:
            wave = np.frombuffer(rest, ">f4", count, skip).astype(np.float32)
            yield wave.reshape(-1, channels)
            rest, skip = rest[skip + 4 * count :], 0


class Track:
    """A recording that is resampled as it arrives; it keeps the samples of one piece."""

    def __init__(
        self, sound: Au, lo: int, hi: int, position: int = 0, sample_rate: int = SAMPLE_RATE
    ) -> None:
        """Keep samples `lo` to `hi` (exclusive) of the signal at `sample_rate`, Hz.

        `position` counts the native samples before the first one that will be added. The resampler
        starts half a second before the piece, where both rates have a sample.
        """
        self.rate, self.channels, self.sample_rate = sound.rate, sound.channels, sample_rate
        self.lo, self.hi, self.position = lo, hi, position
        rate = self.rate
        block = rate // gcd(rate, sample_rate)
        warm = max(lo * rate // sample_rate - rate // 2, 0)
        self.begin = max(warm // block, -(-position // block)) * block
        self.ended = False
        self.loudest = 0.0
        """Largest magnitude in any channel, of what was resampled."""
        self._silent = 0
        self._next = self.begin * sample_rate // rate
        self._stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        self._parts: list[np.ndarray] = []

    @property
    def seconds(self) -> float:
        """Length so far, with what was skipped."""
        return self.position / self.rate

    @property
    def silent_s(self) -> float:
        """Length of the zeros before the first other sample, s."""
        return self._silent / self.rate

    @property
    def full(self) -> bool:
        return self._next >= self.hi

    def add(self, samples: np.ndarray) -> None:
        """Add float32 [samples, channels] at the native rate, and average the channels.

        Raises:
            BadAudio: a sample is not finite.
        """
        skip = max(self.begin - self.position, 0)
        if self._silent == self.position:
            sounding = samples.any(axis=1)
            self._silent += int(sounding.argmax()) if sounding.any() else len(samples)
        self.position += len(samples)
        if skip < len(samples):
            kept = samples[skip:]
            loudest = float(np.abs(kept).max())
            if not np.isfinite(loudest):
                raise BadAudio("the file holds samples that are not numbers")
            self.loudest = max(self.loudest, loudest)
            mono = kept[:, 0] if self.channels == 1 else kept.mean(axis=1, dtype=np.float32)
            self._keep(self._stream.resample_chunk(mono))

    def end(self) -> None:
        """Note the end of the recording and flush the resampler."""
        self.ended = True
        if self.position > self.begin:
            self._keep(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))

    def wave(self) -> np.ndarray:
        """Return the piece, float32 [samples] in [-1, 1); what is louder is clipped.

        Raises:
            BadAudio: the recording ends too early.
        """
        total = round(self.position * self.sample_rate / self.rate) if self.ended else self.hi
        if not self.position:
            raise BadAudio("it holds no sample")
        if self.lo and total <= self.lo:
            raise BadAudio(f"the recording ends at {self.seconds:.2f} s, before the clip begins")
        wanted = min(self.hi, total) - self.lo
        kept = np.concatenate([*self._parts, np.zeros(0, np.float32)])[:wanted]
        # The resampler may deliver a sample more or less.
        return np.clip(np.pad(kept, (0, wanted - len(kept))), -1, LOUDEST)

    def _keep(self, wave: np.ndarray) -> None:
        inside = wave[max(self.lo - self._next, 0) : max(self.hi - self._next, 0)]
        self._next += len(wave)
        self._parts.append(inside)
