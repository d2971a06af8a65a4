"""Many probes trained at once: what they have alike is computed as one stack.

    G trainings, deepest first; n rows of each
    x [G, D, n] ─▶ weights @ x ─▶ BatchNorm, ReLU, dropout [G, H, n] ─▶ logits [G, L, n]

Rows come last, so that the G * H units are the channels of a single BatchNorm. Everything else is
a training's own: data, weights, random numbers, statistics, learning rate and early stopping.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..embed.embedded import Embedded
from .trainer import LAYERS_PER_HIDDEN, BestEpoch, Validation, batches, loss_of


@dataclass
class Member:
    """One training of many."""

    network: nn.Sequential
    """As `build_probe` makes it; trained in place."""
    train: Embedded
    generator: torch.Generator
    """For dropout; on the device of the network."""
    validate: Callable[[nn.Module], Validation]
    """Says what the network is worth; called with it in evaluation mode."""
    best: BestEpoch
    """Takes the validations."""

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return self.best.point.hidden_layers

    @property
    def shape(self) -> Hashable:
        """What members have alike that can be trained as one stack."""
        alike = replace(self.best.point, hidden_layers=0, initialization="", lr=0, patience=0)
        return self.depth > 0, self.train.embeddings.shape, alike


def fit_batched(members: Sequence[Member], multilabel: bool, dtype: torch.dtype) -> None:
    """Train probes until the validations of each no longer improve; see `Member.best`.

    Each result is the same whichever members are trained beside it, but for rounding.

    Args:
        members: of any hyperparameters and data; those of one shape are trained together.
        multilabel: whether a row may have any number of labels.
        dtype: of activations and products in hidden layers; weights stay float32.

    Raises:
        UserError: there is a single row to train on.
    """
    stacks: dict[Hashable, list[Member]] = defaultdict(list)
    for member in sorted(members, key=lambda member: -member.depth):
        stacks[member.shape].append(member)
    for stack in stacks.values():
        fit_stack(stack, multilabel, dtype)


def fit_stack(members: list[Member], multilabel: bool, dtype: torch.dtype) -> None:
    """Train members of one shape, deepest first; those that have stopped leave the stack."""
    point = members[0].best.point
    slices = batches(len(members[0].train), point.batch_size)
    for member in members:
        for layer in list(member.network)[:-1]:
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)  # The BatchNorm after it would subtract it again.
    groups = [
        {"params": [*member.network.parameters()], "lr": member.best.point.lr} for member in members
    ]
    optimizer = torch.optim.Adam(groups, fused=True)
    for epoch in range(point.max_epochs):
        for rows in slices:
            x, y = batch_of(members, rows)
            loss = loss_of(stacked_logits(members, x.to(dtype)).mT, y, multilabel)
            optimizer.zero_grad()
            # A mean over members; of each, the gradient of its own loss is wanted.
            (len(members) * loss).backward()
            optimizer.step()
        if (epoch + 1) % point.check_val_every_n_epoch == 0:
            members = [
                member
                for member in members
                if member.best.add(member.validate(member.network.eval()), epoch, member.network)
            ]
        if not members:
            return


def batch_of(members: Sequence[Member], rows: slice) -> tuple[Tensor, Tensor]:
    """Return embeddings [G, D, n] and targets [G, n, L] of a batch; no copies of shared data."""
    first, g = members[0].train, len(members)
    if all(member.train is first for member in members):
        x, y = first.embeddings[rows], first.targets[rows]
        return x.mT.expand(g, -1, -1), y.expand(g, -1, -1)
    x = torch.stack([member.train.embeddings[rows] for member in members])
    return x.mT, torch.stack([member.train.targets[rows] for member in members])


def stacked_logits(members: Sequence[Member], x: Tensor) -> Tensor:
    """Map embeddings [G, D, n] to logits [G, L, n], float32."""
    for start in range(0, LAYERS_PER_HIDDEN * members[0].depth, LAYERS_PER_HIDDEN):
        deep = [member for member in members if LAYERS_PER_HIDDEN * member.depth > start]
        through = x[len(deep) :]
        x = hidden_layer(deep, start, x[: len(deep)])
        if len(through):
            x = torch.cat([x, through])
    outputs = layers_of(members, -1)
    weight, bias = (torch.stack([getattr(o, name) for o in outputs]) for name in ("weight", "bias"))
    return torch.baddbmm(bias[..., None], weight, x.float())


def hidden_layer(members: Sequence[Member], start: int, x: Tensor) -> Tensor:
    """Apply the hidden layers that begin at module `start` to [G, D, n]; return [G, H, n]."""
    linears, norms, dropouts = (layers_of(members, start + i) for i in range(3))
    h = torch.stack([linear.weight.to(x.dtype) for linear in linears]) @ x
    scale, shift, mean, var = (
        torch.stack([getattr(norm, name) for norm in norms])
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    # Dropout scales up what it keeps. Done here it costs nothing, and is not rounded to `dtype`.
    p = dropouts[0].p
    factors = (scale / (1 - p)).flatten(), (shift / (1 - p)).flatten()
    flat = F.batch_norm(
        h.reshape(1, -1, h.shape[-1]), mean.flatten(), var.flatten(), *factors, training=True
    )
    for norm, its_mean, its_var in zip(norms, mean, var, strict=True):
        norm.running_mean, norm.running_var = its_mean, its_var
    dropped = torch.stack([draw_dropped(m.generator, h.shape[1:], p) for m in members])
    # ReLU passes no gradient where it returns 0, so autograd need not know of this.
    flat.detach().view_as(h).masked_fill_(dropped, 0)
    return flat.view_as(h).relu()


def layers_of(members: Sequence[Member], i: int) -> list[Any]:
    """Return module i of each network."""
    return [member.network[i] for member in members]


def draw_dropped(generator: torch.Generator, shape: torch.Size, p: float) -> Tensor:
    """Draw booleans that are true with probability p, to a precision of 2^-16.

    A word of 64 bits serves for four, which on a CPU is several times as fast as `bernoulli_`.
    """
    words = torch.empty(-(-shape.numel() // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[: shape.numel()].view(shape) < round(p * 2**16) - 2**15
