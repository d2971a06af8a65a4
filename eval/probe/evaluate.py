"""One task, one set of embeddings, one recipe: what is the probe worth?

    result = evaluate(metadata, splits, HEAREVAL)

Nothing is read or written, so it runs wherever the embeddings are.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from audio_barlow_twins.shards.base.device import has_bf16

from ..embed.embedded import Embedded, join
from ..tasks.metadata import Arrangement, TaskMetadata
from .batched import Member, fit_batched
from .recipe import (
    HEAREVAL,
    Point,
    ProbeRecipe,
    draw_made_up_batch,
    generator_state,
    own_generators,
    points_of,
    set_generator_state,
    training_seed,
)
from .result import Run, TaskResult, Training
from .split_scorer import SplitScorer
from .trainer import BestEpoch, Fitted, Trainer, build_probe, fit_probe


def evaluate(
    metadata: TaskMetadata,
    splits: Mapping[str, Embedded],
    recipe: ProbeRecipe = HEAREVAL,
    finished: Sequence[Training] = (),
    progress: Callable[[Training], object] = lambda training: None,
) -> TaskResult:
    """Choose hyperparameters on the first arrangement, then train and test on every one.

    Args:
        metadata: what the task asks for.
        splits: embeddings of every split, all on the device where probes are to be trained; rows
            in the order of `tasks.order.embedding_order`.
        recipe: how it is done.
        finished: what `progress` was given in an interrupted call with the same arguments; those
            are not trained again, and the result is the same as without the interruption.
        progress: called for each of `n_trainings(metadata, recipe)` trainings.
    """
    device = splits[metadata.splits[0]].embeddings.device
    evaluation = _Evaluation(metadata, splits, recipe, device, iter(finished), progress)
    together = [recipe.seeds] if recipe.batched else [(seed,) for seed in recipe.seeds]
    with own_generators(device):
        runs = tuple(run for seeds in together for run in evaluation.runs(seeds))
    return TaskResult(
        task=metadata.name,
        protocol=recipe.name,
        score=metadata.evaluation[0],
        score_mode=metadata.score_mode,
        runs=runs,
    )


def n_trainings(metadata: TaskMetadata, recipe: ProbeRecipe) -> int:
    """Count the probes that `evaluate` trains."""
    n_points = len(points_of(metadata, recipe))
    return len(recipe.seeds) * (n_points + len(metadata.arrangements()) - 1)


@dataclass(frozen=True)
class _Wanted:
    """A training to be done."""

    seed: int
    index: int
    """Among those with this seed."""
    point: Point
    arrangement: Arrangement


@dataclass(frozen=True)
class _Fit:
    """A probe that has been trained."""

    network: nn.Module
    fitted: Fitted
    minutes: float


@dataclass(frozen=True)
class _Evaluation:
    """The arguments of `evaluate`; `known` yields finished trainings in order."""

    metadata: TaskMetadata
    splits: Mapping[str, Embedded]
    recipe: ProbeRecipe
    device: torch.device
    known: Iterator[Training]
    progress: Callable[[Training], object]

    def runs(self, seeds: Sequence[int]) -> list[Run]:
        """Train every point on the first arrangement, then the best one on the others."""
        first, *others = self.metadata.arrangements()
        points = points_of(self.metadata, self.recipe)
        grid = [_Wanted(s, i, point, first) for s in seeds for i, point in enumerate(points)]
        done = list(self.train(grid))
        tried = [done[i : i + len(points)] for i in range(0, len(done), len(points))]
        best = [self.best(some) for some in tried]
        rest = [
            _Wanted(seed, i, training.point, arrangement)
            for seed, training in zip(seeds, best, strict=True)
            for i, arrangement in enumerate(others, start=len(points))
        ]
        folds = self.train(rest)
        return [
            Run(seed=seed, tried=tuple(some), folds=(chosen, *(next(folds) for _ in others)))
            for seed, some, chosen in zip(seeds, tried, best, strict=True)
        ]

    def best(self, tried: Iterable[Training]) -> Training:
        """Choose the point that validates best; of equally good ones, the one tried first."""
        choose = max if self.metadata.score_mode == "max" else min
        return choose(tried, key=lambda training: training.validation_score)

    def train(self, wanted: Sequence[_Wanted]) -> Iterator[Training]:
        """Yield finished trainings as long as there are some, then train the rest."""
        fits: Iterator[_Fit] | None = None
        best: dict[tuple[int, Arrangement], Training] = {}
        for i, each in enumerate(wanted):
            training = next(self.known, None)
            rivals = each.seed, each.arrangement
            if training is None:
                fits = fits or self.fit(wanted[i:])
                training = self.tested(each, next(fits), best.get(rivals))
                self.progress(training)
            else:
                self.take(training, each)
            best[rivals] = self.best(filter(None, [best.get(rivals), training]))
            yield training

    def take(self, training: Training, wanted: _Wanted) -> None:
        """Go on after a finished training; refuse one that is of something else."""
        if (training.point, training.test_split) != (wanted.point, wanted.arrangement.test):
            raise ValueError(
                f"{self.metadata.name}: a finished training is of {training.point} on "
                f"{training.test_split}; wanted {wanted.point} on {wanted.arrangement.test}"
            )
        if training.generator:
            set_generator_state(training.generator, self.device)

    def fit(self, wanted: Sequence[_Wanted]) -> Iterator[_Fit]:
        """Yield probes, trained one after another or all at once."""
        if self.recipe.batched:
            yield from self.fit_at_once(wanted)
        else:
            yield from map(self.fit_alone, wanted)

    def fit_alone(self, wanted: _Wanted) -> _Fit:
        """Train a probe."""
        started = time.perf_counter()
        train = self.train_data(wanted.arrangement)
        d_in = train.embeddings.shape[1]
        if not self.recipe.chained:
            torch.manual_seed(training_seed(wanted.seed, wanted.index))
        elif wanted.index == 0:
            torch.manual_seed(wanted.seed)
        network = build_probe(d_in, len(self.metadata.labels), wanted.point)
        if self.recipe.chained:
            draw_made_up_batch(d_in)
        network.to(self.device)
        trainer = Trainer(network, train, wanted.point, self.recipe, self.metadata.multilabel)
        fitted = fit_probe(trainer, self.scorer(wanted).validate, self.maximize)
        return _Fit(network, fitted, (time.perf_counter() - started) / 60)

    def fit_at_once(self, wanted: Sequence[_Wanted]) -> Iterator[_Fit]:
        """Train probes as one batch."""
        started = time.perf_counter()
        train = {one: self.train_data(one) for one in {each.arrangement for each in wanted}}
        members = [self.member(each, train[each.arrangement]) for each in wanted]
        dtype = torch.bfloat16 if has_bf16(self.device) else torch.float32
        fit_batched(members, self.metadata.multilabel, dtype)
        minutes = (time.perf_counter() - started) / 60 / len(members)
        for member in members:
            yield _Fit(member.network, member.best.result(), minutes)

    def member(self, wanted: _Wanted, train: Embedded) -> Member:
        """Build a probe that is to be trained beside others."""
        seed = training_seed(wanted.seed, wanted.index)
        torch.manual_seed(seed)
        generator = torch.Generator(self.device).manual_seed(seed + 1)  # not the weights' numbers
        d_in, n_labels = train.embeddings.shape[1], len(self.metadata.labels)
        return Member(
            network=build_probe(d_in, n_labels, wanted.point).to(self.device),
            train=train,
            generator=generator,
            begin_validation=self.scorer(wanted).begin,
            best=BestEpoch(wanted.point, self.maximize, self.recipe.stop_at_nan),
        )

    def train_data(self, arrangement: Arrangement) -> Embedded:
        """Join the splits to train on."""
        return join([self.splits[name] for name in arrangement.train])

    def scorer(self, wanted: _Wanted) -> SplitScorer:
        """Return what says how good a network is on the split to validate on."""
        split = self.splits[wanted.arrangement.valid]
        return SplitScorer(self.metadata, split, wanted.point.batch_size)

    def tested(self, wanted: _Wanted, fit: _Fit, rival: Training | None) -> Training:
        """Test a probe, unless it fails to beat an earlier one of the same data."""
        network, validation = fit.network, fit.fitted.validation
        network.load_state_dict(fit.fitted.state)
        data = self.splits[wanted.arrangement.test]
        test = SplitScorer(self.metadata, data, wanted.point.batch_size)
        training = Training(
            point=wanted.point,
            test_split=wanted.arrangement.test,
            validation_score=validation.value,
            epoch=fit.fitted.epoch,
            postprocessing=validation.postprocessing,
            test={},
            time_in_min=fit.minutes,
            generator=generator_state(self.device) if self.recipe.chained else "",
        )
        if rival is not None and self.best([rival, training]) is rival:
            return training
        return replace(training, test=test.test(network, validation.postprocessing))

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.metadata.score_mode == "max"
