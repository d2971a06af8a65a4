"""Which sample of a recording a time stamp stands for, so that a seek is exact to the sample."""

import re
from dataclasses import dataclass

SOUGHT = ("aac", "flac", "mp3", "opus", "pcm_", "vorbis")
"""Codecs whose seeks are tested to the sample; others are decoded from the start."""
COUNTING = "1/14112000"
"""Time base of ffmpeg's MP3 reader, whose stamps count packets, also those before the sound."""
_ABOUT = re.compile(r"^#(\w+ [01]): (\S+)", re.MULTILINE)
_FRAME = re.compile(r"^1, *-?\d+, *(-?\d+), *(\d+),", re.MULTILINE | re.ASCII)
_PACKET = re.compile(r"^0, *-?\d+, *(-?\d+),", re.MULTILINE | re.ASCII)


class SeekError(Exception):
    """Report that a seek in this recording does not lead to a known sample."""


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
    numerator, denominator = map(int, about["tb 0"].split("/"))
    counts = about["tb 0"] == COUNTING
    (origin, first), *_ = frames
    if numerator == 1 and denominator % rate == 0:
        return Layout(rate, origin, counts)
    sizes = {size for _, size in frames[1:-1]}
    if len(sizes) != 1 or codec == "vorbis":  # its blocks change their length at any time
        raise SeekError("time stamps are rounded, and frames differ in length")
    return Layout(rate, origin, counts, first, sizes.pop())


def read_landing(framecrc: str) -> float:
    """Return the time stamp of the first listed packet, s; SeekError if there is none."""
    about, packet = dict(_ABOUT.findall(framecrc)), _PACKET.search(framecrc)
    if packet is None:
        raise SeekError("no packet was found after it")
    numerator, denominator = map(int, about["tb 0"].split("/"))
    return int(packet[1]) * numerator / denominator
