"""Layers of a probe in cheap arithmetic: bfloat16 products, coarse dropout masks.

Worth it where matrix units multiply bfloat16 (GPUs, CPUs with AMX); elsewhere it may be slower.
"""

from typing import Any

import torch
from torch import Tensor, nn


class _Product(torch.autograd.Function):
    """`x @ weight.T` of bfloat16 copies, summed in float32, and its derivatives likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x, weight)
        return (x @ weight.T).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].bfloat16()
        to_x = (gradient @ weight).float() if ctx.needs_input_grad[0] else None
        return to_x, (gradient.T @ x).float()


class FastLinear(nn.Linear):
    """A linear layer that multiplies in bfloat16 and keeps its weights in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, D] to float32 [N, out_features]."""
        return _Product.apply(x, self.weight).add_(self.bias)


class FastDropout(nn.Dropout):
    """Dropout with a sixteen-bit random number an element, in place."""

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share `p` of `x`, to a precision of 2^-16, and scale up the rest."""
        if not self.training or not self.p:
            return x
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None)
        drawn = words.view(torch.int16)[: x.numel()].view_as(x)
        kept = drawn >= round(2**16 * self.p) - 2**15
        return x.mul_(torch.where(kept, 1 / (1 - self.p), 0.0))
