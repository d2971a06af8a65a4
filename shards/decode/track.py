"""Sound at its native rate, block by block, to a piece of 16 kHz mono PCM16."""

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
"""Native rates that are resampled, Hz; others are no sound, or a trap for the resampler."""
EVERYTHING = (0, 2**62)
"""The piece that is the whole recording, samples."""
_AU_HEADER = struct.Struct(">4s5I")


def read_au(blocks: Iterator[bytes]) -> tuple[int, Iterator[np.ndarray]]:
    """Read a mono float AU as it arrives.

    Returns:
        The rate, Hz, and the samples, float32, block by block.

    Raises:
        BadAudio: there is no sample in it, or its rate is none of RATES.
    """
    head = b""
    while len(head) < _AU_HEADER.size:
        if not (block := next(blocks, b"")):
            raise BadAudio("there is no sample in it")
        head += block
    magic, begin, _, encoding, rate, channels = _AU_HEADER.unpack_from(head)
    if (magic, encoding, channels) != (b".snd", 6, 1):
        raise RuntimeError(f"ffmpeg wrote no mono float AU: {magic!r} {encoding} {channels}")
    if rate not in RATES:
        raise BadAudio(f"its rate is {rate} Hz; {RATES[0]} to {RATES[-1]} Hz can be resampled")
    return rate, _samples(chain([head], blocks), begin)


def _samples(blocks: Iterator[bytes], skip: int) -> Iterator[np.ndarray]:
    """Yield the samples behind the first `skip` bytes."""
    rest = b""
    for block in blocks:
        rest += block
        count = (len(rest) - skip) // 4
        if count > 0:
            yield np.frombuffer(rest, ">f4", count, skip).astype(np.float32)
            rest, skip = rest[skip + 4 * count :], 0


class Track:
    """What has been heard of a recording, and the piece that is kept of it."""

    def __init__(self, rate: int, lo: int, hi: int, position: int = 0) -> None:
        """Keep samples `lo` to `hi` of the 16 kHz signal.

        The resampler starts half a second before the piece, where both rates have a sample.

        Args:
            rate: native rate, Hz.
            lo: first sample to keep, at 16 kHz.
            hi: the sample after the last one to keep, at 16 kHz.
            position: place in the recording of the first native sample that will be added.
        """
        self.rate, self.lo, self.hi, self.position = rate, lo, hi, position
        block = rate // gcd(rate, SAMPLE_RATE)
        warm = max(lo * rate // SAMPLE_RATE - rate // 2, 0)
        self.begin = max(warm // block, -(-position // block)) * block
        self.ended = False
        """Whether the recording's end has been heard."""
        self._next = self.begin * SAMPLE_RATE // rate
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        self._parts: list[np.ndarray] = []

    @property
    def seconds(self) -> float:
        """How much has been heard, with what was skipped."""
        return self.position / self.rate

    @property
    def full(self) -> bool:
        """Whether the piece is complete."""
        return self._next >= self.hi

    def add(self, samples: np.ndarray) -> None:
        """Hear on: float32 [samples] at the native rate.

        Raises:
            BadAudio: a sample is not a number.
        """
        skip = max(self.begin - self.position, 0)
        self.position += len(samples)
        if skip < len(samples):
            if not np.isfinite(samples[skip:]).all():
                raise BadAudio("the file holds samples that are not numbers")
            self._keep(self._stream.resample_chunk(samples[skip:]))

    def end(self) -> None:
        """Hear the recording's end."""
        self.ended = True
        if self.position > self.begin:
            self._keep(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))

    def pcm(self) -> np.ndarray:
        """Return the piece, int16 [samples].

        Raises:
            BadAudio: the recording ends before it begins.
        """
        total = round(self.position * SAMPLE_RATE / self.rate) if self.ended else self.hi
        if not self.position:
            raise BadAudio("there is no sample in it")
        if self.lo and total <= self.lo:
            raise BadAudio(f"the recording ends at {self.seconds:.2f} s, before the clip begins")
        wanted = min(self.hi, total) - self.lo
        kept = np.concatenate([*self._parts, np.zeros(0, np.int16)])[:wanted]
        # Resamplers disagree about the odd sample.
        return np.pad(kept, (0, wanted - len(kept)))

    def _keep(self, wave: np.ndarray) -> None:
        inside = wave[max(self.lo - self._next, 0) : max(self.hi - self._next, 0)]
        self._next += len(wave)
        self._parts.append(to_pcm16(inside))
