"""What every source has: the options of its command line, and a list of its clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from audio_barlow_twins.shards.base.errors import UserError

from .clip import Clip
from .segment import named_by_segment

SHORTEST_PIECE_S = 0.1
MOST_OVERLAPPING = 64
"""Pieces that may hold the same sound; they wait in memory together."""
LONGEST_S = 30.0
"""Recordings longer than this are cut into pieces."""


class Pieces(NamedTuple):
    """How long recordings are cut."""

    piece_s: float
    """Length of a piece, s."""
    step_s: float
    """From the beginning of one piece to that of the next, s."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where clips come from."""

    name: ClassVar[str]
    """Word on the command line and in plans."""

    def clips(self) -> Sequence[Clip]:
        """List the clips, always in the same order."""
        raise NotImplementedError

    @property
    def videos_at(self) -> str | None:
        """Address of a video without its id; None for sources without videos."""
        return None

    def cut_into(self) -> Pieces | None:
        """Return how to cut recordings longer than `LONGEST_S`; None if they stay whole."""
        return None

    @property
    def drops_duplicates(self) -> bool:
        """Whether of recordings that sound the same only the first comes in."""
        return False

    @property
    def is_remote(self) -> bool:
        """Whether audio is read through a URL."""
        return any("://" in url for url in getattr(self, "urls", ()))

    def finish(self, out: Path) -> None:
        """Write what else the source offers, once its shard sets are below `out`."""


@dataclass(frozen=True, kw_only=True)
class NamedSource(Source):
    """A source whose files may be named after segments of AudioSet."""

    names: Literal["plain", "audioset"] = "plain"
    """audioset: files are named YTID, YTID_start (s) or YTID_start_end (s or ms)."""
    pieces: bool = True
    """Cut recordings longer than 30 s into consecutive clips, NAME_startms_endms, the last one as
    long as what is left. Their lengths are measured first, which reads every file once."""
    piece_s: float = 10.0
    """Length of a piece, s."""
    hop_s: float | None = None
    """From the beginning of one piece to that of the next, s; default: a piece, so that none
    overlap. Of overlapping pieces, the same sound counts each time."""

    duplicates: Literal["keep", "drop"] = "keep"
    """drop: of recordings that sound the same, in whatever coding, only the first comes in; each
    other one is a row of the class duplicate. Every file is decoded once more for it."""

    def __post_init__(self) -> None:
        if not SHORTEST_PIECE_S <= self.piece_s < inf:
            raise UserError(
                f"--piece-s is {self.piece_s:g}; choose at least {SHORTEST_PIECE_S:g} s"
            )
        if self.hop_s is not None and not SHORTEST_PIECE_S <= self.hop_s < inf:
            raise UserError(f"--hop-s is {self.hop_s:g}; choose at least {SHORTEST_PIECE_S:g} s")
        if self.hop_s is not None and self.piece_s > MOST_OVERLAPPING * self.hop_s:
            raise UserError(
                f"--hop-s {self.hop_s:g} is too short for --piece-s {self.piece_s:g}: no more than "
                f"{MOST_OVERLAPPING} pieces may hold the same sound"
            )

    def cut_into(self) -> Pieces | None:
        # Files that are named after segments are pieces already.
        if not self.pieces or self.names != "plain":
            return None
        return Pieces(self.piece_s, self.hop_s or self.piece_s)

    @property
    def drops_duplicates(self) -> bool:
        return self.duplicates == "drop"

    def clips(self) -> Sequence[Clip]:
        """List the clips, with keys and times from their names if `names` is audioset."""
        clips = self.files()
        return named_by_segment(clips) if self.names == "audioset" else clips

    def files(self) -> list[Clip]:
        """List the clips by the names of their files."""
        raise NotImplementedError
