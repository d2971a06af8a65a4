"""The scores of HEAR's event tasks, equal to those of sed_eval 0.2.1 (overall, "optimal" matching).

Each maps reference and estimated events of the same clips to named parts; the first part is the
score. Times are seconds.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from .detection import EventTable

EventScore = Callable[[EventTable, EventTable], dict[str, float]]

# Candidates for a match are sought a little too widely, then compared exactly.
SLACK_S = 1e-3


def event_f_measure(
    reference: EventTable,
    estimated: EventTable,
    collar_s: float,
    share_of_length: float | None = None,
) -> dict[str, float]:
    """F-measure, precision and recall of events with the right label at the right time.

    Each event matches one of the other side at most, and as many match as possible. Precision is
    NaN without estimated events, recall without reference events, and F is NaN with either.

    Args:
        reference: events to be found.
        estimated: events that were found.
        collar_s: greatest difference of the onsets.
        share_of_length: the offsets may differ by this share of the reference event's length, or
            by the collar if that is more; None leaves offsets out.
    """
    hits = count_matches(reference, estimated, collar_s, share_of_length)
    precision = hits / len(estimated) if len(estimated) else math.nan
    recall = hits / len(reference) if len(reference) else math.nan
    f_measure = 2 * precision * recall / (precision + recall) if hits else 0 * (precision + recall)
    return {"f_measure": f_measure, "precision": precision, "recall": recall}


def count_matches(
    reference: EventTable, estimated: EventTable, collar_s: float, share_of_length: float | None
) -> int:
    """Count the pairs of a largest matching of reference and estimated events."""
    sought, found = candidates(reference, estimated, collar_s)
    onset_gap = np.abs(reference.onset_s[sought] - estimated.onset_s[found])
    hit = onset_gap <= collar_s
    if share_of_length is not None:
        length = reference.offset_s[sought] - reference.onset_s[sought]
        offset_gap = np.abs(reference.offset_s[sought] - estimated.offset_s[found])
        hit &= offset_gap <= np.maximum(collar_s, share_of_length * length)
    sought, found = sought[hit], found[hit]
    if not len(sought):
        return 0
    shape = (len(reference), len(estimated))
    graph = coo_array((np.ones(len(sought), dtype=bool), (sought, found)), shape=shape)
    return int((maximum_bipartite_matching(graph.tocsr()) >= 0).sum())


def candidates(
    reference: EventTable, estimated: EventTable, collar_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pair events of one clip and label whose onsets are close, as indices into either table."""
    onsets = np.concatenate([reference.onset_s, estimated.onset_s, [0.0]])
    labels = np.concatenate([reference.label, estimated.label, [0]])
    # All clips and labels go on one axis of time, too far apart to reach each other.
    apart = np.ptp(onsets) + 2 * (collar_s + SLACK_S)

    def place(table: EventTable) -> np.ndarray:
        return (table.clip * (labels.max() + 1) + table.label) * apart + table.onset_s

    order = np.argsort(place(estimated))
    ordered = place(estimated)[order]
    first = np.searchsorted(ordered, place(reference) - collar_s - SLACK_S)
    counts = np.searchsorted(ordered, place(reference) + collar_s + SLACK_S) - first
    sought = np.repeat(np.arange(len(reference)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return sought, order[np.repeat(first, counts) + within]


def segment_error_rate(
    reference: EventTable, estimated: EventTable, segment_s: float = 1.0
) -> dict[str, float]:
    """Substitutions, deletions and insertions of active labels per active label, by segments.

    An event is active in every segment that it touches. Without reference events the number is
    sed_eval's: 0 if nothing was found, else astronomical.
    """
    both = (reference, estimated)
    n_labels = 1 + max(int(table.label.max(initial=0)) for table in both)
    n_segments = 1 + max(int(table.offset_s.max(initial=0) / segment_s) for table in both)
    wanted, found = (active_cells(table, n_labels, n_segments, segment_s) for table in both)
    segments = np.unique(np.concatenate([wanted, found]) // n_labels)

    def count(cells: np.ndarray) -> np.ndarray:
        return np.bincount(np.searchsorted(segments, cells // n_labels), minlength=len(segments))

    n_wanted, n_found = count(wanted), count(found)
    n_hit = count(np.intersect1d(wanted, found))
    substituted = (np.minimum(n_wanted, n_found) - n_hit).sum()
    deleted = np.maximum(0, n_wanted - n_found).sum()
    inserted = np.maximum(0, n_found - n_wanted).sum()
    rates = [float(n) / (len(wanted) + np.spacing(1)) for n in (substituted, deleted, inserted)]
    return {"error_rate": float(sum(rates))}


def active_cells(
    events: EventTable, n_labels: int, n_segments: int, segment_s: float
) -> np.ndarray:
    """Number the cells of (clip, segment, label) in which an event is active, ascending."""
    first = np.floor(events.onset_s / segment_s).astype(np.int64)
    counts = np.maximum(0, np.ceil(events.offset_s / segment_s).astype(np.int64) - first)
    rows = np.repeat(np.arange(len(events)), counts)
    segment = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
    return np.unique((events.clip[rows] * n_segments + segment) * n_labels + events.label[rows])


EVENT_SCORES: dict[str, EventScore] = {
    "event_onset_200ms_fms": partial(event_f_measure, collar_s=0.2),
    "event_onset_50ms_fms": partial(event_f_measure, collar_s=0.05),
    "event_onset_offset_50ms_20perc_fms": partial(
        event_f_measure, collar_s=0.05, share_of_length=0.2
    ),
    "segment_1s_er": segment_error_rate,
}
