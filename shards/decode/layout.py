"""Which sample of a recording a time stamp stands for, so that a seek is exact to the sample."""

import re
from dataclasses import dataclass
from fractions import Fraction

from .errors import BadAudio

SOUGHT = ("aac", "flac", "mp3", "opus", "pcm_")
"""Codecs whose seeks are tested to the sample; others are decoded from the start.

Vorbis changes its block size at any time, and time stamps near a change are off by 10 ms.
"""
COUNTING = "1/14112000"
"""Time base of ffmpeg's MP3 reader, whose stamps count packets, also those before the sound."""
_ABOUT = re.compile(r"^#(\w+ [01]): (\S+)", re.MULTILINE)
_FRAME = re.compile(r"^1, *-?\d+, *(-?\d+), *(\d+),", re.MULTILINE | re.ASCII)
_PACKET = re.compile(r"^0, *-?\d+, *(-?\d+), *(\d+),", re.MULTILINE | re.ASCII)


class SeekError(Exception):
    """Report that a seek in this recording does not lead to a known sample."""


class BroadcastError(SeekError):
    """Report that time stamps begin so late that their zero cannot be the recording's."""


@dataclass(frozen=True)
class Layout:
    """Where frames begin, in samples at the native rate."""

    rate: int
    """Native rate, Hz; all time stamps here count its samples."""
    origin: int
    """Time stamp of the first sample."""
    counts: bool
    """The recording has no clock: its first sample is its beginning."""
    first: int = 0
    """Samples of the first frame."""
    frame: int = 0
    """Samples of every other frame; 0 if time stamps are exact, so that it does not matter."""

    def snap(self) -> str:
        """Return the ffmpeg filter that undoes the rounding of time stamps, '' if they are exact.

        A stamp that is off by no more than rounding from where a frame lies, if none is missing
        or longer, is that frame's; another, after a hole, is as exact as it is.
        """
        if not self.frame:
            return ""
        origin = self.origin if abs(self.origin) * 1000 >= self.rate else 0
        second = origin + self.first
        exact = f"{second}+round((PTS-{second})/{self.frame})*{self.frame}"
        close = 0.0011 * self.rate
        return f"asetpts='st(0,{exact});if(lt(abs(PTS-ld(0)),{close}),ld(0),PTS)'"


def read_layout(framecrc: str) -> Layout:
    """Return the layout of a recording; SeekError if time stamps do not tell what a frame holds.

    `framecrc` lists packets as stream 0, the frames that they decode to as stream 1.
    """
    about = dict(_ABOUT.findall(framecrc))
    frames = [(int(pts), int(size)) for pts, size in _FRAME.findall(framecrc)]
    codec = about.get("codec_id 0", "unknown")
    if not codec.startswith(SOUGHT) or not frames:
        raise SeekError(f"places in {codec} are not known to the sample")
    rate = int(about["tb 1"].partition("/")[2])
    per_stamp = _time_base(framecrc) * rate
    counts = about["tb 0"] == COUNTING
    (origin, first), *_ = frames
    if per_stamp.numerator == 1:  # a sample is a whole number of stamps
        return Layout(rate, origin, counts)
    sizes = {size for _, size in frames[1:-1]}
    if len(sizes) != 1:
        raise SeekError("time stamps are rounded, and frames differ in length")
    return Layout(rate, origin, counts, first, sizes.pop())


def read_landing(framecrc: str) -> float:
    """Return the time stamp of the first listed packet, s; SeekError if there is none."""
    packet = _PACKET.search(framecrc)
    if packet is None:
        raise SeekError("no packet was found after it")
    return float(int(packet[1]) * _time_base(framecrc))


def read_span(first: str, last: str, latest_s: float) -> float:
    """Return the time at which the last packet ends, s.

    Args:
        first, last: begin and end of a listing of all packets.
        latest_s: if the first packet begins later, s, the recording begins with it.

    Raises:
        BadAudio: there is no packet.
    """
    packets = _PACKET.findall(last)
    if not packets:
        raise BadAudio("it holds no sample")
    start_s = read_landing(first)
    pts, duration = map(int, packets[-1])
    end_s = float((pts + duration) * _time_base(first))
    return end_s - start_s if start_s > latest_s else end_s


def _time_base(framecrc: str) -> Fraction:
    """Return the length of a time stamp's unit, s."""
    return Fraction(dict(_ABOUT.findall(framecrc))["tb 0"])
