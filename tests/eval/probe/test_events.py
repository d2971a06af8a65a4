import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from audio_barlow_twins.eval.probe.detection import (
    PostProcessing,
    detect_events,
    median_filtered,
    reference_table,
    runs,
)
from audio_barlow_twins.eval.tasks.timeline import Event, Timeline, active_labels

EVERY_50_MS = 50.0 * np.arange(20)
AS_IT_IS = PostProcessing(median_filter_ms=0, min_duration_ms=0)


def timeline(*events: Event, timestamps_ms: np.ndarray = EVERY_50_MS) -> Timeline:
    return Timeline(timestamps_ms=timestamps_ms, events=events)


def event(label: str, start_ms: float, end_ms: float) -> Event:
    return Event(label=label, start_ms=start_ms, end_ms=end_ms)


def marks(*active: tuple[int, int, int], n_labels: int = 2) -> np.ndarray:
    """Probabilities [20, L] of 1 from the first to the last index of (label, first, last)."""
    probabilities = np.zeros((20, n_labels), dtype=np.float32)
    for label, first, last in active:
        probabilities[first : last + 1, label] = 1
    return probabilities


def rows(table) -> list[tuple[int, int, float, float]]:
    columns = (table.clip, table.label, table.onset_s, table.offset_s)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_an_event_is_active_from_its_start_to_its_end_inclusive() -> None:
    active = active_labels([event("b", 50, 150)], EVERY_50_MS, ["a", "b"])
    assert np.flatnonzero(active[:, 1]).tolist() == [1, 2, 3]
    assert not active[:, 0].any()


def test_an_event_between_two_timestamps_is_active_at_none() -> None:
    assert not active_labels([event("a", 51, 99)], EVERY_50_MS, ["a"]).any()


def test_overlapping_events_are_active_together() -> None:
    overlapping = [event("a", 0, 200), event("b", 100, 300), event("a", 150, 250)]
    active = active_labels(overlapping, EVERY_50_MS, ["a", "b"])
    assert active.sum(axis=0).tolist() == [6, 5]
    assert active[3].tolist() == [1, 1]


@given(
    seed=st.integers(0, 9999),
    n=st.integers(8, 30),
    width=st.integers(1, 45),
    share=st.floats(0.1, 0.9),
)
def test_the_median_filter_is_scipys(seed: int, n: int, width: int, share: float) -> None:
    # Windows up to five times the clip: numpy and scipy reflect alike so far.
    probabilities = np.random.default_rng(seed).random((n, 3)).astype(np.float32) + share - 0.5
    expected = median_filter(probabilities, size=(width, 1)) > 0.5
    np.testing.assert_array_equal(median_filtered(probabilities > 0.5, width), expected)


@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=30))
def test_runs_cover_all_marks_and_nothing_else(active: list[list[bool]]) -> None:
    covered = np.zeros((len(active), 2), dtype=int)
    for label, first, last in zip(*runs(np.array(active)), strict=True):
        covered[first : last + 1, label] += 1
        assert first == 0 or not active[first - 1][label]
        assert last == len(active) - 1 or not active[last + 1][label]
    assert (covered == active).all()


def test_an_event_lasts_from_its_first_to_its_last_timestamp() -> None:
    found = detect_events(marks((1, 2, 5), (0, 19, 19)), [timeline()], AS_IT_IS)
    assert rows(found) == [(0, 0, 0.95, 0.95), (0, 1, 0.1, 0.25)]


def test_a_probability_of_a_half_is_no_event() -> None:
    assert not len(detect_events(marks((0, 2, 5)) / 2, [timeline()], AS_IT_IS))


def test_events_do_not_run_on_into_the_next_clip() -> None:
    both = np.concatenate([marks((0, 18, 19)), marks((0, 0, 1))])
    found = detect_events(both, [timeline(), timeline()], AS_IT_IS)
    assert rows(found) == [(0, 0, 0.9, 0.95), (1, 0, 0.0, 0.05)]


@pytest.mark.parametrize(("min_duration_ms", "n_events"), [(150, 1), (150.1, 0)])
def test_events_shorter_than_the_minimum_are_dropped(min_duration_ms: float, n_events: int) -> None:
    how = PostProcessing(median_filter_ms=0, min_duration_ms=min_duration_ms)
    assert len(detect_events(marks((0, 2, 5)), [timeline()], how)) == n_events


def test_the_median_filter_is_as_wide_as_its_milliseconds_are_in_timestamps() -> None:
    gappy = marks((0, 2, 4), (0, 6, 9))
    assert len(detect_events(gappy, [timeline()], AS_IT_IS)) == 2
    how = PostProcessing(median_filter_ms=150, min_duration_ms=0)
    assert rows(detect_events(gappy, [timeline()], how)) == [(0, 0, 0.1, 0.45)]
    slower = timeline(timestamps_ms=500.0 * np.arange(20))
    assert len(detect_events(gappy, [slower], how)) == 2


def test_of_equally_good_settings_the_larger_are_greater() -> None:
    ways = [PostProcessing(median_filter_ms=250, min_duration_ms=ms) for ms in (250, 125)]
    assert max(ways).min_duration_ms == 250


def test_reference_events_are_numbered_by_clip_and_label() -> None:
    clips = [timeline(event("b", 500, 1500)), timeline(), timeline(event("a", 0, 250))]
    table = reference_table(clips, {"a": 0, "b": 1})
    assert rows(table) == [(0, 1, 0.5, 1.5), (2, 0, 0.0, 0.25)]


def test_timestamps_must_ascend() -> None:
    with pytest.raises(ValueError, match="strictly ascending"):
        timeline(timestamps_ms=np.array([0.0, 50.0, 50.0]))
