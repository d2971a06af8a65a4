"""The shallow probe of HEAR: a small MLP on frozen embeddings, stopped on validation clips.

Layers, initialisation, loss and optimiser are those of heareval 2021.1.3; see `eval.protocol` for
the order in which random numbers are drawn. They come from torch's global generators.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eval.embedded import Embedded
from eval.events import PostProcessing
from eval.lowprecision import FastDropout, FastLinear
from eval.protocol import Point, Protocol, draw_loader_seed, draw_made_up_batch


@dataclass(frozen=True)
class Validation:
    """What a probe is worth on validation data."""

    value: float
    """Score or loss."""
    postprocessing: PostProcessing | None = None
    """The best way to make events of probabilities, in event tasks."""


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
    linear_type, dropout_type = (
        (FastLinear, FastDropout) if protocol.bfloat16 else (nn.Linear, nn.Dropout)
    )
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
            relu = nn.ReLU(inplace=protocol.bfloat16)
            network.extend([nn.BatchNorm1d(width), dropout_type(point.dropout), relu])
    if protocol.chained:
        draw_made_up_batch(d_in)
    return network


def fit_probe(
    network: nn.Module,
    epochs: Iterable[int],
    validate: Callable[[nn.Module], Validation],
    maximize: bool,
    point: Point,
    protocol: Protocol,
) -> Fitted:
    """Train a probe until its validations no longer improve.

    Args:
        network: what `epochs` trains in place.
        epochs: from `train_epochs`.
        validate: says what the network is worth; called with it in evaluation mode.
        maximize: whether more is better.
        point: hyperparameters.
        protocol: whether a NaN ends training, and what is drawn before a validation.

    Returns:
        The first of the best validations. A NaN counts as infinitely bad, but is kept if there
        is nothing else.
    """
    best, best_merit, stale = None, -math.inf, 0
    for epoch in epochs:
        if (epoch + 1) % point.check_val_every_n_epoch:
            continue
        if protocol.chained:
            draw_loader_seed()
        found = validate(network.eval())
        finite = math.isfinite(found.value)
        merit = -math.inf if math.isnan(found.value) else found.value * (1 if maximize else -1)
        stale = 0 if finite and merit > best_merit else stale + 1
        if best is None or merit > best_merit:
            kept = replace(found, value=merit if maximize else -merit)
            state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            best, best_merit = Fitted(kept, epoch, state), merit
        if stale >= point.patience or (protocol.stop_at_nan and not finite):
            break
    assert best is not None, "a Point sees to it that an epoch is validated"
    return best


def train_epochs(
    network: nn.Module, train: Embedded, point: Point, protocol: Protocol, multilabel: bool
) -> Iterator[int]:
    """Train epoch after epoch, yielding the number of the epoch just done, from 0."""
    optimizer = torch.optim.Adam(network.parameters(), lr=point.lr, fused=protocol.bfloat16 or None)
    slices = batches(len(train), point.batch_size)
    embeddings, targets = train.embeddings, train.targets
    if protocol.bfloat16:
        embeddings = embeddings.bfloat16()
    for epoch in range(point.max_epochs):
        network.train()
        if protocol.chained:
            draw_loader_seed()
        order = torch.randperm(len(train)) if protocol.shuffle else None
        for part in slices:
            rows = part if order is None else order[part].to(embeddings.device)
            loss = loss_of(network(embeddings[rows]), targets[rows], multilabel)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield epoch


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
