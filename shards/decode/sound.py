"""Decode any audio file, or a piece of it, to mono: for shards as PCM16, for models as float."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import inf
from typing import TypeVar

import numpy as np

from ..base.errors import ClipError
from ..stored.form import to_pcm16
from .clock import MAGIC_BYTES, MP4, clock_of
from .cut import Cut, DecodeLimits
from .errors import BadAudio, DecoderStopped, Unreadable
from .ffmpeg import Stream
from .joined import inner_tags, without
from .layout import SeekError
from .plain import read_plain
from .reading import Length, Reading
from .track import SAMPLE_RATE, Track

Result = TypeVar("Result")
TRIES = 2
"""How often a file is decoded whose ffmpeg is killed or takes too long."""
UNPROVED_S = 0.1
"""How far packets, without decoding, may be wrong about a length, s."""
UNREADABLE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG,
}  # fmt: skip
"""Errors that are the file's; others are the disk's, and stop the job."""


def decode(source: str | Stream, limits: DecodeLimits, cut: Cut | None = None) -> np.ndarray:
    """Decode a recording's first audio stream to exactly round(duration x 16000) samples.

    What lies at a time on the recording's clock lies there in the result: where its time stamps
    leave a hole, or begin late, there are zeros, and what overlaps is dropped. ffmpeg mixes the
    channels (left and right count one half each), soxr (HQ) resamples. Any error that ffmpeg
    reports refuses the file: a decoder would replace the damage with silence, and a demuxer would
    skip it.

    Args:
        source: path of a file, or a stream; a stream needs a cut.
        limits: bounds on the file.
        cut: the piece to return: samples round(start x 16000) to round(end x 16000) of the whole
            decoded recording; fewer if the recording ends earlier. After a hole in a container
            with time stamps of milliseconds (Matroska, WebM) they are exact to one.

    Returns:
        int16 [samples] at 16 kHz.

    Raises:
        Unreadable: the file is missing or may not be read; other disk errors are not the clip's
            fault and stop the job.
        DecoderStopped: ffmpeg was killed or took too long, at every try.
        BadAudio: there is no sound that can be stored, or the stream cannot be read in pieces.
    """
    with _reading(source, limits) as reading:
        pcm = _storable(_wave(reading, cut), limits, cut)
        if not pcm.any():
            raise BadAudio(reading.why_silent(cut))
    return pcm


def decode_pieces(
    path: str, limits: DecodeLimits, cuts: Sequence[Cut]
) -> Iterator[np.ndarray | ClipError]:
    """Yield pieces of one file, or why one cannot be had, in a single pass over it.

    Args:
        path: the file.
        limits: bounds; that of the time holds for each block of sound.
        cuts: the pieces, by the time at which they begin and end.

    Yields:
        For each cut what `decode` returns, or raises: bit for bit, but where AAC makes up noise,
        which differs by where decoding began. Of a silent piece it is not said why. Once ffmpeg
        is stopped in a piece at every try, it is not run for those that follow. Memory holds one
        piece, or as many as overlap.
    """
    done = 0
    with _reading(path, limits) as opened:
        reading = opened.settled()
        while done < len(cuts):
            try:
                for track in reading.pieces(cuts[done:]):
                    done += 1
                    yield _piece(path, limits, cuts[done - 1], track)
            except (ClipError, SeekError):
                # Errors come before the samples that are read ahead, so this piece may be whole.
                done += 1
                verdict = _verdict(path, limits, cuts[done - 1])
                yield verdict
                if isinstance(verdict, DecoderStopped):
                    yield from [verdict] * (len(cuts) - done)
                    return


def _piece(path: str, limits: DecodeLimits, cut: Cut, track: Track) -> np.ndarray | ClipError:
    try:
        pcm = _storable(track.wave(), limits, cut)
    except BadAudio as error:
        return error
    if not track.loudest:  # why, would take a second pass
        return BadAudio("silent: every sample of the mix to mono is zero")
    return pcm if pcm.any() else _verdict(path, limits, cut)


def _storable(wave: np.ndarray, limits: DecodeLimits, cut: Cut | None) -> np.ndarray:
    """Return a clip as PCM16; BadAudio if it is too short."""
    pcm = to_pcm16(wave)
    seconds = len(pcm) / SAMPLE_RATE
    if cut and cut.complete and seconds < cut.length_s - UNPROVED_S:
        raise BadAudio(f"only {seconds:.2f} s of its {cut.length_s:.2f} s can be read")
    if len(pcm) < limits.min_samples:
        raise BadAudio(f"too short: {len(pcm)} samples at 16 kHz, wanted {limits.min_samples}")
    return pcm


def _verdict(path: str, limits: DecodeLimits, cut: Cut) -> np.ndarray | ClipError:
    try:
        return decode(path, limits, cut)
    except ClipError as error:
        return error


def duration_of(path: str, limits: DecodeLimits, exact_from_s: float) -> Length:
    """Return how long a file is, on its own clock, as `decode` would deliver it.

    The header of a plain WAV is believed. Of other files the packets count, which are right but for
    some milliseconds at either end; where they make up `exact_from_s` or more, the end is decoded,
    and the result is exact to the sample.

    Raises:
        ClipError: there is no sound that could be measured.
    """
    head = _head(path)
    if plain := read_plain(path, head):
        return Length(plain.n_samples / plain.rate)
    with _reading(path, replace(limits, max_s=inf), head=head) as reading:
        seconds = _in_tries(reading.packets_s)
        return Length(seconds) if seconds < exact_from_s else reading.length(seconds)


def decode_float(path: str, sample_rate: int, limits: DecodeLimits) -> np.ndarray:
    """Decode a whole file as `decode` does, to any rate, without rounding to 16 bits.

    A plain WAV is read by libsndfile where it is installed, which gives the same bits.

    Returns:
        float32 [samples] in [-1, 1) at `sample_rate` (Hz); perhaps silent, or one sample alone.
    """
    head = _head(path)
    with _reading(path, limits, sample_rate, head) as reading:
        if sound := read_plain(path, head):
            with suppress(BadAudio):  # so that ffmpeg says what is wrong, as it does of all files
                return reading.plain(sound)
        return _wave(reading, None)


@contextmanager
def _reading(
    source: str | Stream, limits: DecodeLimits, sample_rate: int = SAMPLE_RATE, head: bytes = b""
) -> Iterator[Reading]:
    """Yield how to read a recording; `head`: its first bytes, if they are known."""
    if isinstance(source, Stream):
        # It has a clock, unless its layout shows that it counts samples.
        yield Reading(source, limits, MP4, sample_rate)
        return
    head = head or _head(source)
    with _naming_unreadable():
        tags = inner_tags(source, head)
    with without(source, tags) as copy:
        # The header of a joined MP3 tells of the first part alone: places are found by counting.
        yield Reading(copy or source, limits, clock_of(head), sample_rate, seeks=not copy)


def _wave(reading: Reading, cut: Cut | None) -> np.ndarray:
    tries = TRIES if isinstance(reading.source, str) else 1
    return _in_tries(lambda: reading.track(cut).wave(), tries)


def _in_tries(run: Callable[[], Result], tries: int = TRIES) -> Result:
    """Return what `run` does, which may be killed or take too long at all tries but the last."""
    for _ in range(tries - 1):
        with suppress(DecoderStopped):
            return run()
    return run()


def _head(path: str) -> bytes:
    """Return the first bytes of a file."""
    with _naming_unreadable():
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise BadAudio("it is a pipe, a socket, a device or a folder, and no file")
        with open(path, "rb") as file:
            return file.read(MAGIC_BYTES)


@contextmanager
def _naming_unreadable() -> Iterator[None]:
    """Raise Unreadable for errors that are the file's; others are the disk's, and stop the job."""
    try:
        yield
    except OSError as error:
        if error.errno in UNREADABLE:
            raise Unreadable(f"cannot be opened: {error.strerror}") from error
        raise
