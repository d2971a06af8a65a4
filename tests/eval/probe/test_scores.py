import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from audio_barlow_twins.eval.probe.scores import (
    SCENE_SCORES,
    area_under_roc,
    chance_level,
    d_prime,
    mean_average_precision,
)

CASES = json.loads((Path(__file__).parents[1] / "oracle" / "scene_scores.json").read_text())


@pytest.mark.parametrize("name", ["top1_acc", "chroma_acc", "mAP", "d_prime", "aucroc"])
def test_scores_are_hearevals(name: str) -> None:
    for case in CASES:
        targets, predictions = np.array(case["targets"]), np.array(case["predictions"])
        got = SCENE_SCORES[name](targets, predictions)
        assert got == pytest.approx(case["scores"][name], rel=1e-12, nan_ok=True)
    assert len({case["scores"][name] for case in CASES}) > len(CASES) // 4


def by_hand_average_precision(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Average precision of one class: precision at each new recall, at distinct thresholds."""
    precision_gain = reached = 0.0
    for threshold in sorted(set(predictions), reverse=True):
        chosen = predictions >= threshold
        recall = targets[chosen].sum() / targets.sum()
        precision_gain += (recall - reached) * targets[chosen].mean()
        reached = recall
    return precision_gain


@given(seed=st.integers(0, 999), n=st.integers(3, 40), n_classes=st.integers(2, 6))
def test_mean_average_precision_is_the_step_sum(seed: int, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, n_classes)) < 0.4).astype(np.float32)
    targets[0] = 1
    predictions = rng.random((n, n_classes)).round(1)
    expected = np.mean(
        [by_hand_average_precision(*pair) for pair in zip(targets.T, predictions.T, strict=True)]
    )
    assert mean_average_precision(targets, predictions) == pytest.approx(expected)


@given(seed=st.integers(0, 999), n=st.integers(2, 30))
def test_area_under_roc_is_the_share_of_pairs_in_order(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.integers(2, size=(n, 2))
    targets[0], targets[1] = 0, 1
    predictions = rng.random((n, 2)).round(1)
    shares = []
    for marks, values in zip(targets.T, predictions.T, strict=True):
        gaps = values[marks == 1][:, None] - values[marks == 0]
        shares.append(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    assert area_under_roc(targets, predictions) == pytest.approx(np.mean(shares))


@given(seed=st.integers(0, 999), n=st.integers(4, 60), digits=st.integers(1, 8))
def test_rankings_are_scikit_learns(seed: int, n: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.eye(3, dtype=np.float32)[np.arange(n) % 3]
    predictions = rng.random((n, 3)).round(digits).astype(np.float32)
    for ours, theirs in (
        (mean_average_precision, average_precision_score),
        (area_under_roc, roc_auc_score),
    ):
        assert ours(targets, predictions) == pytest.approx(theirs(targets, predictions), rel=1e-12)


@pytest.mark.parametrize("name", ["mAP", "aucroc", "d_prime"])
def test_a_ranking_by_nan_is_nan(name: str) -> None:
    targets = np.eye(2)[[0, 1, 0, 1]]
    predictions = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, 0.3], [0.1, 0.7]])
    assert math.isnan(SCENE_SCORES[name](targets, predictions))


def test_a_class_without_clips_counts_zero_in_mean_average_precision() -> None:
    targets = np.array([[1.0, 0.0], [0.0, 0.0]])
    predictions = np.array([[0.9, 0.5], [0.1, 0.4]])
    assert mean_average_precision(targets, predictions) == 0.5
    assert mean_average_precision(np.zeros((2, 2)), predictions) == 0


def test_one_class_without_clips_leaves_no_area_and_no_distance() -> None:
    targets = np.array([[1, 0], [0, 0], [1, 0]])
    predictions = np.random.default_rng(0).random((3, 2))
    assert math.isnan(area_under_roc(targets, predictions))
    assert math.isnan(d_prime(targets, predictions))


def test_one_perfect_class_makes_the_distance_infinite() -> None:
    targets = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    predictions = np.array([[0.1, 0.5], [0.2, 0.4], [0.3, 0.6], [0.4, 0.7]])
    assert d_prime(targets, predictions) == math.inf


def test_chance_is_the_share_of_the_commonest_class() -> None:
    targets = np.eye(14)[[0, 0, 0, 1, 12]]
    assert chance_level("top1_acc", targets) == 0.6
    assert chance_level("chroma_acc", targets) == pytest.approx(0.8)
    assert chance_level("mAP", targets) == pytest.approx(1 / 14)
    assert chance_level("aucroc", targets) == 0.5
