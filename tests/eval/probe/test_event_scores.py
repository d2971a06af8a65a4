"""Event scores against sed_eval, as heareval called it, and against slow plain statements."""

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.eval.probe.detection import EventTable, reference_table
from audio_barlow_twins.eval.probe.event_scores import (
    EVENT_SCORES,
    event_f_measure,
    segment_error_rate,
)
from audio_barlow_twins.eval.tasks.timeline import Event, Timeline

CASES = json.loads((Path(__file__).parents[1] / "oracle" / "event_scores.json").read_text())
INDEX = {"a": 0, "b": 1, "c": 2}

Row = tuple[int, int, float, float]
ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),  # clip
        st.integers(0, 1),  # label
        st.integers(0, 60).map(lambda n: n / 20),  # onset, on a grid as coarse as the collar
        st.integers(0, 30).map(lambda n: n / 20),  # length
    ).map(lambda row: (row[0], row[1], row[2], row[2] + row[3])),
    max_size=8,
)


def table(rows: list[Row]) -> EventTable:
    clip, label, onset_s, offset_s = np.array(rows, dtype=float).reshape(-1, 4).T
    return EventTable(clip.astype(int), label.astype(int), onset_s, offset_s)


def oracle_table(files: list[str], events: dict[str, list[dict[str, Any]]]) -> EventTable:
    """Put events by file into a table; heareval leaves out files without estimates."""
    clips = [
        Timeline(
            timestamps_ms=np.arange(2.0),
            events=tuple(
                Event(label=e["label"], start_ms=e["start"], end_ms=e["end"])
                for e in events.get(file, [])
            ),
        )
        for file in files
    ]
    return reference_table(clips, INDEX)


@pytest.mark.parametrize("name", EVENT_SCORES)
def test_scores_are_sed_evals(name: str) -> None:
    sound = 0
    for case in CASES:
        files = list(case["estimated"])
        reference, estimated = (oracle_table(files, case[k]) for k in ("reference", "estimated"))
        said, got = case["scores"][name], EVENT_SCORES[name](reference, estimated)
        assert list(got) == list(said)
        np.testing.assert_allclose([*got.values()], [*said.values()], rtol=4e-16)
        sound += next(iter(said.values())) < 1e15
    assert len(CASES) // 2 < sound < len(CASES)


def largest_matching(hits: list[list[int]]) -> int:
    """Match by augmenting paths, one after another (Kuhn 1955)."""
    owner: dict[int, int] = {}

    def augment(i: int, seen: set[int]) -> bool:
        for j in hits[i]:
            if j not in seen:
                seen.add(j)
                if j not in owner or augment(owner[j], seen):
                    owner[j] = i
                    return True
        return False

    return sum(augment(i, set()) for i in range(len(hits)))


@given(reference=ROWS, estimated=ROWS, collar_s=st.sampled_from([0.05, 0.2, 0.5]),
       share=st.sampled_from([None, 0.2, 0.5]))  # fmt: skip
def test_recall_counts_a_largest_matching(
    reference: list[Row], estimated: list[Row], collar_s: float, share: float | None
) -> None:
    hits = [
        [
            j
            for j, (clip, label, onset, offset) in enumerate(estimated)
            if (clip, label) == r[:2]
            and abs(r[2] - onset) <= collar_s
            and (share is None or abs(r[3] - offset) <= max(collar_s, share * (r[3] - r[2])))
        ]
        for r in reference
    ]
    got = event_f_measure(table(reference), table(estimated), collar_s, share)
    if reference:
        assert got["recall"] == largest_matching(hits) / len(reference)
    else:
        assert math.isnan(got["recall"])


@given(reference=ROWS, estimated=ROWS)
def test_error_rate_counts_segments_one_by_one(reference: list[Row], estimated: list[Row]) -> None:
    def active(rows: list[Row], clip: int, second: int) -> set[int]:
        return {
            label for c, label, onset, offset in rows
            if c == clip and math.floor(onset) <= second < math.ceil(offset)
        }  # fmt: skip

    errors = wanted = 0
    for clip, second in product(range(2), range(6)):
        there, found = (active(rows, clip, second) for rows in (reference, estimated))
        # A label too few and one too many make one substitution.
        errors += max(len(there - found), len(found - there))
        wanted += len(there)
    got = segment_error_rate(table(reference), table(estimated))["error_rate"]
    assert got == pytest.approx(errors / wanted) if wanted else (got > 1e15) == bool(errors)


@given(rows=ROWS.filter(bool), estimated=ROWS)
def test_swapping_both_sides_swaps_precision_and_recall(
    rows: list[Row], estimated: list[Row]
) -> None:
    there, back = (
        event_f_measure(table(a), table(b), 0.2) for a, b in ((rows, estimated), (estimated, rows))
    )
    assert (there["precision"], there["recall"]) == pytest.approx(
        (back["recall"], back["precision"]), nan_ok=True
    )


def test_one_estimate_cannot_match_two_events() -> None:
    twice = [(0, 0, 1.0, 2.0), (0, 0, 1.0, 2.0)]
    got = event_f_measure(table(twice), table(twice[:1]), 0.2)
    assert got == {"f_measure": pytest.approx(2 / 3), "precision": 1.0, "recall": 0.5}


def test_nothing_found_has_no_precision_and_no_f_measure() -> None:
    got = event_f_measure(table([(0, 0, 1.0, 2.0)]), table([]), 0.2)
    assert got["recall"] == 0
    assert math.isnan(got["precision"])
    assert math.isnan(got["f_measure"])


def test_only_wrong_events_found_make_an_f_measure_of_zero() -> None:
    got = event_f_measure(table([(0, 0, 1.0, 2.0)]), table([(0, 1, 1.0, 2.0)]), 0.2)
    assert got["f_measure"] == 0
