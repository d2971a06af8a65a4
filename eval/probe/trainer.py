"""The shallow probe of HEAR: a small MLP on frozen embeddings, stopped on validation clips.

Layers, initialisation, loss and optimiser are those of heareval 2021.1.3; see `recipe.py` for the
order in which random numbers are drawn. They come from torch's global generators.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_barlow_twins.shards.base.errors import UserError

from ..embed.embedded import Embedded
from .backprop import BackpropStep, Loss
from .detection import PostProcessing
from .lowprecision import FastLinear, FastStep
from .recipe import Point, Protocol, draw_loader_seed, draw_made_up_batch


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


def build_probe(d_in: int, n_labels: int, point: Point, protocol: Protocol) -> nn.Sequential:
    """Stack hidden layers of [Linear, BatchNorm, Dropout, ReLU] and an output Linear."""
    linear_type = FastLinear if protocol.bfloat16 else nn.Linear
    initialize = getattr(nn.init, point.initialization)
    network = nn.Sequential()
    gain, d = 1.0, d_in
    for width in [point.hidden_dim] * point.hidden_layers + [n_labels]:
        linear = linear_type(d, width)
        initialize(linear.weight, gain=gain)
        network.append(linear)
        # heareval's gains: "linear" for the first layer, "relu" for all later ones.
        gain, d = math.sqrt(2), width
        if len(network) < 4 * point.hidden_layers:
            network.extend([nn.BatchNorm1d(width), nn.Dropout(point.dropout), nn.ReLU()])
    if protocol.chained:
        draw_made_up_batch(d_in)
    return network


class Trainer:
    """Trains a probe epoch by epoch."""

    def __init__(
        self,
        network: nn.Sequential,
        train: Embedded,
        point: Point,
        protocol: Protocol,
        multilabel: bool,
    ) -> None:
        """Take what is to be trained, in place, and on what."""
        if len(train) < 2:
            raise UserError("there is one training clip; BatchNorm needs at least two")
        self.network, self.point, self.protocol = network, point, protocol
        self.slices = batches(len(train), point.batch_size)
        dtype = torch.bfloat16 if protocol.bfloat16 else torch.float32
        self.embeddings = train.embeddings.to(dtype)
        self.answers = train.targets if multilabel else train.targets.argmax(dim=1)
        loss = F.binary_cross_entropy_with_logits if multilabel else F.cross_entropy
        self.step: BackpropStep | AutogradStep
        if self.embeddings.is_cpu:
            rows = max(part.stop - part.start for part in self.slices)
            step_type = FastStep if protocol.bfloat16 else BackpropStep
            self.step = step_type(network, point.lr, loss, rows)
        else:
            self.step = AutogradStep(network, point.lr, loss)

    def epoch(self) -> None:
        """Train on every row once."""
        self.network.train()
        if self.protocol.chained:
            draw_loader_seed()
        order = torch.randperm(len(self.answers)) if self.protocol.shuffle else None
        for part in self.slices:
            rows = part if order is None else order[part].to(self.embeddings.device)
            self.step(self.embeddings[rows], self.answers[rows])

    @property
    def can_skip(self) -> bool:
        """Tell whether epochs can be left out without changing the trainings after this one."""
        return not self.protocol.chained or isinstance(self.step, BackpropStep)

    def skip_epoch(self) -> None:
        """Draw the random numbers of an epoch, and do nothing else."""
        assert isinstance(self.step, BackpropStep), "autograd keeps its random numbers to itself"
        draw_loader_seed()
        for part in self.slices:
            self.step.draw(part.stop - part.start)


class AutogradStep:
    """A step of training by autograd, on any device."""

    def __init__(self, network: nn.Module, lr: float, loss: Loss) -> None:
        self.network, self.loss = network, loss
        self.optimizer = torch.optim.Adam(network.parameters(), lr=lr)

    def __call__(self, embeddings: Tensor, targets: Tensor) -> None:
        """Lower the loss of a batch."""
        loss = self.loss(self.network(embeddings), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def fit_probe(
    trainer: Trainer, validate: Callable[[nn.Module], Validation], maximize: bool
) -> Fitted:
    """Train a probe until its validations no longer improve.

    Args:
        trainer: trains a network in place.
        validate: says what the network is worth; called with it in evaluation mode.
        maximize: whether more is better.

    Returns:
        The first of the best validations. A NaN counts as infinitely bad, but is kept if there
        is nothing else.
    """
    point, protocol = trainer.point, trainer.protocol
    best, best_merit, stale = None, -math.inf, 0
    for epoch in range(point.max_epochs):
        trainer.epoch()
        if (epoch + 1) % point.check_val_every_n_epoch:
            continue
        if protocol.chained:
            draw_loader_seed()
        found = validate(trainer.network.eval())
        finite = math.isfinite(found.value)
        merit = -math.inf if math.isnan(found.value) else found.value * (1 if maximize else -1)
        stale = 0 if finite and merit > best_merit else stale + 1
        if best is None or merit > best_merit:
            kept = replace(found, value=merit if maximize else -merit)
            state = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
            best, best_merit = Fitted(kept, epoch, state), merit
        if stale >= point.patience or (protocol.stop_at_nan and not finite):
            break
        if found.perfect and trainer.can_skip:
            skip_rest(trainer, epoch)
            break
    assert best is not None, "a Point sees to it that an epoch is validated"
    return best


def skip_rest(trainer: Trainer, epoch: int) -> None:
    """Leave out the epochs that would wait in vain for a better validation than that of `epoch`.

    Trainings to come draw the same random numbers as after them.
    """
    if not trainer.protocol.chained:
        return
    point, every = trainer.point, trainer.point.check_val_every_n_epoch
    for later in range(epoch + 1, min(epoch + 1 + point.patience * every, point.max_epochs)):
        trainer.skip_epoch()
        if (later + 1) % every == 0:
            draw_loader_seed()


def loss_of(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Compare logits with targets, both [N, L]; a scalar, the mean over clips (and labels)."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, targets)
    return F.cross_entropy(logits, targets.argmax(dim=1))


@torch.no_grad()
def predict(network: nn.Module, embeddings: Tensor, batch_size: int) -> Tensor:
    """Compute logits [N, L], batch by batch."""
    network.eval()
    return torch.cat([network(batch) for batch in embeddings.split(batch_size)])


def probabilities_of(logits: Tensor, multilabel: bool) -> Tensor:
    """Turn logits into probabilities: of each label by itself, or of the classes by softmax."""
    return logits.sigmoid() if multilabel else logits.softmax(dim=1)


def batches(n: int, size: int) -> list[slice]:
    """Cut n rows into consecutive batches; a last row alone, which BatchNorm refuses, joins."""
    starts = list(range(0, n, size))
    if len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], n], strict=True)]
