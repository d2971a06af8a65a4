"""Embeddings of a split with the targets that a probe is trained and scored on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tasks.timeline import Timeline


@dataclass(frozen=True)
class Embedded:
    """A split in the order of its clips: a row per clip in scene tasks, per timestamp in others."""

    embeddings: Tensor
    """Float32 [N, D], finite."""
    targets: Tensor
    """Float32 0 or 1 [N, L], on the same device."""
    timelines: tuple[Timeline, ...] = ()
    """Event tasks: one for each clip; their numbers of timestamps add up to N."""

    def __post_init__(self) -> None:
        rows = len(self.embeddings)
        if len(self.targets) != rows:
            raise ValueError(f"{rows} embeddings have {len(self.targets)} targets")
        frames = sum(len(timeline.timestamps_ms) for timeline in self.timelines)
        if self.timelines and frames != rows:
            raise ValueError(f"{rows} embeddings have {frames} timestamps")

    def __len__(self) -> int:
        return len(self.embeddings)


def join(parts: Sequence[Embedded]) -> Embedded:
    if len(parts) == 1:
        return parts[0]
    return Embedded(
        torch.cat([part.embeddings for part in parts]),
        torch.cat([part.targets for part in parts]),
        tuple(timeline for part in parts for timeline in part.timelines),
    )
