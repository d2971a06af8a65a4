"""One task, one set of embeddings, one protocol: what is the probe worth?

    result = evaluate(metadata, splits, HEAREVAL)

Nothing is read or written, so it runs wherever the embeddings are.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..embed.embedded import Embedded, join
from ..tasks.metadata import Arrangement, TaskMetadata
from .judge import Judge
from .recipe import (
    HEAREVAL,
    Point,
    Protocol,
    generator_state,
    own_generators,
    points_of,
    set_generator_state,
    training_seed,
)
from .result import Run, TaskResult, Training
from .trainer import Trainer, build_probe, fit_probe


def evaluate(
    metadata: TaskMetadata,
    splits: Mapping[str, Embedded],
    protocol: Protocol = HEAREVAL,
    finished: Sequence[Training] = (),
    progress: Callable[[Training], object] = lambda training: None,
) -> TaskResult:
    """Choose hyperparameters on the first arrangement, then train and test on every one.

    Args:
        metadata: what the task asks for.
        splits: embeddings of every split, all on the device where probes are to be trained; rows
            in the order of `protocol.embedding_order`.
        protocol: how it is done.
        finished: what `progress` was given in an interrupted call with the same arguments; the
            result is then the same as without the interruption.
        progress: called after each of `n_trainings(metadata, protocol)` trainings.
    """
    device = splits[metadata.splits[0]].embeddings.device
    known = iter(finished)
    with own_generators(device):
        runs = tuple(
            _Repetition(metadata, splits, protocol, seed, device, known, progress).run()
            for seed in protocol.seeds
        )
    return TaskResult(
        task=metadata.name,
        protocol=protocol.name,
        score=metadata.evaluation[0],
        score_mode=metadata.score_mode,
        runs=runs,
    )


def n_trainings(metadata: TaskMetadata, protocol: Protocol) -> int:
    """Count the probes that `evaluate` trains."""
    n_points = len(points_of(metadata, protocol))
    return len(protocol.seeds) * (n_points + len(metadata.arrangements()) - 1)


@dataclass
class _Repetition:
    """Grid, folds and tests for one seed."""

    metadata: TaskMetadata
    splits: Mapping[str, Embedded]
    protocol: Protocol
    seed: int
    device: torch.device
    known: Iterator[Training]
    progress: Callable[[Training], object]
    done: int = 0

    def run(self) -> Run:
        """Train every point on the first arrangement, then the best one on the others."""
        torch.manual_seed(self.seed)
        first, *others = self.metadata.arrangements()
        tried: list[Training] = []
        for point in points_of(self.metadata, self.protocol):
            best = self.best(tried)
            tried.append(self.next(point, first, best.validation_score if best else None))
        best = self.best(tried)
        assert best is not None, "a grid has points"
        folds = (best, *(self.next(best.point, arrangement) for arrangement in others))
        return Run(seed=self.seed, tried=tuple(tried), folds=folds)

    def best(self, tried: Sequence[Training]) -> Training | None:
        """Choose the point that validates best; of equally good ones, the one tried first."""
        choose = max if self.metadata.score_mode == "max" else min
        return choose(tried, key=lambda training: training.validation_score, default=None)

    def next(
        self, point: Point, arrangement: Arrangement, to_beat: float | None = None
    ) -> Training:
        """Return the next training: one that is known, or a new one."""
        known = next(self.known, None)
        if known is None:
            if not self.protocol.chained:
                torch.manual_seed(training_seed(self.seed, self.done))
            training = self.train(point, arrangement, to_beat)
            self.progress(training)
        else:
            training = known
            if (known.point, known.test_split) != (point, arrangement.test):
                raise ValueError(
                    f"{self.metadata.name}: a finished training is of {known.point} on "
                    f"{known.test_split}; wanted {point} on {arrangement.test}"
                )
            if known.generator:
                set_generator_state(known.generator, self.device)
        self.done += 1
        return training

    def train(self, point: Point, arrangement: Arrangement, to_beat: float | None) -> Training:
        """Train one probe, and test it unless it fails to beat an earlier one."""
        started = time.perf_counter()
        train = join([self.splits[name] for name in arrangement.train])
        valid, test = (
            Judge(self.metadata, self.splits[split], point.batch_size)
            for split in (arrangement.valid, arrangement.test)
        )
        d_in, n_labels = train.embeddings.shape[1], train.targets.shape[1]
        network = build_probe(d_in, n_labels, point, self.protocol).to(self.device)
        trainer = Trainer(network, train, point, self.protocol, self.metadata.multilabel)
        maximize = self.metadata.score_mode == "max"
        fitted = fit_probe(trainer, valid.validate, maximize)
        time_in_min = (time.perf_counter() - started) / 60
        network.load_state_dict(fitted.state)
        value, way = fitted.validation.value, fitted.validation.postprocessing
        beaten = to_beat is not None and (value <= to_beat if maximize else value >= to_beat)
        return Training(
            point=point,
            test_split=arrangement.test,
            validation_score=value,
            epoch=fitted.epoch,
            postprocessing=way,
            test={} if beaten else test.test(network, way),
            time_in_min=time_in_min,
            generator=generator_state(self.device) if self.protocol.chained else "",
        )
