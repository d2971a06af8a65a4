"""One planned clip, and the key that names it inside a tar."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, NamedTuple

from audio_barlow_twins.shards.base.digest import digest

KEY_LENGTH = 80
"""Longest readable part of a key; a tar header holds 100 bytes with the ending."""


class RowOfTable(NamedTuple):
    """Row group and row (from 0 in its group) of a Parquet table."""

    group: int
    number: int
    audio: tuple[str, ...] = ("audio", "bytes")
    """Column that holds the audio, and the fields inside it that lead there."""


class Event(NamedTuple):
    """A strong label."""

    label: str
    start_s: float
    """Onset, seconds from the start of the clip."""
    end_s: float
    """Offset, seconds from the start of the clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """What a source lists: one piece of audio and what is known about it."""

    key: str
    source: str
    """Name of the source: folder, audioset, ..."""
    path: str
    """File to decode, URL of the file that holds it, or page of a video."""
    origin: str
    """The file for people: relative to the source's folder, valid UTF-8."""
    name: str = ""
    """What the key column of a table calls it, before that was made a key."""
    labels: tuple[str, ...] = ()
    events: tuple["Event", ...] = ()
    """Strong labels: which sound lasts from when to when."""
    timed: tuple[str, ...] = ()
    """Labels that hold only during events; the others hold for all pieces of a recording."""
    part: tuple[int, int] | None = None
    """First byte and length of the audio inside `path`, if that is an archive."""
    archive_bytes: int | None = None
    """Size of the archive or table when it was listed; None if it is not behind HTTP."""
    row: RowOfTable | None = None
    """Row that holds the audio, if `path` is a Parquet table."""
    video: bool = False
    """`path` is a page that yt-dlp reads."""
    start_s: float | None = None
    """Start of the clip in its recording, seconds; None if it is unknown."""
    end_s: float | None = None
    length_s: float | None = None
    """Length of the whole recording that is the clip, s, if it was measured."""
    cut: Literal["done", "needed", "perhaps", "unmeasured"] = "done"
    """Whether the audio is the whole recording, to be cut from start_s to end_s; `perhaps`: only
    if it is longer than the clip; `unmeasured`: it is the clip, unless it is long."""
    refused: str = ""
    """Why this entry cannot be used, found while it was listed; '' if it can."""
    duplicate_of: str = ""
    """Origin of an earlier recording of the source that sounds the same, so that this one is
    dropped; '' if it is not."""
    others: tuple["Clip", ...] = ()
    """The same clip in other sources, tried in turn if this one fails."""

    @property
    def is_piece(self) -> bool:
        """Tell a piece of a long recording from its file or archive."""
        return self.cut == "needed" and not self.video


def as_text(name: str) -> str:
    """Return a name as valid Unicode, with what was none as `\\udce9`."""
    return name.encode("utf-8", "backslashreplace").decode()


def normal_name(name: str) -> str:
    """Return a path inside an archive or a folder without `.` parts and needless slashes."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def told_apart(origins: Iterable[str]) -> list[str]:
    """Number origins that come again, before their ending: `a.wav`, `a#2.wav`."""
    seen = dict[str, None]()
    for origin in origins:
        stem, ending = posixpath.splitext(origin)
        names = (f"{stem}#{n}{ending}" if n > 1 else origin for n in count(1))
        seen[next(name for name in names if name not in seen)] = None
    return list(seen)


def clip_keys(origins: Sequence[str], names: Sequence[str] | None = None) -> list[str]:
    """Name clips after their files: a pure function of the arguments.

    WebDataset cuts a member's name at the first dot and groups by it, so a key has neither dot nor
    slash. A name that had to be changed, or that two clips share, gets a hash of its origin.

    Args:
        origins: where each clip comes from, all different.
        names: file names to derive the keys from; default: the origins.
    """
    plain = [re.sub(r"\.[^./]*$", "", name) for name in names or origins]
    clean = [re.sub(r"[^A-Za-z0-9_-]", "_", name.replace("/", "__")) for name in plain]
    shared = Counter(clean)
    return [
        name
        if name == stem.replace("/", "__") and shared[name] == 1 and 0 < len(name) <= KEY_LENGTH
        else f"{name[:KEY_LENGTH]}-{digest(origin, 5)}"
        for name, stem, origin in zip(clean, plain, origins, strict=True)
    ]
