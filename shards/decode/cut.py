"""What to decode of a recording, and within which bounds."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Bounds on one file."""

    min_samples: int = 513
    """Shortest clip, samples at 16 kHz; below it log-mel cannot pad by reflection."""
    max_s: float = 1200.0
    """Longest clip, s."""
    timeout_s: float = 300.0
    """Longest run of ffmpeg, s."""


@dataclass(frozen=True)
class Cut:
    """The piece of a recording that is the clip, on the recording's own clock."""

    start_s: float
    end_s: float
    perhaps_done: bool = False
    """The file may be the piece already; it is, if it is at most a second longer."""
    complete: bool = False
    """The recording was measured, and holds all of it; less of it is an error."""

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def samples(self, sample_rate: int) -> tuple[int, int]:
        """Return the first sample and the end (exclusive)."""
        return round(self.start_s * sample_rate), round(self.end_s * sample_rate)
