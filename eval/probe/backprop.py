"""Forward pass, gradients and Adam of a probe, written out for CPUs.

Every array is made once, gradients are written where Adam reads them, and Adam works on what fits
the cache. On one thread each number is that of torch.nn, autograd and torch.optim.Adam, bit for
bit. `eval.probe.lowprecision` trades that for speed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps logits and targets to a scalar."""

BETAS, EPS = (0.9, 0.999), 1e-8
# Elements of the arrays of Adam that fit the second-level cache of a core together.
CACHED = 2**16


class FlatAdam:
    """Adam on all weights of a network at once, which it moves into one stretch of memory."""

    dtype = torch.float32
    """Of the weights that products use, and of their gradients."""

    def __init__(self, network: nn.Module, lr: float) -> None:
        parameters = list(network.parameters())
        # Each starts at a full vector register, as a tensor of its own does.
        sizes = [-(-parameter.numel() // 16) * 16 for parameter in parameters]
        self.starts = dict(zip(parameters, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self.lr, self.step = lr, torch.zeros(())
        weights, mean, square = torch.zeros(3, sum(sizes)).unbind()
        for parameter in parameters:
            parameter.data = self.part(weights, parameter).copy_(parameter.detach())
        # In float32 the same memory as the weights.
        self.used, self.slopes = weights.to(self.dtype), torch.zeros_like(weights, dtype=self.dtype)
        arrays = (weights, self.used, self.slopes, mean, square)
        self.cached = list(zip(*(array.split(CACHED) for array in arrays), strict=True))
        self.scratch = torch.empty(CACHED)

    def part(self, flat: Tensor, parameter: nn.Parameter) -> Tensor:
        """Return the part of `flat` that belongs to a parameter, in its shape."""
        start = self.starts[parameter]
        return flat[start : start + parameter.numel()].view_as(parameter)

    def update(self) -> None:
        """Move the weights by their gradients."""
        self.step += 1
        for arrays in self.cached:
            self.update_part(*arrays)

    def update_part(
        self, weights: Tensor, used: Tensor, slopes: Tensor, mean: Tensor, square: Tensor
    ) -> None:
        """Move some weights.

        The sums of torch.optim.Adam; its fused form takes square roots that are rounded otherwise.
        """
        (beta1, beta2), step = BETAS, self.step.item()
        mean.lerp_(slopes, 1 - beta1)
        square.mul_(beta2).addcmul_(slopes, slopes, value=1 - beta2)
        root = torch.sqrt(square, out=self.scratch[: len(square)])
        root.div_((1 - beta2**step) ** 0.5).add_(EPS)
        weights.addcdiv_(mean, root, value=-self.lr / (1 - beta1**step))


class LinearStep:
    """A linear layer; `first` says that nobody asks for the gradient of its input."""

    def __init__(self, linear: nn.Linear, adam: FlatAdam, rows: int, first: bool) -> None:
        weight, bias = linear.parameters()
        self.weight, self.bias = adam.part(adam.used, weight), adam.part(adam.used, bias)
        self.to_weight, self.to_bias = adam.part(adam.slopes, weight), adam.part(adam.slopes, bias)
        self.out = torch.empty(rows, linear.out_features, dtype=adam.dtype)
        self.to_x = torch.empty(0 if first else rows, linear.in_features, dtype=adam.dtype)
        self.x = self.to_x

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, D] to [n, H]."""
        self.x = x
        return torch.addmm(self.bias, x, self.weight.t(), out=self.out[: len(x)])

    def backward(self, gradient: Tensor) -> Tensor:
        """Set the gradients of weights; map the gradient [n, H] of the output to the input's."""
        self.set_slopes(gradient)
        if not len(self.to_x):
            return gradient
        return torch.mm(gradient, self.weight, out=self.to_x[: len(gradient)])

    def set_slopes(self, gradient: Tensor) -> None:
        """Set the gradients of weight and bias."""
        torch.mm(gradient.t(), self.x, out=self.to_weight)
        torch.sum(gradient, dim=0, out=self.to_bias)


class HiddenStep:
    """BatchNorm, dropout and ReLU."""

    def __init__(self, norm: nn.BatchNorm1d, p: float, adam: FlatAdam, rows: int) -> None:
        self.norm, self.p = norm, p
        self.to_weight, self.to_bias = (adam.part(adam.slopes, p) for p in norm.parameters())
        shape = (rows, norm.num_features)
        self.out, self.noise = torch.empty(2, *shape, dtype=adam.dtype).unbind()
        self.mean, self.inverse_deviation = torch.empty(2, norm.num_features).unbind()
        self.x = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, H] to as many."""
        out = self.normalize(x, self.norm.weight, self.norm.bias)
        return out.mul_(self.draw(len(x))).clamp_min_(0)

    def backward(self, gradient: Tensor) -> Tensor:
        """Set the gradients of scale and shift; map the gradient of the output to the input's."""
        n = len(gradient)
        gradient = torch.ops.aten.threshold_backward(gradient, self.out[:n], 0)
        to_x, to_weight, to_bias = self.denormalize(gradient.mul_(self.noise[:n]), self.norm.weight)
        self.to_weight.copy_(to_weight)
        self.to_bias.copy_(to_bias)
        return to_x

    def draw(self, n: int) -> Tensor:
        """Draw what nn.Dropout multiplies with, [n, H]: 0 with probability p, else 1 / (1 - p)."""
        return self.noise[:n].bernoulli_(1 - self.p).div_(1 - self.p)

    def normalize(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Bring columns to a mean of `shift` and a deviation of `scale`, both [H]."""
        self.x, norm = x, self.norm
        out, *_ = torch.ops.aten.native_batch_norm.out(
            x, scale, shift, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps,
            out=self.out[: len(x)], save_mean=self.mean, save_invstd=self.inverse_deviation,
        )  # fmt: skip
        return out

    def denormalize(self, gradient: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map the gradient of what `normalize` returned to those of what it was given."""
        norm, all_three = self.norm, [True, True, True]
        return torch.ops.aten.native_batch_norm_backward(
            gradient, self.x, scale, norm.running_mean, norm.running_var,
            self.mean, self.inverse_deviation, True, norm.eps, all_three,
        )  # fmt: skip


class BackpropStep:
    """A step of training on one batch."""

    kinds: tuple[type[FlatAdam], type[LinearStep], type[LinearStep], type[HiddenStep]] = (
        FlatAdam, LinearStep, LinearStep, HiddenStep,
    )  # fmt: skip
    """Adam, linear layers before a BatchNorm, the last linear layer, the rest of hidden layers."""

    def __init__(self, network: nn.Sequential, lr: float, loss: Loss, rows: int) -> None:
        """Take over a network of Linear and hidden layers, as `build_probe` stacks it.

        Args:
            network: trained in place, on the CPU.
            lr: of Adam.
            loss: what is to fall.
            rows: the most that a batch has.
        """
        adam, linear, last, hidden = self.kinds
        self.loss, self.adam = loss, adam(network, lr)
        modules: list[Any] = list(network)
        self.layers: list[LinearStep | HiddenStep] = []
        for i in range(0, len(modules) - 1, 4):
            product, norm, dropout, _ = modules[i : i + 4]
            self.layers.append(linear(product, self.adam, rows, first=i == 0))
            self.layers.append(hidden(norm, dropout.p, self.adam, rows))
        self.layers.append(last(modules[-1], self.adam, rows, first=len(modules) == 1))

    @torch.no_grad()
    def __call__(self, embeddings: Tensor, targets: Tensor) -> None:
        """Lower the loss on embeddings [n, D] of Adam's dtype."""
        x = embeddings
        for layer in self.layers:
            x = layer.forward(x)
        logits = x.float().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.loss(logits, targets), logits)
        gradient = slope.to(x.dtype)
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        self.adam.update()

    def draw(self, n: int) -> None:
        """Draw the random numbers of a step on n rows, and do nothing else."""
        for layer in self.layers:
            if isinstance(layer, HiddenStep):
                layer.draw(n)
