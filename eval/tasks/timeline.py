"""Labelled events and timestamps of clips in event tasks, as in heareval 2021.1.3.

Times are milliseconds, as in HEAR's task folders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Added to an event's end, so that it contains a timestamp at its very end.
END_SLACK_MS = 0.0001


@dataclass(frozen=True, kw_only=True)
class Event:
    label: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Timestamps and true events of a clip."""

    timestamps_ms: np.ndarray
    """Float64 [T], strictly ascending, at least two."""
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        if len(self.timestamps_ms) < 2 or not (np.diff(self.timestamps_ms) > 0).all():
            raise ValueError(
                f"{len(self.timestamps_ms)} timestamps; wanted at least two, strictly ascending"
            )


def active_labels(
    events: Sequence[Event], timestamps_ms: np.ndarray, labels: Sequence[str]
) -> np.ndarray:
    """Return which labels are active at each timestamp, float32 0 or 1 [T, L]."""
    index = {label: i for i, label in enumerate(labels)}
    marks = np.zeros((len(timestamps_ms), len(labels)), dtype=np.float32)
    for event in events:
        begun = event.start_ms <= timestamps_ms
        marks[begun & (timestamps_ms < event.end_ms + END_SLACK_MS), index[event.label]] = 1
    return marks
