"""Nearest neighbours as a probe: nothing is trained, so it is cheap enough to ask again and again.

As DINO evaluates image encoders (Caron et al., 2021): cosine similarity, and votes that count
exp(similarity / TEMPERATURE).
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..embed.embedded import Embedded, join
from ..tasks.metadata import TaskMetadata
from .result import mean
from .scores import SCENE_SCORES

NEIGHBOURS = 20
"""Neighbours that vote, unless a label has fewer clips than that on average."""
TEMPERATURE = 0.07
CLIPS_PER_PASS = 1024
"""Clips that are compared with all known ones at once."""


def knn_score(metadata: TaskMetadata, splits: Mapping[str, Embedded]) -> float:
    """Score nearest neighbours by the first score of a scene task, averaged over its arrangements.

    Nothing is chosen by validation clips, so they are among the known ones.

    Args:
        metadata: of the task.
        splits: embeddings of every split.
    """
    score = SCENE_SCORES[metadata.evaluation[0]]
    found = []
    for arrangement in metadata.arrangements():
        known = join([splits[name] for name in (*arrangement.train, arrangement.valid)])
        test = splits[arrangement.test]
        votes = vote(known, test.embeddings, metadata.multilabel)
        found.append(score(test.targets.cpu().numpy(), votes.cpu().numpy()))
    return mean(found)


def vote(known: Embedded, embeddings: Tensor, multilabel: bool) -> Tensor:
    """Let the nearest known clips vote for labels.

    Args:
        known: embeddings with their labels.
        embeddings: of the clips in question, float32 [N, D], on the same device.
        multilabel: the votes of all neighbours count the same.

    Returns:
        Share of the votes for each label, float32 [N, L].
    """
    directions, k = F.normalize(known.embeddings), n_neighbours(known.targets)
    votes = []
    for some in F.normalize(embeddings).split(CLIPS_PER_PASS):
        similarity, nearest = (some @ directions.T).topk(k)
        weights = torch.zeros_like(similarity) if multilabel else similarity / TEMPERATURE
        votes.append(torch.einsum("nk,nkl->nl", weights.softmax(dim=1), known.targets[nearest]))
    return torch.cat(votes)


def n_neighbours(targets: Tensor) -> int:
    """Choose how many neighbours vote: no more than a label has clips on average.

    Args:
        targets: 0 or 1, float32 [N, L].
    """
    per_label = round(float(targets.sum()) / targets.shape[1])
    return min(NEIGHBOURS, len(targets), max(1, per_label))
