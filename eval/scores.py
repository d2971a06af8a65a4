"""The scores of HEAR's scene tasks, as heareval 2021.1.3 computes them, by scikit-learn.

Each maps targets, 0 or 1 [N, L], and probabilities [N, L] to one number, higher is better.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri
from sklearn.metrics import average_precision_score, roc_auc_score

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
    present = targets.any(axis=0)
    if not present.any():
        return 0.0
    scores = np.zeros(targets.shape[1])
    scores[present] = average_precision_score(
        targets[:, present], predictions[:, present], average=None
    )
    return float(scores.mean())


def class_auc(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class [L]; all NaN if any class has one kind of target."""
    if (targets.all(axis=0) | ~targets.any(axis=0)).any():
        return np.full(targets.shape[1], math.nan)
    return np.atleast_1d(roc_auc_score(targets, predictions, average=None))


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
