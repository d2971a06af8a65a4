"""Sound events of clips: which labels are active at a timestamp, and events from probabilities.

Times are milliseconds, as in HEAR's task folders. Follows heareval 2021.1.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..tasks.timeline import Timeline

# Above this probability a label is active; heareval searches no threshold.
THRESHOLD = 0.5


@dataclass(frozen=True)
class EventTable:
    """Events of several clips as columns, each [n]; times in seconds."""

    clip: np.ndarray
    label: np.ndarray
    onset_s: np.ndarray
    offset_s: np.ndarray

    def __len__(self) -> int:
        """Number of events."""
        return len(self.clip)


@dataclass(frozen=True, kw_only=True, order=True)
class PostProcessing:
    """How probabilities become events; of two equally good ones, heareval takes the larger."""

    median_filter_ms: float
    """Width of a median filter along time; 0 is none."""
    min_duration_ms: float
    """Shorter events are dropped. An event lasts from its first to its last timestamp."""


def reference_table(timelines: Sequence[Timeline], label_index: Mapping[str, int]) -> EventTable:
    """Collect the events that are to be found."""
    rows = [
        (clip, label_index[event.label], event.start_ms / 1000, event.end_ms / 1000)
        for clip, timeline in enumerate(timelines)
        for event in timeline.events
    ]
    clip, label, onset_s, offset_s = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return EventTable(clip.astype(np.int64), label.astype(np.int64), onset_s, offset_s)


def detect_events(
    probabilities: np.ndarray, timelines: Sequence[Timeline], how: PostProcessing
) -> EventTable:
    """Turn probabilities at timestamps into events.

    Args:
        probabilities: float [N, L]; the timestamps of all clips, one clip after another.
        timelines: the clips; their numbers of timestamps add up to N.
        how: median filter and shortest event.
    """
    ends = np.cumsum([len(timeline.timestamps_ms) for timeline in timelines])
    found = []
    for clip, active in enumerate(np.split(probabilities > THRESHOLD, ends[:-1])):
        times = timelines[clip].timestamps_ms
        width = round(how.median_filter_ms / np.mean(np.diff(times)))
        label, first, last = runs(median_filtered(active, width) if width else active)
        kept = times[last] - times[first] >= how.min_duration_ms
        columns = np.full(len(first), clip), label, times[first] / 1000, times[last] / 1000
        found.append([column[kept] for column in columns])
    return EventTable(*(np.concatenate(column) for column in zip(*found, strict=True)))


def median_filtered(active: np.ndarray, width: int) -> np.ndarray:
    """Tell where the median of probabilities over a window of time exceeds the threshold.

    That is where enough of the window's marks do, so the marks are all it takes. The window and
    its reflection at the edges are those of `scipy.ndimage.median_filter`.

    Args:
        active: bool [T, L].
        width: of the window, in timestamps.
    """
    left = width // 2
    reflected = np.pad(active, ((left, width - 1 - left), (0, 0)), mode="symmetric")
    counts = np.cumsum(np.pad(reflected, ((1, 0), (0, 0))), axis=0, dtype=np.int32)
    return counts[width:] - counts[:-width] >= width - width // 2


def runs(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the stretches of consecutive marks in bool [T, L]: label, first and last index."""
    edges = np.diff(np.pad(active.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    label, first = np.nonzero(edges == 1)
    _, after = np.nonzero(edges == -1)
    return label, first, after - 1
