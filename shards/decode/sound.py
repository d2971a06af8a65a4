"""Decode any audio file, or a piece of it, to mono: for shards as PCM16, for models as float."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path

import numpy as np

from ..stored.form import to_pcm16
from ..stored.front_end import PCM16_SCALE
from .clock import COUNTED, MAGIC_BYTES, MP4, Clock, clock_of
from .errors import BadAudio, DecoderStopped, NotBegun, Unreadable
from .ffmpeg import Section, Stream, first_second, from_middle, from_start
from .layout import Layout, SeekError, read_landing, read_layout
from .pipe import output_of
from .plain import read_plain
from .track import EVERYTHING, SAMPLE_RATE, Au, Track, read_au

SEEK_FROM_S = 10.0
"""Pieces that begin earlier are decoded from the start of the file, which costs less."""
LATEST_START_S = 60.0
"""Time stamps that begin later are those of a broadcast, and the recording begins with them."""
MIXED_CHANNELS = 8
"""Most channels that ffmpeg always has a mix for; of more, it is the mean if it has none."""
TRIES = 2
"""How often a file is decoded whose ffmpeg is killed or takes too long."""
UNREADABLE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG,
}  # fmt: skip
"""Errors that are the file's; others are the disk's, and stop the job."""


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Bounds on one file."""

    min_samples: int = 513
    """Shortest clip, samples at 16 kHz; below it log-mel cannot pad by reflection."""
    max_s: float = 1200.0
    """Longest clip, s."""
    timeout_s: float = 300.0
    """Longest run of ffmpeg, s."""


@dataclass(frozen=True)
class Cut:
    """The piece of a recording that is the clip, on the recording's own clock."""

    start_s: float
    end_s: float
    perhaps_done: bool = False
    """The file may be the piece already; it is, if it is at most a second longer."""

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def samples(self, sample_rate: int) -> tuple[int, int]:
        """Return the first sample and the end (exclusive)."""
        return round(self.start_s * sample_rate), round(self.end_s * sample_rate)


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
    # A stream has a clock, unless its layout shows that it counts samples.
    clock = MP4 if isinstance(source, Stream) else clock_of(_head(source))
    reading = _Reading(source, limits, clock)
    pcm = to_pcm16(_in_tries(reading, cut))
    if len(pcm) < limits.min_samples:
        raise BadAudio(f"too short: {len(pcm)} samples at 16 kHz, wanted {limits.min_samples}")
    if not pcm.any():
        raise BadAudio(reading.why_silent(cut))
    return pcm


def decode_float(path: str, sample_rate: int, limits: DecodeLimits) -> np.ndarray:
    """Decode a whole file as `decode` does, to any rate, without rounding to 16 bits.

    Plain WAV and FLAC are read by libsndfile where it is installed, which gives the same bits.

    Returns:
        float32 [samples] in [-1, 1) at `sample_rate` (Hz); perhaps silent, or one sample alone.
    """
    head = _head(path)
    reading = _Reading(path, limits, clock_of(head), sample_rate)
    if sound := read_plain(path, head):
        with suppress(BadAudio):  # so that ffmpeg says what is wrong, as it does of all files
            return reading.plain(sound)
    return _in_tries(reading, None)


def _in_tries(reading: "_Reading", cut: Cut | None) -> np.ndarray:
    for _ in range(TRIES - 1 if isinstance(reading.source, str) else 0):
        try:
            return reading.track(cut).wave()
        except DecoderStopped:
            continue
    return reading.track(cut).wave()


def _head(path: str) -> bytes:
    """Return the first bytes of a file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise BadAudio("it is a pipe, a socket, a device or a folder, and no file")
        with open(path, "rb") as file:
            return file.read(MAGIC_BYTES)
    except OSError as error:
        if error.errno in UNREADABLE:
            raise Unreadable(f"cannot be opened: {error.strerror}") from error
        raise


@dataclass(frozen=True)
class _Reading:
    """How one recording is read."""

    source: str | Stream
    limits: DecodeLimits
    clock: Clock
    sample_rate: int = SAMPLE_RATE
    mix: bool = True
    """ffmpeg mixes the channels; else, they are averaged here."""

    def track(self, cut: Cut | None) -> Track:
        """Return the whole recording, or a piece."""
        try:
            track = self._piece(cut) if cut else self._whole()
        except NotBegun as error:
            if self._is_broadcast():
                return self._relative().track(cut)
            return self._averaged(cut, error)
        waits = not track.loudest or track.silent_s > LATEST_START_S
        if waits and self._is_broadcast():
            return self._relative().track(cut)
        if not (cut or track.ended):
            raise self._too_long()
        return track

    def why_silent(self, cut: Cut | None) -> str:
        """Say why the mix is silent."""
        loudest = replace(self, mix=False).track(cut).loudest
        if loudest < 0.5 / PCM16_SCALE:
            return "silent: every sample is zero"
        return (
            "silent once it is mixed to mono: the channels cancel each other (antiphase), or only "
            f"one that the mix leaves out (LFE) has sound; it peaks at {loudest:.2g}"
        )

    def _averaged(self, cut: Cut | None, error: NotBegun) -> Track:
        """Return the mean of channels for which ffmpeg has no mix; raise `error` if that is not it.

        A WAV of thirty channels says nothing of where they stand.
        """
        if not self.mix:
            raise error
        try:
            track = replace(self, mix=False).track(cut)
        except BadAudio:
            raise error from None
        if track.channels <= MIXED_CHANNELS:
            raise error
        return track

    def _whole(self) -> Track:
        if isinstance(self.source, Stream):
            raise ValueError("a stream is read in pieces; give a cut")
        command = from_start(self.source, self.clock, self.mix)
        return self._listen(command, until=lambda track: track.seconds > self.limits.max_s)

    def _piece(self, cut: Cut) -> Track:
        if not 0 <= cut.start_s < cut.end_s:
            raise BadAudio(f"there is no sound between {cut.start_s:g} s and {cut.end_s:g} s")
        if cut.length_s > self.limits.max_s:
            raise self._too_long()
        if isinstance(self.source, Stream):
            try:
                return self._sought(cut)
            except SeekError as error:
                raise BadAudio(f"the piece cannot be reached: {error}") from error
        command = from_start(self.source, self.clock, self.mix)
        if cut.perhaps_done:
            whole = self._listen(command, until=lambda track: track.seconds > cut.length_s + 1)
            if whole.ended:
                return whole
        if cut.start_s >= SEEK_FROM_S:
            with suppress(SeekError):
                return self._sought(cut)
        return self._listen(command, cut, until=lambda track: track.full)

    def _sought(self, cut: Cut) -> Track:
        """Decode a piece after a seek to a few seconds before it, so that the decoder settles."""
        try:
            layout = read_layout(self._first_second())
            with tempfile.NamedTemporaryFile(prefix="landing-") as listing:
                return self._reach(cut, layout, Path(listing.name))
        except BadAudio as error:  # a seek can land where a decoder must complain
            raise SeekError(str(error)) from error

    def _reach(self, cut: Cut, layout: Layout, listing: Path) -> Track:
        clock = self._clock_with(layout)
        seek_s, first_s = (max(floor(cut.start_s) - before, 0) for before in (3, 2))
        first, end = first_s * layout.rate, (ceil(cut.end_s) + 1) * layout.rate
        section = Section(
            seek_s=seek_s,
            first=first if clock.absolute else first - seek_s * layout.rate,
            n_samples=end - first,
            snap=layout.snap(),
            listing=str(listing),
        )
        command = from_middle(self.source, clock, self.mix, section)
        track = self._listen(command, cut, first, until=lambda track: track.full)
        if track.rate != layout.rate:
            raise SeekError(f"its rate changes from {layout.rate} to {track.rate} Hz")
        if track.ended and track.seconds <= cut.start_s:
            raise SeekError("the recording ends before the piece, and its length is not known")
        landed_s = read_landing(listing.read_text()) - (seek_s if clock.absolute else 0)
        if seek_s and landed_s > 0.5:
            raise SeekError(f"a seek to {seek_s} s leads {landed_s:.1f} s too far")
        return track

    def _clock_with(self, layout: Layout) -> Clock:
        """Return the clock to seek by; SeekError if it does not lead to a known sample."""
        clock = COUNTED if isinstance(self.source, Stream) and layout.counts else self.clock
        if layout.frame and not clock.absolute:
            raise SeekError("time stamps are rounded, and have no fixed zero")
        if clock.absolute and layout.origin > LATEST_START_S * layout.rate:
            raise SeekError("time stamps are those of a broadcast")
        return clock

    def _is_broadcast(self) -> bool:
        """Tell whether time stamps begin so late that their zero cannot be the recording's."""
        if not self.clock.absolute:
            return False
        try:
            return read_landing(self._first_second()) > LATEST_START_S
        except (BadAudio, SeekError):
            return False

    def _relative(self) -> "_Reading":
        return replace(self, clock=self.clock._replace(absolute=False))

    def _first_second(self) -> str:
        with closing(output_of(first_second(self.source), self.limits.timeout_s)) as blocks:
            return b"".join(blocks).decode()

    def plain(self, sound: Au) -> np.ndarray:
        """Return sound that another reader gives, float32 [samples] at the wanted rate."""
        track = Track(sound, *EVERYTHING, sample_rate=self.sample_rate)
        for block in sound.blocks:
            track.add(block)
            if track.seconds > self.limits.max_s:
                raise self._too_long()
        track.end()
        return track.wave()

    def _listen(
        self,
        command: list[str],
        cut: Cut | None = None,
        position: int = 0,
        until: Callable[[Track], bool] = lambda track: False,
    ) -> Track:
        """Run ffmpeg to the end of its output, or until `until` holds."""
        piece = cut.samples(self.sample_rate) if cut else EVERYTHING
        with closing(output_of(command, self.limits.timeout_s)) as blocks:
            sound = read_au(blocks)
            track = Track(sound, *piece, position, self.sample_rate)
            for block in sound.blocks:
                track.add(block)
                if until(track):
                    return track
        track.end()
        return track

    def _too_long(self) -> BadAudio:
        return BadAudio(
            f"longer than {self.limits.max_s:g} s; cut it into clips (an ingest can be given a "
            "larger --max-s)"
        )
