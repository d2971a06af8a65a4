"""One recording as ffmpeg reads it: whole, a piece after a seek, or many pieces in one pass."""

import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..stored.front_end import PCM16_SCALE
from .clock import COUNTED, OGG, Clock
from .cut import Cut, DecodeLimits
from .errors import BadAudio, ClockError, DecoderStopped, NotBegun
from .ffmpeg import Section, Stream, every_packet, first_second, from_middle, from_start
from .joined import goes_back
from .layout import BroadcastError, Layout, SeekError, read_landing, read_layout, read_span
from .pipe import output_of
from .track import EVERYTHING, SAMPLE_RATE, Au, Track, read_au

SEEK_FROM_S = 10.0
"""Pieces that begin earlier are decoded from the start of the file, which costs less."""
LATEST_START_S = 60.0
"""Time stamps that begin later are those of a broadcast, and the recording begins with them."""
MIXED_CHANNELS = 8
"""Most channels that ffmpeg always has a mix for; of more, it is the mean if it has none."""
_LINES = 4096
"""Bytes at either end of a listing that hold a packet."""
_END_S = 5.0
"""How much is decoded before and after the end that the packets promise, s."""


class Length(NamedTuple):
    """How long a recording is."""

    seconds: float
    rest: str = ""
    """Why not all behind that could be read, so that there may be more; '' if it ends there."""


@dataclass(frozen=True)
class Reading:
    """How one recording is read."""

    source: str | Stream
    limits: DecodeLimits
    clock: Clock
    sample_rate: int = SAMPLE_RATE
    mix: bool = True
    """ffmpeg mixes the channels; else, they are averaged here."""
    seeks: bool = True
    """Look for a piece by time stamps; else, decode all before it."""

    def track(self, cut: Cut | None) -> Track:
        """Return the whole recording, or a piece."""
        try:
            track = self._piece(cut) if cut else self._whole()
        except NotBegun as error:
            settled = self.settled()
            return self._averaged(cut, error) if settled is self else settled.track(cut)
        if not track.loudest or track.silent_s > LATEST_START_S:
            settled = self.settled()
            if settled is not self:
                return settled.track(cut)
        if not (cut or track.ended):
            raise self._too_long()
        return track

    def settled(self) -> "Reading":
        """Return the reading whose clock has its zero where the recording begins.

        That of a broadcast begins so late that its zero cannot be the recording's.
        """
        if not self.clock.absolute:
            return self
        try:
            if read_landing(self._first_second()) <= LATEST_START_S:
                return self
        except (BadAudio, SeekError):
            return self
        return replace(self, clock=self.clock._replace(absolute=False))

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

    def pieces(self, cuts: Sequence[Cut]) -> Iterator[Track]:
        """Yield pieces in one pass; an error of ffmpeg ends it.

        Raises:
            SeekError: its time stamps are those of a broadcast.
        """
        self._check(cuts)
        return self._pass(cuts)

    def packets_s(self) -> float:
        """Return the end of the last packet, s; ClockError if time stamps go back."""
        first = last = b""
        command = every_packet(self.source, self.clock)
        try:
            with closing(output_of(command, self.limits.timeout_s)) as blocks:
                for block in blocks:
                    first += block[: _LINES - len(first)]
                    last = (last + block)[-_LINES:]
        except ClockError:
            raise
        except BadAudio:  # damage is the matter of the piece that it lies in
            if not last:
                raise
        return read_span(first.decode(), last.decode(), LATEST_START_S)

    def length(self, about_s: float) -> Length:
        """Decode the end, or everything if the end is elsewhere, and return the exact length.

        Raises:
            ClockError: there is none, because time stamps go back.
        """
        with suppress(BadAudio, DecoderStopped):
            end = self.track(Cut(max(about_s - _END_S, 0), about_s + _END_S))
            if end.ended:
                return Length(end.seconds)
        try:
            return Length(self._listen(self._from_start(), (0, 0)).seconds)
        except ClockError:
            raise
        except DecoderStopped:
            return Length(about_s)
        except BadAudio as error:  # damaged somewhere; the pieces beside it may be whole
            return Length(about_s, rest=str(error))

    def _whole(self) -> Track:
        return self._listen(
            self._from_start(), EVERYTHING, until=lambda track: track.seconds > self.limits.max_s
        )

    def _piece(self, cut: Cut) -> Track:
        self._check([cut])
        if cut.perhaps_done and isinstance(self.source, str):
            longest_s = cut.length_s + 1
            whole = self._listen(
                self._from_start(), EVERYTHING, until=lambda track: track.seconds > longest_s
            )
            if whole.ended:
                return whole
        try:
            with closing(self._pass([cut])) as tracks:
                return next(tracks)
        except BroadcastError:
            return self.settled()._piece(cut)
        except SeekError as error:
            raise BadAudio(f"the piece cannot be reached: {error}") from error

    def _check(self, cuts: Sequence[Cut]) -> None:
        for cut in cuts:
            if not 0 <= cut.start_s < cut.end_s:
                raise BadAudio(f"there is no sound between {cut.start_s:g} s and {cut.end_s:g} s")
            if cut.length_s > self.limits.max_s:
                raise self._too_long()

    def _pass(self, cuts: Sequence[Cut]) -> Generator[Track]:
        """Yield pieces from a seek to the first one, or else from the beginning of a file.

        Raises:
            SeekError: a seek does not lead there, and this is a stream, or a broadcast.
        """
        source, begun = self.source, False
        if isinstance(source, Stream) or self._leads_to(source, cuts[0]):
            try:
                for track in self._sought(cuts):
                    begun = True
                    yield track
                return
            except BroadcastError:
                raise
            except (SeekError, BadAudio) as error:  # a seek can land where a decoder must complain
                if begun:
                    raise
                if isinstance(source, Stream):
                    raise SeekError(str(error)) from error
        yield from self._tracks(self._from_start(), cuts, 0)

    def _leads_to(self, path: str, cut: Cut) -> bool:
        """Tell whether a seek in a file leads to a piece, and is worth it."""
        if not self.seeks or cut.start_s < SEEK_FROM_S:
            return False
        return self.clock != OGG or not goes_back(path)

    def _sought(self, cuts: Sequence[Cut]) -> Iterator[Track]:
        """Seek to some seconds before the first piece, so that the decoder settles."""
        layout = read_layout(self._first_second())
        clock = self._clock_with(layout)
        seek_s, first_s = (max(floor(cuts[0].start_s) - before, 0) for before in (3, 2))
        first, end = first_s * layout.rate, (ceil(cuts[-1].end_s) + 1) * layout.rate
        with tempfile.NamedTemporaryFile(prefix="landing-") as listing:
            section = Section(
                seek_s=seek_s,
                first=first if clock.absolute else first - seek_s * layout.rate,
                n_samples=end - first,
                snap=layout.snap(),
                listing=listing.name,
            )
            command = from_middle(self.source, clock, self.mix, section)
            for number, track in enumerate(self._tracks(command, cuts, first)):
                if not number:
                    landed_s = read_landing(Path(listing.name).read_text())
                    landed_s -= seek_s if clock.absolute else 0
                    _check_landing(track, layout, cuts[0], landed_s if seek_s else 0)
                yield track

    def _clock_with(self, layout: Layout) -> Clock:
        """Return the clock to seek by; SeekError if it does not lead to a known sample."""
        clock = COUNTED if isinstance(self.source, Stream) and layout.counts else self.clock
        if layout.frame and not clock.absolute:
            raise SeekError("time stamps are rounded, and have no fixed zero")
        if clock.absolute and layout.origin > LATEST_START_S * layout.rate:
            raise BroadcastError("time stamps are those of a broadcast")
        return clock

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

    def _from_start(self) -> list[str]:
        if isinstance(self.source, Stream):
            raise ValueError("a stream is read in pieces; give a cut")
        return from_start(self.source, self.clock, self.mix)

    def _listen(
        self,
        command: list[str],
        samples: tuple[int, int],
        until: Callable[[Track], bool] = lambda track: False,
    ) -> Track:
        """Run ffmpeg to its end, or until `until` holds; keep samples from one to another."""
        with closing(output_of(command, self.limits.timeout_s)) as blocks:
            sound = read_au(blocks)
            track = Track(sound, *samples, sample_rate=self.sample_rate)
            for block in sound.blocks:
                track.add(block)
                if until(track):
                    return track
        track.end()
        return track

    def _tracks(self, command: list[str], cuts: Sequence[Cut], position: int) -> Iterator[Track]:
        """Run ffmpeg, whose first sample is number `position`; yield each piece that is complete.

        At the end of the recording the others follow, with what there is.
        """
        waiting, begun = deque(cuts), deque[Track]()
        with closing(output_of(command, self.limits.timeout_s, by_block=True)) as blocks:
            sound = read_au(blocks)

            def begin() -> None:
                piece = waiting.popleft().samples(self.sample_rate)
                begun.append(Track(sound, *piece, position, self.sample_rate))

            for block in sound.blocks:
                end = position + len(block)
                while waiting and (waiting[0].start_s - 1) * sound.rate <= end:
                    begin()
                for track in begun:
                    track.add(block)
                position = end
                while begun and begun[0].full:
                    yield begun.popleft()
                if not (waiting or begun):
                    return
        while waiting:
            begin()
        for track in begun:
            track.end()
            yield track

    def _too_long(self) -> BadAudio:
        return BadAudio(
            f"longer than {self.limits.max_s:g} s; cut it into clips (an ingest can be given a "
            "larger --max-s)"
        )


def _check_landing(track: Track, layout: Layout, cut: Cut, landed_s: float) -> None:
    """Raise SeekError unless a seek, which led `landed_s` too far, has reached the piece."""
    if track.rate != layout.rate:
        raise SeekError(f"its rate changes from {layout.rate} to {track.rate} Hz")
    if track.ended and track.seconds <= cut.start_s:
        raise SeekError("the recording ends before the piece, and its length is not known")
    if landed_s > 0.5:
        raise SeekError(f"a seek leads {landed_s:.1f} s too far")
