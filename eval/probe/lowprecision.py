"""A probe's training in bfloat16: products and activations are rounded, weights stay float32.

Worth it where matrix units multiply bfloat16 (GPUs, CPUs with AMX) and less so elsewhere.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backprop import BETAS, EPS, BackpropStep, FlatAdam, HiddenStep, LinearStep

# oneDNN multiplies by a turned matrix slowly; from this many columns on, turning it first pays.
MANY = 512


class FastLinear(nn.Linear):
    """A linear layer that multiplies in bfloat16 and keeps its weights in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, D] to float32 [N, out_features]."""
        return F.linear(x.bfloat16(), self.weight.bfloat16(), self.bias.bfloat16()).float()


class FastAdam(FlatAdam):
    """Adam that rounds weights to bfloat16 for products, and takes gradients from them."""

    dtype = torch.bfloat16

    def update_part(
        self, weights: Tensor, used: Tensor, slopes: Tensor, mean: Tensor, square: Tensor
    ) -> None:
        """Move some weights."""
        gradient = self.scratch[: len(slopes)].copy_(slopes)
        torch._fused_adam_(
            [weights], [gradient], [mean], [square], [], [self.step], lr=self.lr, beta1=BETAS[0],
            beta2=BETAS[1], weight_decay=0.0, eps=EPS, amsgrad=False, maximize=False,
        )  # fmt: skip
        used.copy_(weights)


class FastOutputStep(LinearStep):
    """The last linear layer."""

    def set_slopes(self, gradient: Tensor) -> None:
        """Set the gradients of weight and bias."""
        turned = gradient.t()
        if self.x.shape[1] >= MANY:
            turned = turned.contiguous()
        torch.mm(turned, self.x, out=self.to_weight)
        if len(self.to_bias):
            torch.sum(gradient, dim=0, out=self.to_bias)


class FastLinearStep(FastOutputStep):
    """A linear layer without bias, which the BatchNorm after it would take away again."""

    def __init__(self, linear: nn.Linear, adam: FlatAdam, rows: int, first: bool) -> None:
        linear.bias.data.zero_()
        super().__init__(linear, adam, rows, first)
        self.to_bias = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, D] to [n, H]."""
        self.x = x
        return torch.mm(x, self.weight.t(), out=self.out[: len(x)])


class FastHiddenStep(HiddenStep):
    """BatchNorm, dropout and ReLU, with masks in place of factors."""

    def __init__(self, norm: nn.BatchNorm1d, p: float, adam: FlatAdam, rows: int) -> None:
        super().__init__(norm, p, adam, rows)
        self.words = torch.empty(-(-self.out.numel() // 4), dtype=torch.int64)
        # What dropout scales up, BatchNorm does already.
        self.boost = 1 / (1 - p)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, H] to as many."""
        out = self.normalize(x, self.boost * self.norm.weight, self.boost * self.norm.bias)
        # A bfloat16 is negative where the int16 of the same bits is, and 0 where that is 0.
        out.view(torch.int16).clamp_min_(0).bitwise_and_(self.draw(len(x)))
        return out

    def backward(self, gradient: Tensor) -> Tensor:
        """Set the gradients of scale and shift; map the gradient of the output to the input's."""
        n = len(gradient)
        gradient = torch.ops.aten.threshold_backward(gradient, self.out[:n], 0)
        to_x, to_weight, to_bias = self.denormalize(gradient, self.boost * self.norm.weight)
        torch.mul(to_weight, self.boost, out=self.to_weight)
        torch.mul(to_bias, self.boost, out=self.to_bias)
        return to_x

    def draw(self, n: int) -> Tensor:
        """Draw bits [n, H]: none with probability p, to a precision of 2^-16, else all."""
        shape = (n, self.norm.num_features)
        numel = n * self.norm.num_features
        words = self.words[: -(-numel // 4)].random_(-(2**63), None)
        kept = words.view(torch.int16)[:numel].view(shape)
        return kept.ge_(round(2**16 * self.p) - 2**15).neg_()


class FastStep(BackpropStep):
    """A step of training on one batch, in bfloat16."""

    kinds = (FastAdam, FastLinearStep, FastOutputStep, FastHiddenStep)
