"""Layers that compute over the batch of all processes what they would in one process.

The gradients are those of the sum of all processes' losses, as in `model.loss`; the average that
DistributedDataParallel takes makes them those of the one loss.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .ranks import Ranks


def synchronise(network: nn.Module, ranks: Ranks, batch: int) -> nn.Module:
    """Replace batch norms and dropouts by ones that see the global batch; names stay the same.

    Args:
        network: is changed.
        ranks: the processes; if it is one, only dropouts are replaced.
        batch: clips of a global batch.
    """
    if ranks.world > 1 and ranks.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, RowDropout(child.p, ranks.rows(batch), batch))
            elif isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and ranks.world > 1:
                setattr(module, name, SyncedBatchNorm.like(child))
    return network


class RowDropout(nn.Module):
    """Draw dropout for the rows of all processes and use this one's.

    Four decisions come from one 64-bit number; a CPU then drops three times as fast as with
    `nn.Dropout`, which draws a number for each.

    Args:
        p: probability of dropping a unit; rounded to a multiple of 2^-16.
        rows: this process's rows.
        batch: rows of all processes.
    """

    def __init__(self, p: float, rows: range, batch: int) -> None:
        super().__init__()
        self.dropped, self.rows, self.batch = round(p * 2**16), rows, batch

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of [rows, ...]; all processes must have seeded torch alike."""
        if not self.training or self.dropped == 0:
            return x
        per_row = x[0].numel()
        words = torch.empty(-(-self.batch * per_row // 4), dtype=torch.int64, device=x.device)
        draws = words.random_(-(2**63), None).view(torch.int16)  # type: ignore[arg-type]
        mine = draws[self.rows.start * per_row : self.rows.stop * per_row].view(x.shape)
        kept = (mine >= self.dropped - 2**15).to(x.dtype)
        return x * kept.mul_(2**16 / (2**16 - self.dropped))


class SyncedBatchNorm(_BatchNorm):
    """Batch norm over all processes, on any device; torch's own wants a GPU."""

    @classmethod
    def like(cls, other: _BatchNorm) -> "SyncedBatchNorm":
        """Make one that shares parameters and statistics with `other`."""
        made = cls(other.num_features, other.eps, other.momentum)
        for name, value in [*other.named_parameters(), *other.named_buffers()]:
            setattr(made, name, value)
        return made.train(other.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(
                f"batch norm got {list(input.shape)}; give it [N, {self.num_features}, ...]"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, ...] with mean and variance over the rows of all processes."""
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        y, mean, variance, count = _NormaliseOverAll.apply(x, self.weight, self.bias, self.eps)
        share = self.momentum or 0.0
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            if self.running_mean is not None and self.running_var is not None:
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return y


class _NormaliseOverAll(torch.autograd.Function):
    """Batch norm whose sums run over all processes, in float32 at least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Any:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, axes, correction=0)
        mean, variance, count = _merge(mean, variance, x.numel() // x.shape[1])
        scale = torch.rsqrt(variance + eps)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        y = (wide - mean.view(shape)) * (scale * weight).view(shape) + bias.view(shape)
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return y.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, mean, scale, count = ctx.saved_tensors
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        grad = grads[0].to(mean.dtype)
        standard = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        sums = torch.stack([grad.sum(axes), (grad * standard).sum(axes)])
        means = sums.clone()
        dist.all_reduce(means)
        means = (means / count).view(2, *shape)
        grad_x = (grad - means[0] - standard * means[1]) * (scale * weight).view(shape)
        return grad_x.to(x.dtype), sums[1].to(weight.dtype), sums[0].to(weight.dtype), None


def _merge(mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge mean and variance [C] of each process's rows into those of all, and count them."""
    mine = torch.cat([mean, variance, mean.new_full((1,), count)])
    all_ = mine.new_empty(dist.get_world_size(), len(mine))
    dist.all_gather(list(all_.unbind()), mine)
    means, variances = all_[:, :-1].view(len(all_), 2, -1).unbind(1)
    counts = all_[:, -1:]
    count_all = counts.sum()
    mean_all = (counts * means).sum(0) / count_all
    spread = variances + (means - mean_all).square()
    return mean_all, (counts * spread).sum(0) / count_all, count_all
