import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score

from eval.scores import chance_level, mean_average_precision, top1_accuracy


@given(seed=st.integers(0, 999), n=st.integers(1, 40), n_classes=st.integers(2, 6))
def test_top1_accuracy_equals_sklearn(seed: int, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    predictions = rng.random((n, n_classes))
    classes = rng.integers(n_classes, size=n)
    expected = accuracy_score(classes, predictions.argmax(axis=1))
    assert top1_accuracy(np.eye(n_classes)[classes], predictions) == pytest.approx(expected)


@given(seed=st.integers(0, 999), n=st.integers(3, 40), n_classes=st.integers(2, 6))
def test_mean_average_precision_equals_sklearn(seed: int, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, n_classes)) < 0.4).astype(np.float32)
    targets[0] = 1
    predictions = rng.random((n, n_classes)).round(1)
    expected = average_precision_score(targets, predictions, average="macro")
    assert mean_average_precision(targets, predictions) == pytest.approx(expected)


def test_a_class_without_clips_counts_zero_in_mean_average_precision() -> None:
    targets = np.array([[1.0, 0.0], [0.0, 0.0]])
    predictions = np.array([[0.9, 0.5], [0.1, 0.4]])
    assert mean_average_precision(targets, predictions) == 0.5
    assert mean_average_precision(np.zeros((2, 2)), predictions) == 0


def test_chance_is_the_share_of_the_commonest_class() -> None:
    targets = np.eye(3)[[0, 0, 0, 1, 2]]
    assert chance_level("top1_acc", targets) == 0.6
    assert chance_level("mAP", targets) == pytest.approx(1 / 3)
