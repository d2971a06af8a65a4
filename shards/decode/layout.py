"""Which sample of a recording a timestamp stands for, so that a seek is exact to the sample."""

import re
from dataclasses import dataclass

SOUGHT = ("aac", "flac", "mp3", "opus", "pcm_", "vorbis")
"""Codecs whose seeks are tested to the sample; others are decoded from the start."""
_ABOUT = re.compile(r"^#(\w+ [01]): (\S+)", re.MULTILINE)
_FRAME = re.compile(r"^1, *-?\d+, *(-?\d+), *(\d+),", re.MULTILINE | re.ASCII)


class SeekError(Exception):
    """Report that a seek in this recording does not lead to a known sample."""


@dataclass(frozen=True)
class Layout:
    """Where frames begin, in samples at the native rate."""

    rate: int
    """Native rate, Hz; all timestamps here count its samples."""
    origin: int
    """Timestamp of the first sample."""
    first: int
    """Samples of the first frame."""
    frame: int
    """Samples of every other frame; 0 if timestamps are exact, so that it does not matter."""

    def boundary(self, second: int) -> int:
        """Return the first sample at or after this time that a seek can identify."""
        if not self.frame:
            return second * self.rate
        return self.first + -(-(second * self.rate - self.first) // self.frame) * self.frame

    def only(self, begin: int, end: int) -> str:
        """Return the ffmpeg filter that passes the samples from `begin` to `end`."""
        start, stop = self.origin + begin, self.origin + end
        if not self.frame:
            return f"atrim=start_pts={start}:end_pts={stop}"
        # Rounded timestamps still tell one frame from the next; atrim only ends the reading.
        half = self.frame // 2
        return (
            f"atrim=end_pts={stop + self.frame},"
            f"aselect=between(pts\\,{start - half}\\,{stop - half - 1})"
        )


def read_layout(framecrc: str) -> Layout:
    """Return the layout of a recording; SeekError if timestamps do not tell what a frame holds.

    `framecrc` lists packets as stream 0, the frames that they decode to as stream 1.
    """
    about = dict(_ABOUT.findall(framecrc))
    frames = [(int(pts), int(size)) for pts, size in _FRAME.findall(framecrc)]
    codec = about.get("codec_id 0", "unknown")
    if not codec.startswith(SOUGHT) or not frames:
        raise SeekError(f"places in {codec} are not known to the sample")
    rate = int(about["tb 1"].partition("/")[2])
    numerator, denominator = map(int, about["tb 0"].split("/"))
    if numerator == 1 and denominator % rate == 0:
        return Layout(rate, *frames[0], frame=0)
    sizes = {size for _, size in frames[1:-1]}
    if len(sizes) != 1:
        raise SeekError("timestamps are rounded, and frames differ in length")
    return Layout(rate, *frames[0], frame=sizes.pop())
