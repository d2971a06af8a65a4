"""The scores of HEAR scene tasks; each maps targets and predictions [N, L] to one number in [0, 1].

Targets are 0 or 1, predictions are probabilities (only their order within a class or clip counts).
"""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score

Score = Callable[[np.ndarray, np.ndarray], float]


def top1_accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Share of clips whose most probable class is the right one.

    A clip with several labels counts by its first one, as in heareval.
    """
    return float(np.mean(predictions.argmax(axis=1) == targets.argmax(axis=1)))


def mean_average_precision(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Average precision of each class, averaged over classes; a class without clips counts 0."""
    present = targets.any(axis=0)
    if not present.any():
        return 0.0
    scores = average_precision_score(targets[:, present], predictions[:, present], average=None)
    return float(np.sum(scores) / targets.shape[1])


SCORES: dict[str, Score] = {
    "top1_acc": top1_accuracy,
    "pitch_acc": top1_accuracy,
    "mAP": mean_average_precision,
}


def chance_level(name: str, targets: np.ndarray) -> float:
    """Score reached without listening: the commonest class, or for mAP a random ranking."""
    prevalence = targets.mean(axis=0, dtype=np.float64)
    return float(prevalence.mean() if name == "mAP" else prevalence.max())
