"""Averages beside each other: only over shared tasks, whatever is missing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_reports import published, report, reports_of

from audio_barlow_twins.eval.report.comparison import compare, percent_over
from audio_barlow_twins.eval.report.published import PAPER, Published, read_published

SCORES = st.floats(0.01, 1)
OURS, BASE = "checkpoint", "random init"
ESC, GTZAN = "esc50-v2.0.0-full", "tfds_gtzan-1.0.0-full"


def made_up(model: str, source: str = PAPER, **scores: float) -> Published:
    """Make a published system with scores on ESC-50 and GTZAN."""
    tasks = {"esc": (ESC, "top1_acc"), "gtzan": (GTZAN, "top1_acc")}
    found = {tasks[name]: value for name, value in scores.items()}
    return Published(model=model, source=source, scores=found, notes={})


def test_a_score_is_as_many_percent_over_the_baseline_as_a_reader_computes() -> None:
    assert percent_over(0.75, 0.6) == pytest.approx(25)
    assert percent_over(0.3, 0.6) == pytest.approx(-50)
    assert math.isnan(percent_over(0.3, 0))


@given(st.lists(st.tuples(SCORES, SCORES, SCORES), min_size=1, max_size=8), st.data())
def test_rows_are_averaged_over_the_tasks_that_all_of_them_have(
    scores: list[tuple[float, ...]], data: st.DataObject
) -> None:
    values = np.array(scores)
    there = np.array(data.draw(st.lists(
        st.tuples(*3 * [st.booleans()]), min_size=len(scores), max_size=len(scores)
    )))  # fmt: skip
    there[0] = True
    names = (OURS, BASE, "other")
    reports = [
        report({names[j]: [values[i, j]] for j in range(3) if there[i, j]}, task=f"task{i}-v1-full")
        for i in range(len(scores))
    ]
    comparison = compare(reports, (), ())
    shared = comparison.shared(comparison.runs)
    common = there.all(axis=1)
    assert shared == tuple(f"task{i}-v1-full" for i in np.flatnonzero(common))
    for row in comparison.runs:
        exact = values[common, names.index(row.name)].mean()
        assert row.average(shared) == pytest.approx(exact)
    ours = values[common, 0].mean() / values[common, 1].mean() - 1
    assert comparison.over_random(comparison.runs[0], shared) == pytest.approx(100 * ours)


def test_a_row_without_one_of_the_tasks_has_no_average_over_them() -> None:
    both, one = report({OURS: [0.5], "other": [0.7]}), report({OURS: [0.9]}, task="b-v1-full")
    _, other = compare([both, one], (), ()).runs
    assert other.average(["toy-v1-full"]) == 0.7
    assert math.isnan(other.average(["toy-v1-full", "b-v1-full"]))
    assert math.isnan(other.average([]))


def test_a_score_that_is_not_a_number_counts_as_missing() -> None:
    reports = [report({OURS: [0.5]}), report({OURS: [math.nan]}, task="b-v1-full")]
    comparison = compare(reports, (), ())
    assert comparison.shared(comparison.runs) == ("toy-v1-full",)


@pytest.mark.parametrize("score", ["segment_1s_er", "d_prime"])
def test_scores_that_are_no_fractions_are_not_averaged(score: str) -> None:
    reports = [report({OURS: [0.5]}), report({OURS: [0.4]}, task="b-v1-full", score=score)]
    comparison = compare(reports, (), ())
    assert comparison.shared(comparison.runs) == ("toy-v1-full",)


def test_the_system_of_the_report_comes_first_and_its_baseline_second() -> None:
    reports = [report({"a": [0.1], BASE: [0.2], "b": [0.3]})]
    assert [row.name for row in compare(reports, (), ()).runs] == ["a", BASE, "b"]
    assert [row.name for row in compare(reports, (), (), ours="b").runs] == ["b", BASE, "a"]


def test_the_random_system_is_not_measured_against_itself() -> None:
    comparison = compare([report({OURS: [0.5], BASE: [0.25]})], (), ())
    ours, base = comparison.runs
    assert comparison.baseline_of(ours) is base
    assert comparison.baseline_of(base) is None
    assert math.isnan(comparison.over_random(base, ["toy-v1-full"]))


def test_a_run_is_not_measured_against_a_published_system_of_that_name() -> None:
    theirs = made_up(BASE, esc=0.1)
    comparison = compare([report({OURS: [0.5]}, task=ESC)], (theirs,), ())
    assert comparison.baseline_of(comparison.runs[0]) is None


def test_a_published_system_is_measured_against_its_own_encoder_without_training() -> None:
    ours = published("ABT AudioNTT")
    comparison = compare(reports_of({OURS: ours, BASE: ours}), (ours,), read_published())
    (row,) = comparison.anchors
    base = comparison.baseline_of(row)
    assert base is not None
    assert base.name == "AudioNTT, random init"


def test_no_published_score_stands_beside_a_task_that_differs_or_is_scored_otherwise() -> None:
    anchor = made_up("theirs", esc=0.9, gtzan=0.8)
    reports = [
        report({OURS: [0.5]}, task=ESC, differences=("12 labels, not 50",)),
        report({OURS: [0.5]}, task=GTZAN, score="mAP"),
        report({OURS: [0.5]}),
    ]
    assert compare(reports, (anchor,), ()).anchors == ()
    (row,) = compare([report({OURS: [0.5]}, task=ESC)], (anchor,), ()).anchors
    assert row.cells[ESC].mean == 0.9


def test_the_best_published_system_has_all_of_the_tasks() -> None:
    some = (made_up("half", esc=1.0), made_up("both", esc=0.6, gtzan=0.7), made_up("worse", esc=0,
            gtzan=0.9))  # fmt: skip
    reports = [report({OURS: [0.5]}, task=task) for task in (ESC, GTZAN)]
    comparison = compare(reports, some[:1], some)
    best = comparison.best([ESC, GTZAN])
    assert best is not None
    assert best.name == "both"
    assert comparison.best([]) is None


def test_a_model_of_two_sources_is_shown_once() -> None:
    anchor, again = made_up("A", esc=0.5), made_up("A", "elsewhere", esc=0.6)
    comparison = compare([report({OURS: [0.5]}, task=ESC)], (anchor,), (anchor, again))
    assert [row.source for row in comparison.anchors] == [PAPER]
    assert comparison.others == ()


def test_tasks_stand_in_the_order_of_their_groups() -> None:
    reports = [report({OURS: [0.5]}, task=task) for task in ("toy-v1-full", GTZAN, ESC)]
    comparison = compare(reports, (), ())
    assert comparison.groups() == {
        "environmental": (ESC,), "music": (GTZAN,), "not of the paper": ("toy-v1-full",),
    }  # fmt: skip
