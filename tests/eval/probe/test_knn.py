"""Nearest neighbours beside scikit-learn's, and beside the sums written out."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from audio_barlow_twins.eval.embed.embedded import Embedded
from audio_barlow_twins.eval.probe.knn import TEMPERATURE, knn_score, n_neighbours, vote
from audio_barlow_twins.eval.tasks.metadata import TaskMetadata

FOLDS = ("fold00", "fold01", "fold02", "fold03")


def fold(
    seed: int, n: int = 40, multilabel: bool = False, labels: int = 3, spread: float = 1.5
) -> Embedded:
    """Draw clips around a centre for each label, so that neighbours know something."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(labels, 8, generator=torch.Generator().manual_seed(99))
    if multilabel:
        targets = (torch.rand(n, labels, generator=g) < 0.3).float()
    else:
        targets = torch.eye(labels)[torch.arange(n) % labels]
    return Embedded(targets @ centres + spread * torch.randn(n, 8, generator=g), targets)


def metadata(score: str, prediction_type: str) -> TaskMetadata:
    return TaskMetadata(
        name="toy",
        task_name="toy",
        embedding_type="scene",
        prediction_type=prediction_type,
        split_mode="presplit_kfold",
        splits=FOLDS,
        evaluation=(score,),
        labels=("a", "b", "c"),
    )


def test_votes_are_those_of_scikit_learn_with_weights_of_the_cosine() -> None:
    known, asked = fold(0), fold(1)
    k = n_neighbours(known.targets)
    oracle = KNeighborsClassifier(
        k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE)
    ).fit(known.embeddings.numpy(), known.targets.argmax(1).numpy())
    np.testing.assert_allclose(
        vote(known, asked.embeddings, multilabel=False).numpy(),
        oracle.predict_proba(asked.embeddings.numpy()),
        atol=1e-5,
    )


def test_votes_for_many_labels_are_the_mean_of_the_neighbours() -> None:
    known, asked = fold(0, multilabel=True), fold(1, n=5)
    found = vote(known, asked.embeddings, multilabel=True).numpy()
    a, b = (x.embeddings.double().numpy() for x in (asked, known))
    cosine = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    k = round(float(known.targets.sum()) / 3)
    for row, similar in zip(found, cosine, strict=True):
        nearest = np.argsort(-similar)[:k]
        np.testing.assert_allclose(row, known.targets.numpy()[nearest].mean(0), atol=1e-6)


def test_more_clips_than_one_pass_get_the_same_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    known, asked = fold(0), fold(1)
    whole = vote(known, asked.embeddings, multilabel=False)
    monkeypatch.setattr("audio_barlow_twins.eval.probe.knn.CLIPS_PER_PASS", 7)
    torch.testing.assert_close(vote(known, asked.embeddings, multilabel=False), whole)


@pytest.mark.parametrize(("per_label", "k"), [(1, 1), (7, 7), (20, 20), (500, 20)])
def test_no_more_neighbours_vote_than_a_label_has_clips(per_label: int, k: int) -> None:
    assert n_neighbours(torch.eye(4).repeat(per_label, 1)) == k


def test_labels_that_hardly_occur_leave_one_neighbour() -> None:
    assert n_neighbours(torch.zeros(5, 3)) == 1


@pytest.mark.parametrize(
    ("score", "prediction_type"), [("top1_acc", "multiclass"), ("mAP", "multilabel")]
)
def test_a_score_is_the_mean_over_folds_each_known_by_all_others(
    score: str, prediction_type: str
) -> None:
    multilabel = prediction_type == "multilabel"
    splits = {name: fold(i, multilabel=multilabel) for i, name in enumerate(FOLDS)}
    expected = []
    for name in FOLDS:
        others = [part for other, part in splits.items() if other != name]
        known = Embedded(
            torch.cat([part.embeddings for part in others]),
            torch.cat([part.targets for part in others]),
        )
        votes = vote(known, splits[name].embeddings, multilabel).numpy()
        targets = splits[name].targets.numpy()
        expected.append(
            average_precision_score(targets, votes)
            if multilabel
            else np.mean(votes.argmax(1) == targets.argmax(1))
        )
    found = knn_score(metadata(score, prediction_type), splits)
    assert found == pytest.approx(np.mean(expected))
    assert 1 / 3 < found < 1
