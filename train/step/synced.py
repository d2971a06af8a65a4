"""Layers that compute over the global batch, so that the number of processes does not matter.

The gradients are those of the sum of all processes' losses, as in `model/barlow_twins.py`;
DistributedDataParallel's average makes them those of the one loss.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from audio_barlow_twins.model.barlow_twins import sum_over_processes

from .ranks import Ranks


def synchronise(network: nn.Module, ranks: Ranks, batch: int) -> nn.Module:
    """Replace batch norms and dropouts by ones over the global batch, with the same names.

    The network is changed in place; in a single process only dropouts are replaced.
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
    """Draw dropout for the rows of all processes and apply this one's.

    Four decisions come from one 64-bit number, as drawing one for each is slow on a CPU.

    Args:
        p: probability of dropping a unit; rounded to a multiple of 2^-16.
        rows: this process's rows.
        batch: rows of all processes.
    """

    def __init__(self, p: float, rows: range, batch: int) -> None:
        super().__init__()
        self.dropped, self.rows, self.batch = round(p * 2**16), rows, batch

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of [rows, ...]; all processes must have the same torch seed."""
        if not self.training or self.dropped == 0:
            return x
        per_row = x[0].numel()
        words = -(-self.batch * per_row // 4)
        draws = torch.randint(-(2**63), 2**63 - 1, (words,), device=x.device).view(torch.int16)
        mine = draws[self.rows.start * per_row : self.rows.stop * per_row].view(x.shape)
        kept = (mine >= self.dropped - 2**15).to(x.dtype)
        return x * kept.mul_(2**16 / (2**16 - self.dropped))


class SyncedBatchNorm(_BatchNorm):
    """Batch norm over all processes, on any device; torch's own needs a GPU."""

    @classmethod
    def like(cls, other: _BatchNorm) -> "SyncedBatchNorm":
        """Return one that shares parameters and statistics with `other`."""
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
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mine = wide.new_full((1,), x.numel() // x.shape[1])
        totals = sum_over_processes(torch.cat([wide.sum(axes), mine]))
        count = totals[-1]
        mean = totals[:-1] / count
        centred = wide - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(axes)) / count
        scale = torch.rsqrt(variance + self.eps) * self.weight
        y = centred * scale.view(shape) + self.bias.view(shape)
        share = self.momentum or 0.0
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            if self.running_mean is not None and self.running_var is not None:
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return y.to(x.dtype)
