"""The shallow probe of HEAR: a small MLP on frozen embeddings, chosen on validation clips.

Follows heareval 2021.1.3: the layers, their initialisation, Adam, batches in the given order,
early stopping on the validation score, and a grid that is searched on the first arrangement only.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eval.scores import Score
from eval.task import Arrangement


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the hyperparameter grid."""

    hidden_layers: int
    initialization: str
    """Xavier: "uniform" or "normal"."""
    learning_rate: float


# The first three points that heareval tries of its default grid.
GRID = (
    Point(hidden_layers=1, initialization="normal", learning_rate=1e-4),
    Point(hidden_layers=2, initialization="uniform", learning_rate=1e-3),
    Point(hidden_layers=1, initialization="normal", learning_rate=1e-3),
)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What all points of the grid share."""

    hidden_dim: int = 1024
    dropout: float = 0.1
    batch_size: int = 1024
    max_epochs: int = 500
    validate_every: int = 3
    """Epochs from one validation to the next."""
    patience: int = 20
    """Validations without improvement after which training stops."""
    seed: int = 42


@dataclass(frozen=True)
class Labelled:
    """Embeddings, float32 [N, D], with their targets, float32 0 or 1 [N, L]."""

    embeddings: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.embeddings)


@dataclass(frozen=True)
class Fitted:
    """A probe at its best validation."""

    network: nn.Module
    valid_score: float
    epoch: int
    """Epochs trained up to that validation."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Test scores of the chosen grid point."""

    point: Point
    valid_score: float
    """Of the chosen point, on the first arrangement."""
    folds: tuple[float, ...]
    """Test score of every arrangement."""

    @property
    def mean(self) -> float:
        """Mean over arrangements."""
        return float(np.mean(self.folds))

    @property
    def std(self) -> float | None:
        """Sample standard deviation over arrangements; None if there is only one."""
        return float(np.std(self.folds, ddof=1)) if len(self.folds) > 1 else None


def probe_task(
    splits: Mapping[str, Labelled],
    arrangements: Sequence[Arrangement],
    score: Score,
    multilabel: bool,
    grid: Sequence[Point] = GRID,
    schedule: Schedule | None = None,
    progress: Callable[[], object] = lambda: None,
) -> ProbeResult:
    """Choose a grid point on the first arrangement, then train and test it on every one.

    Args:
        splits: embeddings and targets of every split.
        arrangements: which splits train, validate and test.
        score: chooses the point and is reported.
        multilabel: binary cross-entropy for each label, rather than softmax over classes.
        grid: points to try; the earlier one wins a tie.
        schedule: settings shared by all points; the defaults are heareval's.
        progress: called after each of `n_trainings(grid, arrangements)` trainings.
    """
    schedule = schedule or Schedule()

    def fit(point: Point, arrangement: Arrangement) -> Fitted:
        train = join([splits[name] for name in sorted(arrangement.train)])
        fitted = fit_probe(train, splits[arrangement.valid], point, schedule, score, multilabel)
        progress()
        return fitted

    first, *others = arrangements
    tried = [(fit(point, first), point) for point in grid]
    best, point = max(tried, key=lambda pair: pair[0].valid_score)
    folds = [score_on(splits[first.test], best.network, score, multilabel)]
    for arrangement in others:
        network = fit(point, arrangement).network
        folds.append(score_on(splits[arrangement.test], network, score, multilabel))
    return ProbeResult(point=point, valid_score=best.valid_score, folds=tuple(folds))


def n_trainings(grid: Sequence[Point], arrangements: Sequence[Arrangement]) -> int:
    """Count the probes that `probe_task` trains."""
    return len(grid) + len(arrangements) - 1


def fit_probe(
    train: Labelled,
    valid: Labelled,
    point: Point,
    schedule: Schedule,
    score: Score,
    multilabel: bool,
) -> Fitted:
    """Train one probe and return it as it was at the best validation.

    Random numbers come from `schedule.seed`; torch's global generators are left as they were.
    """
    n_labels = train.targets.shape[1]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(schedule.seed)
        network = build_probe(train.embeddings.shape[1], n_labels, point, schedule)
        network.to(train.embeddings.device)
        best = Fitted(network, -math.inf, 0)
        stale = 0
        for epoch in train_epochs(network, train, point.learning_rate, schedule, multilabel):
            if epoch % schedule.validate_every:
                continue
            reached = score_on(valid, network, score, multilabel)
            if reached > best.valid_score:
                best, stale = Fitted(copy.deepcopy(network), reached, epoch), 0
            else:
                stale += 1
            # No score exceeds 1, so nothing after it could replace this probe.
            if best.valid_score >= 1 or stale >= schedule.patience or math.isnan(reached):
                break
    return best


def train_epochs(
    network: nn.Module, train: Labelled, learning_rate: float, schedule: Schedule, multilabel: bool
) -> Iterator[int]:
    """Train epoch after epoch, yielding the number of epochs done."""
    # The fused step is the same arithmetic in one pass over the weights, which bounds the speed.
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    slices = batches(len(train), schedule.batch_size)
    classes = train.targets.argmax(dim=1)
    for epoch in range(1, schedule.max_epochs + 1):
        network.train()
        for part in slices:
            logits = network(train.embeddings[part])
            if multilabel:
                loss = F.binary_cross_entropy_with_logits(logits, train.targets[part])
            else:
                loss = F.cross_entropy(logits, classes[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield epoch


def build_probe(d_in: int, n_labels: int, point: Point, schedule: Schedule) -> nn.Sequential:
    """Stack hidden layers of [Linear, BatchNorm, Dropout, ReLU] and an output Linear."""
    initialize = {"uniform": nn.init.xavier_uniform_, "normal": nn.init.xavier_normal_}
    network = nn.Sequential()
    gain, d = 1.0, d_in
    for width in [schedule.hidden_dim] * point.hidden_layers + [n_labels]:
        linear = nn.Linear(d, width)
        initialize[point.initialization](linear.weight, gain=gain)
        network.append(linear)
        # heareval's gains: "linear" for the first layer, "relu" for all later ones.
        gain, d = math.sqrt(2), width
        if len(network) < 4 * point.hidden_layers:
            network.extend([nn.BatchNorm1d(width), nn.Dropout(schedule.dropout), nn.ReLU()])
    return network


def batches(n: int, size: int) -> list[slice]:
    """Cut n clips into consecutive batches; a last clip alone, which BatchNorm refuses, joins."""
    starts = list(range(0, n, size))
    if len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], n], strict=True)]


def score_on(data: Labelled, network: nn.Module, score: Score, multilabel: bool) -> float:
    """Score a probe's probabilities: of each label by itself, or of the classes by softmax."""
    network.eval()
    with torch.no_grad():
        logits = network(data.embeddings)
    probabilities = logits.sigmoid() if multilabel else logits.softmax(dim=1)
    return score(data.targets.cpu().numpy(), probabilities.cpu().numpy())


def join(parts: Sequence[Labelled]) -> Labelled:
    """Concatenate splits."""
    return Labelled(
        torch.cat([part.embeddings for part in parts]), torch.cat([part.targets for part in parts])
    )
