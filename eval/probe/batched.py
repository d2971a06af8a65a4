"""Many probes trained at once: what they have alike is computed as one stack.

    G trainings, deepest first; n rows of each
    x [G, D, n] ─▶ weights @ x ─▶ BatchNorm, ReLU, dropout [G, H, n] ─▶ logits [G, L, n]

Rows come last, so that the G * H units are the channels of a single BatchNorm. Everything else is
a training's own: data, weights, random numbers, statistics, learning rate and early stopping.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

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
    begin_validation: Callable[[nn.Module], Callable[[], Validation]]
    """Called with the network in evaluation mode; what it returns says what that is worth."""
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
    alike: dict[float, list[nn.Parameter]] = defaultdict(list)
    for member in members:
        for layer in list(member.network)[:-1]:
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)  # The BatchNorm after it would subtract it again.
        alike[member.best.point.lr] += member.network.parameters()
    groups = [{"params": parameters, "lr": lr} for lr, parameters in alike.items()]
    optimizer = torch.optim.Adam(groups, fused=True)
    stack = Stack(members, dtype)
    for epoch in range(point.max_epochs):
        for rows in slices:
            x, y = batch_of(stack.members, rows)
            stack.step(loss_of(stack.logits(x).mT, y, multilabel), optimizer)
        if (epoch + 1) % point.check_val_every_n_epoch == 0:
            going = stack.validate(epoch)
            if not going:
                return
            if len(going) < len(stack.members):
                stack = Stack(going, dtype)


class Stack:
    """Members, deepest first, whose networks share memory: layers of one place lie side by side."""

    def __init__(self, members: Sequence[Member], dtype: torch.dtype) -> None:
        self.members, self.dtype = members, dtype
        starts = starts_of(members[0].depth)
        self.hidden = [HiddenLayers(members, start, dtype) for start in starts]
        self.output = Joined([member.network[-1] for member in members], ("weight", "bias"))
        self.trained = self.output.trained.copy()
        for layers in self.hidden:
            self.trained += layers.linear.trained + layers.norm.trained

    def logits(self, x: Tensor) -> Tensor:
        """Map embeddings [G, D, n] to logits [G, L, n], float32."""
        x = x.to(self.dtype)
        for layers in self.hidden:
            through = x[len(layers) :]
            x = layers(x[: len(layers)])
            if len(through):
                x = torch.cat([x, through])
        bias, weight = self.output["bias"], self.output["weight"]
        return torch.baddbmm(bias[..., None], weight, x.float())

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Let all members learn from the mean of their losses, each as from its own."""
        rounded = [tensor for _, tensor, _ in self.trained]
        found = torch.autograd.grad(len(self.members) * loss, rounded)
        for (_, _, gradients), each in zip(self.trained, found, strict=True):
            gradients.copy_(each)
        optimizer.step()
        with torch.no_grad():
            for whole, tensor, _ in self.trained:
                if tensor.dtype != whole.dtype:
                    tensor.copy_(whole)

    def validate(self, epoch: int) -> list[Member]:
        """Validate all members; return those that go on.

        All are begun before a GPU is waited for.
        """
        begun = [member.begin_validation(member.network.eval()) for member in self.members]
        going = []
        for member, found in zip(self.members, begun, strict=True):
            if member.best.add(found(), epoch, member.network):
                going.append(member)
            else:
                member.network.zero_grad()  # Without gradients, Adam leaves it alone.
        return going


class Joined(dict[str, Tensor]):
    """Parameters and statistics of layers alike, [G, ...] by name, in `dtype`.

    Those of a layer, and its gradients, are parts of tensors that stay where they are from step
    to step: with fresh ones, a CPU spends much of its time on mapping memory.
    """

    def __init__(
        self, layers: Sequence[nn.Module], names: Sequence[str], dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.trained: list[tuple[Tensor, Tensor, Tensor]] = []
        """Parameters, the same in `dtype`, and the gradients that the layers have."""
        for name in names:
            kept = [getattr(layer, name) for layer in layers]
            whole = torch.stack([tensor.detach() for tensor in kept])
            for tensor, part in zip(kept, whole, strict=True):
                tensor.data = part
            self[name] = whole.to(dtype)
            if kept[0].requires_grad:
                gradients = torch.empty_like(whole)
                for tensor, gradient in zip(kept, gradients, strict=True):
                    tensor.grad = gradient
                self.trained.append((whole, self[name].requires_grad_(), gradients))


class HiddenLayers:
    """The hidden layers that begin at module `start`, of the members that are as deep."""

    def __init__(self, members: Sequence[Member], start: int, dtype: torch.dtype) -> None:
        deep = [member for member in members if start in starts_of(member.depth)]
        self.generators = [member.generator for member in deep]
        self.p = deep[0].best.point.dropout
        linears, norms = ([member.network[start + i] for member in deep] for i in range(2))
        self.linear = Joined(linears, ("weight",), dtype)
        self.norm = Joined(norms, ("weight", "bias", "running_mean", "running_var"))

    def __len__(self) -> int:
        return len(self.generators)

    def __call__(self, x: Tensor) -> Tensor:
        """Map [G, D, n] to [G, H, n]."""
        norm, h = self.norm, self.linear["weight"] @ x
        # Dropout scales up what it keeps. Here it costs nothing, and is not rounded to `dtype`.
        scale, shift = (norm[name].flatten() / (1 - self.p) for name in ("weight", "bias"))
        mean, var = (norm[name].view(-1) for name in ("running_mean", "running_var"))
        flat = F.batch_norm(h.view(1, -1, h.shape[-1]), mean, var, scale, shift, training=True)
        dropped = draw_dropped(self.generators, h.shape[1:], self.p)
        # ReLU passes no gradient where it returns 0, so autograd need not know of this.
        flat.detach().view_as(h).masked_fill_(dropped, 0)
        return flat.view_as(h).relu_()


def starts_of(depth: int) -> range:
    """Return the indices of the modules at which hidden layers begin."""
    return range(0, LAYERS_PER_HIDDEN * depth, LAYERS_PER_HIDDEN)


def batch_of(members: Sequence[Member], rows: slice) -> tuple[Tensor, Tensor]:
    """Return embeddings [G, D, n] and targets [G, n, L] of a batch; no copies of shared data."""
    first, g = members[0].train, len(members)
    if all(member.train is first for member in members):
        x, y = first.embeddings[rows], first.targets[rows]
        return x.mT.expand(g, -1, -1), y.expand(g, -1, -1)
    x = torch.stack([member.train.embeddings[rows] for member in members])
    return x.mT, torch.stack([member.train.targets[rows] for member in members])


def draw_dropped(generators: Sequence[torch.Generator], shape: torch.Size, p: float) -> Tensor:
    """Draw booleans [G, *shape] that are true with probability p, to a precision of 2^-16.

    A word of 64 bits serves for four, which on a CPU is several times as fast as `bernoulli_`.
    """
    size = shape.numel()
    words = torch.empty(
        len(generators), -(-size // 4), dtype=torch.int64, device=generators[0].device
    )
    for row, generator in zip(words, generators, strict=True):
        row.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:, :size].unflatten(1, shape) < round(p * 2**16) - 2**15
