"""What every source has: the options of its command line, and a list of its clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from .clip import Clip
from .segment import named_by_segment


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

    def clips(self) -> Sequence[Clip]:
        """List the clips, with keys and times from their names if `names` is audioset."""
        clips = self.files()
        return named_by_segment(clips) if self.names == "audioset" else clips

    def files(self) -> list[Clip]:
        """List the clips by the names of their files."""
        raise NotImplementedError
