"""Names of AudioSet's segments, as lists, mirrors and folders write them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from audio_barlow_twins.shards.base.errors import UserError

from .clip import Clip

YTID = r"[A-Za-z0-9_-]{11}"
_NAME = re.compile(rf"(?P<ytid>Y?{YTID})(?:_(?P<start>\d+(?:\.\d+)?)(?:_(?P<end>\d+(?:\.\d+)?))?)?")
_PIECE = re.compile(r"_0\d{7}_\d{8}$")
LONGEST_S = 60
"""Two numbers in a name that differ by more are milliseconds."""


@dataclass(frozen=True)
class Segment:
    """A piece of a video; its end, or both times, may be unknown."""

    ytid: str
    """Id of the video: 11 characters, any of which may be `_` or `-`."""
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def key(self) -> str:
        """Name of the clip: `YTID_startms`, or `YTID` alone."""
        return self.ytid if self.start_ms is None else f"{self.ytid}_{self.start_ms}"


def parse_segment(name: str) -> Segment | None:
    """Read `YTID`, `YTID_start` (seconds) or `YTID_start_end` (seconds or milliseconds).

    A `Y` before the eleven characters, as some downloaders write it, is dropped. Any other name
    gives None, and so does that of a piece, `NAME_00000000_00010000`: its NAME may be any eleven
    characters.
    """
    found = _NAME.fullmatch(name)
    if not found or _PIECE.search(name):
        return None
    ytid, start, end = found["ytid"][-11:], found["start"], found["end"]
    if start is None:
        return Segment(ytid)
    if end is None:
        return Segment(ytid, round(float(start) * 1000))
    scale = 1 if float(end) - float(start) > LONGEST_S else 1000
    return Segment(ytid, round(float(start) * scale), round(float(end) * scale))


def segment_of(path: str) -> Segment | None:
    """Read the name at the end of a path, with an ending such as `.wav` or without."""
    name = path.rpartition("/")[2]
    return parse_segment(name) or parse_segment(re.sub(r"\.[^.]*$", "", name))


def named_by_segment(clips: Iterable[Clip]) -> list[Clip]:
    """Give clips of a folder, of tars or of tables the key and times in their names.

    A file with a time in its name is the cut piece. One without may be the piece or the whole
    video: its length decides, once another source gives the times.

    Raises:
        UserError: a name is not that of a segment, or two files are the same segment.
    """
    named: dict[str, Clip] = {}
    for clip in clips:
        segment = segment_of(clip.name) or segment_of(clip.origin)
        if segment is None:
            raise UserError(
                f"{clip.origin} is not named YTID, YTID_start or YTID_start_end, as --names "
                "audioset expects; drop the option, or move the file elsewhere"
            )
        if twin := named.get(segment.key):
            raise UserError(f"{clip.origin} and {twin.origin} are the same segment; keep one")
        named[segment.key] = replace(
            clip,
            key=segment.key,
            start_s=None if segment.start_ms is None else segment.start_ms / 1000,
            end_s=None if segment.end_ms is None else segment.end_ms / 1000,
            cut="perhaps" if segment.start_ms is None else "done",
        )
    return list(named.values())
