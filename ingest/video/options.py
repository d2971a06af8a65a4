"""How videos are fetched; options have the same names from the command line to yt-dlp's process."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from .governor import Pace

FORMAT = "bestaudio/best"
SOCKET_TIMEOUT_S = 20.0
"""Longest silence of a connection."""


@dataclass(frozen=True, kw_only=True)
class Videos:
    """How videos are fetched; no effect on sources without videos."""

    cookies: tuple[Path, ...] = ()
    """Netscape cookie files, an identity each; as many as proxies makes pairs."""
    proxy: tuple[str, ...] = ()
    """Proxy URLs, an identity each."""
    one_address: bool = False
    """All machines of the cluster reach the site from one address, and count as one identity."""
    extractor_args: tuple[str, ...] = ()
    """Passed to yt-dlp, such as "youtube:player_client=web"."""
    pace: Pace = field(default_factory=Pace)
    """How fast each identity may ask."""
    canary: str = "jNQXAC9IVRw"
    """Id of a short video that is known to be good; it tells a bad clip from a refused identity."""
    max_mb: float = 512.0
    """Largest recording that is downloaded whole, MB."""
    section_mb: float = 32.0
    """Recordings larger than this are read in sections, MB."""
    timeout_s: float = 300.0
    """Longest time for one video, s; a download that hangs is killed, and so is the reading of a
    section, after which the whole recording is tried."""
    tries: int = 4
    """Attempts at a clip when the network fails."""
    backoff_s: float = 2.0
    """Pause before the second attempt, s; it doubles each time."""

    def at(self, page: str) -> "Videos":
        """Return the options for a site: the canary becomes the address of its page."""
        return replace(self, canary=self.canary if "://" in self.canary else f"{page}{self.canary}")

    def request(self) -> dict[str, object]:
        """Return what yt-dlp's process receives with every video, as plain values."""
        return {
            "max_bytes": round(self.max_mb * 1e6),
            "section_above": round(self.section_mb * 1e6),
            "extractor_args": self.extractor_args,
            "socket_timeout_s": SOCKET_TIMEOUT_S,
            "format": FORMAT,
        }
