"""The scores of HEAR's scene tasks, equal to those of heareval 2021.1.3, which asks scikit-learn.

Each maps targets, 0 or 1 [N, L], and probabilities [N, L] to one number, higher is better; NaN if
a ranking is asked for and a probability is NaN. All classes are ranked at once: scikit-learn takes
a millisecond a class, which for hundreds of classes is longer than the training in between.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

SceneScore = Callable[[np.ndarray, np.ndarray], float]


def top1_accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Share of clips whose most probable class is the right one.

    A clip with several labels counts by its first one.
    """
    return float(np.mean(predictions.argmax(axis=1) == targets.argmax(axis=1)))


def chroma_accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Share of clips whose most probable class is right but for octaves of 12 classes."""
    return float(np.mean(predictions.argmax(axis=1) % 12 == targets.argmax(axis=1) % 12))


def mean_average_precision(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Average precision of each class, averaged over classes; a class without clips counts 0."""
    hits, _, last = ranked(targets, predictions)
    precision = np.take_along_axis(hits.cumsum(axis=0), last, axis=0) / (last + 1)
    sums = (precision * hits).sum(axis=0)
    return float(np.mean(sums / np.maximum(1, hits.sum(axis=0)))) + nan_of(predictions)


def class_auc(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class [L]; all NaN if any class has one kind of target.

    That is the share of pairs of a clip with the label and one without it that are in the right
    order, where equal probabilities count half.
    """
    hits, first, last = ranked(targets, predictions)
    n_with = hits.sum(axis=0)
    n_pairs = n_with * (len(hits) - n_with)
    if not n_pairs.all():
        return np.full(targets.shape[1], math.nan)
    ranks = len(hits) - (first + last) / 2
    right = (ranks * hits).sum(axis=0) - n_with * (n_with + 1) / 2
    return right / n_pairs + nan_of(predictions)


def ranked(
    targets: np.ndarray, predictions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order the clips of each class by falling probability.

    Returns:
        Whether each has the label, bool [N, L], and the first and the last place, from 0, of those
        with the same probability, [N, L] each.
    """
    order = np.argsort(-predictions, axis=0)
    hits, values = (np.take_along_axis(x, order, axis=0) for x in (targets > 0, predictions))
    places = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
    changes = np.ones((len(values) + 1, values.shape[1]), dtype=bool)
    changes[1:-1] = values[1:] != values[:-1]
    first = np.maximum.accumulate(np.where(changes[:-1], places, 0), axis=0)
    last = np.minimum.accumulate(np.where(changes[1:], places, len(values))[::-1], axis=0)[::-1]
    return hits, first, last


def nan_of(predictions: np.ndarray) -> float:
    """Return NaN if any prediction is NaN, else 0."""
    return math.nan if np.isnan(predictions).any() else 0.0


def area_under_roc(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Area under the ROC curve, averaged over classes."""
    return float(class_auc(targets, predictions).mean())


def d_prime(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Distance of two unit normals with the same area, averaged over classes; may be infinite."""
    return float(np.mean(ndtri(class_auc(targets, predictions)) * np.sqrt(2.0)))


SCENE_SCORES: dict[str, SceneScore] = {
    "top1_acc": top1_accuracy,
    "pitch_acc": top1_accuracy,
    "chroma_acc": chroma_accuracy,
    "mAP": mean_average_precision,
    "d_prime": d_prime,
    "aucroc": area_under_roc,
}


def chance_level(name: str, targets: np.ndarray) -> float:
    """Score reached without listening.

    That is the commonest class (chroma) for an accuracy, a random ranking for the other scores.
    """
    prevalence = targets.mean(axis=0, dtype=np.float64)
    if name == "chroma_acc":
        return float(np.bincount(np.arange(len(prevalence)) % 12, weights=prevalence).max())
    known = {"mAP": float(prevalence.mean()), "aucroc": 0.5, "d_prime": 0.0}
    return known.get(name, float(prevalence.max()))
