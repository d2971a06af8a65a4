"""The shallow probe of HEAR: a small MLP on frozen embeddings, stopped on validation clips.

Layers, initialisation, loss and optimiser are those of heareval 2021.1.3; see `recipe.py` for the
order in which random numbers are drawn. They come from torch's global generators.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_barlow_twins.shards.base.errors import UserError

from ..embed.embedded import Embedded
from .detection import PostProcessing
from .recipe import Point, ProbeRecipe, draw_loader_seed

LAYERS_PER_HIDDEN = 4
"""Modules of a network that make up a hidden layer."""


@dataclass(frozen=True)
class Validation:
    """What a probe is worth on validation data."""

    value: float
    """Score or loss."""
    postprocessing: PostProcessing | None = None
    """The best way to make events of probabilities, in event tasks."""
    perfect: bool = False
    """No later validation can be better, nor be NaN."""


@dataclass(frozen=True)
class Fitted:
    """The best validation of a training."""

    validation: Validation
    epoch: int
    """Counted from 0."""
    state: dict[str, Tensor]
    """The network at that time."""


@dataclass
class BestEpoch:
    """The best validation of a training so far; decides whether training goes on.

    The first of equally good validations counts. A NaN is infinitely bad, but is kept if there is
    nothing else.
    """

    point: Point
    maximize: bool
    """Whether more is better."""
    stop_at_nan: bool
    fitted: Fitted | None = None
    stale: int = 0
    """Validations since the last improvement."""

    def add(self, found: Validation, epoch: int, network: nn.Module) -> bool:
        """Take a validation of the network after an epoch; return whether training goes on."""
        sign, finite = 1 if self.maximize else -1, math.isfinite(found.value)
        merit = -math.inf if math.isnan(found.value) else sign * found.value
        best = sign * self.fitted.validation.value if self.fitted else -math.inf
        self.stale = 0 if finite and merit > best else self.stale + 1
        if self.fitted is None or merit > best:
            state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            self.fitted = Fitted(replace(found, value=sign * merit), epoch, state)
        patient = self.stale < self.point.patience and not found.perfect
        return patient and (finite or not self.stop_at_nan)

    def result(self) -> Fitted:
        """Return the best validation."""
        assert self.fitted is not None, "a Point sees to it that an epoch is validated"
        return self.fitted


def build_probe(d_in: int, n_labels: int, point: Point) -> nn.Sequential:
    """Stack hidden layers of [Linear, BatchNorm, Dropout, ReLU] and an output Linear."""
    initialize = getattr(nn.init, point.initialization)
    network = nn.Sequential()
    gain, d = 1.0, d_in
    for width in [point.hidden_dim] * point.hidden_layers + [n_labels]:
        linear = nn.Linear(d, width)
        initialize(linear.weight, gain=gain)
        network.append(linear)
        # heareval's gains: "linear" for the first layer, "relu" for all later ones.
        gain, d = math.sqrt(2), width
        if len(network) < LAYERS_PER_HIDDEN * point.hidden_layers:
            network.extend([nn.BatchNorm1d(width), nn.Dropout(point.dropout), nn.ReLU()])
    return network


class Trainer:
    """Trains a probe in place, epoch by epoch.

    Raises:
        UserError: there is a single row to train on.
    """

    def __init__(
        self,
        network: nn.Sequential,
        train: Embedded,
        point: Point,
        recipe: ProbeRecipe,
        multilabel: bool,
    ) -> None:
        self.network, self.train, self.point, self.recipe = network, train, point, recipe
        self.multilabel = multilabel
        self.slices = batches(len(train), point.batch_size)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=point.lr)

    def epoch(self) -> None:
        """Train on every row once."""
        self.network.train()
        for rows in self._batches():
            logits = self.network(self.train.embeddings[rows])
            loss = loss_of(logits, self.train.targets[rows], self.multilabel)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def skip_epoch(self) -> None:
        """Draw the random numbers of an epoch, and do nothing else."""
        dropouts = [layer for layer in self.network.train() if isinstance(layer, nn.Dropout)]
        for rows in self._batches():
            h = self.train.embeddings.new_empty(
                len(self.train.targets[rows]), self.point.hidden_dim
            )
            for dropout in dropouts:
                dropout(h)

    def _batches(self) -> Iterator[slice | Tensor]:
        """Yield the rows of an epoch's batches."""
        if self.recipe.chained:
            draw_loader_seed()
        order = torch.randperm(len(self.train)) if self.recipe.shuffle else None
        for part in self.slices:
            yield part if order is None else order[part].to(self.train.embeddings.device)


def fit_probe(
    trainer: Trainer, validate: Callable[[nn.Module], Validation], maximize: bool
) -> Fitted:
    """Train a probe until its validations no longer improve; return the best one.

    Args:
        trainer: trains a network in place.
        validate: says what the network is worth; called with it in evaluation mode.
        maximize: whether more is better.
    """
    point, recipe = trainer.point, trainer.recipe
    best = BestEpoch(point, maximize, recipe.stop_at_nan)
    for epoch in range(point.max_epochs):
        trainer.epoch()
        if (epoch + 1) % point.check_val_every_n_epoch:
            continue
        if recipe.chained:
            draw_loader_seed()
        found = validate(trainer.network.eval())
        if not best.add(found, epoch, trainer.network):
            if found.perfect:
                skip_rest(trainer, epoch)
            break
    return best.result()


def skip_rest(trainer: Trainer, epoch: int) -> None:
    """Skip the epochs that would wait in vain for a better validation than that of `epoch`.

    Trainings to come draw the same random numbers as after them.
    """
    if not trainer.recipe.chained:
        return
    point, every = trainer.point, trainer.point.check_val_every_n_epoch
    for later in range(epoch + 1, min(epoch + 1 + point.patience * every, point.max_epochs)):
        trainer.skip_epoch()
        if (later + 1) % every == 0:
            draw_loader_seed()


def loss_of(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Compare logits with targets, both [..., L]; a scalar, the mean over clips (and labels)."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, targets)
    return F.cross_entropy(logits.flatten(0, -2), targets.argmax(dim=-1).flatten())


@torch.no_grad()
def predict(network: nn.Module, embeddings: Tensor, batch_size: int) -> Tensor:
    """Compute logits [N, L], batch by batch."""
    network.eval()
    return torch.cat([network(batch) for batch in embeddings.split(batch_size)])


def probabilities_of(logits: Tensor, multilabel: bool) -> Tensor:
    """Turn logits into probabilities: of each label by itself, or of the classes by softmax."""
    return logits.sigmoid() if multilabel else logits.softmax(dim=1)


def batches(n: int, size: int) -> list[slice]:
    """Cut n rows into consecutive batches; a last row alone, which BatchNorm refuses, joins.

    Raises:
        UserError: there is one row.
    """
    if n < 2:
        raise UserError("there is one training clip; BatchNorm needs at least two")
    starts = list(range(0, n, size))
    if n - starts[-1] == 1:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], n], strict=True)]
