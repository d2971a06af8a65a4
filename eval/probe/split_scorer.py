"""What a probe is worth: the number that stops and chooses it, and all scores of a test."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from torch import Tensor, nn

from audio_barlow_twins.shards.base.transfer import HostCopy

from ..embed.embedded import Embedded
from ..tasks.metadata import TaskMetadata
from .detection import EventTable, PostProcessing, detect_events, reference_table
from .event_scores import EVENT_SCORES
from .scores import SCENE_SCORES
from .trainer import Validation, loss_of, predict, probabilities_of


@dataclass(frozen=True)
class SplitScorer:
    """Scores probes on one split of a task."""

    metadata: TaskMetadata
    data: Embedded
    batch_size: int

    def validate(self, network: nn.Module) -> Validation:
        """Compute the number that stops a training and chooses hyperparameters."""
        return self.begin(network)()

    def begin(self, network: nn.Module) -> Callable[[], Validation]:
        """Begin a validation; what is returned waits for a GPU and says what the network is worth.

        The network may change in between.
        """
        logits = predict(network, self.data.embeddings, self.batch_size)
        if self.metadata.score_chooses:
            found = HostCopy(probabilities_of(logits, self.metadata.multilabel))
            return lambda: self._by_score(found.result().numpy())
        way = postprocessings(self.metadata)[0] if self.metadata.is_event else None
        loss = HostCopy(loss_of(logits, self.data.targets, self.metadata.multilabel))
        return lambda: Validation(loss.result().item(), way)

    def _by_score(self, found: np.ndarray) -> Validation:
        """Validate by the first score of probabilities [N, L]."""
        score, ways = self.metadata.evaluation[0], postprocessings(self.metadata)
        if not self.metadata.is_event:
            value = as_float32(SCENE_SCORES[score](self._targets, found))
            return Validation(value, perfect=value == 1 and score != "d_prime")
        values = [main_part(self._parts(score, self._detect(found, way))) for way in ways]

        def rank(i: int) -> tuple[float, PostProcessing]:
            return 0.0 if math.isnan(values[i]) else values[i], ways[i]

        best = max(range(len(ways)), key=rank)
        return Validation(as_float32(values[best]), ways[best])

    def test(self, network: nn.Module, way: PostProcessing | None) -> dict[str, float]:
        """Compute the loss and all scores, by heareval's names.

        Args:
            network: the probe.
            way: how to make events, in event tasks.
        """
        logits = predict(network, self.data.embeddings, self.batch_size)
        found = self._probabilities(logits)
        scores: dict[str, float] = {}
        if way is None:
            for name in self.metadata.evaluation:
                scores[name] = SCENE_SCORES[name](self._targets, found)
        else:
            events = self._detect(found, way)
            for name in self.metadata.evaluation:
                parts = self._parts(name, events)
                scores[name] = main_part(parts)
                scores |= {f"{name}_{part}": value for part, value in parts.items()}
        scores = {"loss": self._loss(logits), "score": main_part(scores)} | scores
        return {f"test_{name}": as_float32(value) for name, value in scores.items()}

    @cached_property
    def _targets(self) -> np.ndarray:
        return self.data.targets.cpu().numpy()

    @cached_property
    def _reference(self) -> EventTable:
        index = {label: i for i, label in enumerate(self.metadata.labels)}
        return reference_table(self.data.timelines, index)

    def _probabilities(self, logits: Tensor) -> np.ndarray:
        return probabilities_of(logits, self.metadata.multilabel).cpu().numpy()

    def _loss(self, logits: Tensor) -> float:
        return loss_of(logits, self.data.targets, self.metadata.multilabel).item()

    def _detect(self, probabilities: np.ndarray, way: PostProcessing) -> EventTable:
        return detect_events(probabilities, self.data.timelines, way)

    def _parts(self, score: str, events: EventTable) -> dict[str, float]:
        return EVENT_SCORES[score](self._reference, events)


def main_part(parts: dict[str, float]) -> float:
    """Return the first of several numbers: the one that counts."""
    return next(iter(parts.values()))


def as_float32(value: float) -> float:
    """Round as heareval does, which logs all scores as float32."""
    return float(np.float32(value))


def postprocessings(metadata: TaskMetadata) -> list[PostProcessing]:
    """List the ways to make events that a task wants to be tried."""
    grid = metadata.postprocessing_grid
    return [
        PostProcessing(median_filter_ms=median_filter_ms, min_duration_ms=min_duration_ms)
        for median_filter_ms, min_duration_ms in product(
            grid["median_filter_ms"], grid["min_duration"]
        )
    ]
