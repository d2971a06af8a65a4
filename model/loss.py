"""The Barlow Twins loss (Zbontar et al., 2021), over the whole batch of all processes.

Every process computes the same loss from the same correlation matrix. A gradient that comes back
through a sum over processes is itself summed over processes, so a local embedding receives
d(sum of all losses) / d(embedding), which is world size times the true gradient; the average that
DistributedDataParallel takes over processes removes that factor exactly.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class BarlowTerms(NamedTuple):
    """The loss and its two unweighted terms, each a scalar tensor."""

    loss: Tensor
    on_diagonal: Tensor
    off_diagonal: Tensor


def barlow_loss(
    z_a: Tensor, z_b: Tensor, lambda_: float = 0.005, alpha: float = 1.0
) -> BarlowTerms:
    """Pull the correlation matrix of two views' embeddings towards the identity.

    Args:
        z_a: this process's embeddings of view A, float [N, D].
        z_b: this process's embeddings of view B, float [N, D].
        lambda_: weight of the off-diagonal term.
        alpha: weight of the diagonal term.

    Returns:
        alpha * sum_i (1 - C_ii)^2 + lambda_ * sum_{i != j} C_ij^2 and the two sums, in float32
        (float64 for float64 embeddings); the same on every process.
    """
    return loss_of(cross_correlation(z_a, z_b), lambda_, alpha)


def loss_of(correlation: Tensor, lambda_: float = 0.005, alpha: float = 1.0) -> BarlowTerms:
    """Compute the loss from a cross-correlation, float [D, D]; see `barlow_loss`."""
    on_diagonal = (1 - correlation.diagonal()).square().sum()
    off_diagonal = _off_diagonal(correlation).square().sum()
    return BarlowTerms(alpha * on_diagonal + lambda_ * off_diagonal, on_diagonal, off_diagonal)


def cross_correlation(a: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """Correlate every feature of `a` with every feature of `b` over the batch of all processes.

    Args:
        a: this process's embeddings of view A, float [N, D].
        b: this process's embeddings of view B, float [N, D].
        eps: variance floor that keeps constant features finite.

    Returns:
        Pearson correlations in [-1, 1], [D, D]; float32, or float64 for float64 embeddings,
        computed in that precision under autocast too.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(
            f"embeddings have shapes {list(a.shape)} and {list(b.shape)}; give two equal [N, D]"
        )
    with torch.autocast(device_type=a.device.type, enabled=False):
        both = torch.stack([a, b]).to(torch.promote_types(a.dtype, torch.float32))
        count = both.new_full((2, 1), a.shape[0])
        totals = _sum_over_processes(torch.cat([both.sum(dim=1), count], dim=1))
        count = totals[:, None, -1:]
        centred = both - totals[:, None, :-1] / count
        variance = _sum_over_processes(centred.square().sum(dim=1, keepdim=True)) / count
        standard_a, standard_b = (centred * torch.rsqrt(variance + eps)).unbind()
        return _sum_over_processes(standard_a.T @ standard_b) / count[0]


def _off_diagonal(square: Tensor) -> Tensor:
    """View every element of a contiguous square matrix but the diagonal: [D, D] to [D - 1, D]."""
    size = len(square)
    return square.flatten()[:-1].view(size - 1, size + 1)[:, 1:]


def _sum_over_processes(x: Tensor) -> Tensor:
    """Add up `x` over all processes, differentiably; the identity in a single process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    return _AllReduceSum.apply(x)


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes whose gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total
