"""Resample sound block by block and keep one piece of it, as 16 kHz mono PCM16."""

import struct
from collections.abc import Iterator
from itertools import chain
from math import gcd

import numpy as np
import soxr

from ..stored.form import to_pcm16
from .errors import BadAudio

SAMPLE_RATE = 16000
RATES = range(1000, 384_001)
"""Native rates that are resampled, Hz; others are no sound, or overload the resampler."""
EVERYTHING = (0, 2**62)
_AU_HEADER = struct.Struct(">4s5I")


def read_au(blocks: Iterator[bytes]) -> tuple[int, Iterator[np.ndarray]]:
    """Return the rate (Hz) of a mono float AU and its samples, float32, block by block.

    Raises:
        BadAudio: it holds no sample, or its rate is none of RATES.
    """
    head = b""
    while len(head) < _AU_HEADER.size:
        if not (block := next(blocks, b"")):
            raise BadAudio("it holds no sample")
        head += block
    magic, begin, _, encoding, rate, channels = _AU_HEADER.unpack_from(head)
    if (magic, encoding, channels) != (b".snd", 6, 1):
        raise RuntimeError(f"ffmpeg wrote no mono float AU: {magic!r} {encoding} {channels}")
    if rate not in RATES:
        raise BadAudio(f"its rate is {rate} Hz; {RATES[0]} to {RATES[-1]} Hz can be resampled")
    return rate, _samples(chain([head], blocks), begin)


def _samples(blocks: Iterator[bytes], skip: int) -> Iterator[np.ndarray]:
    rest = b""
    for block in blocks:
        rest += block
        count = (len(rest) - skip) // 4
        if count > 0:
            yield np.frombuffer(rest, ">f4", count, skip).astype(np.float32)
            rest, skip = rest[skip + 4 * count :], 0


class Track:
    """A recording that is resampled as it arrives; it keeps the samples of one piece."""

    def __init__(self, rate: int, lo: int, hi: int, position: int = 0) -> None:
        """Keep samples `lo` to `hi` (exclusive) of the 16 kHz signal.

        `position` counts the native samples before the first one that will be added. The resampler
        starts half a second before the piece, where both rates have a sample.
        """
        self.rate, self.lo, self.hi, self.position = rate, lo, hi, position
        block = rate // gcd(rate, SAMPLE_RATE)
        warm = max(lo * rate // SAMPLE_RATE - rate // 2, 0)
        self.begin = max(warm // block, -(-position // block)) * block
        self.ended = False
        self._next = self.begin * SAMPLE_RATE // rate
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        self._parts: list[np.ndarray] = []

    @property
    def seconds(self) -> float:
        """Length so far, with what was skipped."""
        return self.position / self.rate

    @property
    def full(self) -> bool:
        return self._next >= self.hi

    def add(self, samples: np.ndarray) -> None:
        """Add float32 [samples] at the native rate; raise BadAudio unless all are finite."""
        skip = max(self.begin - self.position, 0)
        self.position += len(samples)
        if skip < len(samples):
            if not np.isfinite(samples[skip:]).all():
                raise BadAudio("the file holds samples that are not numbers")
            self._keep(self._stream.resample_chunk(samples[skip:]))

    def end(self) -> None:
        """Note the end of the recording and flush the resampler."""
        self.ended = True
        if self.position > self.begin:
            self._keep(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))

    def pcm(self) -> np.ndarray:
        """Return the piece, int16 [samples]; raise BadAudio if the recording ends too early."""
        total = round(self.position * SAMPLE_RATE / self.rate) if self.ended else self.hi
        if not self.position:
            raise BadAudio("it holds no sample")
        if self.lo and total <= self.lo:
            raise BadAudio(f"the recording ends at {self.seconds:.2f} s, before the clip begins")
        wanted = min(self.hi, total) - self.lo
        kept = np.concatenate([*self._parts, np.zeros(0, np.int16)])[:wanted]
        # The resampler may deliver a sample more or less.
        return np.pad(kept, (0, wanted - len(kept)))

    def _keep(self, wave: np.ndarray) -> None:
        inside = wave[max(self.lo - self._next, 0) : max(self.hi - self._next, 0)]
        self._next += len(wave)
        self._parts.append(to_pcm16(inside))
