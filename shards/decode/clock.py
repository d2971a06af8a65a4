"""How containers keep time: which of their time stamps say where a sample lies."""

from typing import NamedTuple


class Clock(NamedTuple):
    """How far the time stamps of a container are taken at their word."""

    absolute: bool
    """Their zero is where the recording begins, even if no stream begins there."""
    hole_s: float
    """Least difference between time stamps and samples, s, that is a hole or an overlap."""

    def options(self, first: int = 0, settled_s: float = 0.001) -> dict[str, float]:
        """Return options of ffmpeg's `aresample` to put zeros into holes and drop what overlaps.

        Args:
            first: time stamp of the first sample to deliver, in samples at the native rate.
            settled_s: a first frame that is off by less is taken to begin there.
        """
        hole_s = self.hole_s
        return {"async": 1, "first_pts": first, "min_comp": settled_s, "min_hard_comp": hole_s}


COUNTED = Clock(absolute=False, hole_s=1e9)
"""Time stamps tell when a stream begins; from there on they are estimates, and samples count."""
MP4 = MATROSKA = Clock(absolute=True, hole_s=0.016)
"""Above the jitter of recorders that stamp by the wall clock, below a packet of 20 ms."""
FLV = ASF = Clock(absolute=False, hole_s=0.016)
OGG = Clock(absolute=False, hole_s=0.018)
"""Within a page, ffmpeg adds up lengths: where Vorbis changes its block size, 10 ms too many."""
_MAGIC = (
    *((4, box, MP4) for box in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")),
    (0, b"\x1aE\xdf\xa3", MATROSKA),
    (0, b"OggS", OGG),
    (0, b"FLV", FLV),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ASF),
)
MAGIC_BYTES = 16


def clock_of(head: bytes) -> Clock:
    """Return the clock of a file that begins with these bytes."""
    found = (clock for at, magic, clock in _MAGIC if head[at:].startswith(magic))
    return next(found, COUNTED)
